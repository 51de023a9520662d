//! Detached CAdES-BES (ETSI EN 319 122, CMS `SignedData` with `signing-certificate-v2`) over a checkpoint's text.
//!
//! What is signed is the text of the checkpoint note: origin, size and root, with their newlines and without signature lines.
//! The signature is the seal certificate's, made only over checkpoints that a log key named in that certificate, or in a binding of it, signed.

use sealwarden_seal::note::{Note, Vkey};

use crate::profile::ID_DATA;
use crate::seal_certificate::{SealCertificate, SealCertificateError};
use crate::signed::{self, SignedError};
use crate::signer::{CmsRequest, Signer, SignerError};

/// No signature was made, or it does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CadesError {
    /// The certificate does not stand for this log.
    #[error(transparent)]
    Certificate(#[from] SealCertificateError),
    /// The signature cannot be made.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The signature does not hold.
    #[error("the CAdES signature is not good: {0}")]
    Signed(#[from] SignedError),
}

/// Signs a checkpoint at `now_ms`, Unix milliseconds; DER. `bound` are the keys that the certificate's bindings name.
pub fn sign(
    note: &Note,
    signer: &Signer,
    bound: &[Vkey],
    now_ms: i64,
) -> Result<Vec<u8>, CadesError> {
    let certificate = SealCertificate::read(signer.leaf()?)?;
    certificate.check_valid_at(now_ms)?;
    certificate.check_covers(note, bound)?;
    let signature = signer.sign_cms(&CmsRequest {
        content_type: ID_DATA,
        content: note.text().as_bytes(),
        detached: true,
        with_certificates: true,
        signing_time_ms: Some(now_ms),
    })?;
    // Nothing leaves that does not verify.
    verify(&signature, note, bound)?;
    Ok(signature)
}

/// Checks a signature over a checkpoint, and that a log key named in its certificate, or among `bound`, signed the checkpoint. Who
/// certified the holder is not checked: that is for `openssl cms -verify` with the roots one trusts.
pub fn verify(
    signature: &[u8],
    note: &Note,
    bound: &[Vkey],
) -> Result<SealCertificate, CadesError> {
    let checked = signed::check(signature, ID_DATA, Some(note.text().as_bytes()))?;
    let certificate = SealCertificate::read(&checked.leaf)?;
    certificate.check_covers(note, bound)?;
    Ok(certificate)
}
