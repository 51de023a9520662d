//! Durable changes to the log's folder: each one passes the fault seam, and a failed sync poisons the writer.
//!
//! After a failed fsync the kernel may have thrown the dirty pages away and answer the next fsync with success, so the
//! only safe state is the one that a fresh process reads from the disk.

use crate::error::LogError;
use crate::faults::{Fault, Faults, Operation};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files being written carry this ending until they are renamed.
const TEMPORARY: &str = ".tmp";
/// How many files are synced at once.
const SYNC_THREADS: usize = 8;
/// How many durable folders are remembered before the memory starts anew.
const REMEMBERED_FOLDERS: usize = 1024;

/// Who may read what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Everybody: it is published anyway.
    Public,
    /// Only the user that runs the log.
    Owner,
}

impl Access {
    fn file_mode(self) -> u32 {
        match self {
            Self::Public => 0o644,
            Self::Owner => 0o600,
        }
    }

    fn folder_mode(self) -> u32 {
        match self {
            Self::Public => 0o755,
            Self::Owner => 0o700,
        }
    }
}

/// The one place that changes files.
#[derive(Debug)]
pub(crate) struct Disk {
    faults: Arc<dyn Faults>,
    poisoned: Option<String>,
    /// Folders whose names this process has made durable, so that each is synced once and not for every batch.
    durable: BTreeSet<PathBuf>,
    /// Folders in use whose names are not known to be durable yet.
    fresh: BTreeSet<PathBuf>,
}

impl Disk {
    pub(crate) fn new(faults: Arc<dyn Faults>) -> Self {
        Self {
            faults,
            poisoned: None,
            durable: BTreeSet::new(),
            fresh: BTreeSet::new(),
        }
    }

