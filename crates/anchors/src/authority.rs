//! A small time-stamping authority (RFC 3161) for drills and tests.
//!
//! It stamps with the time that its caller gives it and keeps no record, so it is no authority for anybody outside the
//! installation: whoever owns the machine can stamp any time. Real anchors come from somebody else.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response as HttpResponse};
use axum::routing::post;
use der::asn1::{AnyRef, BitString, GeneralizedTime, Int, ObjectIdentifier};
use der::{Decode, Encode};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::sync::Arc;
use x509_cert::ext::pkix::ExtendedKeyUsage;
use x509_tsp::{Accuracy, TimeStampReq};

use crate::profile::{self, ID_TST_INFO, Response, Status, TIME_STAMPING, TimeStampInfo};
use crate::signer::{CmsRequest, Signer, SignerError, since_epoch};

/// The policy that our timestamps name: an arc for documentation and tests, since nothing is promised.
pub const POLICY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.32473.1.1");
/// How far off a stamped time may be, in whole seconds: it is cut to seconds.
pub const ACCURACY_S: u64 = 1;
/// No request is longer, in bytes.
pub const MAX_REQUEST_BYTES: usize = 8 * 1024;

const BAD_ALGORITHM: usize = 0;
const BAD_REQUEST: usize = 2;
const BAD_FORMAT: usize = 5;
const BAD_POLICY: usize = 15;
const BAD_EXTENSION: usize = 16;

/// A time-stamping authority.
#[derive(Debug)]
pub struct Authority {
    signer: Signer,
}

