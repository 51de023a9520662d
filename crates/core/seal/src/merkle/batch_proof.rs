//! One proof for a range of neighbouring leaves: whoever has the leaf hashes gets every leaf's inclusion path from it.
//!
//! The hashes are the roots of the largest subtrees of RFC 6962's recursion that lie wholly outside the range, from left to
//! right: at most two for each level, however many leaves the range has. Everything else follows from the leaves, so the
//! bytes that a batch needs do not grow with its paths.

use super::{Hash, MAX_PROOF_HASHES, NodeReader, ProofError, node_hash, proof, split_point};
use std::ops::Range;

/// No proof of a range has more hashes: two for each level of the tallest tree.
pub const MAX_BATCH_PROOF_HASHES: usize = 2 * MAX_PROOF_HASHES;

/// Why a proof of a range does not hold, or cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchProofError {
    /// The range is empty, or reaches over the end of the tree.
    #[error(
        "leaves {first} to {end} (exclusive) are no range of a tree of {size} leaves; give at least one leaf below the size"
    )]
    Range {
        /// The first leaf.
        first: u64,
        /// The end, exclusive.
        end: u64,
        /// The tree's size.
        size: u64,
    },
    /// A tree that no log can have.
    #[error("a tree of {0} leaves is larger than any log; sizes are below 2^63")]
    Size(u64),
    /// Too few or too many hashes, a proof that does not lead to the root, or a node that cannot be read.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

/// The hashes outside a range of leaves from which, with the leaves, the root follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchProof {
    /// The first leaf's index.
    pub first: u64,
    /// The tree's size.
    pub size: u64,
    /// Roots of the largest subtrees outside the range, from left to right.
    pub hashes: Vec<Hash>,
}

impl BatchProof {
    /// The proof for the leaves of `range` in the tree of the first `size` leaves.
    pub fn make(
        reader: &impl NodeReader,
        range: Range<u64>,
        size: u64,
    ) -> Result<Self, BatchProofError> {
        check(&range, size)?;
        let mut hashes = Vec::new();
        outside(reader, 0..size, &range, &mut hashes)?;
        Ok(Self {
            first: range.start,
            size,
            hashes,
        })
    }

    /// Checks the proof against `root`, where `leaves` are the range's leaf hashes in order, and gives all inclusion paths.
    /// Time and memory grow with the number of leaves; the proof's own size is bounded by the tree's height.
    pub fn expand(&self, leaves: &[Hash], root: &Hash) -> Result<Paths, BatchProofError> {
        let range = self.range(leaves.len())?;
        let wrong_length = ProofError::WrongLength {
            found: self.hashes.len(),
        };
        if self.hashes.len() > MAX_BATCH_PROOF_HASHES {
            return Err(wrong_length.into());
        }
        let mut fold = Fold {
            range: range.clone(),
            leaves: leaves.iter(),
            given: self.hashes.iter(),
            nodes: Vec::with_capacity(2 * leaves.len() + self.hashes.len()),
        };
        let computed = fold.node(0, self.size).ok_or(wrong_length.clone())?;
        if fold.given.next().is_some() || fold.leaves.next().is_some() {
            return Err(wrong_length.into());
        }
        if computed != *root {
            return Err(BatchProofError::Proof(ProofError::WrongRoot {
                computed,
                expected: *root,
            }));
        }
        Ok(Paths {
            range,
            size: self.size,
            nodes: fold.nodes,
        })
    }

    fn range(&self, leaves: usize) -> Result<Range<u64>, BatchProofError> {
        let end = u64::try_from(leaves)
            .ok()
            .and_then(|count| self.first.checked_add(count))
            .unwrap_or(u64::MAX);
        let range = self.first..end;
        check(&range, self.size)?;
        Ok(range)
    }
}

fn check(range: &Range<u64>, size: u64) -> Result<(), BatchProofError> {
    if i64::try_from(size).is_err() {
        return Err(BatchProofError::Size(size));
    }
    if range.is_empty() || range.end > size {
        return Err(BatchProofError::Range {
            first: range.start,
            end: range.end,
            size,
        });
    }
    Ok(())
}

fn is_outside(node: &Range<u64>, range: &Range<u64>) -> bool {
    node.end <= range.start || node.start >= range.end
}

