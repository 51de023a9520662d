//! From a request's fields to a leaf: every limit is checked here, and named when it is broken.

use crate::config::Config;
use crate::queue::Priority;
use crate::requests::RequestKey;
use crate::tenants;
use ring::rand::{SecureRandom, SystemRandom};
use sealwarden_seal::record::{DigestAlgorithm, MAX_CLAIMED_AT_MS, Nonce, Record};
use sealwarden_seallog::Leaf;
use sealwarden_wire::seal::v1::{Priority as WirePriority, SealRequest, Stage};
use std::fmt::Write as _;
use tonic::Status;

const DIGEST_ALGORITHM: &str = "sha-256";
const DIGEST_BYTES: usize = 32;
const MAX_NAME_BYTES: usize = 64;
const MAX_SUBJECT_BYTES: usize = 256;
const MAX_REQUEST_ID_CHARS: usize = 64;
/// Tenant and policy of requests that name none.
const DEFAULT: &str = "default";

/// A random source that fails is not to be worked around.
#[derive(Debug, thiserror::Error)]
#[error("the system's random source failed; nothing can be sealed without nonces")]
pub(crate) struct NoRandomness;

/// A nonce for a new leaf.
pub(crate) fn new_nonce() -> Result<Nonce, NoRandomness> {
    let mut nonce = Nonce::default();
    SystemRandom::new()
        .fill(&mut nonce)
        .map_err(|_| NoRandomness)?;
    Ok(nonce)
}

/// What to seal and how long to wait for it.
#[derive(Debug)]
pub(crate) struct Checked {
    /// The leaf.
    pub(crate) leaf: Leaf,
    /// The client's own id of the request, if it gave one.
    pub(crate) key: Option<RequestKey>,
    /// Whose it is.
    pub(crate) tenant: String,
    /// The document's digest.
    pub(crate) digest: [u8; DIGEST_BYTES],
    /// Whether to wait for witnesses.
    pub(crate) until_witnessed: bool,
    /// Which ones go first.
    pub(crate) priority: Priority,
    /// Whether a ticket is welcome.
    pub(crate) accept_queued: bool,
}

/// Checks a request. A request without a claimed time claims `now_ms`.
pub(crate) fn check(
    config: &Config,
    caller: &str,
    request: SealRequest,
    now_ms: i64,
) -> Result<Checked, Status> {
    let until_witnessed = until_witnessed(request.wait)?;
    let priority = priority(request.priority)?;
    require_algorithm(&request.digest_algorithm)?;
    let Ok(digest) = <[u8; DIGEST_BYTES]>::try_from(&request.digest[..]) else {
        let found = format!("of {} bytes", request.digest.len());
        return Err(invalid(
            "digest",
            found,
            "must have 32 bytes, as SHA-256 gives",
        ));
    };
    let record = Record {
        tenant: name("tenant", request.tenant)?,
        policy: name("policy", request.policy)?,
        digest_algorithm: DigestAlgorithm::Sha256,
        digest,
        claimed_at_ms: claimed_at_ms(request.claimed_at_ms, now_ms)?,
        subject: subject(request.subject)?,
        original: None,
        request_id: request_id(request.request_id)?,
    };
    tenants::check(config, caller, &record)?;
    let key = RequestKey::of(&record);
    let tenant = record.tenant.clone();
    let record = record
        .encode()
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let nonce = new_nonce().map_err(|error| Status::internal(error.to_string()))?;
    Ok(Checked {
        leaf: Leaf { nonce, record },
        key,
        tenant,
        digest,
        until_witnessed,
        priority,
        accept_queued: request.accept_queued,
    })
}

/// Whether to wait for witnesses.
pub(crate) fn until_witnessed(wait: i32) -> Result<bool, Status> {
    match Stage::try_from(wait) {
        Ok(Stage::Unspecified | Stage::Sealed) => Ok(false),
        Ok(Stage::Witnessed) => Ok(true),
        Ok(Stage::Queued | Stage::Anchored) | Err(_) => Err(invalid(
            "wait",
            wait,
            "must be a stage: sealed or witnessed; anchors come at intervals, so watch the seal for them",
        )),
    }
}

pub(crate) fn priority(priority: i32) -> Result<Priority, Status> {
    match WirePriority::try_from(priority) {
        Ok(WirePriority::Unspecified | WirePriority::Normal) => Ok(Priority::Normal),
        Ok(WirePriority::Critical) => Ok(Priority::Critical),
        Err(_) => Err(invalid(
            "priority",
            priority,
            "must be a priority: normal or critical",
        )),
    }
}

pub(crate) fn require_algorithm(algorithm: &str) -> Result<(), Status> {
    if algorithm == DIGEST_ALGORITHM {
        return Ok(());
    }
    Err(invalid(
        "digest_algorithm",
        excerpt(algorithm),
        "must be \"sha-256\"",
    ))
}

