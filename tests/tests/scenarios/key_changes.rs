//! What changes with a log's keys while nothing is wrong: planned rotation by age and by count, and what the seal certificate and the witness policy say afterwards.

use std::path::Path;

use sealwarden_tests::{Installation, Process, binary, eventually, people};
use serde_json::Value;

const ORIGIN: &str = "seal.example.com/main/1";

fn up(here: &Installation, settings: &str) -> Process {
    std::fs::create_dir_all(here.data()).expect("the data folder");
    std::fs::write(here.data().join("settings.yaml"), settings).expect("settings");
    here.up()
}

/// The keys of the log by their duty.
fn on_duty(here: &Installation, duty: &str) -> Vec<Value> {
    let answer = here.call(&["keys", "list"]).good();
    let keys = answer["keys"].as_array().cloned().unwrap_or_default();
    keys.into_iter().filter(|key| key["duty"] == duty).collect()
}

/// Offline, by one bundle, on a machine that has seen no other one.
fn verdict(file: &Path, trust: &Path) -> Value {
    let machine = tempfile::tempdir().expect("a temporary folder");
    let words = [
        "verify",
        file.to_str().expect("a path"),
        "--trust",
        trust.to_str().expect("a path"),
        "--json",
    ];
    let answer = binary::sealwarden(machine.path(), &words);
    answer.json()["verdict"].clone()
}

fn sealed(here: &Installation, name: &str) -> std::path::PathBuf {
    let file = here.file(name, name.as_bytes());
    here.seal_eventually(&file);
    file
}

#[test]
fn a_key_that_is_old_enough_is_replaced_by_itself_and_both_sign_until_it_is_retired() {
    let here = Installation::new();
    let process = up(&here, "sealing:\n  rotate_after_s: 0\n");
    let before = sealed(&here, "before");
    let old_bundle = here.trust("trust-before.json");
    assert!(process.terminate().success());

    let process = up(
        &here,
        "sealing:\n  rotate_after_s: 2\n  rotation_overlap_hours: 1\n",
    );
    let old = eventually("the old key signs beside its successor", || {
        on_duty(&here, "overlapping").pop()
    });
    assert_eq!(old["key_id"], "main-1");
    let new = on_duty(&here, "active").pop().expect("a new key signs");
    assert_ne!(new["key_id"], "main-1");
    assert_eq!(new["listed"], true, "no bundle is missing it: {new}");
    let between = sealed(&here, "between");
    let new_bundle = here.trust("trust-after.json");
    // Whoever has only the old bundle verifies what both signed.
    for (file, trust) in [
        (&before, &old_bundle),
        (&before, &new_bundle),
        (&between, &old_bundle),
        (&between, &new_bundle),
    ] {
        let given = verdict(file, trust);
        assert_eq!(given, "valid", "{} {}", file.display(), trust.display());
    }
    assert!(process.terminate().success());

    let _process = up(&here, "sealing:\n  rotation_overlap_hours: 0\n");
    eventually("the old key is retired", || {
        let keys = on_duty(&here, "retired");
        keys.iter()
            .any(|key| key["key_id"] == "main-1")
            .then_some(())
    });
    let after = sealed(&here, "after");
    for file in [&before, &between, &after] {
        assert_eq!(verdict(file, &new_bundle), "valid");
    }
    assert_ne!(
        verdict(&after, &old_bundle),
        "valid",
        "the old bundle does not know who signs alone now"
    );
    assert_eq!(here.suspicions(), [""; 0], "every use has its intent");
}

#[test]
fn a_key_that_signed_often_enough_is_replaced_by_itself() {
    let here = Installation::new();
    let _up = up(
        &here,
        "sealing:\n  rotate_after_uses: 3\n  rotation_overlap_hours: 1\n",
    );
    let files: Vec<_> = ["1", "2", "3"].map(|name| sealed(&here, name)).into();
    let old_bundle = here.trust("trust-before.json");
    eventually("the old key signs beside its successor", || {
        on_duty(&here, "overlapping").pop()
    });
    let later = sealed(&here, "later");
    for file in files.iter().chain([&later]) {
        assert_eq!(verdict(file, &old_bundle), "valid");
    }
    assert_eq!(here.suspicions(), [""; 0], "every use has its intent");
}

