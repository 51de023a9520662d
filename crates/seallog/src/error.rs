//! What can go wrong with a log's files, and what to do then.

use std::io;
use std::path::PathBuf;

/// Why the log cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The operating system said no.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A sync failed earlier, so what is on the disk is not known any more.
    #[error("the log stopped after a failed write ({cause}); end the process and start it again")]
    Poisoned {
        /// The first failure.
        cause: String,
    },
    /// Another process writes this log.
    #[error("{} is in use by another process; a log has one writer, stop the other one", dir.display())]
    Locked {
        /// The log's folder.
        dir: PathBuf,
    },
    /// The folder holds no log, or another one.
    #[error("{} is not the log that was asked for: {reason}", dir.display())]
    Identity {
        /// The log's folder.
        dir: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The checkpoint is not readable, not ours, or gone.
    #[error("the checkpoint {} cannot be used: {reason}; restore it from a copy that a witness cosigned", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A tile at the right edge of the tree is not what the published checkpoint says.
    #[error(
        "{tile} at the right edge of the tree is damaged: {reason}; restore it, nothing will be signed until then"
    )]
    RightEdgeDamaged {
        /// The tile's path, or the edge's paths where it cannot be told which.
        tile: String,
        /// What was found.
        reason: String,
    },
    /// A tile is missing or has the wrong length.
    #[error("{tile} is damaged: {reason}; restore it from a copy")]
    TileDamaged {
        /// The tile's path.
        tile: String,
        /// What was found.
        reason: String,
    },
    /// Tiles and checkpoint do not agree.
    #[error(
        "the log's tiles do not prove what its checkpoint says: {reason}; restore the tiles from a copy"
    )]
    Proof {
        /// What does not hold.
        reason: String,
    },
    /// A private record does not match its leaf.
    #[error(
        "the record of leaf {index} is damaged: {reason}; restore the private segment from a copy"
    )]
    RecordDamaged {
        /// The leaf.
        index: u64,
        /// What was found.
        reason: String,
    },
    /// A private record was overwritten with zeros.
    #[error(
        "the record of leaf {index} is erased: only its public entry is left, and seal files that were handed out"
    )]
    Erased {
        /// The leaf.
        index: u64,
    },
    /// The staged batch is not readable, or not one for this tree.
    #[error("the staged batch {} cannot be used: {reason}; it must be repaired by hand before anything is signed", path.display())]
    StagedDamaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A batch is staged already.
    #[error(
        "a batch that grows the log from {old_size} to {size} is staged; publish or discard it first"
    )]
    AlreadyStaged {
        /// The size before it.
        old_size: u64,
        /// The size after it.
        size: u64,
    },
    /// The batch given is not the one that is staged.
    #[error("the batch up to size {size} is not staged; stage it first")]
    NotStaged {
        /// The batch's size.
        size: u64,
    },
    /// An intent was recorded for the batch, so it can only be rolled forward.
    #[error(
        "the batch up to size {size} has a recorded intent; it can be published, not discarded"
    )]
    IntentRecorded {
        /// The batch's size.
        size: u64,
    },
    /// A batch without leaves, or with too many.
    #[error(
        "a batch of {leaves} leaves and {bytes} bytes is not allowed; give 1 to {max_leaves} leaves and at most {max_bytes} bytes"
    )]
    BatchSize {
        /// The leaves given.
        leaves: usize,
        /// Their bytes.
        bytes: usize,
        /// The most leaves.
        max_leaves: usize,
        /// The most bytes.
        max_bytes: usize,
    },
    /// A record is too long.
    #[error(
        "a record of {bytes} bytes is too long; records have at most {} bytes",
        crate::MAX_RECORD_BYTES
    )]
    RecordTooLong {
        /// Its bytes.
        bytes: usize,
    },
    /// A signed note does not belong to this log or batch.
    #[error("the signed checkpoint is not accepted: {reason}")]
    Note {
        /// What does not fit.
        reason: String,
    },
    /// The log has no such leaf.
    #[error("the log has {size} leaves, so there is no leaf {index}")]
    NoLeaf {
        /// The leaf asked for.
        index: u64,
        /// The published size.
        size: u64,
    },
}
