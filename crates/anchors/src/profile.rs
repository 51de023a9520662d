//! Object identifiers and the few structures that the CMS crates do not bring.

use der::Sequence;
use der::asn1::{AnyRef, BitString, Int, Null, ObjectIdentifier, OctetString, Utf8StringRef};
use der::{Any, Encode};
use x509_cert::Certificate;
use x509_cert::ext::Extensions;
use x509_cert::ext::pkix::name::{GeneralName, GeneralNames};
use x509_cert::name::Name;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_tsp::{Accuracy, MessageImprint};

pub(crate) const SHA_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
pub(crate) const SHA_384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
pub(crate) const SHA_512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
pub(crate) const EC_PUBLIC_KEY: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
pub(crate) const P_256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
pub(crate) const ORGANIZATION_IDENTIFIER: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("2.5.4.97");
pub(crate) const ECDSA_SHA_256: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
pub(crate) const ECDSA_SHA_384: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
pub(crate) const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
pub(crate) const RSA_SHA_256: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
pub(crate) const RSA_SHA_384: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
pub(crate) const RSA_SHA_512: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
pub(crate) const ID_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
pub(crate) const ID_SIGNED_DATA: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
pub(crate) const ID_TST_INFO: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
pub(crate) const CONTENT_TYPE: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
pub(crate) const MESSAGE_DIGEST: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
pub(crate) const SIGNING_TIME: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.5");
pub(crate) const SIGNING_CERTIFICATE_V2: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");
pub(crate) const TIME_STAMPING: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8");
/// The contents of [`TIME_STAMPING`]'s encoding, as `webpki` wants it.
pub(crate) const TIME_STAMPING_BYTES: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 8];

/// RFC 5035: binds a signature to one certificate.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub(crate) struct SigningCertificateV2 {
    pub(crate) certs: Vec<EssCertIdV2>,
    #[asn1(optional = "true")]
    pub(crate) policies: Option<Any>,
}

#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub(crate) struct EssCertIdV2 {
    /// SHA-256 where absent.
    #[asn1(optional = "true")]
    pub(crate) hash_algorithm: Option<AlgorithmIdentifierOwned>,
    pub(crate) cert_hash: OctetString,
    #[asn1(optional = "true")]
    pub(crate) issuer_serial: Option<IssuerSerial>,
}

#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub(crate) struct IssuerSerial {
    pub(crate) issuer: GeneralNames,
    pub(crate) serial_number: Int,
}

/// RFC 3161's answer. `x509-tsp` reads `failInfo` through a type that knows only 16 of its 27 bits, so it stands here.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub(crate) struct Response<'a> {
    pub(crate) status: Status<'a>,
    #[asn1(optional = "true")]
    pub(crate) token: Option<AnyRef<'a>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub(crate) struct Status<'a> {
    pub(crate) code: u8,
    #[asn1(optional = "true")]
    pub(crate) text: Option<Vec<Utf8StringRef<'a>>>,
    #[asn1(optional = "true")]
    pub(crate) failure: Option<BitString>,
}

/// RFC 3161's `TSTInfo` with `genTime` left as it is: `x509-tsp` reads whole seconds only, and fractions are allowed.
#[derive(Clone, Debug, PartialEq, Eq, Sequence)]
pub(crate) struct TimeStampInfo<'a> {
    pub(crate) version: u8,
    pub(crate) policy: ObjectIdentifier,
    pub(crate) message_imprint: MessageImprint,
    pub(crate) serial_number: Int,
    pub(crate) gen_time: AnyRef<'a>,
    #[asn1(optional = "true")]
    pub(crate) accuracy: Option<Accuracy>,
    #[asn1(default = "Default::default")]
    pub(crate) ordering: bool,
    #[asn1(optional = "true")]
    pub(crate) nonce: Option<Int>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    pub(crate) tsa: Option<GeneralName>,
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    pub(crate) extensions: Option<Extensions>,
}

/// SHA-256 without parameters.
pub(crate) fn sha_256() -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned {
        oid: SHA_256,
        parameters: None,
    }
}

/// An algorithm's parameters are absent or NULL; anything else would change its meaning.
pub(crate) fn plain_parameters(algorithm: &AlgorithmIdentifierOwned) -> bool {
    algorithm
        .parameters
        .as_ref()
        .is_none_or(|it| it.to_der().ok() == Null.to_der().ok())
}

/// The digest function behind an identifier, if it is one that is still good.
pub(crate) fn digest_of(
    algorithm: &AlgorithmIdentifierOwned,
) -> Option<&'static ring::digest::Algorithm> {
    if !plain_parameters(algorithm) {
        return None;
    }
    match algorithm.oid {
        SHA_256 => Some(&ring::digest::SHA256),
        SHA_384 => Some(&ring::digest::SHA384),
        SHA_512 => Some(&ring::digest::SHA512),
        _ => None,
    }
}

/// The point of a certificate's key, where that is one of P-256.
pub(crate) fn p_256_point(certificate: &Certificate) -> Option<&[u8]> {
    let spki = &certificate.tbs_certificate.subject_public_key_info;
    let curve = spki.algorithm.parameters.as_ref()?.to_der().ok()?;
    if spki.algorithm.oid != EC_PUBLIC_KEY || Some(curve) != P_256.to_der().ok() {
        return None;
    }
    spki.subject_public_key.as_bytes()
}

/// A name as RFC 4514 writes it, with the organisation's identifier (X.520, ETSI EN 319 412-1) in letters instead of hexadecimal where it is plain.
pub(crate) fn name_text(name: &Name) -> String {
    let mut text = name.to_string();
    for attribute in name.0.iter().flat_map(|it| it.0.iter()) {
        let value = attribute.value.decode_as::<Utf8StringRef<'_>>();
        let value = value.map(|it| it.to_string()).unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-:.".contains(&byte);
        if attribute.oid == ORGANIZATION_IDENTIFIER && !value.is_empty() && value.bytes().all(plain)
        {
            let written = format!("organizationIdentifier={value}");
            text = text.replace(&attribute.to_string(), &written);
        }
    }
    text
}
