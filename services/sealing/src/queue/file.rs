//! The queue's file on the disk: append and sync, or write anew and rename.

use super::frame::{self, Body, QueueDamage};
use super::state::State;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const NAME: &str = "queue";
const NEW: &str = "queue.new";
const LOCK: &str = "queue.lock";
/// What a crash tore is kept here: nobody was told of it, but somebody may want to see it.
const TORN: &str = "queue.torn";
/// A file below this is never written anew.
const SMALL_BYTES: u64 = 16 << 20;
/// What a ticket takes in the file, roughly: to see whether most of it is settled.
const ROUGH_TICKET_BYTES: u64 = 512;
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_RETRY: Duration = Duration::from_millis(5);

/// How an append failed.
#[derive(Debug)]
pub(super) enum AppendError {
    /// The file is as it was.
    NotWritten(io::Error),
    /// Nothing is known of what is on the disk.
    Broken(io::Error),
}

/// Makes what was written durable. Tests make it fail.
pub(super) type Sync = Box<dyn Fn(&File) -> io::Result<()> + Send>;

/// The one writer of the file.
pub(super) struct QueueFile {
    dir: PathBuf,
    file: File,
    length: u64,
    number: u64,
    sync: Sync,
    /// Held as long as this writes.
    _lock: File,
}

impl QueueFile {
    /// Opens the file in `dir` and reads it, or begins it.
    pub(super) fn open(dir: &Path, kept: usize) -> Result<(Self, State), QueueDamage> {
        let path = dir.join(NAME);
        Self::read(dir, &path, kept).map_err(|error| match error {
            Trouble::Damage(damage) => damage,
            Trouble::Io(error) => QueueDamage::Io { path, error },
        })
    }

    fn read(dir: &Path, path: &Path, kept: usize) -> Result<(Self, State), Trouble> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
        let lock = lock(&dir.join(LOCK))?;
        let file = options()
            .read(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let bytes = fs::read(path)?;
        let mut state = State::new(kept);
        let read = frame::read(&bytes, &mut state).map_err(|(offset, reason)| {
            Trouble::Damage(QueueDamage::Damaged {
                path: path.to_path_buf(),
                offset: u64::try_from(offset).unwrap_or(u64::MAX),
                reason,
            })
        })?;
        let length = u64::try_from(read.length).map_err(io::Error::other)?;
        if let Some(torn) = bytes.get(read.length..).filter(|torn| !torn.is_empty()) {
            tracing::warn!(
                bytes = torn.len(),
                "a crash tore the last group of the durable queue; none of its tickets was handed out"
            );
            fs::write(dir.join(TORN), torn)?;
            file.set_len(length)?;
        }
        file.sync_all()?;
        sync_dir(dir)?;
        let this = Self {
            dir: dir.to_path_buf(),
            file,
            length,
            number: read.last,
            sync: Box::new(File::sync_data),
            _lock: lock,
        };
        Ok((this, state))
    }

    /// The file with another way to sync.
    #[cfg(test)]
    pub(super) fn with_sync(self, sync: Sync) -> Self {
        Self { sync, ..self }
    }

    /// Appends a frame; returns when it is on the disk.
    pub(super) fn append(&mut self, body: &Body) -> Result<(), AppendError> {
        let frame = body.frame(self.number + 1);
        if let Err(error) = self.file.write_all_at(&frame, self.length) {
            // A full disk: what was written of it goes, and the queue goes on when there is room.
            return Err(match self.file.set_len(self.length) {
                Ok(()) => AppendError::NotWritten(error),
                Err(_) => AppendError::Broken(error),
            });
        }
        (self.sync)(&self.file).map_err(AppendError::Broken)?;
        self.length += u64::try_from(frame.len()).unwrap_or(u64::MAX);
        self.number += 1;
        Ok(())
    }

    /// Whether most of the file is settled and forgotten.
    pub(super) fn is_stale(&self, live: usize) -> bool {
        let live = u64::try_from(live).unwrap_or(u64::MAX);
        let wanted = live.saturating_mul(ROUGH_TICKET_BYTES);
        self.length > SMALL_BYTES && self.length > wanted.saturating_mul(2)
    }

    /// Removes what an earlier crash tore: it may hold leaves, too.
    pub(super) fn forget_torn(&self) -> io::Result<()> {
        match fs::remove_file(self.dir.join(TORN)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) => sync_dir(&self.dir),
            Err(_) => Ok(()),
        }
    }

    /// Writes everything anew, and puts it in the old file's place.
    pub(super) fn rewrite(&mut self, state: &State) -> io::Result<()> {
        let path = self.dir.join(NEW);
        let mut new = options().truncate(true).create(true).open(&path)?;
        let (mut number, mut length, mut body) = (0, 0, Body::default());
        let mut put = |body: &mut Body| {
            number += 1;
            let frame = std::mem::take(body).frame(number);
            length += u64::try_from(frame.len()).unwrap_or(u64::MAX);
            new.write_all(&frame)
        };
        let (settled, waiting) = state.everything();
        for (ticket, place) in settled {
            body.settled(ticket, place);
            if body.is_full() {
                put(&mut body)?;
            }
        }
        for (ticket, entry) in waiting {
            body.accepted(ticket, entry);
            if body.is_full() {
                put(&mut body)?;
            }
        }
        if !body.is_empty() {
            put(&mut body)?;
        }
        new.sync_all()?;
        fs::rename(&path, self.dir.join(NAME))?;
        sync_dir(&self.dir)?;
        (self.file, self.length, self.number) = (new, length, number);
        Ok(())
    }
}

fn options() -> fs::OpenOptions {
    let mut options = File::options();
    options.write(true).mode(0o600);
    options
}

/// Waits a while for a writer that is about to end.
fn lock(path: &Path) -> io::Result<File> {
    let file = options().create(true).truncate(false).open(path)?;
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(LOCK_RETRY);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()?;
    match dir.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

enum Trouble {
    Damage(QueueDamage),
    Io(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
