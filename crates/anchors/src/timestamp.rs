//! RFC 3161 (with RFC 5816): requests, and the full verification of what a time-stamping authority answers.
//!
//! A timestamp is over SHA-256 of exact bytes; an anchor's are a checkpoint note with its signatures. Revocation is not
//! looked up: verification is offline, and a path is checked as of the time stamped.

use der::asn1::{AnyRef, BitString, Int, ObjectIdentifier, OctetString};
use der::{Decode, Encode, Tag, Tagged};
use ring::rand::{SecureRandom as _, SystemRandom};
use x509_cert::Certificate;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{ExtendedKeyUsage, KeyUsage};
use x509_tsp::{Accuracy, MessageImprint, TimeStampReq, TspVersion};

use crate::profile::{self, ID_TST_INFO, Response, SHA_256, TIME_STAMPING, TimeStampInfo};
use crate::roots::Roots;
use crate::signed::{self, Checked, SignedError};

/// No answer is longer, in bytes.
pub const MAX_RESPONSE_BYTES: usize = 64 * 1024;
/// What an authority that states no accuracy may be off, in milliseconds: times are often cut to whole seconds.
pub const UNSTATED_ACCURACY_MS: i64 = 1000;

/// A timestamp is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimestampError {
    /// Too long.
    #[error("the answer has {0} bytes; timestamps have at most {MAX_RESPONSE_BYTES}")]
    TooLong(usize),
    /// Not the structure.
    #[error("the timestamp is malformed: {0}; it was damaged, or is not strict DER")]
    Malformed(String),
    /// The authority refused.
    #[error(
        "the time-stamping authority refused with status {status} ({text}; failure bits {failure:?})"
    )]
    Refused {
        /// `PKIStatus`.
        status: u8,
        /// Its words.
        text: String,
        /// The numbers of the bits set in `PKIFailureInfo`.
        failure: Vec<usize>,
    },
    /// Granted, but nothing is there.
    #[error("the answer says granted, but holds no token")]
    NoToken,
    /// The CMS signature does not hold.
    #[error("the timestamp's signature is not good: {0}")]
    Signed(#[from] SignedError),
    /// Another version of `TSTInfo`.
    #[error("the timestamp has version {0}; version 1 is read")]
    Version(u8),
    /// Over other bytes.
    #[error("the timestamp is over other bytes: {0}")]
    Imprint(String),
    /// The nonce differs from the request's: an older answer was replayed.
    #[error("the timestamp's nonce is not the request's; this is an answer to another request")]
    Nonce,
    /// Under another policy than the one asked for.
    #[error("the timestamp is under the policy {found}, not under {wanted}, which was asked for")]
    Policy {
        /// What was asked for.
        wanted: String,
        /// What it says.
        found: String,
    },
    /// The time cannot be read.
    #[error("the timestamp's time {0:?} is not a UTC time; times are like 20261123040506.5Z")]
    Time(String),
    /// The accuracy makes no sense.
    #[error("the timestamp's accuracy is out of range; milliseconds and microseconds are 1 to 999")]
    Accuracy,
    /// A critical extension that nobody here understands.
    #[error("the timestamp has the critical extension {0}, which is not understood")]
    Extension(String),
    /// The stated name of the authority is not its certificate's.
    #[error("the timestamp names {stated} as its authority, but {certified} signed it")]
    Name {
        /// What the token says.
        stated: String,
        /// The certificate's subject.
        certified: String,
    },
    /// The certificate is not one of a time-stamping authority.
    #[error("the certificate of {subject} is not for time-stamping: {problem}")]
    Purpose {
        /// Its subject.
        subject: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// No path to a trusted root.
    #[error(
        "the authority {subject} is not one that you trust ({problem}); name the certificate authority above it with --tsa-root"
    )]
    Untrusted {
        /// Its subject.
        subject: String,
        /// What is wrong with the path.
        problem: String,
    },
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn malformed(error: impl ToString) -> TimestampError {
    TimestampError::Malformed(error.to_string())
}

