//! Where each record was sealed again after its origin ended: derived from the records of later origins, which name their originals.
//!
//! Re-sealing goes through an origin in order, so places are kept as runs: one run stands for all neighbours that became neighbours again, and a log of ten million
//! re-sealed leaves takes a few lines. What was found is kept in a file a tree (`resealed/<log>/<tree>`), with the size and the root up to which it is true, so that a start reads
//! only the records behind it. The file is an index and no more: one that is damaged, or of another tree, is read anew from the records.
//!
//! ```text
//! sealwarden.resealed@v1
//! covers <size> <root, hexadecimal>
//! <first leaf of the original> <how many> <first new leaf> <the original's origin>
//! sha256 <of all lines before, hexadecimal>
//! ```

use crate::retention::Records;
use crate::service::Service;
use crate::tree::Tree;
use anyhow::{Context as _, ensure};
use sealwarden_keys::private_files::{self, PRIVATE_FILE};
use sealwarden_seal::merkle::Hash;
use sealwarden_seal::record::{Original, Record};
use sealwarden_seallog::{LogError, Published};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// Leaves read at once.
const CHUNK: u64 = 1_024;
/// A start reads no more leaves than these, and what was not kept at the end of a life that was killed.
const KEPT_EVERY: u64 = 65_536;
/// Largest file of runs, bytes; a tree with more is read anew at each start.
const MAX_FILE: u64 = 64 * 1024 * 1024;
const HEADER: &str = "sealwarden.resealed@v1";

/// Neighbours that became neighbours again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    count: u64,
    /// The first one's new leaf.
    to: u64,
}

/// The re-sealed leaves of one tree, by origin and leaf of their originals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Runs(BTreeMap<(Arc<str>, u64), Run>);

impl Runs {
    /// The run that holds an original, and where it begins.
    fn around(&self, original: &(Arc<str>, u64)) -> Option<(u64, Run)> {
        let (key, run) = self.0.range(..=original.clone()).next_back()?;
        (key.0 == original.0).then_some((key.1, *run))
    }

    fn of(&self, origin: &str, index: u64) -> Option<u64> {
        let (first, run) = self.around(&(Arc::from(origin), index))?;
        let distance = index.checked_sub(first).filter(|it| *it < run.count)?;
        run.to.checked_add(distance)
    }

    /// The latest place of an original counts.
    fn insert(&mut self, origin: &str, index: u64, to: u64) {
        let origin: Arc<str> = self
            .around(&(Arc::from(origin), index))
            .and_then(|(first, _)| self.0.get_key_value(&(Arc::from(origin), first)))
            .map_or_else(|| Arc::from(origin), |(key, _)| Arc::clone(&key.0));
        if let Some((first, run)) = self.around(&(Arc::clone(&origin), index)) {
            let distance = index - first;
            if distance == run.count && run.to.checked_add(run.count) == Some(to) {
                let longer = Run {
                    count: run.count + 1,
                    ..run
                };
                self.0.insert((origin, first), longer);
                return;
            }
            if distance < run.count {
                if run.to.checked_add(distance) == Some(to) {
                    return;
                }
                self.0.remove(&(Arc::clone(&origin), first));
                let left = Run {
                    count: distance,
                    ..run
                };
                let right = Run {
                    count: run.count - distance - 1,
                    to: run.to + distance + 1,
                };
                for (first, part) in [(first, left), (index + 1, right)] {
                    if part.count > 0 {
                        self.0.insert((Arc::clone(&origin), first), part);
                    }
                }
            }
        }
        self.0.insert((origin, index), Run { count: 1, to });
    }
}

/// What is known of one tree.
#[derive(Clone, Debug, Default)]
struct Known {
    runs: Runs,
    /// The size up to which the file on the disk is true.
    kept: u64,
}

/// Where each original was sealed again.
#[derive(Debug)]
pub(crate) struct Successors {
    dir: PathBuf,
    /// By the tree's number: what a later tree says counts.
    trees: RwLock<BTreeMap<u64, (String, Known)>>,
}

impl Successors {
    /// Nothing is known before trees are read; what was found is kept in `dir`.
    pub(crate) fn kept_in(dir: PathBuf) -> Self {
        Self {
            dir,
            trees: RwLock::default(),
        }
    }

    /// The latest place of an original.
    pub(crate) fn of(&self, original: &Original) -> Option<(String, u64)> {
        let trees = self.trees.read().unwrap_or_else(PoisonError::into_inner);
        trees.values().rev().find_map(|(origin, known)| {
            let index = known.runs.of(&original.origin, original.index)?;
            Some((origin.clone(), index))
        })
    }

