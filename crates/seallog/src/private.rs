//! Private segments: the nonce and the record of each leaf, which no public tile holds.
//!
//! `private/<N>.records` holds 65,536 leaves' `nonce ‖ record` one after another, and `private/<N>.ends` for each of them a
//! big-endian u64: where it ends. A leaf's bytes begin where the one before it ends, so a place is found by two reads.
//! Publishing a batch again writes the same bytes to the same places.

use crate::disk::{Access, Disk, parent};
use crate::error::LogError;
use crate::leaf::{Leaf, NONCE_BYTES};
use crate::leaves::Leaves;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// How many leaves a segment holds.
pub(crate) const SEGMENT_LEAVES: u64 = 65_536;
/// What a leaf's place takes.
pub(crate) const END_BYTES: u64 = 8;
const FOLDER: &str = "private";
/// No leaf is longer: a damaged end never makes a reader allocate more.
pub(crate) const MAX_LEAF_BYTES: u64 = 64 * 1024;

/// The names of a segment's two files.
pub(crate) struct Segment {
    pub(crate) records: PathBuf,
    pub(crate) ends: PathBuf,
}

impl Segment {
    pub(crate) fn of(dir: &Path, index: u64) -> Self {
        let number = index / SEGMENT_LEAVES;
        let folder = dir.join(FOLDER);
        Self {
            records: folder.join(format!("{number:010}.records")),
            ends: folder.join(format!("{number:010}.ends")),
        }
    }

    /// Where the last leaf before `index` ends, if it is of this segment.
    pub(crate) fn end_before(&self, index: u64) -> Result<u64, LogError> {
        if index.is_multiple_of(SEGMENT_LEAVES) {
            return Ok(0);
        }
        let bounds = self.bounds(index - 1..index)?;
        Ok(bounds.first().map_or(0, |bounds| bounds.end))
    }

    /// [`Segment::bounds`], where each makes sense.
    pub(crate) fn checked_bounds(&self, range: Range<u64>) -> Result<Vec<Range<u64>>, LogError> {
        let bounds = self.bounds(range.clone())?;
        for (index, bounds) in range.zip(&bounds) {
            check(index, bounds)?;
        }
        Ok(bounds)
    }

    /// Where the bytes of each leaf in `range` begin and end. All lie in this segment.
    fn bounds(&self, range: Range<u64>) -> Result<Vec<Range<u64>>, LogError> {
        let first = range.start % SEGMENT_LEAVES;
        let from = first.saturating_sub(1);
        let count = range.end - range.start + (first - from);
        let bytes = read_at(&self.ends, from * END_BYTES, count * END_BYTES)?;
        let (ends, _) = bytes.as_chunks::<8>();
        let mut ends = ends.iter().map(|end| u64::from_be_bytes(*end));
        let mut start = if first == 0 {
            0
        } else {
            ends.next().unwrap_or_default()
        };
        let bounds = ends.map(|end| {
            let leaf = start..end;
            start = end;
            leaf
        });
        Ok(bounds.collect())
    }
}

/// What was written and is not synced.
#[derive(Debug, Default)]
pub(crate) struct Unsynced {
    /// Files with new contents.
    pub(crate) files: Vec<PathBuf>,
    /// Folders with new names.
    pub(crate) dirs: BTreeSet<PathBuf>,
}

/// Writes the leaves from `first_index` on.
pub(crate) fn write(
    disk: &mut Disk,
    dir: &Path,
    first_index: u64,
    leaves: &Leaves,
    unsynced: &mut Unsynced,
) -> Result<(), LogError> {
    disk.create_dirs(dir, &dir.join(FOLDER), Access::Owner)?;
    let (bytes, ends) = leaves.parts();
    let (mut index, mut from, mut rest) = (first_index, 0, ends);
    while !rest.is_empty() {
        let room = SEGMENT_LEAVES - index % SEGMENT_LEAVES;
        let take = usize::try_from(room).unwrap_or(usize::MAX).min(rest.len());
        let (now, later) = rest.split_at(take);
        let until = now.last().copied().unwrap_or(from);
        let bytes = bytes.get(from..until).unwrap_or_default();
        write_segment(disk, dir, index, bytes, (from, now), unsynced)?;
        (index, from, rest) = (index + room, until, later);
    }
    Ok(())
}

