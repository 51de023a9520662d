//! The runbook executor and the control authority: it grants permits, publishes trust, runs runbooks and keeps evidence.
//!
//! - [`start`]: starts the role; the host mounts what it gives.
//! - [`evidence::verify_bundle`]: checks an evidence bundle; needs no server.
//!
//! What runs where: `grantor` answers requests for permits; `trust` publishes bundles and suspensions; `runs` starts a run for each classified incident and drives
//! it; `lease` says whether this process may act where several share the runs; `actions` performs and observes steps; `webhooks` calls what stands outside; `evidence` collects, seals and checks bundles; `seal_certificate` reads a seal certificate's key
//! and renews its bindings; `grpc` answers people and services.
//!
//! **Invariants:** an attempt's start is durable before its effect. Every effect is idempotent under the key run + step + iteration. An attempt of an earlier process
//! life is observed first. One bad run, log or step never stops the others. The executor is not root: nodes check approvals themselves.

mod actions;
mod config;
mod environment;
pub mod evidence;
mod executor;
mod grantor;
mod grpc;
mod lease;
mod revoking;
mod runs;
pub mod seal_certificate;
mod signer;
mod start;
mod trust;
mod webhooks;

pub use config::TsaRoots;
pub use config::{Config, ConfigError};
pub use signer::signing_key_name;
pub use start::{Mounts, start};
pub use webhooks::Webhook;