    /// Notes what was published just now. The caller holds [`Service::batching`], so that nothing is kept as complete before it is noted.
    pub(crate) fn note_published(&self, tree: &Tree, published: &Published) {
        for (index, leaf) in (published.first_index..).zip(published.leaves().iter()) {
            let original = Record::decode(leaf.record).ok().and_then(|it| it.original);
            if let Some(original) = original {
                self.change(tree, |known| {
                    known.runs.insert(&original.origin, original.index, index);
                });
            }
        }
    }

    fn change<T>(&self, tree: &Tree, change: impl FnOnce(&mut Known) -> T) -> T {
        let mut trees = self.trees.write().unwrap_or_else(PoisonError::into_inner);
        let place = trees.entry(tree.number);
        let (_, known) = place.or_insert_with(|| (tree.origin.clone(), Known::default()));
        change(known)
    }

    /// Reads a tree: what is kept of it, and the records behind that. Blocks its thread.
    pub(crate) fn read(&self, records: &Records, tree: &Tree) -> anyhow::Result<()> {
        let view = tree.reader.view()?;
        let size = view.size();
        let kept = load(&self.path(tree), |covered| {
            (covered <= size).then(|| view.root_at(covered)).transpose()
        });
        let mut known = kept.unwrap_or_else(|error| {
            let (origin, error) = (&tree.origin, format!("{error:#}"));
            tracing::warn!(origin, error, "the index of re-sealed leaves is read anew");
            Known::default()
        });
        let mut start = known.kept;
        while start < size {
            let end = size.min(start + CHUNK);
            for (index, leaf) in (start..end).zip(records.read(tree, &view, start..end)?) {
                let Some(leaf) = leaf else { continue };
                match Record::decode(&leaf.record) {
                    Ok(Record {
                        original: Some(original),
                        ..
                    }) => known.runs.insert(&original.origin, original.index, index),
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(origin = tree.origin, index, %error, "a record is not readable");
                    }
                }
            }
            start = end;
        }
        let root = view.root_at(size)?;
        let (runs, kept) = (known.runs.clone(), known.kept);
        self.change(tree, |it| *it = known);
        if size > kept {
            self.keep(tree, &runs, size, root)?;
        }
        Ok(())
    }

    fn path(&self, tree: &Tree) -> PathBuf {
        self.dir.join(tree.number.to_string())
    }

    /// Writes what is known of a tree up to a size, durably. Blocks its thread.
    fn keep(&self, tree: &Tree, runs: &Runs, size: u64, root: Hash) -> anyhow::Result<()> {
        let text = text(runs, size, root);
        private_files::private_dir(&self.dir)?;
        private_files::replace(&self.path(tree), text.as_bytes(), PRIVATE_FILE)?;
        self.change(tree, |known| known.kept = size);
        Ok(())
    }
}

/// Keeps what is known of a tree whose records name originals, if enough was added to it, or at the end of this life.
pub(crate) async fn keep(service: &Arc<Service>, tree: &Arc<Tree>, ends: bool) {
    if tree.number <= 1 {
        return;
    }
    let (runs, size, root) = {
        let _batching = service.batching.lock().await;
        let known = crate::tree::with_writer(tree, |log| Ok((log.size(), log.root()))).await;
        let Ok(Ok((size, root))) = known else {
            return;
        };
        let least = if ends { 1 } else { KEPT_EVERY };
        let due = |known: &mut Known| {
            (size >= known.kept.saturating_add(least)).then(|| known.runs.clone())
        };
        let Some(runs) = service.successors.change(tree, due) else {
            return;
        };
        (runs, size, root)
    };
    let (own, tree) = (Arc::clone(service), Arc::clone(tree));
    let kept = tokio::task::spawn_blocking(move || own.successors.keep(&tree, &runs, size, root));
    if let Ok(Err(error)) = kept.await {
        let error = format!("{error:#}");
        tracing::warn!(
            error,
            "the index of re-sealed leaves is not kept: the next start reads more"
        );
    }
}

fn text(runs: &Runs, size: u64, root: Hash) -> String {
    let mut text = format!("{HEADER}\ncovers {size} {root}\n");
    for ((origin, first), Run { count, to }) in &runs.0 {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{first} {count} {to} {origin}");
    }
    let sum = Hash::of(text.as_bytes());
    let _ = writeln!(text, "sha256 {sum}");
    text
}

