//! Archives: what was stored is looked at again and again, and repaired.
//!
//! - `open`: an archive at work: its stores, its inventory, its stream of events.
//! - `storing`: documents come in; `inventory` lists them, page by page.
//! - `job`, `examine`, `record`, `cursor`, `report`: a revalidation. The cursor is durable, so that it goes on where it stopped.
//! - `task`: when a revalidation begins.
//! - `quarantine`, `restore`: what happens to what is damaged.
//! - `grpc`, `grpc_jobs`: the calls.
//!
//! **Invariant:** one node writes an archive. **Invariant:** what is damaged is told to the event log before the cursor passes it.
//! **Invariant:** nothing is released that was not read back from the store and verified against the leaf it was stored as.

mod config;
mod cursor;
mod examine;
mod grpc;
mod grpc_jobs;
mod inventory;
mod job;
mod open;
mod quarantine;
mod record;
mod report;
mod restore;
mod slots;
mod storing;
mod task;

pub use config::ArchiveConfig;
pub(crate) use config::check;
pub(crate) use grpc::{ArchivesService, RESPONDERS, who};
pub(crate) use open::Archive;
pub(crate) use slots::Slots;
