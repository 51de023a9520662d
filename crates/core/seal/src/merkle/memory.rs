//! A whole tree in memory, for tests and small logs.

use super::{Frontier, Hash, NodeMissing, NodeReader, ProofError, leaf_hash};
use super::{consistency_proof, inclusion_proof, tree_root};

/// All nodes of a tree, in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryTree {
    levels: Vec<Vec<Hash>>,
    frontier: Frontier,
}

impl MemoryTree {
    /// The empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one entry.
    pub fn push_entry(&mut self, entry: &[u8]) {
        self.push(leaf_hash(entry));
    }

    /// Appends one leaf hash.
    pub fn push(&mut self, leaf: Hash) {
        let levels = &mut self.levels;
        self.frontier.push_with(leaf, |level, _, hash| {
            // Nodes of a level complete in order, so appending keeps position and index equal.
            let Ok(level) = usize::try_from(level) else {
                return;
            };
            if levels.len() <= level {
                levels.push(Vec::new());
            }
            levels[level].push(hash);
        });
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The root over all leaves.
    pub fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// The root over the first `size` leaves.
    pub fn root_at(&self, size: u64) -> Result<Hash, ProofError> {
        tree_root(self, size)
    }

    /// The inclusion proof of leaf `index` in the tree of the first `size` leaves.
    pub fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<Hash>, ProofError> {
        inclusion_proof(self, index, size)
    }

    /// The proof that the first `new_size` leaves extend the first `old_size`.
    pub fn consistency_proof(&self, old_size: u64, new_size: u64) -> Result<Vec<Hash>, ProofError> {
        consistency_proof(self, old_size, new_size)
    }
}

impl NodeReader for MemoryTree {
    fn node(&self, level: u32, index: u64) -> Result<Hash, NodeMissing> {
        let missing = NodeMissing { level, index };
        let row = usize::try_from(level)
            .ok()
            .and_then(|level| self.levels.get(level));
        let column = usize::try_from(index).map_err(|_| missing)?;
        row.and_then(|row| row.get(column)).copied().ok_or(missing)
    }
}
