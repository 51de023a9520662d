//! Making it durable: sled's `flush` does not, so what must be synced is synced here.
//!
//! sled 0.34 ends a flush on Linux with `sync_file_range`, which neither writes the file's length
//! nor empties the drive's cache (sled issues 1351 and 1452).

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Takes everything that was written to a database to the disk.
pub(super) trait Durable: Send {
    /// Returns when it is there. After an error nothing is known of what was written before.
    fn sync(&mut self) -> io::Result<()>;
}

/// Syncs the files of a sled database.
pub(super) struct SledFiles {
    /// Opened before the first write: the kernel reports a failed write-back once to each
    /// descriptor that was open.
    db: File,
    blobs: PathBuf,
    /// Blob files never change once written, so each is synced once.
    synced: HashSet<OsString>,
}

impl SledFiles {
    /// The files of the database in `dir`, which is open; syncs the folders themselves.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let files = Self {
            db: File::options()
                .read(true)
                .write(true)
                .open(dir.join("db"))?,
            blobs: dir.join("blobs"),
            synced: HashSet::new(),
        };
        File::open(dir.join("conf"))?.sync_all()?;
        File::open(dir)?.sync_all()?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        Ok(files)
    }

    /// Pages are kept below the size of a blob; were there one after all, it is synced too.
    fn sync_blobs(&mut self) -> io::Result<()> {
        let mut present = HashSet::new();
        let mut new = false;
        for entry in fs::read_dir(&self.blobs)? {
            let entry = entry?;
            let name = entry.file_name();
            if !self.synced.contains(&name) {
                match File::open(entry.path()) {
                    Ok(file) => file.sync_all()?,
                    // Collected by sled since the folder was listed.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                }
                new = true;
            }
            present.insert(name);
        }
        self.synced = present;
        if new {
            File::open(&self.blobs)?.sync_all()?;
        }
        Ok(())
    }
}

impl Durable for SledFiles {
    fn sync(&mut self) -> io::Result<()> {
        // Blobs first: what lies in `db` points at them.
        self.sync_blobs()?;
        self.db.sync_data()
    }
}
