//! The key-provider port and the software provider.
//!
//! [`KeyProvider`] is what the rest of the product knows of keys: it creates, describes, uses, disables and
//! destroys Ed25519 keys, and tells what uses its own audit has seen. [`SoftwareProvider`] keeps keys as
//! files; [`faults::FaultyProvider`] makes any provider slow, failing or silent, for tests and drills.
//!
//! Invariants:
//! - a key has one [`Purpose`] for life, and a use under another one is refused;
//! - a signature is released only after its use stands durably in the provider's audit;
//! - private keys never leave a provider, are not printed by any `Debug`, and are zeroized after use.

mod error;
pub mod faults;
mod id;
pub mod private_files;
mod provider;
mod software;

pub use error::KeyError;
pub use id::{InvalidKeyId, KeyId};
pub use provider::{
    Algorithm, AuditEntry, AuditLine, Capabilities, DisableOutcome, KeyInfo, KeyProvider, KeyState,
    Purpose, sign_within,
};
pub use software::{Guard, SoftwareConfig, SoftwareProvider};