    /// Fails if an earlier sync failed.
    pub(crate) fn check(&self) -> Result<(), LogError> {
        match &self.poisoned {
            Some(cause) => Err(LogError::Poisoned {
                cause: cause.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Writes a whole file under its temporary name, without syncing it.
    pub(crate) fn write_temporary(
        &mut self,
        path: &Path,
        bytes: &[u8],
        access: Access,
    ) -> Result<(), LogError> {
        let temporary = temporary(path);
        let mode = access.file_mode();
        self.run(Operation::Write(&temporary), |torn| {
            let length = if torn { bytes.len() / 2 } else { bytes.len() };
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(mode);
            options.open(&temporary)?.write_all(&bytes[..length])
        })
    }

    /// Makes a file's temporary contents durable.
    pub(crate) fn sync_temporary(&mut self, path: &Path) -> Result<(), LogError> {
        self.sync_file(&temporary(path))
    }

    /// Gives a file its name. Durable after [`Disk::sync_dir`] of its folder.
    pub(crate) fn commit_temporary(&mut self, path: &Path) -> Result<(), LogError> {
        let temporary = temporary(path);
        self.run(Operation::Rename(&temporary, path), |_| {
            fs::rename(&temporary, path)
        })
    }

    /// Replaces a file durably: after this call it holds `bytes`, whatever happens.
    pub(crate) fn replace(
        &mut self,
        path: &Path,
        bytes: &[u8],
        access: Access,
    ) -> Result<(), LogError> {
        self.write_temporary(path, bytes, access)?;
        self.sync_temporary(path)?;
        self.commit_temporary(path)?;
        self.sync_dir(parent(path))
    }

    /// As [`Self::replace`], but asks `may` when nothing is left to do but the rename, and leaves the file as it is if the answer is no.
    pub(crate) fn replace_if(
        &mut self,
        path: &Path,
        bytes: &[u8],
        access: Access,
        may: impl FnOnce() -> bool,
    ) -> Result<bool, LogError> {
        self.write_temporary(path, bytes, access)?;
        self.sync_temporary(path)?;
        if !may() {
            return Ok(false);
        }
        self.commit_temporary(path)?;
        self.sync_dir(parent(path))?;
        Ok(true)
    }

    /// Writes inside a file that only its owner may read, creating it if it is not there.
    pub(crate) fn write_at(
        &mut self,
        path: &Path,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), LogError> {
        let mode = Access::Owner.file_mode();
        self.run(Operation::WriteAt(path), |torn| {
            let length = if torn { bytes.len() / 2 } else { bytes.len() };
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(mode);
            options.open(path)?.write_all_at(&bytes[..length], offset)
        })
    }

    /// Makes a file's contents durable.
    pub(crate) fn sync_file(&mut self, path: &Path) -> Result<(), LogError> {
        self.run(Operation::SyncFile(path), |_| File::open(path)?.sync_data())
    }

    /// Makes the contents of several files durable, in any order and at once: a journal then commits them together, where one
    /// sync after another waits for the disk each time.
    pub(crate) fn sync_files(&mut self, paths: &[PathBuf]) -> Result<(), LogError> {
        self.sync_together(paths, Operation::SyncFile, |path| {
            File::open(path)?.sync_data()
        })
    }

    fn sync_together<'a>(
        &mut self,
        paths: &'a [PathBuf],
        operation: impl Fn(&'a Path) -> Operation<'a>,
        sync: impl Fn(&Path) -> io::Result<()> + Sync,
    ) -> Result<(), LogError> {
        self.check()?;
        // The seam hears of them one after another; those before a fault are carried out.
        let faults = Arc::clone(&self.faults);
        let passed = paths
            .iter()
            .position(|path| faults.before(operation(path)) != Fault::None)
            .unwrap_or(paths.len());
        let (ready, stopped) = paths.split_at(passed);
        let injected = stopped
            .first()
            .map(|path| (path, io::Error::other("injected failure")));
        let Some((path, source)) = sync_all(ready, &sync).or(injected) else {
            return Ok(());
        };
        let (action, path) = describe(operation(path));
        self.poisoned = Some(format!("cannot {action} {}: {source}", path.display()));
        Err(LogError::Io {
            action,
            path: path.to_path_buf(),
            source,
        })
    }

    /// Makes the names in a folder durable.
    pub(crate) fn sync_dir(&mut self, path: &Path) -> Result<(), LogError> {
        self.run(Operation::SyncDir(path), |_| File::open(path)?.sync_all())
    }

    /// Removes a file, if it is there.
    pub(crate) fn remove(&mut self, path: &Path) -> Result<(), LogError> {
        self.run(Operation::Remove(path), |_| match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        })
    }

    /// Makes a folder and those above it, up to `base`. Their names are durable after [`Disk::sync_dirs`].
    ///
    /// A folder that is already there counts as fresh too: it may stem from a process that died before it synced.
    pub(crate) fn create_dirs(
        &mut self,
        base: &Path,
        path: &Path,
        access: Access,
    ) -> Result<(), LogError> {
        let top = path == base || path.parent().is_none() || path.as_os_str().is_empty();
        if top || self.durable.contains(path) || self.fresh.contains(path) {
            return Ok(());
        }
        self.create_dirs(base, parent(path), access)?;
        if !path.is_dir() {
            self.run(Operation::CreateDir(path), |_| {
                match DirBuilder::new().mode(access.folder_mode()).create(path) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                    outcome => outcome,
                }
            })?;
        }
        self.fresh.insert(path.to_path_buf());
        Ok(())
    }

    /// Makes the names in `changed`, and of all fresh folders, durable.
    pub(crate) fn sync_dirs(&mut self, mut changed: BTreeSet<PathBuf>) -> Result<(), LogError> {
        changed.extend(self.fresh.iter().map(|path| parent(path).to_path_buf()));
        let changed: Vec<_> = changed.into_iter().collect();
        self.sync_together(&changed, Operation::SyncDir, |path| {
            File::open(path)?.sync_all()
        })?;
        if self.durable.len() >= REMEMBERED_FOLDERS {
            self.durable.clear();
        }
        self.durable.append(&mut self.fresh);
        Ok(())
    }

    fn run(
        &mut self,
        operation: Operation<'_>,
        perform: impl FnOnce(bool) -> io::Result<()>,
    ) -> Result<(), LogError> {
        self.check()?;
        let (action, path) = describe(operation);
        let is_write = matches!(operation, Operation::Write(_) | Operation::WriteAt(_));
        let is_sync = matches!(operation, Operation::SyncFile(_) | Operation::SyncDir(_));
        let (outcome, dies) = match self.faults.before(operation) {
            Fault::None => (perform(false), false),
            Fault::Fail => (Err(io::Error::other("injected failure")), false),
            Fault::Tear if is_write => (
                perform(true).and_then(|()| Err(io::Error::other("torn write"))),
                true,
            ),
            Fault::Crash | Fault::Tear => (Err(io::Error::other("injected crash")), true),
        };
        outcome.map_err(|source| {
            if is_sync || dies {
                self.poisoned = Some(format!("cannot {action} {}: {source}", path.display()));
            }
            LogError::Io {
                action,
                path: path.to_path_buf(),
                source,
            }
        })
    }
}

/// Syncs on a few threads; answers the first that failed.
fn sync_all<'a>(
    paths: &'a [PathBuf],
    sync: &(impl Fn(&Path) -> io::Result<()> + Sync),
) -> Option<(&'a PathBuf, io::Error)> {
    let some = |paths: &'a [PathBuf]| {
        let mut failed = paths.iter().map(|path| (path, sync(path)));
        failed.find_map(|(path, outcome)| Some((path, outcome.err()?)))
    };
    if paths.len() < 2 {
        return some(paths);
    }
    std::thread::scope(|scope| {
        let parts = paths.chunks(paths.len().div_ceil(SYNC_THREADS));
        let threads: Vec<_> = parts
            .map(|part| (part, scope.spawn(move || some(part))))
            .collect();
        let ended = threads.into_iter().map(|(part, thread)| {
            // A thread that panicked synced nothing for certain.
            thread
                .join()
                .unwrap_or_else(|_| Some((part.first()?, io::Error::other("the sync panicked"))))
        });
        ended.fold(None, Option::or)
    })
}

fn describe(operation: Operation<'_>) -> (&'static str, &Path) {
    match operation {
        Operation::CreateDir(path) => ("make the folder", path),
        Operation::Write(path) | Operation::WriteAt(path) => ("write", path),
        Operation::SyncFile(path) => ("sync the file", path),
        Operation::Rename(_, path) => ("rename into place", path),
        Operation::SyncDir(path) => ("sync the folder", path),
        Operation::Remove(path) => ("remove", path),
    }
}

/// The name that a file has until it is renamed.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(TEMPORARY);
    PathBuf::from(name)
}

/// The folder that holds a file; the log's own paths always have one.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|path| !path.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Reads a whole file; `None` if it is not there.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, LogError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(LogError::Io {
            action: "read",
            path: path.to_path_buf(),
            source,
        }),
    }
}
