//! Free space, asked before a request is accepted: a full disk is then an answer and not a failed fsync.

use crate::error::LogError;
use std::path::Path;

/// What stays free whatever is asked: room to finish the batch in hand, its tiles and its checkpoint.
pub const SPACE_FLOOR_BYTES: u64 = 16 * 1024 * 1024;

/// Too little free space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the disk has {free} bytes free and {needed} are needed; free some space, sealing resumes by itself"
)]
pub struct NoSpace {
    /// Bytes free to this process.
    pub free: u64,
    /// Bytes asked for, with the floor.
    pub needed: u64,
}

/// Why space was not reserved.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// Too little is free.
    #[error(transparent)]
    NoSpace(#[from] NoSpace),
    /// The file system did not say how much is free.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Checks that `bytes`, everything accepted and not yet published, fit beside the floor.
pub(crate) fn reserve(dir: &Path, bytes: u64) -> Result<(), ReserveError> {
    let stat = rustix::fs::statvfs(dir).map_err(|error| LogError::Io {
        action: "ask the free space of",
        path: dir.to_path_buf(),
        source: error.into(),
    })?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let needed = bytes.saturating_add(SPACE_FLOOR_BYTES);
    if free < needed {
        Err(NoSpace { free, needed }.into())
    } else {
        Ok(())
    }
}
