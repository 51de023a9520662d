//! The durable queue: requests that wait while they cannot be signed, each under a ticket.
//!
//! - `frame`: the file's bytes, and what a crash may have left of them.
//! - `file`: appending with one `fdatasync` a group, rewriting when most of it is settled.
//! - `state`: what the file says, in memory.
//! - `keeper`: the one thread that writes the file.
//!
//! **Invariants.** A ticket is durable before it is handed out. Its leaf, nonce included, is fixed then, so a seal of it can be
//! recognised in the tree whatever happened in between: each ticket ends in one leaf. Within a priority, tickets are drawn in
//! the order in which they were accepted. Count and bytes are bounded; what is over the bound is refused before it is written.

mod file;
mod frame;
mod keeper;
mod state;

#[cfg(test)]
mod tests;

pub(crate) use frame::QueueDamage;
pub(crate) use state::{Drawn, Look, Place};

use crate::requests::RequestKey;
use keeper::{Keeper, Message};
use sealwarden_seal::record::Nonce;
use sealwarden_seallog::{Leaf, Published};
use state::State;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::{mpsc, oneshot, watch};

/// Groups that wait for the keeper's thread; a sender waits for room.
const MESSAGES: usize = 1_024;

/// Whether a request may wait behind others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Priority {
    /// Drained first; sealed at once in mode `queue-noncritical`.
    Critical,
    /// Everything else.
    #[default]
    Normal,
}

/// A ticket's id: 16 random bytes, `T-` and their hex outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(crate) [u8; 16]);

impl Ticket {
    /// Reads a ticket as it is handed out.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let id = uuid::Uuid::try_parse(text.strip_prefix("T-")?).ok()?;
        let ticket = Self(id.into_bytes());
        (ticket.to_string() == text).then_some(ticket)
    }
}

impl std::fmt::Display for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "T-{}", uuid::Uuid::from_bytes(self.0).as_simple())
    }
}

/// A request that is to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Which ones go first.
    pub(crate) priority: Priority,
    /// What becomes its leaf, whenever that is.
    pub(crate) leaf: Leaf,
    /// The client's own id of the request, if it gave one.
    pub(crate) key: Option<RequestKey>,
    /// Epoch and published size of the tree when it was accepted: its leaf cannot be before that.
    pub(crate) since: Place,
}

/// How much may wait, and how much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Tickets that wait at most.
    pub(crate) tickets: usize,
    /// Bytes that they count for at most.
    pub(crate) bytes: u64,
    /// Settled tickets that are remembered.
    pub(crate) kept: usize,
}

/// Why a request was not queued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueueError {
    /// The bound on the number or on the bytes.
    #[error(
        "{tickets} requests with {bytes} bytes wait in the durable queue already, which is this node's limit"
    )]
    Full {
        /// How many wait.
        tickets: usize,
        /// What they count for.
        bytes: u64,
    },
    /// Nothing was written; the queue goes on.
    #[error("the durable queue cannot be written: {0}")]
    NotWritten(String),
    /// What is on the disk is not known any more.
    #[error("the durable queue's file cannot be trusted any more: {0}")]
    Broken(String),
    /// The process ends.
    #[error("the durable queue is closed")]
    Closed,
}

/// The queue. Cheap to share; the file is closed when the last owner is gone.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Arc<Mutex<State>>,
    limits: Limits,
    keeper: mpsc::Sender<Message>,
    broken: Arc<OnceLock<String>>,
    /// Counts changes: tickets accepted or settled.
    changes: watch::Sender<u64>,
}

impl Queue {
    /// Opens the queue in `dir`, or begins it. Blocks its thread.
    pub(crate) fn open(dir: &Path, limits: Limits) -> Result<Self, QueueDamage> {
        let (file, state) = file::QueueFile::open(dir, limits.kept)?;
        Ok(Self::start(file, state, limits))
    }

    fn start(file: file::QueueFile, state: State, limits: Limits) -> Self {
        let state = Arc::new(Mutex::new(state));
        let broken = Arc::new(OnceLock::new());
        let changes = watch::Sender::new(0);
        let (keeper, messages) = mpsc::channel(MESSAGES);
        let thread = Keeper {
            file,
            state: Arc::clone(&state),
            broken: Arc::clone(&broken),
            changes: changes.clone(),
        };
        std::thread::spawn(move || thread.run(messages));
        Self {
            state,
            limits,
            keeper,
            broken,
            changes,
        }
    }

