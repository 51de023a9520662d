//! Tile paths and entry bundles of C2SP tlog-tiles v0.1.0, with tiles of height 8.
//!
//! `tile/<L>/<N>[.p/<W>]` holds up to 256 hashes, `tile/entries/<N>[.p/<W>]` up to 256 entries. N is written in groups of
//! three digits, all but the last prefixed with `x`: 1234067 is `x001/x234/067`. A partial tile's width W is 1 to 255.

use crate::encoding::{decimal, excerpt};
use std::fmt::{self, Write as _};
use std::str::FromStr;

/// The height of a tile: it spans 2^8 nodes of its lowest level.
pub const TILE_HEIGHT: u32 = 8;
/// The number of hashes or entries in a full tile.
pub const TILE_WIDTH: u64 = 256;
/// A full tile's `width`.
pub const FULL_WIDTH: u16 = 256;
/// The highest level that a path may name.
pub const MAX_LEVEL: u8 = 63;

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TileKind {
    /// Hashes: level 0 holds leaf hashes, a hash at level L+1 is the tree hash of a full tile of level L.
    Hashes {
        /// The tile level.
        level: u8,
    },
    /// An entry bundle.
    Entries,
}

/// One tile: its kind, its index N, and how many of its 256 places are filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TileId {
    /// What it holds.
    pub kind: TileKind,
    /// N.
    pub index: u64,
    /// 1 to 255 for a partial tile, 256 for a full one.
    pub width: u16,
}

/// A tile's path or contents are not as they must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TileError {
    /// The path is not one of tlog-tiles.
    #[error(
        "{0:?} is not a tile path; write tile/<level>/<index> or tile/entries/<index>, with .p/<width> if partial"
    )]
    Path(String),
    /// An entry does not fit its 16-bit length.
    #[error("an entry of {0} bytes does not fit a bundle; entries hold at most 65535 bytes")]
    EntryTooLong(usize),
    /// The bundle ends inside an entry, or goes on after the last.
    #[error(
        "the entry bundle does not hold exactly {expected} entries: it breaks at byte {offset}; fetch it again"
    )]
    Bundle {
        /// How many entries it was to hold.
        expected: u16,
        /// The byte at which reading stopped.
        offset: usize,
    },
}

impl TileId {
    /// The size of the smallest tree that has the tile: only a checkpoint of at least this size vouches for its bytes. None where no tree has it.
    pub fn smallest_tree(&self) -> Option<u64> {
        let places = self.index.checked_mul(TILE_WIDTH)?;
        let places = places.checked_add(u64::from(self.width))?;
        match self.kind {
            TileKind::Entries => Some(places),
            TileKind::Hashes { level } => {
                let bits = u32::from(level) * TILE_HEIGHT;
                places.checked_mul(1_u64.checked_shl(bits)?)
            }
        }
    }

    /// Is the tile full, and so never to change?
    pub fn is_full(&self) -> bool {
        self.width == FULL_WIDTH
    }
}

impl fmt::Display for TileId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes { level } => write!(out, "tile/{level}/")?,
            TileKind::Entries => out.write_str("tile/entries/")?,
        }
        out.write_str(&index_path(self.index))?;
        if self.is_full() {
            Ok(())
        } else {
            write!(out, ".p/{}", self.width)
        }
    }
}

fn index_path(index: u64) -> String {
    let digits = index.to_string();
    let padded = format!("{digits:0>width$}", width = digits.len().div_ceil(3) * 3);
    let groups = padded.len() / 3;
    let mut path = String::with_capacity(padded.len() + 2 * groups);
    for group in 0..groups {
        let last = group + 1 == groups;
        let prefix = if last { "" } else { "x" };
        let suffix = if last { "" } else { "/" };
        // Writing to a String cannot fail.
        let _ = write!(
            path,
            "{prefix}{}{suffix}",
            &padded[3 * group..3 * group + 3]
        );
    }
    path
}

impl FromStr for TileId {
    type Err = TileError;

    fn from_str(path: &str) -> Result<Self, TileError> {
        let tile = parse_path(path).ok_or_else(|| TileError::Path(excerpt(path)))?;
        // Only the one canonical spelling of a tile is a path.
        if tile.to_string() == path {
            Ok(tile)
        } else {
            Err(TileError::Path(excerpt(path)))
        }
    }
}

