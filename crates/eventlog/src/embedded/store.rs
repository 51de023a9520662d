//! The sled database: opening it alone, and reading it no further than it is durable.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sled::IVec;
use tokio::sync::watch;

use super::layout;
use crate::commit::{ChainCheck, CommitId, Head, Recorded};
use crate::config::OpenError;
use crate::name::StreamName;
use crate::port::ReadError;
use crate::subscription::{Filter, PAGE_BYTES, PAGE_COMMITS, Page};

/// How long opening waits for the one who holds the folder: a process that is just stopping.
const LOCK_WAIT: Duration = Duration::from_secs(3);
/// How often it looks meanwhile; file locks cannot be awaited with a deadline.
const LOCK_RETRY: Duration = Duration::from_millis(20);
/// A quarter of it is the size from which sled puts a page of the tree into a file of its own:
/// 1 MiB, where our pages of pieces stay below 700 KiB.
const SEGMENT_BYTES: usize = 4 << 20;
/// What sled may keep of the tree in memory.
const CACHE_BYTES: u64 = 64 << 20;
/// Most commits that one page looks at when few of them match.
const SCAN_COMMITS: usize = 16_384;

/// The database, its lock and the position up to which it is durable.
pub(super) struct Store {
    pub(super) db: sled::Db,
    pub(super) dir: PathBuf,
    /// Readers see no commit beyond this position, whatever the tree already holds.
    pub(super) durable: watch::Sender<u64>,
    /// After `db`, so that it is released last.
    _lock: File,
}

impl Store {
    /// Opens the database in `dir` and makes durable what a killed process left in caches, so that
    /// readers may see it.
    pub(super) fn open(dir: &Path) -> Result<Self, OpenError> {
        let failed = |error: &dyn std::fmt::Display| OpenError::Unavailable {
            reason: format!("{}: {error}", dir.display()),
        };
        fs::create_dir_all(dir).map_err(|error| failed(&error))?;
        let deadline = Instant::now() + LOCK_WAIT;
        let lock = lock(dir, deadline)?;
        let db = open_db(dir, deadline)?;
        let store = Self {
            db,
            dir: dir.to_owned(),
            durable: watch::Sender::new(0),
            _lock: lock,
        };
        Ok(store)
    }

    /// The last commit in the tree, durable or not.
    pub(super) fn last(&self) -> Result<Option<Recorded>, ReadError> {
        let last = self
            .db
            .scan_prefix(b"c")
            .next_back()
            .transpose()
            .map_err(|error| read_error(&error))?;
        last.map(|(key, value)| self.decode(layout::position_of(&key)?, &value))
            .transpose()
    }

    fn get(&self, key: &[u8]) -> Result<Option<IVec>, ReadError> {
        self.db.get(key).map_err(|error| read_error(&error))
    }

    fn decode(&self, position: u64, value: &[u8]) -> Result<Recorded, ReadError> {
        layout::decode(position, value, |key| self.get(key))
    }

    fn at(&self, position: u64) -> Result<Recorded, ReadError> {
        let value = self
            .get(&layout::commit_key(position))?
            .ok_or_else(|| ReadError::Corrupt {
                reason: format!("the commit at position {position} is missing"),
            })?;
        self.decode(position, &value)
    }

    /// The head of a stream in the tree, durable or not: for the writer.
    pub(super) fn written_head(&self, stream: &StreamName) -> Result<Head, ReadError> {
        self.last_of(self.indexed(stream, 0, u64::MAX - 1))
    }

    /// The commit with this id in a stream, durable or not: for the writer.
    pub(super) fn written(
        &self,
        stream: &StreamName,
        id: CommitId,
    ) -> Result<Option<Recorded>, ReadError> {
        let Some(position) = self.get(&layout::id_key(stream, id))? else {
            return Ok(None);
        };
        let commit = self.at(layout::position_of(&position)?)?;
        if commit.stream != *stream || commit.commit_id != id {
            return Err(ReadError::Corrupt {
                reason: format!("the index of {stream} has another commit in place of {id}"),
            });
        }
        Ok(Some(commit))
    }

    /// The last durable commit of a stream.
    pub(super) fn head(&self, stream: &StreamName) -> Result<Head, ReadError> {
        let durable = *self.durable.borrow();
        self.last_of(self.indexed(stream, 0, durable))
    }

    fn last_of(
        &self,
        mut positions: impl DoubleEndedIterator<Item = Result<u64, ReadError>>,
    ) -> Result<Head, ReadError> {
        let last = positions.next_back().transpose()?;
        last.map_or(Ok(Head::EMPTY), |position| Ok(self.at(position)?.head()))
    }

