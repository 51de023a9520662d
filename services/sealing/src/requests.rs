//! Which requests are sealed already: the same id of the same tenant gives the same seal.
//!
//! Derived from the log's own records, so it survives whatever the log survives. It reaches as far back as a number of leaves
//! that the settings say; a request whose leaf is older than that is a new one.

use crate::queue::Place;
use crate::tree::Tree;
use ring::digest::{SHA256, digest};
use sealwarden_seal::record::Record;
use sealwarden_seallog::LogError;
use std::collections::{HashMap, VecDeque};
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
        let text = format!("{} {}{} {id}", record.tenant.len(), record.tenant, id.len());
        let sum = digest(&SHA256, text.as_bytes());
        sum.as_ref().first_chunk().map(|key| Self(*key))
    }
}

#[derive(Debug, Default)]
struct Index {
    places: HashMap<RequestKey, (u64, Place)>,
    /// In the order of their leaves, with the number of each.
    order: VecDeque<(u64, RequestKey)>,
    /// Leaves seen.
    leaves: u64,
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

    /// Where a request was sealed.
    pub(crate) fn of(&self, key: &RequestKey) -> Option<Place> {
        self.index().places.get(key).map(|(_, place)| *place)
    }

    /// Notes the records of published leaves. A re-sealed record counts at its newest place.
    pub(crate) fn note<'a>(
        &self,
        tree: u64,
        first_index: u64,
        records: impl IntoIterator<Item = &'a [u8]>,
    ) {
        let mut guard = self.index();
        let index = &mut *guard;
        for (place, record) in (first_index..).zip(records) {
            index.leaves += 1;
            let key = Record::decode(record)
                .ok()
                .and_then(|record| RequestKey::of(&record));
            if let Some(key) = key {
                let place = Place { tree, index: place };
                index.places.insert(key, (index.leaves, place));
                index.order.push_back((index.leaves, key));
            }
        }
        while let Some((number, key)) = index.order.front().copied()
            && number.saturating_add(self.window) <= index.leaves
        {
            index.order.pop_front();
            if index.places.get(&key).is_some_and(|(at, _)| *at == number) {
                index.places.remove(&key);
            }
        }
    }

    /// Reads the last leaves of the trees, oldest tree first. Blocks its thread.
    pub(crate) fn read(&self, trees: &[Arc<Tree>]) -> Result<(), LogError> {
        let mut views = Vec::new();
        let mut left = self.window;
        for tree in trees.iter().rev() {
            let view = tree.reader.view()?;
            let start = view.size().saturating_sub(left);
            left = left.saturating_sub(view.size());
            views.push((tree.number, view, start));
        }
        for (number, view, first) in views.into_iter().rev() {
            let mut start = first;
            while start < view.size() {
                let end = view.size().min(start + CHUNK);
                let leaves = view.records(start..end)?;
                self.note(
                    number,
                    start,
                    leaves.iter().map(|leaf| leaf.record.as_slice()),
                );
                start = end;
            }
        }
        Ok(())
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
}
