//! The thread that writes the queue's file: what waits is written together, synced once, and then answered.

use super::file::{AppendError, QueueFile};
use super::frame::Body;
use super::state::{Place, Room, State};
use super::{Entry, QueueError, Ticket};
use crate::requests::RequestKey;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::{mpsc, oneshot, watch};

/// Where the tickets go.
type Answer = oneshot::Sender<Result<Vec<Ticket>, QueueError>>;

/// What the thread is asked to write.
#[derive(Debug)]
pub(super) enum Message {
    /// New tickets.
    Accept {
        entries: Vec<Entry>,
        /// The room that was reserved for them.
        reserved: Room,
        answer: Answer,
    },
    /// Tickets that were sealed: in memory they are settled already.
    Settled(Vec<(Ticket, Place)>),
    /// The leaves of settled tickets are to be gone from the file.
    Purge(oneshot::Sender<Result<(), QueueError>>),
}

/// The thread, as data.
pub(super) struct Keeper {
    pub(super) file: QueueFile,
    pub(super) state: Arc<Mutex<State>>,
    /// Set for ever by the first sync that failed.
    pub(super) broken: Arc<OnceLock<String>>,
    pub(super) changes: watch::Sender<u64>,
}

/// New tickets of a group, until the group is durable.
#[derive(Default)]
struct Draft {
    body: Body,
    new: Vec<(Ticket, Entry)>,
    requests: HashMap<RequestKey, Ticket>,
    reserved: Vec<Room>,
    answers: Vec<(Vec<Ticket>, Answer)>,
    purges: Vec<oneshot::Sender<Result<(), QueueError>>>,
}

impl Keeper {
    /// Works until all senders are gone.
    pub(super) fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        while let Some(first) = messages.blocking_recv() {
            let mut draft = Draft::default();
            self.add(&mut draft, first);
            while !draft.body.is_full()
                && let Ok(next) = messages.try_recv()
            {
                self.add(&mut draft, next);
            }
            let purges = std::mem::take(&mut draft.purges);
            self.commit(draft);
            if purges.is_empty() {
                self.tidy();
                continue;
            }
            let purged = self.purge();
            for answer in purges {
                drop(answer.send(purged.clone()));
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, draft: &mut Draft, message: Message) {
        match message {
            Message::Purge(answer) => draft.purges.push(answer),
            Message::Settled(settled) => {
                for (ticket, place) in settled {
                    draft.body.settled(ticket, place);
                }
            }
            Message::Accept {
                entries,
                reserved,
                answer,
            } => {
                let tickets = entries
                    .into_iter()
                    .map(|entry| self.ticket(draft, entry))
                    .collect();
                draft.reserved.push(reserved);
                draft.answers.push((tickets, answer));
            }
        }
    }

    /// The ticket of a request: one that it has already, or a new one.
    fn ticket(&self, draft: &mut Draft, entry: Entry) -> Ticket {
        if let Some(key) = &entry.key {
            let waiting = self.state().of_request(key).map(|(ticket, _)| ticket);
            if let Some(ticket) = draft.requests.get(key).copied().or(waiting) {
                return ticket;
            }
        }
        let ticket = Ticket(uuid::Uuid::new_v4().into_bytes());
        if let Some(key) = entry.key {
            draft.requests.insert(key, ticket);
        }
        draft.body.accepted(ticket, &entry);
        draft.new.push((ticket, entry));
        ticket
    }

    fn commit(&mut self, draft: Draft) {
        let outcome = self.write(&draft.body);
        {
            let mut state = self.state();
            for room in draft.reserved {
                state.release(room);
            }
            if outcome.is_ok() {
                for (ticket, entry) in draft.new {
                    state.add(ticket, entry);
                }
            }
        }
        self.changes.send_modify(|count| *count += 1);
        for (tickets, answer) in draft.answers {
            // A caller that went away may ask again under its request id.
            drop(answer.send(outcome.clone().map(|()| tickets)));
        }
    }

    fn write(&mut self, body: &Body) -> Result<(), QueueError> {
        if let Some(reason) = self.broken.get() {
            return Err(QueueError::Broken(reason.clone()));
        }
        if body.is_empty() {
            return Ok(());
        }
        self.file.append(body).map_err(|error| match error {
            AppendError::NotWritten(error) => {
                tracing::warn!(%error, "the durable queue cannot be written");
                QueueError::NotWritten(error.to_string())
            }
            AppendError::Broken(error) => {
                tracing::error!(%error, "the durable queue's file is not to be trusted any more");
                let reason = error.to_string();
                // Only this thread sets it.
                drop(self.broken.set(reason.clone()));
                QueueError::Broken(reason)
            }
        })
    }

    /// Writes the file anew when most of it is history.
    fn tidy(&mut self) {
        let live = self.state().live();
        if self.broken.get().is_none() && self.file.is_stale(live) {
            // Whoever writes next hears of it.
            drop(self.rewrite());
        }
    }

    /// Writes the file anew without the leaves of settled tickets.
    fn purge(&mut self) -> Result<(), QueueError> {
        if let Some(reason) = self.broken.get() {
            return Err(QueueError::Broken(reason.clone()));
        }
        self.rewrite()?;
        let torn = self.file.forget_torn();
        torn.map_err(|error| QueueError::NotWritten(error.to_string()))
    }

    fn rewrite(&mut self) -> Result<(), QueueError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.file.rewrite(&state).map_err(|error| {
            // The old file stays in its place unless the rename happened, and then it holds the same.
            tracing::error!(%error, "the durable queue could not be written anew");
            let reason = error.to_string();
            drop(self.broken.set(reason.clone()));
            QueueError::Broken(reason)
        })
    }
}
