//! Following the event log: fold, detect, and do what is pending.
//!
//! One task does all of it, in order. While it catches up it only folds; at the live edge whatever the state still lacks is done. So a restart, a crash at any
//! point and ordinary running are one path.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sealwarden_engine::{ExecuteError, Node, decode};
use sealwarden_eventlog::{Delivery, Filter, ReadError, Recorded, Subscription};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::duties::Agenda;
use crate::expiring;
use crate::pending::{Effect, pending};
use crate::perform::perform;
use crate::state::State;

/// How long to wait before an effect that could not be stored is tried again: at first, and at most.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(5);

/// The shortest and longest pause before it is looked again at what only time brings.
const DUTY_LEAST: Duration = Duration::from_millis(10);
const DUTY_MOST: Duration = Duration::from_mins(1);

/// The folded state, shared with the handlers of calls.
pub(crate) struct Watch {
    state: RwLock<State>,
    position: watch::Sender<u64>,
    /// Whether everything that was stored is folded.
    live: watch::Sender<bool>,
}

impl Watch {
    pub(crate) fn new() -> Self {
        Self {
            state: RwLock::new(State::default()),
            position: watch::Sender::new(0),
            live: watch::Sender::new(false),
        }
    }

    /// Looks at the state. Keep it short: the follower waits meanwhile.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until `look` gives a value, looking again after each commit.
    pub(crate) async fn wait_until<T>(&self, mut look: impl FnMut(&State) -> Option<T>) -> T {
        let mut changes = self.position.subscribe();
        loop {
            changes.mark_unchanged();
            if let Some(found) = self.read(&mut look) {
                return found;
            }
            // The sender lives in `self`, so waiting cannot fail.
            let _ = changes.changed().await;
        }
    }

    /// Waits until everything that was stored is folded.
    pub(crate) async fn live(&self) {
        let mut live = self.live.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        drop(live.wait_for(|live| *live).await);
    }

    /// Tells of each commit that was folded, by its position.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.position.subscribe()
    }

    /// Incidents that may have something to tell, and those of which something was recorded as told, since the last time this was asked.
    pub(crate) fn tidings(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        if self.read(|state| state.tidings.is_empty() && state.recorded.is_empty()) {
            return (BTreeSet::new(), BTreeSet::new()); // most commits are none of ours
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let tidings = std::mem::take(&mut state.tidings);
        (tidings, std::mem::take(&mut state.recorded))
    }

    /// Incidents of which something was folded since the last time this was asked.
    fn touched(&self) -> BTreeSet<String> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.touched)
    }

    fn take_in(&self, recorded: &Recorded) {
        match decode(recorded) {
            Ok(commit) => {
                let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
                state.take_in(&commit, recorded.head());
            }
            Err(error) => tracing::error!(%error, "a commit is passed over"),
        }
        self.position.send_replace(recorded.position);
    }
}

/// The task's own memory; all of it can be lost.
struct Follower {
    node: Arc<Node>,
    watch: Arc<Watch>,
    /// Whether everything that is stored was folded.
    live: bool,
    /// Effects that were carried out, or never can be, and that the state does not show yet.
    settled: BTreeSet<String>,
    retry: Option<(Instant, Duration)>,
    /// When something has to be said of duties to notify.
    agenda: Agenda,
    /// How long before its end a seal certificate is told of, milliseconds; none: never.
    warn_ms: Option<i64>,
}

/// Follows until shutdown. An error ends the process: the log is damaged or closed.
pub(crate) async fn follow(
    node: Arc<Node>,
    watch: Arc<Watch>,
    warn_ms: Option<i64>,
) -> anyhow::Result<()> {
    let mut follower = Follower {
        node,
        watch,
        live: false,
        settled: BTreeSet::new(),
        retry: None,
        agenda: Agenda::default(),
        warn_ms,
    };
    let shutdown = follower.node.shutdown.clone();
    let Some(mut subscription) = follower.subscribe().await? else {
        return Ok(());
    };
    loop {
        let retry_at = follower.retry.map(|(at, _)| at);
        let due_at = follower.due_at();
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            delivery = subscription.next() => follower.delivered(delivery)?,
            () = sleep_until(retry_at) => follower.retry = follower.retry.map(|(_, wait)| (Instant::now(), wait)),
            () = sleep_until(due_at) => {}
        }
        follower.act().await;
    }
}