/// A policy of a time-stamping authority: an object identifier such as `1.3.6.1.4.1.32473.1.1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy(ObjectIdentifier);

impl Policy {
    /// Reads the dotted form.
    pub fn parse(text: &str) -> Option<Self> {
        ObjectIdentifier::new(text).ok().map(Self)
    }
}

/// A request for a timestamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    imprint: [u8; 32],
    nonce: [u8; 8],
    policy: Option<Policy>,
}

impl Request {
    /// Asks for a timestamp over `covered`, with a random nonce, under a policy if one is named. `None`: the system has no randomness.
    pub fn new(covered: &[u8], policy: Option<Policy>) -> Option<Self> {
        let mut nonce = [0; 8];
        SystemRandom::new().fill(&mut nonce).ok()?;
        // A positive number in its only DER spelling, whatever was drawn.
        nonce[0] = nonce[0] & 0x3f | 0x40;
        Some(Self {
            imprint: imprint(covered),
            nonce,
            policy,
        })
    }

    /// The DER of the `TimeStampReq`: SHA-256, nonce, certificate wanted.
    pub fn to_der(&self) -> Result<Vec<u8>, TimestampError> {
        TimeStampReq {
            version: TspVersion::V1,
            message_imprint: MessageImprint {
                hash_algorithm: profile::sha_256(),
                hashed_message: OctetString::new(self.imprint).map_err(malformed)?,
            },
            req_policy: self.policy.map(|policy| policy.0),
            nonce: Some(Int::new(&self.nonce).map_err(malformed)?),
            cert_req: true,
            extensions: None,
        }
        .to_der()
        .map_err(malformed)
    }

    /// Verifies the answer to this request; see [`verify`].
    pub fn verify(&self, response: &[u8], roots: &Roots) -> Result<Timestamp, TimestampError> {
        let timestamp = verify_imprint(response, &self.imprint, Some(&self.nonce), roots)?;
        match self.policy.map(|policy| policy.0.to_string()) {
            Some(wanted) if wanted != timestamp.policy => Err(TimestampError::Policy {
                wanted,
                found: timestamp.policy,
            }),
            Some(_) | None => Ok(timestamp),
        }
    }
}

fn imprint(covered: &[u8]) -> [u8; 32] {
    let mut imprint = [0; 32];
    imprint.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, covered).as_ref());
    imprint
}

/// A timestamp that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timestamp {
    /// `genTime`, Unix milliseconds, rounded down.
    pub time_ms: i64,
    /// How far off the time may be, milliseconds, rounded up; [`UNSTATED_ACCURACY_MS`] where the authority is silent.
    pub accuracy_ms: i64,
    /// The authority: its certificate's subject.
    pub tsa: String,
    /// The policy's object identifier.
    pub policy: String,
    /// The token's serial number, hexadecimal.
    pub serial: String,
}

impl Timestamp {
    /// What was stamped existed at this time at the latest, Unix milliseconds.
    pub fn latest_ms(&self) -> i64 {
        self.time_ms.saturating_add(self.accuracy_ms)
    }
}

/// Verifies a stored answer (`TimeStampResp`, DER) over `covered`: status, imprint, signature over the signed attributes,
/// the certificate that they name, its purpose, its path to `roots` at the time stamped.
pub fn verify(response: &[u8], covered: &[u8], roots: &Roots) -> Result<Timestamp, TimestampError> {
    verify_imprint(response, &imprint(covered), None, roots)
}

/// As [`verify`], without a path to an authority that anybody trusts: the token is whole, over `covered`, and signed under the certificate that it names by
/// its hash; and its list of digests, which no signature covers, names the one that was signed with, as RFC 5652 (5.1) wants it. It proves no time.
pub fn verify_unrooted(response: &[u8], covered: &[u8]) -> Result<Timestamp, TimestampError> {
    let (timestamp, checked) = read_imprint(response, &imprint(covered), None)?;
    if checked.lists_its_digest {
        return Ok(timestamp);
    }
    let text = "its list of digest algorithms lacks the one that was signed with";
    Err(TimestampError::Malformed(text.to_owned()))
}

