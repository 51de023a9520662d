//! The intents of one origin, kept small: there is one for each batch that was ever signed, and every fold of the log line holds them all.
//!
//! An intent takes 44 bytes here: root, and its size, time and position as distances from the first one of its chunk. The hash of the bytes to sign follows from origin,
//! size and root, since those bytes are the checkpoint's text; it is kept beside only where a log says something else. Full chunks are shared by copies of a
//! fold. Nothing is left out: every question that the whole list answers is answered as before.

use std::collections::BTreeMap;
use std::sync::Arc;

use sealwarden_seal::checkpoint;
use sealwarden_seal::merkle::Hash;

/// Intents of a chunk: enough that a chunk's own cost is nothing, and few enough that copying the last one is nothing either.
const CHUNK: usize = 512;

/// A recorded intent to sign one root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Root hash.
    pub root: [u8; 32],
    /// When the event log recorded it, Unix milliseconds.
    pub at_ms: i64,
    /// Position in the event log.
    pub position: u64,
}

/// All intents of an origin, by tree size.
#[derive(Clone, Debug, Default)]
pub struct Intents {
    origin: String,
    /// By size, none empty.
    chunks: Vec<Arc<Chunk>>,
    /// Hashes that are not those of the checkpoint's text, by size.
    strange: BTreeMap<u64, [u8; 32]>,
}

#[derive(Clone, Debug)]
struct Chunk {
    size: u64,
    at_ms: i64,
    position: u64,
    packed: Vec<Packed>,
}

/// Distances from the chunk's first one.
#[derive(Clone, Copy, Debug)]
struct Packed {
    size: u32,
    at_ms: i32,
    position: i32,
    root: [u8; 32],
}

impl Chunk {
    fn starting(size: u64, intent: &Intent) -> Self {
        let mut chunk = Self {
            size,
            at_ms: intent.at_ms,
            position: intent.position,
            packed: Vec::new(),
        };
        // What is at no distance from itself fits.
        chunk.push(size, intent);
        chunk
    }

    /// Adds one behind the last; `false` where it lies too far from the first, or the chunk is full.
    fn push(&mut self, size: u64, intent: &Intent) -> bool {
        let packed = || {
            Some(Packed {
                size: u32::try_from(size.checked_sub(self.size)?).ok()?,
                at_ms: i32::try_from(intent.at_ms.checked_sub(self.at_ms)?).ok()?,
                position: i32::try_from(intent.position.checked_signed_diff(self.position)?)
                    .ok()?,
                root: intent.root,
            })
        };
        let Some(packed) = packed().filter(|_| self.packed.len() < CHUNK) else {
            return false;
        };
        self.packed.push(packed);
        true
    }

    fn read(&self, packed: &Packed) -> (u64, Intent) {
        let intent = Intent {
            root: packed.root,
            at_ms: self.at_ms.saturating_add(i64::from(packed.at_ms)),
            position: self
                .position
                .saturating_add_signed(i64::from(packed.position)),
        };
        (self.size.saturating_add(u64::from(packed.size)), intent)
    }

    fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, Intent)> + '_ {
        self.packed.iter().map(|packed| self.read(packed))
    }

    fn last_size(&self) -> u64 {
        let last = self.packed.last().map_or(0, |it| it.size);
        self.size.saturating_add(u64::from(last))
    }

    fn get(&self, size: u64) -> Option<Intent> {
        let distance = u32::try_from(size.checked_sub(self.size)?).ok()?;
        let place = self.packed.binary_search_by_key(&distance, |it| it.size);
        let packed = self.packed.get(place.ok()?)?;
        Some(self.read(packed).1)
    }
}

