//! One task that owns the worker: takes requests from a bounded queue, one at a time, and replaces a worker that hangs
//! or dies.
//!
//! Everything asked of a worker may be asked twice (Ed25519 signatures are the same each time), so a request whose
//! worker broke is tried once more with a new one. Its caller notices a slow call, or learns that the outcome is
//! unknown; it never gets a signature that the token did not answer with.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot, watch,
    },
    time::Instant,
};

use super::{
    Pkcs11Config,
    problem::TokenProblem,
    process::{Broken, PinFile, StartFailure, Worker},
    protocol::{Done, TokenFacts, Work},
};
use crate::{error::KeyError, id::KeyId};

/// How often a request is given to a worker.
const TRIES: u32 = 2;
/// The pause after the second failure in a row; it doubles with each further one. After the first there is none.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Done before the key is used, each time it is: records the use.
pub(super) type BeforeUse = Arc<dyn Fn() -> Result<(), KeyError> + Send + Sync>;

/// What somebody wants of the token.
struct Request {
    key: KeyId,
    work: Work,
    before: Option<BeforeUse>,
    submitted: Instant,
    reply: oneshot::Sender<Result<Done, KeyError>>,
}

/// Where requests are handed in. Dropping it ends the task and the worker.
pub(super) struct Desk {
    queue: mpsc::Sender<Request>,
    pid: watch::Receiver<Option<u32>>,
    token: watch::Receiver<Option<TokenFacts>>,
    waiting: usize,
}

impl Desk {
    /// Starts the task and a first worker, and answers how that went; the task goes on trying either way.
    pub(super) async fn open(config: Pkcs11Config) -> (Self, Result<TokenFacts, KeyError>) {
        let waiting = config.limits.waiting.max(1);
        let (queue, requests) = mpsc::channel(waiting);
        let (pid_sender, pid) = watch::channel(None);
        let (token_sender, token) = watch::channel(None);
        let mut clerk = Clerk {
            config,
            worker: None,
            failures: 0,
            not_before: Instant::now(),
            last: None,
            refused_pin: None,
            pid: pid_sender,
            token: token_sender,
        };
        let started = clerk.ready().await.map(|worker| worker.token().clone());
        tokio::spawn(clerk.run(requests));
        let desk = Self {
            queue,
            pid,
            token,
            waiting,
        };
        (desk, started)
    }

    /// Hands in a request and waits for the outcome. Dropping the future before its turn keeps the key from being used.
    pub(super) async fn ask(
        &self,
        key: &KeyId,
        work: Work,
        before: Option<BeforeUse>,
    ) -> Result<Done, KeyError> {
        let (reply, outcome) = oneshot::channel();
        let request = Request {
            key: key.clone(),
            work,
            before,
            submitted: Instant::now(),
            reply,
        };
        match self.queue.try_send(request) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                return Err(unavailable(format!(
                    "{} calls already wait for the token, which is the most: ask less often, or mend the HSM's latency",
                    self.waiting
                )));
            }
            Err(TrySendError::Closed(_)) => return Err(ended()),
        }
        outcome.await.unwrap_or_else(|_| Err(ended()))
    }

    /// The process id of the worker, if one runs.
    pub(super) fn worker_pid(&self) -> Option<u32> {
        *self.pid.borrow()
    }

    /// The token, as it last showed itself.
    pub(super) fn token(&self) -> Option<TokenFacts> {
        self.token.borrow().clone()
    }
}

/// Who sits behind the desk.
struct Clerk {
    config: Pkcs11Config,
    worker: Option<Worker>,
    /// How often workers failed since the last good answer.
    failures: u32,
    not_before: Instant,
    last: Option<KeyError>,
    /// The PIN file that the token refused, and why: it is not tried again.
    refused_pin: Option<(Option<PinFile>, TokenProblem)>,
    pid: watch::Sender<Option<u32>>,
    token: watch::Sender<Option<TokenFacts>>,
}

