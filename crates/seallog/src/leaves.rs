//! The leaves of a batch, back to back in one buffer as the private segment holds them, and what the public log says of them.

use crate::leaf::{Leaf, NONCE_BYTES};
use sealwarden_seal::merkle::{Hash, leaf_hash};
use sealwarden_seal::record::{ENTRY_BYTES, Nonce, entry};
use std::num::NonZero;
use std::thread;

/// An entry in its bundle: a u16 with its length, and itself.
pub(crate) const BUNDLED_BYTES: usize = 2 + ENTRY_BYTES;
/// Fewer leaves than this are not worth a thread.
const LEAVES_A_THREAD: usize = 1024;
/// More threads than this wait for memory.
const MOST_THREADS: usize = 8;

/// The leaves of a batch: `nonce ‖ record` of each, one after another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leaves {
    bytes: Vec<u8>,
    /// Where each leaf ends.
    ends: Vec<usize>,
}

/// A leaf in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeafRef<'a> {
    /// Drawn anew for each leaf.
    pub nonce: &'a Nonce,
    /// The record's encoding.
    pub record: &'a [u8],
}

impl LeafRef<'_> {
    /// The leaf by itself.
    pub fn to_leaf(&self) -> Leaf {
        Leaf {
            nonce: *self.nonce,
            record: self.record.to_vec(),
        }
    }
}

impl Leaves {
    /// No leaves, with room for `leaves` of `bytes` bytes in all, nonces included.
    pub fn with_capacity(leaves: usize, bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            ends: Vec::with_capacity(leaves),
        }
    }

    /// Adds a leaf. Limits are checked when the batch is staged.
    pub fn push(&mut self, nonce: &Nonce, record: &[u8]) {
        self.bytes.extend_from_slice(nonce);
        self.bytes.extend_from_slice(record);
        self.ends.push(self.bytes.len());
    }

    /// Adds all of `others` behind these.
    pub fn append(&mut self, others: Self) {
        if self.is_empty() {
            *self = others;
            return;
        }
        let before = self.bytes.len();
        self.bytes.extend_from_slice(&others.bytes);
        self.ends.extend(others.ends.iter().map(|end| before + end));
    }

    /// How many bytes they have, nonces included.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The leaf at this place of the batch.
    pub fn get(&self, place: usize) -> Option<LeafRef<'_>> {
        let start = match place.checked_sub(1) {
            None => 0,
            Some(before) => *self.ends.get(before)?,
        };
        let bytes = self.bytes.get(start..*self.ends.get(place)?)?;
        let (nonce, record) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        Some(LeafRef { nonce, record })
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = LeafRef<'_>> {
        (0..self.len()).filter_map(|place| self.get(place))
    }

    /// All bytes, and where in them each leaf ends.
    pub(crate) fn parts(&self) -> (&[u8], &[usize]) {
        (&self.bytes, &self.ends)
    }
}

impl From<Vec<Leaf>> for Leaves {
    fn from(leaves: Vec<Leaf>) -> Self {
        leaves.iter().collect()
    }
}

impl<'a> FromIterator<&'a Leaf> for Leaves {
    fn from_iter<I: IntoIterator<Item = &'a Leaf>>(leaves: I) -> Self {
        let mut all = Self::default();
        for leaf in leaves {
            all.push(&leaf.nonce, &leaf.record);
        }
        all
    }
}

/// What the public log says of leaves.
#[derive(Debug)]
pub(crate) struct Public {
    /// The entries as bundles hold them, [`BUNDLED_BYTES`] each.
    pub(crate) bundled: Vec<u8>,
    /// The leaf hashes.
    pub(crate) hashes: Vec<Hash>,
}

impl Public {
    /// Hashes all leaves, on several threads where there are many.
    pub(crate) fn of(leaves: &Leaves) -> Self {
        let count = leaves.len();
        let mut bundled = vec![0; count * BUNDLED_BYTES];
        let mut hashes = vec![Hash([0; 32]); count];
        let share = count.div_ceil(threads(count)).max(1);
        in_parallel(
            bundled
                .chunks_mut(share * BUNDLED_BYTES)
                .zip(hashes.chunks_mut(share))
                .zip((0..count).step_by(share))
                .map(|((bundled, hashes), first)| move || fill(leaves, first, bundled, hashes)),
        );
        Self { bundled, hashes }
    }
}

fn fill(leaves: &Leaves, first: usize, bundled: &mut [u8], hashes: &mut [Hash]) {
    let (rows, _) = bundled.as_chunks_mut::<BUNDLED_BYTES>();
    for ((place, row), hash) in (first..).zip(rows).zip(hashes) {
        let Some(leaf) = leaves.get(place) else { break };
        let entry = entry(leaf.nonce, leaf.record);
        let length = u16::try_from(ENTRY_BYTES).unwrap_or_default();
        row[..2].copy_from_slice(&length.to_be_bytes());
        row[2..].copy_from_slice(&entry);
        *hash = leaf_hash(&entry);
    }
}

/// How many threads share the work on `items`.
pub(crate) fn threads(items: usize) -> usize {
    if items < 2 * LEAVES_A_THREAD {
        return 1;
    }
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    cores.min(MOST_THREADS).min(items / LEAVES_A_THREAD).max(1)
}

/// Runs all of `work`, the first part on this thread.
pub(crate) fn in_parallel<W: FnOnce() + Send>(work: impl Iterator<Item = W>) {
    let mut work = work;
    let Some(own) = work.next() else { return };
    thread::scope(|scope| {
        for part in work {
            scope.spawn(part);
        }
        own();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_come_back_as_they_were_given() {
        let given: Vec<_> = (0..5_u8)
            .map(|number| Leaf {
                nonce: [number; NONCE_BYTES],
                record: vec![number; usize::from(number)],
            })
            .collect();
        let leaves = Leaves::from(given.clone());
        let back: Vec<_> = leaves.iter().map(|leaf| leaf.to_leaf()).collect();
        assert_eq!(back, given);
        let mut twice = Leaves::default();
        twice.append(leaves.clone());
        twice.append(leaves.clone());
        let back: Vec<_> = twice.iter().map(|leaf| leaf.to_leaf()).collect();
        assert_eq!(back, [given.clone(), given].concat());
        assert_eq!(leaves.get(5), None);
        assert!(Leaves::default().is_empty());
    }

    #[test]
    fn threads_find_the_hashes_that_one_leaf_after_another_has() {
        for count in [0, 1, 2047, 2048, 5000] {
            let mut leaves = Leaves::default();
            for number in 0..count {
                leaves.push(&[7; NONCE_BYTES], &u32::to_be_bytes(number));
            }
            let public = Public::of(&leaves);
            let alone: Vec<_> = leaves.iter().map(|leaf| leaf.to_leaf().hash()).collect();
            assert_eq!(public.hashes, alone, "{count}");
            assert_eq!(public.bundled.len(), leaves.len() * BUNDLED_BYTES);
        }
    }
}
