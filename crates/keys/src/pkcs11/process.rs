//! The provider's end of one worker process.

use std::{
    io,
    process::Stdio,
    time::{Duration, SystemTime},
};

use tokio::{
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};
use zeroize::Zeroizing;

use super::{
    Pkcs11Config,
    problem::TokenProblem,
    protocol::{self, Answer, Call, Done, Hello, TokenFacts, VERSION, Work},
};
use crate::{
    error::KeyError,
    private_files::{self, FileError},
};

/// The longest PIN file, in bytes.
const MAX_PIN_FILE: u64 = 512;
/// How long a killed process may take to be gone before it is left to the runtime's reaper.
const REAP: Duration = Duration::from_secs(1);

/// A worker that has logged in.
pub(super) struct Worker {
    pipes: Pipes,
    token: TokenFacts,
    last_id: u64,
}

struct Pipes {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

/// Why a worker is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// It did not answer in time.
    #[error("it did not answer within {limit_ms} ms and was killed")]
    Silent {
        /// The time it had, in milliseconds.
        limit_ms: u64,
    },
    /// It ended, or said something that makes no sense.
    #[error("it broke off: {0}")]
    Gone(#[from] io::Error),
}

/// Why no worker is ready.
#[derive(Debug)]
pub(super) enum StartFailure {
    /// The token said no.
    Token(TokenProblem),
    /// Something else, with the remedy.
    Other(KeyError),
}

/// Which PIN file was tried, without keeping anything of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PinFile {
    changed: SystemTime,
    bytes: u64,
}

impl PinFile {
    /// The file as it is now.
    pub(super) fn look(config: &Pkcs11Config) -> Option<Self> {
        let metadata = config.pin_file.metadata().ok()?;
        Some(Self {
            changed: metadata.modified().ok()?,
            bytes: metadata.len(),
        })
    }
}

impl Worker {
    /// Starts a process, lets it load the module and log in.
    pub(super) async fn start(config: &Pkcs11Config) -> Result<Self, StartFailure> {
        let pin = read_pin(config).await.map_err(StartFailure::Other)?;
        let mut pipes = Pipes::open(config).map_err(|error| {
            StartFailure::Other(KeyError::Unavailable {
                reason: format!(
                    "cannot start the PKCS#11 worker {}: {error}",
                    config.worker.program.display()
                ),
            })
        })?;
        let limit = config.limits.start;
        let greeted = within(limit, pipes.greet(config, &pin)).await;
        drop(pin);
        let answer = match greeted {
            Ok(answer) => answer,
            Err(broken) => {
                pipes.kill().await;
                return Err(StartFailure::Other(KeyError::Unavailable {
                    reason: format!(
                        "the PKCS#11 worker did not log in to the token {:?}: {broken}; check the module {} and the HSM",
                        config.token,
                        config.module.display()
                    ),
                }));
            }
        };
        match answer {
            Ok(token) => Ok(Self {
                pipes,
                token,
                last_id: 0,
            }),
            Err(problem) => {
                pipes.kill().await;
                Err(StartFailure::Token(problem))
            }
        }
    }

    /// The token.
    pub(super) fn token(&self) -> &TokenFacts {
        &self.token
    }

    /// The process id.
    pub(super) fn pid(&self) -> Option<u32> {
        self.pipes.child.id()
    }

    /// Whether the process has not ended.
    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.pipes.child.try_wait(), Ok(None))
    }

    /// Asks for one piece of work. After [`Broken`] nothing more may be asked of this worker, and the work may have been done.
    pub(super) async fn call(
        &mut self,
        work: &Work,
        limit: Duration,
    ) -> Result<Result<Done, TokenProblem>, Broken> {
        self.last_id += 1;
        let id = self.last_id;
        let call = Call {
            id,
            work: work.clone(),
        };
        within(limit, self.pipes.exchange(&call)).await
    }

    /// Ends the process at once.
    pub(super) async fn kill(self) {
        self.pipes.kill().await;
    }
}

impl Pipes {
    fn open(config: &Pkcs11Config) -> io::Result<Self> {
        let mut child = Command::new(&config.worker.program)
            .args(&config.worker.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C is for the service, which still signs what it has begun.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("its pipes are missing"));
        };
        Ok(Self {
            child,
            input,
            output,
        })
    }

    async fn greet(
        &mut self,
        config: &Pkcs11Config,
        pin: &[u8],
    ) -> io::Result<Result<TokenFacts, TokenProblem>> {
        let hello = Hello {
            protocol: VERSION,
            module: config.module.clone(),
            token: config.token.clone(),
        };
        protocol::send(&mut self.input, &protocol::encode(&hello)?).await?;
        protocol::send(&mut self.input, pin).await?;
        match self.answer(0).await? {
            Ok(Done::Ready { protocol, token }) if protocol == VERSION => Ok(Ok(token)),
            Ok(other) => Err(io::Error::other(format!("it greeted with {other:?}"))),
            Err(problem) => Ok(Err(problem)),
        }
    }

    async fn exchange(&mut self, call: &Call) -> io::Result<Result<Done, TokenProblem>> {
        protocol::send(&mut self.input, &protocol::encode(call)?).await?;
        self.answer(call.id).await
    }

    async fn answer(&mut self, id: u64) -> io::Result<Result<Done, TokenProblem>> {
        let answer: Answer = protocol::decode(&protocol::receive(&mut self.output).await?)?;
        if answer.id == id {
            Ok(answer.outcome)
        } else {
            Err(io::Error::other(format!(
                "it answered request {} and not {id}",
                answer.id
            )))
        }
    }

    async fn kill(mut self) {
        // By the id of our own child, also when it is stopped; one that has ended already needs no killing.
        drop(self.child.start_kill());
        // Stuck in the kernel it cannot be reaped now; the runtime does that later.
        drop(timeout(REAP, self.child.wait()).await);
    }
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, Broken> {
    match timeout(limit, work).await {
        Ok(result) => Ok(result?),
        Err(_elapsed) => Err(Broken::Silent {
            limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        }),
    }
}

/// Reads the PIN anew for every worker, so that none is kept and a changed one is found.
async fn read_pin(config: &Pkcs11Config) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let path = config.pin_file.clone();
    let wrong = |what: &str| KeyError::Unsafe {
        reason: format!(
            "the PIN file {} {what}: write the token's PIN into it, mode 0600",
            config.pin_file.display()
        ),
    };
    let read = tokio::task::spawn_blocking(move || {
        private_files::read_private(&path, MAX_PIN_FILE).map(Zeroizing::new)
    });
    let mut content = match read.await {
        Ok(Ok(content)) => content,
        Ok(Err(error @ FileError::Io { .. })) if error.is_not_found() => {
            return Err(wrong("does not exist"));
        }
        Ok(Err(error)) => return Err(error.into()),
        Err(error) => {
            return Err(KeyError::Unavailable {
                reason: format!("reading the PIN was ended: {error}"),
            });
        }
    };
    let text = content.strip_suffix(b"\n").unwrap_or(&content);
    let length = text.strip_suffix(b"\r").unwrap_or(text).len();
    content.truncate(length);
    if content.is_empty() {
        Err(wrong("is empty"))
    } else if std::str::from_utf8(&content).is_err() {
        Err(wrong("is not UTF-8 text"))
    } else {
        Ok(content)
    }
}
