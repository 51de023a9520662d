//! A log that fails as scripted, for tests of what is built on the port.
//!
//! Faults come in pairs: an append that is lost and one that is stored anyway answer the same
//! [`AppendError::Unknown`], and a correct caller cannot tell them apart.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::stream;

use crate::commit::{Head, NewCommit, Recorded};
use crate::name::StreamName;
use crate::port::{AppendError, EventLog, ReadError};
use crate::subscription::{Delivery, Filter, Subscription};

/// What the next append does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendFault {
    /// Passes through; a conflict stays a conflict.
    Pass,
    /// Answers `Unknown`; nothing is stored.
    Lost,
    /// Stores what the log accepts and answers `Unknown` all the same.
    StoredUnknown,
    /// Answers `Unavailable`; nothing is stored.
    Unavailable,
}

/// What the next read (`read`, `head` or `last_position`) does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFault {
    /// Passes through.
    Pass,
    /// Answers `Unavailable`.
    Unavailable,
    /// Answers at most this many commits; other reads pass through. At least one is given, since an
    /// empty page means the end.
    Cut(usize),
}

/// Wraps a log and fails as scripted. Calls beyond the script pass through.
pub struct Faulty<L> {
    inner: L,
    control: Arc<Control>,
}

#[derive(Default)]
struct Control {
    appends: Mutex<VecDeque<AppendFault>>,
    reads: Mutex<VecDeque<ReadFault>>,
    deliveries: Mutex<VecDeque<usize>>,
    down: AtomicBool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn scripted(what: &str) -> String {
    format!("scripted fault: {what}")
}

fn unreadable(what: &str) -> ReadError {
    ReadError::Unavailable {
        reason: scripted(what),
    }
}

impl<L: EventLog> Faulty<L> {
    /// Wraps `inner` with an empty script.
    pub fn new(inner: L) -> Self {
        Self {
            inner,
            control: Arc::default(),
        }
    }

    /// The log inside, for looking past the faults.
    pub fn inner(&self) -> &L {
        &self.inner
    }

    /// Adds to the script of appends, one entry a call.
    pub fn script_appends(&self, faults: impl IntoIterator<Item = AppendFault>) {
        locked(&self.control.appends).extend(faults);
    }

    /// Adds to the script of reads, one entry a call.
    pub fn script_reads(&self, faults: impl IntoIterator<Item = ReadFault>) {
        locked(&self.control.reads).extend(faults);
    }

    /// The next delivery of a subscription after `commits` further commits (counted over all
    /// subscriptions of this log) is an `Unavailable`; the subscription then goes on. Several calls
    /// queue up, each counted from the one before it.
    pub fn cut_subscriptions_after(&self, commits: usize) {
        locked(&self.control.deliveries).push_back(commits);
    }

    /// While `true`, every append and read answers `Unavailable`, and the script stands still.
    pub fn set_down(&self, down: bool) {
        self.control.down.store(down, Ordering::SeqCst);
    }

    /// How many entries of the append script are left.
    pub fn appends_left(&self) -> usize {
        locked(&self.control.appends).len()
    }
}

impl Control {
    fn next_append(&self) -> AppendFault {
        if self.down.load(Ordering::SeqCst) {
            return AppendFault::Unavailable;
        }
        locked(&self.appends)
            .pop_front()
            .unwrap_or(AppendFault::Pass)
    }

    fn next_read(&self) -> Result<Option<usize>, ReadError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(unreadable("the log is down"));
        }
        match locked(&self.reads).pop_front() {
            None | Some(ReadFault::Pass) => Ok(None),
            Some(ReadFault::Unavailable) => Err(unreadable("the read failed")),
            Some(ReadFault::Cut(commits)) => Ok(Some(commits.max(1))),
        }
    }

    /// Whether the next delivery is cut.
    fn cut_now(&self) -> bool {
        let mut cuts = locked(&self.deliveries);
        if cuts.front() == Some(&0) {
            cuts.pop_front();
            return true;
        }
        false
    }

    fn count_commit(&self) {
        if let Some(left) = locked(&self.deliveries).front_mut() {
            *left = left.saturating_sub(1);
        }
    }
}

#[async_trait]
impl<L: EventLog> EventLog for Faulty<L> {
    async fn append(
        &self,
        stream: &StreamName,
        expected: Head,
        commit: NewCommit,
    ) -> Result<Recorded, AppendError> {
        match self.control.next_append() {
            AppendFault::Pass => self.inner.append(stream, expected, commit).await,
            AppendFault::Lost => Err(AppendError::Unknown {
                reason: scripted("lost"),
            }),
            AppendFault::StoredUnknown => match self.inner.append(stream, expected, commit).await {
                Ok(_) => Err(AppendError::Unknown {
                    reason: scripted("stored anyway"),
                }),
                Err(error) => Err(error),
            },
            AppendFault::Unavailable => Err(AppendError::Unavailable {
                reason: scripted("unavailable"),
            }),
        }
    }