fn parse_path(path: &str) -> Option<TileId> {
    let (kind, rest) = path.strip_prefix("tile/")?.split_once('/')?;
    let kind = if kind == "entries" {
        TileKind::Entries
    } else {
        let level = u8::try_from(decimal(kind)?).ok()?;
        TileKind::Hashes {
            level: (level <= MAX_LEVEL).then_some(level)?,
        }
    };
    let (groups, width) = match rest.split_once(".p/") {
        Some((groups, width)) => {
            let width = u16::try_from(decimal(width)?).ok()?;
            (groups, (1..FULL_WIDTH).contains(&width).then_some(width)?)
        }
        None => (rest, FULL_WIDTH),
    };
    let mut index: u64 = 0;
    for group in groups.split('/') {
        let digits = group.strip_prefix('x').unwrap_or(group);
        if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        index = index.checked_mul(1000)?.checked_add(digits.parse().ok()?)?;
    }
    Some(TileId { kind, index, width })
}

/// The hash tiles, full and partial, that a tree must have written when it grew from `old_size` to `new_size`, lowest
/// level first. Every one holds at least one hash that the old tree did not have.
pub fn hash_tiles_to_write(old_size: u64, new_size: u64) -> Vec<TileId> {
    let mut tiles = Vec::new();
    for level in 0..u8::try_from(u64::BITS / TILE_HEIGHT).unwrap_or(u8::MAX) {
        let shift = u32::from(level) * TILE_HEIGHT;
        let (old, new) = (old_size >> shift, new_size >> shift);
        if new <= old {
            break;
        }
        push_tiles(&mut tiles, TileKind::Hashes { level }, old, new);
    }
    tiles
}

/// The entry bundles, full and partial, that growth from `old_size` to `new_size` must write.
pub fn entry_bundles_to_write(old_size: u64, new_size: u64) -> Vec<TileId> {
    let mut tiles = Vec::new();
    push_tiles(&mut tiles, TileKind::Entries, old_size, new_size);
    tiles
}

fn push_tiles(tiles: &mut Vec<TileId>, kind: TileKind, old: u64, new: u64) {
    if new <= old {
        return;
    }
    for index in old / TILE_WIDTH..new / TILE_WIDTH {
        tiles.push(TileId {
            kind,
            index,
            width: FULL_WIDTH,
        });
    }
    let width = u16::try_from(new % TILE_WIDTH).unwrap_or_default();
    if width != 0 {
        tiles.push(TileId {
            kind,
            index: new / TILE_WIDTH,
            width,
        });
    }
}

/// The tile that holds place `index` of `kind` in a tree of `size` leaves, with the width that it has there. `None` where
/// the tree has no such place.
pub fn tile_at(kind: TileKind, index: u64, size: u64) -> Option<TileId> {
    let count = match kind {
        TileKind::Hashes { level } => size.checked_shr(u32::from(level) * TILE_HEIGHT)?,
        TileKind::Entries => size,
    };
    if index >= count {
        return None;
    }
    let tile = index / TILE_WIDTH;
    let width = (count - tile * TILE_WIDTH).min(TILE_WIDTH);
    Some(TileId {
        kind,
        index: tile,
        width: u16::try_from(width).ok()?,
    })
}

/// Where a tree's node is found among the tiles: it is the tree hash of `count` neighbouring hashes of one tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeLocation {
    /// The tile level.
    pub tile_level: u8,
    /// The tile's index N.
    pub tile_index: u64,
    /// The first of the hashes, 0 to 255.
    pub first: u16,
    /// How many hashes it covers: a power of two from 1 to 128.
    pub count: u16,
}

/// Locates the node (`level`, `index`) of a complete subtree. `None` for a node that no tree below 2^64 leaves has.
pub fn locate_node(level: u32, index: u64) -> Option<NodeLocation> {
    let inner = level % TILE_HEIGHT;
    if level >= u64::BITS || index.leading_zeros() < level {
        return None;
    }
    let leftmost = index << inner;
    Some(NodeLocation {
        tile_level: u8::try_from(level / TILE_HEIGHT).ok()?,
        tile_index: leftmost / TILE_WIDTH,
        first: u16::try_from(leftmost % TILE_WIDTH).ok()?,
        count: 1 << inner,
    })
}

/// Appends one entry to a bundle: its length as u16 big-endian, then its bytes.
pub fn encode_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), TileError> {
    let length = u16::try_from(entry.len()).map_err(|_| TileError::EntryTooLong(entry.len()))?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// Splits a bundle that must hold exactly `width` entries.
pub fn decode_bundle(bundle: &[u8], width: u16) -> Result<Vec<&[u8]>, TileError> {
    let error = |rest: &[u8]| TileError::Bundle {
        expected: width,
        offset: bundle.len() - rest.len(),
    };
    let mut entries = Vec::with_capacity(usize::from(width));
    let mut rest = bundle;
    for _ in 0..width {
        let (length, tail) = rest.split_first_chunk::<2>().ok_or_else(|| error(rest))?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (entry, tail) = tail.split_at_checked(length).ok_or_else(|| error(rest))?;
        entries.push(entry);
        rest = tail;
    }
    if rest.is_empty() {
        Ok(entries)
    } else {
        Err(error(rest))
    }
}
