//! `detect.rate`: events that detection evaluates on one core, and `detect.latency`: from an event in the log to the open incident.
//!
//! The rate is what the service does with each commit: decode it, fold it, ask the built-in detectors and the shipped plan's. The commits lie in memory as bytes, and are those of
//! a busy, clean installation of 32 logs. The latency is that of a whole installation in a sandbox, in which a log's queue is told to be too deep, each time another log's.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use prost::Message as _;
use sealwarden_detection::Evaluation;
use sealwarden_domain::fold::event;
use sealwarden_engine::{Meta, Stream, StreamName, encode};
use sealwarden_eventlog::{CommitId, EventLog, Recorded};
use sealwarden_runbook::{PlanSet, SHIPPED};
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::merkle::Hash;
use sealwarden_wire::event::v1::event::Kind;
use sealwarden_wire::event::v1::{
    CanaryRun, CheckpointPublished, Commit, DetectorsInstalled, IntentRecorded, KeyUseObserved,
    Measured as OneMeasure, MeasuresTaken, OriginOpened, PermitRequested,
};

use super::Setting;
use super::figures::{Figure, Measured, ms, quantile, rate};
use super::limits;
use crate::drill::sandbox::{Sandbox, Scene};

/// Logs, each a stream.
const LOGS: u64 = 32;
/// Batches of each: an intent, its checkpoint, and the use of the key in the audit.
const BATCHES: u64 = 512;
/// Leaves that a batch adds.
const LEAVES: u64 = 256;
/// Batches for each request for a permit and each record of what nodes measured.
const TOLD_EVERY: u64 = 8;
/// Recorded time between two events.
const STEP_MS: i64 = 8;
/// When the events begin, Unix milliseconds.
const BEGIN_MS: i64 = 1_800_000_000_000;
/// More than the shipped detectors let wait in a queue.
const TOO_DEEP: i64 = 1_000_000;
/// At least and at most so many samples. One detector looks at 256 logs.
const SAMPLES: std::ops::Range<usize> = 20..240;
/// No sample takes longer.
const BOUND: Duration = Duration::from_mins(1);

pub(super) async fn measure(setting: &Setting) -> anyhow::Result<Measured> {
    setting.stage("evaluating from memory, and bare decoding");
    let span = setting.span;
    let measured = tokio::task::spawn_blocking(move || evaluated(span));
    let (evaluated, decoded, events) = measured.await.context("evaluating")??;
    setting.stage("opening incidents");
    let mut samples = incidents(setting.span).await?;
    let folder = setting.folder.clone();
    let alone = tokio::task::spawn_blocking(move || {
        limits::appends(&folder, 512, Duration::from_secs(1)).map(|rate| 1.0 / rate)
    });
    let sync_s = alone.await.context("measuring limits")??;
    let median = ms(quantile(&mut samples, 500));
    let mut measured = Measured {
        figures: vec![
            Figure {
                name: "detect.rate",
                value: evaluated,
                unit: "events/s a core",
                limit: decoded,
                limit_is: "decoding the same bytes as protobuf, and nothing else",
            },
            Figure {
                name: "detect.latency",
                value: ms(quantile(&mut samples, 990)),
                unit: "ms",
                limit: 2.0 * sync_s * 1000.0,
                limit_is: "signal and incident, each appended durably",
            },
        ],
        baselines: Vec::new(),
        settings: Vec::new(),
    };
    measured.setting(
        "durability",
        "none while evaluating; signal and incident are fsynced, one after the other",
    );
    measured.setting(
        "events",
        format!("{events} of {LOGS} logs, one a commit: intents, checkpoints, key uses, permits, measures, canaries; none of them a signal"),
    );
    measured.setting(
        "incidents",
        format!(
            "{} one after another, from the answer of the append to the folded incident; median {median:.1} ms",
            samples.len()
        ),
    );
    measured.setting("cores used", "1 for the rate");
    Ok(measured)
}

