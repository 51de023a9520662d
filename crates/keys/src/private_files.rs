//! Files that only their owner may read, written so that a crash leaves the old file or the new one.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use ring::rand::{SecureRandom, SystemRandom};

/// Mode of files with secrets.
pub const PRIVATE_FILE: u32 = 0o600;
/// Mode of files that anybody may read.
pub const PUBLIC_FILE: u32 = 0o644;
/// Mode of folders with secrets.
const PRIVATE_DIR: u32 = 0o700;
/// The permission bits of everybody but the owner.
const OTHERS: u32 = 0o077;
/// The mode bits that `chmod` sets.
const MODE_BITS: u32 = 0o7777;
/// Files being written carry this ending until they are renamed.
const TEMPORARY: &str = ".tmp";
/// How often a busy lock is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(5);

/// Why a file of secrets could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system said no.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Others than the owner have access.
    #[error("{} has mode {mode:04o} and is open to other users: run `chmod {wanted:o} {}`", path.display(), path.display())]
    TooOpen {
        /// The file or folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The mode it should have.
        wanted: u32,
    },
    /// The file is longer than anything this program writes there.
    #[error("{} is longer than {limit} bytes and was not written by this program", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// Another process held the lock for too long.
    #[error("another process has held the lock {} for {waited_ms} ms: stop it, then try again", path.display())]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// How long was waited, in milliseconds.
        waited_ms: u128,
    },
}

impl FileError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// Whether the file was simply not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Makes `dir` and its parents with mode 0700, or checks that an existing one is closed to others.
pub fn private_dir(dir: &Path) -> Result<(), FileError> {
    DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE_DIR)
        .create(dir)
        .map_err(FileError::io("make the folder", dir))?;
    let metadata = dir
        .metadata()
        .map_err(FileError::io("look at the folder", dir))?;
    closed_to_others(dir, metadata.mode(), PRIVATE_DIR)
}

/// Reads a file of secrets of at most `limit` bytes, refusing one that others can read or write.
pub fn read_private(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let file = File::open(path).map_err(FileError::io("open", path))?;
    let metadata = file.metadata().map_err(FileError::io("look at", path))?;
    closed_to_others(path, metadata.mode(), PRIVATE_FILE)?;
    read_limited(file, path, limit)
}

/// Reads a public file of at most `limit` bytes.
pub fn read_public(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let file = File::open(path).map_err(FileError::io("open", path))?;
    read_limited(file, path, limit)
}

/// Replaces `path` by `content` atomically and durably, with `mode`.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let temporary = write_temporary(path, content, mode)?;
    std::fs::rename(&temporary, path).map_err(FileError::io("rename into place", path))?;
    sync_parent(path)
}

/// Makes `path` with `content` atomically and durably. Answers false, and changes nothing, if it is already there.
pub fn create(path: &Path, content: &[u8], mode: u32) -> Result<bool, FileError> {
    let temporary = write_temporary(path, content, mode)?;
    // A link, unlike a rename, never replaces a file that another process made meanwhile.
    let linked = std::fs::hard_link(&temporary, path);
    std::fs::remove_file(&temporary).map_err(FileError::io("remove", &temporary))?;
    match linked {
        Ok(()) => sync_parent(path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(FileError::io("make", path)(error)),
    }
}

/// As [`replace`], and then overwrites the bytes of the file that was there, so that they do not stay behind in free
/// blocks. Journals, snapshots and flash storage may still hold them.
pub fn replace_and_scrub(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let mut old = OpenOptions::new()
        .write(true)
        .open(path)
        .map_err(FileError::io("open", path))?;
    let length = old
        .metadata()
        .map_err(FileError::io("look at", path))?
        .len();
    replace(path, content, mode)?;
    io::copy(&mut io::repeat(0).take(length), &mut old)
        .and_then(|_| old.sync_all())
        .map_err(FileError::io("overwrite the old content of", path))
}

/// Removes what a crashed writer left in `dir`. Call it only while no writer can be at work there.
pub fn remove_leftovers(dir: &Path) -> Result<(), FileError> {
    let entries = std::fs::read_dir(dir).map_err(FileError::io("list", dir))?;
    for entry in entries {
        let entry = entry.map_err(FileError::io("list", dir))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') && name.ends_with(TEMPORARY) {
            let path = entry.path();
            std::fs::remove_file(&path).map_err(FileError::io("remove", &path))?;
        }
    }
    Ok(())
}

