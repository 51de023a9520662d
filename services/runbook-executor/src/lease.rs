//! This executor's lease, and what is known of the others'.
//!
//! An executor that is alone in its installation needs none: it always may act. As soon as another one is enrolled, it acts only while its lease lasts, which it
//! prolongs while runs are open. It counts from before it asked; what it asks of others it counts from when it saw them. Both count on `CLOCK_BOOTTIME`, which goes on
//! while a machine sleeps or a process is suspended.
//!
//! **Invariant:** work that began under a lease that has run out is not polled any more, whatever it waits for: see [`Lease::fenced`].

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use sealwarden_domain::lease::{Command, Lease as OnRecord, decide};
use sealwarden_domain::run::Known;
use sealwarden_engine::{Clock, ExecuteError, Node, Role, Stream};
use tokio::sync::watch;

use crate::executor::Executor;

/// How long may be waited for the log's last position: without it nobody is called gone.
const LOOK: Duration = Duration::from_secs(2);

/// What is known of the other executors' leases.
pub(crate) type Others = BTreeMap<String, Known>;

/// What this process may do, and who else does nothing any more. Shared by all drivers.
pub(crate) struct Lease {
    clock: Arc<dyn Clock>,
    held: Mutex<Held>,
    others: Mutex<Arc<Others>>,
    /// Counts what changed: a lease that is held again, others' that are over.
    changed: watch::Sender<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Held {
    /// Until when it may act, `CLOCK_BOOTTIME` in milliseconds; `None` while it is alone.
    until_boot_ms: Option<u64>,
    /// Grows with each lease that ran out.
    generation: u64,
}

impl Lease {
    /// The lease of an executor that is alone.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            held: Mutex::default(),
            others: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    /// From the start of a process that has peers: nothing is done before it holds a lease.
    pub(crate) fn is_needed(&self) {
        self.held().until_boot_ms = Some(0);
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The generation under which this process may act now, if it may. What was begun under another one has to be taken over.
    pub(crate) fn standing(&self) -> Option<u64> {
        let (held, now) = (*self.held(), self.clock.now().boot_ms);
        held.until_boot_ms
            .is_none_or(|until| now < until)
            .then_some(held.generation)
    }

    /// Whether this process ever held a lease: then others may take over what it holds.
    pub(crate) fn is_shared(&self) -> bool {
        self.held().until_boot_ms.is_some()
    }

    /// What is known of the others' leases.
    pub(crate) fn others(&self) -> Arc<Others> {
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&others)
    }

    fn know(&self, others: Others) {
        *self.others.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(others);
    }

    /// Tells when there is something new about leases.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn tell(&self) {
        self.changed
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Work that goes on only while the lease of this generation lasts: it is looked at before each poll, so between that look and what the work sends next no time is
    /// left but that of a poll.
    pub(crate) fn fenced<F: Future>(self: &Arc<Self>, generation: u64, work: F) -> Fenced<F> {
        Fenced {
            lease: Arc::clone(self),
            generation,
            work: Box::pin(work),
        }
    }
}

/// Work under a lease; `None` where that ran out first.
pub(crate) struct Fenced<F> {
    lease: Arc<Lease>,
    generation: u64,
    work: Pin<Box<F>>,
}

impl<F: Future> Future for Fenced<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.lease.standing() != Some(self.generation) {
            return Poll::Ready(None);
        }
        self.work.as_mut().poll(cx).map(Some)
    }
}

/// When this process saw the newest renewal of another executor.
struct Seen {
    lease: OnRecord,
    at_boot_ms: u64,
    /// Everything that was stored when it should have been prolonged was looked at: it was not.
    is_over: bool,
}

/// Keeps the lease, and watches those of the others.
struct Keeper {
    executor: Arc<Executor>,
    stream: Stream<OnRecord>,
    /// The epoch that it began and that has not run out.
    epoch: Option<u64>,
    others: BTreeMap<String, Seen>,
}

