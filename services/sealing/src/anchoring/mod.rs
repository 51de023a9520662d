//! Having time-stamping authorities date the log's checkpoints (RFC 3161), and what is held of it.
//!
//! Each authority of the settings is asked by a task of its own, so one that hangs delays no other and never sealing. An answer is verified whole, compared with
//! this node's clock, kept durably, recorded in the log line's stream with its evidence, and only then counts.

mod config;
mod store;

pub use config::{Anchors, Tsa};
pub(crate) use store::AnchorStore;

use crate::service::Service;
use crate::tree::Tree;
use anyhow::{Context as _, bail, ensure};
use sealwarden_anchors::client::Client;
use sealwarden_anchors::file::{Anchor, Anchors as AnchorFile};
use sealwarden_anchors::roots::Roots;
use sealwarden_anchors::timestamp::Timestamp;
use sealwarden_domain::log_control::Command;
use sealwarden_seallog::SignedCheckpoint;
use sealwarden_wire::event::v1::CheckpointAnchored;
use sealwarden_wire::seal::v1::{AnchorStatus, AnchorTime, LaterAnchor};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Pause after a failed try; it doubles up to the interval, an hour at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
/// Pause before what the event log did not take is recorded again.
const RECORD_AGAIN: Duration = Duration::from_secs(1);

/// An authority with what is needed to ask it.
pub(crate) struct Authority {
    tsa: Tsa,
    client: Client,
    roots: Roots,
    state: Mutex<State>,
}

/// How an authority is doing.
#[derive(Clone, Debug, Default)]
struct State {
    failures: u32,
    failing: String,
    /// Unix milliseconds.
    next_ms: i64,
}

/// The authorities of the settings.
pub(crate) struct Authorities(Vec<Arc<Authority>>);

impl Authorities {
    /// Reads the files that the settings name: what is missing is found before the service starts.
    pub(crate) fn open(config: &Anchors) -> anyhow::Result<Self> {
        let open = |tsa: &Tsa| {
            anyhow::Ok(Arc::new(Authority {
                client: tsa.client(config.timeout())?,
                roots: tsa.read_roots()?,
                tsa: tsa.clone(),
                state: Mutex::default(),
            }))
        };
        config
            .tsas
            .iter()
            .map(open)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn trusted(&self) -> Vec<(String, Roots)> {
        let named = |it: &Arc<Authority>| (it.tsa.name.clone(), it.roots.clone());
        self.0.iter().map(named).collect()
    }

    /// Reads what earlier lives held of a tree. Blocks its thread.
    pub(crate) fn load(&self, tree: &Tree) -> anyhow::Result<()> {
        tree.anchors.load(&tree.reader, &self.trusted())
    }

    /// How each is doing, for the tree that is written.
    pub(crate) fn status(&self, tree: Option<&Tree>) -> Vec<AnchorStatus> {
        let status = |it: &Arc<Authority>| {
            let last = tree.and_then(|tree| tree.anchors.last_of(&it.tsa.name, None).newest);
            let (size, time_ms) = last.unwrap_or_default();
            let state = it.state();
            AnchorStatus {
                name: it.tsa.name.clone(),
                url: it.tsa.url.clone(),
                size,
                time_ms,
                failing: state.failing,
                failures: state.failures,
                next_ms: state.next_ms,
            }
        };
        self.0.iter().map(status).collect()
    }

    /// Why a leaf that is not anchored waits, in words.
    pub(crate) fn waits_for(&self, interval: Duration) -> String {
        if self.0.is_empty() {
            return "no time-stamping authority is configured: set sealing.anchors.tsas in settings.yaml"
                .to_owned();
        }
        let words = |it: &Arc<Authority>| {
            let state = it.state();
            let next = jiff::Timestamp::from_millisecond(state.next_ms)
                .ok()
                .filter(|_| state.next_ms > 0)
                .map(|time| format!(", asked next at {time}"))
                .unwrap_or_default();
            if state.failing.is_empty() {
                format!("{} (every {} s{next})", it.tsa.name, interval.as_secs())
            } else {
                format!("{} fails: {}{next}", it.tsa.name, state.failing)
            }
        };
        let each: Vec<_> = self.0.iter().map(words).collect();
        format!("waits for a timestamp of {}", each.join("; "))
    }
}

impl Authority {
    fn state(&self) -> State {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.clone()
    }

