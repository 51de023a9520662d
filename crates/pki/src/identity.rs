//! A caller's certificate with its key, in memory and as files.

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use rcgen::KeyPair;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use sealwarden_keys::private_files::{self, FileLock, PRIVATE_FILE, PUBLIC_FILE};
use zeroize::Zeroizing;

use crate::{
    authority::{Authority, MAX_PEM, corrupt, text},
    caller::{CallerName, CallerRole},
    certificate::{CertificateInfo, public_key_of},
    error::PkiError,
};

/// How long another process may take to renew the same identity.
const LOCK_PATIENCE: Duration = Duration::from_secs(20);

/// A certificate, its private key, and the authority both sides trust; all PEM.
#[derive(Clone)]
pub struct Identity {
    certificate: String,
    key: Zeroizing<String>,
    authority: String,
}

impl Identity {
    pub(crate) fn new(certificate: String, key: Zeroizing<String>, authority: String) -> Self {
        Self {
            certificate,
            key,
            authority,
        }
    }

    /// The certificate (PEM).
    pub fn certificate_pem(&self) -> &str {
        &self.certificate
    }

    /// The private key (PEM). A secret: write it nowhere but to private files.
    pub fn key_pem(&self) -> &str {
        &self.key
    }

    /// The authority's certificate (PEM).
    pub fn authority_pem(&self) -> &str {
        &self.authority
    }

    /// What the certificate says, among it when it ends.
    pub fn info(&self) -> Result<CertificateInfo, PkiError> {
        let der = CertificateDer::from_pem_slice(self.certificate.as_bytes())
            .map_err(|error| PkiError::NotOurs(format!("unreadable PEM: {error}")))?;
        CertificateInfo::from_der(&der)
    }

    fn key_fits(&self) -> Result<bool, PkiError> {
        let der = CertificateDer::from_pem_slice(self.certificate.as_bytes())
            .map_err(|error| PkiError::NotOurs(format!("unreadable PEM: {error}")))?;
        let key = KeyPair::from_pem(&self.key)?;
        Ok(public_key_of(&der)? == key.public_key_raw())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// Where an identity's three files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The certificate (PEM).
    pub cert: PathBuf,
    /// The private key (PEM, mode 0600).
    pub key: PathBuf,
    /// The authority's certificate (PEM).
    pub ca: PathBuf,
}

impl IdentityFiles {
    /// `<dir>/<name>.cert.pem`, `<dir>/<name>.key.pem` and `<dir>/<name>.ca.pem`.
    pub fn in_dir(dir: &Path, name: &str) -> Self {
        Self {
            cert: dir.join(format!("{name}.cert.pem")),
            key: dir.join(format!("{name}.key.pem")),
            ca: dir.join(format!("{name}.ca.pem")),
        }
    }

    /// Writes the three files, each atomically, making their folders with mode 0700. Blocks its thread.
    pub fn store(&self, identity: &Identity) -> Result<(), PkiError> {
        for path in [&self.cert, &self.key, &self.ca] {
            if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
                private_files::private_dir(parent)?;
            }
        }
        private_files::replace(&self.ca, identity.authority.as_bytes(), PUBLIC_FILE)?;
        private_files::replace(&self.key, identity.key.as_bytes(), PRIVATE_FILE)?;
        private_files::replace(&self.cert, identity.certificate.as_bytes(), PUBLIC_FILE)?;
        Ok(())
    }

    /// Reads the three files. Refuses a key open to others, a key of another certificate, and a certificate whose time is
    /// over. Blocks its thread.
    pub fn load(&self) -> Result<Identity, PkiError> {
        let identity = Identity {
            certificate: text(&self.cert, private_files::read_public(&self.cert, MAX_PEM)?)?,
            key: Zeroizing::new(text(
                &self.key,
                private_files::read_private(&self.key, MAX_PEM)?,
            )?),
            authority: text(&self.ca, private_files::read_public(&self.ca, MAX_PEM)?)?,
        };
        let info = identity
            .info()
            .map_err(|error| corrupt(&self.cert, &error))?;
        if !identity
            .key_fits()
            .map_err(|error| corrupt(&self.key, &error))?
        {
            return Err(corrupt(&self.key, &"it belongs to another certificate"));
        }
        if info.expires_at_ms <= Timestamp::now().as_millisecond() {
            return Err(PkiError::Expired {
                path: self.cert.clone(),
                ended: info.expires_at(),
            });
        }
        Ok(identity)
    }

    /// Loads the identity, or has it issued and stores it: if it is missing, unreadable, of another authority, differs in
    /// name, role or hosts, or has less than a third of `validity` left. Processes that do so at once on the same files
    /// get the same. A key file open to others is an error and is never replaced. Blocks its thread.
    pub fn load_or_issue(
        &self,
        authority: &Authority,
        name: &CallerName,
        role: CallerRole,
        hosts: &[String],
        validity: Duration,
    ) -> Result<Identity, PkiError> {
        if let Some(parent) = self.key.parent().filter(|parent| !parent.exists()) {
            private_files::private_dir(parent)?;
        }
        let _lock = FileLock::take(&self.key.with_extension("lock"), LOCK_PATIENCE)?;
        let mut wanted_hosts: Vec<String> = hosts.iter().map(|host| spelling(host)).collect();
        wanted_hosts.sort();
        wanted_hosts.dedup();
        let left_ms = i64::try_from((validity / 3).as_millis()).unwrap_or(i64::MAX);
        let needed_until_ms = Timestamp::now().as_millisecond().saturating_add(left_ms);
        let serves = |identity: &Identity| {
            identity.authority == authority.certificate_pem()
                && identity.info().is_ok_and(|info| {
                    info.name == *name
                        && info.role == role
                        && info.hosts == wanted_hosts
                        && info.expires_at_ms >= needed_until_ms
                })
        };
        match self.load() {
            Ok(identity) if serves(&identity) => return Ok(identity),
            Err(PkiError::File(error)) if !error.is_not_found() => return Err(error.into()),
            Ok(_) | Err(_) => {}
        }
        let identity = authority.issue(name, role, &wanted_hosts, validity)?;
        self.store(&identity)?;
        Ok(identity)
    }
}

/// A host as certificates spell it.
fn spelling(host: &str) -> String {
    host.parse::<IpAddr>()
        .map_or_else(|_| host.to_owned(), |address| address.to_string())
}
