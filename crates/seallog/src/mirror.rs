//! Copying a log's public files from somebody who need not be trusted: every tile is checked against the signed tree before it
//! is kept, and the checkpoint comes last.
//!
//! A mirror's folder is a log's folder without private records: `log.json`, `checkpoint`, `tile/…` as C2SP tlog-tiles v0.1.0 has
//! them, and `mirror.json`, by which an audit knows that no records belong to it. Whatever was interrupted goes on where it was:
//! tiles that are there and lead to the root are not fetched again.
//!
//! The order of checks: the checkpoint's signature; that its tree extends the one mirrored before; the partial tiles at the right
//! edge, which lead to the root together; each full tile against its hash one level up, from the top down; each entry bundle
//! against its leaf hashes.

mod fetched;
mod fork;

use crate::disk::{Access, Disk, parent, read_if_there};
use crate::error::LogError;
use crate::faults::NoFaults;
use crate::identity::Identity;
use crate::log::lock;
use crate::private::Unsynced;
use crate::tiles::{TileNodes, read_hash_tile, subtree_hash};
use crate::view::{CHECKPOINT, WITNESSED};
use fetched::{Source, hashes_of};
pub use fork::{BadFork, Fork, check_fork};
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::merkle::{self, Frontier, Hash, leaf_hash};
use sealwarden_seal::note::{Note, Vkey};
use sealwarden_seal::tile::{
    TILE_HEIGHT, TILE_WIDTH, TileId, TileKind, decode_bundle, entry_bundles_to_write,
    hash_tiles_to_write, locate_node, tile_at,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file by which a mirror is known.
pub const MIRROR: &str = "mirror.json";
/// All that this file ever says.
pub(crate) const MIRROR_TEXT: &[u8] = b"{\"mirror\":1}\n";
/// Where a mirror keeps what it refused.
pub const EVIDENCE: &str = "evidence";
/// Files that are written before they are synced.
const SYNC_EVERY: usize = 512;

/// Where a log's public files come from.
pub trait Fetch {
    /// The bytes at a path such as `checkpoint` or `tile/0/000`; `None` if there is no such file. The error says what went wrong.
    fn fetch(&self, path: &str) -> Result<Option<Vec<u8>>, String>;
}

/// What was mirrored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirrored {
    /// The log.
    pub origin: String,
    /// The size before.
    pub old_size: u64,
    /// The size now.
    pub size: u64,
    /// The root now.
    pub root: Hash,
    /// Files that were fetched and kept.
    pub fetched: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files of an earlier, interrupted run that were found good.
    pub resumed: u64,
    /// The source's own size, where it is behind this mirror.
    pub source_behind: Option<u64>,
}

/// Why a log is not mirrored.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The source cannot be read.
    #[error("cannot fetch {path}: {reason}; run it again to go on where it stopped")]
    Unavailable {
        /// The path that was asked for.
        path: String,
        /// What went wrong.
        reason: String,
    },
    /// A file is not there.
    #[error("the source has no {path}; it is no log, or has lost a part of it")]
    Missing {
        /// The path.
        path: String,
    },
    /// A file does not lead to the signed root.
    #[error(
        "{path} of the source was tampered with or is damaged: {reason}; nothing of it is kept"
    )]
    Tampered {
        /// The path, or the paths where it cannot be told which.
        path: String,
        /// What does not hold.
        reason: String,
    },
    /// The checkpoint is of another log, or not signed by its key.
    #[error("the source's checkpoint is not accepted: {reason}")]
    Checkpoint {
        /// What does not hold.
        reason: String,
    },
    /// The source shows another history than it did before.
    #[error(
        "the log is forked: the source shows root {offered} at size {size}, mirrored before was {mirrored}; both signed checkpoints are kept in {}",
        evidence.display()
    )]
    Forked {
        /// The size at which both differ.
        size: u64,
        /// What the source shows now.
        offered: Hash,
        /// What was mirrored before.
        mirrored: Hash,
        /// The folder with both checkpoints.
        evidence: PathBuf,
    },
    /// The mirror's own folder.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Brings the mirror in `dir` up to the source's checkpoint. `vkeys` are the keys that may sign the log's checkpoints, from a
