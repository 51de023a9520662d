//! Sealing keys in a PKCS#11 token (SoftHSM2): sealing, its outages, and how a start without it is refused.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use sealwarden_tests::load::{Load, Outcome, must_be_valid};
use sealwarden_tests::{Installation, Process, eventually, people};

pub(super) const TOKEN: &str = "sealing";
const PIN: &str = "730-551-9284";
/// Where distributions put the module.
pub(super) const MODULES: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
];

/// A token in the installation's home, where SoftHSM2 looks for its settings.
pub(super) struct Token {
    pub(super) folder: PathBuf,
    pub(super) pin_file: PathBuf,
}

impl Token {
    pub(super) fn new(here: &Installation) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = here.home().join("tokens");
        let settings = here.home().join(".config/softhsm2");
        for dir in [&folder, &settings] {
            std::fs::create_dir_all(dir).expect("a folder");
        }
        let text = format!("directories.tokendir = {}\n", folder.display());
        std::fs::write(settings.join("softhsm2.conf"), text).expect("SoftHSM2's settings");
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", TOKEN])
            .args(["--pin", PIN, "--so-pin", "12345678"])
            .env_clear()
            .env("HOME", here.home())
            .output()
            .expect("softhsm2-util runs: install the package softhsm2");
        assert!(made.status.success(), "{made:?}");
        let pin_file = here.file("pin", PIN.as_bytes());
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&pin_file, mode).expect("a mode");
        Self { folder, pin_file }
    }

    pub(super) fn up(&self, here: &Installation) -> Result<Process, String> {
        let module = MODULES.iter().find(|path| Path::new(path).exists());
        let module = module.expect("the SoftHSM2 module: install the package softhsm2");
        let pin_file = self.pin_file.to_str().expect("a path");
        let command = ["up", "--base", "seal.example.com"];
        let flags = ["--pkcs11-token", TOKEN, "--pkcs11-pin-file", pin_file];
        let command = [&command[..], &flags, &["--pkcs11-module", module]].concat();
        Process::try_start(here.home(), "up", &here.arguments(&command))
    }
}

/// The worker of the sealing service: the child of its process that was started as one.
pub(super) fn worker(here: &Installation) -> i32 {
    let endpoints = std::fs::read(here.data().join("endpoints.json")).expect("endpoints.json");
    let endpoints: serde_json::Value = serde_json::from_slice(&endpoints).expect("JSON");
    let service = endpoints["sealing"]["pid"].to_string();
    eventually("a worker runs", || {
        std::fs::read_dir("/proc")
            .expect("/proc")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .find(|pid: &i32| {
                let read = |name| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
                let parent = format!("PPid:\t{service}\n");
                String::from_utf8_lossy(&read("status")).contains(&parent)
                    && read("cmdline").ends_with(b"\0pkcs11-worker\0")
            })
    })
}

fn key(here: &Installation, id: &str) -> serde_json::Value {
    let answer = here.call(&["keys", "list"]).good();
    let keys = answer["keys"].as_array().cloned().unwrap_or_default();
    let found = keys.into_iter().find(|key| key["key_id"] == id);
    found.unwrap_or_else(|| panic!("no key {id}: {answer}"))
}

