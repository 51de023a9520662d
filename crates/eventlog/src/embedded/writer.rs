//! The one writer of an embedded log: a thread that commits in groups.
//!
//! What waits in the queue is decided together, written as one batch, flushed and synced, and only
//! then answered; the next group gathers meanwhile. A crash at any point leaves either the whole
//! group or, before the sync, none or all of it unanswered.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use sled::Batch;
use tokio::sync::{mpsc, oneshot};

use super::durable::Durable;
use super::layout;
use super::space::{Free, check};
use super::store::Store;
use crate::commit::{CommitId, Head, NewCommit, Recorded};
use crate::memory::Clock;
use crate::name::StreamName;
use crate::port::AppendError;

/// Most commits of one group.
const GROUP_COMMITS: usize = 1_024;
/// A group ends with the commit that takes it past this many payload bytes.
const GROUP_BYTES: usize = 8 << 20;

/// Most heads that the writer remembers.
const REMEMBERED_HEADS: usize = 65_536;

/// The answer to one append.
pub(super) type Answer = Result<Recorded, AppendError>;

/// One append on its way to the writer.
pub(super) struct Request {
    pub(super) stream: StreamName,
    pub(super) expected: Head,
    pub(super) commit: NewCommit,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// The stages of a group, in order, for tests of that order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The batch stands in the tree.
    Written,
    /// sled handed it to the operating system.
    Flushed,
    /// It is on the disk.
    Synced,
    /// The callers have their answers.
    Answered,
}

/// The writer's thread, as data.
pub(super) struct Writer {
    pub(super) store: Arc<Store>,
    pub(super) durable: Box<dyn Durable>,
    /// How much room the disk has.
    pub(super) free: Box<Free>,
    pub(super) clock: Box<Clock>,
    pub(super) last_position: u64,
    pub(super) last_ms: i64,
    /// Heads as this writer left them, so that few are looked up.
    pub(super) heads: HashMap<StreamName, Head>,
    /// Set for ever by the first failure to make a group durable: what the kernel dropped then, no
    /// later sync brings back.
    pub(super) poison: Arc<OnceLock<String>>,
    pub(super) observe: Box<dyn Fn(Stage) + Send>,
}

/// A group while it is decided.
#[derive(Default)]
struct Draft {
    batch: Batch,
    commits: HashMap<(StreamName, CommitId), Recorded>,
}

impl Writer {
    /// Works until all senders are gone.
    pub(super) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            let mut bytes = first.commit.payload.len();
            let mut group = vec![first];
            while group.len() < GROUP_COMMITS && bytes < GROUP_BYTES {
                let Ok(next) = requests.try_recv() else { break };
                bytes += next.commit.payload.len();
                group.push(next);
            }
            match check((self.free)(), bytes) {
                Ok(()) => self.commit(group),
                Err(reason) => refuse(group, &reason),
            }
        }
    }

    fn commit(&mut self, group: Vec<Request>) {
        let mut draft = Draft::default();
        let mut answers = Vec::with_capacity(group.len());
        for Request {
            stream,
            expected,
            commit,
            answer,
        } in group
        {
            answers.push((answer, self.decide(&mut draft, stream, expected, commit)));
        }
        if !draft.commits.is_empty() {
            let durable_before = *self.store.durable.borrow();
            match self.make_durable(draft.batch) {
                Ok(()) => {
                    self.store.durable.send_replace(self.last_position);
                }
                Err(reason) => {
                    tracing::error!(%reason, "the event log stops: a group was not made durable");
                    for (_, answer) in &mut answers {
                        doubt(answer, durable_before, &reason);
                    }
                    // Nobody else sets it.
                    let _already_set = self.poison.set(reason);
                }
            }
        }
        for (answer, result) in answers {
            // A caller who no longer listens treats that as unknown.
            let _gone = answer.send(result);
        }
        (self.observe)(Stage::Answered);
    }

    fn decide(
        &mut self,
        draft: &mut Draft,
        stream: StreamName,
        expected: Head,
        commit: NewCommit,
    ) -> Answer {
        if let Some(reason) = self.poison.get() {
            return Err(AppendError::Unavailable {
                reason: poisoned(reason),
            });
        }
        let key = (stream, commit.id);
        if let Some(stored) = draft.commits.get(&key) {
            return Ok(stored.clone());
        }
        let (stream, _) = &key;
        if let Some(stored) = self.store.written(stream, commit.id)? {
            return Ok(stored);
        }
        let head = self.head(draft, stream)?;
        if head != expected {
            return Err(AppendError::Conflict { head });
        }
        self.last_position += 1;
        self.last_ms = self.last_ms.max((self.clock)());
        let recorded = Recorded {
            stream: stream.clone(),
            position: self.last_position,
            commit_id: commit.id,
            recorded_at_ms: self.last_ms,
            prev_hash: head.hash,
            hash: Recorded::chain_hash(&head.hash, stream, commit.id, &commit.payload),
            payload: commit.payload,
        };
        layout::insert(&mut draft.batch, &recorded);
        self.heads.insert(stream.clone(), recorded.head());
        draft.commits.insert(key, recorded.clone());
        Ok(recorded)
    }

    /// The head of a stream with what the group adds to it.
    fn head(&mut self, draft: &Draft, stream: &StreamName) -> Result<Head, AppendError> {
        if let Some(head) = self.heads.get(stream) {
            return Ok(*head);
        }
        // Only between groups: the tree does not know yet what the draft holds.
        if self.heads.len() >= REMEMBERED_HEADS && draft.commits.is_empty() {
            self.heads.clear();
        }
        let head = self.store.written_head(stream)?;
        self.heads.insert(stream.clone(), head);
        Ok(head)
    }

    fn make_durable(&mut self, batch: Batch) -> Result<(), String> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            format!("{what} in {} failed: {error}", self.store.dir.display())
        };
        self.store
            .db
            .apply_batch(batch)
            .map_err(|error| failed("writing", &error))?;
        (self.observe)(Stage::Written);
        self.store
            .db
            .flush()
            .map_err(|error| failed("flushing", &error))?;
        (self.observe)(Stage::Flushed);
        self.durable
            .sync()
            .map_err(|error| failed("syncing", &error))?;
        (self.observe)(Stage::Synced);
        Ok(())
    }
}

/// Nothing was decided and nothing written: the same appends may be tried again.
fn refuse(group: Vec<Request>, reason: &str) {
    for request in group {
        let reason = reason.to_owned();
        // A caller who no longer listens does not need it.
        let _gone = request
            .answer
            .send(Err(AppendError::Unavailable { reason }));
    }
}

/// Takes back from an answer what rests on a group that may not be durable.
fn doubt(answer: &mut Answer, durable: u64, reason: &str) {
    match answer {
        Ok(commit) if commit.position > durable => {
            *answer = Err(AppendError::Unknown {
                reason: reason.to_owned(),
            });
        }
        Err(AppendError::Conflict { head }) if head.position > durable => {
            *answer = Err(AppendError::Unavailable {
                reason: poisoned(reason),
            });
        }
        Ok(_) | Err(_) => {}
    }
}

fn poisoned(reason: &str) -> String {
    format!("it stopped after an earlier failure ({reason}); repair the disk and restart")
}
