//! The installation's own certificate authority, as two files of a folder.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use sealwarden_keys::private_files::{self, FileLock, PRIVATE_FILE, PUBLIC_FILE};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::{
    caller::{CallerName, CallerRole},
    certificate::{AuthorityInfo, ROLE_URI, time_text},
    error::PkiError,
    identity::Identity,
};

/// Certificates begin this much before they are issued, for machines whose clocks run behind.
pub const CLOCK_SKEW: Duration = Duration::from_mins(5);
/// How long the authority itself lasts.
const AUTHORITY_LIFETIME: Duration = Duration::from_hours(10 * 365 * 24);
/// The common name of an authority is this and the installation's name.
const COMMON_NAME: &str = "Sealwarden CA ";
/// How long another process may take to make the authority.
const LOCK_PATIENCE: Duration = Duration::from_secs(20);
/// Certificates and keys are shorter than this, in bytes.
pub(crate) const MAX_PEM: u64 = 64 * 1024;

/// Issues the certificates of one installation.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    expires_at_ms: i64,
}

impl Authority {
    /// Opens the authority in `dir`, or makes one for `installation` (ECDSA P-256, ten years). Processes that do so at
    /// once on one folder get the same. Blocks its thread for the files.
    pub fn open_or_create(dir: &Path, installation: &str) -> Result<Self, PkiError> {
        let installation = CallerName::new(installation)?;
        private_files::private_dir(dir)?;
        let _lock = FileLock::take(&dir.join("lock"), LOCK_PATIENCE)?;
        private_files::remove_leftovers(dir)?;
        let files = Files::new(dir);
        if !files.certificate.exists() {
            // A key without its certificate is what a crash left between the two: it has issued nothing.
            files.make(&installation)?;
        }
        files.open(&installation)
    }

    /// The authority's certificate (PEM): what both sides of a connection trust.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// When the authority's certificate ends, in Unix milliseconds.
    pub fn expires_at_ms(&self) -> i64 {
        self.expires_at_ms
    }

    /// Issues a key pair and certificate (ECDSA P-256) to `name`, valid for `validity` from now. `hosts` (IP addresses and
    /// DNS names) are where it may serve; only nodes serve.
    pub fn issue(
        &self,
        name: &CallerName,
        role: CallerRole,
        hosts: &[String],
        validity: Duration,
    ) -> Result<Identity, PkiError> {
        if role != CallerRole::Node && !hosts.is_empty() {
            return Err(PkiError::NotAServer {
                role: role.as_str(),
                hosts: hosts.to_vec(),
            });
        }
        let mut params = lifetime(validity, Some(self.expires_at_ms))
            .map(|lifetime| params(name.as_str(), lifetime))
            .ok_or_else(|| PkiError::InvalidValidity {
                seconds: validity.as_secs(),
                authority_ends: time_text(self.expires_at_ms),
            })?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if !hosts.is_empty() {
            params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = hosts
            .iter()
            .map(|host| alternative_name(host))
            .collect::<Result<_, _>>()?;
        params
            .subject_alt_names
            .push(SanType::URI(format!("{ROLE_URI}{role}").try_into()?));
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity::new(
            certificate.pem(),
            Zeroizing::new(key.serialize_pem()),
            self.certificate_pem.clone(),
        ))
    }
}

struct Files {
    key: PathBuf,
    certificate: PathBuf,
}

impl Files {
    fn new(dir: &Path) -> Self {
        Self {
            key: dir.join("ca.key.pem"),
            certificate: dir.join("ca.cert.pem"),
        }
    }

    /// Makes the key, then the certificate: the authority exists from the second on.
    fn make(&self, installation: &CallerName) -> Result<(), PkiError> {
        let lifetime =
            lifetime(AUTHORITY_LIFETIME, None).ok_or_else(|| PkiError::InvalidValidity {
                seconds: AUTHORITY_LIFETIME.as_secs(),
                authority_ends: "the end of this machine's calendar".to_owned(),
            })?;
        let mut params = params(&format!("{COMMON_NAME}{installation}"), lifetime);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let key_pem = Zeroizing::new(key.serialize_pem());
        private_files::replace(&self.key, key_pem.as_bytes(), PRIVATE_FILE)?;
        private_files::replace(&self.certificate, certificate.pem().as_bytes(), PUBLIC_FILE)?;
        Ok(())
    }