/// A time that a client claims; without one, this node's.
pub(crate) fn claimed_at_ms(claimed_at_ms: i64, now_ms: i64) -> Result<i64, Status> {
    if !(0..=MAX_CLAIMED_AT_MS).contains(&claimed_at_ms) {
        let limit = format!("must be Unix milliseconds from 0 to {MAX_CLAIMED_AT_MS}");
        return Err(invalid("claimed_at_ms", claimed_at_ms, &limit));
    }
    Ok(if claimed_at_ms == 0 {
        now_ms
    } else {
        claimed_at_ms
    })
}

/// What a document is about.
pub(crate) fn subject(value: String) -> Result<Option<String>, Status> {
    line("subject", value, MAX_SUBJECT_BYTES, "256 bytes")
}

pub(crate) fn name(field: &str, value: String) -> Result<String, Status> {
    if value.is_empty() {
        return Ok(DEFAULT.to_owned());
    }
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
    if value.len() > MAX_NAME_BYTES || !value.bytes().all(allowed) {
        return Err(invalid(
            field,
            excerpt(&value),
            "must be 1 to 64 of a-z, 0-9, '.' and '-'",
        ));
    }
    Ok(value)
}

fn request_id(value: String) -> Result<Option<String>, Status> {
    // The record's limit is in bytes, the interface's in characters: both hold.
    if value.chars().count() > MAX_REQUEST_ID_CHARS {
        return Err(invalid(
            "request_id",
            excerpt(&value),
            "must have at most 64 characters",
        ));
    }
    line(
        "request_id",
        value,
        sealwarden_seal::record::MAX_NAME_BYTES,
        "128 bytes",
    )
}

pub(crate) fn line(
    field: &str,
    value: String,
    limit: usize,
    words: &str,
) -> Result<Option<String>, Status> {
    if value.is_empty() {
        return Ok(None);
    }
    if value.len() > limit || value.chars().any(char::is_control) {
        let limit = format!("must have at most {words} and no control characters");
        return Err(invalid(field, excerpt(&value), &limit));
    }
    Ok(Some(value))
}

pub(crate) fn invalid(field: &str, value: impl std::fmt::Display, limit: &str) -> Status {
    Status::invalid_argument(format!("{field} {value} {limit}"))
}

/// Bytes in hexadecimal, for a message.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Outside text for a message, shortened and quoted.
pub(crate) fn excerpt(text: &str) -> String {
    let start: String = text.chars().take(40).collect();
    format!(
        "{start:?}{}",
        if start.len() < text.len() { "…" } else { "" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    fn request() -> SealRequest {
        SealRequest {
            digest_algorithm: "sha-256".to_owned(),
            digest: vec![7; 32].into(),
            ..SealRequest::default()
        }
    }

    #[test]
    fn a_request_with_defaults_becomes_a_leaf() {
        let checked = check(&Config::default(), "ada", request(), 5).unwrap();
        let record = Record::decode(&checked.leaf.record).unwrap();
        assert_eq!(
            (record.tenant.as_str(), record.claimed_at_ms),
            ("default", 5)
        );
        assert!(!checked.until_witnessed);
        assert_ne!(
            check(&Config::default(), "ada", request(), 5)
                .unwrap()
                .leaf
                .nonce,
            checked.leaf.nonce
        );
    }

    #[test]
    fn each_field_out_of_its_limits_is_named() {
        let good = request;
        let text = |count| "x".repeat(count);
        let cases = [
            (
                "digest_algorithm",
                SealRequest {
                    digest_algorithm: "md5".to_owned(),
                    ..good()
                },
            ),
            (
                "digest",
                SealRequest {
                    digest: vec![1; 31].into(),
                    ..good()
                },
            ),
            (
                "tenant",
                SealRequest {
                    tenant: "Acme".to_owned(),
                    ..good()
                },
            ),
            (
                "policy",
                SealRequest {
                    policy: text(65),
                    ..good()
                },
            ),
            (
                "subject",
                SealRequest {
                    subject: text(257),
                    ..good()
                },
            ),
            (
                "subject",
                SealRequest {
                    subject: "a\nb".to_owned(),
                    ..good()
                },
            ),
            (
                "request_id",
                SealRequest {
                    request_id: text(65),
                    ..good()
                },
            ),
            (
                "claimed_at_ms",
                SealRequest {
                    claimed_at_ms: -1,
                    ..good()
                },
            ),
            ("wait", SealRequest { wait: 9, ..good() }),
            ("wait", SealRequest { wait: 3, ..good() }),
            (
                "priority",
                SealRequest {
                    priority: 7,
                    ..good()
                },
            ),
        ];
        for (field, request) in cases {
            let status = check(&Config::default(), "ada", request, 0).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
            assert!(status.message().starts_with(field), "{}", status.message());
        }
    }
}
