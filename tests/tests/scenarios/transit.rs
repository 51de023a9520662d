//! Sealing keys with an OpenBao server: sealing, an outage, and a use of the key that nobody intended.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use sealwarden_tests::binary::repository;
use sealwarden_tests::{Installation, Process, eventually};

const ROOT: &str = "root-token-of-the-test";
const KEY: &str = "sealing-main-1";

/// A server in memory with a transit mount and a file audit device, ended when dropped.
struct Bao {
    child: Child,
    program: PathBuf,
    dir: PathBuf,
    port: u16,
    unseal_key: String,
}

impl Bao {
    fn start(here: &Installation) -> Self {
        let dir = here.home().join("openbao");
        std::fs::create_dir(&dir).expect("a folder");
        let audit = dir.join("audit.log");
        let settings = dir.join("audit.hcl");
        let text = format!(
            "audit \"file\" \"file\" {{ options {{ file_path = \"{}\" }} }}\n",
            audit.display()
        );
        std::fs::write(&settings, text).expect("settings");
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let log = std::fs::File::create(dir.join("bao.log")).expect("a log");
        let program = program();
        let child = Command::new(&program)
            .args(["server", "-dev", "-dev-tls", "-dev-no-store-token"])
            .arg(format!("-dev-tls-cert-dir={}", dir.display()))
            .arg(format!("-dev-listen-address=127.0.0.1:{port}"))
            .arg(format!("-dev-root-token-id={ROOT}"))
            .arg(format!("-config={}", settings.display()))
            .env("HOME", &dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log again"))
            .stderr(log)
            .spawn()
            .expect("bao starts");
        let mut bao = Self {
            child,
            program,
            dir,
            port,
            unseal_key: String::new(),
        };
        eventually("bao is unsealed", || bao.try_run(&["status"]).then_some(()));
        bao.unseal_key = eventually("bao tells its unseal key", || {
            let log = std::fs::read_to_string(bao.dir.join("bao.log")).ok()?;
            let line = log.lines().find(|line| line.starts_with("Unseal Key: "))?;
            Some(line.trim_start_matches("Unseal Key: ").trim().to_owned())
        });
        bao.run(&["secrets", "enable", "transit"]);
        bao
    }

    /// Runs `bao` with root's token.
    fn try_run(&self, arguments: &[&str]) -> bool {
        Command::new(&self.program)
            .args(arguments)
            .env_clear()
            .env("HOME", &self.dir)
            .env("BAO_ADDR", format!("https://127.0.0.1:{}", self.port))
            .env("BAO_CACERT", self.dir.join("vault-ca.pem"))
            .env("BAO_TOKEN", ROOT)
            .output()
            .expect("bao runs")
            .status
            .success()
    }

    fn run(&self, arguments: &[&str]) {
        assert!(self.try_run(arguments), "bao {arguments:?} failed");
    }

    fn up(&self, here: &Installation) -> Result<Process, String> {
        let token = here.file("transit-token", ROOT.as_bytes());
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&token, mode).expect("a mode");
        let url = format!("https://127.0.0.1:{}", self.port);
        let [ca, audit] = ["vault-ca.pem", "audit.log"].map(|name| self.dir.join(name));
        let paths = [&ca, &token, &audit].map(|path| path.to_str().expect("a path"));
        let command = ["up", "--base", "seal.example.com", "--transit-url", &url];
        let flags = ["--transit-ca", paths[0], "--transit-token-file", paths[1]];
        let command = [&command[..], &flags, &["--transit-audit", paths[2]]].concat();
        Process::try_start(here.home(), "up", &here.arguments(&command))
    }
}

impl Drop for Bao {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// `$SEALWARDEN_BAO`, else what the script installs.
fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("SEALWARDEN_BAO") {
        return path.into();
    }
    let script = repository().join("tests/tools/openbao.sh");
    let output = Command::new(script).output().expect("the script runs");
    assert!(
        output.status.success(),
        "tests/tools/openbao.sh: {output:?}"
    );
    String::from_utf8_lossy(&output.stdout).trim().into()
}

#[test]
fn a_rogue_use_of_a_servers_key_opens_a_proven_incident_and_our_own_uses_open_none() {
    let here = Installation::new();
    let bao = Bao::start(&here);
    let up = bao.up(&here).unwrap_or_else(|log| panic!("{log}"));
    let mut files = vec![here.file("first", b"first")];
    here.seal(&files[0]);
    let keys = here.call(&["keys", "list"]).good();
    let made = keys["keys"].as_array().into_iter().flatten();
    let made: Vec<_> = made.filter(|key| key["key_id"] == "main-1").collect();
    assert_eq!(made[0]["provider"], "transit", "{keys}");

    // A sealed server stops sealing until it is unsealed; verifying goes on.
    bao.run(&["operator", "seal"]);
    assert_eq!(here.verify(&files[0]).good()["verdict"], "valid");
    bao.run(&["operator", "unseal", &bao.unseal_key]);
    files.push(here.file("second", b"second"));
    here.seal_eventually(&files[1]);
    assert!(up.terminate().success());
    let _up = bao.up(&here).unwrap_or_else(|log| panic!("{log}"));
    files.push(here.file("third", b"third"));
    here.seal_eventually(&files[2]);
    let none = here.call(&["incident", "list"]).good();
    assert_eq!(
        none["incidents"],
        serde_json::json!([]),
        "every use had its intent"
    );

    // Somebody else's token signs something with the sealing key.
    bao.run(&["write", &format!("transit/sign/{KEY}"), "input=Zm9yZ2Vk"]);
    let id = eventually("an incident is open", || {
        let list = here.call(&["incident", "list", "--open"]).good();
        list["incidents"][0]["incident"].as_str().map(str::to_owned)
    });
    let incident = here.call(&["incident", "show", &id]).good();
    let signal = &incident["signals"][0];
    assert_eq!(signal["detector"], "unexplained-key-use", "{incident:#}");
    assert_eq!(signal["proven"], true, "{incident:#}");
    assert_eq!(
        incident["origin"], "seal.example.com/main/1",
        "{incident:#}"
    );
    for file in &files {
        assert_eq!(here.verify(file).code, 0, "verification goes on");
    }
}