/// Reads a file of runs. `root_at` says the tree's root at a size, if it is that large. No file: nothing is known.
fn load(
    path: &Path,
    root_at: impl FnOnce(u64) -> Result<Option<Hash>, LogError>,
) -> anyhow::Result<Known> {
    let bytes = match private_files::read_private(path, MAX_FILE) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(Known::default()),
        Err(error) => return Err(error.into()),
    };
    let text = std::str::from_utf8(&bytes).context("it is not text")?;
    let (body, sum) = text
        .strip_suffix('\n')
        .and_then(|it| it.rsplit_once('\n'))
        .context("it is cut short")?;
    let body = format!("{body}\n");
    let expected = format!("sha256 {}", Hash::of(body.as_bytes()));
    ensure!(sum == expected, "its last line is not {expected:?}");
    let mut lines = body.lines();
    ensure!(
        lines.next() == Some(HEADER),
        "it does not begin with {HEADER:?}"
    );
    let covers = lines.next().and_then(|it| it.strip_prefix("covers "));
    let (size, root) = covers
        .and_then(|it| it.split_once(' '))
        .context("its second line is not \"covers <size> <root>\"")?;
    let size: u64 = size.parse().context("its size")?;
    let actual = root_at(size)?.map(|it| it.to_string());
    ensure!(
        actual.as_deref() == Some(root),
        "it is of another tree: root {root} at size {size}"
    );
    let mut runs = Runs::default();
    for line in lines {
        let mut words = line.splitn(4, ' ');
        let mut number = || words.next().and_then(|it| it.parse::<u64>().ok());
        let (first, count, to) = (number(), number(), number());
        let parsed = (first, count, to, words.next());
        let (Some(first), Some(count), Some(to), Some(origin)) = parsed else {
            anyhow::bail!("{line:?} is not \"<first> <count> <to> <origin>\"");
        };
        runs.0.insert((Arc::from(origin), first), Run { count, to });
    }
    Ok(Known { runs, kept: size })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    const OLD: &str = "seal.example.com/main/1";

    fn runs(pairs: &[(&str, u64, u64)]) -> Runs {
        let mut runs = Runs::default();
        let mut plain = HashMap::new();
        for (origin, index, to) in pairs {
            runs.insert(origin, *index, *to);
            plain.insert((*origin, *index), *to);
        }
        for (origin, index, _) in pairs {
            assert_eq!(
                runs.of(origin, *index),
                plain.get(&(*origin, *index)).copied()
            );
            for near in [index.wrapping_sub(1), index + 1] {
                assert_eq!(runs.of(origin, near), plain.get(&(*origin, near)).copied());
            }
        }
        assert_eq!(runs.of("seal.example.com/other/1", 3), None);
        runs
    }

    #[test]
    fn neighbours_become_one_run_and_the_latest_place_counts() {
        let many: Vec<_> = (0..10_000).map(|it| (OLD, it, it + 7)).collect();
        assert_eq!(runs(&many).0.len(), 1);
        let gap: Vec<_> = many.iter().copied().filter(|it| it.1 != 500).collect();
        assert_eq!(runs(&gap).0.len(), 2);
        runs(&[
            (OLD, 5, 1),
            (OLD, 4, 0),
            (OLD, 6, 2),
            ("seal.example.com/main/2", 5, 9),
            (OLD, 5, 1),
        ]);
        let mut twice: Vec<_> = (0..20).map(|it| (OLD, it, it)).collect();
        twice.extend([
            (OLD, 0, 100),
            (OLD, 10, 101),
            (OLD, 19, 102),
            (OLD, 10, 103),
        ]);
        runs(&twice);
    }

    #[test]
    fn a_kept_file_says_the_same_and_a_damaged_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("2");
        let root = Hash::of(b"root");
        let good = runs(&[
            (OLD, 1, 0),
            (OLD, 2, 1),
            (OLD, 9, 2),
            ("x.example/a b", 9, 3),
        ]);
        let bytes = text(&good, 40, root).into_bytes();
        let read = |bytes: &[u8], root| {
            private_files::replace(&path, bytes, PRIVATE_FILE).unwrap();
            load(&path, |size| Ok((size == 40).then_some(root)))
        };
        let known = read(&bytes, root).unwrap();
        assert_eq!((known.runs, known.kept), (good, 40));
        assert!(read(&bytes, Hash::of(b"another tree")).is_err());
        for place in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[place] ^= 1;
            assert!(read(&bad, root).is_err(), "byte {place}");
            assert!(read(&bytes[..place], root).is_err(), "cut at {place}");
        }
        std::fs::remove_file(&path).unwrap();
        let none = load(&path, |_| Ok(None)).unwrap();
        assert_eq!((none.runs, none.kept), (Runs::default(), 0));
    }
}
