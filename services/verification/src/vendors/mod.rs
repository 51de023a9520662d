//! Vendors whose services this installation rests on: each is probed by using it, as far as that is public. What the probes say is news when it changes.
//!
//! **Invariant:** one late answer is no outage: only so many probes one after another that fail are told.

mod config;
mod grpc;
mod probe;
mod task;

pub use config::VendorConfig;
pub(crate) use config::check;
pub(crate) use grpc::VendorsService;
pub(crate) use task::start;
