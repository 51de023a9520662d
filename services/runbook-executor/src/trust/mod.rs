//! The trust authority: bundles signed by the local root, suspensions signed by the signing key, both in `trust/<installation>`.

mod authority;
pub(crate) mod certificates;
mod cut;
mod facts;
mod outside;
mod payload;
mod root_key;
mod suspending;
mod witnesses;

pub(crate) use authority::{Authority, PublishError, run};
pub(crate) use facts::TrustFacts;
pub(crate) use root_key::RootKey;