    async fn read(
        &self,
        stream: &StreamName,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Recorded>, ReadError> {
        let cut = self.control.next_read()?;
        self.inner
            .read(stream, after, limit.min(cut.unwrap_or(limit)))
            .await
    }

    async fn head(&self, stream: &StreamName) -> Result<Head, ReadError> {
        self.control.next_read()?;
        self.inner.head(stream).await
    }

    async fn subscribe(&self, filter: Filter, after: u64) -> Result<Subscription, ReadError> {
        if self.control.down.load(Ordering::SeqCst) {
            return Err(unreadable("the log is down"));
        }
        let inner = self.inner.subscribe(filter, after).await?;
        let control = Arc::clone(&self.control);
        Ok(Subscription::from_stream(stream::unfold(
            (inner, control),
            |(mut inner, control)| async move {
                if control.cut_now() {
                    return Some((
                        Err(unreadable("the subscription was cut")),
                        (inner, control),
                    ));
                }
                let delivery = inner.next().await?;
                if matches!(delivery, Ok(Delivery::Commit(_))) {
                    control.count_commit();
                }
                Some((delivery, (inner, control)))
            },
        )))
    }

    async fn last_position(&self) -> Result<u64, ReadError> {
        self.control.next_read()?;
        self.inner.last_position().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Memory;

    fn stream() -> StreamName {
        StreamName::new("run", "1").unwrap()
    }

    #[tokio::test]
    async fn lost_and_stored_anyway_answer_alike_and_a_repetition_tells() {
        let log = Faulty::new(Memory::new());
        for (fault, stored) in [(AppendFault::Lost, 0), (AppendFault::StoredUnknown, 1)] {
            let target = StreamName::new("run", format!("{stored}")).unwrap();
            let commit = NewCommit::new("x");
            log.script_appends([fault]);
            let answer = log.append(&target, Head::EMPTY, commit.clone()).await;
            assert!(matches!(answer, Err(AppendError::Unknown { .. })));
            assert_eq!(log.read(&target, 0, 10).await.unwrap().len(), stored);
            let again = log.append(&target, Head::EMPTY, commit).await.unwrap();
            assert_eq!(log.read(&target, 0, 10).await.unwrap(), [again]);
        }
    }

    #[tokio::test]
    async fn an_unavailable_log_stores_nothing_and_conflicts_pass_through() {
        let log = Faulty::new(Memory::new());
        log.set_down(true);
        let answer = log
            .append(&stream(), Head::EMPTY, NewCommit::new("x"))
            .await;
        assert!(matches!(answer, Err(AppendError::Unavailable { .. })));
        assert!(matches!(
            log.head(&stream()).await,
            Err(ReadError::Unavailable { .. })
        ));
        log.set_down(false);
        let first = log
            .append(&stream(), Head::EMPTY, NewCommit::new("x"))
            .await
            .unwrap();
        log.script_appends([AppendFault::StoredUnknown]);
        let answer = log
            .append(&stream(), Head::EMPTY, NewCommit::new("y"))
            .await;
        assert_eq!(answer, Err(AppendError::Conflict { head: first.head() }));
    }

    #[tokio::test]
    async fn cut_reads_and_subscriptions_lose_nothing() {
        let log = Faulty::new(Memory::new());
        let mut head = Head::EMPTY;
        for _ in 0..5 {
            head = log
                .append(&stream(), head, NewCommit::new("x"))
                .await
                .unwrap()
                .head();
        }
        log.script_reads([ReadFault::Cut(2), ReadFault::Unavailable]);
        assert_eq!(log.read(&stream(), 0, 10).await.unwrap().len(), 2);
        assert!(log.read(&stream(), 0, 10).await.is_err());

        log.cut_subscriptions_after(2);
        let mut all = log.subscribe(Filter::All, 0).await.unwrap();
        let (mut positions, mut cuts) = (Vec::new(), 0);
        while positions.len() < 5 {
            match all.next_commit().await.unwrap() {
                Ok(commit) => positions.push(commit.position),
                Err(_) => cuts += 1,
            }
        }
        assert_eq!((positions, cuts), (vec![1, 2, 3, 4, 5], 1));
    }
}
