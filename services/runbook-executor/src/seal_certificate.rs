//! A seal certificate on this machine, with its key, and what that key signed last about each log.
//!
//! ```text
//! current                   NAME of the one that exports use and that bindings are renewed with
//! NAME/key.pem, chain.pem   a certificate's key (0600), and the certificate with those above it; NAME is the first 16 digits of its SHA-256
//! NAME/bindings/ORIGIN.p7s  what the key signed last about a log (CMS, DER); slashes in ORIGIN are written %2F
//! ```

mod renew;

pub(crate) use renew::keep_bound;

use std::path::{Path, PathBuf};

use sealwarden_anchors::binding::{self, Binding, BindingError};
use sealwarden_anchors::chain::{MAX_CHAIN_BYTES, fingerprint};
use sealwarden_anchors::signer::{Signer, SignerError};
use sealwarden_keys::private_files::{self, FileError, PUBLIC_FILE, read_private, read_public};
use sealwarden_seal::note::Vkey;
use zeroize::Zeroizing;

/// Digits of a certificate's fingerprint that name its folder.
pub const NAME_DIGITS: usize = 16;
/// Largest key file and largest binding that are read, bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// What lies there cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HeldError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file `current`.
    #[error("{0} does not name a certificate's folder; import the certificate again")]
    NoName(String),
    /// Certificate and key.
    #[error("{dir}: {error}")]
    Signer {
        /// Their folder.
        dir: String,
        /// What is wrong.
        error: SignerError,
    },
    /// What the key signed.
    #[error("{path}: {error}; sign again with `sealwarden keys certificate bind`")]
    Binding {
        /// The file.
        path: String,
        /// What is wrong.
        error: Box<BindingError>,
    },
}

/// A certificate with its key.
#[derive(Debug)]
pub struct HeldCertificate {
    /// Name of its folder.
    pub name: String,
    dir: PathBuf,
}

impl HeldCertificate {
    /// The one of this name. Nothing is read.
    pub fn named(folder: &Path, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            dir: folder.join(name),
        }
    }

    /// The one that is used; none if the folder has none.
    pub fn current(folder: &Path) -> Result<Option<Self>, HeldError> {
        let path = folder.join("current");
        let bytes = match read_public(&path, 64) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let text = String::from_utf8_lossy(&bytes);
        let name = text.trim_end();
        if name.len() != NAME_DIGITS || !name.bytes().all(|it| it.is_ascii_hexdigit()) {
            return Err(HeldError::NoName(path.display().to_string()));
        }
        Ok(Some(Self::named(folder, name)))
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether it is the certificate of this SHA-256, in hexadecimal.
    pub fn is(&self, fingerprint: &str) -> bool {
        fingerprint.get(..NAME_DIGITS) == Some(self.name.as_str())
    }

    /// Certificate and key, ready to sign.
    pub fn signer(&self) -> Result<Signer, HeldError> {
        let limit = u64::try_from(MAX_CHAIN_BYTES).unwrap_or(u64::MAX);
        let chain = read_public(&self.dir.join("chain.pem"), limit)?;
        let key = Zeroizing::new(read_private(&self.dir.join("key.pem"), MAX_BYTES)?);
        Signer::from_pem(&chain, &key).map_err(|error| HeldError::Signer {
            dir: self.dir.display().to_string(),
            error,
        })
    }

    /// Keeps what the key signed about a log.
    pub fn keep_binding(&self, origin: &str, signed: &[u8]) -> Result<(), HeldError> {
        Ok(private_files::replace(
            &self.place(origin),
            signed,
            PUBLIC_FILE,
        )?)
    }

    /// What the key signed last about a log, verified; none if it signed nothing.
    pub fn binding(&self, origin: &str) -> Result<Option<Binding>, HeldError> {
        let path = self.place(origin);
        let bytes = match read_public(&path, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let bound = binding::verify(&bytes).map_err(|error| HeldError::Binding {
            path: path.display().to_string(),
            error: Box::new(error),
        })?;
        Ok(Some(bound.binding).filter(|it| it.origin == origin))
    }

    /// The keys of a log that are bound to this certificate at a time, Unix milliseconds.
    pub fn bound_keys(&self, origin: &str, now_ms: i64) -> Result<Vec<Vkey>, HeldError> {
        let binding = self.binding(origin)?.filter(|it| it.holds_at(now_ms));
        Ok(binding.map(|it| it.vkeys).unwrap_or_default())
    }

    fn place(&self, origin: &str) -> PathBuf {
        let name = format!("{}.p7s", origin.replace('/', "%2F"));
        self.dir.join("bindings").join(name)
    }
}

/// The SHA-256 of a signer's certificate, in hexadecimal.
fn fingerprint_of(signer: &Signer) -> String {
    fingerprint(signer.certificate_der())
}