    /// Makes requests durable, in their order, and answers their tickets. A request whose id waits already gets that ticket.
    pub(crate) async fn accept(&self, entries: Vec<Entry>) -> Result<Vec<Ticket>, QueueError> {
        if let Some(reason) = self.broken.get() {
            return Err(QueueError::Broken(reason.clone()));
        }
        let reserved = self.reserve(&entries)?;
        let (answer, answered) = oneshot::channel();
        let message = Message::Accept {
            entries,
            reserved,
            answer,
        };
        if self.keeper.send(message).await.is_err() {
            self.state().release(reserved);
            return Err(QueueError::Closed);
        }
        answered.await.unwrap_or(Err(QueueError::Closed))
    }

    fn reserve(&self, entries: &[Entry]) -> Result<state::Room, QueueError> {
        let wanted = state::Room::of(entries);
        let mut state = self.state();
        let taken = state.taken();
        let fits = taken.tickets.saturating_add(wanted.tickets) <= self.limits.tickets
            && taken.bytes.saturating_add(wanted.bytes) <= self.limits.bytes;
        if !fits {
            return Err(QueueError::Full {
                tickets: taken.tickets,
                bytes: taken.bytes,
            });
        }
        state.reserve(wanted);
        Ok(wanted)
    }

    /// The tickets that are next, without taking them out: only their seal does that.
    pub(crate) fn draw(&self, limit: usize, least: Priority) -> Vec<Drawn> {
        self.state().draw(limit, least)
    }

    /// Whether anything of this priority, or a higher one, waits.
    pub(crate) fn waits(&self, least: Priority) -> bool {
        self.state().waits(least)
    }

    /// Settles those tickets whose leaves were published, wherever they came from.
    pub(crate) async fn published(&self, tree: u64, published: &Published) {
        let settled = {
            let mut state = self.state();
            if state.taken().tickets == 0 {
                return;
            }
            (published.first_index..)
                .zip(published.leaves().iter())
                .filter_map(|(index, leaf)| {
                    let place = Place { tree, index };
                    let ticket = state.by_nonce(leaf.nonce)?;
                    state.settle(ticket, place).then_some((ticket, place))
                })
                .collect()
        };
        self.record(settled).await;
    }

    /// Settles tickets whose requests were sealed under other nonces.
    pub(crate) async fn settle(&self, places: Vec<(Ticket, Place)>) {
        let settled = {
            let mut state = self.state();
            places
                .into_iter()
                .filter(|(ticket, place)| state.settle(*ticket, *place))
                .collect()
        };
        self.record(settled).await;
    }

    /// The file follows: a crash before it does is made good by looking into the tree.
    async fn record(&self, settled: Vec<(Ticket, Place)>) {
        if settled.is_empty() {
            return;
        }
        self.changes.send_modify(|count| *count += 1);
        if self.keeper.send(Message::Settled(settled)).await.is_err() {
            tracing::warn!(
                "the durable queue is closed: settled tickets are found again in the tree"
            );
        }
    }

    /// What is known of a ticket.
    pub(crate) fn look(&self, ticket: Ticket) -> Option<Look> {
        self.state().look(ticket)
    }

    /// The waiting ticket of a client's request, with its leaf.
    pub(crate) fn of_request(&self, key: &RequestKey) -> Option<(Ticket, Leaf)> {
        self.state().of_request(key)
    }

    /// The waiting ticket with this leaf.
    pub(crate) fn of_nonce(&self, nonce: &Nonce) -> Option<Ticket> {
        self.state().by_nonce(nonce)
    }

    /// How many tickets wait, and the bytes that they count for.
    pub(crate) fn waiting(&self) -> (usize, u64) {
        let taken = self.state().taken();
        (taken.tickets, taken.bytes)
    }

    /// The earliest place where a waiting ticket's leaf may be; `None` if none waits.
    pub(crate) fn earliest(&self) -> Option<Place> {
        self.state().earliest()
    }

    /// The waiting tickets whose leaf fits.
    pub(crate) fn that_fit(&self, fits: impl FnMut(&Leaf) -> bool) -> Vec<Ticket> {
        self.state().that_fit(fits)
    }

    /// Takes tickets out that are never to be sealed, and their leaves out of the file: durable when it returns. Answers how many of them waited. The caller
    /// holds [`crate::service::Service::batching`], so that none of them is in a batch.
    pub(crate) async fn withdraw(&self, tickets: &[Ticket]) -> Result<usize, QueueError> {
        let count = {
            let mut state = self.state();
            let waited = tickets.iter().filter(|ticket| state.withdraw(**ticket));
            waited.count()
        };
        self.changes.send_modify(|count| *count += 1);
        self.purge().await?;
        Ok(count)
    }

    /// Takes the leaves of all settled tickets out of the file: durable when it returns.
    pub(crate) async fn purge(&self) -> Result<(), QueueError> {
        let (answer, answered) = oneshot::channel();
        if self.keeper.send(Message::Purge(answer)).await.is_err() {
            return Err(QueueError::Closed);
        }
        answered.await.unwrap_or(Err(QueueError::Closed))
    }

    /// Told of every change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
