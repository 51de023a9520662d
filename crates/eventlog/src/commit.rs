//! Commits, their identity and the hash chain that binds each to all before it.

use std::fmt;

use bytes::Bytes;
use ring::digest;

use crate::name::StreamName;
use crate::port::ReadError;

/// Longest payload of a commit, in bytes: one mebibyte, less what headers and names may take of a
/// NATS message at the server's default limit.
pub const MAX_PAYLOAD_BYTES: usize = (1 << 20) - (16 << 10);

/// First bytes of what is hashed, so that the hash of a commit is the hash of nothing else.
const HASH_DOMAIN: &[u8] = b"sealwarden/commit/v1\n";

/// Names one commit for ever: repeating an append with the same id stores nothing twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommitId([u8; 16]);

impl CommitId {
    /// A new id, unlike all others (UUID version 7).
    #[expect(
        clippy::new_without_default,
        reason = "each call answers another value"
    )]
    pub fn new() -> Self {
        Self(uuid::Uuid::now_v7().into_bytes())
    }

    /// The id with these bytes, for callers who derive it from what they decide.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The id's bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl From<[u8; 16]> for CommitId {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for CommitId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "CommitId({self})")
    }
}

/// The end of a stream: the position and the chain hash of its last commit.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Head {
    /// Position of the last commit; opaque, growing, not a count. 0: no commit yet.
    pub position: u64,
    /// Chain hash of the last commit; all zero where there is none.
    pub hash: [u8; 32],
}

impl Head {
    /// The head of a stream that has no commit yet.
    pub const EMPTY: Self = Self {
        position: 0,
        hash: [0; 32],
    };
}

impl fmt::Debug for Head {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "Head({}, {})",
            self.position,
            hex::encode(self.hash)
        )
    }
}

/// A commit that a caller wants stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCommit {
    /// Its identity within the stream.
    pub id: CommitId,
    /// What it says; at most [`MAX_PAYLOAD_BYTES`].
    pub payload: Bytes,
}

impl NewCommit {
    /// A commit with a new id.
    pub fn new(payload: impl Into<Bytes>) -> Self {
        Self {
            id: CommitId::new(),
            payload: payload.into(),
        }
    }
}

/// A stored commit.
#[derive(Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The stream it belongs to.
    pub stream: StreamName,
    /// Its place in the one sequence over all streams; opaque and growing.
    pub position: u64,
    /// The identity its writer gave it.
    pub commit_id: CommitId,
    /// When it was stored, in Unix milliseconds, by the store's clock.
    pub recorded_at_ms: i64,
    /// Chain hash of the commit before it in the stream; all zero for the first.
    pub prev_hash: [u8; 32],
    /// Chain hash of this commit; see [`chain_hash`](Recorded::chain_hash).
    pub hash: [u8; 32],
    /// What it says.
    pub payload: Bytes,
}

impl Recorded {
    /// The head of the stream when this commit was its last.
    pub fn head(&self) -> Head {
        Head {
            position: self.position,
            hash: self.hash,
        }
    }

    /// The chain hash of a commit: SHA-256 over `sealwarden/commit/v1\n`, the hash before it, the
    /// length of the stream's name as two big-endian bytes, the name (`category/id`), the commit's
    /// id and the payload.
    pub fn chain_hash(
        prev_hash: &[u8; 32],
        stream: &StreamName,
        id: CommitId,
        payload: &[u8],
    ) -> [u8; 32] {
        let name = stream.to_string();
        // A stream's name has at most 161 bytes, so the conversion cannot saturate.
        let name_bytes = u16::try_from(name.len()).unwrap_or(u16::MAX);
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(HASH_DOMAIN);
        context.update(prev_hash);
        context.update(&name_bytes.to_be_bytes());
        context.update(name.as_bytes());
        context.update(id.as_bytes());
        context.update(payload);
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        hash
    }

    /// Checks the commit against its own hash.
    pub(crate) fn verified(self) -> Result<Self, ReadError> {
        let computed =
            Self::chain_hash(&self.prev_hash, &self.stream, self.commit_id, &self.payload);
        if computed == self.hash {
            return Ok(self);
        }
        Err(ReadError::Corrupt {
            reason: format!(
                "commit {} at position {} of {} hashes to {}, but {} is stored",
                self.commit_id,
                self.position,
                self.stream,
                hex::encode(computed),
                hex::encode(self.hash)
            ),
        })
    }
}

impl fmt::Debug for Recorded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Recorded")
            .field("stream", &format_args!("{}", self.stream))
            .field("position", &self.position)
            .field("commit_id", &self.commit_id)
            .field("recorded_at_ms", &self.recorded_at_ms)
            .field("hash", &hex::encode(self.hash))
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// Checks, commit after commit of one stream, that each names the one before it.
#[derive(Debug, Default)]
pub(crate) struct ChainCheck {
    last: Option<Head>,
}

impl ChainCheck {
    /// Starts before the first commit of the stream to be checked (`after` = 0) or in its middle.
    pub(crate) fn starting_after(after: u64) -> Self {
        Self {
            last: (after == 0).then_some(Head::EMPTY),
        }
    }

    /// Takes the next commit.
    pub(crate) fn follow(&mut self, commit: &Recorded) -> Result<(), ReadError> {
        if let Some(last) = self.last
            && last.hash != commit.prev_hash
        {
            return Err(ReadError::Corrupt {
                reason: format!(
                    "the commit at position {} of {} follows hash {}, but the one before it, at \
                     position {}, has {}: commits are missing or were changed",
                    commit.position,
                    commit.stream,
                    hex::encode(commit.prev_hash),
                    last.position,
                    hex::encode(last.hash)
                ),
            });
        }
        self.last = Some(commit.head());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(prev_hash: [u8; 32], position: u64, payload: &'static [u8]) -> Recorded {
        let stream = StreamName::new("log", "main").unwrap();
        let commit_id = CommitId::from_bytes([7; 16]);
        let hash = Recorded::chain_hash(&prev_hash, &stream, commit_id, payload);
        Recorded {
            stream,
            position,
            commit_id,
            recorded_at_ms: 0,
            prev_hash,
            hash,
            payload: Bytes::from_static(payload),
        }
    }

    #[test]
    fn the_hash_is_taken_over_exactly_the_documented_bytes() {
        let mut bytes = b"sealwarden/commit/v1\n".to_vec();
        bytes.extend([3; 32]);
        bytes.extend([0, 8]);
        bytes.extend(b"log/main");
        bytes.extend([7; 16]);
        bytes.extend(b"hello");
        let expected = digest::digest(&digest::SHA256, &bytes);
        assert_eq!(recorded([3; 32], 1, b"hello").hash, expected.as_ref());
    }

    #[test]
    fn a_changed_payload_and_a_gap_in_the_chain_are_noticed() {
        let first = recorded([0; 32], 1, b"one");
        let second = recorded(first.hash, 5, b"two");
        let mut changed = first.clone();
        changed.payload = Bytes::from_static(b"0ne");
        assert!(matches!(changed.verified(), Err(ReadError::Corrupt { .. })));

        let mut chain = ChainCheck::starting_after(0);
        assert!(chain.follow(&first).is_ok());
        assert!(chain.follow(&second).is_ok());
        assert!(ChainCheck::starting_after(0).follow(&second).is_err());
        assert!(ChainCheck::starting_after(1).follow(&second).is_ok());
    }
}
