//! The log in memory: it forgets with the process. For tests, simulation and sandboxes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::commit::{CommitId, Head, NewCommit, Recorded};
use crate::name::StreamName;
use crate::port::{AppendError, EventLog, ReadError, check_size};
use crate::subscription::{Filter, PAGE_BYTES, PAGE_COMMITS, Page, Pages, Subscription, paged};

/// A clock in Unix milliseconds.
pub(crate) type Clock = dyn Fn() -> i64 + Send + Sync;

/// Most commits that one page looks at when few of them match.
const SCAN_COMMITS: usize = 8_192;

/// An event log in memory. Clones share what is stored.
#[derive(Clone)]
pub struct Memory(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    edge: watch::Sender<u64>,
    clock: Box<Clock>,
}

#[derive(Default)]
struct State {
    /// The commit at position `n` stands at index `n - 1`.
    commits: Vec<Recorded>,
    streams: HashMap<StreamName, Stream>,
}

#[derive(Default)]
struct Stream {
    positions: Vec<u64>,
    by_id: HashMap<CommitId, u64>,
}

/// The wall clock, in Unix milliseconds.
pub(crate) fn wall_clock_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Memory {
    /// An empty log that takes the time from the wall clock.
    pub fn new() -> Self {
        Self::with_clock(wall_clock_ms)
    }

    /// An empty log that takes the time, in Unix milliseconds, from `clock`: a simulation's virtual
    /// one for instance. Recorded times never fall, whatever the clock does.
    pub fn with_clock(clock: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            edge: watch::Sender::new(0),
            clock: Box::new(clock),
        }))
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    /// No code that holds the lock can panic half-way through a change, so a poisoned lock is sound.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn at(&self, position: u64) -> Option<&Recorded> {
        let index = usize::try_from(position.checked_sub(1)?).ok()?;
        self.commits.get(index)
    }

    fn last_position(&self) -> u64 {
        self.commits.last().map_or(0, |commit| commit.position)
    }

    fn head(&self, stream: &StreamName) -> Head {
        let last = self
            .streams
            .get(stream)
            .and_then(|stream| stream.positions.last());
        last.and_then(|position| self.at(*position))
            .map_or(Head::EMPTY, Recorded::head)
    }

    fn append(
        &mut self,
        stream: &StreamName,
        expected: Head,
        commit: NewCommit,
        now_ms: i64,
    ) -> Result<Recorded, AppendError> {
        let stored = self
            .streams
            .get(stream)
            .and_then(|known| known.by_id.get(&commit.id));
        if let Some(stored) = stored.and_then(|position| self.at(*position)) {
            return Ok(stored.clone());
        }
        let head = self.head(stream);
        if head != expected {
            return Err(AppendError::Conflict { head });
        }
        let last_ms = self
            .commits
            .last()
            .map_or(i64::MIN, |commit| commit.recorded_at_ms);
        let recorded = Recorded {
            stream: stream.clone(),
            position: self.last_position() + 1,
            commit_id: commit.id,
            recorded_at_ms: now_ms.max(last_ms),
            prev_hash: head.hash,
            hash: Recorded::chain_hash(&head.hash, stream, commit.id, &commit.payload),
            payload: commit.payload,
        };
        self.commits.push(recorded.clone());
        let known = self.streams.entry(stream.clone()).or_default();
        known.positions.push(recorded.position);
        known.by_id.insert(recorded.commit_id, recorded.position);
        Ok(recorded)
    }

    fn read(&self, stream: &StreamName, after: u64, limit: usize) -> Vec<Recorded> {
        let Some(known) = self.streams.get(stream) else {
            return Vec::new();
        };
        let start = known
            .positions
            .partition_point(|position| *position <= after);
        let following = known.positions.iter().skip(start).take(limit);
        following
            .filter_map(|position| self.at(*position))
            .cloned()
            .collect()
    }

    fn page(&self, filter: &Filter, after: u64) -> Page {
        let last = self.last_position();
        if let Filter::Stream(stream) = filter {
            let commits = self.read(stream, after, PAGE_COMMITS);
            let full = commits.len() == PAGE_COMMITS;
            let through = if full {
                commits.last().map_or(after, |commit| commit.position)
            } else {
                last
            };
            return Page {
                commits,
                damaged: Vec::new(),
                through,
                at_edge: !full,
            };
        }
        let start = usize::try_from(after)
            .unwrap_or(usize::MAX)
            .min(self.commits.len());
        let (mut commits, mut through, mut bytes) = (Vec::new(), after, 0);
        for commit in self.commits.iter().skip(start).take(SCAN_COMMITS) {
            if commits.len() == PAGE_COMMITS || bytes > PAGE_BYTES {
                break;
            }
            through = commit.position;
            if filter.matches(&commit.stream) {
                bytes += commit.payload.len();
                commits.push(commit.clone());
            }
        }
        Page {
            commits,
            damaged: Vec::new(),
            through,
            at_edge: through >= last,
        }
    }
}

