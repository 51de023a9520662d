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
use sealwarden_anchors::binding::{self, Binding};
use sealwarden_anchors::chain::MAX_CHAIN_BYTES;
use sealwarden_anchors::signer::Signer;
use sealwarden_keys::private_files::read_private;
use sealwarden_seal::note::Vkey;
use zeroize::Zeroizing;

use super::super::trust::read_limited;
use crate::failure::Failure;
use crate::host::installation::{private_dir, write_durably, write_public};

/// Digits of a certificate's fingerprint that name its folder.
const NAME_DIGITS: usize = 16;
/// Largest key file and largest binding that are read, bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// The folder.
#[derive(Debug)]
pub(crate) struct Desk(PathBuf);

/// A certificate with its key.
#[derive(Debug)]
pub(crate) struct HeldCertificate {
    /// Name of its folder.
    pub(crate) name: String,
    dir: PathBuf,
}

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
        let dir = self.0.join(&name);
        private_dir(&self.0)?;
        private_dir(&dir)?;
        private_dir(&dir.join("bindings"))?;
        write_durably(&dir.join("key.pem"), key)?;
        write_public(&dir.join("chain.pem"), chain.as_bytes())?;
        Ok(HeldCertificate { name, dir })
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
        let path = self.0.join("current");
        if !path.exists() {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&read_limited(&path, 64)?).into_owned();
        let name = text.trim_end().to_owned();
        let plain = name.len() == NAME_DIGITS && name.bytes().all(|it| it.is_ascii_hexdigit());
        if !plain {
            return Err(Failure::usage(format!(
                "{} does not name a certificate's folder; import the certificate again",
                path.display()
            )));
        }
        let dir = self.0.join(&name);
        Ok(Some(HeldCertificate { name, dir }))
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

impl HeldCertificate {
    /// Certificate and key, ready to sign.
    pub(crate) fn signer(&self) -> Result<Signer, Failure> {
        let limit = u64::try_from(MAX_CHAIN_BYTES).unwrap_or(u64::MAX);
        let chain = read_limited(&self.dir.join("chain.pem"), limit)?;
        let key = private(&self.dir.join("key.pem"))?;
        Signer::from_pem(&chain, &key)
            .map_err(|error| Failure::refused(format!("{}: {error}", self.dir.display())))
    }

    /// Keeps what the key signed about a log.
    pub(crate) fn keep_binding(&self, origin: &str, signed: &[u8]) -> anyhow::Result<()> {
        write_public(&self.place(origin), signed)
    }

    /// What the key signed last about a log, verified; none if it signed nothing.
    pub(crate) fn binding(&self, origin: &str) -> Result<Option<Binding>, Failure> {
        let place = self.place(origin);
        if !place.exists() {
            return Ok(None);
        }
        let bound = binding::verify(&read_limited(&place, MAX_BYTES)?).map_err(|error| {
            Failure::refused(format!(
                "{}: {error}; sign again with `sealwarden keys certificate bind`",
                place.display()
            ))
        })?;
        Ok(Some(bound.binding).filter(|it| it.origin == origin))
    }

    /// The keys of a log that are bound to this certificate at a time, Unix milliseconds.
    pub(crate) fn bound_keys(&self, origin: &str, now_ms: i64) -> Result<Vec<Vkey>, Failure> {
        let binding = self.binding(origin)?.filter(|it| it.holds_at(now_ms));
        Ok(binding.map(|it| it.vkeys).unwrap_or_default())
    }

    fn place(&self, origin: &str) -> PathBuf {
        let name = format!("{}.p7s", origin.replace('/', "%2F"));
        self.dir.join("bindings").join(name)
    }
}

fn private(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    read_private(path, MAX_BYTES)
        .map(Zeroizing::new)
        .map_err(|error| Failure::usage(error.to_string()))
}
