//! One stream, folded, and commands against it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use sealwarden_domain::{Fold, IllegalEvent, Rejection};
use sealwarden_eventlog::{
    AppendError, CommitId, EventLog, Head, NewCommit, ReadError, Recorded, StreamName,
};
use sealwarden_wire::event::v1::{Commit, Envelope, Event};

use crate::codec::{DecodeError, Meta, commit, decode};

/// How many commits one read asks for.
const PAGE: usize = 512;
/// How often a lost race is fought again before the caller hears of it.
const MAX_CONFLICTS: u32 = 100;
/// How often an append without an answer is repeated.
const MAX_UNKNOWN: u32 = 6;

/// Why a command had no result.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// The decider refused it.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// Nothing was stored; it may be tried again.
    #[error("the event log is unavailable: {0}; try again later")]
    Unavailable(String),
    /// It may or may not be stored. Look before you act.
    #[error("the event log did not say whether it stored the decision: {0}")]
    Unknown(String),
    /// The stream holds something that no correct writer wrote.
    #[error(transparent)]
    Illegal(#[from] IllegalEvent),
    /// The stream holds bytes that are not a commit.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The event log found damage, or refuses the commit for good.
    #[error("the event log refuses: {0}")]
    Broken(String),
}

/// What a command gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Executed {
    /// The events, empty if it was already so.
    pub events: Vec<Event>,
    /// Position of the commit; of the stream's head where nothing was stored.
    pub position: u64,
    /// When the commit was recorded, Unix milliseconds; 0 where nothing was stored.
    pub recorded_at_ms: i64,
}

/// A folded stream. Commands against it are decided on the newest state that its append can prove.
pub struct Stream<S> {
    log: Arc<dyn EventLog>,
    name: StreamName,
    state: S,
    head: Head,
    /// Why the stream is set aside: a commit that does not fit was half folded, so nothing more is decided on this state.
    poisoned: Option<IllegalEvent>,
}

/// The fold of a stream of which nothing is asked before something is added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unread;

impl Fold for Unread {
    fn apply(&mut self, _: &Envelope, _: &Event) -> Result<(), IllegalEvent> {
        Ok(())
    }
}

impl Stream<Unread> {
    /// A stream that is only added to, without reading it.
    pub async fn at_its_end(
        log: Arc<dyn EventLog>,
        name: StreamName,
    ) -> Result<Self, ExecuteError> {
        let head = log.head(&name).await;
        let head = head.map_err(|e| ExecuteError::Unavailable(e.to_string()))?;
        Ok(Self::resume(log, name, Unread, head))
    }
}

impl<S: Fold> Stream<S> {
    /// Folds a stream from its beginning into `state`.
    pub async fn load(
        log: Arc<dyn EventLog>,
        name: StreamName,
        state: S,
    ) -> Result<Self, ExecuteError> {
        let mut stream = Self::resume(log, name, state, Head::EMPTY);
        stream.refresh().await?;
        Ok(stream)
    }

    /// A stream whose state was folded elsewhere up to and including `head`, so that a long stream need not be read again. Commands find out if that is not its head any more.
    pub fn resume(log: Arc<dyn EventLog>, name: StreamName, state: S, head: Head) -> Self {
        Self {
            log,
            name,
            state,
            head,
            poisoned: None,
        }
    }

    /// The state as of the last refresh or command.
    pub fn state(&self) -> &S {
        &self.state
    }

    /// Position and hash of the last commit that was folded.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The stream's name.
    pub fn name(&self) -> &StreamName {
        &self.name
    }

    /// Folds what was written since.
    pub async fn refresh(&mut self) -> Result<(), ExecuteError> {
        if let Some(illegal) = &self.poisoned {
            return Err(illegal.clone().into());
        }
        loop {
            let page = self
                .log
                .read(&self.name, self.head.position, PAGE)
                .await
                .map_err(read_error)?;
            if page.is_empty() {
                return Ok(()); // a short page may have successors; only an empty one is the end
            }
            for recorded in &page {
                self.take_in(recorded)?;
            }
        }
    }

    fn take_in(&mut self, recorded: &Recorded) -> Result<(), ExecuteError> {
        self.follows(recorded)?;
        let commit = decode(recorded)?;
        let envelope = commit.envelope.unwrap_or_default();
        self.fold(recorded, &envelope, &commit.events)
    }

    fn follows(&self, recorded: &Recorded) -> Result<(), ExecuteError> {
        if recorded.prev_hash != self.head.hash {
            return Err(ExecuteError::Broken(format!(
                "the commit at position {} of {} does not follow position {}",
                recorded.position, self.name, self.head.position
            )));
        }
        Ok(())
    }

