//! What a batch adds to the tree: every node that it completes, computed once, row by row.

use crate::leaves::{in_parallel, threads};
use sealwarden_seal::merkle::{Frontier, Hash, NodeMissing, NodeReader, node_hash};

/// The nodes that appending completes, and the left neighbours that their proofs need.
#[derive(Debug)]
pub(crate) struct Growth {
    first: u64,
    /// The complete subtrees before the batch, by level.
    left: Vec<Option<Hash>>,
    /// `rows[l]` holds the completed nodes of level l, from index `first >> l` on.
    rows: Vec<Vec<Hash>>,
}

impl Growth {
    /// Appends leaf hashes to a tree's right edge.
    pub(crate) fn of(before: &Frontier, leaves: Vec<Hash>) -> Self {
        let first = before.size();
        let mut left = Vec::new();
        for ((level, _), hash) in Frontier::nodes_of(first).into_iter().zip(before.subtrees()) {
            let place = usize::try_from(level).unwrap_or_default();
            if left.len() <= place {
                left.resize(place + 1, None);
            }
            left[place] = Some(*hash);
        }
        let mut rows = vec![leaves];
        while let Some(row) = rows.last().filter(|row| !row.is_empty()) {
            // An odd index before the row: its first node is the right half of a pair.
            let partner = left.get(rows.len() - 1).copied().flatten();
            let above = above(partner, row);
            rows.push(above);
        }
        rows.pop();
        Self { first, left, rows }
    }

    /// The completed nodes of a level, from index `first >> level` on.
    pub(crate) fn row(&self, level: u32) -> &[Hash] {
        let row = usize::try_from(level)
            .ok()
            .and_then(|level| self.rows.get(level));
        row.map_or(&[], Vec::as_slice)
    }

    fn find(&self, level: u32, index: u64) -> Option<Hash> {
        let base = self.first.checked_shr(level)?;
        let Some(place) = index.checked_sub(base) else {
            let is_neighbour = index + 1 == base && base % 2 == 1;
            let left = self.left.get(usize::try_from(level).ok()?).copied()?;
            return left.filter(|_| is_neighbour);
        };
        self.row(level).get(usize::try_from(place).ok()?).copied()
    }
}

impl NodeReader for Growth {
    fn node(&self, level: u32, index: u64) -> Result<Hash, NodeMissing> {
        self.find(level, index).ok_or(NodeMissing { level, index })
    }
}

/// The complete pairs of a row, whose first node may have its partner before the row.
fn above(partner: Option<Hash>, row: &[Hash]) -> Vec<Hash> {
    let (head, rest) = match (partner, row.split_first()) {
        (Some(left), Some((first, rest))) => (Some(node_hash(&left, first)), rest),
        (None, _) | (_, None) => (None, row),
    };
    let pairs = rest.len() / 2;
    let offset = usize::from(head.is_some());
    let mut above = vec![Hash([0; 32]); offset + pairs];
    if let (Some(hash), Some(first)) = (head, above.first_mut()) {
        *first = hash;
    }
    let share = pairs.div_ceil(threads(pairs)).max(1);
    let (pairs, _) = rest.as_chunks::<2>();
    in_parallel(
        above[offset..]
            .chunks_mut(share)
            .zip(pairs.chunks(share))
            .map(|(above, pairs)| {
                move || {
                    for (node, [left, right]) in above.iter_mut().zip(pairs) {
                        *node = node_hash(left, right);
                    }
                }
            }),
    );
    above
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealwarden_seal::merkle::{MemoryTree, inclusion_proof, tree_root};

    #[test]
    fn growth_has_the_nodes_of_the_whole_tree() {
        for (first, size) in [
            (0, 1),
            (0, 300),
            (1, 2),
            (5, 8),
            (7, 600),
            (255, 256),
            (256, 777),
            (300, 5000),
        ] {
            let leaves: Vec<_> = (0..size)
                .map(|leaf: u64| Hash::of(&leaf.to_be_bytes()))
                .collect();
            let (mut whole, mut before) = (MemoryTree::new(), Frontier::new());
            for (index, leaf) in (0..).zip(&leaves) {
                whole.push(*leaf);
                if index < first {
                    before.push(*leaf);
                }
            }
            let new = usize::try_from(first).unwrap();
            let growth = Growth::of(&before, leaves[new..].to_vec());
            assert_eq!(
                tree_root(&growth, size).unwrap(),
                whole.root(),
                "{first}..{size}"
            );
            for index in first..size {
                assert_eq!(
                    inclusion_proof(&growth, index, size).unwrap(),
                    whole.inclusion_proof(index, size).unwrap(),
                    "{index} in {first}..{size}"
                );
            }
            if first > 1 {
                assert!(
                    growth.node(0, 0).is_err(),
                    "what lies left of the edge is not there"
                );
            }
        }
    }
}
