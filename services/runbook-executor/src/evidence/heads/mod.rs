//! Heads of the event log in the evidence log: whoever administers the event log's server cannot rewrite history unseen.
//!
//! The whole log is followed from its beginning. Once a minute, and at a clean end, each stream's last position and chain hash are written as a text, whose digest is
//! sealed in the evidence log; text and seal are kept in `heads/` beside it, written once. At a start the log, while it is read from its beginning, must pass through the
//! newest kept heads; where it does not, a signal says so.
//!
//! **Invariants:** nothing new is kept before the log was compared with what was kept, and before what was found stands in the log. What cannot be kept now is
//! kept later; nothing else waits for it.
//!
//! A crash between sealing and writing leaves a leaf in the evidence log that nobody needs.

mod audit;
mod finding;
mod history;
mod kept;
mod text;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sealwarden_engine::{ExecuteError, Node};
use sealwarden_eventlog::{Delivery, Filter, Head, ReadError, Recorded, StreamName};
use sealwarden_keys::private_files::FileLock;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

pub use self::audit::{HeadsAudit, audit_heads};
use self::finding::{Finding, report};
use self::history::{Contradiction, History};
pub(super) use self::kept::Kept;
use self::kept::Shelf;
pub(super) use self::text::Heads;
use super::seal::{EvidenceLog, HEADS, Subject};
use super::store::EvidenceError;
use super::verify::damage;
use crate::environment::rfc3339;

/// How long to wait before following again after an interruption.
const RETRY: Duration = Duration::from_secs(2);
/// How long a shutdown may wait for what is already stored.
const GRACE: Duration = Duration::from_secs(2);
/// How long a bundle waits for the comparison at the start.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most broken places that wait for being reported: the first ones tell enough.
const MAX_BROKEN: usize = 64;

/// Follows the event log and keeps its heads.
pub(crate) struct Keeper {
    node: Arc<Node>,
    log: Arc<EvidenceLog>,
    dir: PathBuf,
    life: Arc<FileLock>,
    followed: Mutex<Option<Followed>>,
    compared: watch::Sender<bool>,
}

/// How far the log was followed, and what is kept.
struct Followed {
    history: History,
    kept: Option<Arc<Kept>>,
    next: u64,
    broken: Vec<Contradiction>,
}

impl Keeper {
    /// A keeper that did not begin yet. `dir` is where heads are kept.
    pub(super) fn new(
        node: Arc<Node>,
        log: Arc<EvidenceLog>,
        dir: PathBuf,
        life: Arc<FileLock>,
    ) -> Self {
        Self {
            node,
            log,
            dir,
            life,
            followed: Mutex::new(None),
            compared: watch::Sender::new(false),
        }
    }

