//! A published batch: its seals, made from memory, and what a compact proof of all of them needs.

use crate::error::LogError;
use crate::leaf::ProvenLeaf;
use crate::leaves::Leaves;
use crate::staged::Staged;
use sealwarden_seal::merkle::{self, Hash, NodeMissing, NodeReader};
use std::sync::Arc;

/// A batch that is published: durable and signed. Cheap to clone; making its seals reads nothing from the disk.
///
/// As a [`NodeReader`] it has every node that a proof of one of its leaves in the tree of `size` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The first leaf's index.
    pub first_index: u64,
    /// The log's size with the batch.
    pub size: u64,
    /// The root with the batch.
    pub root: Hash,
    /// The signed checkpoint verbatim.
    pub note: Arc<str>,
    staged: Staged,
}

impl Published {
    pub(crate) fn new(staged: Staged, note: Arc<str>) -> Self {
        Self {
            first_index: staged.old_size,
            size: staged.size,
            root: staged.root,
            note,
            staged,
        }
    }

    /// The leaves, the first at `first_index`.
    pub fn leaves(&self) -> &Leaves {
        self.staged.leaves()
    }

    /// The leaves' hashes, the first at `first_index`.
    pub fn leaf_hashes(&self) -> &[Hash] {
        self.staged.batch.growth.row(0)
    }

    /// One leaf with its proof, which is checked before it is handed out.
    pub fn seal(&self, index: u64) -> Result<ProvenLeaf, LogError> {
        let size = self.size;
        let place = index.checked_sub(self.first_index);
        let place = place.and_then(|place| usize::try_from(place).ok());
        let leaf = place.and_then(|place| {
            let hash = self.leaf_hashes().get(place)?;
            Some((self.leaves().get(place)?, hash))
        });
        let (leaf, hash) = leaf.ok_or(LogError::NoLeaf { index, size })?;
        let failed = |error: merkle::ProofError| LogError::Proof {
            reason: error.to_string(),
        };
        let proof = merkle::inclusion_proof(self, index, size).map_err(failed)?;
        merkle::verify_inclusion(hash, index, size, &proof, &self.root).map_err(failed)?;
        Ok(ProvenLeaf {
            leaf: leaf.to_leaf(),
            index,
            proof,
            note: Arc::clone(&self.note),
            witnessed: false,
        })
    }

    /// Each leaf with its proof, in the batch's order.
    pub fn seals(&self) -> Result<Vec<ProvenLeaf>, LogError> {
        (self.first_index..self.size)
            .map(|index| self.seal(index))
            .collect()
    }
}

impl NodeReader for Published {
    fn node(&self, level: u32, index: u64) -> Result<Hash, NodeMissing> {
        self.staged.batch.growth.node(level, index)
    }
}