fn verify_imprint(
    response: &[u8],
    imprint: &[u8; 32],
    nonce: Option<&[u8; 8]>,
    roots: &Roots,
) -> Result<Timestamp, TimestampError> {
    let (timestamp, checked) = read_imprint(response, imprint, nonce)?;
    roots
        .check_path(&checked.leaf_der, &checked.others, timestamp.time_ms)
        .map_err(|problem| TimestampError::Untrusted {
            subject: timestamp.tsa.clone(),
            problem,
        })?;
    Ok(timestamp)
}

/// All but the certificate's path.
fn read_imprint(
    response: &[u8],
    imprint: &[u8; 32],
    nonce: Option<&[u8; 8]>,
) -> Result<(Timestamp, Checked), TimestampError> {
    let token = token(response)?;
    let checked = signed::check(&token, ID_TST_INFO, None)?;
    let info = TimeStampInfo::from_der(&checked.content).map_err(malformed)?;
    check_info(&info, imprint, nonce)?;
    check_purpose(&checked.leaf)?;
    check_name(&info, &checked.leaf)?;
    let (time_ms, accuracy_ms) = (gen_time(info.gen_time)?, accuracy(info.accuracy.as_ref())?);
    let timestamp = Timestamp {
        time_ms,
        accuracy_ms,
        tsa: checked.leaf.tbs_certificate.subject.to_string(),
        policy: info.policy.to_string(),
        serial: hex::encode(info.serial_number.as_bytes()),
    };
    Ok((timestamp, checked))
}

/// The token of a granted answer, DER.
fn token(response: &[u8]) -> Result<Vec<u8>, TimestampError> {
    if response.len() > MAX_RESPONSE_BYTES {
        return Err(TimestampError::TooLong(response.len()));
    }
    let answer = Response::from_der(response).map_err(malformed)?;
    // 0 is granted, 1 is granted with modifications, which the checks below judge.
    if answer.status.code > 1 {
        let text = answer.status.text.unwrap_or_default();
        let text: Vec<_> = text.iter().map(|it| it.as_str()).collect();
        let failure = answer.status.failure.as_ref();
        return Err(TimestampError::Refused {
            status: answer.status.code,
            text: text.join(" ").chars().take(200).collect(),
            failure: failure.map(set_bits).unwrap_or_default(),
        });
    }
    let token = answer.token.ok_or(TimestampError::NoToken)?;
    token.to_der().map_err(malformed)
}

fn set_bits(bits: &BitString) -> Vec<usize> {
    bits.bits()
        .enumerate()
        .filter_map(|(place, set)| set.then_some(place))
        .collect()
}

fn check_info(
    info: &TimeStampInfo<'_>,
    imprint: &[u8; 32],
    nonce: Option<&[u8; 8]>,
) -> Result<(), TimestampError> {
    if info.version != 1 {
        return Err(TimestampError::Version(info.version));
    }
    let stamped = &info.message_imprint;
    if stamped.hash_algorithm.oid != SHA_256
        || profile::digest_of(&stamped.hash_algorithm).is_none()
    {
        let text = format!("the hash is {}, not SHA-256", stamped.hash_algorithm.oid);
        return Err(TimestampError::Imprint(text));
    }
    if stamped.hashed_message.as_bytes() != imprint {
        let text = format!(
            "SHA-256 {} instead of {}",
            hex::encode(stamped.hashed_message.as_bytes()),
            hex::encode(imprint)
        );
        return Err(TimestampError::Imprint(text));
    }
    let stated = info.nonce.as_ref().map(Int::as_bytes);
    if nonce.is_some_and(|wanted| stated != Some(wanted)) {
        return Err(TimestampError::Nonce);
    }
    let critical = info
        .extensions
        .iter()
        .flatten()
        .find(|extension| extension.critical);
    critical.map_or(Ok(()), |extension| {
        Err(TimestampError::Extension(extension.extn_id.to_string()))
    })
}