/// Sleeps until then; for ever if it is never.
pub(crate) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Follower {
    /// Subscribes from the beginning, waiting for a log that cannot be reached yet. `None` at shutdown.
    async fn subscribe(&self) -> anyhow::Result<Option<Subscription>> {
        let mut wait = RETRY_FIRST;
        loop {
            match self.node.log.subscribe(Filter::All, 0).await {
                Ok(subscription) => return Ok(Some(subscription)),
                Err(error @ ReadError::Corrupt { .. }) => return Err(error.into()),
                Err(error @ ReadError::Unavailable { .. }) => {
                    tracing::warn!(%error, "the event log cannot be followed yet");
                }
            }
            tokio::select! {
                () = self.node.shutdown.cancelled() => return Ok(None),
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(RETRY_LAST),
            }
        }
    }

    fn delivered(&mut self, delivery: Option<Result<Delivery, ReadError>>) -> anyhow::Result<()> {
        match delivery {
            Some(Ok(Delivery::Commit(recorded))) => self.watch.take_in(&recorded),
            Some(Ok(Delivery::CaughtUp(_))) => {
                self.live = true;
                self.watch.live.send_replace(true);
            }
            Some(Ok(Delivery::Damaged(damage))) => {
                let (stream, position) = (&damage.stream, damage.position);
                tracing::error!(%stream, position, reason = damage.reason, "a stream is damaged");
                self.watch.position.send_replace(position);
            }
            Some(Err(error @ ReadError::Unavailable { .. })) => {
                tracing::warn!(%error, "following the event log is interrupted");
            }
            Some(Err(error @ ReadError::Corrupt { .. })) => return Err(error.into()),
            None => anyhow::bail!("the event log was closed"),
        }
        Ok(())
    }

    async fn act(&mut self) {
        if !self.live || self.retry.is_some_and(|(at, _)| at > Instant::now()) {
            return;
        }
        let now_ms = self.node.clock.now().wall_ms;
        let touched = self.watch.touched();
        let (agenda, node, warn_ms) = (&mut self.agenda, &self.node, self.warn_ms);
        let effects = self.watch.read(|state| {
            let mut effects = pending(state, node.plan.plan(), now_ms);
            effects.extend(agenda.due(state, touched, node.plan.regimes(), now_ms));
            effects.extend(expiring::due(state, warn_ms, now_ms));
            effects.extend(state.watching.due(&node.plan, now_ms));
            effects
        });
        let keys: BTreeSet<String> = effects.iter().map(Effect::key).collect();
        self.settled.retain(|key| keys.contains(key));
        for effect in effects {
            let key = effect.key();
            if self.settled.contains(&key) {
                continue;
            }
            match perform(&self.node, &self.watch, effect).await {
                Ok(()) => {
                    self.settled.insert(key);
                }
                Err(error) if may_pass(&error) => {
                    tracing::warn!(effect = %key, %error, "it is tried again");
                    self.back_off();
                    return;
                }
                Err(error) => {
                    tracing::error!(effect = %key, %error, "it cannot be done");
                    self.settled.insert(key);
                }
            }
        }
        self.retry = None;
    }

    /// When to look at duties and certificates again. The clock of the wall may be set meanwhile, so never in more than a minute.
    fn due_at(&self) -> Option<Instant> {
        let warn_ms = self.warn_ms;
        let now_ms = self.node.clock.now().wall_ms;
        let (ending, ticking) = self.watch.read(|state| {
            let ending = expiring::next_ms(state, warn_ms, now_ms);
            (ending, state.watching.tick_ms())
        });
        let next_ms = self.agenda.next_ms();
        let next_ms = next_ms.into_iter().chain(ending).chain(ticking).min();
        let at_ms = next_ms.filter(|_| self.live)?;
        let left_ms = at_ms.saturating_sub(now_ms);
        let wait = Duration::from_millis(u64::try_from(left_ms).unwrap_or(0));
        Some(Instant::now() + wait.clamp(DUTY_LEAST, DUTY_MOST))
    }

    fn back_off(&mut self) {
        let wait = self
            .retry
            .map_or(RETRY_FIRST, |(_, wait)| (wait * 2).min(RETRY_LAST));
        self.retry = Some((Instant::now() + wait, wait));
    }
}

fn may_pass(error: &ExecuteError) -> bool {
    match error {
        ExecuteError::Unavailable(_) | ExecuteError::Unknown(_) => true,
        ExecuteError::Rejected(_)
        | ExecuteError::Illegal(_)
        | ExecuteError::Decode(_)
        | ExecuteError::Broken(_) => false,
    }
}
