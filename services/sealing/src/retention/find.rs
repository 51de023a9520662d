//! Which leaves are meant: a walk over the private records of this node's trees.

use super::holds::{At, Holds};
use super::trees;
use crate::service::Service;
use crate::tree::Tree;
use sealwarden_domain::log_control::Origin;
use sealwarden_domain::retention::Retention;
use sealwarden_seal::record::Record;
use sealwarden_seallog::{Leaf, LogError, View};
use sealwarden_wire::event::v1::ErasedRange;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Leaves read at once.
const CHUNK: u64 = 1_024;

/// What the records have in common that are meant.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) tenant: String,
    pub(super) subject: Option<String>,
    pub(super) digest: Option<[u8; 32]>,
    /// Sealed before, Unix milliseconds.
    pub(super) before_ms: Option<i64>,
}

impl Wanted {
    /// Whether a record's own words fit.
    pub(super) fn fits(&self, record: &Record) -> bool {
        record.tenant == self.tenant
            && self.digest.is_none_or(|digest| digest == record.digest)
            && self
                .subject
                .as_ref()
                .is_none_or(|subject| record.subject.as_ref() == Some(subject))
    }
}

impl Wanted {
    /// The record of a waiting request, if it fits. None fits a time: it is not sealed yet.
    pub(super) fn of_waiting(&self, leaf: &Leaf) -> Option<Record> {
        let record = Record::decode(&leaf.record).ok()?;
        (self.before_ms.is_none() && self.fits(&record)).then_some(record)
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) places: Vec<ErasedRange>,
    pub(super) leaves: u64,
    /// Records that are damaged: nobody can say whether they are meant.
    pub(super) unreadable: u64,
}

impl Found {
    pub(super) fn add(&mut self, origin: &str, index: u64) {
        self.leaves += 1;
        let last = self.places.last_mut();
        match last.filter(|it| it.origin == origin && it.first + it.count == index) {
            Some(last) => last.count += 1,
            None => self.places.push(ErasedRange {
                origin: origin.to_owned(),
                first: index,
                count: 1,
            }),
        }
    }
}

/// When leaves were sealed, by the log's own intents.
pub(super) struct Times(HashMap<String, Vec<(u64, i64)>>);

impl Times {
    pub(super) fn of(origins: &[Origin]) -> Self {
        let one = |origin: &Origin| {
            let intents = origin.intents.iter();
            let times = intents.map(|(size, intent)| (size, intent.at_ms)).collect();
            (origin.origin.clone(), times)
        };
        Self(origins.iter().map(one).collect())
    }

    /// When a record was first sealed: where it names an original, then. `i64::MAX` where no intent says it.
    pub(super) fn sealed_at_ms(&self, origin: &str, index: u64, record: &Record) -> i64 {
        let original = record.original.as_ref();
        let first = original.and_then(|it| self.at(&it.origin, it.index));
        first.or_else(|| self.at(origin, index)).unwrap_or(i64::MAX)
    }

    fn at(&self, origin: &str, index: u64) -> Option<i64> {
        let times = self.0.get(origin)?;
        let place = times.partition_point(|(size, _)| *size <= index);
        times.get(place).map(|(_, at_ms)| *at_ms)
    }
}

/// Calls `take` with each record of a range that is there and not named by an order. Blocks its thread.
pub(super) fn each(
    (tree, view, known): (&Tree, &View, &Retention),
    range: Range<u64>,
    unreadable: &mut u64,
    mut take: impl FnMut(u64, Record),
) -> Result<(), LogError> {
    let mut start = range.start;
    while start < range.end {
        let end = range.end.min(start + CHUNK);
        for (index, leaf) in (start..end).zip(view.each_record(start..end)?) {
            if known.of(&tree.origin, index).is_some() {
                continue;
            }
            match leaf.map(|leaf| Record::decode(&leaf.record)) {
                Ok(Ok(record)) => take(index, record),
                Ok(Err(_)) | Err(_) => *unreadable += 1,
            }
        }
        start = end;
    }
    Ok(())
}

/// Finds all leaves that are meant, and counts them for the holds that cover them. Blocks its thread.
pub(super) fn find(
    service: &Service,
    (known, origins): (&Retention, &[Origin]),
    wanted: &Wanted,
    holds: &mut Holds,
) -> Result<Found, LogError> {
    let times = Times::of(origins);
    let mut found = Found::default();
    for tree in trees(service) {
        let view = tree.reader.view()?;
        let mut unreadable = 0;
        each(
            (&tree, &view, known),
            0..view.size(),
            &mut unreadable,
            |index, record| {
                if !wanted.fits(&record) {
                    return;
                }
                let sealed_at_ms = times.sealed_at_ms(&tree.origin, index, &record);
                if wanted
                    .before_ms
                    .is_some_and(|before_ms| sealed_at_ms >= before_ms)
                {
                    return;
                }
                let at = At {
                    origin: &tree.origin,
                    record: &record,
                    sealed_at_ms,
                };
                holds.cover(&service.records.secret, &at);
                found.add(&tree.origin, index);
            },
        )?;
        found.unreadable += unreadable;
    }
    Ok(found)
}

/// The origins of the log line as its own stream has them, which is where their times are.
pub(super) async fn origins(service: &Service) -> Arc<Vec<Origin>> {
    let control = service.control.lock().await;
    Arc::new(control.state().origins.clone())
}
