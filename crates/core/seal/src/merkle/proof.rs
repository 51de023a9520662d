//! Inclusion and consistency proofs: RFC 6962 sections 2.1.1 and 2.1.2; verification as in RFC 9162 sections 2.1.3.2
//! and 2.1.4.2, which give the same proofs an iterative algorithm.

use super::{Hash, NodeMissing, NodeReader, empty_root, node_hash, split_point};

/// No proof is longer: sizes are below 2^63.
pub const MAX_PROOF_HASHES: usize = 63;

/// A proof cannot be made, or does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// A node that the proof needs cannot be read.
    #[error(transparent)]
    Node(#[from] NodeMissing),
    /// The leaf lies outside the tree.
    #[error("leaf {index} is outside a tree of {size} leaves; give an index below the size")]
    IndexOutside {
        /// The leaf's index.
        index: u64,
        /// The tree's size.
        size: u64,
    },
    /// A tree cannot shrink.
    #[error(
        "a tree of {new_size} leaves cannot extend one of {old_size}; give the sizes oldest first"
    )]
    Shrinks {
        /// The older size.
        old_size: u64,
        /// The newer size.
        new_size: u64,
    },
    /// The proof has too few or too many hashes for its sizes.
    #[error(
        "the proof has {found} hashes, which does not fit the sizes it is for; ask for the proof again"
    )]
    WrongLength {
        /// The number of hashes given.
        found: usize,
    },
    /// The proof leads to another root.
    #[error(
        "the proof leads to root {computed}, the signed one is {expected}; the tree or the proof was changed"
    )]
    WrongRoot {
        /// The root that the proof leads to.
        computed: Hash,
        /// The root that was to be reached.
        expected: Hash,
    },
}

/// The root over the first `size` leaves of what `reader` holds.
pub fn tree_root(reader: &impl NodeReader, size: u64) -> Result<Hash, ProofError> {
    if size == 0 {
        return Ok(empty_root());
    }
    Ok(range_root(reader, 0, size)?)
}

/// MTH over the leaves `start..end`; RFC 6962's recursion only ever asks for ranges whose start is a multiple of the
/// power of two that covers them, so each complete one is a stored node.
pub(super) fn range_root(
    reader: &impl NodeReader,
    start: u64,
    end: u64,
) -> Result<Hash, NodeMissing> {
    let count = end - start;
    if count.is_power_of_two() {
        let level = count.trailing_zeros();
        return reader.node(level, start >> level);
    }
    let middle = start + split_point(count);
    Ok(node_hash(
        &range_root(reader, start, middle)?,
        &range_root(reader, middle, end)?,
    ))
}

