//! Reading hash tiles, and the tree's nodes from them.

use crate::disk::read_if_there;
use crate::error::LogError;
use sealwarden_seal::merkle::{
    BatchProofError, Hash, NodeMissing, NodeReader, ProofError, node_hash,
};
use sealwarden_seal::tile::{TILE_HEIGHT, TILE_WIDTH, TileId, TileKind};
use sealwarden_seal::tile::{locate_node, tile_at};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

const HASH_BYTES: usize = 32;
/// How many expanded tiles a reader keeps: at 16 KiB each, 4 MiB.
const CACHED_TILES: usize = 256;

/// Reads one hash tile. Its length is checked, its contents are not.
pub(crate) fn read_hash_tile(dir: &Path, tile: TileId) -> Result<Vec<Hash>, LogError> {
    let bytes = read_tile(dir, tile)?;
    if bytes.len() != usize::from(tile.width) * HASH_BYTES {
        return Err(LogError::TileDamaged {
            tile: tile.to_string(),
            reason: format!(
                "it has {} bytes instead of {}",
                bytes.len(),
                tile.width * 32
            ),
        });
    }
    let (hashes, _) = bytes.as_chunks::<HASH_BYTES>();
    Ok(hashes.iter().map(|hash| Hash(*hash)).collect())
}

/// Reads a tile's file.
pub(crate) fn read_tile(dir: &Path, tile: TileId) -> Result<Vec<u8>, LogError> {
    read_if_there(&dir.join(tile.to_string()))?.ok_or_else(|| LogError::TileDamaged {
        tile: tile.to_string(),
        reason: "it is missing".to_owned(),
    })
}

/// The tree hash of a power of two of neighbouring hashes.
pub(crate) fn subtree_hash(hashes: &[Hash]) -> Option<Hash> {
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        row = row.chunks(2).map(join).collect::<Option<_>>()?;
    }
    row.first().copied()
}

fn join(pair: &[Hash]) -> Option<Hash> {
    match pair {
        [left, right] => Some(node_hash(left, right)),
        _ => None,
    }
}

/// A tile with the nodes above its hashes: `rows[k]` holds the complete nodes k levels up.
struct Expanded {
    rows: Vec<Vec<Hash>>,
}

impl Expanded {
    fn new(hashes: Vec<Hash>) -> Self {
        let mut rows = vec![hashes];
        for _ in 1..TILE_HEIGHT {
            let above = rows
                .last()
                .map(|row| row.chunks_exact(2).filter_map(join).collect());
            rows.push(above.unwrap_or_default());
        }
        Self { rows }
    }

    fn node(&self, height: u32, place: u16) -> Option<Hash> {
        let row = self.rows.get(usize::try_from(height).ok()?)?;
        row.get(usize::from(place >> height)).copied()
    }
}

/// The nodes of the tree of `size` leaves, from its tiles. Not checked: who uses them compares with a signed root.
pub(crate) struct TileNodes<'a> {
    dir: &'a Path,
    size: u64,
    cache: RefCell<BTreeMap<(u8, u64), Expanded>>,
    failure: RefCell<Option<LogError>>,
}

impl<'a> TileNodes<'a> {
    pub(crate) fn new(dir: &'a Path, size: u64) -> Self {
        Self {
            dir,
            size,
            cache: RefCell::default(),
            failure: RefCell::default(),
        }
    }

    /// Says why a proof could not be made: the tile's own error where there was one.
    pub(crate) fn explain(&self, error: &ProofError) -> LogError {
        self.failure.take().unwrap_or_else(|| LogError::Proof {
            reason: error.to_string(),
        })
    }

    /// [`TileNodes::explain`] for the proof of a range.
    pub(crate) fn explain_range(&self, error: &BatchProofError) -> LogError {
        self.failure.take().unwrap_or_else(|| LogError::Proof {
            reason: error.to_string(),
        })
    }

    fn load(&self, level: u32, index: u64) -> Result<Option<Hash>, LogError> {
        let Some(place) = locate_node(level, index) else {
            return Ok(None);
        };
        let key = (place.tile_level, place.tile_index);
        let height = level % TILE_HEIGHT;
        if let Some(tile) = self.cache.borrow().get(&key) {
            return Ok(tile.node(height, place.first));
        }
        let kind = TileKind::Hashes {
            level: place.tile_level,
        };
        let Some(tile) = tile_at(kind, place.tile_index * TILE_WIDTH, self.size) else {
            return Ok(None);
        };
        let tile = Expanded::new(read_hash_tile(self.dir, tile)?);
        let node = tile.node(height, place.first);
        let mut cache = self.cache.borrow_mut();
        if cache.len() >= CACHED_TILES {
            cache.clear();
        }
        cache.insert(key, tile);
        Ok(node)
    }
}

impl NodeReader for TileNodes<'_> {
    fn node(&self, level: u32, index: u64) -> Result<Hash, NodeMissing> {
        let missing = NodeMissing { level, index };
        match self.load(level, index) {
            Ok(node) => node.ok_or(missing),
            Err(error) => {
                self.failure.replace(Some(error));
                Err(missing)
            }
        }
    }
}
