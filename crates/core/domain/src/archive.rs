//! One archive: its inventory's pages, its revalidations one after another, what is damaged and what is quarantined.
//!
//! **Invariants:** pages are counted without gaps; one revalidation is under way at most, on one node; damage that is known is not found again; what is quarantined is
//! released only by an event of its own.

mod decide;
mod state;

#[cfg(test)]
mod tests;

pub use decide::{Command, decide};
pub use state::{Archive, Job, Quarantine};

/// Most damage that one event names.
pub const MAX_DAMAGE: usize = 128;
/// Most objects that one quarantining names.
pub const MAX_QUARANTINED: usize = 256;