/// trust bundle; they are all named like the origin. `progress` is told how many tiles of how many are done.
pub fn mirror(
    dir: &Path,
    source: &dyn Fetch,
    vkeys: &[Vkey],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Mirrored, MirrorError> {
    let source = Source(source);
    let text = source.required(CHECKPOINT)?;
    let (offered, vkey) = accept(&text, vkeys)?;
    let mut disk = Disk::new(Arc::new(NoFaults));
    // Who signs changes over a log's life: the key that a mirror began with need not be the one that signs now, but it must still be one of the log's.
    let begun = Identity::find(dir)?.map(|known| known.vkey);
    let first = begun.filter(|known| vkeys.contains(known)).unwrap_or(vkey);
    let mut identity = Identity::of(&first);
    identity.establish(&mut disk, dir)?;
    let _lock = lock(dir)?;
    disk.open(dir)?;
    identity = Identity::read(dir)?;
    identity.extend(&mut disk, dir, vkeys)?;
    if read_if_there(&dir.join(MIRROR))?.is_none() {
        disk.replace(&dir.join(MIRROR), MIRROR_TEXT, Access::Public)?;
    }
    let old = read_if_there(&dir.join(CHECKPOINT))?;
    let before = match &old {
        Some(old) => Some(accept(old, vkeys)?.0),
        None => None,
    };
    let mut run = Run {
        dir,
        disk,
        source,
        offered: offered.clone(),
        unsynced: Unsynced::default(),
        report: Mirrored {
            origin: offered.origin.clone(),
            old_size: before.as_ref().map_or(0, |it| it.size),
            size: offered.size,
            root: offered.root,
            fetched: 0,
            bytes: 0,
            resumed: 0,
            source_behind: None,
        },
    };
    if let (Some(before), Some(old)) = (&before, &old) {
        fork::refuse(
            dir,
            &mut run.disk,
            &run.source,
            (before, old),
            (&offered, &text),
        )?;
        if offered.size < before.size {
            run.report.source_behind = Some(offered.size);
            (run.report.size, run.report.root) = (before.size, before.root);
            return Ok(run.report);
        }
    }
    run.tiles(progress)?;
    run.sync()?;
    run.check_whole(before.as_ref())?;
    run.promise(&text, before.as_ref(), vkeys)?;
    Ok(run.report)
}

/// A checkpoint that one of the log's keys signed, and that key.
fn accept(text: &[u8], vkeys: &[Vkey]) -> Result<(Checkpoint, Vkey), MirrorError> {
    let refused = |reason: String| MirrorError::Checkpoint { reason };
    let note = Note::parse(text).map_err(|error| refused(error.to_string()))?;
    let signer = vkeys
        .iter()
        .find(|vkey| note.verify(std::slice::from_ref(*vkey)).is_ok());
    let Some(signer) = signer else {
        let names: Vec<_> = vkeys.iter().map(Vkey::to_string).collect();
        return Err(refused(format!(
            "none of the log's keys signed it: {}",
            names.join(", ")
        )));
    };
    let checkpoint = Checkpoint::parse(note.text()).map_err(|error| refused(error.to_string()))?;
    if checkpoint.origin != signer.name() {
        return Err(refused(format!(
            "it is of {}, its key is of {}",
            checkpoint.origin,
            signer.name()
        )));
    }
    Ok((checkpoint, signer.clone()))
}

/// One run over a source.
struct Run<'a> {
    dir: &'a Path,
    disk: Disk,
    source: Source<'a>,
    offered: Checkpoint,
    unsynced: Unsynced,
    report: Mirrored,
}

