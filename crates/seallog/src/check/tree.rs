//! The tree, recomputed leaf by leaf; each tile is compared as soon as it is complete.

use super::KnownRoot;
use super::damage::{Damage, DamageKind, Findings, count, shown};
use super::private::{Entry, PrivateAudit};
use crate::tiles::subtree_hash;
use sealwarden_seal::merkle::{Frontier, Hash, leaf_hash};
use sealwarden_seal::record::ENTRY_BYTES;
use sealwarden_seal::tile::{FULL_WIDTH, TILE_HEIGHT, TILE_WIDTH, TileId, TileKind, tile_at};
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::vec::IntoIter;

const HASH_BYTES: usize = 32;
/// An entry in its bundle: length and bytes.
const BUNDLED_BYTES: usize = 2 + ENTRY_BYTES;

/// A leaf as the files speak of it.
struct Judged {
    hash: Hash,
    /// Unknown where neither bundle nor record is good.
    entry: Option<Entry>,
}

pub(super) struct TreeAudit {
    size: u64,
    frontier: Frontier,
    /// For each tile level the hashes of the tile that is being filled.
    rows: Vec<Vec<Hash>>,
    /// None in a mirror, which has no private records.
    private: Option<PrivateAudit>,
    known: Peekable<IntoIter<KnownRoot>>,
    compared: u64,
    /// Why a known root does not hold, in their order.
    contradictions: Vec<(KnownRoot, Hash)>,
}

/// How many contradicted roots are kept; each is damage, and no more is described anyway.
const MAX_CONTRADICTIONS: usize = super::MAX_DAMAGE;

impl TreeAudit {
    pub(super) fn new(size: u64, mut known: Vec<KnownRoot>, private: Option<PrivateAudit>) -> Self {
        known.retain(|it| it.size <= size);
        known.sort_by_key(|it| it.size);
        Self {
            size,
            frontier: Frontier::new(),
            rows: vec![Vec::new(); usize::try_from(u64::BITS / TILE_HEIGHT).unwrap_or(8)],
            private,
            known: known.into_iter().peekable(),
            compared: 0,
            contradictions: Vec::new(),
        }
    }

    pub(super) fn root(&self) -> Hash {
        self.frontier.root()
    }

    pub(super) fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    pub(super) fn roots_compared(&self) -> u64 {
        self.compared
    }

    pub(super) fn run(&mut self, findings: &mut Findings<'_>, progress: &mut dyn FnMut(u64, u64)) {
        self.compare_known();
        let mut start = 0;
        while start < self.size {
            let width = (self.size - start).min(TILE_WIDTH);
            self.tile(findings, start, width);
            start += width;
            progress(start, self.size);
        }
        if let Some(private) = &mut self.private {
            private.finish(findings);
        }
        for level in 0..self.rows.len() {
            self.compare_row(findings, level);
        }
        for (known, found) in std::mem::take(&mut self.contradictions) {
            findings.report(
                Path::new(&known.source),
                DamageKind::Contradiction,
                (0, 0),
                format!("root {} at size {}", known.root, known.size),
                format!("the leaves lead to {found}"),
            );
        }
    }

    /// Takes in the leaves of one tile: 256, or what is left at the end.
    fn tile(&mut self, findings: &mut Findings<'_>, start: u64, width: u64) {
        let width = u16::try_from(width).unwrap_or(FULL_WIDTH);
        let index = start / TILE_WIDTH;
        let bundle_path = tile_path(TileKind::Entries, index, width);
        let kind = TileKind::Hashes { level: 0 };
        let tile_path = tile_path(kind, index, width);
        let places = usize::from(width);
        let bundle = findings
            .read(&bundle_path, places * BUNDLED_BYTES)
            .unwrap_or_default()
            .0;
        let tile = findings
            .read(&tile_path, places * HASH_BYTES)
            .unwrap_or_default()
            .0;
        let mut leaves = Vec::with_capacity(places);
        let leaves_here = start..start + u64::from(width);
        let without_records = self.private.as_ref();
        let without_records = without_records.is_none_or(|it| it.lacks_some(&leaves_here));
        let entries_lead =
            without_records && self.entries_lead(findings, &bundle, &tile, (index, places));
        for (index, place) in (start..).zip(0..places) {
            let entry = entry_at(&bundle, place);
            let hash = hash_at(&tile, place).filter(|_| !entries_lead);
            let judged = self.judge(findings, index, entry, hash);
            leaves.push(judged);
        }
        compare_bundles(findings, index, &leaves);
        for leaf in leaves {
            self.push(findings, leaf.hash);
        }
    }

