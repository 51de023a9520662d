//! The keys and values of the one tree. A commit touches several keys in one atomic batch.
//!
//! | key | value |
//! |---|---|
//! | `c` position | version 1, time in ms, hash before, hash, id, name's length and name, payload's length, its first 16 KiB |
//! | `p` position, number | a further 16 KiB of the payload |
//! | `s` stream, 0, position | nothing: the index of one stream |
//! | `i` stream, 0, id | position of the commit with this id |
//!
//! Numbers are big-endian, so keys sort by position. The counters (last position, last time) are
//! those of the last `c` key, and the head of a stream
//! is the last of its index: fewer keys a commit are more commits a second. Payloads are cut so that no page of the tree reaches the size from
//! which sled keeps it in a file of its own under `blobs/`.

use bytes::Bytes;
use sled::Batch;

use crate::commit::{CommitId, Recorded};
use crate::name::StreamName;
use crate::port::ReadError;

/// Version of the value of a commit.
const VERSION: u8 = 1;
/// Payload bytes of one value.
const PIECE_BYTES: usize = 16 << 10;
/// Bytes of a commit's value before the name.
const FIXED_BYTES: usize = 1 + 8 + 32 + 32 + 16 + 2;

fn key(prefix: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + parts.iter().map(|part| part.len()).sum::<usize>());
    key.push(prefix);
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}

/// Key of the commit at a position.
pub(super) fn commit_key(position: u64) -> Vec<u8> {
    key(b'c', &[&position.to_be_bytes()])
}

/// Key of a position in the index of one stream.
pub(super) fn index_key(stream: &StreamName, position: u64) -> Vec<u8> {
    key(
        b's',
        &[stream.to_string().as_bytes(), &[0], &position.to_be_bytes()],
    )
}

/// Key of a commit id within its stream.
pub(super) fn id_key(stream: &StreamName, id: CommitId) -> Vec<u8> {
    key(b'i', &[stream.to_string().as_bytes(), &[0], id.as_bytes()])
}

fn piece_key(position: u64, piece: u16) -> Vec<u8> {
    key(b'p', &[&position.to_be_bytes(), &piece.to_be_bytes()])
}

/// The position at the end of a `c` or `s` key.
pub(super) fn position_of(key: &[u8]) -> Result<u64, ReadError> {
    let bytes = key
        .last_chunk::<8>()
        .ok_or_else(|| corrupt("a key is too short"))?;
    Ok(u64::from_be_bytes(*bytes))
}

/// Adds everything that one commit writes to a batch.
pub(super) fn insert(batch: &mut Batch, commit: &Recorded) {
    let name = commit.stream.to_string();
    // Names have at most 161 bytes and payloads less than 2^20: neither conversion can saturate.
    let name_bytes = u16::try_from(name.len()).unwrap_or(u16::MAX);
    let payload_bytes = u32::try_from(commit.payload.len()).unwrap_or(u32::MAX);
    let mut pieces = commit.payload.chunks(PIECE_BYTES);
    let value = [
        [VERSION].as_slice(),
        &commit.recorded_at_ms.to_be_bytes(),
        &commit.prev_hash,
        &commit.hash,
        commit.commit_id.as_bytes(),
        &name_bytes.to_be_bytes(),
        name.as_bytes(),
        &payload_bytes.to_be_bytes(),
        pieces.next().unwrap_or_default(),
    ]
    .concat();
    batch.insert(commit_key(commit.position), value);
    for (number, piece) in (1..).zip(pieces) {
        batch.insert(piece_key(commit.position, number), piece);
    }
    batch.insert(index_key(&commit.stream, commit.position), &[]);
    batch.insert(
        id_key(&commit.stream, commit.commit_id),
        commit.position.to_be_bytes().as_slice(),
    );
}

/// The bytes of the name of the stream of a commit's value; cheap, for filtering.
pub(super) fn stream_bytes(value: &[u8]) -> Result<&[u8], ReadError> {
    let mut cursor = Cursor(value);
    cursor.take(FIXED_BYTES - 2)?;
    let length = usize::from(u16::from_be_bytes(cursor.array()?));
    cursor.take(length)
}

/// Reads a commit and checks it against its hash. `piece` fetches a further piece of the payload.
pub(super) fn decode(
    position: u64,
    value: &[u8],
    piece: impl Fn(&[u8]) -> Result<Option<sled::IVec>, ReadError>,
) -> Result<Recorded, ReadError> {
    let at = |error: ReadError| match error {
        ReadError::Corrupt { reason } => corrupt(&format!("at position {position}: {reason}")),
        ReadError::Unavailable { .. } => error,
    };
    let mut cursor = Cursor(value);
    let (commit, payload_bytes) = decode_fixed(position, &mut cursor).map_err(at)?;
    let mut payload = cursor.0.to_vec();
    let mut number = 0_u16;
    while payload.len() < payload_bytes {
        number += 1;
        let next = piece(&piece_key(position, number))?
            .filter(|piece| !piece.is_empty())
            .ok_or_else(|| {
                at(corrupt(&format!(
                    "piece {number} of the payload is missing"
                )))
            })?;
        payload.extend_from_slice(&next);
    }
    Recorded {
        payload: Bytes::from(payload),
        ..commit
    }
    .verified()
}

fn decode_fixed(position: u64, cursor: &mut Cursor<'_>) -> Result<(Recorded, usize), ReadError> {
    let [version] = cursor.array()?;
    if version != VERSION {
        return Err(corrupt(&format!(
            "a commit of version {version}, known is {VERSION}"
        )));
    }
    let recorded_at_ms = i64::from_be_bytes(cursor.array()?);
    let (prev_hash, hash) = (cursor.array()?, cursor.array()?);
    let commit_id = CommitId::from_bytes(cursor.array()?);
    let name_bytes = usize::from(u16::from_be_bytes(cursor.array()?));
    let stream = std::str::from_utf8(cursor.take(name_bytes)?)
        .ok()
        .and_then(|name| name.parse::<StreamName>().ok())
        .ok_or_else(|| corrupt("a commit has no valid stream name"))?;
    let payload_bytes = u32::from_be_bytes(cursor.array()?);
    let payload_bytes = usize::try_from(payload_bytes).unwrap_or(usize::MAX);
    if payload_bytes > crate::MAX_PAYLOAD_BYTES {
        return Err(corrupt(&format!("a payload of {payload_bytes} bytes")));
    }
    let payload = Bytes::new();
    let commit = Recorded {
        stream,
        position,
        commit_id,
        recorded_at_ms,
        prev_hash,
        hash,
        payload,
    };
    Ok((commit, payload_bytes))
}

fn corrupt(reason: &str) -> ReadError {
    ReadError::Corrupt {
        reason: reason.to_owned(),
    }
}

/// Takes bytes from the front; too few of them are damage, never a panic.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], ReadError> {
        let (taken, rest) = self
            .0
            .split_at_checked(bytes)
            .ok_or_else(|| corrupt("a value is cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let (taken, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or_else(|| corrupt("a value is cut short"))?;
        self.0 = rest;
        Ok(*taken)
    }
}
