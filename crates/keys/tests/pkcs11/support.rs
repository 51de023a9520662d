//! A SoftHSM2 token in a temporary folder, and a provider on it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use ring::signature::{ED25519, UnparsedPublicKey};
use rustix::process::{Pid, Signal, kill_process};
use sealwarden_keys::{
    KeyError, KeyId, KeyInfo, KeyProvider as _, Pkcs11Config, Pkcs11Provider, Purpose,
    pkcs11::{Limits, WorkerCommand},
};
use tempfile::TempDir;

/// Where distributions put the module.
const MODULES: [&str; 4] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
];
/// The label of the token.
pub(crate) const TOKEN: &str = "sealwarden-test";
/// Its PIN.
pub(crate) const PIN: &str = "483-261-7790";
/// How long something that another process does may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A token of its own.
pub(crate) struct SoftHsm {
    folder: TempDir,
}

impl SoftHsm {
    /// Makes and initialises one.
    pub(crate) fn new() -> Self {
        let hsm = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir(hsm.tokens()).unwrap();
        let settings = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            hsm.tokens().display()
        );
        std::fs::write(hsm.settings(), settings).unwrap();
        hsm.add_token(TOKEN);
        std::fs::write(hsm.path("pin"), format!("{PIN}\n")).unwrap();
        hsm.close("pin");
        hsm
    }

    /// Initialises a further token of this label.
    pub(crate) fn add_token(&self, label: &str) {
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", label])
            .args(["--pin", PIN, "--so-pin", "12345678"])
            .env("SOFTHSM2_CONF", self.settings())
            .output()
            .expect("softhsm2-util runs: install the package softhsm2");
        assert!(made.status.success(), "{made:?}");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn tokens(&self) -> PathBuf {
        self.path("tokens")
    }

    fn settings(&self) -> PathBuf {
        self.path("softhsm2.conf")
    }

    /// Mode 0600.
    pub(crate) fn close(&self, name: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(self.path(name), mode).unwrap();
    }

    /// The settings of a provider on this token.
    pub(crate) fn config(&self) -> Pkcs11Config {
        let variable = |name: &str, value: &Path| format!("{name}={}", value.display()).into();
        Pkcs11Config {
            module: module(),
            token: TOKEN.to_owned(),
            pin_file: self.path("pin"),
            dir: self.path("keys"),
            worker: WorkerCommand {
                // It becomes the worker, with the same process id.
                program: "/usr/bin/env".into(),
                args: vec![
                    variable("SOFTHSM2_CONF", &self.settings()),
                    variable("PKCS11_TEST_LOSE_SESSIONS", &self.path("lose")),
                    variable("PKCS11_TEST_MODULE", &module()),
                    env!("CARGO_BIN_EXE_pkcs11-test-worker").into(),
                ],
            },
            limits: Limits {
                // Nobody's machine is so slow that a token's work takes this long, and tests that wait for it stay short.
                attempt: Duration::from_secs(2),
                call: Duration::from_secs(20),
                manage: Duration::from_secs(20),
                start: Duration::from_secs(20),
                waiting: 64,
            },
        }
    }

    /// Puts a certificate (DER) with this `CKA_ID` (hexadecimal) onto the token, as a vendor's tool does.
    pub(crate) fn put_certificate(&self, cka_id: &str, der: &[u8]) {
        std::fs::write(self.path("certificate.der"), der).unwrap();
        let done = Command::new(env!("CARGO_BIN_EXE_pkcs11-test-worker"))
            .arg("certificate")
            .arg(module())
            .args([TOKEN, PIN, cka_id])
            .arg(self.path("certificate.der"))
            .env("SOFTHSM2_CONF", self.settings())
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    /// A provider on this token.
    pub(crate) async fn open(&self) -> Pkcs11Provider {
        Pkcs11Provider::open(self.config()).await.unwrap()
    }

    /// What opening says with these settings.
    pub(crate) async fn open_error(config: Pkcs11Config) -> KeyError {
        match Pkcs11Provider::open(config).await {
            Ok(_) => panic!("the provider opened"),
            Err(error) => error,
        }
    }
}

fn module() -> PathBuf {
    let found = MODULES.iter().find(|path| Path::new(path).exists());
    PathBuf::from(found.expect("the SoftHSM2 module: install the package softhsm2"))
}

pub(crate) fn id(text: &str) -> KeyId {
    KeyId::new(text).unwrap()
}

/// Signs, and checks the signature with an implementation that is not the token's.
pub(crate) async fn sign(provider: &Pkcs11Provider, key: &KeyInfo, message: &[u8]) {
    let signature = provider
        .sign(&key.id, Purpose::Sealing, message)
        .await
        .unwrap();
    UnparsedPublicKey::new(&ED25519, &key.public_key)
        .verify(message, signature.as_bytes())
        .unwrap();
}

/// How often the provider says that its keys were used.
pub(crate) async fn uses(provider: &Pkcs11Provider) -> usize {
    let lines = provider.audit_after(0, 10_000).await.unwrap();
    assert!(lines.iter().all(|line| line.entry.is_ok()));
    lines.len()
}

/// Sends a signal to the worker, by its process id.
pub(crate) fn signal_worker(provider: &Pkcs11Provider, signal: Signal) -> u32 {
    let pid = provider.worker_pid().expect("a worker runs");
    signal_process(pid, signal);
    pid
}

pub(crate) fn signal_process(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process id"), signal).unwrap();
}

/// Looks until `look` is satisfied.
pub(crate) fn eventually(what: &str, mut look: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !look() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        // bounded poll: another process's state can only be asked for.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process exists that has not been reaped.
pub(crate) fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}
