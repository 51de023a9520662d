//! The RFC 6962 section 2.1 Merkle tree over SHA-256.
//!
//! Leaf hash = `H(0x00 ‖ entry)`, node = `H(0x01 ‖ left ‖ right)`, the empty tree's root is `H("")`. A node is named by
//! (`level`, `index`): level 0 holds the leaf hashes, and the node at level *l*, index *i* covers the leaves from
//! *i*·2^*l* up to (*i*+1)·2^*l*. Only complete subtrees are stored; ragged right edges are computed.

mod batch_proof;
mod frontier;
mod known;
mod memory;
mod proof;

pub use batch_proof::{BatchProof, BatchProofError, MAX_BATCH_PROOF_HASHES, Paths};
pub use frontier::{Frontier, FrontierError};
pub use known::KnownPaths;
pub use memory::MemoryTree;
pub use proof::{
    MAX_PROOF_HASHES, ProofError, consistency_proof, inclusion_proof, tree_root,
    verify_consistency, verify_inclusion,
};

use crate::encoding;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A SHA-256 value: a leaf hash, a node, a root or a digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash(
    /// The 32 bytes.
    pub [u8; 32],
);

/// Text is not a SHA-256 value in the wanted spelling.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Not 64 lower-case hexadecimal digits.
    #[error("{0:?} is not a SHA-256 value: write 64 lower-case hexadecimal digits")]
    Hex(String),
    /// Not the canonical base64 of 32 bytes.
    #[error("{0:?} is not a SHA-256 value: write the padded base64 of 32 bytes")]
    Base64(String),
}

impl Hash {
    /// SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(encoding::sha256(bytes))
    }

    /// The padded base64 spelling that C2SP texts use.
    pub fn to_base64(self) -> String {
        encoding::base64(&self.0)
    }

    /// Reads the canonical base64 spelling only.
    pub fn from_base64(text: &str) -> Result<Self, HashError> {
        encoding::hash_from_base64(text)
            .map(Self)
            .ok_or_else(|| HashError::Base64(encoding::excerpt(text)))
    }

    /// Reads 64 lower-case hexadecimal digits.
    pub fn from_hex(text: &str) -> Result<Self, HashError> {
        let error = || HashError::Hex(encoding::excerpt(text));
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| error())?;
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(error());
        }
        Ok(Self(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Hash({self})")
    }
}

impl TryFrom<String> for Hash {
    type Error = HashError;

    fn try_from(text: String) -> Result<Self, HashError> {
        Self::from_hex(&text)
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

/// `H(0x00 ‖ entry)`.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    if let Some(hash) = short_leaf_hash(entry) {
        return hash;
    }
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(&[0]);
    context.update(entry);
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    Hash(out)
}

/// The hash of a leaf that fits one block, as every entry of ours does: prefix, entry, padding and length (FIPS 180-4 section
/// 5.1.1).
fn short_leaf_hash(entry: &[u8]) -> Option<Hash> {
    let mut block = [0; 64];
    block
        .get_mut(1..=entry.len())
        .filter(|_| entry.len() <= MAX_SHORT_LEAF)?
        .copy_from_slice(entry);
    block[entry.len() + 1] = 0x80;
    let bits = u16::try_from((entry.len() + 1) * 8).ok()?;
    block[62..].copy_from_slice(&bits.to_be_bytes());
    let mut state = SHA256_INITIAL;
    sha2::compress256(&mut state, &[block.into()]);
    Some(hash_of(state))
}

/// A block holds a prefix, so many bytes of an entry, the padding's first byte and the length.
const MAX_SHORT_LEAF: usize = 64 - 1 - 1 - 8;

fn hash_of(state: [u32; 8]) -> Hash {
    let mut hash = [0; 32];
    for (out, word) in hash.chunks_exact_mut(4).zip(state) {
        out.copy_from_slice(&word.to_be_bytes());
    }
    Hash(hash)
}

/// `H(0x01 ‖ left ‖ right)`.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    // The hot path of every verification. 65 bytes are always two blocks with the same padding, so the compression function is
    // called by itself: FIPS 180-4 section 5.1.1 gives the padding, 5.3.3 the initial value.
    let (mut first, mut second) = ([0; 64], [0; 64]);
    first[0] = 1;
    first[1..33].copy_from_slice(&left.0);
    first[33..].copy_from_slice(&right.0[..31]);
    second[0] = right.0[31];
    second[1] = 0x80;
    second[62..].copy_from_slice(&NODE_BITS.to_be_bytes());
    let mut state = SHA256_INITIAL;
    sha2::compress256(&mut state, &[first.into(), second.into()]);
    hash_of(state)
}

/// The length of what a node hashes, in bits.
const NODE_BITS: u16 = 65 * 8;
const SHA256_INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// The root of the tree without leaves, `H("")`.
pub fn empty_root() -> Hash {
    Hash::of(b"")
}

/// A node of a complete subtree is not to be had from a [`NodeReader`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the tree's node at level {level}, index {index} is missing; restore the tile that holds it"
)]
pub struct NodeMissing {
    /// The level; 0 holds leaf hashes.
    pub level: u32,
    /// The index within the level.
    pub index: u64,
}

/// Where proofs take the tree's nodes from.
pub trait NodeReader {
    /// The root of the complete subtree (`level`, `index`). Only nodes wholly inside the tree's size are asked for.
    fn node(&self, level: u32, index: u64) -> Result<Hash, NodeMissing>;
}

/// The largest power of two strictly below `count`, for `count` of two and more (RFC 6962's *k*).
fn split_point(count: u64) -> u64 {
    debug_assert!(count >= 2, "a range of {count} leaves has no split");
    1 << (u64::BITS - 1 - (count - 1).leading_zeros())
}

#[cfg(test)]
mod short_leaves {
    use super::*;

    #[test]
    fn leaves_of_every_length_hash_as_their_definition_says() {
        for length in 0..=130_u8 {
            let entry = vec![length; usize::from(length)];
            let whole = [&[0], entry.as_slice()].concat();
            assert_eq!(leaf_hash(&entry), Hash::of(&whole), "{length} bytes");
        }
    }
}
