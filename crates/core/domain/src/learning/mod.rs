//! What people learn from an incident: postmortems, and action items with an owner and a date.
//!
//! All of it is written down in the incident's own stream, also after it was closed.
//!
//! **Invariants:** nobody checks an action item that they did themselves; a public postmortem goes out only with a signature over this very text, by somebody
//! with the role for it who did not write it; what people have not completed is not recorded.

mod complete;
mod decide;
mod metrics;
mod publication;
mod state;
#[cfg(test)]
mod tests;

pub use complete::{QUESTION, check_complete, questions};
pub use decide::{Command, decide};
pub use metrics::{Case, ItemCount, Row, Share, Time, rows};
pub use publication::{APPROVER_ROLE, publication_statement};
pub use state::{Approval, Audience, Item, Learning, Postmortem, Standing};

/// The longest postmortem, in bytes.
pub const MAX_POSTMORTEM_BYTES: usize = 128 * 1024;
/// Action items of one incident, at most.
pub const MAX_ITEMS: usize = 200;
