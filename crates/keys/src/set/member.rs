//! One provider of a set: asked under a deadline, a few calls at a time, and only while its breaker is closed.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::{
    sync::{Notify, Semaphore, oneshot},
    time::Instant,
};

use super::breaker::{Begun, Breaker, BreakerConfig, Moment, Outcome};
use crate::{
    error::KeyError,
    health::{Health, HealthCounts, HealthState},
    id::KeyId,
    pkcs11::TokenProblem,
    provider::KeyProvider,
};

/// Latencies that are kept to be shown.
const SHOWN: usize = 16;
/// How long opening a provider may take, logging in included.
const OPENING: Duration = Duration::from_secs(15);

/// Opens a provider, again and again until it succeeds once.
#[async_trait]
pub trait Opener: Send + Sync + 'static {
    /// One try.
    async fn open(&self) -> Result<Arc<dyn KeyProvider>, KeyError>;
}

/// A provider that is open already.
pub struct Opened(pub Arc<dyn KeyProvider>);

#[async_trait]
impl Opener for Opened {
    async fn open(&self) -> Result<Arc<dyn KeyProvider>, KeyError> {
        Ok(Arc::clone(&self.0))
    }
}

/// How a provider is used within a set.
#[derive(Clone)]
pub struct MemberConfig {
    /// Its name in the set, in reports and with its keys.
    pub name: String,
    /// The provider.
    pub opener: Arc<dyn Opener>,
    /// How long a call may take before it counts as failed.
    pub deadline: Duration,
    /// How often it is probed while nobody calls it.
    pub probe_every: Duration,
    /// Calls under way at once; one more is [`KeyError::Busy`].
    pub in_flight: usize,
    /// When it goes out and comes back.
    pub breaker: BreakerConfig,
}

/// A provider with all that is known of how it is doing.
pub(super) struct Member {
    config: MemberConfig,
    provider: OnceLock<Arc<dyn KeyProvider>>,
    watch: Mutex<Watch>,
    room: Arc<Semaphore>,
    /// The steady clock counts from here.
    epoch: Instant,
    /// The breaker's state has changed: probes are due at another time.
    changed: Notify,
    /// One probe at a time.
    probing: tokio::sync::Mutex<()>,
}

struct Watch {
    breaker: Breaker,
    latencies_ms: VecDeque<u64>,
    counts: HealthCounts,
    last_good_at_ms: Option<i64>,
    last_failure: Option<String>,
    /// When it was last asked for anything, on the steady clock.
    asked_at_ms: u64,
}

