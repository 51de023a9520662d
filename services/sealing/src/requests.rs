//! Which requests are sealed already: the same id of the same tenant gives the same seal.
//!
//! Derived from the log's own records, so it survives whatever the log survives. It reaches as far back as a number of leaves
//! that the settings say; a request whose leaf is older than that is a new one.

use crate::queue::Place;
use crate::retention::Records;
use crate::tree::Tree;
use ring::digest::{SHA256, digest};
use sealwarden_seal::bulk::MAX_CHUNK_DIGESTS;
use sealwarden_seal::record::{Record, RequestOf, request_of};
use sealwarden_seallog::LogError;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Leaves read at once.
const CHUNK: u64 = 1_024;

/// A tenant's request: the first 16 bytes of SHA-256 over both, with their lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RequestKey(pub(crate) [u8; 16]);

impl RequestKey {
    /// The key of a record; none if its client gave no request id.
    pub(crate) fn of(record: &Record) -> Option<Self> {
        let id = record.request_id.as_ref()?;
        Some(Self::of_parts(record.tenant.as_bytes(), id.as_bytes()))
    }

    /// The key of a tenant's request.
    pub(crate) fn of_parts(tenant: &[u8], id: &[u8]) -> Self {
        let mut text = Vec::with_capacity(tenant.len() + id.len() + 16);
        text.extend_from_slice(tenant.len().to_string().as_bytes());
        text.push(b' ');
        text.extend_from_slice(tenant);
        text.extend_from_slice(id.len().to_string().as_bytes());
        text.push(b' ');
        text.extend_from_slice(id);
        let sum = digest(&SHA256, &text);
        Self(sum.as_ref().first_chunk().copied().unwrap_or_default())
    }
}

/// Neighbouring leaves of one request: one, or a chunk's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The first leaf.
    pub(crate) place: Place,
    /// How many there are.
    pub(crate) count: u64,
}

impl Run {
    fn end(&self) -> Place {
        Place {
            tree: self.place.tree,
            index: self.place.index.saturating_add(self.count),
        }
    }
}

#[derive(Debug, Default)]
struct Index {
    /// With the number of the last leaf of each.
    runs: HashMap<RequestKey, (u64, Run)>,
    /// In the order of their leaves, with the number of each. What a run had before it grew is passed over.
    order: VecDeque<(u64, RequestKey)>,
    /// Leaves seen.
    leaves: u64,
    /// Of those, how many erased ones came last.
    gap: u64,
}

impl Index {
    /// Notes the leaves of one request, the last one just seen, and how many erased ones were before them.
    fn note(&mut self, key: RequestKey, (run, gap): (Run, u64), is_resealed: bool) {
        let mut noted = run;
        if let Some((_, known)) = self.runs.get(&key) {
            // Erased leaves in the middle of a chunk were the chunk's.
            let mut end = known.end();
            end.index = end.index.saturating_add(gap);
            if end == run.place {
                noted = Run {
                    place: known.place,
                    count: known.count.saturating_add(gap).saturating_add(run.count),
                };
            } else if is_resealed && known.count > 1 {
                // A chunk stays where all of it is.
                return;
            }
        }
        self.runs.insert(key, (self.leaves, noted));
        self.order.push_back((self.leaves, key));
    }

    fn forget(&mut self, window: u64) {
        while let Some((number, key)) = self.order.front().copied()
            && number.saturating_add(window) <= self.leaves
        {
            self.order.pop_front();
            if self.runs.get(&key).is_some_and(|(at, _)| *at == number) {
                self.runs.remove(&key);
            }
        }
    }
}

/// The requests of the last leaves.
#[derive(Debug)]
pub(crate) struct Requests {
    window: u64,
    index: Mutex<Index>,
}

