//! The right edge of the tree: what appending needs, checked against the published root before it is used.

use crate::error::LogError;
use crate::leaf::Leaf;
use crate::tiles::{read_hash_tile, read_tile, subtree_hash};
use sealwarden_seal::merkle::{Frontier, Hash, leaf_hash};
use sealwarden_seal::record::entry;
use sealwarden_seal::tile::{FULL_WIDTH, TILE_HEIGHT, TILE_WIDTH, TileId, TileKind};
use sealwarden_seal::tile::{decode_bundle, encode_entry, locate_node};
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

    /// The tiles that appending `leaves` writes: entry bundles, then hash tiles, lowest level first.
    pub(crate) fn grow(mut self, leaves: &[Leaf]) -> Result<Vec<(TileId, Vec<u8>)>, LogError> {
        let mut tiles = self.grow_entries(leaves)?;
        let mut fresh: Vec<_> = leaves.iter().map(Leaf::hash).collect();
        for level in 0..LEVELS {
            if fresh.is_empty() {
                break;
            }
            let kind = TileKind::Hashes { level };
            let mut index = (self.size >> (u32::from(level) * TILE_HEIGHT)) / TILE_WIDTH;
            let mut row = std::mem::take(&mut self.partials[usize::from(level)]);
            let mut above = Vec::new();
            for hash in fresh {
                row.push(hash);
                if row.len() == usize::from(FULL_WIDTH) {
                    tiles.push((
                        TileId {
                            kind,
                            index,
                            width: FULL_WIDTH,
                        },
                        bytes_of(&row),
                    ));
                    above.extend(subtree_hash(&row));
                    row.clear();
                    index += 1;
                }
            }
            if let Ok(width @ 1..) = u16::try_from(row.len()) {
                tiles.push((TileId { kind, index, width }, bytes_of(&row)));
            }
            fresh = above;
        }
        Ok(tiles)
    }

    fn grow_entries(&mut self, leaves: &[Leaf]) -> Result<Vec<(TileId, Vec<u8>)>, LogError> {
        let kind = TileKind::Entries;
        let mut tiles = Vec::new();
        let mut bundle = std::mem::take(&mut self.entries);
        let mut next = self.size;
        for leaf in leaves {
            encode_entry(&mut bundle, &entry(&leaf.nonce, &leaf.record)).map_err(|error| {
                LogError::Proof {
                    reason: error.to_string(),
                }
            })?;
            next += 1;
            if next.is_multiple_of(TILE_WIDTH) {
                let index = next / TILE_WIDTH - 1;
                tiles.push((
                    TileId {
                        kind,
                        index,
                        width: FULL_WIDTH,
                    },
                    std::mem::take(&mut bundle),
                ));
            }
        }
        tiles.extend(entries_tile(next).map(|tile| (tile, bundle)));
        Ok(tiles)
    }
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

fn bytes_of(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}
