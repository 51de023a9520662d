//! Verifiers that others run, at releases of their own: archived documents are put to them, and what they say is compared with what is known of those documents.
//!
//! - `config`: which ones there are; `ask`: one question over HTTP; `compare`: many, and what they came to; `task`: when; `grpc`: the calls.
//!
//! **Invariant:** documents count only if this installation's own verification calls them valid now: what is damaged here says nothing about a verifier.
//! **Invariant:** a verifier is also asked for what it must refuse, so that one which calls everything valid is found out.

mod ask;
mod compare;
mod config;
mod grpc;
mod task;

pub use config::VerifierConfig;
pub(crate) use config::check;
pub(crate) use grpc::VerifiersService;
pub(crate) use task::start;
