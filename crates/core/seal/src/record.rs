//! Records and their salted entries.
//!
//! A record is private: it says what was sealed, for whom. What stands in the public tile is only its commitment,
//! `0x01 ‖ SHA-256("sealwarden/entry/v1\n" ‖ 16-byte nonce ‖ record bytes)`; erasing nonce and record erases the link.
//!
//! Record bytes, version 1 (all numbers big-endian, strings UTF-8):
//! `0x01 ‖ u8 digest algorithm ‖ digest ‖ u64 claimed_at_ms ‖ u8 length, tenant ‖ u8 length, policy ‖ u8 flags` and then,
//! in this order, what the flags announce: bit 0 `u16 length, subject`; bit 1 `u8 length, origin, u64 index` of the
//! original; bit 2 `u8 length, request id`.

use crate::encoding::{self, excerpt};
use crate::merkle::{self, Hash};
use crate::note::{VkeyError, validate_name};
use std::ops::Range;

const RECORD_VERSION: u8 = 1;
const ENTRY_VERSION: u8 = 1;
const ENTRY_DOMAIN: &[u8] = b"sealwarden/entry/v1\n";
const FLAG_SUBJECT: u8 = 1;
const FLAG_ORIGINAL: u8 = 2;
const FLAG_REQUEST_ID: u8 = 4;

/// Where a record's digest stands in its encoding, after version and algorithm.
pub const DIGEST_PLACE: Range<usize> = 2..34;
/// Where the length of the tenant's name stands, after the digest and the claimed time.
const TENANT_PLACE: usize = DIGEST_PLACE.end + 8;

/// Tenant and policy names and request ids hold 1 to this many bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// A subject holds 1 to this many bytes.
pub const MAX_SUBJECT_BYTES: usize = 1024;
/// The latest time that a record can claim: what RFC 3339 can still write in every zone.
pub const MAX_CLAIMED_AT_MS: i64 = 253_402_207_199_999;
/// A nonce has this many bytes, drawn anew for each record.
pub const NONCE_BYTES: usize = 16;
/// An entry has this many bytes.
pub const ENTRY_BYTES: usize = 33;

/// The nonce that salts an entry.
pub type Nonce = [u8; NONCE_BYTES];

/// How the document was digested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DigestAlgorithm {
    /// SHA-256, code 1.
    Sha256,
}

impl DigestAlgorithm {
    fn code(self) -> u8 {
        match self {
            Self::Sha256 => 1,
        }
    }

    /// The algorithm's usual name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
        }
    }
}

/// The leaf that a re-sealed record was first sealed in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Original {
    /// The first log's origin.
    pub origin: String,
    /// The leaf's index there.
    pub index: u64,
}

/// What was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose document it is: 1 to 128 bytes.
    pub tenant: String,
    /// The sealing policy it was sealed under: 1 to 128 bytes.
    pub policy: String,
    /// How the document was digested.
    pub digest_algorithm: DigestAlgorithm,
    /// The document's digest.
    pub digest: [u8; 32],
    /// The time that the sealing service claims, in Unix milliseconds; a claim, not a proof.
    pub claimed_at_ms: i64,
    /// What the document is about: 1 to 1024 bytes.
    pub subject: Option<String>,
    /// The first seal, where this is a re-sealing.
    pub original: Option<Original>,
    /// The client's own id of its request: 1 to 128 bytes.
    pub request_id: Option<String>,
}

