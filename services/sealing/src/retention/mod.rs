//! How long records are kept: legal holds, erasing by request and by schedule.
//!
//! - `config`: periods by tenant and jurisdiction.
//! - `find`: which leaves are meant, and what stands against erasing them.
//! - `holds`: everything that keeps records: settings, orders of people, open incidents, what a jurisdiction demands.
//! - `perform`: an order, from its event to the last byte; the same after a crash.
//! - `schedule`: records whose time is over.
//! - `grpc`: what people ask for.
//! - `secret`: how a hold names a subject without telling it.
//!
//! **Invariants.** A place stands durably in `retention/<log>` before its first byte is overwritten, and what was ordered is finished before this node serves
//! again. Events name places, never what stood there. Nothing that a hold covers is ordered.

mod config;
mod find;
pub(crate) mod grpc;
mod holds;
mod perform;
pub(crate) mod schedule;
mod secret;

pub use config::{Jurisdiction, RetentionSettings};
pub(crate) use perform::resume;

use crate::config::Config;
use crate::service::Service;
use crate::tree::Tree;
use anyhow::Context as _;
use sealwarden_domain::retention::{Command, Retention, decide};
use sealwarden_engine::{ExecuteError, Executed, Meta, Node, Stream};
use sealwarden_seallog::{Leaf, LogError, View};
use secret::Secret;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::Mutex;
use tonic::Status;

/// What is wrong with zeros that nobody ordered.
pub(crate) const FORGED: &str = "there are zeros, and no event names it as erased";

/// The log line's records: what is erased of them.
pub(crate) struct Records {
    stream: Mutex<Stream<Retention>>,
    /// The stream's state as of the last command, for whoever reads records. Only this node orders erasures of its own trees.
    known: RwLock<Arc<Retention>>,
    secret: Secret,
    /// One order is carried out at a time.
    erasing: Mutex<()>,
}

impl Records {
    /// Reads the log line's stream and the node's key.
    pub(crate) async fn open(node: &Arc<Node>, config: &Config) -> anyhow::Result<Self> {
        let stream: Stream<Retention> = node
            .stream("retention", &config.log)
            .await
            .with_context(|| format!("reading what is erased of log {}", config.log))?;
        let dir = node.data.join("retention");
        let secret = tokio::task::spawn_blocking(move || Secret::open(&dir));
        Ok(Self {
            known: RwLock::new(Arc::new(stream.state().clone())),
            stream: Mutex::new(stream),
            secret: secret.await.context("the key's thread ended")??,
            erasing: Mutex::new(()),
        })
    }

    /// What is erased and held, as of the last command.
    pub(crate) fn known(&self) -> Arc<Retention> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is erased and held, as of now.
    async fn newest(&self) -> Result<Arc<Retention>, ExecuteError> {
        let mut stream = self.stream.lock().await;
        stream.refresh().await?;
        self.learn(stream.state());
        Ok(self.known())
    }

    fn learn(&self, state: &Retention) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if **known != *state {
            *known = Arc::new(state.clone());
        }
    }

    async fn execute(&self, meta: Meta, command: &Command) -> Result<Executed, ExecuteError> {
        let mut stream = self.stream.lock().await;
        let executed = stream
            .execute(meta, |state| decide(state, command.clone()))
            .await;
        self.learn(stream.state());
        executed
    }

    /// Refuses a range of which something is erased: says when and by which order.
    pub(crate) fn require(&self, origin: &str, leaves: &Range<u64>) -> Result<(), Status> {
        let known = self.known();
        let Some(erasure) = known.overlapping(origin, leaves) else {
            return Ok(());
        };
        let order = &erasure.ordered;
        let when = match erasure.finished_at_ms {
            Some(at_ms) => format!("was erased on {}", time_text(at_ms)),
            None => format!("is being erased since {}", time_text(order.ordered_at_ms)),
        };
        let what = if leaves.end.saturating_sub(leaves.start) == 1 {
            format!("the record of leaf {} of {origin}", leaves.start)
        } else {
            format!(
                "a record among leaves {} to {} of {origin}",
                leaves.start,
                leaves.end.saturating_sub(1)
            )
        };
        let mut status = Status::failed_precondition(format!(
            "{what} {when} by erasure {} ({}): its public entry stays, and seal files that were handed out still verify",
            order.erasure, order.by
        ));
        if let Ok(value) = order.erasure.parse() {
            status.metadata_mut().insert("erasure", value);
        }
        Err(status)
    }

    /// The leaves of a range; none where an order names the place, which may be half gone. A record that is gone and that no order names is an error.
    pub(crate) fn read(
        &self,
        tree: &Tree,
        view: &View,
        range: Range<u64>,
    ) -> Result<Vec<Option<Leaf>>, LogError> {
        let known = self.known();
        let leaves = view.each_record(range.clone())?;
        let leaves = range.zip(leaves).map(|(index, leaf)| {
            let named = known.of(&tree.origin, index).is_some();
            match leaf {
                Ok(leaf) => Ok(Some(leaf)),
                Err(_) if named => Ok(None),
                Err(LogError::Erased { index }) => Err(LogError::RecordDamaged {
                    index,
                    reason: FORGED.to_owned(),
                }),
                Err(error) => Err(error),
            }
        });
        leaves.collect()
    }

    /// The parts of a range that no order names.
    pub(crate) fn present(&self, origin: &str, range: Range<u64>) -> Vec<Range<u64>> {
        let known = self.known();
        let mut parts: Vec<Range<u64>> = Vec::new();
        for index in range.filter(|index| known.of(origin, *index).is_none()) {
            match parts.last_mut().filter(|last| last.end == index) {
                Some(last) => last.end = index + 1,
                None => parts.push(index..index + 1),
            }
        }
        parts
    }
}

/// A time for people, UTC.
pub(crate) fn time_text(ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(ms);
    time.map_or_else(
        |_| format!("{ms} ms of Unix time"),
        |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    )
}

/// Trees of this node, the oldest first.
fn trees(service: &Service) -> Vec<Arc<Tree>> {
    let mut trees = service.trees();
    trees.sort_by_key(|tree| tree.number);
    trees
}