impl Run<'_> {
    fn tiles(&mut self, progress: &mut dyn FnMut(u64, u64)) -> Result<(), MirrorError> {
        let (old, size) = (self.report.old_size, self.offered.size);
        let mut hashes = hash_tiles_to_write(old, size);
        // From the top down, so that each tile's hash is known before it is fetched.
        hashes.sort_by_key(|tile| (std::cmp::Reverse(tile.kind), tile.index));
        let bundles = entry_bundles_to_write(old, size);
        let total = u64::try_from(hashes.len() + bundles.len()).unwrap_or(u64::MAX);
        let mut done = 0;
        self.edge(&hashes)?;
        for tile in hashes.into_iter().chain(bundles) {
            match tile.kind {
                TileKind::Hashes { level } if tile.is_full() => self.full(tile, level)?,
                TileKind::Hashes { .. } => {}
                TileKind::Entries => self.bundle(tile)?,
            }
            done += 1;
            progress(done, total);
        }
        Ok(())
    }

    /// The partial tiles at the right edge: they and nothing else lead to the root.
    fn edge(&mut self, tiles: &[TileId]) -> Result<(), MirrorError> {
        let size = self.offered.size;
        let mut partials = Vec::new();
        for level in 0..u8::try_from(u64::BITS / TILE_HEIGHT).unwrap_or(8) {
            let kind = TileKind::Hashes { level };
            let count = size >> (u32::from(level) * TILE_HEIGHT);
            let tile = count
                .checked_sub(1)
                .and_then(|last| tile_at(kind, last, size));
            partials.push(match tile.filter(|tile| !tile.is_full()) {
                None => None,
                Some(tile) => {
                    let bytes = self.source.tile(tile)?;
                    Some((tile, hashes_of(tile, &bytes)?, bytes))
                }
            });
        }
        let nodes = Frontier::nodes_of(size)
            .into_iter()
            .filter_map(|(level, index)| {
                let place = locate_node(level, index)?;
                let partial = partials.get(usize::from(place.tile_level))?;
                let first = usize::from(place.first);
                let (_, hashes, _) = partial.as_ref()?;
                subtree_hash(hashes.get(first..first + usize::from(place.count))?)
            });
        let root = Frontier::from_parts(size, nodes.collect()).map(|it| it.root());
        if root != Ok(self.offered.root) {
            let paths: Vec<_> = partials
                .iter()
                .flatten()
                .map(|it| it.0.to_string())
                .collect();
            return Err(MirrorError::Tampered {
                path: paths.join(", "),
                reason: format!(
                    "the tree's right edge does not lead to root {}",
                    self.offered.root
                ),
            });
        }
        for (tile, _, bytes) in partials.into_iter().flatten() {
            if tiles.contains(&tile) {
                self.keep(tile, &bytes)?;
            }
        }
        Ok(())
    }

    /// A full tile of hashes: the tile above it, which is here by now, says what it hashes to.
    fn full(&mut self, tile: TileId, level: u8) -> Result<(), MirrorError> {
        let kind = TileKind::Hashes { level: level + 1 };
        let above = tile_at(kind, tile.index, self.offered.size);
        let place = usize::try_from(tile.index % TILE_WIDTH).unwrap_or_default();
        let expected = match above {
            Some(above) => read_hash_tile(self.dir, above)?.get(place).copied(),
            None => None,
        };
        let good = |bytes: &[u8]| {
            let found = hashes_of(tile, bytes).ok().and_then(|it| subtree_hash(&it));
            found.is_some() && found == expected
        };
        self.take(tile, &good, || match expected {
            Some(expected) => format!("its tree hash is not {expected}, which stands above it"),
            None => "no tile stands above it".to_owned(),
        })
    }

    /// An entry bundle: its leaf hashes are here by now.
    fn bundle(&mut self, tile: TileId) -> Result<(), MirrorError> {
        let kind = TileKind::Hashes { level: 0 };
        let leaves = read_hash_tile(self.dir, TileId { kind, ..tile })?;
        let good = |bytes: &[u8]| {
            decode_bundle(bytes, tile.width).is_ok_and(|entries| {
                let hashes = entries.iter().map(|entry| leaf_hash(entry));
                entries.len() == leaves.len() && hashes.zip(&leaves).all(|(it, leaf)| it == *leaf)
            })
        };
        self.take(tile, &good, || {
            "its entries do not have the hashes that stand in the tree".to_owned()
        })
    }

    /// Keeps a tile that is `good`: the one that an interrupted run left, or the source's.
    fn take(
        &mut self,
        tile: TileId,
        good: &dyn Fn(&[u8]) -> bool,
        reason: impl Fn() -> String,
    ) -> Result<(), MirrorError> {
        let path = tile.to_string();
        if let Some(bytes) = read_if_there(&self.dir.join(&path))?
            && good(&bytes)
        {
            self.report.resumed += 1;
            return Ok(());
        }
        let bytes = self.source.tile(tile)?;
        if !good(&bytes) {
            let reason = reason();
            return Err(MirrorError::Tampered { path, reason });
        }
        self.keep(tile, &bytes)
    }

    fn keep(&mut self, tile: TileId, bytes: &[u8]) -> Result<(), MirrorError> {
        let path = self.dir.join(tile.to_string());
        let folder = parent(&path);
        self.disk.create_dirs(self.dir, folder, Access::Public)?;
        self.disk.write_temporary(&path, bytes, Access::Public)?;
        self.disk.commit_temporary(&path)?;
        self.unsynced.dirs.insert(folder.to_path_buf());
        self.unsynced.files.push(path);
        self.report.fetched += 1;
        self.report.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.unsynced.files.len() >= SYNC_EVERY {
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), MirrorError> {
        let Unsynced { files, dirs } = std::mem::take(&mut self.unsynced);
        Ok(self.disk.sync_all(&files, dirs)?)
    }

    /// Writes the checkpoint, with the log's own signatures as every log has it, and `witnessed` with the cosignatures.
    fn promise(
        &mut self,
        text: &[u8],
        before: Option<&Checkpoint>,
        vkeys: &[Vkey],
    ) -> Result<(), MirrorError> {
        let refused = |reason: String| MirrorError::Checkpoint { reason };
        let note = Note::parse(text).map_err(|error| refused(error.to_string()))?;
        let own = note.filtered(|line| {
            let signed = |vkey: &Vkey| line.name() == vkey.name() && line.key_id() == vkey.key_id();
            vkeys.iter().any(signed)
        });
        let own = own.ok_or_else(|| refused("no signature of the log is left".to_owned()))?;
        if before.is_none_or(|it| it.size < self.offered.size) {
            let path = self.dir.join(CHECKPOINT);
            let text = own.to_string();
            self.disk.replace(&path, text.as_bytes(), Access::Public)?;
        }
        let cosignatures = note.signatures().len() - own.signatures().len();
        let path = self.dir.join(WITNESSED);
        // The same checkpoint with fewer cosignatures is not better than the one that is here.
        let known = read_if_there(&path)?.and_then(|bytes| Note::parse(&bytes).ok());
        let known = known.filter(|known| known.text() == note.text());
        if cosignatures > 0
            && known.is_none_or(|it| it.signatures().len() < note.signatures().len())
        {
            self.disk.replace(&path, text, Access::Public)?;
        }
        Ok(())
    }

    /// What is on the disk leads to both roots.
    fn check_whole(&self, before: Option<&Checkpoint>) -> Result<(), MirrorError> {
        let nodes = TileNodes::new(self.dir, self.offered.size);
        for it in before.into_iter().chain([&self.offered]) {
            let root = merkle::tree_root(&nodes, it.size).map_err(|error| nodes.explain(&error))?;
            if root != it.root {
                let reason = format!(
                    "its tiles lead to {root} at size {}, signed is {}",
                    it.size, it.root
                );
                return Err(LogError::Proof { reason }.into());
            }
        }
        Ok(())
    }
}

/// Is this folder a mirror: a log without private records?
pub fn is_mirror(dir: &Path) -> bool {
    dir.join(MIRROR).is_file() && !dir.join("private").exists()
}

/// Whether a path may be served from a log's or a mirror's folder.
pub fn is_public(path: &str) -> bool {
    const NAMES: [&str; 4] = [CHECKPOINT, "log.json", MIRROR, "trust.json"];
    NAMES.contains(&path) || path.parse::<TileId>().is_ok()
}
