//! Verifying without a server.

use sealwarden_seal::trust::{Roots, TrustBundle, TrustError};
use sealwarden_seal::verdict::{self, Verification};

/// A trust bundle cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfflineError {
    /// It does not read, or its roots did not sign it.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// The verdict over a seal and the digest of its document, by a trust bundle. `roots` are the keys that must have signed the
/// bundle; without them it vouches for itself, which is only as good as the way it came. `now_ms` is the present in Unix
/// milliseconds. Remember the newest bundle version that you saw, and refuse older ones.
pub fn verify(
    seal: &[u8],
    digest: [u8; 32],
    bundle: &[u8],
    roots: Option<&Roots>,
    now_ms: i64,
) -> Result<Verification, OfflineError> {
    let bundle = TrustBundle::parse(bundle)?.open(roots)?;
    Ok(verdict::verify(seal, Some(digest), &bundle, now_ms))
}