/// Writes leaves' bytes, and where each ends: `from` is the place of the first of `bytes` among all that `ends` counts.
fn write_segment(
    disk: &mut Disk,
    dir: &Path,
    index: u64,
    bytes: &[u8],
    (from, ends): (usize, &[usize]),
    unsynced: &mut Unsynced,
) -> Result<(), LogError> {
    let segment = Segment::of(dir, index);
    let place = index % SEGMENT_LEAVES;
    let start = segment.end_before(index)?;
    let mut places = Vec::with_capacity(ends.len() * 8);
    for end in ends {
        let end = u64::try_from(end - from).unwrap_or(u64::MAX);
        places.extend_from_slice(&(start + end).to_be_bytes());
    }
    disk.write_at(&segment.records, start, bytes)?;
    disk.write_at(&segment.ends, place * END_BYTES, &places)?;
    if place == 0 {
        // The segment's files are new in their folder.
        unsynced.dirs.insert(parent(&segment.records).to_path_buf());
    }
    unsynced.files.extend([segment.records, segment.ends]);
    Ok(())
}

/// Removes what lies beyond `size`: what a batch left that was never staged, or thrown away. Nothing of it is needed, and
/// bytes that nothing accounts for would hide damage.
pub(crate) fn trim(disk: &mut Disk, dir: &Path, size: u64) -> Result<(), LogError> {
    let last = Segment::of(dir, size);
    if size.is_multiple_of(SEGMENT_LEAVES) {
        disk.remove(&last.records)?;
        return disk.remove(&last.ends);
    }
    // A batch never reaches farther than into the next segment.
    let next = Segment::of(dir, size.saturating_add(SEGMENT_LEAVES));
    disk.remove(&next.records)?;
    disk.remove(&next.ends)?;
    disk.cut(&last.records, last.end_before(size)?)?;
    disk.cut(&last.ends, size % SEGMENT_LEAVES * END_BYTES)
}

/// Reads the leaves of `range`, all of which must be published.
pub(crate) fn read(dir: &Path, range: Range<u64>) -> Result<Vec<Leaf>, LogError> {
    let mut leaves = Vec::new();
    let mut index = range.start;
    while index < range.end {
        let segment = Segment::of(dir, index);
        let until = range.end.min((index / SEGMENT_LEAVES + 1) * SEGMENT_LEAVES);
        let bounds = segment.checked_bounds(index..until)?;
        let (Some(first), Some(last)) = (bounds.first(), bounds.last()) else {
            break;
        };
        let bytes = read_at(&segment.records, first.start, last.end - first.start)?;
        for (index, bounds) in (index..until).zip(&bounds) {
            leaves.push(cut(index, &bytes, first.start, bounds)?);
        }
        index = until;
    }
    Ok(leaves)
}

fn check(index: u64, bounds: &Range<u64>) -> Result<(), LogError> {
    let length = bounds.end.checked_sub(bounds.start);
    if length.is_some_and(|length| length <= MAX_LEAF_BYTES) {
        return Ok(());
    }
    Err(damaged(index, "the place of its bytes makes no sense"))
}

fn cut(index: u64, bytes: &[u8], base: u64, bounds: &Range<u64>) -> Result<Leaf, LogError> {
    let place = |offset: u64| usize::try_from(offset.checked_sub(base)?).ok();
    let leaf = place(bounds.start).zip(place(bounds.end));
    let leaf = leaf.and_then(|(start, end)| bytes.get(start..end));
    let Some((nonce, record)) = leaf.and_then(|leaf| leaf.split_first_chunk::<NONCE_BYTES>())
    else {
        return Err(damaged(index, "it is shorter than its nonce"));
    };
    Ok(Leaf {
        nonce: *nonce,
        record: record.to_vec(),
    })
}

fn damaged(index: u64, reason: &str) -> LogError {
    LogError::RecordDamaged {
        index,
        reason: reason.to_owned(),
    }
}

fn read_at(path: &Path, offset: u64, length: u64) -> Result<Vec<u8>, LogError> {
    let read = || {
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        File::open(path)?.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    };
    read().map_err(|source| LogError::Io {
        action: "read",
        path: path.to_path_buf(),
        source,
    })
}
