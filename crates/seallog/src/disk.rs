//! Durable changes to the log's folder: each one passes the fault seam, and a failed sync poisons the writer.
//!
//! After a failed fsync the kernel may have thrown the dirty pages away and answer the next fsync with success, so the
//! only safe state is the one that a fresh process reads from the disk.

use crate::error::LogError;
use crate::faults::{Fault, Faults, Operation};
use crate::syncers::Syncers;
use crate::whole::Opened;
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files being written carry this ending until they are renamed.
const TEMPORARY: &str = ".tmp";
/// So many syncs at once are faster one by one, and do not wait for what others write.
const MOST_SYNCS: usize = 16;
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
    /// The log's folder, open since before the first write, where its file system can be synced as a whole.
    opened: Option<Arc<Opened>>,
    /// More syncs than this at once are left to one of the whole file system.
    most_syncs: usize,
    /// Folders whose names this process has made durable, so that each is synced once and not for every batch.
    durable: BTreeSet<PathBuf>,
    /// Folders in use whose names are not known to be durable yet.
    fresh: BTreeSet<PathBuf>,
    syncers: Syncers,
}

impl Disk {
    pub(crate) fn new(faults: Arc<dyn Faults>) -> Self {
        Self {
            faults,
            poisoned: None,
            opened: None,
            most_syncs: usize::MAX,
            durable: BTreeSet::new(),
            fresh: BTreeSet::new(),
            syncers: Syncers::default(),
        }
    }

    /// Opens the log's folder, which is there by now: many syncs at once become one where that is as good.
    pub(crate) fn open(&mut self, dir: &Path) -> Result<(), LogError> {
        let opened = Opened::at(dir).map_err(|source| LogError::Io {
            action: "open",
            path: dir.to_path_buf(),
            source,
        })?;
        if let Some(opened) = opened {
            self.opened = Some(Arc::new(opened));
            self.most_syncs = MOST_SYNCS;
        }
        Ok(())
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

    /// Writes a whole file, without syncing it. Whoever reads it meanwhile sees a part.
    pub(crate) fn write(
        &mut self,
        path: &Path,
        bytes: &[u8],
        access: Access,
    ) -> Result<(), LogError> {
        let mode = access.file_mode();
        self.run(Operation::Write(path), |torn| {
            let length = if torn { bytes.len() / 2 } else { bytes.len() };
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(mode);
            options.open(path)?.write_all(&bytes[..length])
        })
    }

    /// Writes a whole file under its temporary name, without syncing it.
    pub(crate) fn write_temporary(
        &mut self,
        path: &Path,
        bytes: &[u8],
        access: Access,
    ) -> Result<(), LogError> {
        self.write(&temporary(path), bytes, access)
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

    /// Takes a file its name: what it says does not count any more. Durable after [`Disk::sync_dir`] of its folder.
    pub(crate) fn withdraw(&mut self, path: &Path) -> Result<(), LogError> {
        let temporary = temporary(path);
        self.run(Operation::Rename(path, &temporary), |_| {
            fs::rename(path, &temporary)
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

    /// Makes contents of `files` and names in `dirs`, and the names of all fresh folders, durable: in any order and at once, so
    /// that a journal commits them together. Nothing may count before all of it does.
    pub(crate) fn sync_all(
        &mut self,
        files: &[PathBuf],
        mut dirs: BTreeSet<PathBuf>,
    ) -> Result<(), LogError> {
        dirs.extend(self.fresh.iter().map(|path| parent(path).to_path_buf()));
        if files.len() + dirs.len() > self.most_syncs {
            self.sync_file_system()?;
        } else {
            self.sync_each(files, &dirs)?;
        }
        if self.durable.len() >= REMEMBERED_FOLDERS {
            self.durable.clear();
        }
        self.durable.append(&mut self.fresh);
        Ok(())
    }

    /// One call for all that was written to the log's file system. Linux tells it of every write that failed since the folder
    /// was opened, so it is as good as a sync of each file, where [`whole`] allows it.
    fn sync_file_system(&mut self) -> Result<(), LogError> {
        let Some(opened) = self.opened.clone() else {
            return Ok(());
        };
        self.run(Operation::SyncAll(&opened.path), |_| {
            Ok(rustix::fs::syncfs(&opened.file)?)
        })
    }

    fn sync_each(&mut self, files: &[PathBuf], dirs: &BTreeSet<PathBuf>) -> Result<(), LogError> {
        self.check()?;
        let all: Vec<_> = files
            .iter()
            .map(|path| Operation::SyncFile(path))
            .chain(dirs.iter().map(|path| Operation::SyncDir(path)))
            .collect();
        // The seam hears of them one after another; those before a fault are carried out.
        let passed = all
            .iter()
            .position(|operation| self.faults.before(*operation) != Fault::None)
            .unwrap_or(all.len());
        let (ready, stopped) = all.split_at(passed);
        let injected = stopped
            .first()
            .map(|operation| (*operation, io::Error::other("injected failure")));
        let failed = self
            .syncers
            .sync(ready)
            .and_then(|(place, error)| Some((*ready.get(place)?, error)));
        let Some((operation, source)) = failed.or(injected) else {
            return Ok(());
        };
        let (action, path) = describe(operation);
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

    /// Shortens a file to `length`, if it is there and longer.
    pub(crate) fn cut(&mut self, path: &Path, length: u64) -> Result<(), LogError> {
        match fs::metadata(path) {
            Ok(found) if found.len() > length => self.run(Operation::Cut(path), |_| {
                OpenOptions::new().write(true).open(path)?.set_len(length)
            }),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(LogError::Io {
                action: "read",
                path: path.to_path_buf(),
                source,
            }),
        }
    }

    /// Removes a file, if it is there.
    pub(crate) fn remove(&mut self, path: &Path) -> Result<(), LogError> {
        if !path.exists() {
            return Ok(());
        }
        self.run(Operation::Remove(path), |_| match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        })
    }

    /// Makes a folder and those above it, up to `base`. Their names are durable after [`Disk::sync_all`].
    ///
    /// A folder that is already there counts as fresh too: it may stem from a process that died before it synced.
    pub(crate) fn create_dirs(
        &mut self,
        base: &Path,
        path: &Path,
        access: Access,
    ) -> Result<(), LogError> {
        let top = path == base || path == Path::new(".") || path.parent().is_none();
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

    fn run(
        &mut self,
        operation: Operation<'_>,
        perform: impl FnOnce(bool) -> io::Result<()>,
    ) -> Result<(), LogError> {
        self.check()?;
        let (action, path) = describe(operation);
        let is_write = matches!(operation, Operation::Write(_) | Operation::WriteAt(_));
        let is_sync = matches!(
            operation,
            Operation::SyncFile(_) | Operation::SyncDir(_) | Operation::SyncAll(_)
        );
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

fn describe(operation: Operation<'_>) -> (&'static str, &Path) {
    match operation {
        Operation::CreateDir(path) => ("make the folder", path),
        Operation::Write(path) | Operation::WriteAt(path) => ("write", path),
        Operation::SyncFile(path) => ("sync the file", path),
        Operation::Rename(_, path) => ("rename into place", path),
        Operation::SyncDir(path) => ("sync the folder", path),
        Operation::SyncAll(path) => ("sync the file system of", path),
        Operation::Cut(path) => ("shorten", path),
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
