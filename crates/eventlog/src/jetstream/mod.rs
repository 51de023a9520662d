//! The log on a NATS server or cluster with JetStream.
//!
//! One JetStream stream holds an installation; each of our streams is a subject of it, each commit
//! one message, and the position is the message's sequence ([`subject`], [`message`]). The server
//! enforces the expected head; [`append`] tells its refusals apart.
//!
//! Subscriptions keep no state on the server: they read pages from where they are ([`read`]), and
//! the server's announcement of each stored message (republished without payload) only wakes them.
//! So a lost connection, a restarted server or a lost announcement costs time and nothing else.
//!
//! # What the server must be told
//!
//! `jetstream { sync_interval: always }`. With the default (two minutes) a power loss takes commits
//! that were acknowledged. The setting belongs to the server and no client can see it, so
//! [`JetStream::open`] cannot check it; it does check everything that the stream itself says.

mod address;
mod append;
mod message;
mod read;
mod setup;
mod subject;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::stream::Stream;
use async_trait::async_trait;
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use self::subject::Subjects;
use crate::commit::{Head, NewCommit, Recorded};
use crate::config::{Credentials, Environment, OpenError};
use crate::name::StreamName;
use crate::port::{AppendError, EventLog, ReadError, check_size};
use crate::subscription::{Filter, Page, Pages, Subscription, paged};

/// How long an answer of the server may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A subscription looks by itself after this long, in case an announcement was lost.
const LOOK_ANYWAY: Duration = Duration::from_secs(5);
/// The pause of a subscription after a failed read, unless it is woken before.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// Most heads that are remembered.
const REMEMBERED_HEADS: usize = 16_384;

/// An event log on NATS.
///
/// Losing the connection is healed in the background for ever. Meanwhile appends and reads answer
/// `Unavailable` (an append under way: `Unknown`), and subscriptions wait. Dropping the log closes
/// the connection and ends its subscriptions.
pub struct JetStream(Arc<Shared>);

struct Shared {
    client: Client,
    stream: Stream<()>,
    name: String,
    replicas: usize,
    subjects: Subjects,
    /// Counts reasons to look whether something was stored.
    wake: Arc<watch::Sender<u64>>,
    listener: AbortHandle,
    heads: Mutex<HashMap<StreamName, Head>>,
}

impl JetStream {
    /// Connects and opens the log of the installation `prefix`, making it where it is missing.
    pub async fn open(
        url: &str,
        credentials: Credentials,
        prefix: &str,
        environment: Environment,
    ) -> Result<Self, OpenError> {
        let unavailable = |error: &dyn std::fmt::Display| OpenError::Unavailable {
            reason: error.to_string(),
        };
        let subjects = Subjects::new(prefix)?;
        let wake = Arc::new(watch::Sender::new(0));
        let client = setup::connect(url, credentials, Arc::clone(&wake)).await?;
        let context = setup::context(&client);
        let info = setup::stream(&context, &subjects, environment).await?;
        let name = subjects.stream_name();
        let stream = context
            .get_stream_no_info(&name)
            .await
            .map_err(|e| unavailable(&e))?;
        let (_, announced) = subjects.stored();
        let mut announcements = client
            .subscribe(announced)
            .await
            .map_err(|error| unavailable(&error))?;
        let waker = Arc::clone(&wake);
        let listener = tokio::spawn(async move {
            while announcements.next().await.is_some() {
                waker.send_modify(|count| *count += 1);
            }
        });
        Ok(Self(Arc::new(Shared {
            client,
            stream,
            name,
            replicas: info.config.num_replicas,
            subjects,
            wake,
            listener: listener.abort_handle(),
            heads: Mutex::default(),
        })))
    }
}

impl Shared {
    fn heads(&self) -> MutexGuard<'_, HashMap<StreamName, Head>> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self, stream: &StreamName) -> Option<Head> {
        self.heads().get(stream).copied()
    }

    /// Remembers that `head` was the head of `stream` once.
    fn remember(&self, stream: &StreamName, head: Head) {
        let mut heads = self.heads();
        // Forgetting costs a look-up at the next append, nothing else.
        if heads.len() >= REMEMBERED_HEADS {
            heads.clear();
        }
        let known = heads.entry(stream.clone()).or_insert(head);
        if known.position < head.position {
            *known = head;
        }
    }

    fn touch(&self) {
        self.wake.send_modify(|count| *count += 1);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.listener.abort();
        // Subscriptions look, find their log gone, and end.
        self.touch();
    }
}

#[async_trait]
impl EventLog for JetStream {
    async fn append(
        &self,
        stream: &StreamName,
        expected: Head,
        commit: NewCommit,
    ) -> Result<Recorded, AppendError> {
        check_size(&commit)?;
        self.0.append(stream, expected, commit).await
    }

    async fn read(
        &self,
        stream: &StreamName,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Recorded>, ReadError> {
        self.0.read(stream, after, limit).await
    }

    async fn head(&self, stream: &StreamName) -> Result<Head, ReadError> {
        self.0.leader_head(stream).await
    }

    async fn subscribe(&self, filter: Filter, after: u64) -> Result<Subscription, ReadError> {
        let pages = JetStreamPages {
            shared: Arc::downgrade(&self.0),
            wake: self.0.wake.subscribe(),
        };
        Ok(paged(pages, filter, after))
    }

    async fn last_position(&self) -> Result<u64, ReadError> {
        self.0.edge().await
    }
}

/// Holds the log weakly: a subscription ends with its log.
struct JetStreamPages {
    shared: Weak<Shared>,
    wake: watch::Receiver<u64>,
}

#[async_trait]
impl Pages for JetStreamPages {
    /// Waits for the server to come back rather than report that it is gone.
    async fn page(&mut self, filter: &Filter, after: u64) -> Option<Result<Page, ReadError>> {
        loop {
            self.wake.borrow_and_update();
            match self.shared.upgrade()?.page(filter, after).await {
                Err(ReadError::Unavailable { reason }) => {
                    tracing::warn!(%reason, after, "a subscription waits for NATS");
                }
                answer @ (Ok(_) | Err(ReadError::Corrupt { .. })) => return Some(answer),
            }
            if let Ok(Err(_closed)) = timeout(RETRY_PAUSE, self.wake.changed()).await {
                return None;
            }
        }
    }

    async fn changed(&mut self) -> bool {
        !matches!(
            timeout(LOOK_ANYWAY, self.wake.changed()).await,
            Ok(Err(_closed))
        )
    }
}