impl Intents {
    /// None yet, of this origin.
    pub fn of(origin: &str) -> Self {
        Self {
            origin: origin.to_owned(),
            ..Self::default()
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.chunks.iter().map(|it| it.packed.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The intent for a size.
    pub fn get(&self, size: u64) -> Option<Intent> {
        let behind = self.chunks.partition_point(|it| it.size <= size);
        self.chunks.get(behind.checked_sub(1)?)?.get(size)
    }

    /// Whether there is one for a size.
    pub fn contains(&self, size: u64) -> bool {
        self.get(size).is_some()
    }

    /// The SHA-256 of the bytes that the intent for a size is to sign.
    pub fn message_sha256(&self, size: u64) -> Option<[u8; 32]> {
        let intent = self.get(size)?;
        let strange = self.strange.get(&size).copied();
        Some(strange.unwrap_or_else(|| self.of_text(size, intent.root)))
    }

    /// The newest intent that is to sign a message with this SHA-256, with its size. Looks from the newest one backwards: an honest use follows its intent closely.
    pub fn of_message(&self, message_sha256: &[u8]) -> Option<(u64, Intent)> {
        self.iter().rev().find(|(size, intent)| {
            let strange = self.strange.get(size).copied();
            let message = strange.unwrap_or_else(|| self.of_text(*size, intent.root));
            message[..] == *message_sha256
        })
    }

    /// All of them, the smallest size first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, Intent)> + '_ {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// The one for the smallest size.
    pub fn first(&self) -> Option<(u64, Intent)> {
        self.iter().next()
    }

    /// The largest size.
    pub fn last_size(&self) -> Option<u64> {
        self.chunks.last().map(|it| it.last_size())
    }

    /// Adds one, unless there is one for that size.
    pub fn insert(&mut self, size: u64, message_sha256: [u8; 32], intent: Intent) {
        if self.contains(size) {
            return;
        }
        if self.of_text(size, intent.root) != message_sha256 {
            self.strange.insert(size, message_sha256);
        }
        if self.last_size().is_none_or(|last| size > last) {
            let pushed = self
                .chunks
                .last_mut()
                .is_some_and(|last| Arc::make_mut(last).push(size, &intent));
            if !pushed {
                self.chunks.push(Arc::new(Chunk::starting(size, &intent)));
            }
            return;
        }
        // No writer of ours intends a smaller size after a larger one; what others wrote into the log is taken as it stands.
        let place = self.chunks.partition_point(|it| it.size <= size);
        let place = place.saturating_sub(1);
        let Some(chunk) = self.chunks.get(place) else {
            return;
        };
        let mut all: Vec<_> = chunk.iter().collect();
        let at = all.partition_point(|(known, _)| *known < size);
        all.insert(at, (size, intent));
        let mut chunks: Vec<Chunk> = Vec::new();
        for (size, intent) in &all {
            if !chunks
                .last_mut()
                .is_some_and(|last| last.push(*size, intent))
            {
                chunks.push(Chunk::starting(*size, intent));
            }
        }
        self.chunks
            .splice(place..=place, chunks.into_iter().map(Arc::new));
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.chunks.clear();
        self.strange.clear();
    }

    /// Bytes that they take in memory, chunks that other copies share included.
    pub fn bytes(&self) -> usize {
        let of =
            |chunk: &Arc<Chunk>| size_of::<Chunk>() + chunk.packed.capacity() * size_of::<Packed>();
        self.chunks.iter().map(of).sum()
    }

    fn of_text(&self, size: u64, root: [u8; 32]) -> [u8; 32] {
        let text = checkpoint::text_of(&self.origin, size, &Hash(root));
        Hash::of(text.as_bytes()).0
    }
}

impl PartialEq for Intents {
    fn eq(&self, other: &Self) -> bool {
        self.origin == other.origin && self.strange == other.strange && self.iter().eq(other.iter())
    }
}

impl Eq for Intents {}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "seal.example.com/main/1";

    fn intent(number: u64) -> Intent {
        Intent {
            root: Hash::of(&number.to_be_bytes()).0,
            at_ms: 1_795_406_706_000 + i64::try_from(number).unwrap() * 7,
            position: 1_000 + number * 3,
        }
    }

    fn message(size: u64, intent: &Intent) -> [u8; 32] {
        Intents::of(ORIGIN).of_text(size, intent.root)
    }

    /// The plain form that the compact one must answer like.
    #[derive(Default)]
    struct Plain(BTreeMap<u64, ([u8; 32], Intent)>);

    fn both(list: &[(u64, [u8; 32], Intent)]) -> (Intents, Plain) {
        let (mut intents, mut plain) = (Intents::of(ORIGIN), Plain::default());
        for (size, message, intent) in list {
            intents.insert(*size, *message, *intent);
            plain.0.entry(*size).or_insert((*message, *intent));
        }
        (intents, plain)
    }

    fn alike(intents: &Intents, plain: &Plain) {
        let told: Vec<_> = plain.0.iter().map(|(size, (_, it))| (*size, *it)).collect();
        assert_eq!(intents.iter().collect::<Vec<_>>(), told);
        let mut back: Vec<_> = intents.iter().rev().collect();
        back.reverse();
        assert_eq!(back, told);
        assert_eq!(intents.len(), told.len());
        assert_eq!(intents.last_size(), told.last().map(|it| it.0));
        assert_eq!(intents.first(), told.first().copied());
        for (size, (message, it)) in &plain.0 {
            assert_eq!(intents.get(*size), Some(*it));
            assert_eq!(intents.message_sha256(*size), Some(*message));
            assert_eq!(intents.of_message(message).map(|it| it.0), Some(*size));
            for near in [size.wrapping_sub(1), size.wrapping_add(1)] {
                assert_eq!(intents.contains(near), plain.0.contains_key(&near));
            }
        }
        assert_eq!(intents.of_message(&[7; 32]), None);
    }

    #[test]
    fn many_answer_as_a_plain_list_does_and_take_little() {
        let list: Vec<_> = (1..=1_500_u64)
            .map(|n| (n * 3, message(n * 3, &intent(n)), intent(n)))
            .collect();
        let (intents, plain) = both(&list);
        alike(&intents, &plain);
        let each = intents.bytes() / intents.len();
        assert!(each < 64, "{each} bytes each");
        // Copies share what is full.
        let copy = intents.clone();
        assert!(Arc::ptr_eq(&copy.chunks[0], &intents.chunks[0]));
        assert_eq!(copy, intents);
    }

    #[test]
    fn what_no_writer_of_ours_would_record_is_kept_as_it_stands() {
        let far = |at_ms, position| Intent {
            at_ms,
            position,
            ..intent(1)
        };
        let own = |size: u64, it: Intent| (size, message(size, &it), it);
        let mut list = vec![
            own(0, intent(5)),
            own(10, intent(1)),
            own(u64::MAX, far(i64::MIN, u64::MAX)),
            own(20, far(i64::MAX, 0)),
            own(15, intent(2)),
            // Another message, and the first word counts.
            (30, [9; 32], intent(3)),
            (30, [8; 32], intent(4)),
            own(5, intent(6)),
        ];
        let (intents, plain) = both(&list);
        alike(&intents, &plain);
        assert_eq!(intents.message_sha256(30), Some([9; 32]));
        // The same in another order, with many between them.
        list.truncate(5);
        for n in (40..1_300_u64).rev() {
            list.push(own(n, intent(n)));
        }
        let (intents, plain) = both(&list);
        alike(&intents, &plain);
        list.reverse();
        list.retain(|it| it.0 != 30);
        let (other, plain) = both(&list);
        alike(&other, &plain);
        assert_eq!(other, intents);
    }
}
