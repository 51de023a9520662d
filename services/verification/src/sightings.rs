//! Checkpoints that carry a log's signature and do not fit: kept as files first, then told to the event log, each once.
//!
//! `refused/<sha256>` is the note (text and the log's signatures), `refused/<sha256>.json` says who saw it and when. The files are the queue: what could not be told is told
//! after a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sealwarden_domain::fold::event;
use sealwarden_domain::{Fold, IllegalEvent};
use sealwarden_engine::{ExecuteError, Node, Stream};
use sealwarden_keys::private_files::{self, FileError, PUBLIC_FILE};
use sealwarden_seal::merkle::Hash;
use sealwarden_seal::note::Note;
use sealwarden_wire::event::v1::{CheckpointSighted, Envelope, Event, event::Kind};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Notify};
use tracing::Instrument as _;

/// The folder of refused checkpoints.
const FOLDER: &str = "refused";
/// No file of it is larger, in bytes.
const MAX_BYTES: u64 = 2 << 20;
/// How long to wait before telling is tried again: at first, and at most.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(5);

/// A sighted checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sighting {
    /// SHA-256 of the note, hex.
    id: String,
    note: String,
    details: Details,
    /// Trace of the request that showed it; a restart forgets it.
    traceparent: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Details {
    origin: String,
    source: String,
    reason: String,
    seen_at_ms: i64,
}

impl Sighting {
    /// A sighting of a note that holds its log's signatures only.
    pub(crate) fn new(
        source: &str,
        origin: String,
        note: &Note,
        reason: String,
        seen_at_ms: i64,
    ) -> Self {
        let note = note.to_string();
        let details = Details {
            origin,
            source: source.to_owned(),
            reason,
            seen_at_ms,
        };
        Self {
            id: Hash::of(note.as_bytes()).to_string(),
            note,
            details,
            traceparent: sealwarden_telemetry::current_traceparent(),
        }
    }

    /// Details first: a note is complete.
    fn write(&self, dir: &Path) -> Result<(), FileError> {
        let details = serde_json::to_vec(&self.details).unwrap_or_default();
        private_files::create(
            &dir.join(format!("{}.json", self.id)),
            &details,
            PUBLIC_FILE,
        )?;
        private_files::create(&dir.join(&self.id), self.note.as_bytes(), PUBLIC_FILE)?;
        Ok(())
    }

    fn read(dir: &Path, id: &str) -> Option<Self> {
        let note = private_files::read_public(&dir.join(id), MAX_BYTES).ok()?;
        let details =
            private_files::read_public(&dir.join(format!("{id}.json")), MAX_BYTES).ok()?;
        let note = String::from_utf8(note).ok()?;
        let details = serde_json::from_slice(&details).ok()?;
        (Hash::of(note.as_bytes()).to_string() == id).then(|| Self {
            id: id.to_owned(),
            note,
            details,
            traceparent: None,
        })
    }
}

/// A `sighting/<sha256>` stream: it holds one event.
#[derive(Default)]
struct SightingStream {
    told: bool,
}

impl Fold for SightingStream {
    fn apply(&mut self, _: &Envelope, event: &Event) -> Result<(), IllegalEvent> {
        self.told |= matches!(event.kind, Some(Kind::CheckpointSighted(_)));
        Ok(())
    }
}

/// What was sighted so far.
#[derive(Default)]
struct Known {
    ids: BTreeSet<String>,
    per_origin: BTreeMap<String, usize>,
    /// To be told.
    untold: BTreeMap<String, Sighting>,
    /// How many were more than are kept.
    counted_only: u64,
}

impl Known {
    /// Whether to keep it: it is new, and its origin has not had its share.
    fn admit(&mut self, sighting: &Sighting, limit: usize) -> bool {
        if self.ids.contains(&sighting.id) {
            return false;
        }
        let count = self
            .per_origin
            .entry(sighting.details.origin.clone())
            .or_default();
        if *count >= limit {
            self.counted_only += 1;
            if self.counted_only.is_power_of_two() {
                tracing::warn!(origin = %sighting.details.origin, further = self.counted_only, "further refused checkpoints are counted and not kept");
            }
            return false;
        }
        *count += 1;
        self.ids.insert(sighting.id.clone());
        self.untold.insert(sighting.id.clone(), sighting.clone());
        true
    }
}

/// Keeps and tells sightings.
pub(crate) struct Sightings {
    node: Arc<Node>,
    dir: PathBuf,
    limit: usize,
    known: Mutex<Known>,
    wake: Notify,
}

impl Sightings {
    /// Reads what was kept before; all of it is told again, which changes nothing.
    pub(crate) async fn open(node: Arc<Node>, limit: usize) -> anyhow::Result<Self> {
        let dir = node.data.join(FOLDER);
        let folder = dir.clone();
        let found = tokio::task::spawn_blocking(move || scan(&folder)).await??;
        let mut known = Known::default();
        for sighting in found {
            known.admit(&sighting, usize::MAX);
        }
        Ok(Self {
            node,
            dir,
            limit,
            known: Mutex::new(known),
            wake: Notify::new(),
        })
    }

