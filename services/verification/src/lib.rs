//! The verification service: verdicts over seals, the trust bundle, and the installation's local witness.
//!
//! - `witness`, `witness_store`, `http`: the C2SP witness. It cosigns what extends what it saw, and, because it can read the log's intents, only roots that the log intended.
//! - `sightings`: checkpoints that a log's key signed and the log never intended, kept as files and told to the event log.
//! - `directives`: freezes an origin when its isolation was ordered with the approvals that this node's own plan demands.
//! - `archive`: stored documents, revalidated on a schedule, quarantined, restored.
//! - `verifiers`: verifiers that others run, and whether they still say what is known of archived documents.
//! - `vendors`: vendors whose services are used, probed.
//! - `trust`, `verify`, `grpc`: the current trust bundle and verdicts; both go on from what is cached while the event log is away.
//!
//! **Invariant:** the witness stores what it cosigns before it answers, and a witness that lost what it stored does not start.
//!
//! **Invariant:** verification needs neither the sealing service nor, for its offline verdict, the event log.

mod archive;
mod config;
mod directives;
mod grpc;
mod http;
mod intents;
mod schedule;
mod sightings;
mod start;
mod trust;
mod vendors;
mod verifiers;
mod verify;
mod witness;
mod witness_keys;
mod witness_store;

pub use archive::ArchiveConfig;
pub use config::{Config, ConfigError};
pub use start::{Mounts, start};
pub use vendors::VendorConfig;
pub use verifiers::VerifierConfig;
