//! A P-256 key with its certificate, and the CMS signatures that it makes.

use cms::cert::{CertificateChoices, IssuerAndSerialNumber};
use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{
    CertificateSet, EncapsulatedContentInfo, SignedData, SignerIdentifier, SignerInfo, SignerInfos,
};
use der::asn1::{Any, GeneralizedTime, Int, ObjectIdentifier, OctetString, SetOfVec, UtcTime};
use der::{Decode, Encode, Tag};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, KeyPair as _,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::fmt;
use std::time::Duration;
use x509_cert::Certificate;
use x509_cert::attr::Attribute;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::spki::AlgorithmIdentifierOwned;

use crate::profile::{
    self, CONTENT_TYPE, ECDSA_SHA_256, EssCertIdV2, ID_SIGNED_DATA, IssuerSerial, MESSAGE_DIGEST,
    SIGNING_CERTIFICATE_V2, SIGNING_TIME, SigningCertificateV2,
};

/// No chain is longer, leaf included.
pub const MAX_CHAIN: usize = 8;

/// A key or certificate cannot be used, or a signature cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    /// Not PEM certificates.
    #[error(
        "the certificate is not readable: {0}; name a PEM file with the certificate first, then those above it"
    )]
    Certificate(String),
    /// No certificate at all, or too many.
    #[error("a chain of {0} certificates is not allowed; give 1 to {MAX_CHAIN}")]
    Chain(usize),
    /// Not an unencrypted P-256 key.
    #[error("the key is not usable: {0}; name a PEM file with an unencrypted PKCS#8 P-256 key")]
    Key(String),
    /// Key and certificate are strangers.
    #[error(
        "the key does not belong to the certificate of {0}; name the pair that was made together"
    )]
    Mismatch(String),
    /// A time that no certificate can hold.
    #[error("{0} ms is not a time that a signature can state")]
    Time(i64),
    /// The structure cannot be written.
    #[error("the signature cannot be encoded: {0}")]
    Encoding(String),
    /// The signing operation failed.
    #[error("the key could not sign; the system's source of randomness may be unavailable")]
    Signing,
}

impl From<der::Error> for SignerError {
    fn from(error: der::Error) -> Self {
        Self::Encoding(error.to_string())
    }
}

/// A P-256 key with its certificate.
pub struct Signer {
    chain: Vec<Certificate>,
    leaf_der: Vec<u8>,
    /// Signs as CMS writes it, SEQUENCE of r and s.
    key: EcdsaKeyPair,
    /// Signs as COSE writes it, r ‖ s.
    fixed: EcdsaKeyPair,
    random: SystemRandom,
}

impl fmt::Debug for Signer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Signer")
            .field("subject", &self.subject())
            .finish_non_exhaustive()
    }
}