/// Whether other executors are enrolled.
pub(crate) fn has_peers(node: &Node) -> bool {
    node.board.read(|installation| {
        let executors = installation.nodes.values().filter(|node| {
            let enrolled = node.enrolled.as_ref();
            enrolled.is_some_and(|enrolled| enrolled.role == Role::RunbookExecutor.as_str())
        });
        executors.count() > 1
    })
}

/// Keeps the lease until shutdown. An error means that another process runs under the same name: this one must end.
pub(crate) async fn run(executor: Arc<Executor>) -> anyhow::Result<()> {
    let node = Arc::clone(&executor.node);
    let mut changes = node.board.changes();
    while !has_peers(&node) {
        tokio::select! {
            () = node.shutdown.cancelled() => return Ok(()),
            _ = changes.changed() => {}
        }
    }
    let every = Duration::from_millis(executor.config.lease_ms / 5);
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut keeper: Option<Keeper> = None;
    loop {
        tokio::select! {
            () = node.shutdown.cancelled() => break,
            _ = ticks.tick() => {}
            _ = changes.changed(), if executor.lease.standing().is_none() => {}
        }
        let outcome = match &mut keeper {
            Some(keeper) => keeper.tick().await,
            None => match node.stream::<OnRecord>("executor", &node.name).await {
                Ok(stream) => {
                    let kept = keeper.insert(Keeper::new(Arc::clone(&executor), stream));
                    kept.tick().await
                }
                Err(error) => Err(error),
            },
        };
        match outcome {
            Ok(()) => {}
            Err(ExecuteError::Unavailable(reason) | ExecuteError::Unknown(reason)) => {
                tracing::warn!(reason, "this executor's lease cannot be prolonged now");
            }
            Err(error) => return Err(anyhow::anyhow!("this executor's lease: {error}")),
        }
    }
    if let Some(mut keeper) = keeper {
        keeper.release().await;
    }
    Ok(())
}

impl Keeper {
    fn new(executor: Arc<Executor>, stream: Stream<OnRecord>) -> Self {
        Self {
            executor,
            stream,
            epoch: None,
            others: BTreeMap::new(),
        }
    }

    async fn tick(&mut self) -> Result<(), ExecuteError> {
        if !self.executor.lease.is_shared() || self.has_open_runs() {
            self.prolong().await?;
        }
        self.watch().await;
        Ok(())
    }

    fn now(&self) -> u64 {
        self.executor.node.clock.now().boot_ms
    }

    /// A lease that ran out is not prolonged: a new epoch begins.
    async fn prolong(&mut self) -> Result<(), ExecuteError> {
        self.forfeit_if_over();
        let lease_ms = self.executor.config.lease_ms;
        let command = match self.epoch {
            Some(epoch) => Command::Renew { epoch, lease_ms },
            None => Command::Begin { lease_ms },
        };
        let sent = self.now();
        self.say(command).await?;
        let lost = self.epoch.is_some() && self.forfeit_if_over();
        if lost {
            return Ok(()); // what was stored late is of an epoch that is over; the next tick begins another
        }
        let began = self.epoch.is_none();
        self.epoch = Some(self.stream.state().epoch);
        self.executor.lease.held().until_boot_ms = Some(sent.saturating_add(lease_ms));
        if began {
            tracing::info!(
                epoch = self.stream.state().epoch,
                "this executor holds a lease"
            );
            self.executor.lease.tell();
        }
        Ok(())
    }

    /// Says whether the lease had run out. What was begun under it is this process's no more.
    fn forfeit_if_over(&mut self) -> bool {
        let now = self.now();
        let mut held = self.executor.lease.held();
        let over = held.until_boot_ms.is_some_and(|until| now >= until);
        if over && self.epoch.take().is_some() {
            held.generation = held.generation.saturating_add(1);
            drop(held);
            tracing::warn!(
                "this executor's lease ran out: whatever it was doing is taken over and looked at before anything else is done"
            );
            self.executor.lease.tell();
            return true;
        }
        false
    }

