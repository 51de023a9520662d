//! Erasing private records: nonce and record of a leaf become zeros, where they stand. Its public entry stays, so the tree, every
//! seal file that somebody holds, and every mirror still verify; without the nonce nobody can say what the entry commits to.
//!
//! Overwritten in place and synced, which is all that a program can do: what a copy-on-write file system, a snapshot, a disk's own
//! spare blocks or a backup keep is out of its reach.

use crate::disk::Disk;
use crate::error::LogError;
use crate::faults::{Faults, NoFaults};
use crate::private::{SEGMENT_LEAVES, Segment};
use crate::view::LogReader;
use std::fs;
use std::ops::Range;
use std::sync::Arc;

/// Written at once.
const BLOCK_BYTES: u64 = 1 << 20;

impl LogReader {
    /// Overwrites nonces and records of published leaves with zeros; durable when it returns. Doing it again changes nothing, and after a
    /// crash in the middle doing it again finishes it. It may run beside the log's writer, which only appends. After
    /// [`LogError::Poisoned`] or a failed sync the process must end. Answers how many leaves the places have.
    ///
    /// The caller has recorded durably, before, that exactly these places are erased: nothing here says why.
    pub fn erase(&self, places: &[Range<u64>]) -> Result<u64, LogError> {
        self.erase_with(places, Arc::new(NoFaults))
    }

    /// [`LogReader::erase`] with faults, for tests.
    pub fn erase_with(
        &self,
        places: &[Range<u64>],
        faults: Arc<dyn Faults>,
    ) -> Result<u64, LogError> {
        let size = self.view()?.size();
        let mut disk = Disk::new(faults);
        let (mut erased, mut unsynced) = (0, Vec::new());
        for place in places.iter().filter(|place| place.start < place.end) {
            if place.end > size {
                let index = place.end - 1;
                return Err(LogError::NoLeaf { index, size });
            }
            let mut index = place.start;
            while index < place.end {
                let until = place.end.min((index / SEGMENT_LEAVES + 1) * SEGMENT_LEAVES);
                let segment = Segment::of(self.dir(), index);
                zero(&mut disk, &segment, index..until)?;
                if unsynced.last() != Some(&segment.records) {
                    unsynced.push(segment.records);
                }
                index = until;
            }
            erased += place.end - place.start;
        }
        unsynced.sort_unstable();
        unsynced.dedup();
        for path in &unsynced {
            disk.sync_file(path)?;
        }
        Ok(erased)
    }
}

/// Neighbouring leaves of one segment are neighbouring bytes.
fn zero(disk: &mut Disk, segment: &Segment, leaves: Range<u64>) -> Result<(), LogError> {
    let index = leaves.start;
    let bounds = segment.checked_bounds(leaves)?;
    let (Some(first), Some(last)) = (bounds.first(), bounds.last()) else {
        return Ok(());
    };
    let length = fs::metadata(&segment.records).map(|found| found.len());
    let length = length.map_err(|source| LogError::Io {
        action: "read",
        path: segment.records.clone(),
        source,
    })?;
    if last.end > length {
        let reason = format!(
            "its segment ends at byte {length}, before byte {}",
            last.end
        );
        return Err(LogError::RecordDamaged { index, reason });
    }
    let mut at = first.start;
    while at < last.end {
        let count = (last.end - at).min(BLOCK_BYTES);
        let zeros = vec![0; usize::try_from(count).unwrap_or_default()];
        disk.write_at(&segment.records, at, &zeros)?;
        at += count;
    }
    Ok(())
}
