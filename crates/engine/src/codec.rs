//! Commits as bytes: the envelope that every event carries, and trace context across the log.

use bytes::Bytes;
use prost::Message as _;
use sealwarden_eventlog::{CommitId, Recorded, StreamName};
use sealwarden_wire::event::v1::{Actor, Commit, Envelope, Event, actor};

/// What a commit says about itself besides its events.
#[derive(Clone, Debug, Default)]
pub struct Meta {
    /// Who decided.
    pub actor: Actor,
    /// Commit or request that led here.
    pub causation: String,
    /// Incident, run or request that the story belongs to.
    pub correlation: String,
    /// The command this commit answers.
    pub command_id: String,
}

impl Meta {
    /// Decided by a node.
    pub fn node(name: &str) -> Self {
        Self::by(actor::Kind::Node, name)
    }

    /// Decided by a person.
    pub fn person(name: &str) -> Self {
        Self::by(actor::Kind::Person, name)
    }

    /// Decided by a detector.
    pub fn detector(name: &str) -> Self {
        Self::by(actor::Kind::Detector, name)
    }

    fn by(kind: actor::Kind, name: &str) -> Self {
        Self {
            actor: Actor {
                kind: kind.into(),
                name: name.to_owned(),
            },
            ..Self::default()
        }
    }

    /// Belongs to this incident, run or request.
    #[must_use]
    pub fn correlated(mut self, correlation: impl Into<String>) -> Self {
        self.correlation = correlation.into();
        self
    }

    /// Was led to by this commit or request.
    #[must_use]
    pub fn caused_by(mut self, causation: impl Into<String>) -> Self {
        self.causation = causation.into();
        self
    }

    /// Answers this command.
    #[must_use]
    pub fn command(mut self, id: impl Into<String>) -> Self {
        self.command_id = id.into();
        self
    }
}

/// A stored commit whose bytes are not a commit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the commit at position {position} of {stream} cannot be decoded: {reason}")]
pub struct DecodeError {
    /// Stream.
    pub stream: String,
    /// Position.
    pub position: u64,
    /// What is wrong.
    pub reason: String,
}

/// A commit's bytes. Position and recorded time are the event log's to give, so they are not written.
pub fn encode(id: CommitId, stream: &StreamName, meta: &Meta, events: &[Event]) -> Bytes {
    let commit = commit(id, stream, meta.clone(), events.to_vec());
    commit.encode_to_vec().into()
}

/// A commit that is not stored yet.
pub(crate) fn commit(id: CommitId, stream: &StreamName, meta: Meta, events: Vec<Event>) -> Commit {
    let envelope = Envelope {
        id: id.to_string(),
        stream: stream.to_string(),
        position: 0,
        recorded_at_ms: 0,
        actor: Some(meta.actor),
        causation: meta.causation,
        correlation: meta.correlation,
        traceparent: sealwarden_telemetry::current_traceparent().unwrap_or_default(),
        command_id: meta.command_id,
    };
    Commit {
        envelope: Some(envelope),
        events,
    }
}

/// A stored commit, with the id, the position and the time that the event log has of it: an envelope cannot claim another's.
pub fn decode(recorded: &Recorded) -> Result<Commit, DecodeError> {
    let error = |reason: String| DecodeError {
        stream: recorded.stream.to_string(),
        position: recorded.position,
        reason,
    };
    let mut commit = Commit::decode(recorded.payload.clone()).map_err(|e| error(e.to_string()))?;
    let envelope = commit.envelope.get_or_insert_default();
    let stream = recorded.stream.to_string();
    if envelope.stream != stream {
        return Err(error(format!(
            "its envelope names stream {}",
            envelope.stream
        )));
    }
    envelope.id = recorded.commit_id.to_string();
    envelope.position = recorded.position;
    envelope.recorded_at_ms = recorded.recorded_at_ms;
    Ok(commit)
}