/// A record breaks a limit, or bytes are not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A text that is empty, too long, or holds control characters.
    #[error(
        "the record's {field} {value:?} is not allowed: use 1 to {limit} bytes without control characters"
    )]
    Text {
        /// The field's name.
        field: &'static str,
        /// The value, shortened.
        value: String,
        /// The most bytes it may have.
        limit: usize,
    },
    /// A time outside 1970 to 9999.
    #[error(
        "the record claims the time {0} ms; give Unix milliseconds from 0 to {MAX_CLAIMED_AT_MS}"
    )]
    ClaimedAt(i64),
    /// An index of 2^63 or more.
    #[error("the record's original has index {0}; indices are below 2^63")]
    OriginalIndex(u64),
    /// An origin that no log can have.
    #[error("the record's original is not a log: {0}")]
    Origin(#[from] VkeyError),
    /// A record version that this program does not know.
    #[error(
        "the record has version {0}, this program reads version {RECORD_VERSION}; use a newer one"
    )]
    Version(u8),
    /// A digest algorithm that this program does not know.
    #[error(
        "the record's digest algorithm has code {0}, this program knows 1 (sha-256); use a newer one"
    )]
    DigestAlgorithm(u8),
    /// Flags that this program does not know.
    #[error("the record has flags 0x{0:02x}, of which this program knows 0x07; use a newer one")]
    Flags(u8),
    /// The bytes end too early.
    #[error("the record ends inside its {0}; it was cut short")]
    Truncated(&'static str),
    /// Bytes follow the record.
    #[error("{0} bytes follow the record; it was changed")]
    Trailing(usize),
    /// Text that is not UTF-8.
    #[error("the record's {0} is not UTF-8; it was changed")]
    NotUtf8(&'static str),
}

impl Record {
    /// Checks the limits.
    pub fn validate(&self) -> Result<(), RecordError> {
        check_text("tenant", &self.tenant, MAX_NAME_BYTES)?;
        check_text("policy", &self.policy, MAX_NAME_BYTES)?;
        if !(0..=MAX_CLAIMED_AT_MS).contains(&self.claimed_at_ms) {
            return Err(RecordError::ClaimedAt(self.claimed_at_ms));
        }
        if let Some(subject) = &self.subject {
            check_text("subject", subject, MAX_SUBJECT_BYTES)?;
        }
        if let Some(original) = &self.original {
            validate_name(&original.origin)?;
            if i64::try_from(original.index).is_err() {
                return Err(RecordError::OriginalIndex(original.index));
            }
        }
        match &self.request_id {
            Some(id) => check_text("request id", id, MAX_NAME_BYTES),
            None => Ok(()),
        }
    }

    /// The record's only encoding.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        self.validate()?;
        let claimed_at = u64::try_from(self.claimed_at_ms)
            .map_err(|_| RecordError::ClaimedAt(self.claimed_at_ms))?;
        let mut out = Vec::with_capacity(128);
        out.extend_from_slice(&[RECORD_VERSION, self.digest_algorithm.code()]);
        out.extend_from_slice(&self.digest);
        out.extend_from_slice(&claimed_at.to_be_bytes());
        put_short(&mut out, "tenant", &self.tenant)?;
        put_short(&mut out, "policy", &self.policy)?;
        out.push(self.flags());
        if let Some(subject) = &self.subject {
            let length = u16::try_from(subject.len())
                .map_err(|_| too_long("subject", subject, MAX_SUBJECT_BYTES))?;
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(subject.as_bytes());
        }
        if let Some(original) = &self.original {
            put_short(&mut out, "original", &original.origin)?;
            out.extend_from_slice(&original.index.to_be_bytes());
        }
        if let Some(request_id) = &self.request_id {
            put_short(&mut out, "request id", request_id)?;
        }
        Ok(out)
    }

    fn flags(&self) -> u8 {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        flag(self.subject.is_some(), FLAG_SUBJECT)
            | flag(self.original.is_some(), FLAG_ORIGINAL)
            | flag(self.request_id.is_some(), FLAG_REQUEST_ID)
    }

    /// Reads exactly what [`Record::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let (record, length) = Self::decode_prefix(bytes)?;
        if length < bytes.len() {
            return Err(RecordError::Trailing(bytes.len() - length));
        }
        Ok(record)
    }

    /// Reads the record that `bytes` begin with, and says how many of them it takes: for audits of files whose index of
    /// records may be damaged.
    pub fn decode_prefix(bytes: &[u8]) -> Result<(Self, usize), RecordError> {
        let mut input = Input(bytes);
        let [version] = input.array("version")?;
        if version != RECORD_VERSION {
            return Err(RecordError::Version(version));
        }
        let digest_algorithm = match input.array("digest algorithm")? {
            [1] => DigestAlgorithm::Sha256,
            [code] => return Err(RecordError::DigestAlgorithm(code)),
        };
        let digest = input.array("digest")?;
        let claimed_at = u64::from_be_bytes(input.array("claimed time")?);
        let claimed_at_ms =
            i64::try_from(claimed_at).map_err(|_| RecordError::ClaimedAt(i64::MAX))?;
        let tenant = input.short("tenant")?;
        let policy = input.short("policy")?;
        let [flags] = input.array("flags")?;
        if flags & !(FLAG_SUBJECT | FLAG_ORIGINAL | FLAG_REQUEST_ID) != 0 {
            return Err(RecordError::Flags(flags));
        }
        let subject = if flags & FLAG_SUBJECT == 0 {
            None
        } else {
            let length = u16::from_be_bytes(input.array("subject")?);
            Some(input.text("subject", usize::from(length))?)
        };
        let original = if flags & FLAG_ORIGINAL == 0 {
            None
        } else {
            let origin = input.short("original")?;
            Some(Original {
                origin,
                index: u64::from_be_bytes(input.array("original")?),
            })
        };
        let request_id = if flags & FLAG_REQUEST_ID == 0 {
            None
        } else {
            Some(input.short("request id")?)
        };
        let record = Self {
            tenant,
            policy,
            digest_algorithm,
            digest,
            claimed_at_ms,
            subject,
            original,
            request_id,
        };
        record.validate()?;
        Ok((record, bytes.len() - input.0.len()))
    }
}