    /// Follows until shutdown, and keeps heads at each interval.
    pub(crate) async fn run(&self, every: Duration) {
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while let Err(error) = self.follow(&mut ticks).await {
            tracing::warn!(%error, "the event log's heads cannot be followed now");
            tokio::select! {
                () = self.node.shutdown.cancelled() => break,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
        self.keep_or_warn().await;
    }

    /// Ends well at shutdown only, and then where the log ends, if it gets there soon.
    async fn follow(&self, ticks: &mut Interval) -> Result<(), EvidenceError> {
        let after = self.begin().await?;
        let subscribed = self.node.log.subscribe(Filter::All, after).await;
        let mut subscription = subscribed.map_err(read_error)?;
        let shutdown = &self.node.shutdown;
        let late = async {
            shutdown.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::pin!(late);
        let mut at_edge = false;
        while !(at_edge && shutdown.is_cancelled()) {
            tokio::select! {
                () = shutdown.cancelled(), if at_edge => {}
                () = &mut late => break,
                delivery = subscription.next() => {
                    let Some(delivery) = delivery else {
                        tracing::warn!("the event log was closed; its heads are not followed any more");
                        shutdown.cancelled().await;
                        break;
                    };
                    at_edge = self.deal_with(delivery).await?;
                }
                _ = ticks.tick() => self.keep_or_warn().await,
            }
        }
        Ok(())
    }

    /// Says whether everything that is stored was dealt with.
    async fn deal_with(
        &self,
        delivery: Result<Delivery, ReadError>,
    ) -> Result<bool, EvidenceError> {
        match delivery {
            Ok(Delivery::Commit(commit)) => {
                self.take_in(&commit).await;
                Ok(false)
            }
            Ok(Delivery::CaughtUp(_)) => self.compare().await,
            Ok(Delivery::Damaged(damage)) => {
                let kept = self.newest().await;
                report(
                    &self.node,
                    Finding::of_store(&damage.reason),
                    kept.as_deref(),
                )
                .await?;
                Ok(false)
            }
            Err(ReadError::Corrupt { reason }) => {
                let kept = self.newest().await;
                report(&self.node, Finding::of_store(&reason), kept.as_deref()).await?;
                Err(ExecuteError::Broken(reason).into())
            }
            Err(error @ ReadError::Unavailable { .. }) => Err(read_error(error)),
        }
    }

    /// Reads what is kept, once; gives the position up to which the log was followed.
    async fn begin(&self) -> Result<u64, EvidenceError> {
        let mut followed = self.followed.lock().await;
        if let Some(followed) = followed.as_ref() {
            return Ok(followed.history.position);
        }
        let shelf = self.shelf().await?;
        let kept = shelf.newest.map(Arc::new);
        if !shelf.damaged.is_empty() {
            report(
                &self.node,
                Finding::of_files(&shelf.damaged),
                kept.as_deref(),
            )
            .await?;
        }
        let through = kept.as_ref().map(|kept| kept.heads.streams.clone());
        *followed = Some(Followed {
            history: History::through(through.unwrap_or_default()),
            kept,
            next: shelf.next,
            broken: Vec::new(),
        });
        Ok(0)
    }

    /// Heads of another installation are none of ours.
    async fn shelf(&self) -> Result<Shelf, EvidenceError> {
        let (dir, vkey) = (self.dir.clone(), self.log.vkey().clone());
        let mut shelf = self.blocking(move || Ok(kept::look(&dir, &vkey)?)).await?;
        let ours = format!("{} ({})", self.node.installation, self.node.environment);
        if let Some(kept) = &shelf.newest {
            let theirs = format!("{} ({})", kept.heads.installation, kept.heads.environment);
            if theirs != ours {
                let expected = format!("heads of {ours}");
                shelf
                    .damaged
                    .push(damage("the newest heads", expected, theirs));
                shelf.newest = None;
            }
        }
        Ok(shelf)
    }

    async fn newest(&self) -> Option<Arc<Kept>> {
        self.followed.lock().await.as_ref()?.kept.clone()
    }

    async fn take_in(&self, commit: &Recorded) {
        if let Some(followed) = self.followed.lock().await.as_mut() {
            let broken = followed.history.take_in(commit);
            if followed.broken.len() < MAX_BROKEN {
                followed.broken.extend(broken);
            }
        }
    }

    /// At the log's edge: whatever of the kept heads it did not pass through is reported. Says whether nothing was.
    async fn compare(&self) -> Result<bool, EvidenceError> {
        let mut followed = self.followed.lock().await;
        let Some(followed) = followed.as_mut() else {
            return Ok(false);
        };
        let mut contradictions = followed.broken.clone();
        for (stream, sealed) in followed.history.unmet() {
            contradictions.extend(self.rewritten(stream, *sealed).await?);
        }
        if !contradictions.is_empty() {
            let kept = followed.kept.as_deref();
            let finding = Finding::of_history(&contradictions, kept, self.log.vkey().name());
            report(&self.node, finding, kept).await?;
        }
        followed.broken.clear();
        followed.history.settle();
        self.compared.send_replace(true);
        Ok(contradictions.is_empty())
    }

    /// Looks again, where the store must answer with what is stored: a subscription may be behind.
    async fn rewritten(
        &self,
        stream: &str,
        sealed: Head,
    ) -> Result<Option<Contradiction>, EvidenceError> {
        let name: StreamName =
            stream
                .parse()
                .map_err(|error: sealwarden_eventlog::NameError| {
                    ExecuteError::Broken(error.to_string())
                })?;
        let page = self
            .node
            .log
            .read(&name, sealed.position.saturating_sub(1), 1)
            .await
            .map_err(read_error)?;
        let found = page
            .first()
            .filter(|commit| commit.position == sealed.position)
            .map(|commit| commit.hash);
        Ok(
            (found != Some(sealed.hash)).then(|| Contradiction::Rewritten {
                stream: stream.to_owned(),
                sealed,
                found,
            }),
        )
    }

    /// The newest heads, for a bundle: kept now if anything changed.
    pub(super) async fn keep_for_bundle(&self) -> Result<Option<Arc<Kept>>, EvidenceError> {
        let mut compared = self.compared.subscribe();
        let done = async { compared.wait_for(|done| *done).await.is_ok() };
        if !tokio::time::timeout(PATIENCE, done).await.unwrap_or(false) {
            let reason = "the event log is not yet compared with the heads that were kept earlier";
            return Err(EvidenceError::Log(reason.to_owned()));
        }
        self.keep().await
    }

    async fn keep_or_warn(&self) {
        if let Err(error) = self.keep().await {
            tracing::error!(%error, "the event log's heads cannot be sealed now");
        }
    }

    /// Seals and keeps the heads if anything changed; gives the newest.
    async fn keep(&self) -> Result<Option<Arc<Kept>>, EvidenceError> {
        let mut guard = self.followed.lock().await;
        let Some(followed) = guard.as_mut() else {
            return Ok(None);
        };
        let (history, kept) = (&followed.history, &followed.kept);
        let same = kept.as_ref().map(|kept| &kept.heads.streams) == Some(&history.heads);
        let comparable = *self.compared.borrow() && followed.broken.is_empty();
        if !comparable || same || history.heads.is_empty() {
            return Ok(kept.clone());
        }
        let now_ms = self.node.clock.now().wall_ms;
        let heads = Heads {
            installation: self.node.installation.clone(),
            environment: self.node.environment.to_string(),
            time: rfc3339(now_ms),
            position: history.position,
            streams: history.heads.clone(),
        };
        // Taken before anything is awaited: a number is never used twice.
        let number = followed.next;
        followed.next += 1;
        let kept = Arc::new(self.seal(heads, number, now_ms).await?);
        let (dir, written) = (self.dir.clone(), Arc::clone(&kept));
        self.blocking(move || Ok(kept::write(&dir, number, &written)?))
            .await?;
        tracing::debug!(number, position = kept.heads.position, "heads are kept");
        followed.kept = Some(Arc::clone(&kept));
        Ok(Some(kept))
    }

    async fn seal(&self, heads: Heads, number: u64, now_ms: i64) -> Result<Kept, EvidenceError> {
        let text = heads.to_string();
        let subject = Subject {
            digest: kept::digest_of(&text),
            policy: HEADS,
            words: format!("heads of the event log up to position {}", heads.position),
            request_id: format!("heads-{number}"),
            now_ms,
        };
        let seal = self.log.seal_new(subject).await?;
        Kept::check("the new heads", text, seal, self.log.vkey())
            .map_err(|damage| EvidenceError::Log(damage.to_string()))
    }

    /// Works on a thread of its own: no other life begins before it has ended.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, EvidenceError> + Send + 'static,
    ) -> Result<T, EvidenceError> {
        let life = Arc::clone(&self.life);
        tokio::task::spawn_blocking(move || {
            let _life = life;
            work()
        })
        .await
        .map_err(|error| EvidenceError::Log(format!("the work was ended: {error}")))?
    }
}

fn read_error(error: ReadError) -> EvidenceError {
    EvidenceError::Execute(match error {
        ReadError::Unavailable { reason } => ExecuteError::Unavailable(reason),
        ReadError::Corrupt { reason } => ExecuteError::Broken(reason),
    })
}
