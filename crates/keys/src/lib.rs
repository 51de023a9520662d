//! The key-provider port, the software provider and the PKCS#11 provider.
//!
//! [`KeyProvider`] is what the rest of the product knows of keys: it creates, describes, uses, disables and
//! destroys Ed25519 keys, and tells what uses its own audit has seen. [`SoftwareProvider`] keeps keys as
//! files; [`Pkcs11Provider`] keeps them in a token, behind a worker process; [`TransitProvider`] leaves them with an
//! OpenBao server; [`FailoverSet`] makes one provider of several;
//! [`faults::FaultyProvider`] makes any provider slow, failing or silent, for tests and drills.
//!
//! Invariants:
//! - a key has one [`Purpose`] for life, and a use under another one is refused;
//! - a signature is released only after its use stands durably in the provider's audit;
//! - private keys never leave a provider, are not printed by any `Debug`, and are zeroized after use.

mod algorithm;
mod attestation;
mod audit;
mod blocking;
mod error;
pub mod faults;
mod health;
mod id;
pub mod pkcs11;
pub mod private_files;
mod provider;
pub mod set;
mod software;
pub mod transit;

pub use algorithm::{
    Algorithm, ED25519_PUBLIC_KEY, ED25519_SIGNATURE, ML_DSA_44_PUBLIC_KEY, ML_DSA_44_SIGNATURE,
    PublicKey, Signature,
};
pub use attestation::Attestation;
pub use error::KeyError;
pub use health::{Health, HealthCounts, HealthState};
pub use id::{InvalidKeyId, KeyId};
pub use pkcs11::{Pkcs11Config, Pkcs11Opener, Pkcs11Provider, TokenProblem};
pub use provider::{
    AuditEntry, AuditGap, AuditGapKind, AuditLine, AuditUse, Capabilities, CreateKey,
    DisableOutcome, KeyInfo, KeyProvider, KeyState, Purpose, sign_within,
};
pub use set::{FailoverSet, MemberConfig, Opener, SetConfig, breaker::BreakerConfig};
pub use software::{Guard, SoftwareConfig, SoftwareProvider};
pub use transit::{TransitConfig, TransitProvider};