impl Signer {
    /// Reads the chain (own certificate first) and the PKCS#8 key, both PEM, and checks that they belong together.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, SignerError> {
        let ders = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| SignerError::Certificate(error.to_string()))?;
        if ders.len() > MAX_CHAIN {
            return Err(SignerError::Chain(ders.len()));
        }
        let leaf_der = ders.first().ok_or(SignerError::Chain(0))?.to_vec();
        let chain = ders
            .iter()
            .map(|der| Certificate::from_der(der))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| SignerError::Certificate(error.to_string()))?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(key)
            .map_err(|error| SignerError::Key(error.to_string()))?;
        let random = SystemRandom::new();
        let open = |form: &'static EcdsaSigningAlgorithm| {
            EcdsaKeyPair::from_pkcs8(form, key.secret_pkcs8_der(), &random)
                .map_err(|error| SignerError::Key(error.to_string()))
        };
        let signer = Self {
            chain,
            leaf_der,
            key: open(&ECDSA_P256_SHA256_ASN1_SIGNING)?,
            fixed: open(&ECDSA_P256_SHA256_FIXED_SIGNING)?,
            random,
        };
        let certified = signer
            .leaf()?
            .tbs_certificate
            .subject_public_key_info
            .clone();
        if certified.subject_public_key.as_bytes() != Some(signer.key.public_key().as_ref()) {
            return Err(SignerError::Mismatch(signer.subject()));
        }
        Ok(signer)
    }

    /// The certificate's subject.
    pub fn subject(&self) -> String {
        self.chain
            .first()
            .map(|leaf| leaf.tbs_certificate.subject.to_string())
            .unwrap_or_default()
    }

    /// From when to when the certificate is valid, Unix milliseconds.
    pub fn validity_ms(&self) -> Result<(i64, i64), SignerError> {
        let validity = self.leaf()?.tbs_certificate.validity;
        let ms = |time: x509_cert::time::Time| {
            i64::try_from(time.to_unix_duration().as_millis()).unwrap_or(i64::MAX)
        };
        Ok((ms(validity.not_before), ms(validity.not_after)))
    }

    /// The certificate, DER.
    pub fn certificate_der(&self) -> &[u8] {
        &self.leaf_der
    }

    pub(crate) fn leaf(&self) -> Result<&Certificate, SignerError> {
        self.chain.first().ok_or(SignerError::Chain(0))
    }

    /// An ASN.1 ECDSA signature with SHA-256.
    pub(crate) fn sign_asn1(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        self.key
            .sign(&self.random, message)
            .map(|signature| signature.as_ref().to_vec())
            .map_err(|_| SignerError::Signing)
    }

    /// An ECDSA signature with SHA-256 as r ‖ s, 64 bytes.
    pub(crate) fn sign_fixed(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        self.fixed
            .sign(&self.random, message)
            .map(|signature| signature.as_ref().to_vec())
            .map_err(|_| SignerError::Signing)
    }

    /// A CMS `SignedData` over `content`, DER of its `ContentInfo`. Detached ones do not carry the content.
    pub(crate) fn sign_cms(&self, request: &CmsRequest<'_>) -> Result<Vec<u8>, SignerError> {
        let leaf = self.leaf()?;
        let attributes = self.attributes(request)?;
        let signature = self.sign_asn1(&attributes.to_der()?)?;
        let info = SignerInfo {
            version: CmsVersion::V1,
            sid: SignerIdentifier::IssuerAndSerialNumber(IssuerAndSerialNumber {
                issuer: leaf.tbs_certificate.issuer.clone(),
                serial_number: leaf.tbs_certificate.serial_number.clone(),
            }),
            digest_alg: profile::sha_256(),
            signed_attrs: Some(attributes),
            signature_algorithm: AlgorithmIdentifierOwned {
                oid: ECDSA_SHA_256,
                parameters: None,
            },
            signature: OctetString::new(signature)?,
            unsigned_attrs: None,
        };
        let certificates = if request.with_certificates {
            let all = self.chain.iter().cloned();
            Some(CertificateSet(SetOfVec::from_iter(
                all.map(CertificateChoices::Certificate),
            )?))
        } else {
            None
        };
        let econtent = if request.detached {
            None
        } else {
            Some(Any::new(Tag::OctetString, request.content)?)
        };
        // RFC 5652 5.1: version 3 where the content is not id-data, else 1.
        let version = if request.content_type == profile::ID_DATA {
            CmsVersion::V1
        } else {
            CmsVersion::V3
        };
        let data = SignedData {
            version,
            digest_algorithms: SetOfVec::from_iter([profile::sha_256()])?,
            encap_content_info: EncapsulatedContentInfo {
                econtent_type: request.content_type,
                econtent,
            },
            certificates,
            crls: None,
            signer_infos: SignerInfos(SetOfVec::from_iter([info])?),
        };
        Ok(ContentInfo {
            content_type: ID_SIGNED_DATA,
            content: Any::encode_from(&data)?,
        }
        .to_der()?)
    }

    fn attributes(&self, request: &CmsRequest<'_>) -> Result<SetOfVec<Attribute>, SignerError> {
        let digest = ring::digest::digest(&ring::digest::SHA256, request.content);
        let tbs = &self.leaf()?.tbs_certificate;
        let certificate = SigningCertificateV2 {
            certs: vec![EssCertIdV2 {
                hash_algorithm: None,
                cert_hash: OctetString::new(
                    ring::digest::digest(&ring::digest::SHA256, &self.leaf_der).as_ref(),
                )?,
                issuer_serial: Some(IssuerSerial {
                    issuer: vec![GeneralName::DirectoryName(tbs.issuer.clone())],
                    serial_number: Int::new(tbs.serial_number.as_bytes())?,
                }),
            }],
            policies: None,
        };
        let mut attributes = vec![
            attribute(CONTENT_TYPE, Any::encode_from(&request.content_type)?)?,
            attribute(
                MESSAGE_DIGEST,
                Any::encode_from(&OctetString::new(digest.as_ref())?)?,
            )?,
            attribute(SIGNING_CERTIFICATE_V2, Any::encode_from(&certificate)?)?,
        ];
        if let Some(time_ms) = request.signing_time_ms {
            attributes.push(attribute(SIGNING_TIME, signing_time(time_ms)?)?);
        }
        Ok(SetOfVec::from_iter(attributes)?)
    }
}

/// What a CMS signature is to say.
pub(crate) struct CmsRequest<'a> {
    pub(crate) content_type: ObjectIdentifier,
    pub(crate) content: &'a [u8],
    pub(crate) detached: bool,
    pub(crate) with_certificates: bool,
    /// Unix milliseconds.
    pub(crate) signing_time_ms: Option<i64>,
}

fn attribute(oid: ObjectIdentifier, value: Any) -> Result<Attribute, SignerError> {
    Ok(Attribute {
        oid,
        values: SetOfVec::from_iter([value])?,
    })
}

/// RFC 5652 11.3: `UTCTime` up to 2049, `GeneralizedTime` from 2050.
fn signing_time(time_ms: i64) -> Result<Any, SignerError> {
    let time = since_epoch(time_ms)?;
    Ok(match UtcTime::from_unix_duration(time) {
        Ok(utc) => Any::encode_from(&utc)?,
        Err(_) => Any::encode_from(&GeneralizedTime::from_unix_duration(time)?)?,
    })
}

/// Whole seconds since 1970.
pub(crate) fn since_epoch(time_ms: i64) -> Result<Duration, SignerError> {
    u64::try_from(time_ms.div_euclid(1000))
        .map(Duration::from_secs)
        .map_err(|_| SignerError::Time(time_ms))
}