#[test]
fn settings_that_rotate_by_two_ages_are_refused() {
    let here = Installation::new();
    let settings = "sealing:\n  rotate_after_s: 5\n  rotate_after_days: 1\n";
    std::fs::create_dir_all(here.data()).expect("the data folder");
    std::fs::write(here.data().join("settings.yaml"), settings).expect("settings");
    let arguments = here.arguments(&["up", "--base", "seal.example.com"]);
    let log = Process::try_start(here.home(), "up", &arguments).expect_err("refused");
    assert!(
        log.contains("rotate_after_days 1 and rotate_after_s 5 are both set: keep one"),
        "{log}"
    );
}

#[test]
fn a_key_of_another_role_among_the_sealing_keys_keeps_the_services_from_starting() {
    let here = Installation::new();
    let passphrase = here.file("passphrase", b"correct horse battery staple");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&passphrase, private).expect("a mode");
    let passphrase = passphrase.to_string_lossy().into_owned();
    let command = ["up", "--base", "seal.example.com"];
    let command = [&command[..], &["--passphrase-file", &passphrase]].concat();
    let arguments = here.arguments(&command);
    let process = Process::start(here.home(), "up", &arguments);
    here.seal_eventually(&here.file("first", b"first"));
    assert!(process.terminate().success());

    // A provider of sealing keys that is the folder of the installation's signing key.
    let executor = here.data().join("nodes/runbook-executor-1/keys");
    let settings = |dir: &Path| {
        let text = format!(
            "keys:\n  providers:\n    - {{name: software, kind: software}}\n    - {{name: spare, kind: software, dir: {}}}\n",
            dir.display()
        );
        std::fs::write(here.data().join("settings.yaml"), text).expect("settings");
    };
    let refused = |words: &str| {
        let refused = Process::try_start(here.home(), "up", &arguments);
        let log = refused.expect_err("one key in two places");
        assert!(log.contains(words), "{words}: {log}");
    };
    settings(&executor);
    refused("a node key of this name is in the software provider already");

    // The signing key alone, copied.
    let copied = here.home().join("copied");
    std::fs::create_dir(&copied).expect("a folder");
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&copied, closed).expect("a mode");
    for file in std::fs::read_dir(&executor).expect("the folder") {
        let file = file.expect("a file").file_name();
        if file != "node.key.json" {
            std::fs::copy(executor.join(&file), copied.join(&file)).expect("a copy");
        }
    }
    settings(&copied);
    refused(
        "the signing key signing of node sealing-1 (provider spare) is the same key as the signing key signing of node runbook-executor-1 (provider software)",
    );
    settings(&here.home().join("empty"));
    let _process = Process::start(here.home(), "up", &arguments);
    here.seal_eventually(&here.file("second", b"second"));
}

fn certificate(here: &Installation, words: &[&str]) -> Value {
    here.call(&[&["keys", "certificate"][..], words].concat())
        .good()
}

#[test]
fn a_certificate_that_ends_soon_is_told_of_and_follows_the_keys_of_its_log() {
    let here = Installation::new();
    let _up = here.up();
    let file = sealed(&here, "contract");
    let person = ["self-signed", "--organization", "Example", "--days"];
    certificate(&here, &[&person[..], &["1"]].concat());
    certificate(&here, &["bind"]);

    // A day is less than the thirty that the detector warns before.
    let id = eventually("an incident is open", || {
        here.suspicions().into_iter().next()
    });
    let incident = here.call(&["incident", "show", &id]).good();
    let signal = &incident["signals"][0];
    assert_eq!(signal["detector"], "certificate-expiring", "{incident:#}");
    assert_eq!(incident["subject"], "seal certificate of log main");
    assert_eq!(incident["class"], "certificate-expiring", "{incident:#}");
    sealed(&here, "another");

    // The log gets another key; the certificate's key lies here, so the binding names it before long.
    let end = |shown: &Value| shown["certificates"][0]["bindings"][0]["until_ms"].clone();
    let before = certificate(&here, &["show"]);
    here.call(&["keys", "rotate", "--why", "yearly"]).good();
    let shown = eventually("the binding names both keys", || {
        let shown = certificate(&here, &["show"]);
        let bound = &shown["certificates"][0]["bindings"][0];
        (bound["vkeys"].as_array()?.len() == 2 && bound["stale"] == Value::Null).then_some(shown)
    });
    assert_eq!(end(&shown), end(&before), "until when is a person's word");
    assert_eq!(
        here.status()["seal_certificates"][0]["problem"],
        Value::Null
    );
    eventually("exports know it, too", || {
        let out = here.home().join("contract.p7s");
        let (file, out) = (file.to_string_lossy(), out.to_string_lossy());
        let export = here.call(&["export", &file, "--cades", "--out", &out]);
        (export.code == 0).then_some(())
    });

    // People bind a certificate that lasts, and say so.
    certificate(&here, &[&person[..], &["365"]].concat());
    certificate(&here, &["bind"]);
    let run = people::run_of_the_incident(&here);
    people::approve_until_the_end(&here, &run);
    eventually("the incident is closed", || {
        let incident = here.call(&["incident", "show", &id]).good();
        (incident["stage"] == "closed").then_some(())
    });
    let list = here.call(&["incident", "list", "--open"]).good();
    assert_eq!(list["incidents"], serde_json::json!([]), "told once");
}

