//! `steps.sequential`, `steps.concurrent`: steps of runbooks, each decided by the real decider and durable in the embedded log.
//!
//! A step is what the executor records of it: one commit with its end, what is ready then, and the start of the next step.
//! There is no effect in between, so this is the speed of the engine.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sealwarden_domain::At;
use sealwarden_domain::fold::event;
use sealwarden_domain::run::{Command, End, RunState, decide};
use sealwarden_engine::{Clock as _, Meta, Stream, StreamName, SystemClock};
use sealwarden_eventlog::{Config, EventLog};
use sealwarden_seal::merkle::Hash;
use sealwarden_wire::event::v1::{Event, RunStarted};
use ssh_key::PrivateKey;
use ssh_key::private::Ed25519Keypair;
use tokio::task::JoinSet;

use super::Setting;
use super::figures::{Baseline, Figure, Measured, rate};
use super::limits;

/// Steps of a run, one after another.
const STEPS: usize = 64;
/// Runs at once.
const RUNS: usize = 32;
pub(super) async fn measure(setting: &Setting) -> anyhow::Result<Measured> {
    let dir = setting.folder.join("events");
    let log = sealwarden_eventlog::open(Config::Embedded { dir }).await?;
    setting.stage("one run, step after step");
    let (one, one_us) = steps(&log, 1, setting.span).await?;
    setting.stage("32 runs at once");
    let (many, many_us) = steps(&log, RUNS, setting.span).await?;
    let folder = setting.folder.clone();
    setting.stage("limits: raw appends");
    let span = setting.span;
    let raw = tokio::task::spawn_blocking(move || Raw::measure(&folder, span));
    let raw = raw.await.context("measuring limits")??;
    let figure = |name, value, limit, limit_is| Figure {
        name,
        value,
        unit: "steps/s",
        limit,
        limit_is,
    };
    let baseline = |figure, value| Baseline {
        figure,
        value,
        is: "the raw appends, and one Ed25519 signature a commit",
    };
    let mut measured = Measured {
        figures: vec![
            figure(
                "steps.sequential",
                one,
                raw.sequential,
                "one raw append of 512 bytes a step, one fdatasync each",
            ),
            figure(
                "steps.concurrent",
                many,
                raw.concurrent,
                "raw appends of 512 bytes, one fdatasync for all 32 runs",
            ),
        ],
        baselines: vec![
            baseline("steps.sequential", raw.signed(raw.sequential)),
            baseline("steps.concurrent", raw.signed(raw.concurrent)),
        ],
        settings: Vec::new(),
    };
    measured.setting(
        "durability",
        "each commit is fdatasynced before the next decision of its run; commits of several runs share a sync",
    );
    measured.setting(
        "processor time",
        format!("{one_us:.0} us a step one after another, {many_us:.0} us with {RUNS} runs at once, of all threads; the same beside other programs"),
    );
    measured.setting(
        "steps",
        format!("{STEPS} of a run in a chain, one commit each (its end and the next one's start), no effects; starts of runs are not counted"),
    );
    Ok(measured)
}

/// Steps a second with so many runs at once, and microseconds of processor time a step. New runs begin when the old ones have ended.
async fn steps(log: &Arc<dyn EventLog>, runs: usize, span: Duration) -> anyhow::Result<(f64, f64)> {
    let (mut done, mut took, mut worked) = (0, Duration::ZERO, Duration::ZERO);
    while took < span {
        let mut streams = Vec::new();
        for _ in 0..runs {
            streams.push(start_run(log, &runbook(STEPS)).await?);
        }
        let (begun, before) = (Instant::now(), limits::processor_time()?);
        let mut tasks = JoinSet::new();
        for stream in streams {
            tasks.spawn(run_to_end(stream, STEPS));
        }
        while let Some(ended) = tasks.join_next().await {
            ended.context("a run panicked")??;
            done += u64::try_from(STEPS)?;
        }
        took += begun.elapsed();
        worked += limits::processor_time()?.saturating_sub(before);
    }
    Ok((rate(done, took), 1e6 / rate(done, worked)))
}

/// Starts a run of this runbook.
pub(super) async fn start_run(
    log: &Arc<dyn EventLog>,
    runbook: &str,
) -> anyhow::Result<Stream<RunState>> {
    let id = uuid::Uuid::now_v7().to_string();
    let name = StreamName::new("run", &id)?;
    let mut stream = Stream::load(Arc::clone(log), name, RunState::default()).await?;
    let started = Command::Start(Box::new(run_started(&id, runbook)?));
    execute(&mut stream, &started).await?;
    Ok(stream)
}