#[test]
fn seals_are_made_with_a_key_in_the_token_through_hangs_removal_and_restarts() {
    let here = Installation::new();
    let token = Token::new(&here);
    let up = token.up(&here).unwrap_or_else(|log| panic!("{log}"));
    let mut files = vec![here.file("first", b"first")];
    here.seal(&files[0]);
    let made = key(&here, "main-1");
    assert_eq!(made["provider"], "pkcs11", "{made}");
    let keys = here.data().join("nodes/sealing-1");
    assert!(keys.join("keys-pkcs11/main-1.key.json").exists());
    assert!(!keys.join("keys/main-1.key.json").exists());
    assert!(
        keys.join("keys/node.key.json").exists(),
        "the node's own key stays a software key"
    );

    // The PIN is in no argument and in no environment.
    let pid = worker(&here);
    for name in ["cmdline", "environ"] {
        // Only root may look into a worker's environment.
        let text = std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let has_pin = text.windows(PIN.len()).any(|part| part == PIN.as_bytes());
        assert!(!has_pin, "the PIN is in its {name}");
    }

    // A module that hangs is a slow call.
    kill_process(Pid::from_raw(pid).expect("a process id"), Signal::STOP).expect("a signal");
    files.push(here.file("second", b"second"));
    here.seal_eventually(&files[1]);
    assert_ne!(worker(&here), pid);

    // A token that is away stops sealing until it is back, and verifying goes on.
    let away = here.home().join("away");
    std::fs::rename(&token.folder, &away).expect("the token is removed");
    std::fs::create_dir(&token.folder).expect("an empty reader");
    files.push(here.file("third", b"third"));
    let name = files[2].to_string_lossy().into_owned();
    let refused = here.call(&["seal", &name, "--wait", "sealed"]);
    assert_ne!(refused.code, 0, "{refused}");
    assert_eq!(here.verify(&files[0]).good()["verdict"], "valid");
    std::fs::remove_dir(&token.folder).expect("the empty reader");
    std::fs::rename(&away, &token.folder).expect("the token is back");
    here.seal_eventually(&files[2]);
    let pid = worker(&here);
    assert!(up.terminate().success());
    eventually("no worker is left", || {
        (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    });

    let _up = token.up(&here).unwrap_or_else(|log| panic!("{log}"));
    files.push(here.file("fourth", b"fourth"));
    here.seal_eventually(&files[3]);
    for file in &files {
        let answer = here.verify(file).good();
        assert_eq!(answer["verdict"], "valid", "{answer}");
        assert_eq!(answer["origin"], "seal.example.com/main/1");
    }
    assert_eq!(
        here.suspicions(),
        [""; 0],
        "every use of the key has its intent"
    );
}

#[test]
fn a_software_key_goes_on_after_a_token_is_chosen_and_a_wrong_pin_stops_the_start() {
    let here = Installation::new();
    let up = here.up();
    let first = here.file("first", b"first");
    here.seal(&first);
    assert!(up.terminate().success());

    let token = Token::new(&here);
    let up = token.up(&here).unwrap_or_else(|log| panic!("{log}"));
    let second = here.file("second", b"second");
    here.seal_eventually(&second);
    assert_eq!(key(&here, "main-1")["provider"], "software");
    for file in [&first, &second] {
        assert_eq!(here.verify(file).good()["verdict"], "valid");
    }
    assert_eq!(here.suspicions(), [""; 0]);
    assert!(up.terminate().success());

    std::fs::write(&token.pin_file, "wrong\n").expect("a PIN file");
    let Err(log) = token.up(&here) else {
        panic!("it started with a wrong PIN");
    };
    assert!(log.contains("the PIN is wrong for the token"), "{log}");
    assert!(log.contains("put the right one into the PIN file"), "{log}");
    assert!(!log.contains(PIN), "{log}");
    let module = MODULES.iter().find(|path| Path::new(path).exists());
    let module = module.expect("the SoftHSM2 module: install the package softhsm2");
    let pin_file = token.pin_file.to_str().expect("a path");
    let up = ["up", "--base", "seal.example.com"];
    let flags = ["--pkcs11-token", TOKEN, "--pkcs11-pin-file", pin_file];
    let again = [&up[..], &flags, &["--pkcs11-module", module]].concat();
    here.call(&again).must_end_with(2);
}

#[test]
fn a_token_with_one_key_under_two_names_keeps_sealing_from_starting() {
    let here = Installation::new();
    let token = Token::new(&here);
    let up = up_with_set(&token, &here);
    here.key_on_duty("active", "hsm");
    here.seal_eventually(&here.file("first", b"first"));
    assert!(up.terminate().success());

    // The token's own files: a public key's description is not encrypted there.
    let (name, other) = ("sealwarden sealing main-1", "sealwarden signing main-1");
    let tokens = std::fs::read_dir(&token.folder).expect("tokens");
    let files = tokens.flat_map(|dir| std::fs::read_dir(dir.expect("a token").path()));
    let objects = files.flatten().map(|file| file.expect("a file").path());
    let mut copies = Vec::new();
    for path in objects.filter(|it| it.extension().is_some_and(|it| it == "object")) {
        let mut bytes = std::fs::read(&path).expect("an object");
        let place = bytes
            .windows(name.len())
            .position(|it| it == name.as_bytes());
        if let Some(place) = place {
            bytes[place..place + name.len()].copy_from_slice(other.as_bytes());
            let copy = path.with_file_name("11111111-2222-3333-4444-555555555555.object");
            std::fs::write(&copy, bytes).expect("a copy");
            copies.push(copy);
        }
    }
    assert_eq!(copies.len(), 1, "the public half: {copies:?}");
    let arguments = here.arguments(&["up", "--base", "seal.example.com"]);
    let refused = Process::try_start(here.home(), "up", &arguments);
    let log = refused.expect_err("the other provider does not make it good");
    assert!(
        log.contains(&format!(
            "holds the key {name:?} a second time, as {other:?}"
        )),
        "{log}"
    );
    std::fs::remove_file(&copies[0]).expect("the copy is removed");
    let _up = up_with_set(&token, &here);
    here.seal_eventually(&here.file("second", b"second"));
}

#[test]
fn a_suspected_token_is_isolated_by_its_own_refusal_and_replaced_by_a_new_key_in_it() {
    let here = Installation::new();
    let token = Token::new(&here);
    let _up = token.up(&here).unwrap_or_else(|log| panic!("{log}"));
    let file = here.file("before", b"before");
    here.seal(&file);

    let seen = "the HSM's log shows a login that nobody made";
    here.call(&["signal", "--seen", seen]).must_end_with(0);
    let incident = eventually("an incident is open", || {
        here.suspicions().into_iter().next()
    });
    let class = [
        "--class",
        "key-compromise",
        "--reason",
        "PIN in other hands",
    ];
    let classify = [&["incident", "classify", &incident][..], &class].concat();
    here.call(&classify).must_end_with(0);
    let run = people::run_of_the_incident(&here);
    let run = people::approve_until_the_end(&here, &run);
    for step in run["steps"].as_array().expect("steps") {
        assert_eq!(step["state"], "done", "{step:#}");
    }

    assert_eq!(key(&here, "main-1")["state"], "disabled");
    let new = key(&here, "main-2");
    assert_eq!(
        (&new["state"], &new["provider"]),
        (&"active".into(), &"pkcs11".into())
    );
    let after = here.file("after", b"after");
    here.seal_eventually(&after);
    let answer = here.verify(&after).good();
    assert_eq!(answer["origin"], "seal.example.com/main/2", "{answer}");
}

#[test]
fn the_flags_of_a_token_belong_together_and_to_sealing() {
    let here = Installation::new();
    here.call(&["up", "--pkcs11-token", TOKEN]).must_end_with(2);
    let token = [
        "--pkcs11-module",
        "/m",
        "--pkcs11-token",
        "t",
        "--pkcs11-pin-file",
        "/p",
    ];
    let serve = [
        &["serve", "detection", "--nats", "nats://127.0.0.1:1"][..],
        &token,
    ]
    .concat();
    here.call(&serve).must_end_with(2);
}

/// A start with a failover set: the token first, software keys second.
fn up_with_set(token: &Token, here: &Installation) -> Process {
    let module = MODULES.iter().find(|path| Path::new(path).exists());
    let module = module.expect("the SoftHSM2 module: install the package softhsm2");
    let settings = format!(
        "keys:\n  providers:\n    - {{name: hsm, kind: pkcs11, module: {module}, token: {TOKEN}, pin_file: {}, deadline_ms: 1500}}\n    - {{name: software, kind: software}}\n",
        token.pin_file.display()
    );
    std::fs::create_dir_all(here.data()).expect("the data folder");
    std::fs::write(here.data().join("settings.yaml"), settings).expect("settings");
    let command = ["up", "--base", "seal.example.com"];
    Process::start(here.home(), "up", &here.arguments(&command))
}

#[test]
fn a_token_that_hangs_and_is_gone_is_stood_in_for_and_failed_back_to_by_command() {
    let here = Installation::new();
    let token = Token::new(&here);
    let _up = up_with_set(&token, &here);
    here.key_on_duty("active", "hsm");
    here.key_on_duty("standby", "software");
    let first = here.file("first", b"first");
    here.seal_eventually(&first);
    // What a verifier has from before the outage is enough after it.
    let trust = here.trust("trust-before.json");

    // The worker hangs, and the one that would replace it finds no token.
    let away = here.home().join("away");
    std::fs::rename(&token.folder, &away).expect("the token is removed");
    std::fs::create_dir(&token.folder).expect("an empty reader");
    let stopped = Pid::from_raw(worker(&here)).expect("a process id");
    kill_process(stopped, Signal::STOP).expect("a signal");
    let mut files = vec![first];
    for number in 0..8 {
        let name = format!("document-{number}");
        files.push(here.file(&name, name.as_bytes()));
        here.seal(files.last().expect("a file"));
    }
    here.key_on_duty("active", "software");
    here.key_on_duty("standby", "hsm");
    for file in &files {
        let (file, trust) = (file.to_string_lossy(), trust.to_string_lossy());
        let answer = here.call(&["verify", &file, "--trust", &trust]).good();
        assert_eq!(answer["verdict"], "valid", "{answer}");
        assert_eq!(answer["origin"], "seal.example.com/main/1");
    }

    let refused = here.call(&["keys", "failback"]);
    assert_eq!(refused.code, 4, "the token is away: {refused}");
    std::fs::remove_dir(&token.folder).expect("the empty reader");
    std::fs::rename(&away, &token.folder).expect("the token is back");
    here.key_on_duty("active", "software");
    let back = eventually("the token answers a probe", || {
        let answer = here.call(&["keys", "failback", "--why", "the token answers again"]);
        (answer.code == 0).then(|| answer.good())
    });
    let key = here.key_on_duty("active", "hsm");
    assert_eq!(back["active"][0], key["key_id"], "{back}");
    let last = here.file("last", b"last");
    here.seal(&last);
    let file = last.to_string_lossy();
    let answer = here.call(&["verify", &file, "--trust", &trust.to_string_lossy()]);
    assert_eq!(answer.good()["verdict"], "valid");
    assert_eq!(here.suspicions(), [""; 0], "every use has its intent");
}

#[test]
fn a_list_of_providers_starts_without_its_token_and_takes_it_in_when_it_is_back() {
    let here = Installation::new();
    let token = Token::new(&here);
    let module = MODULES.iter().find(|path| Path::new(path).exists());
    let module = module.expect("the SoftHSM2 module: install the package softhsm2");
    let spare = here.home().join("spare");
    let settings = format!(
        "keys:\n  providers:\n    - {{name: hsm, kind: pkcs11, module: {module}, token: {TOKEN}, pin_file: {}, breaker: {{pause_ms: 100, longest_pause_ms: 200}}}}\n    - {{name: spare, kind: software, dir: {}}}\n",
        token.pin_file.display(),
        spare.display(),
    );
    let settings = here.file("settings.yaml", settings.as_bytes());
    let away = here.home().join("tokens.away");
    std::fs::rename(&token.folder, &away).expect("the token is taken away");
    std::fs::create_dir(&token.folder).expect("an empty slot");

    let settings = settings.to_str().expect("a path");
    let command = ["up", "--base", "seal.example.com", "--settings", settings];
    let flags = ["--pkcs11-module", module, "--pkcs11-token", TOKEN];
    let pin_file = token.pin_file.to_str().expect("a path");
    let both = [&command[..], &flags, &["--pkcs11-pin-file", pin_file]].concat();
    let refused = Process::try_start(here.home(), "both", &here.arguments(&both));
    let log = refused.expect_err("flags beside a list are refused");
    assert!(log.contains("leave the flags out"), "{log}");

    let up = Process::start(here.home(), "up", &here.arguments(&command));
    let answer = here.call(&["keys", "list"]).good();
    let keys = answer["keys"].as_array().cloned().unwrap_or_default();
    let begun = keys.iter().find(|key| key["purpose"] == "sealing");
    let begun = begun.unwrap_or_else(|| panic!("no sealing key: {answer}"));
    assert_eq!(
        begun["provider"], "spare",
        "sealing begins with what is there: {answer}"
    );
    let file = here.file("document", b"document");
    here.seal(&file);
    std::fs::remove_dir(&token.folder).expect("the empty slot");
    std::fs::rename(&away, &token.folder).expect("the token is back");
    eventually("the token is taken in", || {
        up.log().contains("usable=true").then_some(())
    });
    assert!(up.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_killed_under_load_cost_no_seal() {
    let here = Installation::new();
    let token = Token::new(&here);
    let _up = token.up(&here).unwrap_or_else(|log| panic!("{log}"));
    let first = here.file("first", b"first");
    here.seal_eventually(&first);
    let trust = here.trust("trust.json");
    let load = Load::start(&here, 8).await;
    for round in 1..=3 {
        load.acknowledged(round * 20).await;
        let pid = Pid::from_raw(worker(&here)).expect("a process id");
        kill_process(pid, Signal::KILL).expect("a signal");
    }
    load.acknowledged(100).await;
    let seals = load.end().await;
    assert!(
        seals.iter().all(Outcome::is_sealed),
        "each call was only slow"
    );
    must_be_valid(&seals, &trust);
    assert_eq!(here.suspicions(), [""; 0], "every use has its intent");
}
