//! A commit as a NATS message: the payload is the body, the rest stands in the subject and in
//! headers.

use async_nats::HeaderMap;
use async_nats::datetime::DateTime;
use bytes::Bytes;

use super::subject::Subjects;
use crate::commit::{CommitId, NewCommit, Recorded};
use crate::name::StreamName;
use crate::port::ReadError;

/// The commit's id, in hexadecimal.
const ID: &str = "Sealwarden-Commit";
/// The chain hash before it, in hexadecimal.
const PREV: &str = "Sealwarden-Prev";
/// Its chain hash, in hexadecimal.
const HASH: &str = "Sealwarden-Hash";

/// A message as the server stored it.
pub(super) struct Stored {
    pub(super) subject: String,
    pub(super) sequence: u64,
    pub(super) time: DateTime,
    pub(super) headers: HeaderMap,
    pub(super) payload: Bytes,
}

/// The headers to publish a commit with, and its hash.
pub(super) fn headers(
    stream: &StreamName,
    subject: &str,
    jetstream: &str,
    expected: crate::Head,
    commit: &NewCommit,
) -> (HeaderMap, [u8; 32]) {
    let hash = Recorded::chain_hash(&expected.hash, stream, commit.id, &commit.payload);
    let mut headers = HeaderMap::new();
    // The duplicate check spans the whole JetStream stream, so the subject is part of the id.
    headers.insert("Nats-Msg-Id", format!("{subject}:{}", commit.id));
    headers.insert("Nats-Expected-Stream", jetstream);
    headers.insert(
        "Nats-Expected-Last-Subject-Sequence",
        expected.position.to_string(),
    );
    headers.insert(ID, commit.id.to_string());
    headers.insert(PREV, hex::encode(expected.hash));
    headers.insert(HASH, hex::encode(hash));
    (headers, hash)
}

/// Reads a stored message as a commit and checks it against its hash.
pub(super) fn decode(subjects: &Subjects, stored: Stored) -> Result<Recorded, ReadError> {
    let stream = subjects
        .stream(&stored.subject)
        .ok_or_else(|| ReadError::Corrupt {
            reason: format!(
                "message {} stands on {}, which is the subject of no stream",
                stored.sequence, stored.subject
            ),
        })?;
    let at = |name: &str| ReadError::Corrupt {
        reason: format!(
            "message {} on {} has no valid {name} header: it was not written by an event log",
            stored.sequence, stored.subject
        ),
    };
    let recorded_at_ms =
        i64::try_from(stored.time.unix_timestamp_nanos() / 1_000_000).map_err(|_| at("time"))?;
    let recorded = Recorded {
        stream,
        position: stored.sequence,
        commit_id: CommitId::from_bytes(hex_header(&stored.headers, ID).ok_or_else(|| at(ID))?),
        recorded_at_ms,
        prev_hash: hex_header(&stored.headers, PREV).ok_or_else(|| at(PREV))?,
        hash: hex_header(&stored.headers, HASH).ok_or_else(|| at(HASH))?,
        payload: stored.payload,
    };
    recorded.verified()
}

/// The one value of a header; a header that was given twice has none.
pub(super) fn only<'a>(headers: &'a HeaderMap, name: &'static str) -> Option<&'a str> {
    let mut values = headers.get_all(name);
    let value = values.next()?;
    values.next().is_none().then(|| value.as_str())
}

fn hex_header<const N: usize>(headers: &HeaderMap, name: &'static str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(only(headers, name)?, &mut bytes).ok()?;
    Some(bytes)
}
