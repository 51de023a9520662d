//! A seam for tests: what happens at each operation that changes the disk.
//!
//! Every change to a seal log's folder passes through here first, so that a test can end the "process" at any of them
//! and knows what had and what had not reached the disk.

use std::path::Path;

/// One change to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Make one folder.
    CreateDir(&'a Path),
    /// Create a file, or replace its whole contents.
    Write(&'a Path),
    /// Write at a place inside a file, creating it if it is not there.
    WriteAt(&'a Path),
    /// `fdatasync` or `fsync` of a file.
    SyncFile(&'a Path),
    /// Put the first path in the place of the second.
    Rename(&'a Path, &'a Path),
    /// `fsync` of a folder.
    SyncDir(&'a Path),
    /// `syncfs`: everything that was written to the file system of this folder.
    SyncAll(&'a Path),
    /// Shorten a file.
    Cut(&'a Path),
    /// Remove a file.
    Remove(&'a Path),
}

/// What is to happen instead of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: carry it out.
    None,
    /// The process dies before it. Everything after fails.
    Crash,
    /// A write stops half-way and the process dies. Operations that are not writes die before they begin.
    Tear,
    /// The operation is answered with an error, and the process lives.
    Fail,
}

/// Decides, for each operation, whether it is carried out.
pub trait Faults: Send + Sync + std::fmt::Debug {
    /// Called before every operation, in order.
    fn before(&self, operation: Operation<'_>) -> Fault;
}

/// What everybody but tests uses: no faults.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFaults;

impl Faults for NoFaults {
    fn before(&self, _operation: Operation<'_>) -> Fault {
        Fault::None
    }
}
