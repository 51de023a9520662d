//! The check of a certificate with those above it, as an authority gave them, before it becomes an installation's seal certificate.
//!
//! What a program can check is checked: the key's curve, what the certificate may be used for, its dates, and that each certificate was signed by the
//! next one. Whether the authority at the top is one that verifiers trust is theirs to say.

use der::Decode as _;
use der::asn1::ObjectIdentifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use webpki::KeyUsage;
use x509_cert::Certificate;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage};

use crate::profile;
use crate::roots::{Roots, strict_pem};
use crate::seal_certificate::{SealCertificate, SealCertificateError, date};
use crate::signer::MAX_CHAIN;

/// No file of a chain is longer, in bytes.
pub const MAX_CHAIN_BYTES: usize = 128 * 1024;

/// Extended key usages that leave a certificate fit for sealing: any; e-mail protection and document signing (RFC 9336), also by their older names of two vendors.
static FIT: [ObjectIdentifier; 5] = [
    ObjectIdentifier::new_unwrap("2.5.29.37.0"),
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.4"),
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.36"),
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.10.3.12"),
    ObjectIdentifier::new_unwrap("1.2.840.113583.1.1.5"),
];

/// A chain cannot be a seal certificate's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Not PEM certificates.
    #[error(
        "the certificate is not readable: {0}; name a PEM file with the certificate first, then those above it"
    )]
    Unreadable(String),
    /// No certificate at all, or too many.
    #[error(
        "a chain of {0} certificates is not allowed; give 1 to {MAX_CHAIN}, the certificate first, then those above it"
    )]
    Count(usize),
    /// Another kind of key.
    #[error(
        "the certificate of {0} is for another key than one of P-256; have the request of `keys certificate request` certified"
    )]
    Key(String),
    /// A certificate authority's.
    #[error(
        "the certificate of {0} is one of a certificate authority; give the seal certificate first, then those above it"
    )]
    Authority(String),
    /// Made for something else.
    #[error(
        "the certificate of {subject} is only for other purposes ({found}); ask the authority for one that may sign documents (no extended key usage, or documentSigning or emailProtection)"
    )]
    Purpose {
        /// Its subject.
        subject: String,
        /// The object identifiers found.
        found: String,
    },
    /// Nobody is named.
    #[error(
        "the certificate of {0:?} names no organisation (O); a seal certificate names a legal person"
    )]
    Nobody(String),
    /// What cannot hold in any time.
    #[error(transparent)]
    Certificate(#[from] SealCertificateError),
    /// The certificates do not belong together.
    #[error(
        "the chain does not hold: no path leads from {subject} to {top}: {reason}; give the certificates in their order, each signed by the next"
    )]
    Broken {
        /// The certificate's subject.
        subject: String,
        /// Subject of the last one.
        top: String,
        /// What the check of paths says.
        reason: String,
    },
}

/// A certificate that can be a seal certificate, and those above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// All certificates in RFC 7468's one spelling, the seal certificate first.
    pub pem: String,
    /// The seal certificate, DER.
    pub leaf_der: Vec<u8>,
    /// What it says.
    pub certificate: SealCertificate,
    /// Who issued it.
    pub issuer: String,
    /// SHA-256 of its DER, lower-case hexadecimal: its name.
    pub fingerprint: String,
}

/// SHA-256 of a certificate's DER, lower-case hexadecimal.
pub fn fingerprint(der: &[u8]) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, der))
}