fn outside(
    reader: &impl NodeReader,
    node: Range<u64>,
    range: &Range<u64>,
    hashes: &mut Vec<Hash>,
) -> Result<(), ProofError> {
    if is_outside(&node, range) {
        hashes.push(proof::range_root(reader, node.start, node.end)?);
        return Ok(());
    }
    if range.start <= node.start && node.end <= range.end {
        return Ok(());
    }
    // A single leaf is inside or outside, so this node can be split.
    let middle = node.start + split_point(node.end - node.start);
    outside(reader, node.start..middle, range, hashes)?;
    outside(reader, middle..node.end, range, hashes)
}

/// Computes the nodes over a range, each before its children: a node at place p has its left child at p + 1.
struct Fold<'a> {
    range: Range<u64>,
    leaves: std::slice::Iter<'a, Hash>,
    given: std::slice::Iter<'a, Hash>,
    nodes: Vec<Node>,
}

impl Fold<'_> {
    /// The hash of the node over these leaves. Goes no deeper than the tree is tall, and meets each leaf of the range once.
    fn node(&mut self, start: u64, end: u64) -> Option<Hash> {
        let place = self.nodes.len();
        if is_outside(&(start..end), &self.range) {
            let hash = *self.given.next()?;
            self.nodes.push(Node { hash, right: 0 });
            return Some(hash);
        }
        if end - start == 1 {
            let hash = *self.leaves.next()?;
            self.nodes.push(Node { hash, right: 0 });
            return Some(hash);
        }
        self.nodes.push(Node {
            hash: Hash([0; 32]),
            right: 0,
        });
        let middle = start + split_point(end - start);
        let left = self.node(start, middle)?;
        let right_place = self.nodes.len();
        let right = self.node(middle, end)?;
        let hash = node_hash(&left, &right);
        *self.nodes.get_mut(place)? = Node {
            hash,
            right: right_place,
        };
        Some(hash)
    }
}

#[derive(Debug, Clone, Copy)]
struct Node {
    hash: Hash,
    /// The place of the right child; 0 where there are no children.
    right: usize,
}

/// The inclusion paths of a range of leaves, checked against a root. Neighbours share their nodes.
#[derive(Debug, Clone)]
pub struct Paths {
    range: Range<u64>,
    size: u64,
    nodes: Vec<Node>,
}

impl Paths {
    /// The leaves that there are paths of.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// The distinct nodes that the paths are made of; a path names them by their place here.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Hash> {
        self.nodes.iter().map(|node| &node.hash)
    }

    /// One leaf's inclusion proof, the leaf's sibling first; none outside the range.
    pub fn path(&self, index: u64) -> Option<Vec<Hash>> {
        if !self.range.contains(&index) {
            return None;
        }
        let mut path = Vec::with_capacity(MAX_PROOF_HASHES);
        let (mut place, mut start, mut end) = (0, 0, self.size);
        while end - start > 1 {
            let right = self.nodes.get(place)?.right;
            let middle = start + split_point(end - start);
            let sibling = if index < middle {
                (place, end) = (place + 1, middle);
                right
            } else {
                let left = place + 1;
                (place, start) = (right, middle);
                left
            };
            path.push(self.nodes.get(sibling)?.hash);
        }
        path.reverse();
        Some(path)
    }

    /// Calls `each` with every leaf's index and its path in order: places in [`Paths::nodes`], the leaf's sibling first. What
    /// is costly about a node (its spelling in base64, say) can so be done once and not once for each leaf under it.
    pub fn for_each(&self, mut each: impl FnMut(u64, &[usize])) {
        let mut above = [0; MAX_PROOF_HASHES];
        self.walk(0, 0..self.size, &mut above, MAX_PROOF_HASHES, &mut each);
    }

    /// `above[free..]` holds the siblings between this node and the root, so that the last one entered comes first.
    fn walk(
        &self,
        place: usize,
        node: Range<u64>,
        above: &mut [usize; MAX_PROOF_HASHES],
        free: usize,
        each: &mut impl FnMut(u64, &[usize]),
    ) {
        if is_outside(&node, &self.range) {
            return;
        }
        if node.end - node.start == 1 {
            each(node.start, above.get(free..).unwrap_or_default());
            return;
        }
        // A tree below 2^63 leaves has no more levels than the array has places.
        let Some((right, free)) = self
            .nodes
            .get(place)
            .map(|node| node.right)
            .zip(free.checked_sub(1))
        else {
            return;
        };
        let middle = node.start + split_point(node.end - node.start);
        above[free] = right;
        self.walk(place + 1, node.start..middle, above, free, each);
        above[free] = place + 1;
        self.walk(right, middle..node.end, above, free, each);
    }
}