/// Whose request an encoded record came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestOf<'a> {
    /// The tenant's name, in UTF-8.
    pub tenant: &'a [u8],
    /// The client's id of its request, in UTF-8; none if it gave none.
    pub id: Option<&'a [u8]>,
    /// Whether the record re-seals another.
    pub is_resealed: bool,
}

/// Finds tenant and request id in [`Record::encode`]'s bytes without reading the rest: for indexes over many records. None if
/// `record` is cut short; other damage is not looked for.
pub fn request_of(record: &[u8]) -> Option<RequestOf<'_>> {
    let mut rest = record.get(TENANT_PLACE..)?;
    let tenant = short(&mut rest)?;
    short(&mut rest)?;
    let (flags, after) = rest.split_first()?;
    rest = after;
    if flags & FLAG_SUBJECT != 0 {
        let (length, after) = rest.split_first_chunk()?;
        rest = after.get(usize::from(u16::from_be_bytes(*length))..)?;
    }
    if flags & FLAG_ORIGINAL != 0 {
        short(&mut rest)?;
        rest = rest.get(8..)?;
    }
    let id = if flags & FLAG_REQUEST_ID == 0 {
        None
    } else {
        Some(short(&mut rest)?)
    };
    Some(RequestOf {
        tenant,
        id,
        is_resealed: flags & FLAG_ORIGINAL != 0,
    })
}

/// Text after a byte that says its length.
fn short<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first()?;
    let (text, after) = after.split_at_checked(usize::from(*length))?;
    *rest = after;
    Some(text)
}

/// The salted commitment to a record: what the public log holds. `record` is [`Record::encode`]'s bytes.
pub fn entry(nonce: &Nonce, record: &[u8]) -> [u8; ENTRY_BYTES] {
    let mut entry = [ENTRY_VERSION; ENTRY_BYTES];
    entry[1..].copy_from_slice(&encoding::sha256_of_parts(&[ENTRY_DOMAIN, nonce, record]));
    entry
}

/// The leaf hash of a record's entry.
pub fn entry_leaf_hash(nonce: &Nonce, record: &[u8]) -> Hash {
    merkle::leaf_hash(&entry(nonce, record))
}

fn too_long(field: &'static str, value: &str, limit: usize) -> RecordError {
    RecordError::Text {
        field,
        value: excerpt(value),
        limit,
    }
}

fn check_text(field: &'static str, value: &str, limit: usize) -> Result<(), RecordError> {
    if value.is_empty() || value.len() > limit || value.chars().any(char::is_control) {
        return Err(too_long(field, value, limit));
    }
    Ok(())
}

fn put_short(out: &mut Vec<u8>, field: &'static str, value: &str) -> Result<(), RecordError> {
    let length =
        u8::try_from(value.len()).map_err(|_| too_long(field, value, usize::from(u8::MAX)))?;
    out.push(length);
    out.extend_from_slice(value.as_bytes());
    Ok(())
}

/// What is left to read.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], RecordError> {
        let (head, tail) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(RecordError::Truncated(field))?;
        self.0 = tail;
        Ok(*head)
    }

    fn short(&mut self, field: &'static str) -> Result<String, RecordError> {
        let [length] = self.array(field)?;
        self.text(field, usize::from(length))
    }

    fn text(&mut self, field: &'static str, length: usize) -> Result<String, RecordError> {
        let (head, tail) = self
            .0
            .split_at_checked(length)
            .ok_or(RecordError::Truncated(field))?;
        self.0 = tail;
        let text = std::str::from_utf8(head).map_err(|_| RecordError::NotUtf8(field))?;
        Ok(text.to_owned())
    }
}
