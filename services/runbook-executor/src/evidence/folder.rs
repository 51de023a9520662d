//! A bundle's folder while it is written: every file once, private, synced, and hashed as it goes by.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};

use super::manifest::is_path;

/// The folder and the digests of what was written.
#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    files: BTreeMap<String, String>,
}

/// A file under way: pieces in, the digest out.
pub(super) struct Piecewise {
    path: String,
    file: io::BufWriter<File>,
    hash: Context,
}

impl Folder {
    /// An empty folder, in place of what an attempt that died left there. Blocks its thread, as everything here.
    pub(super) fn anew(dir: PathBuf) -> io::Result<Self> {
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        private_dirs(&dir)?;
        Ok(Self {
            dir,
            files: BTreeMap::new(),
        })
    }

    /// Begins a file.
    pub(super) fn open(&self, path: &str) -> io::Result<Piecewise> {
        if !is_path(path) || self.files.contains_key(path) {
            return Err(io::Error::other(format!(
                "{path:?} cannot be a new file of a bundle"
            )));
        }
        let full = self.dir.join(path);
        if let Some(parent) = full.parent() {
            private_dirs(parent)?;
        }
        let file = create(&full)?;
        Ok(Piecewise {
            path: path.to_owned(),
            file: io::BufWriter::new(file),
            hash: Context::new(&SHA256),
        })
    }

    /// Ends a file: durable from here on.
    pub(super) fn close(&mut self, file: Piecewise) -> io::Result<()> {
        file.file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?
            .sync_all()?;
        self.files
            .insert(file.path, hex::encode(file.hash.finish()));
        Ok(())
    }

    /// Writes a whole file.
    pub(super) fn add(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.open(path)?;
        file.write(bytes)?;
        self.close(file)
    }

    /// What was written so far.
    pub(super) fn files(&self) -> &BTreeMap<String, String> {
        &self.files
    }
}

impl Piecewise {
    /// Writes the next piece.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.file.write_all(bytes)
    }
}

/// Writes a new private file durably.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes the names in a folder, and in all below it, durable.
pub(super) fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        }
    }
    File::open(dir)?.sync_all()
}

/// Makes folders with mode 0700.
pub(super) fn private_dirs(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}
