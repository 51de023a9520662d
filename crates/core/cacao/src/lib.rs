//! CACAO v2.0 security playbooks: read, checked, signed, and turned into runbooks and back.
//!
//! Source: CACAO Security Playbooks Version 2.0, OASIS Committee Specification 01.
//! [`Playbook::parse`] reads and checks; [`import`] makes a runbook of a playbook, and refuses what cannot be
//! executed, all of it at once; [`export`] makes a playbook of a runbook.
//!
//! **Invariant:** this crate is pure. It knows no clock, file, network or chance; all of these come in as values.
//!
//! **Invariant:** no input makes it panic, and its work is bounded: bytes, depth, entries and findings have limits.

mod check;
mod condition;
mod export;
mod finding;
mod flow;
mod import;
mod json;
mod key;
mod names;
mod playbook;
mod shape;
mod signature;
mod task;
mod yaml;

pub use condition::{BadCondition, Comparison, Condition, MAX_CONDITION_BYTES, Operand};
pub use export::{EXTENSION, Origin, export};
pub use finding::Finding;
pub use import::{Imported, Importing, import};
pub use json::{MAX_DEPTH, MAX_PLAYBOOK_BYTES, read as read_json};
pub use key::{NoKey, SigningKey};
pub use playbook::Playbook;
pub use signature::{
    BadSignature, Checked, MAX_SIGNATURES, NotSigned, PublicKey, Statement, in_milliseconds, sign,
    signatures,
};