/// Does the steps of a chain.
pub(super) async fn run_to_end(
    mut stream: Stream<RunState>,
    steps: usize,
) -> anyhow::Result<Stream<RunState>> {
    for number in 0..steps {
        let step = step_name(number);
        if number == 0 {
            execute(&mut stream, &Command::BeginStep { step: step.clone() }).await?;
        }
        let end = Command::EndStep(end_of(&stream, step)?);
        execute(&mut stream, &end).await?;
    }
    Ok(stream)
}

fn end_of(stream: &Stream<RunState>, step: String) -> anyhow::Result<End> {
    let state = stream.state();
    let action = state.pinned().and_then(|pinned| pinned.action(&step));
    let outputs = action
        .context("the step has no action")?
        .spec()
        .outputs
        .iter();
    let attempt = state.step(&step).map_or(0, |step| step.attempts);
    Ok(End {
        step,
        attempt,
        claim: 0,
        result: Ok(outputs
            .map(|field| {
                (
                    field.name.to_owned(),
                    Hash::of(field.name.as_bytes()).to_string(),
                )
            })
            .collect::<BTreeMap<_, _>>()),
        observed: false,
        begin_next: true,
    })
}

/// Decides and stores.
pub(super) async fn execute(
    stream: &mut Stream<RunState>,
    command: &Command,
) -> anyhow::Result<()> {
    let decided = stream.execute(Meta::node("bench"), |state| {
        let at: At = SystemClock.now();
        decide(state, command.clone(), at)
            .map(|kinds| kinds.into_iter().map(event).collect::<Vec<Event>>())
    });
    decided.await.map(drop).map_err(Into::into)
}

/// The steps' names.
pub(super) fn step_name(number: usize) -> String {
    format!("step-{number}")
}

/// A runbook whose steps follow one another; each seals evidence, which needs no approval.
pub(super) fn runbook(steps: usize) -> String {
    let mut text =
        "runbook: chain\nversion: 1\nclass: key-compromise\ntitle: A chain\nsteps:\n".to_owned();
    for number in 0..steps {
        let needs = number.checked_sub(1).map_or_else(String::new, |before| {
            format!("    needs: [{}]\n", step_name(before))
        });
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "  - id: {}\n    title: Seal evidence\n    action: snapshot-evidence\n{needs}    timeout: 1m\n",
            step_name(number)
        );
    }
    text
}

/// A runbook whose steps wait for one person each, and not for one another.
pub(super) fn approved(steps: usize) -> String {
    let mut text =
        "runbook: chain\nversion: 1\nclass: key-compromise\ntitle: Approvals\nsteps:\n".to_owned();
    for number in 0..steps {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "  - id: {}\n    title: Refuse new seals\n    action: read-only\n    with: {{log: main}}\n    approval: {{quorum: {{lead: 1}}, within: 1h}}\n    timeout: 1m\n",
            step_name(number)
        );
    }
    text
}

/// The key of the one person.
pub(super) fn key() -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[9; 32]))
}

const PLAN: &str = "\
plan: bench
version: 1
classes:
  key-compromise:
    title: A key in other hands
    severity: critical
    runbook: chain
    targets: {detect: 5s, contain: 60s, recover: 1h}
containment:
  isolate-key: {lead: 1}
  read-only: {lead: 1}
  rotate-origin: {lead: 1}
  reseal: {lead: 1}
  open: {lead: 1}
hold: 15m
approval_validity: 30m
";

fn run_started(run: &str, runbook: &str) -> anyhow::Result<RunStarted> {
    let key = key();
    let line = key.public_key().to_openssh()?;
    let roster = format!(
        "people:\n  - {{id: ada, name: Ada, roles: [lead], contact: none, keys: [\"{}\"]}}\n",
        line.trim()
    );
    Ok(RunStarted {
        run: run.to_owned(),
        incident: "bench".to_owned(),
        runbook: "chain".to_owned(),
        runbook_text: runbook.to_owned(),
        roster_text: roster,
        plan_text: PLAN.to_owned(),
        installation: "bench".to_owned(),
        environment: "drill".to_owned(),
        ..RunStarted::default()
    })
}

/// What a raw file does with the same commits.
struct Raw {
    sequential: f64,
    concurrent: f64,
    sign_s: f64,
}

impl Raw {
    fn measure(folder: &Path, span: Duration) -> anyhow::Result<Self> {
        let single = limits::appends(folder, 512, span)?;
        let grouped = limits::appends(folder, 512 * RUNS, span)?;
        Ok(Self {
            sequential: single,
            concurrent: grouped * 32.0,
            sign_s: limits::sign_s(Duration::from_secs(1))?,
        })
    }

    fn signed(&self, rate: f64) -> f64 {
        1.0 / (1.0 / rate + self.sign_s)
    }
}
