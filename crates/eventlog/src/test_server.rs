//! A real nats-server for tests: a process of its own, its store in a temporary folder.
//!
//! The binary is `$SEALWARDEN_NATS_SERVER`, else the one that `tests/tools/nats-server.sh` installs
//! below `target/tools/`, else the first `nats-server` of `PATH`. Where there is none, starting
//! fails with a message that says so: a test that needs the server fails and is never left out.

use std::collections::VecDeque;
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tempfile::TempDir;

/// How long a server may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Lines of the server's log that an error shows.
const SHOWN_LINES: usize = 20;

/// A running server with JetStream, `sync_interval: always`, on a free port of 127.0.0.1. Dropping
/// it kills the process and removes the store.
pub struct TestServer {
    folder: TempDir,
    port: u16,
    child: Option<Child>,
}

impl TestServer {
    /// Starts a server with an empty store.
    pub fn start() -> io::Result<Self> {
        Self::start_with("")
    }

    /// Starts a server whose configuration ends with `extra`, in the server's own syntax.
    pub fn start_with(extra: &str) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let store = folder.path().join("store");
        let config = format!(
            "host: 127.0.0.1\njetstream {{ store_dir: \"{}\", sync_interval: always }}\n{extra}\n",
            store.display()
        );
        fs::write(folder.path().join("nats.conf"), config)?;
        let mut server = Self {
            folder,
            port: 0,
            child: None,
        };
        server.run()?;
        Ok(server)
    }

    /// The server's address, `nats://127.0.0.1:port`; the same after a restart.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Kills the process with SIGKILL. The store stays.
    pub fn kill(&mut self) -> io::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Starts the process again, on the same port and store, killing it first where it runs.
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill()?;
        self.run()
    }

    fn run(&mut self) -> io::Result<()> {
        let binary = binary()?;
        // -1 lets the server choose; it keeps that port over restarts.
        let port = if self.port == 0 {
            "-1".to_owned()
        } else {
            self.port.to_string()
        };
        let mut child = Command::new(&binary)
            .arg("--config")
            .arg(self.folder.path().join("nats.conf"))
            .args(["--port", &port])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| io::Error::other(format!("{}: {error}", binary.display())))?;
        let stderr = child.stderr.take();
        self.child = Some(child);
        let (ready, news) = sync_channel(1);
        std::thread::spawn(move || watch_log(stderr, &ready));
        self.port = wait_until_ready(&news)?;
        Ok(())
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // Nothing can be done about a child that cannot be killed.
        let _failed = self.kill();
    }
}

fn wait_until_ready(news: &Receiver<Result<u16, String>>) -> io::Result<u16> {
    match news.recv_timeout(START_TIMEOUT) {
        Ok(Ok(port)) => Ok(port),
        Ok(Err(log)) => Err(io::Error::other(format!(
            "nats-server ended at once:\n{log}"
        ))),
        Err(error) => Err(io::Error::other(format!(
            "nats-server did not get ready: {error}"
        ))),
    }
}

/// Reads the server's log to its end, so that the server never blocks on it, and reports the port
/// once it serves, or the last lines when it ends before.
fn watch_log(stderr: Option<ChildStderr>, ready: &SyncSender<Result<u16, String>>) {
    let Some(stderr) = stderr else { return };
    let mut port = None;
    let mut last = VecDeque::new();
    for line in BufReader::new(stderr).lines() {
        let Ok(line) = line else { break };
        if let Some((_, address)) = line.split_once("Listening for client connections on ") {
            port = address
                .rsplit(':')
                .next()
                .and_then(|digits| digits.trim().parse().ok());
        }
        if line.ends_with("Server is ready")
            && let Some(port) = port
        {
            // Only the first message is awaited; there is room for it.
            let _sent = ready.try_send(Ok(port));
        }
        if last.len() == SHOWN_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
    let _sent = ready.try_send(Err(Vec::from(last).join("\n")));
}

fn binary() -> io::Result<PathBuf> {
    if let Some(path) = env::var_os("SEALWARDEN_NATS_SERVER") {
        return Ok(path.into());
    }
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/nats/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    std::iter::once(installed)
        .chain(env::split_paths(&path))
        .map(|folder| folder.join("nats-server"))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                "no nats-server: run tests/tools/nats-server.sh, or set SEALWARDEN_NATS_SERVER \
                 to the path of one (2.12 or later)",
            )
        })
}