    /// Keeps a sighting, durably, and lets it be told. One that is known changes nothing.
    pub(crate) async fn keep(&self, sighting: Sighting) {
        let mut known = self.known.lock().await;
        if !known.admit(&sighting, self.limit) {
            return;
        }
        let dir = self.dir.clone();
        let written = tokio::task::spawn_blocking(move || sighting.write(&dir)).await;
        drop(known);
        if let Err(error) = written
            .map_err(anyhow::Error::from)
            .and_then(|written| Ok(written?))
        {
            tracing::error!(%error, "a refused checkpoint could not be kept as a file; the event log is told all the same");
        }
        self.wake.notify_one();
    }

    /// Tells the event log, until shutdown.
    pub(crate) async fn tell(self: Arc<Self>) -> anyhow::Result<()> {
        let mut wait = RETRY_FIRST;
        loop {
            let all_told = self.tell_untold().await;
            tokio::select! {
                () = self.node.shutdown.cancelled() => return Ok(()),
                () = self.wake.notified() => {}
                () = tokio::time::sleep(wait), if !all_told => {}
            }
            wait = if all_told {
                RETRY_FIRST
            } else {
                (wait * 2).min(RETRY_LAST)
            };
        }
    }

    /// Whether nothing is left to be told.
    async fn tell_untold(&self) -> bool {
        let untold: Vec<Sighting> = self.known.lock().await.untold.values().cloned().collect();
        for sighting in untold {
            let span = sealwarden_telemetry::with_parent(
                sighting.traceparent.as_deref(),
                tracing::info_span!("sighting", sighting = %sighting.id),
            );
            match self.tell_one(&sighting).instrument(span).await {
                Ok(()) => {}
                Err(error @ (ExecuteError::Unavailable(_) | ExecuteError::Unknown(_))) => {
                    tracing::warn!(%error, "a sighted checkpoint waits to be told");
                    return false;
                }
                Err(error) => {
                    tracing::error!(%error, sighting = %sighting.id, "a sighted checkpoint cannot be told");
                }
            }
            self.known.lock().await.untold.remove(&sighting.id);
        }
        true
    }

    async fn tell_one(&self, sighting: &Sighting) -> Result<(), ExecuteError> {
        let mut stream: Stream<SightingStream> = self.node.stream("sighting", &sighting.id).await?;
        let details = &sighting.details;
        let sighted = CheckpointSighted {
            note: sighting.note.clone().into(),
            origin: details.origin.clone(),
            source: details.source.clone(),
            seen_by: self.node.name.clone(),
            reason: details.reason.clone(),
            seen_at_ms: details.seen_at_ms,
        };
        let once = |state: &SightingStream| {
            let event = event(Kind::CheckpointSighted(sighted.clone()));
            Ok(if state.told { Vec::new() } else { vec![event] })
        };
        stream.execute(self.node.meta(), once).await.map(drop)
    }
}

fn scan(dir: &Path) -> anyhow::Result<Vec<Sighting>> {
    std::fs::create_dir_all(dir)?;
    private_files::remove_leftovers(dir)?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().filter(|name| name.len() == 64) else {
            continue;
        };
        if let Some(sighting) = Sighting::read(dir, id) {
            found.push(sighting);
        } else {
            tracing::error!(%id, "a kept checkpoint is damaged and left alone");
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(origin: &str, n: u32) -> Sighting {
        let text = format!("{origin}\n{n}\n\n\u{2014} {origin} AAAAAAAA\n");
        let note = Note::parse(text.as_bytes()).unwrap();
        Sighting::new(
            "witness",
            origin.to_owned(),
            &note,
            "no intent".to_owned(),
            5,
        )
    }

    #[test]
    fn a_sighting_is_admitted_once_and_each_origin_has_its_share() {
        let mut known = Known::default();
        assert!(known.admit(&sighting("a/1", 1), 2));
        assert!(!known.admit(&sighting("a/1", 1), 2));
        assert!(known.admit(&sighting("a/1", 2), 2));
        assert!(!known.admit(&sighting("a/1", 3), 2));
        assert!(known.admit(&sighting("b/1", 1), 2));
        assert_eq!((known.untold.len(), known.counted_only), (3, 1));
    }

    #[test]
    fn what_was_kept_is_found_again_and_damage_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (sighting("a/1", 1), sighting("a/1", 2));
        first.write(dir.path()).unwrap();
        first.write(dir.path()).unwrap();
        second.write(dir.path()).unwrap();
        std::fs::write(dir.path().join(&second.id), "changed").unwrap();
        assert_eq!(scan(dir.path()).unwrap(), [first]);
    }
}