/// An exclusive lock between processes, held until dropped.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

impl FileLock {
    /// Takes the lock file `path`, made on first use, waiting at most `patience`. Blocks its thread.
    pub fn take(path: &Path, patience: Duration) -> Result<Self, FileError> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(PRIVATE_FILE)
            .open(path)
            .map_err(FileError::io("open the lock", path))?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::Error(error)) => {
                    return Err(FileError::io("lock", path)(error));
                }
                Err(TryLockError::WouldBlock) if start.elapsed() >= patience => {
                    return Err(FileError::Busy {
                        path: path.to_owned(),
                        waited_ms: start.elapsed().as_millis(),
                    });
                }
                Err(TryLockError::WouldBlock) => thread::sleep(LOCK_RETRY),
            }
        }
    }
}

fn closed_to_others(path: &Path, mode: u32, wanted: u32) -> Result<(), FileError> {
    if mode & OTHERS == 0 {
        return Ok(());
    }
    Err(FileError::TooOpen {
        path: path.to_owned(),
        mode: mode & MODE_BITS,
        wanted,
    })
}

fn read_limited(file: File, path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let mut content = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut content)
        .map_err(FileError::io("read", path))?;
    if u64::try_from(content.len()).is_ok_and(|length| length <= limit) {
        return Ok(content);
    }
    Err(FileError::TooLarge {
        path: path.to_owned(),
        limit,
    })
}

fn write_temporary(path: &Path, content: &[u8], mode: u32) -> Result<PathBuf, FileError> {
    let mut random = [0_u8; 8];
    SystemRandom::new().fill(&mut random).map_err(|_| {
        FileError::io("name a temporary file for", path)(io::Error::other("no randomness"))
    })?;
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let temporary = path.with_file_name(format!(".{name}.{}{TEMPORARY}", hex::encode(random)));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .map_err(FileError::io("make", &temporary))?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .map_err(FileError::io("write", &temporary))?;
    Ok(temporary)
}

/// Makes a name in the folder of `path` durable.
pub fn sync_parent(path: &Path) -> Result<(), FileError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    File::open(parent)
        .and_then(|dir| dir.sync_all())
        .map_err(FileError::io("sync the folder", parent))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_open_to_others_is_refused_with_the_command_that_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        replace(&path, b"x", PRIVATE_FILE).unwrap();
        assert_eq!(read_private(&path, 10).unwrap(), b"x");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = read_private(&path, 10).unwrap_err().to_string();
        assert!(
            error.contains("chmod 600 ") && error.contains("0640"),
            "{error}"
        );
    }

    #[test]
    fn only_the_first_creation_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("guard");
        assert!(create(&path, b"first", PRIVATE_FILE).unwrap());
        assert!(!create(&path, b"second", PRIVATE_FILE).unwrap());
        assert_eq!(read_private(&path, 10).unwrap(), b"first");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn leftovers_of_a_crash_are_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(".k.00.tmp"), b"half").unwrap();
        std::fs::write(dir.path().join("k"), b"whole").unwrap();
        remove_leftovers(dir.path()).unwrap();
        assert!(dir.path().join("k").exists());
        assert!(!dir.path().join(".k.00.tmp").exists());
    }

    #[test]
    fn a_held_lock_is_reported_busy_and_free_again_after() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = FileLock::take(&path, Duration::ZERO).unwrap();
        let error = FileLock::take(&path, Duration::ZERO).unwrap_err();
        assert!(matches!(error, FileError::Busy { .. }), "{error}");
        drop(held);
        FileLock::take(&path, Duration::from_secs(5)).unwrap();
    }

    #[test]
    fn an_over_long_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("big");
        replace(&path, b"12345", PUBLIC_FILE).unwrap();
        assert!(read_public(&path, 5).is_ok());
        assert!(matches!(
            read_public(&path, 4),
            Err(FileError::TooLarge { .. })
        ));
    }
}
