//! The right edge of a growing tree: enough to append and to compute the root, in logarithmic space.

use super::{Hash, empty_root, node_hash};

/// The parts given do not make a right edge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrontierError {
    /// A size has exactly as many complete subtrees as it has set bits.
    #[error(
        "a tree of {size} leaves has {expected} complete subtrees on its right edge, {found} were given"
    )]
    Count {
        /// The size given.
        size: u64,
        /// The number of set bits in the size.
        expected: u32,
        /// The number of subtrees given.
        found: usize,
    },
}

/// The complete subtrees that make up a tree, the largest (leftmost) first: one for each set bit of the size.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    subtrees: Vec<Hash>,
}

impl Frontier {
    /// The empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Rebuilds a right edge from its size and its complete subtrees, the largest first.
    pub fn from_parts(size: u64, subtrees: Vec<Hash>) -> Result<Self, FrontierError> {
        let expected = size.count_ones();
        if usize::try_from(expected) != Ok(subtrees.len()) {
            return Err(FrontierError::Count {
                size,
                expected,
                found: subtrees.len(),
            });
        }
        Ok(Self { size, subtrees })
    }

    /// Names the complete subtrees of a tree of `size` as (level, index), the largest first: what
    /// [`Frontier::from_parts`] wants to be given.
    pub fn nodes_of(size: u64) -> Vec<(u32, u64)> {
        let mut nodes = Vec::new();
        let mut start = 0;
        for level in (0..u64::BITS).rev() {
            if size >> level & 1 == 1 {
                nodes.push((level, start >> level));
                start += 1 << level;
            }
        }
        nodes
    }

    /// Appends one leaf hash.
    pub fn push(&mut self, leaf: Hash) {
        self.push_with(leaf, |_, _, _| {});
    }

    /// Appends one leaf hash and reports each node that it completes, as (level, index, hash), the leaf itself first.
    pub fn push_with(&mut self, leaf: Hash, mut completed: impl FnMut(u32, u64, Hash)) {
        let mut node = leaf;
        completed(0, self.size, node);
        for level in 0..self.size.trailing_ones() {
            let Some(left) = self.subtrees.pop() else {
                break;
            };
            node = node_hash(&left, &node);
            completed(level + 1, self.size >> (level + 1), node);
        }
        self.subtrees.push(node);
        self.size += 1;
    }

    /// The tree's root.
    pub fn root(&self) -> Hash {
        let mut subtrees = self.subtrees.iter().rev();
        let Some(last) = subtrees.next() else {
            return empty_root();
        };
        subtrees.fold(*last, |right, left| node_hash(left, &right))
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The complete subtrees, the largest first.
    pub fn subtrees(&self) -> &[Hash] {
        &self.subtrees
    }
}