    async fn say(&mut self, command: Command) -> Result<(), ExecuteError> {
        let node = &self.executor.node;
        let decided = self
            .stream
            .execute(node.meta(), |state| decide(state, &node.name, command));
        decided.await.map(drop)
    }

    /// Finds out who is gone. The clock alone does not tell: whoever was suspended itself has not seen yet what was stored meanwhile.
    async fn watch(&mut self) {
        let unsure = |seen: &Seen| !seen.is_over;
        let (silent, _) = self.silent();
        if silent
            .iter()
            .any(|name| self.others.get(name).is_some_and(unsure))
        {
            if !self.is_up_to_date().await {
                return;
            }
            for name in self.silent().0 {
                if let Some(seen) = self
                    .others
                    .get_mut(&name)
                    .filter(|_| silent.contains(&name))
                {
                    seen.is_over = true;
                }
            }
        }
        let (_, position) = self.silent();
        let known = |seen: &Seen| {
            if seen.is_over {
                Known::Over { position }
            } else {
                Known::Lasts
            }
        };
        let others: Others = self
            .others
            .iter()
            .map(|(name, seen)| (name.clone(), known(seen)))
            .collect();
        let lease = &self.executor.lease;
        let before = lease.others();
        let is_new = |name: &String, known: &Known| {
            let was = before.get(name).copied().unwrap_or(Known::Lasts);
            std::mem::discriminant(&was) != std::mem::discriminant(known)
        };
        let news: Vec<&String> = others
            .iter()
            .filter(|(name, known)| is_new(name, known))
            .map(|(name, _)| name)
            .collect();
        if !news.is_empty() && self.has_open_runs() {
            tracing::warn!(
                ?others,
                "leases of other executors changed; what was held under one that is over is taken over"
            );
        }
        let is_news = !news.is_empty();
        lease.know(others);
        if is_news {
            lease.tell();
        }
    }

    fn has_open_runs(&self) -> bool {
        let board = &self.executor.node.board;
        board.read(|i| i.runs.values().any(|run| run.ended.is_none()))
    }

    /// Those whose newest lease has run out or was given back, as far as this process has seen, and how far that is.
    fn silent(&mut self) -> (Vec<String>, u64) {
        let now = self.now();
        let drift_ms = self.executor.config.drift_ms;
        let me = &self.executor.node.name;
        let board = &self.executor.node.board;
        let (leases, position) = board.read(|i| (i.executors.clone(), i.position));
        let mut silent = Vec::new();
        for (name, lease) in leases.into_iter().filter(|(name, _)| name != me) {
            let seen_now = Seen {
                lease,
                at_boot_ms: now,
                is_over: false,
            };
            let seen = match self.others.entry(name.clone()) {
                Entry::Vacant(new) => new.insert(seen_now),
                Entry::Occupied(known) => {
                    let known = known.into_mut();
                    if known.lease != seen_now.lease {
                        *known = seen_now;
                    }
                    known
                }
            };
            let span = seen.lease.lease_ms.saturating_add(drift_ms);
            if seen.lease.released || now >= seen.at_boot_ms.saturating_add(span) {
                silent.push(name);
            }
        }
        (silent, position)
    }

    /// Whether the board has seen everything that is stored now.
    async fn is_up_to_date(&self) -> bool {
        let node = &self.executor.node;
        let look = async {
            match node.log.last_position().await {
                Ok(position) => {
                    node.board.reached(position).await;
                    true
                }
                Err(_) => false,
            }
        };
        tokio::time::timeout(LOOK, look).await.unwrap_or(false)
    }

    /// Gives the lease back, so that others need not wait for its end. From here on nothing of this process acts.
    async fn release(&mut self) {
        let Some(epoch) = self.epoch else { return };
        self.executor.lease.held().until_boot_ms = Some(0);
        let released = tokio::time::timeout(LOOK, self.say(Command::Release { epoch })).await;
        if !matches!(released, Ok(Ok(()))) {
            tracing::warn!(
                "this executor's lease could not be given back; others wait for its end"
            );
        }
    }
}
