//! The staged batch: what will be appended next, durable before an intent is recorded.
//!
//! `sealwarden staged batch v1\n ‖ u16 length, origin ‖ u64 old size ‖ u64 leaves ‖ 32-byte root ‖` for each leaf
//! `16-byte nonce ‖ u32 length, record`, and at the end the SHA-256 of all that. Numbers are big-endian.

use crate::leaf::{Leaf, NONCE_BYTES};
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::merkle::Hash;
use std::sync::Arc;

const HEADER: &[u8] = b"sealwarden staged batch v1\n";
/// The most leaves of a batch.
pub const MAX_BATCH_LEAVES: usize = 65_536;
/// The most bytes of a batch's leaves, nonces included.
pub const MAX_BATCH_BYTES: usize = 64 * 1024 * 1024;

/// A batch that is durable and waits for its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// The published size that it extends: its first leaf's index.
    pub old_size: u64,
    /// The size with it.
    pub size: u64,
    /// The root with it.
    pub root: Hash,
    /// The text to sign: origin, size and root.
    pub checkpoint_text: String,
    pub(crate) leaves: Arc<[Leaf]>,
}

impl Staged {
    pub(crate) fn new(origin: &str, old_size: u64, root: Hash, leaves: Vec<Leaf>) -> Option<Self> {
        let size = old_size.checked_add(u64::try_from(leaves.len()).ok()?)?;
        let checkpoint = Checkpoint {
            origin: origin.to_owned(),
            size,
            root,
        };
        let checkpoint_text = checkpoint.to_text();
        Some(Self {
            old_size,
            size,
            root,
            checkpoint_text,
            leaves: leaves.into(),
        })
    }

    /// The leaves, the first at index `old_size`.
    pub fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    pub(crate) fn encode(&self, origin: &str) -> Option<Vec<u8>> {
        let mut out = HEADER.to_vec();
        out.extend_from_slice(&u16::try_from(origin.len()).ok()?.to_be_bytes());
        out.extend_from_slice(origin.as_bytes());
        out.extend_from_slice(&self.old_size.to_be_bytes());
        out.extend_from_slice(&u64::try_from(self.leaves.len()).ok()?.to_be_bytes());
        out.extend_from_slice(&self.root.0);
        for leaf in self.leaves.iter() {
            out.extend_from_slice(&leaf.nonce);
            out.extend_from_slice(&u32::try_from(leaf.record.len()).ok()?.to_be_bytes());
            out.extend_from_slice(&leaf.record);
        }
        let sum = Hash::of(&out);
        out.extend_from_slice(&sum.0);
        Some(out)
    }

    /// Reads a staged batch of `origin`; the error says what is wrong with it.
    pub(crate) fn decode(bytes: &[u8], origin: &str) -> Result<Self, &'static str> {
        let (body, sum) = bytes.split_last_chunk::<32>().ok_or("it is cut short")?;
        if Hash::of(body).0 != *sum {
            return Err("its checksum does not match");
        }
        let rest = body
            .strip_prefix(HEADER)
            .ok_or("it has another format or version")?;
        let mut input = Input(rest);
        let length = u16::from_be_bytes(input.array()?);
        if input.take(usize::from(length))? != origin.as_bytes() {
            return Err("it belongs to another origin");
        }
        let old_size = u64::from_be_bytes(input.array()?);
        let count = u64::from_be_bytes(input.array()?);
        let root = Hash(input.array()?);
        let mut leaves = Vec::new();
        while !input.0.is_empty() {
            let nonce = input.array::<NONCE_BYTES>()?;
            let length = u32::from_be_bytes(input.array()?);
            let record =
                input.take(usize::try_from(length).map_err(|_| "a record is too long")?)?;
            leaves.push(Leaf {
                nonce,
                record: record.to_vec(),
            });
        }
        if u64::try_from(leaves.len()) != Ok(count) || leaves.is_empty() {
            return Err("it does not hold the leaves that it announces");
        }
        Self::new(origin, old_size, root, leaves).ok_or("its size is too large")
    }
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
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
