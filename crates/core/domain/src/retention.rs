//! The private records of one log line: which places are erased, by whose order, and what may not be erased.
//!
//! **Invariants:** a place is named by an order before its first byte is overwritten; an order is given only by somebody who has seen every hold in force; a place is ordered
//! once; what was ordered is finished, and nothing makes it undone.

mod decide;
mod state;

#[cfg(test)]
mod tests;

pub use decide::{Command, Order, decide};
pub use state::{Erasure, LegalHold, Retention};

/// Most ranges that one order names: an event stays far below what every event log takes.
pub const MAX_RANGES: usize = 8_192;
/// Most tickets that one withdrawal names, for the same reason.
pub const MAX_TICKETS: usize = 8_192;
