//! The seal log on disk: one origin's tiles, staged batch, private records, and recovery.
//!
//! ```text
//! <dir>/log.json            origin and verifier key; written once
//! <dir>/checkpoint          the published checkpoint, a signed note; replaced whole
//! <dir>/witnessed           the latest checkpoint that carries cosignatures
//! <dir>/tile/…              C2SP tlog-tiles, entry bundles under tile/entries; never changed, old partial tiles stay
//! <dir>/private/…           nonce and record of each leaf, zeros where erased; readable by the owner only
//! <dir>/staged              at most one batch that is durable and not yet published
//! <dir>/lock                held by the one writer
//! <dir>/heads/…             not ours: what an evidence log's owner keeps beside it
//! ```
//!
//! **Invariants.** No network, no keys, no event log: callers record intents and sign. A size never gets a second root: a
//! staged batch is thrown away only on the caller's word that no intent stands for it. Nothing is staged on a right edge that
//! does not lead to the published root. After a failed sync every call fails, and the process must end.
//!
//! All calls block; asynchronous callers use a thread. Where to begin: [`SealLog::stage`] and [`SealLog::publish`] write,
//! [`LogReader::view`] reads, [`check::check`] audits.

pub mod check;
mod disk;
mod edge;
mod erase;
mod error;
pub mod faults;
mod growth;
mod identity;
mod leaf;
mod leaves;
mod log;
pub mod mirror;
mod private;
mod published;
mod range;
mod space;
mod staged;
mod syncers;
mod tiles;
mod view;
mod whole;

pub use error::LogError;
pub use identity::Identity;
pub use leaf::{Leaf, MAX_RECORD_BYTES, NONCE_BYTES, ProvenLeaf};
pub use leaves::{LeafRef, Leaves};
pub use log::{Intent, SealLog};
pub use published::Published;
pub use range::ProvenRange;
pub use space::{NoSpace, ReserveError, SPACE_FLOOR_BYTES};
pub use staged::{MAX_BATCH_BYTES, MAX_BATCH_LEAVES, Staged};
pub use view::{LogReader, SignedCheckpoint, View};

#[cfg(test)]
mod tests;