#[test]
fn a_certificate_whose_key_is_elsewhere_goes_stale_when_the_keys_change_and_status_says_so() {
    let here = Installation::new();
    let _up = here.up();
    sealed(&here, "contract");
    certificate(&here, &["self-signed", "--organization", "Example"]);
    certificate(&here, &["bind"]);
    std::fs::rename(
        here.data().join("seal-certificate"),
        here.home().join("taken-away"),
    )
    .expect("the key is taken away");
    here.call(&["keys", "rotate", "--why", "yearly"]).good();
    eventually("status warns", || {
        let problem = here.status()["seal_certificates"][0]["problem"].clone();
        problem
            .as_str()?
            .contains("keys certificate bind")
            .then_some(())
    });
    let new = here.key_on_duty("active", "software");
    assert_eq!(new["certificate"]["names_this_key"], false, "{new}");
    assert_eq!(here.suspicions(), [""; 0], "a year is not soon");
}

/// What a witness says its keys are.
async fn witness_keys(here: &Installation) -> Vec<String> {
    sealwarden_pki::install_ring();
    let url = format!("{}/witness/key", here.address("verification", "http"));
    let answer = reqwest::get(url).await.expect("an answer");
    let text = answer.text().await.expect("a text");
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_own_witness_with_two_keys_counts_once_in_a_policy() {
    let here = Installation::new();
    let process = up(&here, "verification:\n  post_quantum: true\n");
    let keys = witness_keys(&here).await;
    let [classic, quantum] = keys.as_slice() else {
        panic!("two keys: {keys:?}");
    };
    let before = sealed(&here, "before");
    assert!(process.terminate().success());

    let lines = format!("witness here {classic}\nwitness here-pq {quantum}\n");
    let policy = here.file("witnesses.policy", b"");
    let settings = format!(
        "verification:\n  post_quantum: true\nrunbook-executor:\n  witness_policy: {}\n",
        policy.display()
    );
    let write = |groups: &str| std::fs::write(&policy, format!("{lines}{groups}"));
    write("group own all here here-pq\nquorum own\n").expect("a policy");
    let process = up(&here, &settings);
    let trust = eventually("the bundle's quorum is the policy's", || {
        let trust = here.trust("trust.json");
        let said = std::fs::read_to_string(&trust).expect("the bundle");
        said.contains("here").then_some(trust)
    });
    let after = sealed(&here, "after");
    for file in [&before, &after] {
        assert_eq!(verdict(file, &trust), "valid");
    }
    assert!(process.terminate().success());

    // One that counts it twice is refused where it is read next, and says what to write.
    write("group own 2 here here-pq\nquorum own\n").expect("a policy");
    let process = up(&here, &settings);
    eventually("the log says what to write", || {
        let log = process.log();
        let refused = "a witness counts once however many keys it has";
        (log.contains(refused) && log.contains("any here here-pq")).then_some(())
    });
    let still = sealed(&here, "still");
    assert_eq!(verdict(&still, &trust), "valid");
    assert_eq!(here.verify(&still).good()["origin"], ORIGIN);
}
