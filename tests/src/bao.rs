//! A real OpenBao server, and an installation whose sealing keys it keeps.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::binary::repository;
use crate::{Installation, Process, eventually};

/// The token of the server's administrator.
pub const ROOT: &str = "root-token-of-the-test";
/// The name of the audit device, which is not of the server's configuration, so that it can be switched off.
pub const DEVICE: &str = "sealing";

/// A server in memory with a transit mount and a file audit device, ended when dropped.
pub struct Bao {
    child: Child,
    program: PathBuf,
    dir: PathBuf,
    port: u16,
    unseal_key: String,
}

impl Bao {
    /// Starts it in a folder of the installation's home.
    pub fn start(here: &Installation) -> Self {
        let dir = here.home().join("openbao");
        std::fs::create_dir(&dir).expect("a folder");
        let settings = dir.join("bao.hcl");
        std::fs::write(&settings, "unsafe_allow_api_audit_creation = true\n").expect("settings");
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
        bao.switch_audit_on();
        bao.run(&["secrets", "enable", "transit"]);
        bao
    }

    /// Runs `bao` with root's token; whether it succeeded.
    pub fn try_run(&self, arguments: &[&str]) -> bool {
        self.output(arguments).status.success()
    }

    /// Runs `bao` with root's token, and answers what it wrote.
    pub fn output(&self, arguments: &[&str]) -> Output {
        Command::new(&self.program)
            .args(arguments)
            .env_clear()
            .env("HOME", &self.dir)
            .env("BAO_ADDR", self.url())
            .env("BAO_CACERT", self.ca())
            .env("BAO_TOKEN", ROOT)
            .output()
            .expect("bao runs")
    }

    /// Runs `bao` with root's token, which has to succeed.
    pub fn run(&self, arguments: &[&str]) {
        assert!(self.try_run(arguments), "bao {arguments:?} failed");
    }

    /// Unseals a sealed server.
    pub fn unseal(&self) {
        self.run(&["operator", "unseal", &self.unseal_key]);
    }

    /// Makes the audit device.
    pub fn switch_audit_on(&self) {
        let path = format!("file_path={}", self.audit().display());
        let name = format!("-path={DEVICE}");
        self.run(&["audit", "enable", &name, "file", &path]);
    }

    /// Removes the audit device.
    pub fn switch_audit_off(&self) {
        self.run(&["audit", "disable", DEVICE]);
    }

    /// Renames the audit file and lets the server open a new one, as logrotate does.
    pub fn rotate(&self) {
        std::fs::rename(self.audit(), self.dir.join("audit.log.1")).expect("a rotated file");
        self.signal(Signal::HUP);
        eventually("a new audit file", || self.audit().exists().then_some(()));
    }

    /// Stops the process where it is, or lets it go on: it neither answers nor refuses.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        let pid = Pid::from_raw(pid).expect("a process id");
        kill_process(pid, signal).expect("a signal");
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The port on loopback where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate of its authority.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("vault-ca.pem")
    }

    /// Its certificate and key, in PEM.
    pub fn identity(&self) -> [PathBuf; 2] {
        ["vault-cert.pem", "vault-key.pem"].map(|name| self.dir.join(name))
    }

    /// The file of its audit device.
    pub fn audit(&self) -> PathBuf {
        self.dir.join("audit.log")
    }

    /// The file with root's token, of mode 0600.
    pub fn token_file(&self, here: &Installation) -> PathBuf {
        let token = here.file("transit-token", ROOT.as_bytes());
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&token, mode).expect("a mode");
        token
    }

    /// An installation with its sealing keys in the server.
    pub fn up(&self, here: &Installation, more: &[&str]) -> Result<Process, String> {
        self.up_reading(here, &self.audit(), more)
    }

    /// The same, reading the audit from another file.
    pub fn up_reading(
        &self,
        here: &Installation,
        audit: &Path,
        more: &[&str],
    ) -> Result<Process, String> {
        let url = self.url();
        let paths = [self.ca(), self.token_file(here), audit.to_owned()];
        let paths = paths.map(|path| path.to_str().expect("a path").to_owned());
        let command = ["up", "--base", "seal.example.com", "--transit-url", &url];
        let flags = ["--transit-ca", &paths[0], "--transit-token-file", &paths[1]];
        let audit = [
            "--transit-audit",
            &paths[2],
            "--transit-audit-device",
            DEVICE,
        ];
        let command = [&command[..], &flags, &audit, more].concat();
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
