//! `refold`: the fold of a whole installation from its events, on one core. The commits lie in memory as bytes; `refold.embedded` reads the same ones from the
//! embedded event log, every hash checked.
//!
//! The events are those that a log grows by: of 32 logs, each with an intent for every batch and a published checkpoint for every eighth.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use prost::Message as _;
use sealwarden_domain::fold::event;
use sealwarden_domain::installation::Installation;
use sealwarden_engine::{Meta, StreamName, decode, encode};
use sealwarden_eventlog::{CommitId, Config, EventLog, Filter, Head, NewCommit, Recorded};
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::merkle::Hash;
use sealwarden_wire::event::v1::event::Kind;
use sealwarden_wire::event::v1::{CheckpointPublished, Commit, IntentRecorded, OriginOpened};
use tokio::task::JoinSet;

use super::Setting;
use super::figures::{Figure, Measured, rate};
use super::limits;

/// Logs, each a stream.
const LOGS: u64 = 32;
/// Intents of each.
const INTENTS: u64 = 512;
/// Leaves that an intent adds.
const BATCH: u64 = 256;
/// Intents for each published checkpoint.
const PUBLISHED_EVERY: u64 = 8;

pub(super) async fn measure(setting: &Setting) -> anyhow::Result<Measured> {
    setting.stage("storing events");
    let embedded = store(&setting.folder).await?;
    let commits = Arc::new(all(&embedded).await?);
    let count = u64::try_from(commits.len())?;
    setting.stage("folding from memory, and bare decoding");
    let (own, span) = (Arc::clone(&commits), setting.span);
    let measured = tokio::task::spawn_blocking(move || from_memory(&own, span));
    let (folded, decoded) = measured.await.context("folding")??;
    setting.stage("folding from the embedded log");
    let (mut read, mut took) = (0, Duration::ZERO);
    while took < setting.span {
        let begun = std::time::Instant::now();
        fold(&all(&embedded).await?)?;
        took += begun.elapsed();
        read += count;
    }
    let mut measured = Measured {
        figures: vec![
            Figure {
                name: "refold",
                value: folded,
                unit: "events/s a core",
                limit: decoded,
                limit_is: "decoding the same bytes as protobuf, and nothing else",
            },
            Figure {
                name: "refold.embedded",
                value: rate(read, took),
                unit: "events/s",
                limit: folded,
                limit_is: "the same commits from memory",
            },
        ],
        baselines: Vec::new(),
        settings: Vec::new(),
    };
    measured.setting(
        "durability",
        "none while folding; the events were stored durably before",
    );
    measured.setting(
        "events",
        format!("{count} of {LOGS} logs, one a commit: intents, and a checkpoint for every {PUBLISHED_EVERY}th"),
    );
    measured.setting(
        "cores used",
        "1; reading from the embedded log uses a thread of its own beside. JetStream is not measured: it needs a server",
    );
    Ok(measured)
}

fn from_memory(commits: &[Recorded], span: Duration) -> anyhow::Result<(f64, f64)> {
    let count = u64::try_from(commits.len())?;
    let (folded, took) = limits::repeat(span, || {
        fold(commits)?;
        Ok(count)
    })?;
    let folded = rate(folded, took);
    let (decoded, took) = limits::repeat(span, || {
        for commit in commits {
            black_box(Commit::decode(commit.payload.clone())?);
        }
        Ok(count)
    })?;
    Ok((folded, rate(decoded, took)))
}

fn fold(commits: &[Recorded]) -> anyhow::Result<()> {
    let mut installation = Installation::default();
    for recorded in commits {
        installation.fold(&decode(recorded)?)?;
    }
    let expected = usize::try_from(LOGS)?;
    // A fold that set streams aside measures nothing.
    ensure!(
        installation.logs.len() == expected,
        "{} logs were folded, not {expected}",
        installation.logs.len()
    );
    Ok(())
}

async fn store(folder: &Path) -> anyhow::Result<Arc<dyn EventLog>> {
    let dir = folder.join("events");
    let log = sealwarden_eventlog::open(Config::Embedded { dir }).await?;
    // All logs at once, so that they share syncs.
    let mut tasks = JoinSet::new();
    for number in 0..LOGS {
        tasks.spawn(grow(Arc::clone(&log), number));
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("storing panicked")??;
    }
    Ok(log)
}

async fn grow(log: Arc<dyn EventLog>, number: u64) -> anyhow::Result<()> {
    let stream = StreamName::new("log", format!("bench-{number}"))?;
    let origin = format!("drill.invalid/bench-{number}/1");
    let mut head = Head::EMPTY;
    let mut append = async |kind: Kind| -> anyhow::Result<()> {
        let id = CommitId::new();
        let payload = encode(id, &stream, &Meta::node("bench"), &[event(kind)]);
        head = log
            .append(&stream, head, NewCommit { id, payload })
            .await?
            .head();
        Ok(())
    };
    append(Kind::OriginOpened(OriginOpened {
        origin: origin.clone(),
        key_id: format!("bench-{number}"),
        provider: "software".to_owned(),
        node: "bench".to_owned(),
        ..OriginOpened::default()
    }))
    .await?;
    for batch in 1..=INTENTS {
        let size = batch * BATCH;
        let root = Hash::of(&size.to_be_bytes());
        let checkpoint = Checkpoint {
            origin: origin.clone(),
            size,
            root,
        };
        let message = Hash::of(checkpoint.to_text().as_bytes()).0.to_vec();
        let root = root.0.to_vec();
        append(Kind::IntentRecorded(IntentRecorded {
            origin: origin.clone(),
            old_size: size - BATCH,
            size,
            root: root.clone().into(),
            message_sha256: message.into(),
            node: "bench".to_owned(),
            ..IntentRecorded::default()
        }))
        .await?;
        if batch.is_multiple_of(PUBLISHED_EVERY) {
            append(Kind::CheckpointPublished(CheckpointPublished {
                origin: origin.clone(),
                size,
                root: root.into(),
                node: "bench".to_owned(),
            }))
            .await?;
        }
    }
    Ok(())
}

/// Every commit of the log, in its order.
async fn all(log: &Arc<dyn EventLog>) -> anyhow::Result<Vec<Recorded>> {
    let last = log.last_position().await?;
    let mut subscription = log.subscribe(Filter::All, 0).await?;
    let mut commits = Vec::new();
    while let Some(recorded) = subscription.next_commit().await {
        let recorded = recorded?;
        let end = recorded.position >= last;
        commits.push(recorded);
        if end {
            break;
        }
    }
    Ok(commits)
}