/// RFC 3161 2.3: the key has exactly one extended purpose, time-stamping, and the extension is critical.
fn check_purpose(leaf: &Certificate) -> Result<(), TimestampError> {
    let refuse = |problem| {
        Err(TimestampError::Purpose {
            subject: leaf.tbs_certificate.subject.to_string(),
            problem,
        })
    };
    match leaf.tbs_certificate.get::<ExtendedKeyUsage>() {
        Err(_) => return refuse("its extendedKeyUsage is unreadable or stands twice"),
        Ok(None) => return refuse("it has no extendedKeyUsage"),
        Ok(Some((false, _))) => return refuse("its extendedKeyUsage is not critical"),
        Ok(Some((true, usage))) if usage.0.as_slice() != [TIME_STAMPING] => {
            return refuse("its extendedKeyUsage is not timeStamping alone");
        }
        Ok(Some(_)) => {}
    }
    match leaf.tbs_certificate.get::<KeyUsage>() {
        Err(_) => refuse("its keyUsage is unreadable or stands twice"),
        Ok(Some((_, usage))) if !usage.digital_signature() && !usage.non_repudiation() => {
            refuse("its keyUsage does not allow signatures")
        }
        Ok(_) => Ok(()),
    }
}

/// RFC 3161 2.4.2: a stated name is one of the certificate's. Only directory names are compared.
fn check_name(info: &TimeStampInfo<'_>, leaf: &Certificate) -> Result<(), TimestampError> {
    let subject = &leaf.tbs_certificate.subject;
    let Some(GeneralName::DirectoryName(stated)) = &info.tsa else {
        return Ok(());
    };
    if stated == subject {
        Ok(())
    } else {
        Err(TimestampError::Name {
            stated: stated.to_string(),
            certified: subject.to_string(),
        })
    }
}

/// RFC 3161 2.4.2: `YYYYMMDDhhmmss[.s…]Z`, the fraction without trailing zeroes.
fn gen_time(value: AnyRef<'_>) -> Result<i64, TimestampError> {
    let text = std::str::from_utf8(value.value()).map_err(malformed)?;
    let error = || TimestampError::Time(text.chars().take(40).collect());
    if value.tag() != Tag::GeneralizedTime {
        return Err(error());
    }
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let moment = text.strip_suffix('Z').ok_or_else(error)?;
    let (whole, fraction) = match moment.split_once('.') {
        None => (moment, None),
        Some((whole, fraction)) => (whole, Some(fraction)),
    };
    let good_fraction = fraction.is_none_or(|it| digits(it) && it.len() <= 9 && !it.ends_with('0'));
    if whole.len() != 14 || !digits(whole) || !good_fraction {
        return Err(error());
    }
    let seconds = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", whole)
        .ok()
        .and_then(|it| it.to_zoned(jiff::tz::TimeZone::UTC).ok())
        .map(|it| it.timestamp().as_millisecond())
        .ok_or_else(error)?;
    let millis: String = fraction
        .unwrap_or_default()
        .chars()
        .chain("000".chars())
        .take(3)
        .collect();
    let millis: i64 = millis.parse().map_err(|_| error())?;
    Ok(seconds + millis)
}

/// Rounded up to whole milliseconds, and one more where `genTime` may have been rounded down.
fn accuracy(stated: Option<&Accuracy>) -> Result<i64, TimestampError> {
    let Some(stated) = stated else {
        return Ok(UNSTATED_ACCURACY_MS);
    };
    let part = |value: Option<i16>| match value {
        None => Ok(0),
        Some(it @ 1..=999) => Ok(i64::from(it)),
        Some(_) => Err(TimestampError::Accuracy),
    };
    let seconds = i64::try_from(stated.seconds.unwrap_or(0))
        .ok()
        .and_then(|it| it.checked_mul(1000))
        .ok_or(TimestampError::Accuracy)?;
    let micros = i64::from(part(stated.micros)? > 0);
    seconds
        .checked_add(part(stated.millis)? + micros + 1)
        .ok_or(TimestampError::Accuracy)
}
