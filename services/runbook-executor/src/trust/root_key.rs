//! The local trust root: an OpenSSH key that signs trust bundles on this machine.
//!
//! A root that lies where the executor can read it is convenient and weaker than one kept offline: `up` makes one and says so.

use std::path::{Path, PathBuf};

use sealwarden_keys::private_files::{self, FileError};
use sealwarden_seal::trust::Roots;
use ssh_key::{HashAlg, LineEnding, PrivateKey};
use zeroize::Zeroizing;

/// The longest key file that is read, in bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// Why the root key cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootKeyError {
    /// The file.
    #[error("the root key cannot be read: {0}")]
    File(#[from] FileError),
    /// Not a key.
    #[error(
        "{path} is not an OpenSSH private key: {reason}; make one with `ssh-keygen -t ed25519`"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A passphrase stands before it.
    #[error(
        "{0} is encrypted, and nobody is there to type the passphrase; sign bundles offline, or name an unencrypted local root"
    )]
    Encrypted(PathBuf),
    /// Signing failed.
    #[error("the root key did not sign: {0}")]
    Signing(String),
}

/// A root key in memory.
pub(crate) struct RootKey(PrivateKey);

impl RootKey {
    /// Reads the file, which must be readable by its owner only. Blocks its thread.
    pub(crate) fn read(path: &Path) -> Result<Self, RootKeyError> {
        let bytes = Zeroizing::new(private_files::read_private(path, MAX_BYTES)?);
        let malformed = |reason: String| RootKeyError::Malformed {
            path: path.to_path_buf(),
            reason,
        };
        let text = std::str::from_utf8(&bytes).map_err(|error| malformed(error.to_string()))?;
        let key = PrivateKey::from_openssh(text).map_err(|error| malformed(error.to_string()))?;
        if key.is_encrypted() {
            return Err(RootKeyError::Encrypted(path.to_path_buf()));
        }
        Ok(Self(key))
    }

    /// The set of roots that this key alone makes.
    pub(crate) fn roots(&self) -> Result<Roots, RootKeyError> {
        let line = self
            .0
            .public_key()
            .to_openssh()
            .map_err(|error| RootKeyError::Signing(error.to_string()))?;
        Ok(Roots {
            threshold: 1,
            keys: vec![line],
        })
    }

    /// Signs a payload's text; gives an armored SSHSIG.
    pub(crate) fn sign(&self, namespace: &str, payload: &str) -> Result<String, RootKeyError> {
        self.0
            .sign(namespace, HashAlg::Sha512, payload.as_bytes())
            .and_then(|signature| signature.to_pem(LineEnding::LF))
            .map_err(|error| RootKeyError::Signing(error.to_string()))
    }
}
