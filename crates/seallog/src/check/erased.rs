//! Which records are erased by somebody's word, and what the file has in their place.

use super::ErasedPlaces;
use std::ops::Range;

/// The places, by their first leaf.
pub(super) struct Erased {
    places: Vec<ErasedPlaces>,
    /// All of them, merged: most leaves are in none.
    all: Vec<Range<u64>>,
}

impl Erased {
    pub(super) fn new(places: &[ErasedPlaces]) -> Self {
        let mut places: Vec<_> = places.to_vec();
        places.retain(|it| it.leaves.start < it.leaves.end);
        places.sort_by_key(|it| it.leaves.start);
        let mut all: Vec<Range<u64>> = Vec::new();
        for ErasedPlaces { leaves, .. } in &places {
            match all.last_mut().filter(|last| leaves.start <= last.end) {
                Some(last) => last.end = last.end.max(leaves.end),
                None => all.push(leaves.clone()),
            }
        }
        Self { places, all }
    }

    /// Who erased a leaf. Of several the one that has finished: it says most.
    pub(super) fn of(&self, index: u64) -> Option<&ErasedPlaces> {
        if !self.any(&(index..index.saturating_add(1))) {
            return None;
        }
        let before = self.places.partition_point(|it| it.leaves.start <= index);
        let named = self.places.get(..before).unwrap_or_default();
        let mut named = named.iter().rev().filter(|it| it.leaves.contains(&index));
        let first = named.next()?;
        if first.is_finished {
            return Some(first);
        }
        Some(named.find(|it| it.is_finished).unwrap_or(first))
    }

    /// Whether some of these leaves have no record.
    pub(super) fn any(&self, leaves: &Range<u64>) -> bool {
        let next = self.all.partition_point(|it| it.end <= leaves.start);
        let next = self.all.get(next);
        next.is_some_and(|it| it.start < leaves.end)
    }
}
