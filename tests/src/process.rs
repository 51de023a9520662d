//! A long-running process of the binary: `up` or `serve`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::binary;
use crate::wait;

/// How long a start may take: debug builds, two cores, other tests beside it.
const START: Duration = Duration::from_secs(90);
/// How long an orderly end may take.
const END: Duration = Duration::from_secs(30);
/// Lines of the process's log that a failure shows.
const SHOWN_LINES: usize = 60;

/// A process that says `ready …` when it serves. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    ready: String,
}

impl Process {
    /// Starts it and waits until it serves; panics with its log when it does not.
    pub fn start<S: AsRef<OsStr>>(home: &Path, name: &str, arguments: &[S]) -> Self {
        Self::try_start(home, name, arguments)
            .unwrap_or_else(|log| panic!("{name} did not get ready:\n{log}"))
    }

    /// As [`Process::start`], with further variables of the environment.
    pub fn start_with<S: AsRef<OsStr>>(
        home: &Path,
        name: &str,
        arguments: &[S],
        environment: &[(String, OsString)],
    ) -> Self {
        Self::spawn_with(home, name, arguments, environment)
            .wait_until_ready()
            .unwrap_or_else(|log| panic!("{name} did not get ready:\n{log}"))
    }

    /// Starts it and waits until it serves; its log when it does not.
    pub fn try_start<S: AsRef<OsStr>>(
        home: &Path,
        name: &str,
        arguments: &[S],
    ) -> Result<Self, String> {
        Self::spawn(home, name, arguments).wait_until_ready()
    }

    fn wait_until_ready(self) -> Result<Self, String> {
        let mut process = self;
        let (sender, receiver) = sync_channel(1);
        let stdout = process.child.stdout.take().expect("a pipe");
        std::thread::spawn(move || read_output(stdout, &sender));
        match receiver.recv_timeout(START) {
            Ok(line) => {
                process.ready = line;
                Ok(process)
            }
            Err(RecvTimeoutError::Timeout) => {
                Err(format!("nothing in {START:?}\n{}", process.log_tail()))
            }
            Err(RecvTimeoutError::Disconnected) => Err(format!("it ended\n{}", process.log_tail())),
        }
    }

    /// Starts it without waiting, for tests that kill it while it starts.
    pub fn spawn<S: AsRef<OsStr>>(home: &Path, name: &str, arguments: &[S]) -> Self {
        Self::spawn_with(home, name, arguments, &[])
    }

    fn spawn_with<S: AsRef<OsStr>>(
        home: &Path,
        name: &str,
        arguments: &[S],
        environment: &[(String, OsString)],
    ) -> Self {
        let mut command = binary::command(home, arguments);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        Self::spawn_command(home, name, command)
    }

    /// Starts what a command says, as a process named so, and waits until it serves.
    pub(crate) fn start_command(home: &Path, name: &str, command: Command) -> Self {
        Self::spawn_command(home, name, command)
            .wait_until_ready()
            .unwrap_or_else(|log| panic!("{name} did not get ready:\n{log}"))
    }

    fn spawn_command(home: &Path, name: &str, mut command: Command) -> Self {
        let log = home.join(format!("{name}.log"));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("a log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", binary::path().display()));
        Self {
            child,
            log,
            ready: String::new(),
        }
    }

    /// The line `ready …`.
    pub fn ready_line(&self) -> &str {
        &self.ready
    }

    /// The last lines of its standard error.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines
            .get(lines.len().saturating_sub(SHOWN_LINES)..)
            .unwrap_or_default()
            .join("\n")
    }

    /// All of its standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it at once, as a power loss would (SIGKILL).
    pub fn kill(mut self) {
        self.end();
    }

    /// Asks it to end (SIGTERM) and waits for that.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        wait::within(END, "the process ends after SIGTERM", || {
            self.child.try_wait().expect("a child's state")
        })
    }

    /// Stops it where it stands (SIGSTOP), and waits until its last thread has: a thread in the middle of a disk access ends that first.
    pub fn suspend(&self) {
        self.signal(Signal::STOP);
        wait::eventually("every thread of the process stands still", || {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).ok()?;
            let mut states = tasks
                .filter_map(Result::ok)
                .map(|task| thread_state(&task.path()));
            states.all(|state| state == Some('T')).then_some(())
        });
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child's state")
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a process id");
        kill_process(pid, signal).expect("a signal to our own child");
    }

    fn end(&mut self) {
        // A child that has ended already cannot be killed, and need not be.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// The state letter of a thread, which follows its name in parentheses (proc(5)).
fn thread_state(task: &Path) -> Option<char> {
    let stat = std::fs::read_to_string(task.join("stat")).ok()?;
    stat.rsplit(')').next()?.trim().chars().next()
}

/// Reads to the end, so that the process never blocks on its output, and hands on the line `ready …`.
fn read_output(stdout: ChildStdout, ready: &SyncSender<String>) {
    let mut ready = Some(ready);
    for line in BufReader::new(stdout).lines() {
        let Ok(line) = line else { return };
        if line.starts_with("ready ")
            && let Some(ready) = ready.take()
        {
            // There is room for the one message.
            drop(ready.try_send(line));
        }
    }
}