impl Requests {
    /// An empty index over this many leaves.
    pub(crate) fn new(window: u64) -> Self {
        Self {
            window,
            index: Mutex::default(),
        }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a request was sealed; the first leaf, where it was a chunk.
    pub(crate) fn of(&self, key: &RequestKey) -> Option<Place> {
        self.run_of(key).map(|run| run.place)
    }

    /// Where a request's leaves are.
    pub(crate) fn run_of(&self, key: &RequestKey) -> Option<Run> {
        self.index().runs.get(key).map(|(_, run)| *run)
    }

    /// Notes the records of published leaves. A re-sealed record counts at its newest place.
    pub(crate) fn note<'a>(
        &self,
        tree: u64,
        first_index: u64,
        records: impl IntoIterator<Item = &'a [u8]>,
    ) {
        self.note_present(tree, first_index, records.into_iter().map(Some));
    }

    /// As [`Self::note`]; `None` in place of a record that is erased.
    fn note_present<'a>(
        &self,
        tree: u64,
        first_index: u64,
        records: impl IntoIterator<Item = Option<&'a [u8]>>,
    ) {
        let mut guard = self.index();
        let index = &mut *guard;
        let mut current: Option<(RequestOf<'a>, (Run, u64))> = None;
        for (place, record) in (first_index..).zip(records) {
            index.leaves += 1;
            let Some(record) = record else {
                flush(index, current.take());
                index.gap += 1;
                continue;
            };
            let gap = std::mem::take(&mut index.gap);
            let request = request_of(record).filter(|request| request.id.is_some());
            match (&mut current, request) {
                (Some((of, (run, _))), Some(request)) if *of == request => run.count += 1,
                (_, request) => {
                    flush(index, current.take());
                    let place = Place { tree, index: place };
                    current = request.map(|request| (request, (Run { place, count: 1 }, gap)));
                }
            }
        }
        flush(index, current);
        index.forget(self.window);
    }

    /// Forgets what was sealed in places that are erased. A chunk of which only a part is gone stays known: it cannot be answered again, nor sealed anew as if it
    /// had never been.
    pub(crate) fn forget(&self, tree: u64, places: &[Range<u64>]) {
        let mut sorted: Vec<_> = places.to_vec();
        sorted.sort_by_key(|it| it.start);
        self.index().runs.retain(|_, (_, run)| {
            let next = sorted.partition_point(|it| it.end <= run.place.index);
            let place = sorted.get(next).filter(|_| run.place.tree == tree);
            !place.is_some_and(|it| it.start <= run.place.index && run.end().index <= it.end)
        });
    }

    /// Reads the last leaves of the trees, oldest tree first. Blocks its thread.
    pub(crate) fn read(&self, records: &Records, trees: &[Arc<Tree>]) -> Result<(), LogError> {
        let mut views = Vec::new();
        // A chunk whose first leaf lies before the window is read from there on, so that none is known by its end only.
        let chunk = u64::try_from(MAX_CHUNK_DIGESTS).unwrap_or(u64::MAX);
        let mut left = self.window.saturating_add(chunk);
        for tree in trees.iter().rev() {
            let view = tree.reader.view()?;
            let start = view.size().saturating_sub(left);
            left = left.saturating_sub(view.size());
            views.push((tree, view, start));
        }
        for (tree, view, first) in views.into_iter().rev() {
            // What is erased at the end of one tree is no part of what follows in another.
            self.index().gap = 0;
            let mut start = first;
            while start < view.size() {
                let end = view.size().min(start + CHUNK);
                let leaves = records.read(tree, &view, start..end)?;
                let leaves = leaves.iter();
                let leaves = leaves.map(|leaf| leaf.as_ref().map(|leaf| leaf.record.as_slice()));
                self.note_present(tree.number, start, leaves);
                start = end;
            }
        }
        Ok(())
    }
}

