//! The shell around the pure deciders: it loads a stream, asks a decider, appends what it decided, and folds what others wrote.
//!
//! - [`Clock`]: the two clocks, read in one place.
//! - [`Stream`]: one stream, folded; [`Stream::execute`] turns a command into a stored commit or a refusal.
//! - [`Board`]: the whole installation, folded live from a subscription.
//! - [`Node`]: what a process role is given to work with.
//! - [`Measuring`]: what a node measures of itself, for the plan's detectors.
//!
//! **Invariant:** nothing here decides. What an append's answer leaves open is resolved by repeating the same append, never by guessing.

mod board;
mod clock;
mod codec;
mod measuring;
mod node;
mod roster_file;
mod stream;

pub use board::Board;
pub use clock::{Clock, ManualClock, SystemClock};
pub use codec::{DecodeError, Meta, decode, encode};
pub use measuring::Measuring;
pub use node::{Node, PeerError, Role, SignError, enrolment_text};
pub use roster_file::{ROSTER_FILE, RosterFile};
pub use stream::{ExecuteError, Executed, Stream, Unread};

/// Name of an event stream, `<category>/<id>`.
pub use sealwarden_eventlog::StreamName;
