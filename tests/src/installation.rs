//! An installation in a temporary folder.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use sealwarden_pki::{Identity, IdentityFiles};
use serde_json::Value;
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::binary::{self, Answer};
use crate::process::Process;
use crate::wait::eventually;

/// A data folder with a home around it; the processes that work on it are the test's.
#[derive(Debug)]
pub struct Installation {
    home: TempDir,
    nats: Option<String>,
    name: Option<String>,
    environment: Vec<(String, OsString)>,
    /// Whose rights `up` has, if not the test's own.
    user: Option<u32>,
}

/// The user `nobody`, and the group of that number.
const NOBODY: u32 = 65_534;

impl Installation {
    /// An empty one, for the embedded event log.
    #[expect(clippy::new_without_default, reason = "it makes a folder")]
    pub fn new() -> Self {
        Self {
            home: tempfile::tempdir().expect("a temporary folder"),
            nats: None,
            name: None,
            environment: Vec::new(),
            user: None,
        }
    }

    /// One whose services have no more rights than a user, so that permissions of files count. Where the tests themselves have no more, it is one like any other.
    pub fn unprivileged() -> Self {
        let user = rustix::process::geteuid().is_root().then_some(NOBODY);
        let here = Self {
            user,
            ..Self::new()
        };
        std::fs::create_dir_all(here.data()).expect("the data folder");
        if user.is_some() {
            // The build's own folder may be closed to others.
            std::fs::copy(binary::path(), here.copied()).expect("a copy of the binary");
            for path in [here.home().to_owned(), here.data()] {
                std::os::unix::fs::chown(path, user, user).expect("root gives folders away");
            }
        }
        here
    }

    fn copied(&self) -> PathBuf {
        self.home().join("sealwarden")
    }

    /// An empty one, for a NATS server. `{role}` in the address stands for the role that connects.
    pub fn over_nats(url: &str) -> Self {
        Self {
            nats: Some(url.to_owned()),
            ..Self::new()
        }
    }

