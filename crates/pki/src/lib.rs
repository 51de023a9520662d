//! The local certificate authority, node identities, roles of callers.
//!
//! Every connection is mutual TLS. An [`Authority`] issues [`Identity`]s whose certificate carries the caller's name as
//! its common name and the caller's role as the URI `sealwarden:role:<role>` among its alternative names; a service
//! reads both back with [`caller_of`] and admits with [`require`].
//!
//! Invariants:
//! - a server accepts no connection without a certificate of its own installation's authority;
//! - exactly one role a certificate; a certificate without a readable name and role is nobody;
//! - private keys are files of mode 0600, are not printed by any `Debug`, and are zeroized when dropped.

mod authority;
mod caller;
mod certificate;
mod error;
mod identity;
mod transport;

pub use authority::{Authority, CLOCK_SKEW};
pub use caller::{Caller, CallerName, CallerRole, Callers, caller_of, require};
pub use certificate::CertificateInfo;
pub use error::PkiError;
pub use identity::{Identity, IdentityFiles};
pub use transport::{
    CONNECT_TIMEOUT, client_tls, connect, connect_lazy, endpoint, install_ring, server_tls,
};
