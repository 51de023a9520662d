//! The strict checking of one CMS signature: who signed, and that every signed attribute says what it must.

use cms::cert::CertificateChoices;
use cms::content_info::ContentInfo;
use cms::signed_data::{SignedData, SignerIdentifier, SignerInfo};
use der::asn1::{Any, ObjectIdentifier, OctetString};
use der::{Decode, Encode};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm};
use webpki::{EndEntityCert, ring as algorithms};
use x509_cert::Certificate;
use x509_cert::ext::pkix::SubjectKeyIdentifier;
use x509_cert::ext::pkix::name::GeneralName;

use crate::profile::{
    self, CONTENT_TYPE, ECDSA_SHA_256, ECDSA_SHA_384, ID_SIGNED_DATA, MESSAGE_DIGEST, RSA,
    RSA_SHA_256, RSA_SHA_384, RSA_SHA_512, SHA_256, SHA_384, SHA_512, SIGNING_CERTIFICATE_V2,
    SigningCertificateV2,
};

/// No message carries more certificates.
const MAX_CERTIFICATES: usize = 16;

/// A CMS signature does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignedError {
    /// Not the structure.
    #[error("the signed message is malformed: {0}; it was damaged, or is not strict DER")]
    Malformed(String),
    /// Another kind of message.
    #[error("the message has the type {found}, not {wanted}")]
    Type {
        /// The object identifier found.
        found: String,
        /// The one wanted.
        wanted: String,
    },
    /// Not exactly one signer.
    #[error("the message has {0} signers; exactly one is expected")]
    Signers(usize),
    /// Too many certificates.
    #[error("the message carries {0} certificates; at most {MAX_CERTIFICATES} are read")]
    Certificates(usize),
    /// The content is in the message where it must not be, or the other way round.
    #[error("the message {0}")]
    Content(&'static str),
    /// The signer's certificate is not there.
    #[error("the signer's certificate is not in the message; ask for it in the request (certReq)")]
    NoCertificate,
    /// A signed attribute is absent, doubled, or not what it must be.
    #[error("the signed attribute {attribute} {problem}")]
    Attribute {
        /// Its name.
        attribute: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A digest or signature algorithm that is not accepted.
    #[error(
        "the algorithm {0} is not accepted; SHA-256, SHA-384 or SHA-512 with P-256, P-384 or RSA are"
    )]
    Algorithm(String),
    /// The signature itself fails.
    #[error("the signature of {0} does not verify; the message was changed or forged")]
    Signature(String),
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn malformed(error: impl ToString) -> SignedError {
    SignedError::Malformed(error.to_string())
}

/// A CMS message whose single signature was checked; the signer's certificate is not trusted yet.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) content: Vec<u8>,
    pub(crate) leaf: Certificate,
    pub(crate) leaf_der: Vec<u8>,
    pub(crate) others: Vec<Vec<u8>>,
    /// Whether the message's list of digests names the one that was signed with. No signature covers that list and nothing rests on it: what is missing there was
    /// changed, or left out by its maker.
    pub(crate) lists_its_digest: bool,
}

/// Checks a `ContentInfo` with a `SignedData` of `content_type`. `detached` is the content that is not inside.
pub(crate) fn check(
    message: &[u8],
    content_type: ObjectIdentifier,
    detached: Option<&[u8]>,
) -> Result<Checked, SignedError> {
    let data = open(message, content_type)?;
    let content = content(&data, detached)?;
    let infos = data.signer_infos.0.as_slice();
    let [info] = infos else {
        return Err(SignedError::Signers(infos.len()));
    };
    let (leaf, others) = certificates(&data, info)?;
    let leaf_der = leaf.to_der().map_err(malformed)?;
    check_attributes(info, content_type, &content, &leaf, &leaf_der)?;
    check_signature(info, &leaf, &leaf_der)?;
    let digest = info.digest_alg.oid;
    let mut listed = data.digest_algorithms.iter();
    Ok(Checked {
        content,
        leaf,
        leaf_der,
        others,
        lists_its_digest: listed.any(|it| it.oid == digest && profile::digest_of(it).is_some()),
    })
}