    /// Where there are no records to outvote it: whether it is the tile that was changed and not the entries. The hash one
    /// level up, or the root, tells.
    fn entries_lead(
        &self,
        findings: &Findings<'_>,
        bundle: &[u8],
        tile: &[u8],
        (index, places): (u64, usize),
    ) -> bool {
        let entries = (0..places).map(|place| Some(leaf_hash(&entry_at(bundle, place)?)));
        let Some(entries) = entries.collect::<Option<Vec<_>>>() else {
            return false;
        };
        let tile: Vec<_> = (0..places).filter_map(|it| hash_at(tile, it)).collect();
        if tile == entries {
            return false;
        }
        let leads = |hashes: &[Hash]| {
            let mut frontier = self.frontier.clone();
            for hash in hashes {
                frontier.push(*hash);
            }
            if frontier.size() == self.size {
                let mut known = self.known.clone();
                return known.any(|it| it.size == self.size && it.root == frontier.root());
            }
            let kind = TileKind::Hashes { level: 1 };
            let above = tile_at(kind, index, self.size).map(|it| findings.dir.join(it.to_string()));
            let above = above
                .and_then(|path| std::fs::read(path).ok())
                .unwrap_or_default();
            let place = usize::try_from(index % TILE_WIDTH).unwrap_or_default();
            subtree_hash(hashes).is_some_and(|hash| hash_at(&above, place) == Some(hash))
        };
        leads(&entries) && !leads(&tile)
    }

    /// Lets record, entry and tile vote on a leaf.
    fn judge(
        &mut self,
        findings: &mut Findings<'_>,
        index: u64,
        public: Option<Entry>,
        tile: Option<Hash>,
    ) -> Judged {
        let public_hash = public.map(|entry| leaf_hash(&entry));
        let mut wanted: Vec<Hash> = tile.into_iter().chain(public_hash).collect();
        wanted.dedup();
        let private = self.private.as_mut();
        let private = private.and_then(|it| it.entry(findings, index, &wanted));
        let private_hash = private.map(|entry| {
            if Some(entry) == public {
                public_hash.unwrap_or_else(|| leaf_hash(&entry))
            } else {
                leaf_hash(&entry)
            }
        });
        let hash = match (public_hash, tile, private_hash) {
            (Some(public), Some(tile), _) if public == tile => public,
            (Some(public), _, Some(private)) if public == private => public,
            (_, Some(tile), Some(private)) if tile == private => tile,
            (public, tile, private) => tile.or(public).or(private).unwrap_or(Hash([0; 32])),
        };
        let of = |entry: Option<Entry>, its: Option<Hash>| entry.filter(|_| its == Some(hash));
        Judged {
            hash,
            entry: of(private, private_hash).or(of(public, public_hash)),
        }
    }

    fn push(&mut self, findings: &mut Findings<'_>, leaf: Hash) {
        self.frontier.push(leaf);
        self.compare_known();
        let mut hash = Some(leaf);
        for level in 0..self.rows.len() {
            let Some(row) = self.rows.get_mut(level) else {
                break;
            };
            row.extend(hash);
            if row.len() < usize::from(FULL_WIDTH) {
                break;
            }
            hash = subtree_hash(row);
            self.compare_row(findings, level);
            if let Some(row) = self.rows.get_mut(level) {
                row.clear();
            }
        }
    }

    /// Compares the stored checkpoints and other known roots of the present size.
    fn compare_known(&mut self) {
        let size = self.frontier.size();
        while let Some(known) = self.known.next_if(|it| it.size == size) {
            self.compared += 1;
            let root = self.frontier.root();
            if known.root != root && self.contradictions.len() < MAX_CONTRADICTIONS {
                self.contradictions.push((known, root));
            }
        }
    }

    /// Compares the tile that a row makes, and its partial predecessors.
    fn compare_row(&mut self, findings: &mut Findings<'_>, level: usize) {
        let Some(row) = self.rows.get(level).filter(|row| !row.is_empty()) else {
            return;
        };
        let Ok(tile_level) = u8::try_from(level) else {
            return;
        };
        let kind = TileKind::Hashes { level: tile_level };
        let shift = u32::from(tile_level) * TILE_HEIGHT;
        // A full row is compared when its last leaf is in, so the index is that of the leaf before the size.
        let index = ((self.frontier.size() - 1) >> shift) / TILE_WIDTH;
        let bytes: Vec<u8> = row.iter().flat_map(|hash| hash.0).collect();
        let what = format!("hashes of level {level}, from {} on", index * TILE_WIDTH);
        compare_tile(findings, kind, index, &bytes, HASH_BYTES, &what);
    }
}