/// Fresh certificates for an [`Authority`], PEM.
#[derive(Clone)]
pub struct Issued {
    /// The root that verifiers trust.
    pub root: String,
    /// The authority's own certificate.
    pub certificate: String,
    /// Its PKCS#8 key; secret.
    pub key: String,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Issued")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// Makes a root and, under it, the certificate of an authority called `name`, both valid between two times in Unix
/// seconds.
pub fn issue(name: &str, not_before_s: i64, not_after_s: i64) -> Result<Issued, SignerError> {
    let purpose = ExtendedKeyUsage(vec![TIME_STAMPING]).to_der()?;
    // Written by hand because RFC 3161 wants it critical, which the library's own field is not.
    let mut purpose = CustomExtension::from_oid_content(&[2, 5, 29, 37], purpose);
    purpose.set_criticality(true);
    let mut leaf = CertificateParams::default();
    leaf.distinguished_name = rcgen::DistinguishedName::new();
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.custom_extensions = vec![purpose];
    issue_under_new_root(name, leaf, not_before_s, not_after_s)
}

/// Makes a root of its own for one certificate, whose common name is `name`; further names are kept.
pub(crate) fn issue_under_new_root(
    name: &str,
    mut leaf: CertificateParams,
    not_before_s: i64,
    not_after_s: i64,
) -> Result<Issued, SignerError> {
    let failed = |error: rcgen::Error| SignerError::Encoding(error.to_string());
    let time = |seconds: i64| {
        time::OffsetDateTime::from_unix_timestamp(seconds)
            .map_err(|_| SignerError::Time(seconds.saturating_mul(1000)))
    };
    let (not_before, not_after) = (time(not_before_s)?, time(not_after_s)?);
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    root.not_before = not_before;
    root.not_after = not_after;
    root.distinguished_name = rcgen::DistinguishedName::new();
    root.distinguished_name
        .push(DnType::CommonName, format!("{name} root"));
    let root_key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let root_certificate = root.self_signed(&root_key).map_err(failed)?;
    leaf.not_before = not_before;
    leaf.not_after = not_after;
    leaf.use_authority_key_identifier_extension = true;
    leaf.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let issuer = Issuer::new(root, root_key);
    let certificate = leaf.signed_by(&key, &issuer).map_err(failed)?;
    Ok(Issued {
        root: root_certificate.pem(),
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

impl Authority {
    /// An authority that signs with `signer`, whose certificate must be one for time-stamping for anybody to accept it.
    pub fn new(signer: Signer) -> Self {
        Self { signer }
    }

    /// Answers a request (`TimeStampReq`, DER) at `now_ms`, Unix milliseconds: a `TimeStampResp`, which may be a refusal.
    /// An error means that nothing can be answered at all.
    pub fn respond(&self, request: &[u8], now_ms: i64) -> Result<Vec<u8>, SignerError> {
        let Ok(request) = TimeStampReq::from_der(request) else {
            return refusal(BAD_FORMAT, "the request is not a TimeStampReq");
        };
        let imprint = &request.message_imprint;
        let Some(algorithm) = profile::digest_of(&imprint.hash_algorithm) else {
            return refusal(BAD_ALGORITHM, "use SHA-256, SHA-384 or SHA-512");
        };
        if imprint.hashed_message.as_bytes().len() != algorithm.output_len() {
            return refusal(BAD_REQUEST, "the imprint does not have its hash's length");
        }
        if request.req_policy.is_some_and(|policy| policy != POLICY) {
            return refusal(BAD_POLICY, "only the authority's own policy is served");
        }
        if request.extensions.is_some_and(|it| !it.is_empty()) {
            return refusal(BAD_EXTENSION, "no extension is served");
        }
        let mut serial = [0; 16];
        SystemRandom::new()
            .fill(&mut serial)
            .map_err(|_| SignerError::Signing)?;
        serial[0] = serial[0] & 0x3f | 0x40;
        let time = GeneralizedTime::from_unix_duration(since_epoch(now_ms)?)?.to_der()?;
        let info = TimeStampInfo {
            version: 1,
            policy: POLICY,
            message_imprint: request.message_imprint,
            serial_number: Int::new(&serial)?,
            gen_time: AnyRef::from_der(&time)?,
            accuracy: Some(Accuracy {
                seconds: Some(ACCURACY_S),
                millis: None,
                micros: None,
            }),
            ordering: false,
            nonce: request.nonce,
            tsa: None,
            extensions: None,
        };
        let token = self.signer.sign_cms(&CmsRequest {
            content_type: ID_TST_INFO,
            content: &info.to_der()?,
            detached: false,
            with_certificates: request.cert_req,
            signing_time_ms: Some(now_ms),
        })?;
        Ok(Response {
            status: Status {
                code: 0,
                text: None,
                failure: None,
            },
            token: Some(AnyRef::from_der(&token)?),
        }
        .to_der()?)
    }
}

fn refusal(bit: usize, text: &str) -> Result<Vec<u8>, SignerError> {
    let mut bits = vec![0_u8; bit / 8 + 1];
    if let Some(last) = bits.last_mut() {
        *last = 0x80 >> (bit % 8);
    }
    let unused = u8::try_from(7 - bit % 8).unwrap_or_default();
    Ok(Response {
        status: Status {
            code: 2,
            text: Some(vec![der::asn1::Utf8StringRef::new(text)?]),
            failure: Some(BitString::new(unused, bits)?),
        },
        token: None,
    }
    .to_der()?)
}

/// Where an authority takes its time from: Unix milliseconds.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Serves `POST /` as RFC 3161 3.4 says.
pub fn router(authority: Arc<Authority>, clock: Clock) -> Router {
    Router::new()
        .route("/", post(answer))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .with_state((authority, clock))
}

async fn answer(
    State((authority, clock)): State<(Arc<Authority>, Clock)>,
    headers: HeaderMap,
    body: Bytes,
) -> HttpResponse {
    let kind = headers.get(header::CONTENT_TYPE);
    if kind.is_none_or(|it| it.as_bytes() != b"application/timestamp-query") {
        let text = "send a TimeStampReq as application/timestamp-query\n";
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response();
    }
    match authority.respond(&body, clock()) {
        Ok(answer) => {
            let kind = [(header::CONTENT_TYPE, "application/timestamp-reply")];
            (kind, answer).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
