//! The log in a folder of this machine, kept by sled.
//!
//! One tree holds everything, so a commit with its indexes is one atomic batch ([`layout`]). One
//! thread writes, in groups ([`writer`]), and makes each group durable before it answers or shows
//! it to readers ([`durable`]). One process holds the folder at a time ([`store`]).
//!
//! When a group cannot be made durable, its callers get `Unknown` and the log stores nothing more
//! until the process is restarted. Reading goes on, up to the last durable commit. A full disk is noticed
//! before anything is written ([`space`]): appends are refused while it lasts, and go on by themselves.

mod durable;
mod layout;
mod space;
mod store;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;

use self::durable::{Durable, SledFiles};
use self::space::{Free, free_bytes};
use self::store::Store;
use self::writer::{Request, Stage, Writer};
use crate::commit::{Head, NewCommit, Recorded};
use crate::config::OpenError;
use crate::memory::wall_clock_ms;
use crate::name::StreamName;
use crate::port::{AppendError, EventLog, ReadError, check_size};
use crate::subscription::{Filter, Page, Pages, Subscription, paged};

/// Appends that may wait for the writer; more of them wait outside, in their callers.
const QUEUE: usize = 4_096;

/// An event log in a folder.
///
/// Appends wait for a place in the writer's queue: a slow disk slows its callers down. Dropping the
/// log closes it and ends its subscriptions; the folder can then be opened again.
pub struct Embedded {
    /// Before `store`: the writer ends when the last sender is gone, and closes the database.
    requests: mpsc::Sender<Request>,
    poison: Arc<OnceLock<String>>,
    store: Arc<Store>,
}

impl Embedded {
    /// Opens the log in `dir`, making the folder where it is missing. Waits up to three seconds for
    /// another process to let go of it, then answers [`OpenError::Locked`].
    pub async fn open(dir: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let dir = dir.into();
        blocking_open(move || {
            let store = Store::open(&dir)?;
            let files = SledFiles::open(&dir).map_err(|error| OpenError::Unavailable {
                reason: format!("{}: {error}", dir.display()),
            })?;
            let room = dir.clone();
            let free = move || free_bytes(&room);
            Self::start(store, Box::new(files), Box::new(free), Box::new(|_| {}))
        })
        .await
    }

    /// Makes durable what the database holds and starts the writer.
    fn start(
        store: Store,
        mut durable: Box<dyn Durable>,
        free: Box<Free>,
        observe: Box<dyn Fn(Stage) + Send>,
    ) -> Result<Self, OpenError> {
        let unavailable = |error: &dyn std::fmt::Display| OpenError::Unavailable {
            reason: format!("{}: {error}", store.dir.display()),
        };
        store.db.flush().map_err(|error| unavailable(&error))?;
        durable.sync().map_err(|error| unavailable(&error))?;
        let last = store.last().map_err(|error| match error {
            ReadError::Corrupt { reason } => OpenError::Corrupt { reason },
            ReadError::Unavailable { reason } => OpenError::Unavailable { reason },
        })?;
        let (last_position, last_ms) = last.map_or((0, i64::MIN), |commit| {
            (commit.position, commit.recorded_at_ms)
        });
        store.durable.send_replace(last_position);
        let store = Arc::new(store);
        let poison = Arc::new(OnceLock::new());
        let (requests, queue) = mpsc::channel(QUEUE);
        let writer = Writer {
            store: Arc::clone(&store),
            durable,
            free,
            clock: Box::new(wall_clock_ms),
            last_position,
            last_ms,
            heads: HashMap::new(),
            poison: Arc::clone(&poison),
            observe,
        };
        std::thread::Builder::new()
            .name("event-log-writer".to_owned())
            .spawn(move || writer.run(queue))
            .map_err(|error| OpenError::Unavailable {
                reason: format!("the writer's thread cannot start: {error}"),
            })?;
        Ok(Self {
            requests,
            poison,
            store,
        })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        blocking_read(Arc::clone(&self.store), work).await
    }
}

async fn blocking_open(
    work: impl FnOnce() -> Result<Embedded, OpenError> + Send + 'static,
) -> Result<Embedded, OpenError> {
    spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(OpenError::Unavailable {
            reason: format!("opening it was broken off: {error}"),
        })
    })
}

async fn blocking_read<T: Send + 'static>(
    store: Arc<Store>,
    work: impl FnOnce(&Store) -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ReadError> {
    spawn_blocking(move || work(&store))
        .await
        .unwrap_or_else(|error| {
            Err(ReadError::Unavailable {
                reason: format!("reading was broken off: {error}"),
            })
        })
}

#[async_trait]
impl EventLog for Embedded {
    async fn append(
        &self,
        stream: &StreamName,
        expected: Head,
        commit: NewCommit,
    ) -> Result<Recorded, AppendError> {
        check_size(&commit)?;
        let (answer, answered) = oneshot::channel();
        let request = Request {
            stream: stream.clone(),
            expected,
            commit,
            answer,
        };
        self.requests
            .send(request)
            .await
            .map_err(|_| AppendError::Unavailable {
                reason: self
                    .poison
                    .get()
                    .cloned()
                    .unwrap_or_else(|| "its writer has ended".to_owned()),
            })?;
        answered.await.unwrap_or_else(|_| {
            Err(AppendError::Unknown {
                reason: "the writer ended without an answer".to_owned(),
            })
        })
    }

    async fn read(
        &self,
        stream: &StreamName,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Recorded>, ReadError> {
        let stream = stream.clone();
        self.blocking(move |store| store.read(&stream, after, limit))
            .await
    }

    async fn head(&self, stream: &StreamName) -> Result<Head, ReadError> {
        let stream = stream.clone();
        self.blocking(move |store| store.head(&stream)).await
    }

    async fn subscribe(&self, filter: Filter, after: u64) -> Result<Subscription, ReadError> {
        let pages = EmbeddedPages {
            durable: self.store.durable.subscribe(),
            store: Arc::downgrade(&self.store),
        };
        Ok(paged(pages, filter, after))
    }

    async fn last_position(&self) -> Result<u64, ReadError> {
        Ok(*self.store.durable.borrow())
    }
}

/// Holds the database weakly: a subscription ends with its log.
struct EmbeddedPages {
    store: Weak<Store>,
    durable: watch::Receiver<u64>,
}

#[async_trait]
impl Pages for EmbeddedPages {
    async fn page(&mut self, filter: &Filter, after: u64) -> Option<Result<Page, ReadError>> {
        self.durable.borrow_and_update();
        let store = self.store.upgrade()?;
        let filter = filter.clone();
        Some(blocking_read(store, move |store| store.page(&filter, after)).await)
    }

    async fn changed(&mut self) -> bool {
        self.durable.changed().await.is_ok()
    }
}
