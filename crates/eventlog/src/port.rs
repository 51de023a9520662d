//! The port, and what a caller may conclude from each of its answers.
//!
//! # Appending
//!
//! A caller folds a stream, decides, and appends the decision with the head it decided on.
//!
//! | answer | what is true | what the caller does |
//! |---|---|---|
//! | `Ok(commit)` | The commit is stored and durable, now or since an earlier try. | Goes on from `commit.head()`. |
//! | `Conflict { head }` | Nothing was stored by this call; the stream ends elsewhere than expected. | Reads on from its own head, folds, decides anew. Usually with the same commit id, when the decision answers the same command. |
//! | `Unknown { reason }` | The commit may be stored, now or even later; nobody can say yet. | Does nothing that depends on either. Repeats the *same* append (id, payload and expected head) until another answer comes: `Ok` means it is stored, once; `Conflict` means another commit took the place and this one never will. |
//! | `Unavailable { reason }` | Nothing was stored by this call. | May repeat, may give up, may decide anew. |
//! | `TooLarge { .. }` | Nothing was stored, and this commit never will be. | Decides something smaller. |
//! | `Corrupt { reason }` | Nothing was stored by this call. The store contradicts itself. | Stops and tells an operator. |
//!
//! **After an `Unknown`**, only `Ok` and `Conflict` on the same commit and expected head end the
//! doubt. An `Unavailable` in between speaks of its own call only: the earlier one stays open.
//!
//! **Repeating a commit id.** An append whose id the stream already holds answers `Ok` with the
//! *stored* commit, whatever payload the repetition carries: the first decision stands, and a
//! caller who may have decided differently compares. With the expected head of the first try, this
//! holds for ever on every adapter. With another expected head it holds for ever on [`Memory`] and
//! [`Embedded`]; on [`JetStream`] it holds for the length of the server's duplicate window (ten
//! minutes), so folds also remember the ids of commands. The same id on another stream is another
//! commit.
//!
//! **Dropping the future** of an append is an `Unknown`.
//!
//! # Reading
//!
//! Each commit that is read has been checked against its hash, and within a stream against the one
//! before it. `Unavailable` means try again; `Corrupt` means that bytes were changed behind our
//! back, and no commit after it in its stream can be trusted. [`EventLog::read`] of a stream sees every commit
//! whose append was answered `Ok` before the read began.
//!
//! # Subscribing
//!
//! A [`Subscription`] gives all matching commits after a position, in order of position, without
//! gap or repetition, first those stored, then those to come. It is fed from the store in bounded
//! pages; a slow subscriber costs no memory and misses nothing. To resume, a caller remembers the
//! position of the last commit it dealt with.
//!
//! # Time
//!
//! `recorded_at_ms` is the clock of whoever stores: this process ([`Memory`], [`Embedded`]; it
//! never falls from commit to commit) or the server ([`JetStream`]; it can fall when the server's
//! clock is set back or another server takes the lead). Order comes from positions, not from time.
//!
//! [`Memory`]: crate::Memory
//! [`Embedded`]: crate::Embedded
//! [`JetStream`]: crate::JetStream

use std::sync::Arc;

use async_trait::async_trait;

use crate::commit::{Head, MAX_PAYLOAD_BYTES, NewCommit, Recorded};
use crate::name::StreamName;
use crate::subscription::{Filter, Subscription};

/// The event log of one installation. The module [`port`](crate::port) holds the contract.
#[async_trait]
pub trait EventLog: Send + Sync + 'static {
    /// Stores `commit` at the end of `stream` if `expected` is that end.
    async fn append(
        &self,
        stream: &StreamName,
        expected: Head,
        commit: NewCommit,
    ) -> Result<Recorded, AppendError>;

    /// Commits of `stream` at positions greater than `after`, in order, at most `limit`. A page may
    /// be shorter than `limit` though more commits follow: only an
    /// empty page says that the end is reached. `limit` 0 asks for nothing.
    async fn read(
        &self,
        stream: &StreamName,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Recorded>, ReadError>;

    /// The end of `stream`; [`Head::EMPTY`] when it has no commit.
    async fn head(&self, stream: &StreamName) -> Result<Head, ReadError>;

    /// All commits that match `filter` at positions greater than `after`, stored and to come.
    async fn subscribe(&self, filter: Filter, after: u64) -> Result<Subscription, ReadError>;

    /// The greatest position in use over all streams; 0 when the log is empty.
    async fn last_position(&self) -> Result<u64, ReadError>;
}

/// Why an append did not answer with a stored commit. [`port`](crate::port) says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Another commit is the last one of the stream. Nothing was stored.
    #[error("another writer was first: the stream ends at position {}; read on and decide anew", .head.position)]
    Conflict {
        /// Where the stream ended when it was looked at.
        head: Head,
    },
    /// The commit may or may not be stored.
    #[error(
        "the commit may or may not be stored ({reason}); repeat the same append to learn which"
    )]
    Unknown {
        /// What happened.
        reason: String,
    },
    /// The store cannot be reached or refuses to store. Nothing was stored.
    #[error("the event log is not available: {reason}; nothing was stored, try again later")]
    Unavailable {
        /// What happened.
        reason: String,
    },
    /// The payload is larger than [`MAX_PAYLOAD_BYTES`].
    #[error("a commit of {bytes} bytes is too large, the limit is {limit}; split the decision")]
    TooLarge {
        /// The payload's length in bytes.
        bytes: usize,
        /// The greatest length in bytes.
        limit: usize,
    },
    /// What is stored contradicts itself.
    #[error("the event log is damaged: {reason}; stop writing and restore it from a copy")]
    Corrupt {
        /// What was found.
        reason: String,
    },
}

impl From<ReadError> for AppendError {
    /// A read that failed before anything was written: nothing was stored.
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable { reason } => Self::Unavailable { reason },
            ReadError::Corrupt { reason } => Self::Corrupt { reason },
        }
    }
}

/// Why commits could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The store cannot be reached.
    #[error("the event log is not available: {reason}; try again later")]
    Unavailable {
        /// What happened.
        reason: String,
    },
    /// Stored bytes do not match their hash or their place.
    #[error("the event log is damaged: {reason}; restore it from a copy")]
    Corrupt {
        /// What was found.
        reason: String,
    },
}

/// Refuses what no adapter stores.
pub(crate) fn check_size(commit: &NewCommit) -> Result<(), AppendError> {
    let bytes = commit.payload.len();
    if bytes > MAX_PAYLOAD_BYTES {
        return Err(AppendError::TooLarge {
            bytes,
            limit: MAX_PAYLOAD_BYTES,
        });
    }
    Ok(())
}

#[async_trait]
impl<L: EventLog + ?Sized> EventLog for Arc<L> {
    async fn append(
        &self,
        stream: &StreamName,
        expected: Head,
        commit: NewCommit,
    ) -> Result<Recorded, AppendError> {
        L::append(self, stream, expected, commit).await
    }

    async fn read(
        &self,
        stream: &StreamName,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Recorded>, ReadError> {
        L::read(self, stream, after, limit).await
    }

    async fn head(&self, stream: &StreamName) -> Result<Head, ReadError> {
        L::head(self, stream).await
    }

    async fn subscribe(&self, filter: Filter, after: u64) -> Result<Subscription, ReadError> {
        L::subscribe(self, filter, after).await
    }

    async fn last_position(&self) -> Result<u64, ReadError> {
        L::last_position(self).await
    }
}