    fn fold(
        &mut self,
        recorded: &Recorded,
        envelope: &Envelope,
        events: &[Event],
    ) -> Result<(), ExecuteError> {
        for event in events {
            if let Err(illegal) = self.state.apply(envelope, event) {
                self.poisoned = Some(illegal.clone());
                return Err(illegal.into());
            }
        }
        self.head = recorded.head();
        Ok(())
    }

    /// Folds what this process encoded and the log stored: the same bytes need not be decoded again. Gives the events.
    fn take_in_own(
        &mut self,
        recorded: &Recorded,
        own: Commit,
        payload: &Bytes,
    ) -> Result<Vec<Event>, ExecuteError> {
        if recorded.payload != *payload {
            self.take_in(recorded)?; // an earlier answer to the same commit: that one stands
            return Ok(own.events);
        }
        self.follows(recorded)?;
        let mut envelope = own.envelope.unwrap_or_default();
        envelope.position = recorded.position;
        envelope.recorded_at_ms = recorded.recorded_at_ms;
        self.fold(recorded, &envelope, &own.events)?;
        Ok(own.events)
    }

    /// Decides and appends. A lost race is decided anew on what the winner wrote; an append without answer is repeated under its own id until it has one. A refusal, or
    /// that nothing is to be done, is the answer only if nobody has written since: no append would prove it.
    pub async fn execute(
        &mut self,
        meta: Meta,
        mut decide: impl FnMut(&S) -> Result<Vec<Event>, Rejection>,
    ) -> Result<Executed, ExecuteError> {
        if let Some(illegal) = &self.poisoned {
            return Err(illegal.clone().into());
        }
        for _ in 0..MAX_CONFLICTS {
            let events = match decide(&self.state) {
                Ok(events) if !events.is_empty() => events,
                nothing => {
                    let decided_on = self.head;
                    self.refresh().await?;
                    if self.head != decided_on {
                        continue;
                    }
                    let position = self.head.position;
                    return Ok(Executed {
                        events: nothing?,
                        position,
                        recorded_at_ms: 0,
                    });
                }
            };
            let id = CommitId::new();
            let own = commit(id, &self.name, meta.clone(), events);
            let payload = Bytes::from(own.encode_to_vec());
            let new = NewCommit {
                id,
                payload: payload.clone(),
            };
            match self.append(id, new).await? {
                Some(recorded) => {
                    let events = self.take_in_own(&recorded, own, &payload)?;
                    return Ok(Executed {
                        events,
                        position: recorded.position,
                        recorded_at_ms: recorded.recorded_at_ms,
                    });
                }
                None => self.refresh().await?,
            }
        }
        Err(ExecuteError::Unavailable(format!(
            "other writers of {} were first {MAX_CONFLICTS} times in a row",
            self.name
        )))
    }

    /// Stored, or `None` if another writer was first.
    async fn append(
        &mut self,
        id: CommitId,
        commit: NewCommit,
    ) -> Result<Option<Recorded>, ExecuteError> {
        let mut unknown = 0;
        loop {
            match self.log.append(&self.name, self.head, commit.clone()).await {
                Ok(recorded) => return Ok(Some(recorded)),
                Err(AppendError::Conflict { .. }) => return Ok(None),
                Err(AppendError::Unknown { reason }) => {
                    unknown += 1;
                    if unknown > MAX_UNKNOWN {
                        return Err(ExecuteError::Unknown(reason));
                    }
                    tracing::warn!(stream = %self.name, commit = %id, %reason, "no answer to an append; asking again");
                    tokio::time::sleep(backoff(unknown)).await;
                }
                Err(AppendError::Unavailable { reason }) => {
                    // If an earlier try of this very commit had no answer, it may be stored all the same.
                    return Err(if unknown > 0 {
                        ExecuteError::Unknown(reason)
                    } else {
                        ExecuteError::Unavailable(reason)
                    });
                }
                Err(e @ (AppendError::TooLarge { .. } | AppendError::Corrupt { .. })) => {
                    return Err(ExecuteError::Broken(e.to_string()));
                }
            }
        }
    }
}

fn backoff(tries: u32) -> Duration {
    Duration::from_millis(50 << tries.min(6))
}

fn read_error(error: ReadError) -> ExecuteError {
    match error {
        ReadError::Unavailable { reason } => ExecuteError::Unavailable(reason),
        ReadError::Corrupt { reason } => ExecuteError::Broken(reason),
    }
}
