//! Every file in the folder has a reason to be there.

use super::damage::{DamageKind, Findings};
use super::notes::covered;
use crate::mirror::{EVIDENCE, MIRROR, is_mirror};
use crate::private::{SEGMENT_LEAVES, Segment};
use sealwarden_seal::tile::{TILE_HEIGHT, TILE_WIDTH, TileId, TileKind};
use std::fs;
use std::path::{Path, PathBuf};

/// What a log's owner keeps beside it: texts that are sealed in it, with their seals.
const BESIDE: &str = "heads";
/// What a mirror keeps beside a log.
const BESIDE_MIRROR: [&str; 2] = [EVIDENCE, "anchors"];
const SINGLE: [&str; 5] = ["log.json", "checkpoint", "witnessed", "staged", "lock"];
const SINGLE_OF_MIRROR: [&str; 3] = [MIRROR, "trust.json", "anchors.txt"];

/// The size of the tree that a file belongs to first.
fn first_size(path: &Path, is_mirror: bool) -> Option<u64> {
    let name = path.to_str()?;
    if SINGLE.contains(&name) || (is_mirror && SINGLE_OF_MIRROR.contains(&name)) {
        return Some(0);
    }
    if let Ok(tile) = name.parse::<TileId>() {
        let places = tile.index.checked_mul(TILE_WIDTH)?;
        let places = places.checked_add(u64::from(tile.width))?;
        return match tile.kind {
            TileKind::Entries => Some(places),
            TileKind::Hashes { level } => {
                places.checked_mul(1_u64.checked_shl(u32::from(level) * TILE_HEIGHT)?)
            }
        };
    }
    let number: u64 = path.file_stem()?.to_str()?.parse().ok()?;
    let first = number.checked_mul(SEGMENT_LEAVES)?;
    let names = Segment::of(Path::new(""), first);
    (path == names.records || path == names.ends).then(|| first.saturating_add(1))
}

/// How many entries the bundles hold, going by their names.
pub(super) fn stored_entries(dir: &Path) -> u64 {
    let mut folders = vec![PathBuf::from("tile/entries")];
    let mut size = 0;
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(dir.join(&folder)) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = folder.join(entry.file_name());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else {
                size = size.max(first_size(&path, true).unwrap_or(0));
            }
        }
    }
    size
}

fn is_beside(dir: &Path, path: &Path) -> bool {
    let of_mirror = BESIDE_MIRROR.iter().any(|it| path == Path::new(it));
    is_of_owner(path) || (of_mirror && is_mirror(dir))
}

/// `heads`, and `heads-<node>` of a further node that writes there.
fn is_of_owner(path: &Path) -> bool {
    let rest = path.to_str().and_then(|name| name.strip_prefix(BESIDE));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-') && !rest.contains('/'))
}

/// Looks at every file's name, one folder at a time.
pub(super) fn walk(findings: &mut Findings<'_>, size: u64) {
    let mut folders = vec![PathBuf::new()];
    // Asked for again only when a file lies beyond what was known.
    let mut limit = size;
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(findings.dir.join(&folder)) {
            Ok(entries) => entries,
            Err(error) => {
                findings.unreadable(&folder, &error);
                continue;
            }
        };
        for entry in entries {
            let Ok(entry) = entry else { break };
            let path = folder.join(entry.file_name());
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && is_beside(findings.dir, &path) => {}
                Ok(kind) if kind.is_dir() => folders.push(path),
                Ok(kind) if kind.is_file() => file(findings, &path, size, &mut limit),
                Ok(_) => extra(findings, &path, "no regular file"),
                Err(error) => findings.unreadable(&path, &error),
            }
        }
    }
}

fn file(findings: &mut Findings<'_>, path: &Path, size: u64, limit: &mut u64) {
    let is_mirror = is_mirror(findings.dir);
    let temporary = path.extension().is_some_and(|it| it == "tmp");
    let name = if temporary {
        path.with_extension("")
    } else {
        path.to_path_buf()
    };
    let Some(first) = first_size(&name, is_mirror) else {
        return extra(findings, path, "a file that no log writes");
    };
    if !temporary && first <= size {
        return;
    }
    if first > *limit {
        *limit = covered(findings.dir).max(*limit);
    }
    if temporary || first <= *limit {
        findings.unpublished += 1;
    } else {
        let found = format!("a file of a tree of {first} leaves or more");
        extra(findings, path, &found);
    }
}

fn extra(findings: &mut Findings<'_>, path: &Path, found: &str) {
    let length = fs::symlink_metadata(findings.dir.join(path)).map_or(0, |it| it.len());
    findings.report(path, DamageKind::Extra, (0, length), "no such file", found);
}