impl Member {
    pub(super) fn new(config: MemberConfig) -> Self {
        let watch = Watch {
            breaker: Breaker::new(config.breaker.clone()),
            latencies_ms: VecDeque::with_capacity(SHOWN),
            counts: HealthCounts::default(),
            last_good_at_ms: None,
            last_failure: None,
            asked_at_ms: 0,
        };
        Self {
            room: Arc::new(Semaphore::new(config.in_flight.max(1))),
            config,
            provider: OnceLock::new(),
            watch: Mutex::new(watch),
            epoch: Instant::now(),
            changed: Notify::new(),
            probing: tokio::sync::Mutex::new(()),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    pub(super) fn deadline(&self) -> Duration {
        self.config.deadline
    }

    /// The provider, once it has come up.
    pub(super) fn provider(&self) -> Option<&Arc<dyn KeyProvider>> {
        self.provider.get()
    }

    /// Opens the provider; if that fails, it begins as out.
    pub(super) async fn open(&self) -> Result<(), KeyError> {
        let opened = tokio::time::timeout(OPENING, self.config.opener.open())
            .await
            .unwrap_or_else(|_elapsed| Err(self.late(OPENING)));
        match opened {
            Ok(provider) => {
                // Whoever was first has the same provider.
                drop(self.provider.set(provider));
                Ok(())
            }
            Err(error) => {
                let reason = format!("it has not come up: {error}");
                let (at, chance) = (self.now(), chance());
                let mut watch = self.watch();
                watch.counts.opened = watch.counts.opened.saturating_add(1);
                watch.last_failure = Some(error.to_string());
                watch.breaker.open(reason, at, chance);
                drop(watch);
                self.changed.notify_waiters();
                Err(error)
            }
        }
    }

    pub(super) fn health(&self) -> Health {
        let watch = self.watch();
        let free = self.room.available_permits();
        Health {
            state: watch.breaker.state(),
            latencies_ms: watch.latencies_ms.iter().copied().collect(),
            in_flight: self.config.in_flight.max(1).saturating_sub(free),
            counts: watch.counts,
            last_good_at_ms: watch.last_good_at_ms,
            last_failure: watch.last_failure.clone(),
        }
    }

    /// Whether calls go through.
    pub(super) fn is_in(&self) -> bool {
        self.watch().breaker.refusal().is_none()
    }

    /// Asks the provider, unless it is out or has enough to do.
    ///
    /// The call has a task of its own: what it comes to is known also when the caller has stopped waiting, and a call that does
    /// not end keeps its place, so that no more than so many ever hang.
    pub(super) async fn call<T, F>(
        self: &Arc<Self>,
        deadline: Duration,
        key: Option<&KeyId>,
        work: impl FnOnce(Arc<dyn KeyProvider>) -> F,
    ) -> Result<T, KeyError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, KeyError>> + Send + 'static,
    {
        let (provider, begun) = self.ask()?;
        let Ok(place) = Arc::clone(&self.room).try_acquire_owned() else {
            let mut watch = self.watch();
            watch.counts.busy = watch.counts.busy.saturating_add(1);
            return Err(KeyError::Busy {
                provider: self.config.name.clone(),
                in_flight: self.config.in_flight.max(1),
            });
        };
        let (answer, answered) = oneshot::channel();
        let (member, key) = (Arc::clone(self), key.cloned());
        let work = work(provider);
        tokio::spawn(async move {
            let mut work = Box::pin(work);
            let since = Instant::now();
            if let Ok(result) = tokio::time::timeout(deadline, &mut work).await {
                member.note(begun, &result, since.elapsed());
                drop(answer.send(result));
            } else {
                let late = member.timed_out(begun, deadline, key);
                drop(answer.send(Err(late)));
                // The provider is still at it, and its answer is nobody's any more.
                drop(work.await);
            }
            drop(place);
        });
        answered.await.unwrap_or_else(|_| {
            Err(KeyError::Unavailable {
                reason: format!(
                    "the call of the key provider {} was ended",
                    self.config.name
                ),
            })
        })
    }

    /// Asks the provider whether it could sign, and tells the breaker.
    pub(super) async fn probe(&self) -> Result<(), KeyError> {
        let _one = self.probing.lock().await;
        let begun = self.watch().breaker.probing();
        let since = Instant::now();
        let limit = self.config.deadline;
        let answer = match self.provider.get() {
            Some(provider) => tokio::time::timeout(limit, provider.probe(provider.name()))
                .await
                .unwrap_or_else(|_elapsed| Err(self.late(limit))),
            None => tokio::time::timeout(OPENING, self.config.opener.open())
                .await
                .unwrap_or_else(|_elapsed| Err(self.late(OPENING)))
                .map(|provider| drop(self.provider.set(provider))),
        };
        let outcome = match &answer {
            Ok(()) => Outcome::Answered {
                latency_ms: millis(since.elapsed()),
            },
            Err(error) => Outcome::Failed {
                reason: error.to_string(),
            },
        };
        let (at, chance) = (self.now(), chance());
        let mut watch = self.watch();
        watch.asked_at_ms = at.steady_ms;
        let was_in = watch.breaker.refusal().is_none();
        watch.breaker.probed(begun, &outcome, at, chance);
        let is_in = watch.breaker.refusal().is_none();
        if let Outcome::Failed { reason } = outcome {
            watch.last_failure = Some(reason);
        }
        if was_in && !is_in {
            watch.counts.opened = watch.counts.opened.saturating_add(1);
        }
        drop(watch);
        if was_in != is_in {
            tracing::warn!(
                provider = self.config.name,
                usable = is_in,
                "a health probe has settled it"
            );
        }
        answer
    }

    /// Whether a call may go to the provider now.
    fn ask(&self) -> Result<(Arc<dyn KeyProvider>, Begun), KeyError> {
        let now_ms = self.now().steady_ms;
        let mut watch = self.watch();
        let reason = match (watch.breaker.refusal(), self.provider.get()) {
            (None, Some(provider)) => {
                watch.asked_at_ms = now_ms;
                return Ok((Arc::clone(provider), watch.breaker.calling()));
            }
            (Some(reason), _) => reason.to_owned(),
            (None, None) => "it has not come up yet".to_owned(),
        };
        watch.counts.refused = watch.counts.refused.saturating_add(1);
        Err(KeyError::Out {
            provider: self.config.name.clone(),
            reason,
        })
    }

    fn note<T>(&self, begun: Begun, result: &Result<T, KeyError>, took: Duration) {
        let (at, chance, latency_ms) = (self.now(), chance(), millis(took));
        let mut watch = self.watch();
        let opened = match result.as_ref().err().filter(|error| !is_answer(error)) {
            None => {
                let outcome = Outcome::Answered { latency_ms };
                let slow = watch.breaker.is_slow(latency_ms);
                let count = if slow {
                    &mut watch.counts.slow
                } else {
                    &mut watch.counts.good
                };
                *count = count.saturating_add(1);
                watch.last_good_at_ms = Some(at.wall_ms);
                if watch.latencies_ms.len() == SHOWN {
                    watch.latencies_ms.pop_front();
                }
                watch.latencies_ms.push_back(latency_ms);
                watch.breaker.called(begun, &outcome, at, chance)
            }
            Some(error) => {
                let reason = error.to_string();
                let count = if matches!(error, KeyError::Timeout { .. }) {
                    &mut watch.counts.timed_out
                } else {
                    &mut watch.counts.failed
                };
                *count = count.saturating_add(1);
                watch.last_failure = Some(reason.clone());
                let is_in = watch.breaker.refusal().is_none() && watch.breaker.counts(begun);
                if error.needs_a_person() && is_in {
                    watch.breaker.open(reason, at, chance);
                    true
                } else {
                    watch
                        .breaker
                        .called(begun, &Outcome::Failed { reason }, at, chance)
                }
            }
        };
        self.if_opened(opened, watch);
    }

    fn timed_out(&self, begun: Begun, deadline: Duration, key: Option<KeyId>) -> KeyError {
        let error = match key {
            Some(id) => KeyError::Timeout {
                id,
                deadline_ms: millis(deadline),
            },
            None => self.late(deadline),
        };
        let (at, chance) = (self.now(), chance());
        let mut watch = self.watch();
        watch.counts.timed_out = watch.counts.timed_out.saturating_add(1);
        let reason = error.to_string();
        watch.last_failure = Some(reason.clone());
        let opened = watch
            .breaker
            .called(begun, &Outcome::Failed { reason }, at, chance);
        self.if_opened(opened, watch);
        error
    }

    fn if_opened(&self, opened: bool, mut watch: MutexGuard<'_, Watch>) {
        if !opened {
            return;
        }
        watch.counts.opened = watch.counts.opened.saturating_add(1);
        let reason = watch.breaker.refusal().unwrap_or_default().to_owned();
        drop(watch);
        tracing::warn!(
            provider = self.config.name,
            reason,
            "the key provider is out"
        );
        self.changed.notify_waiters();
    }

    fn late(&self, limit: Duration) -> KeyError {
        KeyError::Unavailable {
            reason: format!(
                "{} did not answer within {} ms",
                self.config.name,
                millis(limit)
            ),
        }
    }

    /// How long until a probe is due.
    fn until_probe(&self) -> Duration {
        let now_ms = self.now().steady_ms;
        let watch = self.watch();
        let due_ms = watch.breaker.probe_at_ms().unwrap_or_else(|| {
            let every = millis(self.config.probe_every);
            watch.asked_at_ms.saturating_add(every)
        });
        Duration::from_millis(due_ms.saturating_sub(now_ms))
    }

    fn now(&self) -> Moment {
        Moment {
            steady_ms: millis(self.epoch.elapsed()),
            wall_ms: Timestamp::now().as_millisecond(),
        }
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Probes a member whenever that is due.
pub(super) async fn keep_probing(member: Arc<Member>) {
    loop {
        let changed = member.changed.notified();
        let wait = member.until_probe();
        if !wait.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = changed => {}
            }
            continue; // it may have been asked meanwhile, or have gone out
        }
        if let Err(error) = member.probe().await {
            tracing::debug!(provider = member.name(), %error, "a health probe failed");
        }
        if matches!(member.health().state, HealthState::HalfOpen { .. }) {
            tokio::time::sleep(Duration::from_millis(member.config.breaker.pause_ms)).await;
        }
    }
}

/// An error that says that the provider works and the caller is wrong.
fn is_answer(error: &KeyError) -> bool {
    match error {
        KeyError::NotFound { .. }
        | KeyError::AlreadyExists { .. }
        | KeyError::Refused { .. }
        | KeyError::WrongPurpose { .. }
        | KeyError::WrongAlgorithm { .. }
        | KeyError::Unsupported { .. }
        | KeyError::NoSuchProvider { .. }
        | KeyError::Token(TokenProblem::KeyForbidden { .. }) => true,
        KeyError::Busy { .. }
        | KeyError::Out { .. }
        | KeyError::Unavailable { .. }
        | KeyError::Timeout { .. }
        | KeyError::Corrupt { .. }
        | KeyError::WrongGuard { .. }
        | KeyError::Unsafe { .. }
        | KeyError::Token(_) => false,
    }
}

fn chance() -> u8 {
    let mut byte = [0];
    // Without randomness the pauses are merely all alike.
    match SystemRandom::new().fill(&mut byte) {
        Ok(()) => byte[0],
        Err(_) => 0,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
