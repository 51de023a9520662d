//! The binary under test, and one call of it.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// The binary: `$SEALWARDEN_BIN` (which `tests/run` sets), else it is built, once a process.
pub fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| match std::env::var_os("SEALWARDEN_BIN") {
        Some(path) => PathBuf::from(path),
        None => build(),
    })
}

fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "build",
            "--package=sealwarden",
            "--message-format=json-render-diagnostics",
        ])
        .current_dir(repository())
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo builds the binary");
    assert!(output.status.success(), "the binary does not build");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == "sealwarden")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the binary it built")
}

/// The repository's folder.
pub fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}

/// How a call of the binary ended.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The arguments, for messages.
    pub call: String,
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Answer {
    /// The JSON document on standard output.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("no JSON document ({e}): {self}"))
    }

    /// Panics unless the exit code is this one; answers itself.
    #[must_use]
    #[track_caller]
    pub fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self}");
        self
    }

    /// Panics unless the exit code is this one.
    #[track_caller]
    pub fn must_end_with(&self, code: i32) {
        assert_eq!(self.code, code, "{self}");
    }

    /// Panics unless the exit code is 0; answers the JSON document.
    #[track_caller]
    pub fn good(self) -> Value {
        self.ends_with(0).json()
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            call,
            code,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "`sealwarden {call}` ended with {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        )
    }
}

/// Calls the binary with nothing on standard input and waits for its end.
pub fn sealwarden<S: AsRef<OsStr>>(home: &Path, arguments: &[S]) -> Answer {
    with_input(home, arguments, b"")
}

/// Calls the binary with `input` on standard input.
pub fn with_input<S: AsRef<OsStr>>(home: &Path, arguments: &[S], input: &[u8]) -> Answer {
    let mut child = command(home, arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{}: {e}", path().display()));
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || {
        // A command that does not read its input may end before it is written.
        drop(stdin.write_all(&input));
    });
    let output = child.wait_with_output().expect("the call ends");
    drop(writer.join());
    let call: Vec<_> = arguments
        .iter()
        .map(|a| a.as_ref().to_string_lossy().into_owned())
        .collect();
    Answer {
        call: call.join(" "),
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The binary in an environment of its own: nothing of the user's settings, and `home` as the home folder.
pub fn command<S: AsRef<OsStr>>(home: &Path, arguments: &[S]) -> Command {
    command_of(path(), home, arguments)
}

/// As [`command`], of another copy of the binary.
pub(crate) fn command_of<S: AsRef<OsStr>>(binary: &Path, home: &Path, arguments: &[S]) -> Command {
    let mut command = Command::new(binary);
    command
        .args(arguments)
        .env_clear()
        .env("HOME", home)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    if let Some(level) = std::env::var_os("RUST_LOG") {
        command.env("RUST_LOG", level);
    }
    command
}