/// Evaluated and bare decoded events a second, and how many events there are.
fn evaluated(span: Duration) -> anyhow::Result<(f64, f64, u64)> {
    let mut commits = Events::clean()?;
    let count = u64::try_from(commits.all.len())?;
    let (done, took) = limits::repeat(span, || {
        let evaluation = evaluate(&commits.all)?;
        let false_alarms: Vec<&str> = evaluation.concluded().collect();
        ensure!(
            false_alarms.is_empty(),
            "clean events gave {false_alarms:?}"
        );
        Ok(count)
    })?;
    let evaluated = rate(done, took);
    let (done, took) = limits::repeat(span, || {
        for commit in &commits.all {
            black_box(Commit::decode(commit.payload.clone())?);
        }
        Ok(count)
    })?;
    // Detectors that are not in force would be fast.
    commits.add("measure/sealing-1", too_deep("sealing-1", "bench-1"))?;
    let evaluation = evaluate(&commits.all)?;
    let concluded: Vec<&str> = evaluation.concluded().collect();
    ensure!(
        concluded == ["queue-backlog"] && evaluation.watched() > 0,
        "a queue that is too deep gave {concluded:?}"
    );
    Ok((evaluated, rate(done, took), count))
}

fn evaluate(commits: &[Recorded]) -> anyhow::Result<Evaluation> {
    let mut evaluation = Evaluation::default();
    for commit in commits {
        evaluation.take_in(commit)?;
    }
    Ok(evaluation)
}

/// Commits as an event log gives them.
#[derive(Default)]
struct Events {
    all: Vec<Recorded>,
}

impl Events {
    /// What an installation records while all is well.
    fn clean() -> anyhow::Result<Self> {
        let mut events = Self::default();
        let plan = PlanSet::load(&SHIPPED).map_err(|findings| {
            let first = findings.first().map(ToString::to_string);
            anyhow::anyhow!("the shipped plan: {}", first.unwrap_or_default())
        })?;
        let detectors = plan.detectors().context("the shipped plan's detectors")?;
        let installed = DetectorsInstalled {
            version: detectors.version(),
            sha256: detectors.digest_hex(),
            text: detectors.text().to_owned(),
            node: "bench".to_owned(),
        };
        events.add("detect/detectors", Kind::DetectorsInstalled(installed))?;
        for log in 0..LOGS {
            let opened = OriginOpened {
                origin: origin(log),
                key_id: format!("bench-{log}"),
                provider: "software".to_owned(),
                node: format!("sealing-{log}"),
                ..OriginOpened::default()
            };
            events.add(&format!("log/bench-{log}"), Kind::OriginOpened(opened))?;
        }
        for batch in 1..=BATCHES {
            for log in 0..LOGS {
                events.batch(log, batch)?;
                if (batch + log).is_multiple_of(TOLD_EVERY) {
                    events.told(log, batch)?;
                }
            }
        }
        Ok(events)
    }

    fn add(&mut self, stream: &str, kind: Kind) -> anyhow::Result<()> {
        let (category, id) = stream.split_once('/').context("a stream's name")?;
        let stream = StreamName::new(category, id)?;
        let commit_id = CommitId::new();
        let place = u64::try_from(self.all.len())? + 1;
        self.all.push(Recorded {
            position: place,
            commit_id,
            recorded_at_ms: BEGIN_MS + i64::try_from(place)? * STEP_MS,
            prev_hash: [0; 32],
            hash: [0; 32],
            payload: encode(commit_id, &stream, &Meta::node("bench"), &[event(kind)]),
            stream,
        });
        Ok(())
    }

    /// An intent, the use of the key in the audit, and the published checkpoint.
    fn batch(&mut self, log: u64, batch: u64) -> anyhow::Result<()> {
        let (stream, node) = (format!("log/bench-{log}"), format!("sealing-{log}"));
        let size = batch * LEAVES;
        let root = Hash::of(&size.to_be_bytes());
        let checkpoint = Checkpoint {
            origin: origin(log),
            size,
            root,
        };
        let message = Hash::of(checkpoint.to_text().as_bytes()).0.to_vec();
        let intent = IntentRecorded {
            origin: origin(log),
            old_size: size - LEAVES,
            size,
            root: root.0.to_vec().into(),
            message_sha256: message.clone().into(),
            node: node.clone(),
            ..IntentRecorded::default()
        };
        self.add(&stream, Kind::IntentRecorded(intent))?;
        let used = KeyUseObserved {
            provider: "software".to_owned(),
            node: node.clone(),
            key_id: format!("bench-{log}"),
            message_sha256: message.into(),
            line: "an audit's line".to_owned(),
            cursor: size,
            log: format!("bench-{log}"),
            ..KeyUseObserved::default()
        };
        self.add(&format!("keyuse/{node}"), Kind::KeyUseObserved(used))?;
        let published = CheckpointPublished {
            origin: origin(log),
            size,
            root: root.0.to_vec().into(),
            node,
        };
        self.add(&stream, Kind::CheckpointPublished(published))
    }