impl Chain {
    /// Reads the certificates (PEM, the seal certificate first) and checks that they can serve at `now_ms`, Unix milliseconds.
    pub fn read(pem: &[u8], now_ms: i64) -> Result<Self, ChainError> {
        let unreadable = |error: &dyn std::fmt::Display| ChainError::Unreadable(error.to_string());
        if pem.len() > MAX_CHAIN_BYTES {
            let reason = format!("{} bytes; at most {MAX_CHAIN_BYTES} are read", pem.len());
            return Err(ChainError::Unreadable(reason));
        }
        let ders: Vec<Vec<u8>> = CertificateDer::pem_slice_iter(pem)
            .map(|der| der.map(|der| der.to_vec()))
            .collect::<Result<_, _>>()
            .map_err(|error| unreadable(&error))?;
        let Some((leaf_der, above)) = ders.split_first() else {
            return Err(ChainError::Count(0));
        };
        if ders.len() > MAX_CHAIN {
            return Err(ChainError::Count(ders.len()));
        }
        let leaf = Certificate::from_der(leaf_der).map_err(|error| unreadable(&error))?;
        check_purpose(&leaf)?;
        let certificate = SealCertificate::read(&leaf)?;
        certificate.check_valid_at(now_ms)?;
        check_path(&leaf, leaf_der, above, now_ms)?;
        Ok(Self {
            pem: strict_pem(pem).map_err(|error| unreadable(&error))?,
            fingerprint: fingerprint(leaf_der),
            leaf_der: leaf_der.clone(),
            certificate,
            issuer: profile::name_text(&leaf.tbs_certificate.issuer),
        })
    }

    /// The days that are left at `now_ms`, Unix milliseconds; below 0 once it is over.
    pub fn days_left(not_after_ms: i64, now_ms: i64) -> i64 {
        not_after_ms.saturating_sub(now_ms).div_euclid(86_400_000)
    }

    /// In words, for people.
    pub fn until(&self) -> String {
        date(self.certificate.not_after_ms)
    }
}

fn check_purpose(leaf: &Certificate) -> Result<(), ChainError> {
    let tbs = &leaf.tbs_certificate;
    let subject = || profile::name_text(&tbs.subject);
    let unreadable = |error: der::Error| ChainError::Unreadable(error.to_string());
    if profile::p_256_point(leaf).is_none() {
        return Err(ChainError::Key(subject()));
    }
    let constraints = tbs.get::<BasicConstraints>().map_err(unreadable)?;
    if constraints.is_some_and(|(_, it)| it.ca) {
        return Err(ChainError::Authority(subject()));
    }
    let purposes = tbs.get::<ExtendedKeyUsage>().map_err(unreadable)?;
    if let Some((_, ExtendedKeyUsage(purposes))) = purposes
        && !purposes.iter().any(|it| FIT.contains(it))
    {
        let found: Vec<_> = purposes.iter().map(ToString::to_string).collect();
        return Err(ChainError::Purpose {
            subject: subject(),
            found: found.join(", "),
        });
    }
    let organisation = ObjectIdentifier::new_unwrap("2.5.4.10");
    let mut names = tbs.subject.0.iter().flat_map(|it| it.0.iter());
    if names.any(|name| name.oid == organisation) {
        Ok(())
    } else {
        Err(ChainError::Nobody(subject()))
    }
}

/// Each certificate is signed by the next; the last is believed here.
fn check_path(
    leaf: &Certificate,
    leaf_der: &[u8],
    above: &[Vec<u8>],
    now_ms: i64,
) -> Result<(), ChainError> {
    let Some((top, between)) = above.split_last() else {
        return Ok(());
    };
    let unreadable = |error: der::Error| ChainError::Unreadable(error.to_string());
    let read = Certificate::from_der(top).map_err(unreadable)?;
    let broken = |reason: String| ChainError::Broken {
        subject: profile::name_text(&leaf.tbs_certificate.subject),
        top: profile::name_text(&read.tbs_certificate.subject),
        reason,
    };
    // Which of the fit purposes it has was checked; the check of paths wants one of them named.
    let purposes = leaf.tbs_certificate.get::<ExtendedKeyUsage>();
    let (_, ExtendedKeyUsage(purposes)) = purposes
        .map_err(unreadable)?
        .unwrap_or((false, ExtendedKeyUsage(Vec::new())));
    let purpose = FIT.iter().find(|it| purposes.contains(it));
    let purpose = purpose.unwrap_or(&FIT[0]);
    Roots::of_der(top)
        .and_then(|roots| {
            let purpose = KeyUsage::required_if_present(purpose.as_bytes());
            roots.verify_path(leaf_der, between, now_ms, purpose)
        })
        .map_err(broken)
}
