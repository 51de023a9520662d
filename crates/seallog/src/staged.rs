//! The staged batch: what will be appended next, durable before an intent is recorded.
//!
//! A small batch stands in the file whole:
//! `sealwarden staged batch v1\n ‖ u16 length, origin ‖ u64 old size ‖ u64 leaves ‖ 32-byte root ‖` for each leaf
//! `16-byte nonce ‖ u32 length, record`, and at the end the SHA-256 of all that. Numbers are big-endian.
//!
//! The leaves of a large batch stand where they will stay, at the end of the private segment, durable before this file has its
//! name: `sealwarden staged batch v2\n ‖ u16 length, origin ‖ u64 old size ‖ u64 leaves ‖ 32-byte root ‖ SHA-256`. The root
//! commits to the leaves, so it is their checksum.

use crate::edge::Edge;
use crate::error::LogError;
use crate::growth::Growth;
use crate::leaf::NONCE_BYTES;
use crate::leaves::{Leaves, Public};
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::merkle::{Hash, tree_root};
use std::sync::Arc;

const WHOLE: &[u8] = b"sealwarden staged batch v1\n";
const BESIDE: &[u8] = b"sealwarden staged batch v2\n";
/// The most leaves of a batch.
pub const MAX_BATCH_LEAVES: usize = 65_536;
/// The most bytes of a batch's leaves, nonces included.
pub const MAX_BATCH_BYTES: usize = 64 * 1024 * 1024;
/// Up to so many bytes of leaves stand in the file itself: one sync instead of three, for bytes that are written twice.
pub(crate) const WHOLE_BYTES: usize = 64 * 1024;

/// A batch that is durable and waits for its signature. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Staged {
    /// The published size that it extends: its first leaf's index.
    pub old_size: u64,
    /// The size with it.
    pub size: u64,
    /// The root with it.
    pub root: Hash,
    /// The text to sign: origin, size and root.
    pub checkpoint_text: String,
    pub(crate) batch: Arc<Batch>,
}

/// What is computed once for a batch and used on its whole way.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) leaves: Leaves,
    /// The entries as bundles hold them.
    pub(crate) bundled: Vec<u8>,
    /// The tree's right edge before the batch, checked against the published root.
    pub(crate) edge: Edge,
    pub(crate) growth: Growth,
}

/// The root commits to every leaf, and the size to how many there are.
impl PartialEq for Staged {
    fn eq(&self, other: &Self) -> bool {
        (self.old_size, &self.checkpoint_text) == (other.old_size, &other.checkpoint_text)
    }
}

impl Eq for Staged {}

impl Staged {
    /// Grows the tree from its right edge, in memory.
    pub(crate) fn new(origin: &str, edge: Edge, leaves: Leaves) -> Result<Self, LogError> {
        let old_size = edge.size();
        let size = u64::try_from(leaves.len()).ok();
        let size = size.and_then(|leaves| old_size.checked_add(leaves));
        let size = size.ok_or_else(too_large)?;
        let Public { bundled, hashes } = Public::of(&leaves);
        let growth = Growth::of(&edge.frontier()?, hashes);
        let root = tree_root(&growth, size).map_err(|error| LogError::Proof {
            reason: error.to_string(),
        })?;
        let checkpoint = Checkpoint {
            origin: origin.to_owned(),
            size,
            root,
        };
        let checkpoint_text = checkpoint.to_text();
        Ok(Self {
            old_size,
            size,
            root,
            checkpoint_text,
            batch: Arc::new(Batch {
                leaves,
                bundled,
                edge,
                growth,
            }),
        })
    }

    /// The leaves, the first at index `old_size`.
    pub fn leaves(&self) -> &Leaves {
        &self.batch.leaves
    }

    /// Do the leaves stand in the file itself?
    pub(crate) fn is_whole(&self) -> bool {
        self.batch.leaves.parts().0.len() <= WHOLE_BYTES
    }

    pub(crate) fn encode(&self, origin: &str) -> Result<Vec<u8>, LogError> {
        let whole = self.is_whole().then_some(&self.batch.leaves);
        let header = if whole.is_some() { WHOLE } else { BESIDE };
        let length = u16::try_from(origin.len()).map_err(|_| too_large())?;
        let mut out = header.to_vec();
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(origin.as_bytes());
        out.extend_from_slice(&self.old_size.to_be_bytes());
        out.extend_from_slice(&(self.size - self.old_size).to_be_bytes());
        out.extend_from_slice(&self.root.0);
        for leaf in whole.into_iter().flat_map(Leaves::iter) {
            let length = u32::try_from(leaf.record.len()).map_err(|_| too_large())?;
            out.extend_from_slice(leaf.nonce);
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(leaf.record);
        }
        let sum = Hash::of(&out);
        out.extend_from_slice(&sum.0);
        Ok(out)
    }
}

fn too_large() -> LogError {
    LogError::Note {
        reason: "the log's size or origin is too large".to_owned(),
    }
}

/// The file `staged`, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StagedFile {
    pub(crate) old_size: u64,
    pub(crate) size: u64,
    pub(crate) root: Hash,
    /// `None` where they stand in the private segment.
    pub(crate) leaves: Option<Leaves>,
}

impl StagedFile {
    /// Reads a staged batch of `origin`; the error says what is wrong with it.
    pub(crate) fn decode(bytes: &[u8], origin: &str) -> Result<Self, &'static str> {
        let (body, sum) = bytes.split_last_chunk::<32>().ok_or("it is cut short")?;
        if Hash::of(body).0 != *sum {
            return Err("its checksum does not match");
        }
        let (rest, is_whole) = match (body.strip_prefix(WHOLE), body.strip_prefix(BESIDE)) {
            (Some(rest), _) => (rest, true),
            (None, Some(rest)) => (rest, false),
            (None, None) => return Err("it has another format or version"),
        };
        let mut input = Input(rest);
        let length = u16::from_be_bytes(input.array()?);
        if input.take(usize::from(length))? != origin.as_bytes() {
            return Err("it belongs to another origin");
        }
        let old_size = u64::from_be_bytes(input.array()?);
        let count = u64::from_be_bytes(input.array()?);
        let root = Hash(input.array()?);
        let leaves = is_whole.then(|| input.leaves()).transpose()?;
        let found = leaves
            .as_ref()
            .map_or(Ok(count), |leaves| u64::try_from(leaves.len()));
        if found != Ok(count) || count == 0 || !input.0.is_empty() {
            return Err("it does not hold the leaves that it announces");
        }
        if usize::try_from(count).map_or(true, |count| count > MAX_BATCH_LEAVES) {
            return Err("it announces more leaves than a batch has");
        }
        Ok(Self {
            old_size,
            size: old_size.checked_add(count).ok_or("its size is too large")?,
            root,
            leaves,
        })
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn leaves(&mut self) -> Result<Leaves, &'static str> {
        let mut leaves = Leaves::default();
        while !self.0.is_empty() {
            let nonce = self.array::<NONCE_BYTES>()?;
            let length = u32::from_be_bytes(self.array()?);
            let length = usize::try_from(length).map_err(|_| "a record is too long")?;
            leaves.push(&nonce, self.take(length)?);
        }
        Ok(leaves)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let (head, tail) = self
            .0
            .split_at_checked(length)
            .ok_or("it ends inside a field")?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (head, tail) = self
            .0
            .split_first_chunk::<N>()
            .ok_or("it ends inside a field")?;
        self.0 = tail;
        Ok(*head)
    }
}