    /// What nodes say from time to time.
    fn told(&mut self, log: u64, batch: u64) -> anyhow::Result<()> {
        let node = format!("sealing-{log}");
        let request = PermitRequested {
            node: node.clone(),
            request_id: format!("{log}-{batch}"),
            origin: origin(log),
        };
        let stream = format!("log/bench-{log}");
        self.add(&stream, Kind::PermitRequested(request))?;
        let calls = [("key-calls", 40, 40), ("key-call-ms", 40, 120)];
        let calls = calls.map(|(measure, count, sum)| one(measure, "software", count, sum));
        self.add(&format!("measure/{node}"), measures(&node, calls.to_vec()))?;
        let verifier = format!("verification-{log}");
        let verdicts = [("verdicts", 500, 500), ("negative-verdicts", 1, 1)];
        let verdicts = verdicts.map(|(measure, count, sum)| one(measure, &verifier, count, sum));
        let stream = format!("measure/{verifier}");
        self.add(&stream, measures(&verifier, verdicts.to_vec()))?;
        let canary = CanaryRun {
            log: format!("bench-{log}"),
            took_ms: 300,
            good: true,
            node: "bench".to_owned(),
            ..CanaryRun::default()
        };
        self.add("detect/canary", Kind::CanaryRun(canary))
    }
}

fn origin(log: u64) -> String {
    format!("drill.invalid/bench-{log}/1")
}

fn one(measure: &str, name: &str, count: u64, sum: i64) -> OneMeasure {
    OneMeasure {
        measure: measure.to_owned(),
        name: name.to_owned(),
        count,
        sum,
        most: sum,
        last: sum,
    }
}

fn measures(node: &str, measures: Vec<OneMeasure>) -> Kind {
    Kind::MeasuresTaken(MeasuresTaken {
        node: node.to_owned(),
        measures,
        ..MeasuresTaken::default()
    })
}

fn too_deep(node: &str, log: &str) -> Kind {
    measures(node, vec![one("queue-depth", log, 1, TOO_DEEP)])
}

/// How long incidents took to open.
async fn incidents(span: Duration) -> anyhow::Result<Vec<Duration>> {
    let sandbox = Sandbox::start(None, None, Scene::default()).await?;
    let result = open_incidents(&sandbox, span).await;
    sandbox.stop().await?;
    result
}

async fn open_incidents(sandbox: &Sandbox, span: Duration) -> anyhow::Result<Vec<Duration>> {
    let begun = Instant::now();
    let mut samples = Vec::new();
    while samples.len() < SAMPLES.start || begun.elapsed() < span && samples.len() < SAMPLES.end {
        let sample = sample(sandbox, samples.len());
        let sample = tokio::time::timeout(BOUND, sample).await;
        samples.push(sample.context("an incident did not open in its time")??);
    }
    Ok(samples)
}

async fn sample(sandbox: &Sandbox, number: usize) -> anyhow::Result<Duration> {
    let (board, log) = (&sandbox.started.board, &sandbox.started.log);
    let name = format!("bench-{number}");
    let subject = format!("key providers of log {name}");
    append(log, event(too_deep("bench", &name))).await?;
    let appended = Instant::now();
    board
        .wait_until(|installation| {
            let mut opened = installation
                .incidents
                .values()
                .filter_map(|it| it.opened.as_ref());
            opened.any(|it| it.subject == subject).then_some(())
        })
        .await;
    Ok(appended.elapsed())
}

async fn append(
    log: &Arc<dyn EventLog>,
    event: sealwarden_wire::event::v1::Event,
) -> anyhow::Result<()> {
    let stream = StreamName::new("measure", "bench")?;
    let mut stream = Stream::at_its_end(Arc::clone(log), stream).await?;
    let executed = stream.execute(Meta::node("bench"), |_| Ok(vec![event.clone()]));
    executed.await?;
    Ok(())
}
