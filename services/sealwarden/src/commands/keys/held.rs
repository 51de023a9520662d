//! Seal certificates on this machine, with their keys: `DATA/seal-certificate`.
//!
//! ```text
//! pending/key.pem, request.pem         the key that waits for its certificate (0600), and the request for it
//! NAME/key.pem, chain.pem              a certificate's key (0600), and the certificate with those above it; NAME is the first 16 digits of its SHA-256
//! NAME/bindings/ORIGIN.p7s             what the key signed last about a log (CMS, DER); slashes in ORIGIN are written %2F
//! current                              NAME of the one that exports use
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sealwarden_keys::private_files::read_private;
use sealwarden_runbook_executor::seal_certificate::{HeldCertificate, HeldError, NAME_DIGITS};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::host::installation::{private_dir, write_durably, write_public};

/// Largest key file that is read, bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// The folder.
#[derive(Debug)]
pub(crate) struct Desk(PathBuf);

impl Desk {
    /// The folder of an installation; it need not be there.
    pub(crate) fn of(data: &Path) -> Self {
        Self(data.join("seal-certificate"))
    }

    /// Where the key lies that waits for its certificate.
    pub(crate) fn pending_key(&self) -> PathBuf {
        self.0.join("pending").join("key.pem")
    }

    /// Where its request lies.
    pub(crate) fn pending_request(&self) -> PathBuf {
        self.0.join("pending").join("request.pem")
    }

    /// Keeps a new key and its request.
    pub(crate) fn keep_request(&self, key: &str, request: &str) -> anyhow::Result<()> {
        private_dir(&self.0)?;
        private_dir(&self.0.join("pending"))?;
        // The request last: where it is, its key is.
        write_durably(&self.pending_key(), key.as_bytes())?;
        write_public(&self.pending_request(), request.as_bytes())
    }

    /// The key that waits, PEM; none if no request is under way.
    pub(crate) fn waiting_key(&self) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
        let path = self.pending_key();
        if !path.exists() {
            return Ok(None);
        }
        private(&path).map(Some)
    }

    /// Keeps a certificate (chain in PEM) with its key. Keeping it again changes nothing.
    pub(crate) fn keep(
        &self,
        fingerprint: &str,
        chain: &str,
        key: &[u8],
    ) -> anyhow::Result<HeldCertificate> {
        let name: String = fingerprint.chars().take(NAME_DIGITS).collect();
        let held = HeldCertificate::named(&self.0, &name);
        private_dir(&self.0)?;
        private_dir(held.dir())?;
        private_dir(&held.dir().join("bindings"))?;
        write_durably(&held.dir().join("key.pem"), key)?;
        write_public(&held.dir().join("chain.pem"), chain.as_bytes())?;
        Ok(held)
    }

    /// From now on exports use this one; the request, if it was for it, is done.
    pub(crate) fn use_it(&self, held: &HeldCertificate, was_requested: bool) -> anyhow::Result<()> {
        write_public(
            &self.0.join("current"),
            format!("{}\n", held.name).as_bytes(),
        )?;
        if was_requested {
            for path in [self.pending_request(), self.pending_key()] {
                fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// The one that exports use.
    pub(crate) fn current(&self) -> Result<Option<HeldCertificate>, Failure> {
        Ok(HeldCertificate::current(&self.0)?)
    }

    /// The one that exports use, or the remedy.
    pub(crate) fn required(&self) -> Result<HeldCertificate, Failure> {
        self.current()?.ok_or_else(|| {
            Failure::usage(format!(
                "{} holds no seal certificate; ask for one with `sealwarden keys certificate request`, or try out with `… self-signed`",
                self.0.display()
            ))
        })
    }
}

impl From<HeldError> for Failure {
    fn from(error: HeldError) -> Self {
        match &error {
            HeldError::File(_) | HeldError::NoName(_) => Self::usage(error.to_string()),
            HeldError::Signer { .. } | HeldError::Binding { .. } => {
                Self::refused(error.to_string())
            }
        }
    }
}

fn private(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    read_private(path, MAX_BYTES)
        .map(Zeroizing::new)
        .map_err(|error| Failure::usage(error.to_string()))
}
