//! The pure deciders of Sealwarden: log control, incidents, runs, approvals, archives and the retention of records.
//!
//! **Invariant:** no clock, file, network, environment or randomness. Time comes in as [`At`], ids as strings, and every decision is a synchronous function of state and
//! command. The events are the generated messages of `sealwarden-wire`; the folds here are the only readers that give them meaning.

pub mod approval;
pub mod archive;
pub mod certificates;
pub mod communication;
pub mod custody;
pub mod detect;
pub mod fold;
pub mod incident;
pub mod installation;
pub mod learning;
pub mod lease;
pub mod log_control;
pub mod obligation;
pub mod retention;
pub mod roster;
pub mod run;
pub mod vendor;
pub mod verifier;

pub use fold::{At, Fold, IllegalEvent, Rejection, RejectionCode};