fn open(message: &[u8], content_type: ObjectIdentifier) -> Result<SignedData, SignedError> {
    let info = ContentInfo::from_der(message).map_err(malformed)?;
    let wrong = |found: ObjectIdentifier, wanted: ObjectIdentifier| SignedError::Type {
        found: found.to_string(),
        wanted: wanted.to_string(),
    };
    if info.content_type != ID_SIGNED_DATA {
        return Err(wrong(info.content_type, ID_SIGNED_DATA));
    }
    let data: SignedData = info.content.decode_as().map_err(malformed)?;
    if data.encap_content_info.econtent_type != content_type {
        return Err(wrong(data.encap_content_info.econtent_type, content_type));
    }
    Ok(data)
}

fn content(data: &SignedData, detached: Option<&[u8]>) -> Result<Vec<u8>, SignedError> {
    match (&data.encap_content_info.econtent, detached) {
        (Some(inside), None) => Ok(inside
            .decode_as::<OctetString>()
            .map_err(malformed)?
            .into_bytes()),
        (None, Some(outside)) => Ok(outside.to_vec()),
        (None, None) => Err(SignedError::Content("has no content")),
        (Some(_), Some(_)) => Err(SignedError::Content(
            "carries a content of its own; a detached signature is expected",
        )),
    }
}

/// The signer's certificate, and the others of the message.
fn certificates(
    data: &SignedData,
    info: &SignerInfo,
) -> Result<(Certificate, Vec<Vec<u8>>), SignedError> {
    let all = data
        .certificates
        .as_ref()
        .ok_or(SignedError::NoCertificate)?
        .0
        .as_slice();
    if all.len() > MAX_CERTIFICATES {
        return Err(SignedError::Certificates(all.len()));
    }
    let mut leaf = None;
    let mut others = Vec::new();
    for choice in all {
        let CertificateChoices::Certificate(certificate) = choice else {
            continue;
        };
        if leaf.is_none() && is_signer(&info.sid, certificate) {
            leaf = Some(certificate.clone());
        } else {
            others.push(certificate.to_der().map_err(malformed)?);
        }
    }
    Ok((leaf.ok_or(SignedError::NoCertificate)?, others))
}

fn is_signer(sid: &SignerIdentifier, certificate: &Certificate) -> bool {
    let tbs = &certificate.tbs_certificate;
    match sid {
        SignerIdentifier::IssuerAndSerialNumber(it) => {
            it.issuer == tbs.issuer && it.serial_number == tbs.serial_number
        }
        SignerIdentifier::SubjectKeyIdentifier(wanted) => tbs
            .get::<SubjectKeyIdentifier>()
            .is_ok_and(|found| found.is_some_and(|(_, found)| found == *wanted)),
    }
}

/// The single value of an attribute that stands exactly once.
fn attribute<'a>(
    info: &'a SignerInfo,
    oid: ObjectIdentifier,
    name: &'static str,
) -> Result<&'a Any, SignedError> {
    let problem = |problem: &str| SignedError::Attribute {
        attribute: name,
        problem: problem.to_owned(),
    };
    let mut found = info
        .signed_attrs
        .iter()
        .flat_map(|attributes| attributes.iter())
        .filter(|attribute| attribute.oid == oid);
    let first = found.next().ok_or_else(|| problem("is missing"))?;
    if found.next().is_some() {
        return Err(problem("stands twice"));
    }
    match first.values.as_slice() {
        [value] => Ok(value),
        _ => Err(problem("does not have exactly one value")),
    }
}

fn check_attributes(
    info: &SignerInfo,
    content_type: ObjectIdentifier,
    content: &[u8],
    leaf: &Certificate,
    leaf_der: &[u8],
) -> Result<(), SignedError> {
    let problem = |attribute: &'static str, problem: &str| SignedError::Attribute {
        attribute,
        problem: problem.to_owned(),
    };
    let stated: ObjectIdentifier = attribute(info, CONTENT_TYPE, "contentType")?
        .decode_as()
        .map_err(malformed)?;
    if stated != content_type {
        return Err(problem(
            "contentType",
            "names another type than the content's",
        ));
    }
    let algorithm = profile::digest_of(&info.digest_alg)
        .ok_or_else(|| SignedError::Algorithm(info.digest_alg.oid.to_string()))?;
    let digest: OctetString = attribute(info, MESSAGE_DIGEST, "messageDigest")?
        .decode_as()
        .map_err(malformed)?;
    if digest.as_bytes() != ring::digest::digest(algorithm, content).as_ref() {
        return Err(problem(
            "messageDigest",
            "is not the content's digest; the content was changed",
        ));
    }
    let bound: SigningCertificateV2 =
        attribute(info, SIGNING_CERTIFICATE_V2, "signingCertificateV2")?
            .decode_as()
            .map_err(malformed)?;
    if names_certificate(&bound, leaf, leaf_der)? {
        Ok(())
    } else {
        Err(problem(
            "signingCertificateV2",
            "names another certificate than the signer's",
        ))
    }
}

