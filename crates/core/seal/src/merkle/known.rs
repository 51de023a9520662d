//! Inclusion proofs of many leaves under one root share their upper halves; what once led to the root need not be hashed again.

use super::Hash;
use super::proof::{ProofError, walk};

/// Paths that are remembered under one root: the nodes of one level, fewer than these.
const PATHS: u64 = 2_048;

/// The upper parts of paths that led to one root.
///
/// They are remembered at one level only, the lowest that has at most 2,048 nodes. A proof whose node there has a remembered hash, and whose rest is the
/// remembered rest, byte for byte, leads where that one led. So every answer is the one that [`verify_inclusion`](super::verify_inclusion) gives, which is the one that hashes
/// everything. Takes 1 MiB at most.
#[derive(Debug, Clone)]
pub struct KnownPaths {
    size: u64,
    root: Hash,
    floor: u32,
    /// By the node's place on its level.
    paths: Vec<Option<Box<Known>>>,
    count: usize,
}

fn height(size: u64) -> u32 {
    u64::BITS - size.saturating_sub(1).leading_zeros()
}

fn floor(size: u64) -> u32 {
    height(size).saturating_sub(PATHS.trailing_zeros())
}

#[derive(Debug, Clone)]
struct Known {
    /// Above the floor where the right edge of the tree passes it by.
    level: u32,
    node: Hash,
    rest: Box<[Hash]>,
}

impl KnownPaths {
    /// How many levels of a tree of `size` leaves lie above the remembered one: so many hashes a known path saves.
    pub fn levels(size: u64) -> u32 {
        height(size) - floor(size)
    }

    /// None yet, in the tree of `size` leaves under `root`.
    pub fn under(size: u64, root: Hash) -> Self {
        Self {
            size,
            root,
            floor: floor(size),
            paths: Vec::new(),
            count: 0,
        }
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.paths = Vec::new();
        self.count = 0;
    }

    /// Checks that `leaf` is leaf `index`, and remembers the path if it is.
    pub fn verify_inclusion(
        &mut self,
        leaf: &Hash,
        index: u64,
        proof: &[Hash],
    ) -> Result<(), ProofError> {
        let mut met = None;
        walk(
            leaf,
            index,
            (self.size, &self.root),
            proof,
            |step, node, rest| {
                if step.level < self.floor || met.is_some() {
                    return false;
                }
                let known = usize::try_from(step.node).ok();
                let known = known.and_then(|place| self.paths.get(place)?.as_ref());
                let is_known = known.is_some_and(|known| {
                    known.level == step.level && known.node == *node && *known.rest == *rest
                });
                met = Some((step.level, step.node, *node, rest.len(), is_known));
                is_known
            },
        )?;
        if let Some((level, place, node, left, false)) = met
            && let Some(rest) = proof.get(proof.len() - left..)
        {
            let rest = Box::from(rest);
            self.remember(place, Known { level, node, rest });
        }
        Ok(())
    }

    fn remember(&mut self, place: u64, known: Known) {
        let Ok(place) = usize::try_from(place) else {
            return;
        };
        if self.paths.len() <= place {
            self.paths.resize(place + 1, None);
        }
        if let Some(free) = self.paths.get_mut(place) {
            self.count += usize::from(free.is_none());
            *free = Some(Box::new(known));
        }
    }
}
