//! What all deciders share: time as a value, refusals, and folding an event log that may hold anything.

use sealwarden_wire::event::v1::{Envelope, Event, event::Kind};

/// The moment a decision is made, given by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Unix time, milliseconds. For people and for what must survive a restart.
    pub wall_ms: i64,
    /// `CLOCK_BOOTTIME`, milliseconds. For permits: it goes on while the machine sleeps and nobody can set it.
    pub boot_ms: u64,
}

/// An event that cannot have been written by a correct decider. The log is outside data, so a fold reports it instead of panicking.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event at position {position} of {stream} does not fit: {reason}")]
pub struct IllegalEvent {
    /// Stream that holds the event.
    pub stream: String,
    /// Its position.
    pub position: u64,
    /// What does not fit.
    pub reason: String,
}

impl IllegalEvent {
    /// An illegal event, told by the envelope it came in.
    pub fn new(envelope: &Envelope, reason: impl Into<String>) -> Self {
        Self {
            stream: envelope.stream.clone(),
            position: envelope.position,
            reason: reason.into(),
        }
    }
}

/// The kind of a refusal, for exit codes and gRPC statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectionCode {
    /// The command names something that does not exist.
    NotFound,
    /// The command is malformed.
    Invalid,
    /// The command does not fit the present state; another time it may.
    NotNow,
    /// The command will not be obeyed: a rule or a missing approval stands against it.
    Refused,
}

/// Why a command was not obeyed: what was asked, what stands against it, what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Rejection {
    /// What kind of refusal it is.
    pub code: RejectionCode,
    /// A full sentence with the values.
    pub reason: String,
}

impl Rejection {
    /// A refusal of the given kind.
    pub fn new(code: RejectionCode, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }
}

/// A state that is folded from a stream.
pub trait Fold {
    /// Takes in one event. The envelope has the stream, the position and the recorded time.
    fn apply(&mut self, envelope: &Envelope, event: &Event) -> Result<(), IllegalEvent>;
}

/// Wraps an event's kind.
pub fn event(kind: Kind) -> Event {
    Event { kind: Some(kind) }
}