fn flush(index: &mut Index, run: Option<(RequestOf<'_>, (Run, u64))>) {
    if let Some((of, run)) = run
        && let Some(id) = of.id
    {
        index.note(RequestKey::of_parts(of.tenant, id), run, of.is_resealed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealwarden_seal::record::DigestAlgorithm;

    fn record(tenant: &str, id: &str) -> Record {
        Record {
            tenant: tenant.to_owned(),
            policy: "default".to_owned(),
            digest_algorithm: DigestAlgorithm::Sha256,
            digest: [7; 32],
            claimed_at_ms: 1,
            subject: None,
            original: None,
            request_id: Some(id.to_owned()),
        }
    }

    fn note(requests: &Requests, tree: u64, first_index: u64, records: &[&Record]) {
        let records: Vec<_> = records.iter().map(|it| it.encode().unwrap()).collect();
        requests.note(tree, first_index, records.iter().map(Vec::as_slice));
    }

    #[test]
    fn tenants_do_not_share_request_ids() {
        let key = |tenant, id| RequestKey::of(&record(tenant, id)).unwrap();
        assert_eq!(key("a", "1"), key("a", "1"));
        assert_ne!(key("a", "1"), key("b", "1"));
        assert_ne!(key("a", "1 1"), key("a1", " 1"));
    }

    #[test]
    fn a_request_is_known_for_exactly_the_window() {
        let requests = Requests::new(3);
        let first = record("a", "first");
        note(&requests, 1, 0, &[&first]);
        let key = RequestKey::of(&first).unwrap();
        let others = ["x", "y"].map(|id| record("a", id));
        note(&requests, 1, 1, &others.each_ref());
        assert_eq!(requests.of(&key), Some(Place { tree: 1, index: 0 }));
        note(&requests, 1, 3, &[&record("a", "z")]);
        assert_eq!(requests.of(&key), None);
    }

    #[test]
    fn a_request_that_is_sealed_again_counts_at_its_newest_place() {
        let requests = Requests::new(2);
        let sealed = record("a", "1");
        let key = RequestKey::of(&sealed).unwrap();
        note(&requests, 1, 0, &[&sealed]);
        note(&requests, 2, 0, &[&sealed]);
        note(&requests, 2, 1, &[&record("a", "2")]);
        assert_eq!(requests.of(&key), Some(Place { tree: 2, index: 0 }));
    }

    #[test]
    fn a_chunk_is_known_by_its_first_leaf_and_count_even_if_it_is_read_in_parts() {
        let requests = Requests::new(100);
        let (chunk, next) = (record("a", "work#0"), record("a", "work#1"));
        note(&requests, 1, 7, &[&chunk; 2]);
        note(&requests, 1, 9, &[&chunk, &chunk, &chunk, &next]);
        let run = |id| requests.run_of(&RequestKey::of(&record("a", id)).unwrap());
        let at = |index, count| {
            let place = Place { tree: 1, index };
            Some(Run { place, count })
        };
        assert_eq!((run("work#0"), run("work#1")), (at(7, 5), at(12, 1)));
        let mut resealed = record("a", "work#0");
        resealed.original = Some(sealwarden_seal::record::Original {
            origin: "a.example/1".to_owned(),
            index: 8,
        });
        note(&requests, 2, 0, &[&resealed]);
        assert_eq!(run("work#0"), at(7, 5), "a chunk stays where all of it is");
    }

    #[test]
    fn a_chunk_with_erased_leaves_stays_one_and_what_is_erased_whole_is_forgotten() {
        let requests = Requests::new(100);
        let chunk = record("a", "c#0").encode().unwrap();
        let some = Some(chunk.as_slice());
        requests.note_present(1, 3, [some, None]);
        requests.note_present(1, 5, [None, some, some]);
        let key = RequestKey::of(&record("a", "c#0")).unwrap();
        let place = Place { tree: 1, index: 3 };
        let whole = Some(Run { place, count: 5 });
        assert_eq!(requests.run_of(&key), whole);
        requests.forget(1, &[3..4, 6..8]);
        requests.forget(2, &[0..50, 50..100]);
        assert_eq!(requests.run_of(&key), whole, "a part of it is left");
        requests.forget(1, &[100..101, 3..8]);
        assert_eq!(requests.run_of(&key), None);
    }

    #[test]
    fn a_chunk_is_forgotten_when_its_last_leaf_leaves_the_window() {
        let requests = Requests::new(3);
        let chunk = record("a", "c#0");
        let key = RequestKey::of(&chunk).unwrap();
        note(&requests, 1, 0, &[&chunk; 5]);
        note(&requests, 1, 5, &[&record("a", "x"), &record("a", "y")]);
        assert_eq!(requests.run_of(&key).unwrap().count, 5);
        note(&requests, 1, 7, &[&record("a", "z")]);
        assert_eq!(requests.run_of(&key), None);
    }
}
