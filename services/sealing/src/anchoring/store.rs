//! The anchors that this node holds: one file a checkpoint, `anchors/<log>/<tree>/<size>`, in the format of `FILE.seal.anchors`.

use crate::trust::Required;
use anyhow::Context as _;
use sealwarden_anchors::file::{Anchor, Anchors, MAX_FILE_BYTES};
use sealwarden_anchors::roots::Roots;
use sealwarden_anchors::timestamp::Timestamp;
use sealwarden_keys::private_files::{self, PUBLIC_FILE};
use sealwarden_seal::note::Note;
use sealwarden_seallog::{LogReader, SignedCheckpoint};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// An anchored checkpoint of one tree.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// The checkpoint as it was stamped.
    pub(crate) signed: Arc<SignedCheckpoint>,
    /// When each authority of the settings dated it, by its name there: Unix milliseconds, latest possible.
    pub(crate) times: BTreeMap<String, i64>,
}

/// The anchored checkpoints of one tree, by size.
#[derive(Debug)]
pub(crate) struct AnchorStore {
    dir: PathBuf,
    held: RwLock<BTreeMap<u64, Held>>,
    /// Counts changes.
    changed: watch::Sender<u64>,
}

impl AnchorStore {
    /// A store in a folder that is made when the first anchor is kept.
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            held: RwLock::default(),
            changed: watch::Sender::new(0),
        }
    }

    /// Reads what is held, verifying each anchor again. What no authority of the settings vouches for stays on the disk and does not count. Blocks its thread.
    pub(crate) fn load(
        &self,
        reader: &LogReader,
        trusted: &[(String, Roots)],
    ) -> anyhow::Result<()> {
        if !self.dir.exists() {
            return Ok(());
        }
        private_files::remove_leftovers(&self.dir)?;
        let mut held = BTreeMap::new();
        let entries = fs::read_dir(&self.dir);
        for entry in entries.with_context(|| format!("reading {}", self.dir.display()))? {
            let path = entry?.path();
            match read(&path, reader, trusted) {
                Ok(Some((size, it))) => drop(held.insert(size, it)),
                Ok(None) => {}
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(path = %path.display(), error, "anchors are passed over");
                }
            }
        }
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = held;
        Ok(())
    }

    /// Keeps an anchor that was verified, durably. Blocks its thread.
    pub(crate) fn keep(
        &self,
        signed: &SignedCheckpoint,
        (name, roots): (&str, &Roots),
        anchor: Anchor,
        timestamp: &Timestamp,
    ) -> anyhow::Result<()> {
        private_files::private_dir(&self.dir)?;
        let size = signed.checkpoint.size;
        let path = self.path(size);
        let anchors = if path.exists() {
            let mut anchors = read_file(&path)?;
            // An earlier time of the same authority stays, and is what counts.
            anchors.add(anchor, roots)?;
            anchors
        } else {
            Anchors::of(anchor)
        };
        private_files::replace(&path, anchors.to_text().as_bytes(), PUBLIC_FILE)?;
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let it = held.entry(size).or_insert_with(|| Held {
            signed: Arc::new(signed.clone()),
            times: BTreeMap::new(),
        });
        // The note with the most signatures is the one that seals are handed out under.
        if signed.text.len() > it.signed.text.len() {
            it.signed = Arc::new(signed.clone());
        }
        let time_ms = it
            .times
            .entry(name.to_owned())
            .or_insert(timestamp.latest_ms());
        *time_ms = (*time_ms).min(timestamp.latest_ms());
        drop(held);
        self.changed.send_modify(|count| *count += 1);
        Ok(())
    }

    /// The earliest anchored checkpoint that covers a leaf and has the witnesses that are required.
    pub(crate) fn covering(&self, index: u64, required: Option<&Required>) -> Option<Held> {
        let required = required?;
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.range(index.saturating_add(1)..)
            .map(|(_, it)| it)
            .find(|it| required.met_by(&it.signed.note))
            .cloned()
    }

    /// Whether a checkpoint with exactly this text is anchored.
    pub(crate) fn holds(&self, size: u64, text: &str) -> bool {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.get(&size)
            .is_some_and(|it| it.signed.note.text() == text)
    }

    /// Who dated a checkpoint, and when.
    pub(crate) fn times(&self, size: u64) -> BTreeMap<String, i64> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.get(&size)
            .map(|it| it.times.clone())
            .unwrap_or_default()
    }

    /// Of each authority that dated later checkpoints and not the one of this size: its name with the earliest that it dated, and when.
    pub(crate) fn later_than(&self, size: u64) -> Vec<(String, Held, i64)> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let own = held.get(&size).map(|it| &it.times);
        let mut found: BTreeMap<&str, (&Held, i64)> = BTreeMap::new();
        for it in held.range(size.saturating_add(1)..).map(|(_, it)| it) {
            for (name, time_ms) in &it.times {
                if own.is_none_or(|own| !own.contains_key(name)) {
                    found.entry(name).or_insert((it, *time_ms));
                }
            }
        }
        found
            .into_iter()
            .map(|(name, (it, time_ms))| (name.to_owned(), it.clone(), time_ms))
            .collect()
    }

    /// What the authority called `name` dated last: the checkpoint's size and the time, of all and of those with the required witnesses.
    pub(crate) fn last_of(&self, name: &str, required: Option<&Required>) -> Last {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let mut of = held
            .iter()
            .rev()
            .filter_map(|(size, it)| Some((*size, *it.times.get(name)?, it)))
            .peekable();
        let newest = of.peek().map(|(size, time_ms, _)| (*size, *time_ms));
        let witnessed = required.and_then(|required| {
            of.find(|(_, _, it)| required.met_by(&it.signed.note))
                .map(|(size, ..)| size)
        });
        Last {
            newest,
            witnessed: witnessed.unwrap_or(0),
        }
    }

    /// All that is held, oldest first.
    pub(crate) fn all(&self) -> Vec<Held> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.values().cloned().collect()
    }

    /// The file of a checkpoint's anchors. Blocks its thread.
    pub(crate) fn file(&self, size: u64) -> anyhow::Result<Anchors> {
        read_file(&self.path(size))
    }

    /// Tells of every change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn path(&self, size: u64) -> PathBuf {
        // Twenty digits hold every size, so that files sort as the tree grows.
        self.dir.join(format!("{size:020}"))
    }
}

