//! The right edge of the tree: what appending needs, checked against the published root before it is used.

use crate::error::LogError;
use crate::growth::Growth;
use crate::leaves::BUNDLED_BYTES;
use crate::tiles::{read_hash_tile, read_tile, subtree_hash};
use sealwarden_seal::merkle::{Frontier, Hash, leaf_hash};
use sealwarden_seal::tile::{FULL_WIDTH, TILE_HEIGHT, TILE_WIDTH, TileId, TileKind};
use sealwarden_seal::tile::{
    decode_bundle, entry_bundles_to_write, hash_tiles_to_write, locate_node,
};
use std::ops::Range;
use std::path::Path;

/// Tile levels that a tree below 2^64 leaves can have.
const LEVELS: u8 = 8;

/// The partial tiles of a tree of `size` leaves: everything that appending needs.
#[derive(Debug, Clone)]
pub(crate) struct Edge {
    size: u64,
    /// For each tile level its last, partial tile's hashes; none where the level ends with a full tile.
    partials: Vec<Vec<Hash>>,
    /// The last, partial entry bundle.
    entries: Vec<u8>,
}

impl Edge {
    /// Reads the edge from the disk and compares it with the published root. Nothing is appended, let alone signed, to a
    /// tree whose edge does not lead there: one flipped bit would otherwise be signed into the log for ever.
    pub(crate) fn read(dir: &Path, size: u64, root: Hash) -> Result<Self, LogError> {
        let mut partials = Vec::new();
        for tile in edge_tiles(size) {
            partials.push(tile.map_or(Ok(Vec::new()), |tile| read_hash_tile(dir, tile)));
        }
        let partials = partials
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(at_the_edge)?;
        let edge = Self {
            size,
            partials,
            entries: read_entries(dir, size).map_err(at_the_edge)?,
        };
        let found = edge.frontier()?.root();
        if found != root {
            let (tile, reason) = edge.diagnose(dir, found, root);
            return Err(LogError::RightEdgeDamaged { tile, reason });
        }
        if let (Some(tile), Some(place)) = (entries_tile(size), edge.wrong_entry()) {
            let reason = format!("its entry {place} is not the one that stands in the tree");
            return Err(LogError::RightEdgeDamaged {
                tile: tile.to_string(),
                reason,
            });
        }
        Ok(edge)
    }

    /// The first entry of the last bundle that does not have the hash that level 0 has.
    fn wrong_entry(&self) -> Option<usize> {
        let leaves = self.partials.first()?;
        let width = u16::try_from(leaves.len()).ok()?;
        let Ok(entries) = decode_bundle(&self.entries, width) else {
            return Some(0);
        };
        entries
            .iter()
            .zip(leaves)
            .position(|(entry, leaf)| leaf_hash(entry) != *leaf)
    }

    /// Finds the tile of the edge that does not follow from what lies below it.
    fn diagnose(&self, dir: &Path, found: Hash, root: Hash) -> (String, String) {
        let tiles: Vec<_> = edge_tiles(self.size).collect();
        for (tile, hashes) in tiles.iter().zip(&self.partials) {
            let Some(tile) = tile else { continue };
            let place = match tile.kind {
                TileKind::Hashes { level: 0 } => self.wrong_entry(),
                TileKind::Hashes { level } => wrong_hash(dir, *tile, level - 1, hashes),
                TileKind::Entries => None,
            };
            if let Some(place) = place {
                let reason = format!("its hash {place} does not follow from what lies below it");
                return (tile.to_string(), reason);
            }
        }
        let names: Vec<_> = tiles.iter().flatten().map(TileId::to_string).collect();
        let reason = format!("it leads to root {found}, the published checkpoint says {root}");
        (names.join(", "), reason)
    }

    /// The tree's complete subtrees.
    pub(crate) fn frontier(&self) -> Result<Frontier, LogError> {
        let subtrees = Frontier::nodes_of(self.size)
            .into_iter()
            .filter_map(|(level, index)| {
                let place = locate_node(level, index)?;
                let row = self.partials.get(usize::from(place.tile_level))?;
                let first = usize::from(place.first);
                subtree_hash(row.get(first..first + usize::from(place.count))?)
            });
        Frontier::from_parts(self.size, subtrees.collect()).map_err(|error| LogError::Proof {
            reason: error.to_string(),
        })
    }