    /// Fixes the installation's name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Gives all processes a variable of the environment.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// The folder around the data folder: a place for the test's files.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// Writes a file into the home folder.
    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.home().join(name);
        std::fs::write(&path, content).expect("a file in a temporary folder");
        path
    }

    /// Starts `up` and waits until it serves.
    pub fn up(&self) -> Process {
        let arguments = self.arguments(&["up", "--base", "seal.example.com"]);
        let Some(user) = self.user else {
            return Process::start(self.home(), "up", &arguments);
        };
        let mut command = binary::command_of(&self.copied(), self.home(), &arguments);
        command.uid(user).gid(user);
        Process::start_command(self.home(), "up", command)
    }

    /// Starts one role, named `<role>-1` as by default, and waits until it serves.
    pub fn serve(&self, role: &str) -> Process {
        let arguments = self.arguments(&["serve", role, "--base", "seal.example.com"]);
        let node = &format!("{role}-1");
        Process::start_with(self.home(), node, &arguments, &self.environment)
    }

    /// Starts a further node of a role, and waits until it serves; `nats` is the server's address as this node sees it, where that is another.
    pub fn serve_as(&self, role: &str, node: &str, nats: Option<&str>) -> Process {
        let mut arguments = self.arguments(&["serve", role, "--node", node]);
        if let (Some(nats), Some(at)) = (nats, arguments.iter().position(|it| it == "--nats")) {
            arguments[at + 1] = nats.into();
        }
        Process::start_with(self.home(), node, &arguments, &self.environment)
    }

    /// The arguments of a hosting command, with data folder and event log.
    pub fn arguments(&self, command: &[&str]) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = command.iter().map(OsString::from).collect();
        arguments.extend(["--data".into(), self.data().into_os_string()]);
        if let Some(url) = &self.nats {
            let role = command.get(1).copied().unwrap_or_default();
            arguments.extend(["--nats".into(), url.replace("{role}", role).into()]);
        }
        if let Some(name) = &self.name {
            arguments.extend(["--installation".into(), name.into()]);
        }
        arguments
    }

    /// Calls a user command with `--json`.
    pub fn call(&self, command: &[&str]) -> Answer {
        let mut arguments: Vec<OsString> = command.iter().map(OsString::from).collect();
        arguments.extend([
            "--json".into(),
            "--data".into(),
            self.data().into_os_string(),
        ]);
        binary::sealwarden(self.home(), &arguments)
    }

    /// Seals a file, waiting for the witnesses, and panics unless that works at once.
    pub fn seal(&self, file: &Path) -> PathBuf {
        let name = file.to_string_lossy().into_owned();
        let answer = self.call(&["seal", &name]).good();
        assert_eq!(answer["seals"][0]["stage"], "witnessed", "{answer}");
        PathBuf::from(format!("{name}.seal"))
    }

    /// Waits until a file can be sealed: a permit may be on its way.
    pub fn seal_eventually(&self, file: &Path) -> PathBuf {
        let name = file.to_string_lossy().into_owned();
        eventually("a file is sealed and witnessed", || {
            (self.call(&["seal", &name]).code == 0).then_some(())
        });
        PathBuf::from(format!("{name}.seal"))
    }

    /// `verify` of a file through the service.
    pub fn verify(&self, file: &Path) -> Answer {
        self.call(&["verify", &file.to_string_lossy()])
    }

    /// The process that a role runs in.
    pub fn pid(&self, role: &str) -> u32 {
        let endpoints = std::fs::read(self.data().join("endpoints.json")).expect("endpoints.json");
        let endpoints: Value = serde_json::from_slice(&endpoints).expect("JSON");
        let pid = endpoints[role]["pid"].as_u64().expect("a process");
        u32::try_from(pid).expect("a process")
    }

    /// Exports the trust bundle.
    pub fn trust(&self, name: &str) -> PathBuf {
        let path = self.home().join(name);
        self.call(&["trust", "export", "--out", &path.to_string_lossy()])
            .good();
        path
    }

    /// A key of this provider with this duty, once verifiers know it.
    pub fn key_on_duty(&self, duty: &str, provider: &str) -> Value {
        eventually("a key with this duty", || {
            let answer = self.call(&["keys", "list"]).good();
            let keys = answer["keys"].as_array().cloned().unwrap_or_default();
            keys.into_iter().find(|key| {
                key["duty"] == duty && key["provider"] == provider && key["listed"] == true
            })
        })
    }

    /// `status`.
    pub fn status(&self) -> Value {
        self.call(&["status"]).good()
    }

    /// Ids of the incidents that are about more than a key provider which was slow or away.
    pub fn suspicions(&self) -> Vec<String> {
        let list = self.call(&["incident", "list"]).good();
        let incidents = list["incidents"].as_array().expect("incidents");
        let about = |it: &&Value| {
            let subject = it["subject"].as_str().expect("a subject");
            !subject.starts_with("key providers of ") && !subject.starts_with("key provider ")
        };
        let ids = incidents.iter().filter(about);
        ids.map(|it| it["incident"].as_str().expect("an id").to_owned())
            .collect()
    }

    /// Address of a role's gRPC (`https://…`) or HTTP (`http://…`) listener.
    pub fn address(&self, role: &str, kind: &str) -> String {
        let text =
            std::fs::read_to_string(self.data().join("endpoints.json")).expect("endpoints.json");
        let endpoints: Value = serde_json::from_str(&text).expect("endpoints.json is JSON");
        endpoints[role][kind]
            .as_str()
            .unwrap_or_else(|| panic!("no {kind} address of {role} in {text}"))
            .to_owned()
    }

    /// The certificate of a caller that the installation issued.
    pub fn identity(&self, name: &str) -> Identity {
        IdentityFiles::in_dir(&self.data().join("certificates"), name)
            .load()
            .unwrap_or_else(|e| panic!("the certificate of {name}: {e}"))
    }

    /// Issues a certificate for a caller.
    pub fn issue(&self, name: &str, role: &str) -> Identity {
        self.call(&["certificate", "issue", name, "--role", role])
            .good();
        self.identity(name)
    }

    /// A connection to a role as a caller that has a certificate.
    pub async fn connect(&self, role: &str, caller: &str) -> Channel {
        let identity = self.identity(caller);
        sealwarden_pki::connect(&self.address(role, "grpc"), &identity)
            .await
            .expect("a connection")
    }

    /// The installation's name.
    pub fn name(&self) -> String {
        let text = std::fs::read_to_string(self.data().join("installation.json"))
            .expect("installation.json");
        let settings: Value = serde_json::from_str(&text).expect("installation.json is JSON");
        settings["installation"]
            .as_str()
            .expect("a name")
            .to_owned()
    }
}
