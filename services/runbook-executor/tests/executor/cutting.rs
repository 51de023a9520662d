//! An event log under which a process can die at a chosen append.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use sealwarden_eventlog::{
    AppendError, EventLog, Filter, Head, NewCommit, ReadError, Recorded, StreamName, Subscription,
};
use tokio_util::sync::CancellationToken;

/// On which side of the append the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Nothing is stored.
    Before,
    /// It is stored, and the process never learns of it.
    After,
}

/// The log as one life of a process sees it: from its last append on, nothing answers.
pub(crate) struct Cutting {
    inner: Arc<dyn EventLog>,
    left: AtomicI64,
    side: Side,
    /// Cancelled when the process is dead.
    pub(crate) dead: CancellationToken,
}

impl Cutting {
    /// Dies at append `at`, counted from 1.
    pub(crate) fn new(inner: Arc<dyn EventLog>, at: i64, side: Side) -> Arc<Self> {
        Arc::new(Self {
            inner,
            left: AtomicI64::new(at),
            side,
            dead: CancellationToken::new(),
        })
    }

    async fn die<T>(&self) -> T {
        self.dead.cancel();
        std::future::pending().await
    }
}

#[tonic::async_trait]
impl EventLog for Cutting {
    async fn append(
        &self,
        stream: &StreamName,
        expected: Head,
        commit: NewCommit,
    ) -> Result<Recorded, AppendError> {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        if left < 1 || (left == 1 && self.side == Side::Before) {
            return self.die().await;
        }
        let stored = self.inner.append(stream, expected, commit).await;
        if left == 1 {
            return self.die().await;
        }
        stored
    }

    async fn read(
        &self,
        stream: &StreamName,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Recorded>, ReadError> {
        self.inner.read(stream, after, limit).await
    }

    async fn head(&self, stream: &StreamName) -> Result<Head, ReadError> {
        self.inner.head(stream).await
    }

    async fn subscribe(&self, filter: Filter, after: u64) -> Result<Subscription, ReadError> {
        self.inner.subscribe(filter, after).await
    }

    async fn last_position(&self) -> Result<u64, ReadError> {
        self.inner.last_position().await
    }
}