/// RFC 5035: the first certificate named is the signer's.
fn names_certificate(
    bound: &SigningCertificateV2,
    leaf: &Certificate,
    leaf_der: &[u8],
) -> Result<bool, SignedError> {
    let Some(first) = bound.certs.first() else {
        return Ok(false);
    };
    let stated = first.hash_algorithm.clone();
    let stated = stated.unwrap_or_else(profile::sha_256);
    let algorithm = profile::digest_of(&stated)
        .ok_or_else(|| SignedError::Algorithm(stated.oid.to_string()))?;
    let tbs = &leaf.tbs_certificate;
    let same_issuer = first.issuer_serial.as_ref().is_none_or(|it| {
        it.serial_number.as_bytes() == tbs.serial_number.as_bytes()
            && it.issuer == [GeneralName::DirectoryName(tbs.issuer.clone())]
    });
    let same_hash =
        first.cert_hash.as_bytes() == ring::digest::digest(algorithm, leaf_der).as_ref();
    Ok(same_hash && same_issuer)
}

/// RFC 5652 5.4: what is signed is the DER of the attributes as a SET OF, not as the tagged field.
fn check_signature(
    info: &SignerInfo,
    leaf: &Certificate,
    leaf_der: &[u8],
) -> Result<(), SignedError> {
    let subject = || leaf.tbs_certificate.subject.to_string();
    let signed = info
        .signed_attrs
        .as_ref()
        .ok_or(SignedError::Attribute {
            attribute: "contentType",
            problem: "is missing".to_owned(),
        })?
        .to_der()
        .map_err(malformed)?;
    let der = CertificateDer::from(leaf_der);
    let certificate = EndEntityCert::try_from(&der).map_err(malformed)?;
    let holds = candidates(info)?.iter().any(|algorithm| {
        certificate
            .verify_signature(*algorithm, &signed, info.signature.as_bytes())
            .is_ok()
    });
    if holds {
        Ok(())
    } else {
        Err(SignedError::Signature(subject()))
    }
}

type Algorithms = &'static [&'static dyn SignatureVerificationAlgorithm];

const EC_SHA_256: Algorithms = &[algorithms::ECDSA_P256_SHA256, algorithms::ECDSA_P384_SHA256];
const EC_SHA_384: Algorithms = &[algorithms::ECDSA_P256_SHA384, algorithms::ECDSA_P384_SHA384];
const RSA_WITH_SHA_256: Algorithms = &[algorithms::RSA_PKCS1_2048_8192_SHA256];
const RSA_WITH_SHA_384: Algorithms = &[algorithms::RSA_PKCS1_2048_8192_SHA384];
const RSA_WITH_SHA_512: Algorithms = &[algorithms::RSA_PKCS1_2048_8192_SHA512];

/// The algorithms that the identifiers may mean; the certificate's key decides between curves. Digests of the attributes
/// and of the content must be one and the same function.
fn candidates(info: &SignerInfo) -> Result<Algorithms, SignedError> {
    let (digest, signature) = (info.digest_alg.oid, &info.signature_algorithm);
    let refused = || SignedError::Algorithm(format!("{} with {digest}", signature.oid));
    if !profile::plain_parameters(signature) {
        return Err(refused());
    }
    match (signature.oid, digest) {
        (ECDSA_SHA_256, SHA_256) => Ok(EC_SHA_256),
        (ECDSA_SHA_384, SHA_384) => Ok(EC_SHA_384),
        (RSA | RSA_SHA_256, SHA_256) => Ok(RSA_WITH_SHA_256),
        (RSA | RSA_SHA_384, SHA_384) => Ok(RSA_WITH_SHA_384),
        (RSA | RSA_SHA_512, SHA_512) => Ok(RSA_WITH_SHA_512),
        _ => Err(refused()),
    }
}
