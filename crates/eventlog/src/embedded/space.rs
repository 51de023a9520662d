//! Room on the disk, asked before a group is written: a database that met a full disk in the middle of a write is good for nothing until it is opened again.

use std::io;
use std::path::Path;

/// What stays free whatever is asked: a segment of the database, and what it writes of its own accord. Less than the sealing service leaves free, so that what
/// happened can still be recorded when sealing has stopped.
const FLOOR_BYTES: u64 = 8 << 20;
/// What a byte of payload may take on the disk, with its indexes and the pages that are written anew.
const FACTOR: u64 = 4;

/// Bytes free to this process.
pub(super) type Free = dyn Fn() -> io::Result<u64> + Send;

/// Asks the file system of a folder.
pub(super) fn free_bytes(dir: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Why a group of `bytes` of payload cannot be written now.
pub(super) fn check(free: io::Result<u64>, bytes: usize) -> Result<(), String> {
    let free = free.map_err(|error| format!("the disk does not say how much is free: {error}"))?;
    let payload = u64::try_from(bytes).unwrap_or(u64::MAX);
    let needed = payload.saturating_mul(FACTOR).saturating_add(FLOOR_BYTES);
    if free < needed {
        return Err(format!(
            "the disk has {free} bytes free and {needed} are needed; free some space, it goes on by itself"
        ));
    }
    Ok(())
}
