//! The certificate authorities that a verifier trusts, and certificate paths to them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, ring as algorithms};

use crate::profile::TIME_STAMPING_BYTES;

/// No file of roots holds more certificates.
pub const MAX_ROOTS: usize = 64;

/// What may sign a certificate of a path: P-256, P-384, RSA of 2048 bits and more, Ed25519.
pub(crate) const CERTIFICATE_ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    algorithms::ECDSA_P256_SHA256,
    algorithms::ECDSA_P256_SHA384,
    algorithms::ECDSA_P384_SHA256,
    algorithms::ECDSA_P384_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA256,
    algorithms::RSA_PKCS1_2048_8192_SHA384,
    algorithms::RSA_PKCS1_2048_8192_SHA512,
    algorithms::ED25519,
];

/// A file does not hold usable roots.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootsError {
    /// Not PEM certificates.
    #[error(
        "the roots are not PEM certificates: {0}; name a file with CERTIFICATE blocks of certificate authorities"
    )]
    Pem(String),
    /// No certificate at all, or too many.
    #[error("{0} roots are not allowed; name 1 to {MAX_ROOTS} certificate authorities")]
    Count(usize),
    /// A certificate that cannot be a root.
    #[error("root number {place} is not a certificate that can be trusted: {reason}")]
    Certificate {
        /// Counted from 1.
        place: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// The same certificates in RFC 7468's one spelling, as trust bundles hold them: no text between them, lines of 64 characters.
pub fn strict_pem(pem: &[u8]) -> Result<String, RootsError> {
    let mut text = String::new();
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let der = certificate.map_err(|error| RootsError::Pem(error.to_string()))?;
        let packed = STANDARD.encode(&der);
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        for (place, letter) in packed.chars().enumerate() {
            if place != 0 && place % 64 == 0 {
                text.push('\n');
            }
            text.push(letter);
        }
        text.push_str("\n-----END CERTIFICATE-----\n");
        count += 1;
    }
    if count == 0 || count > MAX_ROOTS {
        return Err(RootsError::Count(count));
    }
    Ok(text)
}

/// Certificate authorities that are trusted to name time-stamping authorities or the holders of seal certificates.
#[derive(Debug, Clone)]
pub struct Roots {
    anchors: Vec<TrustAnchor<'static>>,
}

impl Roots {
    /// One certificate as a root.
    pub(crate) fn of_der(der: &[u8]) -> Result<Self, String> {
        let der = CertificateDer::from(der);
        let anchor = anchor_from_trusted_cert(&der).map_err(|error| error.to_string())?;
        Ok(Self {
            anchors: vec![anchor.to_owned()],
        })
    }

    /// Reads PEM certificates of authorities.
    pub fn from_pem(pem: &[u8]) -> Result<Self, RootsError> {
        let certificates = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| RootsError::Pem(error.to_string()))?;
        if certificates.is_empty() || certificates.len() > MAX_ROOTS {
            return Err(RootsError::Count(certificates.len()));
        }
        let anchors = certificates
            .iter()
            .enumerate()
            .map(|(place, der)| {
                anchor_from_trusted_cert(der)
                    .map(|anchor| anchor.to_owned())
                    .map_err(|error| RootsError::Certificate {
                        place: place + 1,
                        reason: error.to_string(),
                    })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { anchors })
    }

    /// Checks that a path of a time-stamping authority leads from `leaf` to a root, every certificate being valid at `at_ms` (Unix milliseconds).
    pub(crate) fn check_path(
        &self,
        leaf: &[u8],
        others: &[Vec<u8>],
        at_ms: i64,
    ) -> Result<(), String> {
        self.verify_path(leaf, others, at_ms, KeyUsage::required(TIME_STAMPING_BYTES))
    }

    /// Checks that a path leads from `leaf` to a root, every certificate being valid at `at_ms` (Unix milliseconds) and `leaf` having this purpose.
    pub(crate) fn verify_path(
        &self,
        leaf: &[u8],
        others: &[Vec<u8>],
        at_ms: i64,
        purpose: KeyUsage,
    ) -> Result<(), String> {
        let leaf = CertificateDer::from(leaf);
        let leaf = EndEntityCert::try_from(&leaf).map_err(|error| error.to_string())?;
        let others: Vec<_> = others
            .iter()
            .map(|der| CertificateDer::from(der.as_slice()))
            .collect();
        let seconds = u64::try_from(at_ms.div_euclid(1000)).map_err(|error| error.to_string())?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        leaf.verify_for_usage(
            CERTIFICATE_ALGORITHMS,
            &self.anchors,
            &others,
            time,
            purpose,
            None,
            None,
        )
        .map(drop)
        .map_err(|error| error.to_string())
    }
}