#[async_trait]
impl EventLog for Memory {
    async fn append(
        &self,
        stream: &StreamName,
        expected: Head,
        commit: NewCommit,
    ) -> Result<Recorded, AppendError> {
        check_size(&commit)?;
        let recorded = {
            let mut state = self.0.state();
            state.append(stream, expected, commit, (self.0.clock)())?
        };
        self.0
            .edge
            .send_modify(|edge| *edge = recorded.position.max(*edge));
        Ok(recorded)
    }

    async fn read(
        &self,
        stream: &StreamName,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Recorded>, ReadError> {
        Ok(self.0.state().read(stream, after, limit))
    }

    async fn head(&self, stream: &StreamName) -> Result<Head, ReadError> {
        Ok(self.0.state().head(stream))
    }

    async fn subscribe(&self, filter: Filter, after: u64) -> Result<Subscription, ReadError> {
        let pages = MemoryPages {
            shared: Arc::downgrade(&self.0),
            edge: self.0.edge.subscribe(),
        };
        Ok(paged(pages, filter, after))
    }

    async fn last_position(&self) -> Result<u64, ReadError> {
        Ok(self.0.state().last_position())
    }
}

/// Holds the log weakly: a subscription ends with the last clone of its log.
struct MemoryPages {
    shared: Weak<Shared>,
    edge: watch::Receiver<u64>,
}

#[async_trait]
impl Pages for MemoryPages {
    async fn page(&mut self, filter: &Filter, after: u64) -> Option<Result<Page, ReadError>> {
        self.edge.borrow_and_update();
        let shared = self.shared.upgrade()?;
        let page = shared.state().page(filter, after);
        Some(Ok(page))
    }

    async fn changed(&mut self) -> bool {
        self.edge.changed().await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::subscription::Delivery;

    #[tokio::test]
    async fn recorded_times_never_fall() {
        let now = Arc::new(AtomicI64::new(100));
        let clock = Arc::clone(&now);
        let log = Memory::with_clock(move || clock.load(Ordering::SeqCst));
        let stream = StreamName::new("run", "1").unwrap();
        let first = log
            .append(&stream, Head::EMPTY, NewCommit::new("a"))
            .await
            .unwrap();
        now.store(50, Ordering::SeqCst);
        let second = log
            .append(&stream, first.head(), NewCommit::new("b"))
            .await
            .unwrap();
        assert_eq!((first.recorded_at_ms, second.recorded_at_ms), (100, 100));
    }

    #[tokio::test]
    async fn a_subscription_ends_with_its_log() {
        let log = Memory::new();
        let mut all = log.subscribe(Filter::All, 0).await.unwrap();
        assert_eq!(all.next().await, Some(Ok(Delivery::CaughtUp(0))));
        drop(log);
        assert_eq!(all.next().await, None);
    }
}
