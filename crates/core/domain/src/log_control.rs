//! Control of one seal log: who may use its key, what was intended, what was ordered, and what each node acknowledged.
//!
//! All of it lives in one event stream, `log/<name>`, so that no grant can follow an isolation and a writer that lost its place finds out at its next append.
//!
//! **Invariants**
//! - A size of a tree has one root: a second intent for a size must name the same root.
//! - No permit is granted for an origin once its isolation was ordered.
//! - Epochs grow by one; a node never acknowledges an epoch below one that it acknowledged.
//! - A retired, isolated, revoked or destroyed key never signs; the keys that sign change by an event beside the intents.
//! - A node obeys what it acknowledged itself; what it has not judged yet stops its signing.

mod apply;
mod decide;
mod fence;
mod intents;
mod key_orders;
mod mode;
mod orders;
mod permits;
mod signers;
mod state;
mod tree;

pub use decide::{Command, IsolationProof, KeyChanges, Order, decide};
pub use fence::{FenceHow, GrantClock, NodeFenceStatus, fence_status};
pub use intents::{Intent, Intents};
pub use mode::{Mode, OrderedMode};
pub use orders::acknowledgement_results;
pub use signers::{KeyPressure, MAX_SIGNERS, Signer, SignerLife, SignerState};
pub use state::{
    Ack, DirectiveState, Grant, Hold, LogControl, NodeRefusal, Origin, OutsideTime, StopReason,
    acknowledgement_text, directive_digest, directive_input, kind_name, refusal_text,
};