impl Clerk {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(request) = requests.recv().await {
            let outcome = self.handle(&request).await;
            // Whoever asked may be gone; nobody else may have the answer.
            drop(request.reply.send(outcome));
        }
        if let Some(worker) = self.worker.take() {
            worker.kill().await;
        }
    }

    async fn handle(&mut self, request: &Request) -> Result<Done, KeyError> {
        let (each, all) = self.config.limits.of(&request.work);
        let mut last = None;
        for _ in 0..TRIES {
            if request.reply.is_closed() {
                return Err(ended()); // nobody waits any more: the key is not used
            }
            let left = all.saturating_sub(request.submitted.elapsed());
            if left.is_zero() {
                break;
            }
            match self.attempt(request, left.min(each)).await? {
                Ok(outcome) => return outcome,
                Err(broken) => last = Some(broken),
            }
        }
        Err(match last {
            Some(Broken::Gone(error)) => unavailable(format!(
                "the PKCS#11 worker broke off while it used key {}: {error}",
                request.key
            )),
            Some(Broken::Silent { .. }) | None => KeyError::Timeout {
                id: request.key.clone(),
                deadline_ms: u64::try_from(all.as_millis()).unwrap_or(u64::MAX),
            },
        })
    }

    /// The outer error ends the request, the inner one may be tried again.
    async fn attempt(
        &mut self,
        request: &Request,
        limit: Duration,
    ) -> Result<Result<Result<Done, KeyError>, Broken>, KeyError> {
        self.ready().await?;
        if request.reply.is_closed() {
            return Err(ended());
        }
        if let Some(before) = &request.before {
            let before = Arc::clone(before);
            let recorded = tokio::task::spawn_blocking(move || before());
            recorded
                .await
                .map_err(|error| unavailable(format!("recording the use was ended: {error}")))??;
        }
        let answer = self.ready().await?.call(&request.work, limit).await;
        match answer {
            Ok(Ok(done)) => {
                self.failures = 0;
                Ok(Ok(Ok(done)))
            }
            Ok(Err(problem)) => {
                if problem.spoils_worker() {
                    self.fail(KeyError::Token(problem.clone())).await;
                }
                Ok(Ok(Err(problem.into())))
            }
            Err(broken) => {
                tracing::warn!(key = %request.key, %broken, "the PKCS#11 worker is replaced");
                let reason = format!("the PKCS#11 worker failed: {broken}");
                self.fail(unavailable(reason)).await;
                Ok(Err(broken))
            }
        }
    }

    /// The worker, started if there is none.
    async fn ready(&mut self) -> Result<&mut Worker, KeyError> {
        let alive = self.worker.as_mut().is_some_and(Worker::is_alive);
        let worker = match self.worker.take() {
            Some(worker) if alive => worker,
            dead => {
                if let Some(dead) = dead {
                    tracing::warn!("the PKCS#11 worker has ended and is replaced");
                    dead.kill().await;
                    self.pid.send_replace(None);
                }
                self.start().await?
            }
        };
        Ok(self.worker.insert(worker))
    }

    async fn start(&mut self) -> Result<Worker, KeyError> {
        let pin = PinFile::look(&self.config);
        match &self.refused_pin {
            Some((refused, problem)) if *refused == pin => {
                return Err(KeyError::Token(problem.clone()));
            }
            // Somebody put another PIN there: no pause keeps it from being tried.
            Some(_) => self.refused_pin = None,
            None => {
                if let Some(error) = self.resting() {
                    return Err(error);
                }
            }
        }
        match Worker::start(&self.config).await {
            Ok(worker) => {
                self.pid.send_replace(worker.pid());
                self.token.send_replace(Some(worker.token().clone()));
                Ok(worker)
            }
            Err(failure) => {
                let error = match failure {
                    StartFailure::Token(problem) => {
                        if problem.is_about_pin() {
                            self.refused_pin = Some((pin, problem.clone()));
                        }
                        KeyError::Token(problem)
                    }
                    StartFailure::Other(error) => error,
                };
                self.fail(error.clone()).await;
                Err(error)
            }
        }
    }

    /// What to answer while no new worker is started.
    fn resting(&self) -> Option<KeyError> {
        let resting = Instant::now() < self.not_before;
        self.last.clone().filter(|_| resting)
    }

    /// Gives the worker up and lets pauses between new ones grow.
    async fn fail(&mut self, error: KeyError) {
        if let Some(worker) = self.worker.take() {
            worker.kill().await;
            self.pid.send_replace(None);
        }
        self.failures = self.failures.saturating_add(1);
        self.not_before = Instant::now() + pause_after(self.failures);
        self.last = Some(error);
    }
}

fn pause_after(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        more => FIRST_PAUSE
            .saturating_mul(2_u32.saturating_pow(more - 2))
            .min(LONGEST_PAUSE),
    }
}

fn unavailable(reason: String) -> KeyError {
    KeyError::Unavailable { reason }
}

fn ended() -> KeyError {
    unavailable("the request to the token was ended before its turn".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_between_workers_grow_to_a_bound() {
        let pauses: Vec<u128> = (0..12).map(|n| pause_after(n).as_millis()).collect();
        assert_eq!(pauses[..5], [0, 0, 50, 100, 200]);
        assert_eq!(pauses[11], 5_000);
        assert_eq!(pause_after(u32::MAX), LONGEST_PAUSE);
    }
}