    /// The size that it is the edge of.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The tiles that growth writes: entry bundles, then hash tiles, lowest level first. `bundled` are the new entries.
    pub(crate) fn tiles<'a>(
        &'a self,
        growth: &'a Growth,
        bundled: &'a [u8],
    ) -> impl Iterator<Item = (TileId, Vec<u8>)> + 'a {
        let size = self.size + u64::try_from(growth.row(0).len()).unwrap_or_default();
        let entries = entry_bundles_to_write(self.size, size);
        let hashes = hash_tiles_to_write(self.size, size);
        entries.into_iter().chain(hashes).map(move |tile| {
            let bytes = match tile.kind {
                TileKind::Entries => self.bundle(tile, bundled),
                TileKind::Hashes { level } => self.hashes(tile, level, growth),
            };
            (tile, bytes)
        })
    }

    fn bundle(&self, tile: TileId, bundled: &[u8]) -> Vec<u8> {
        let old = if tile.index * TILE_WIDTH < self.size {
            self.entries.as_slice()
        } else {
            &[]
        };
        let places = fresh_places(tile, self.size, BUNDLED_BYTES);
        let fresh = bundled.get(places).unwrap_or_default();
        [old, fresh].concat()
    }

    fn hashes(&self, tile: TileId, level: u8, growth: &Growth) -> Vec<u8> {
        let bits = u32::from(level) * TILE_HEIGHT;
        let before = self.size >> bits;
        let mut bytes = Vec::with_capacity(usize::from(tile.width) * size_of::<Hash>());
        let old = self.partials.get(usize::from(level));
        let old = old.filter(|_| tile.index * TILE_WIDTH < before);
        let fresh = growth.row(bits).get(fresh_places(tile, before, 1));
        for hash in old.into_iter().flatten().chain(fresh.into_iter().flatten()) {
            bytes.extend_from_slice(&hash.0);
        }
        bytes
    }
}

/// Where in a row that begins at place `before`, each place of it `bytes` long, a tile's new part stands.
fn fresh_places(tile: TileId, before: u64, bytes: usize) -> Range<usize> {
    let first = tile.index * TILE_WIDTH;
    let place = |place: u64| {
        usize::try_from(place.saturating_sub(before))
            .unwrap_or(usize::MAX)
            .saturating_mul(bytes)
    };
    place(first)..place(first + u64::from(tile.width))
}

/// For each level the partial tile at the tree's right edge.
fn edge_tiles(size: u64) -> impl Iterator<Item = Option<TileId>> {
    (0..LEVELS).map(move |level| {
        let count = size >> (u32::from(level) * TILE_HEIGHT);
        let width = u16::try_from(count % TILE_WIDTH)
            .ok()
            .filter(|width| *width > 0)?;
        Some(TileId {
            kind: TileKind::Hashes { level },
            index: count / TILE_WIDTH,
            width,
        })
    })
}

/// The partial entry bundle at the end of the log.
fn entries_tile(size: u64) -> Option<TileId> {
    let width = u16::try_from(size % TILE_WIDTH)
        .ok()
        .filter(|width| *width > 0)?;
    Some(TileId {
        kind: TileKind::Entries,
        index: size / TILE_WIDTH,
        width,
    })
}

fn read_entries(dir: &Path, size: u64) -> Result<Vec<u8>, LogError> {
    entries_tile(size).map_or(Ok(Vec::new()), |tile| read_tile(dir, tile))
}

/// The first hash of a tile that is not the tree hash of its full tile one level below.
fn wrong_hash(dir: &Path, tile: TileId, below: u8, hashes: &[Hash]) -> Option<usize> {
    (tile.index * TILE_WIDTH..)
        .zip(hashes)
        .position(|(index, hash)| {
            let kind = TileKind::Hashes { level: below };
            let full = read_hash_tile(
                dir,
                TileId {
                    kind,
                    index,
                    width: FULL_WIDTH,
                },
            );
            full.is_ok_and(|full| subtree_hash(&full) != Some(*hash))
        })
}

fn at_the_edge(error: LogError) -> LogError {
    if let LogError::TileDamaged { tile, reason } = error {
        return LogError::RightEdgeDamaged { tile, reason };
    }
    error
}