    fn open(&self, installation: &CallerName) -> Result<Authority, PkiError> {
        let certificate_pem = text(
            &self.certificate,
            private_files::read_public(&self.certificate, MAX_PEM)?,
        )?;
        let key_pem = Zeroizing::new(text(
            &self.key,
            private_files::read_private(&self.key, MAX_PEM)?,
        )?);
        let key = KeyPair::from_pem(&key_pem).map_err(|error| corrupt(&self.key, &error))?;
        let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|error| corrupt(&self.certificate, &error))?;
        let info =
            AuthorityInfo::from_der(&der).map_err(|error| corrupt(&self.certificate, &error))?;
        self.check(&info, &key, installation)?;
        Ok(Authority {
            issuer: Issuer::from_ca_cert_der(&der, key)?,
            certificate_pem,
            expires_at_ms: info.expires_at_ms,
        })
    }

    fn check(
        &self,
        info: &AuthorityInfo,
        key: &KeyPair,
        installation: &CallerName,
    ) -> Result<(), PkiError> {
        let found = info.common_name.strip_prefix(COMMON_NAME);
        let Some(found) = found.filter(|_| info.is_ca) else {
            return Err(corrupt(
                &self.certificate,
                &"it is not an authority's certificate",
            ));
        };
        if found != installation.as_str() {
            return Err(PkiError::OtherInstallation {
                dir: self.certificate.with_file_name(""),
                found: found.to_owned(),
                wanted: installation.to_string(),
            });
        }
        if info.public_key != key.public_key_raw() {
            return Err(corrupt(&self.key, &"it does not belong to ca.cert.pem"));
        }
        if info.expires_at_ms <= Timestamp::now().as_millisecond() {
            return Err(PkiError::Expired {
                path: self.certificate.clone(),
                ended: time_text(info.expires_at_ms),
            });
        }
        Ok(())
    }
}

pub(crate) fn corrupt(path: &Path, reason: &dyn std::fmt::Display) -> PkiError {
    PkiError::Corrupt {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

pub(crate) fn text(path: &Path, bytes: Vec<u8>) -> Result<String, PkiError> {
    String::from_utf8(bytes).map_err(|error| corrupt(path, &error.utf8_error()))
}

/// From when to when a certificate issued now holds; `None` if that is empty, unrepresentable, or ends after
/// `latest_ms` (Unix milliseconds).
fn lifetime(
    validity: Duration,
    latest_ms: Option<i64>,
) -> Option<(OffsetDateTime, OffsetDateTime)> {
    // Whole seconds, as certificates hold them.
    let now_s = Timestamp::now().as_second();
    let ends_s = now_s.checked_add(i64::try_from(validity.as_secs()).ok()?)?;
    let in_time = latest_ms.is_none_or(|latest_ms| ends_s <= latest_ms / 1000);
    if ends_s <= now_s || !in_time {
        return None;
    }
    let begins = OffsetDateTime::from_unix_timestamp(now_s).ok()?;
    let ends = OffsetDateTime::from_unix_timestamp(ends_s).ok()?;
    Some((begins - CLOCK_SKEW, ends))
}

fn params(common_name: &str, lifetime: (OffsetDateTime, OffsetDateTime)) -> CertificateParams {
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = lifetime;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params
}

fn alternative_name(host: &str) -> Result<SanType, PkiError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let is_name = rustls::pki_types::DnsName::try_from(host).is_ok();
    match host.to_owned().try_into() {
        Ok(name) if is_name => Ok(SanType::DnsName(name)),
        Ok(_) | Err(_) => Err(PkiError::InvalidHost(host.to_owned())),
    }
}