/// PATH(`index`, D\[`size`\]) of RFC 6962 2.1.1: the leaf's sibling first, the root's child last.
pub fn inclusion_proof(
    reader: &impl NodeReader,
    index: u64,
    size: u64,
) -> Result<Vec<Hash>, ProofError> {
    if index >= size {
        return Err(ProofError::IndexOutside { index, size });
    }
    let (mut start, mut end) = (0, size);
    let mut proof = Vec::new();
    while end - start > 1 {
        let middle = start + split_point(end - start);
        if index < middle {
            proof.push(range_root(reader, middle, end)?);
            end = middle;
        } else {
            proof.push(range_root(reader, start, middle)?);
            start = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// PROOF(`old_size`, D\[`new_size`\]) of RFC 6962 2.1.2; empty where the old tree is empty or the sizes are equal.
pub fn consistency_proof(
    reader: &impl NodeReader,
    old_size: u64,
    new_size: u64,
) -> Result<Vec<Hash>, ProofError> {
    if old_size > new_size {
        return Err(ProofError::Shrinks { old_size, new_size });
    }
    if old_size == 0 || old_size == new_size {
        return Ok(Vec::new());
    }
    let (mut start, mut end) = (0, new_size);
    let mut proof = Vec::new();
    // Walk down to the old tree's right edge, keeping what hangs off the path.
    while end != old_size {
        let middle = start + split_point(end - start);
        if old_size <= middle {
            proof.push(range_root(reader, middle, end)?);
            end = middle;
        } else {
            proof.push(range_root(reader, start, middle)?);
            start = middle;
        }
    }
    // Where the walk never left the left edge, the rest is the old tree itself, which the verifier knows.
    if start != 0 {
        proof.push(range_root(reader, start, end)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Checks that `leaf` is leaf `index` of the tree of `size` leaves under `root`.
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    walk(leaf, index, (size, root), proof, |_, _, _| false)
}

/// Where a walk from a leaf to the root stands.
#[derive(Clone, Copy)]
pub(super) struct Step {
    /// Levels above the leaves.
    pub(super) level: u32,
    /// The node's place on its level.
    pub(super) node: u64,
    /// The last place on that level.
    last: u64,
}

impl Step {
    /// Joins the node with its sibling, and goes up to their parent.
    fn join(&mut self, computed: &Hash, sibling: &Hash) -> Hash {
        let mut rise = 0;
        let joined = if self.node & 1 == 1 || self.node == self.last {
            // A right-most node without a sibling rises unchanged until it is a right child.
            if self.node & 1 == 0 {
                rise = self.node.trailing_zeros().min(63);
            }
            node_hash(sibling, computed)
        } else {
            node_hash(computed, sibling)
        };
        self.node = self.node >> rise >> 1;
        self.last = self.last >> rise >> 1;
        self.level += rise + 1;
        joined
    }
}

/// Goes from the leaf to the root. `known` is asked at each step whether it knows that the rest of the proof leads from this node to the root; then the
/// walk ends well.
pub(super) fn walk(
    leaf: &Hash,
    index: u64,
    (size, root): (u64, &Hash),
    proof: &[Hash],
    mut known: impl FnMut(Step, &Hash, &[Hash]) -> bool,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::IndexOutside { index, size });
    }
    let wrong_length = ProofError::WrongLength { found: proof.len() };
    let mut step = Step {
        level: 0,
        node: index,
        last: size - 1,
    };
    let mut computed = *leaf;
    let mut rest = proof;
    while let Some((sibling, above)) = rest.split_first() {
        if step.last == 0 {
            return Err(wrong_length);
        }
        if known(step, &computed, rest) {
            return Ok(());
        }
        computed = step.join(&computed, sibling);
        rest = above;
    }
    if step.last != 0 {
        return Err(wrong_length);
    }
    matches_root(computed, root)
}

/// Checks that the tree (`new_size`, `new_root`) extends (`old_size`, `old_root`). Every tree extends the empty one.
pub fn verify_consistency(
    old_size: u64,
    old_root: &Hash,
    new_size: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if old_size > new_size {
        return Err(ProofError::Shrinks { old_size, new_size });
    }
    let wrong_length = ProofError::WrongLength { found: proof.len() };
    if old_size == 0 || old_size == new_size {
        if !proof.is_empty() {
            return Err(wrong_length);
        }
        if new_size == 0 {
            matches_root(empty_root(), new_root)?;
        }
        let known = if old_size == 0 {
            empty_root()
        } else {
            *new_root
        };
        return matches_root(known, old_root);
    }
    // Where the old tree is complete, its root is the first node of the path and is left out of the proof.
    let (first, rest) = if old_size.is_power_of_two() {
        (*old_root, proof)
    } else {
        let (first, rest) = proof.split_first().ok_or(wrong_length.clone())?;
        (*first, rest)
    };
    let rise = (old_size - 1).trailing_ones();
    let (mut node, mut last) = ((old_size - 1) >> rise, (new_size - 1) >> rise);
    let (mut old_computed, mut new_computed) = (first, first);
    for sibling in rest {
        if last == 0 {
            return Err(wrong_length);
        }
        if node & 1 == 1 || node == last {
            old_computed = node_hash(sibling, &old_computed);
            new_computed = node_hash(sibling, &new_computed);
            let rise = if node & 1 == 1 {
                0
            } else {
                node.trailing_zeros().min(63)
            };
            node >>= rise;
            last >>= rise;
        } else {
            new_computed = node_hash(&new_computed, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(wrong_length);
    }
    matches_root(old_computed, old_root)?;
    matches_root(new_computed, new_root)
}

fn matches_root(computed: Hash, expected: &Hash) -> Result<(), ProofError> {
    if computed == *expected {
        return Ok(());
    }
    Err(ProofError::WrongRoot {
        computed,
        expected: *expected,
    })
}