    /// Positions of a stream after one and through another.
    fn indexed(
        &self,
        stream: &StreamName,
        after: u64,
        through: u64,
    ) -> impl DoubleEndedIterator<Item = Result<u64, ReadError>> {
        let end = through.saturating_add(1);
        let first = after.saturating_add(1).min(end);
        let range = layout::index_key(stream, first)..layout::index_key(stream, end);
        self.db
            .range(range)
            .keys()
            .map(|key| layout::position_of(&key.map_err(|error| read_error(&error))?))
    }

    /// Durable commits of a stream after a position, each checked against the one before it.
    pub(super) fn read(
        &self,
        stream: &StreamName,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Recorded>, ReadError> {
        let durable = *self.durable.borrow();
        let mut chain = ChainCheck::starting_after(after);
        let mut commits = Vec::new();
        for position in self.indexed(stream, after, durable).take(limit) {
            let commit = self.at(position?)?;
            if commit.stream != *stream {
                return Err(ReadError::Corrupt {
                    reason: format!(
                        "the index of {stream} points at a commit of {}, position {}",
                        commit.stream, commit.position
                    ),
                });
            }
            chain.follow(&commit)?;
            commits.push(commit);
        }
        Ok(commits)
    }

    /// What a filter sees after a position.
    pub(super) fn page(&self, filter: &Filter, after: u64) -> Result<Page, ReadError> {
        let durable = *self.durable.borrow();
        if let Filter::Stream(stream) = filter {
            return self.stream_page(stream, after, durable);
        }
        let mut page = Page {
            commits: Vec::new(),
            damaged: Vec::new(),
            through: after,
            at_edge: after >= durable,
        };
        if page.at_edge {
            return Ok(page);
        }
        let category = match filter {
            Filter::Category(category) => Some(format!("{category}/")),
            Filter::All | Filter::Stream(_) => None,
        };
        let range = layout::commit_key(after + 1)..=layout::commit_key(durable);
        let mut bytes = 0;
        for entry in self.db.range(range).take(SCAN_COMMITS) {
            let (key, value) = entry.map_err(|error| read_error(&error))?;
            let position = layout::position_of(&key)?;
            let wanted = match &category {
                Some(category) => layout::stream_bytes(&value)?.starts_with(category.as_bytes()),
                None => true,
            };
            if wanted {
                let commit = self.decode(position, &value)?;
                bytes += commit.payload.len();
                page.commits.push(commit);
            }
            page.through = position;
            if page.commits.len() == PAGE_COMMITS || bytes > PAGE_BYTES {
                break;
            }
        }
        page.at_edge = page.through >= durable;
        Ok(page)
    }

    fn stream_page(
        &self,
        stream: &StreamName,
        after: u64,
        durable: u64,
    ) -> Result<Page, ReadError> {
        let (mut commits, mut bytes) = (Vec::new(), 0);
        for position in self.indexed(stream, after, durable) {
            let position = position?;
            let commit = self.at(position)?;
            bytes += commit.payload.len();
            commits.push(commit);
            if commits.len() == PAGE_COMMITS || bytes > PAGE_BYTES {
                return Ok(Page {
                    commits,
                    damaged: Vec::new(),
                    through: position,
                    at_edge: position >= durable,
                });
            }
        }
        Ok(Page {
            commits,
            damaged: Vec::new(),
            through: durable.max(after),
            at_edge: true,
        })
    }
}

fn lock(dir: &Path, deadline: Instant) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let unavailable = |error: &std::io::Error| OpenError::Unavailable {
        reason: format!("{}: {error}", path.display()),
    };
    let file = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| unavailable(&error))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(LOCK_RETRY);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::Locked {
                    dir: dir.display().to_string(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(unavailable(&error)),
        }
    }
}

fn open_db(dir: &Path, deadline: Instant) -> Result<sled::Db, OpenError> {
    let config = sled::Config::new()
        .path(dir)
        .segment_size(SEGMENT_BYTES)
        .cache_capacity(CACHE_BYTES)
        // The writer flushes, and nobody else.
        .flush_every_ms(None);
    loop {
        match config.open() {
            Ok(db) => return Ok(db),
            // sled's own lock may outlive its database by the life of a background thread.
            Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                if Instant::now() >= deadline {
                    return Err(OpenError::Locked {
                        dir: dir.display().to_string(),
                    });
                }
                std::thread::sleep(LOCK_RETRY);
            }
            Err(sled::Error::Io(error)) => {
                return Err(OpenError::Unavailable {
                    reason: format!("{}: {error}", dir.display()),
                });
            }
            Err(error) => {
                return Err(OpenError::Corrupt {
                    reason: format!("{}: {error}", dir.display()),
                });
            }
        }
    }
}

/// sled tells damage from other failures.
pub(super) fn read_error(error: &sled::Error) -> ReadError {
    if matches!(error, sled::Error::Corruption { .. }) {
        ReadError::Corrupt {
            reason: error.to_string(),
        }
    } else {
        ReadError::Unavailable {
            reason: error.to_string(),
        }
    }
}
