//! What the caller gives for one leaf, and what comes back with its proof.

use sealwarden_seal::merkle::Hash;
use sealwarden_seal::record::{Nonce, entry_leaf_hash};
use sealwarden_seal::seal::{Seal, SealError, format_seal};
use std::sync::Arc;

pub use sealwarden_seal::record::NONCE_BYTES;

/// No record is longer, in bytes.
pub const MAX_RECORD_BYTES: usize = 32 * 1024;

/// A leaf's private part: the salt and the record's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Drawn anew for each leaf.
    pub nonce: Nonce,
    /// The record's encoding; at most [`MAX_RECORD_BYTES`].
    pub record: Vec<u8>,
}

impl Leaf {
    /// The hash that stands in the tree for it.
    pub fn hash(&self) -> Hash {
        entry_leaf_hash(&self.nonce, &self.record)
    }

    /// Whether it was overwritten with zeros, as [`crate::LogReader::erase`] does. No record begins with a zero byte.
    pub fn is_erased(&self) -> bool {
        is_zero(&self.nonce) && is_zero(&self.record)
    }
}

pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// A leaf with its proof against a signed checkpoint: all that a seal file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenLeaf {
    /// The private part.
    pub leaf: Leaf,
    /// Its place in the log.
    pub index: u64,
    /// The inclusion proof, the leaf's sibling first.
    pub proof: Vec<Hash>,
    /// The signed checkpoint verbatim.
    pub note: Arc<str>,
    /// Whether `note` is the checkpoint that carries cosignatures.
    pub witnessed: bool,
}

impl ProvenLeaf {
    /// The seal file.
    pub fn to_text(&self) -> String {
        format_seal(
            &self.leaf.nonce,
            &self.leaf.record,
            self.index,
            &self.proof,
            &self.note,
        )
    }

    /// The seal, taken apart and checked for form.
    pub fn to_seal(&self) -> Result<Seal, SealError> {
        Seal::parse(self.to_text().as_bytes())
    }
}