fn entry_at(bundle: &[u8], place: usize) -> Option<Entry> {
    let bytes = bundle.get(place * BUNDLED_BYTES..)?;
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    if usize::from(u16::from_be_bytes(*length)) != ENTRY_BYTES {
        return None;
    }
    rest.first_chunk::<ENTRY_BYTES>().copied()
}

fn hash_at(tile: &[u8], place: usize) -> Option<Hash> {
    let bytes = tile.get(place * HASH_BYTES..)?;
    bytes.first_chunk::<HASH_BYTES>().map(|hash| Hash(*hash))
}

fn tile_path(kind: TileKind, index: u64, width: u16) -> PathBuf {
    PathBuf::from(TileId { kind, index, width }.to_string())
}

/// Compares an entry bundle and its partial predecessors with the leaves.
fn compare_bundles(findings: &mut Findings<'_>, index: u64, leaves: &[Judged]) {
    let length = u16::try_from(ENTRY_BYTES).unwrap_or_default();
    let mut bytes = Vec::with_capacity(leaves.len() * BUNDLED_BYTES);
    let mut unknown = Vec::new();
    for (place, leaf) in leaves.iter().enumerate() {
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&leaf.entry.unwrap_or([0; ENTRY_BYTES]));
        if leaf.entry.is_none() {
            unknown.push((place, leaf.hash));
        }
    }
    let kind = TileKind::Entries;
    if !unknown.is_empty() {
        // Neither record nor entry leads to the hash in the tree: what must stand there is not known any more.
        let width = u16::try_from(leaves.len()).unwrap_or(FULL_WIDTH);
        let path = tile_path(kind, index, width);
        let found = findings.read(&path, bytes.len()).unwrap_or_default().0;
        for (place, hash) in unknown {
            let at = place * BUNDLED_BYTES;
            let range = at..at + BUNDLED_BYTES;
            let Some(stands) = found.get(range.clone()) else {
                continue;
            };
            if let Some(bytes) = bytes.get_mut(range) {
                bytes.copy_from_slice(stands);
            }
            findings.add(Damage {
                path: path.clone(),
                kind: DamageKind::Changed,
                offset: count(at),
                length: count(BUNDLED_BYTES),
                expected: format!("an entry with leaf hash {hash}"),
                found: shown(Some(stands)),
            });
        }
    }
    let what = format!("entries from {} on", index * TILE_WIDTH);
    compare_tile(findings, kind, index, &bytes, BUNDLED_BYTES, &what);
}

/// Compares the file of a tile, which must be there, and whatever narrower or newer files of it are there as well.
fn compare_tile(
    findings: &mut Findings<'_>,
    kind: TileKind,
    index: u64,
    expected: &[u8],
    each: usize,
    what: &str,
) {
    let width = u16::try_from(expected.len() / each).unwrap_or(FULL_WIDTH);
    let path = tile_path(kind, index, width);
    match findings.read(&path, expected.len()) {
        Some((found, length)) => {
            findings.compare(&path, &found, expected, what);
            findings.length(&path, length, count(expected.len()));
        }
        // One that cannot be read was reported already.
        None if !findings.dir.join(&path).exists() => {
            findings.missing(&path, count(expected.len()), what);
        }
        None => {}
    }
    for other in other_widths(findings.dir, kind, index, width) {
        let path = tile_path(kind, index, other);
        let bytes = usize::from(other) * each;
        // A wider one is newer than what is audited: only its beginning is known.
        let known = expected.get(..bytes).unwrap_or(expected);
        if let Some((found, length)) = findings.read(&path, known.len()) {
            findings.compare(&path, &found, known, what);
            findings.length(&path, length, count(bytes));
        }
    }
}

/// The widths of the partial tiles that lie beside a tile. What is no width is left to the walk over all files.
fn other_widths(dir: &Path, kind: TileKind, index: u64, width: u16) -> Vec<u16> {
    let folder = tile_path(kind, index, 1);
    let folder = folder.parent().map(|folder| dir.join(folder));
    let Some(Ok(entries)) = folder.map(std::fs::read_dir) else {
        return Vec::new();
    };
    let mut widths: Vec<u16> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|it| (1..FULL_WIDTH).contains(it) && *it != width)
        .collect();
    widths.sort_unstable();
    widths
}