/// The newest checkpoints that one authority dated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Last {
    /// Size and time of the newest.
    pub(crate) newest: Option<(u64, i64)>,
    /// Size of the newest that has the required witnesses; 0 for none.
    pub(crate) witnessed: u64,
}

fn read_file(path: &Path) -> anyhow::Result<Anchors> {
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
    let bytes = private_files::read_public(path, limit)?;
    Anchors::parse(&bytes).with_context(|| format!("{}", path.display()))
}

fn read(
    path: &Path,
    reader: &LogReader,
    trusted: &[(String, Roots)],
) -> anyhow::Result<Option<(u64, Held)>> {
    let anchors = read_file(path)?;
    let mut signed: Option<SignedCheckpoint> = None;
    let mut times: BTreeMap<String, i64> = BTreeMap::new();
    for anchor in anchors.all() {
        let note: Note = anchor.note().clone();
        let checked = reader.signed(note).map_err(anyhow::Error::msg)?;
        for (name, roots) in trusted {
            if let Ok(timestamp) = anchor.verify(roots) {
                let known = times.entry(name.clone()).or_insert(i64::MAX);
                *known = (*known).min(timestamp.latest_ms());
            }
        }
        if signed
            .as_ref()
            .is_none_or(|known| checked.text.len() > known.text.len())
        {
            signed = Some(checked);
        }
    }
    let counted = signed.filter(|_| !times.is_empty());
    Ok(counted.map(|signed| {
        let size = signed.checkpoint.size;
        let signed = Arc::new(signed);
        (size, Held { signed, times })
    }))
}
