//! What a source hands out, in the form in which it is checked.

use super::{Fetch, MirrorError};
use sealwarden_seal::merkle::{Hash, NodeMissing, NodeReader};
use sealwarden_seal::tile::{FULL_WIDTH, TILE_HEIGHT, TILE_WIDTH, TileId, TileKind};
use sealwarden_seal::tile::{decode_bundle, locate_node, tile_at};
use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::tiles::subtree_hash;

const HASH_BYTES: usize = 32;

/// A source whose answers are not believed.
#[derive(Clone, Copy)]
pub(super) struct Source<'a>(pub(super) &'a dyn Fetch);

impl Source<'_> {
    pub(super) fn get(&self, path: &str) -> Result<Option<Vec<u8>>, MirrorError> {
        self.0
            .fetch(path)
            .map_err(|reason| MirrorError::Unavailable {
                path: path.to_owned(),
                reason,
            })
    }

    pub(super) fn required(&self, path: &str) -> Result<Vec<u8>, MirrorError> {
        self.get(path)?.ok_or_else(|| MirrorError::Missing {
            path: path.to_owned(),
        })
    }

    /// A tile's bytes. A partial tile that is gone because it is full by now is cut from the full one.
    pub(super) fn tile(&self, tile: TileId) -> Result<Vec<u8>, MirrorError> {
        let path = tile.to_string();
        if tile.is_full() {
            return self.required(&path);
        }
        if let Some(bytes) = self.get(&path)? {
            return Ok(bytes);
        }
        let full = TileId {
            width: FULL_WIDTH,
            ..tile
        };
        let bytes = self
            .get(&full.to_string())?
            .ok_or(MirrorError::Missing { path })?;
        Ok(beginning(tile, bytes))
    }
}

/// The first places of a full tile; a bundle that does not read comes back whole, and fails its check.
fn beginning(tile: TileId, mut bytes: Vec<u8>) -> Vec<u8> {
    let width = usize::from(tile.width);
    let length = match tile.kind {
        TileKind::Hashes { .. } => width * HASH_BYTES,
        TileKind::Entries => {
            let entries = decode_bundle(&bytes, FULL_WIDTH).unwrap_or_default();
            let first = entries.iter().take(width);
            match entries.len() {
                0 => bytes.len(),
                _ => first.map(|entry| 2 + entry.len()).sum(),
            }
        }
    };
    bytes.truncate(length);
    bytes
}

/// The hashes of a tile, if it has as many as it must.
pub(super) fn hashes_of(tile: TileId, bytes: &[u8]) -> Result<Vec<Hash>, MirrorError> {
    let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
    if hashes.len() != usize::from(tile.width) || !rest.is_empty() {
        return Err(MirrorError::Tampered {
            path: tile.to_string(),
            reason: format!(
                "it has {} bytes instead of {}",
                bytes.len(),
                usize::from(tile.width) * HASH_BYTES
            ),
        });
    }
    Ok(hashes.iter().map(|hash| Hash(*hash)).collect())
}

/// The nodes of a source's tree of `size` leaves. Who uses them verifies what comes out.
pub(super) struct SourceNodes<'a> {
    source: &'a Source<'a>,
    size: u64,
    tiles: RefCell<BTreeMap<TileId, Vec<Hash>>>,
    pub(super) failure: RefCell<Option<MirrorError>>,
}

impl<'a> SourceNodes<'a> {
    pub(super) fn new(source: &'a Source<'a>, size: u64) -> Self {
        Self {
            source,
            size,
            tiles: RefCell::default(),
            failure: RefCell::default(),
        }
    }

    fn load(&self, level: u32, index: u64) -> Result<Option<Hash>, MirrorError> {
        let Some(place) = locate_node(level, index) else {
            return Ok(None);
        };
        debug_assert!(
            u32::from(place.tile_level) == level / TILE_HEIGHT,
            "the node's own tile"
        );
        let kind = TileKind::Hashes {
            level: place.tile_level,
        };
        let Some(tile) = tile_at(kind, place.tile_index * TILE_WIDTH, self.size) else {
            return Ok(None);
        };
        let first = usize::from(place.first);
        let range = first..first + usize::from(place.count);
        if let Some(hashes) = self.tiles.borrow().get(&tile) {
            return Ok(hashes.get(range).and_then(subtree_hash));
        }
        let hashes = hashes_of(tile, &self.source.tile(tile)?)?;
        let node = hashes.get(range).and_then(subtree_hash);
        // A proof touches a few tiles a level.
        self.tiles.borrow_mut().insert(tile, hashes);
        Ok(node)
    }
}

impl NodeReader for SourceNodes<'_> {
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