    fn note(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Runs until the writer has ended.
pub(crate) async fn run(service: &Arc<Service>) -> anyhow::Result<()> {
    let mut asking = JoinSet::new();
    for authority in &service.authorities.0 {
        let (service, authority) = (Arc::clone(service), Arc::clone(authority));
        asking.spawn(async move { keep_asking(&service, &authority).await });
    }
    record_held(service).await;
    while let Some(ended) = asking.join_next().await {
        ended.context("asking a time-stamping authority")?;
    }
    Ok(())
}

/// What an earlier life kept and could not record.
async fn record_held(service: &Service) {
    for tree in service.trees() {
        for held in tree.anchors.all() {
            let size = held.signed.checkpoint.size;
            let known = service.on_board(|log| {
                log.origin(&tree.origin)
                    .is_some_and(|it| it.dated.keys().any(|(dated, _)| *dated == size))
            });
            if known == Some(true) || service.writer_ended.is_cancelled() {
                continue;
            }
            for event in events(service, &tree, size).await.unwrap_or_default() {
                record(service, event).await;
            }
        }
    }
}

/// The events for all anchors of a checkpoint that an authority of the settings vouches for.
async fn events(
    service: &Service,
    tree: &Arc<Tree>,
    size: u64,
) -> anyhow::Result<Vec<CheckpointAnchored>> {
    let own = Arc::clone(tree);
    let file = tokio::task::spawn_blocking(move || own.anchors.file(size)).await??;
    let mut events = Vec::new();
    for anchor in file.all() {
        let verified = service
            .authorities
            .0
            .iter()
            .find_map(|it| Some((it, anchor.verify(&it.roots).ok()?)));
        if let Some((authority, timestamp)) = verified {
            let signed = tree
                .reader
                .signed(anchor.note().clone())
                .map_err(anyhow::Error::msg)?;
            events.push(event(service, &signed, authority, anchor, &timestamp));
        }
    }
    Ok(events)
}

async fn keep_asking(service: &Service, authority: &Authority) {
    let interval = service.config.anchors.interval();
    let mut published = service.published.subscribe();
    let mut board = service.node.board.changes();
    loop {
        published.mark_unchanged();
        board.mark_unchanged();
        let witnessed = service.current().map(|tree| tree.witnessed.subscribe());
        let next = if is_on_duty(service, authority) {
            due(service, authority).await
        } else {
            // The board tells when a run changes that.
            Ok(Due::WhenItGrows)
        };
        let wait = match next {
            Ok(Due::Now(tree, signed)) => {
                let pause = ask(service, authority, &tree, &signed).await;
                authority.note(|state| state.next_ms = in_future(service, pause));
                Some(pause)
            }
            Ok(Due::In(pause)) => Some(pause),
            Ok(Due::WhenItGrows) => None,
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(tsa = authority.tsa.name, error, "nothing can be anchored");
                Some(interval.min(LONGEST_PAUSE))
            }
        };
        tokio::select! {
            () = service.writer_ended.cancelled() => return,
            () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            _ = published.changed(), if wait.is_none() => {}
            // The witnesses' quorum may have changed.
            _ = board.changed(), if wait.is_none() => {}
            () = grows(witnessed), if wait.is_none() => {}
        }
    }
}

/// Whether it is asked now: not while a run has set it aside as a vendor, and one that stands in only then.
fn is_on_duty(service: &Service, authority: &Authority) -> bool {
    let name = &authority.tsa.name;
    service.node.board.read(|all| {
        let aside = |vendor: &String| all.vendors.get(vendor)?.aside.as_ref();
        match &authority.tsa.stands_in_for {
            Some(other) => aside(other).is_some_and(|it| it.fallback == *name),
            None => aside(name).is_none(),
        }
    })
}

/// Waits until the witnessed checkpoint grows.
async fn grows(size: Option<watch::Receiver<u64>>) {
    let Some(mut size) = size else {
        return std::future::pending().await;
    };
    if size.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn in_future(service: &Service, pause: Duration) -> i64 {
    let pause = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
    service.node.clock.now().wall_ms.saturating_add(pause)
}

/// What an authority is to be asked for.
enum Due {
    /// A timestamp over this checkpoint.
    Now(Arc<Tree>, Box<SignedCheckpoint>),
    /// Nothing for so long.
    In(Duration),
    /// Nothing before the log grows.
    WhenItGrows,
}

/// The newest witnessed checkpoint if it is new; else, once its witnesses had their time, the newest published one, which dates the log and anchors no seal.
async fn due(service: &Service, authority: &Authority) -> anyhow::Result<Due> {
    let Some(tree) = service.current() else {
        return Ok(Due::WhenItGrows);
    };
    let required = service.witnesses.required(&service.node.board);
    let last = tree
        .anchors
        .last_of(&authority.tsa.name, required.as_deref());
    let reader = tree.reader.clone();
    let view = tokio::task::spawn_blocking(move || reader.view()).await??;
    let met = |it: &&SignedCheckpoint| {
        required
            .as_ref()
            .is_some_and(|required| required.met_by(&it.note))
    };
    let witnessed = view
        .witnessed()
        .filter(met)
        .filter(|it| it.checkpoint.size > last.witnessed);
    let newest = last.newest.map_or(0, |(size, _)| size);
    let published = view.published().filter(|it| it.checkpoint.size > newest);
    let (found, new) = match (witnessed, published) {
        (Some(signed), _) => (signed.clone(), false),
        (None, Some(signed)) => (signed.clone(), true),
        (None, None) => return Ok(Due::WhenItGrows),
    };
    let now_ms = service.node.clock.now().wall_ms;
    let since_ms = last.newest.map_or(i64::MAX, |(_, time_ms)| {
        now_ms.saturating_sub(time_ms).max(0)
    });
    let since = Duration::from_millis(u64::try_from(since_ms).unwrap_or(u64::MAX));
    let interval = service.config.anchors.interval();
    // A restart asks no sooner than the interval wants it.
    if let Some(left) = interval.checked_sub(since).filter(|left| !left.is_zero()) {
        authority.note(|state| state.next_ms = in_future(service, left));
        return Ok(Due::In(left));
    }
    if new {
        let mut size = tree.witnessed.subscribe();
        let covered = size.wait_for(|size| *size >= found.checkpoint.size);
        let in_time = tokio::time::timeout(service.config.witness_wait(), covered)
            .await
            .is_ok();
        if in_time {
            let reader = tree.reader.clone();
            let view = tokio::task::spawn_blocking(move || reader.view()).await??;
            if let Some(signed) = view.witnessed() {
                let signed = Box::new(signed.clone());
                return Ok(Due::Now(Arc::clone(&tree), signed));
            }
        }
    }
    Ok(Due::Now(tree, Box::new(found)))
}

/// Asks once; answers how long to wait before it is asked again.
async fn ask(
    service: &Service,
    authority: &Authority,
    tree: &Arc<Tree>,
    signed: &SignedCheckpoint,
) -> Duration {
    let interval = service.config.anchors.interval();
    match stamp(service, authority, tree, signed).await {
        Ok(event) => {
            let (size, tsa) = (event.size, event.tsa.clone());
            tracing::info!(origin = tree.origin, size, tsa, "a checkpoint is anchored");
            authority.note(|state| *state = State::default());
            record(service, event).await;
            interval
        }
        Err(error) => {
            let failing = format!("{error:#}");
            tracing::warn!(
                tsa = authority.tsa.name,
                error = failing,
                "nothing was anchored"
            );
            let mut failures = 0;
            authority.note(|state| {
                state.failures = state.failures.saturating_add(1);
                state.failing = failing;
                failures = state.failures;
            });
            let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(12));
            doubled.min(interval).min(LONGEST_PAUSE)
        }
    }
}

/// A timestamp that holds, kept durably.
async fn stamp(
    service: &Service,
    authority: &Authority,
    tree: &Arc<Tree>,
    signed: &SignedCheckpoint,
) -> anyhow::Result<CheckpointAnchored> {
    let earliest_ms = service.node.clock.now().wall_ms;
    let asked = authority
        .client
        .stamp(signed.text.as_bytes(), &authority.roots);
    let (response, timestamp) = tokio::select! {
        () = service.writer_ended.cancelled() => bail!("the service ends"),
        answer = asked => answer?,
    };
    let latest_ms = service.node.clock.now().wall_ms;
    check_time(service, &timestamp, (earliest_ms, latest_ms))?;
    let anchor = Anchor::new(signed.note.clone(), response)?;
    let event = event(service, signed, authority, &anchor, &timestamp);
    let (own, signed) = (Arc::clone(tree), signed.clone());
    let (name, roots) = (authority.tsa.name.clone(), authority.roots.clone());
    let kept = tokio::task::spawn_blocking(move || {
        own.anchors
            .keep(&signed, (&name, &roots), anchor, &timestamp)
    });
    kept.await
        .context("keeping the anchor")?
        .context("keeping the anchor")?;
    Ok(event)
}

/// An authority that dates a checkpoint before it was sent, or long after, is wrong, or this node's clock is.
fn check_time(
    service: &Service,
    timestamp: &Timestamp,
    (earliest_ms, latest_ms): (i64, i64),
) -> anyhow::Result<()> {
    let skew_ms = service.config.anchors.max_skew_ms();
    let from_ms = earliest_ms.saturating_sub(skew_ms);
    let to_ms = latest_ms.saturating_add(skew_ms);
    let date = |ms: i64| {
        jiff::Timestamp::from_millisecond(ms)
            .map_or_else(|_| format!("{ms} ms"), |it| it.to_string())
    };
    ensure!(
        timestamp.latest_ms() >= from_ms && timestamp.time_ms <= to_ms,
        "{} dates the checkpoint at {}, and this node's clock says {}: more than {} s apart; set this clock, or do not trust that authority",
        timestamp.tsa,
        date(timestamp.time_ms),
        date(latest_ms),
        service.config.anchors.max_skew_s
    );
    Ok(())
}

fn event(
    service: &Service,
    signed: &SignedCheckpoint,
    authority: &Authority,
    anchor: &Anchor,
    timestamp: &Timestamp,
) -> CheckpointAnchored {
    CheckpointAnchored {
        origin: signed.checkpoint.origin.clone(),
        size: signed.checkpoint.size,
        root: signed.checkpoint.root.as_bytes().to_vec().into(),
        name: authority.tsa.name.clone(),
        tsa: timestamp.tsa.clone(),
        time_ms: timestamp.latest_ms(),
        note: anchor.note().to_string().into_bytes().into(),
        token: anchor.response().to_vec().into(),
        node: service.node.name.clone(),
    }
}

/// Records an anchor in the log line's stream, however long the event log is away.
async fn record(service: &Service, event: CheckpointAnchored) {
    loop {
        let command = Command::RecordAnchor(event.clone());
        match service.execute(&command).await {
            Ok(_) => return,
            Err(sealwarden_engine::ExecuteError::Rejected(rejection)) => {
                tracing::warn!(%rejection, size = event.size, "an anchor is held and was not recorded");
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "an anchor is recorded later");
                tokio::select! {
                    () = service.writer_ended.cancelled() => return,
                    () = tokio::time::sleep(RECORD_AGAIN) => {}
                }
            }
        }
    }
}

/// Timestamps over later checkpoints than the one of this size, by authorities that did not date that: the earliest of each, proven to contain it.
pub(crate) async fn later(
    service: &Service,
    tree: &Arc<Tree>,
    size: u64,
) -> anyhow::Result<Vec<LaterAnchor>> {
    let mut found = Vec::new();
    for (name, held, time_ms) in tree.anchors.later_than(size) {
        let later_size = held.signed.checkpoint.size;
        let file = file(tree, later_size).await?;
        let known = service.authorities.0.iter().find(|it| it.tsa.name == name);
        let of_time = |anchor: &&Anchor| {
            known
                .and_then(|it| anchor.verify(&it.roots).ok())
                .is_some_and(|it| it.latest_ms() == time_ms)
        };
        let Some(anchor) = file.all().iter().find(of_time) else {
            continue;
        };
        let reader = tree.reader.clone();
        let prove = move || reader.view()?.consistency_proof(size, later_size);
        let proof = tokio::task::spawn_blocking(prove).await??;
        found.push(LaterAnchor {
            note: anchor.note().to_string().into_bytes().into(),
            token: anchor.response().to_vec().into(),
            proof: proof
                .iter()
                .map(|it| it.as_bytes().to_vec().into())
                .collect(),
            time: Some(AnchorTime { name, time_ms }),
        });
    }
    Ok(found)
}

/// The file of a checkpoint's anchors, read on a thread that may block.
pub(crate) async fn file(tree: &Arc<Tree>, size: u64) -> anyhow::Result<AnchorFile> {
    let own = Arc::clone(tree);
    tokio::task::spawn_blocking(move || own.anchors.file(size)).await?
}
