//! `runbook.open`, `runbook.replay`, `runbook.approvals`: many open runs, a long one, and people who approve without a pause.
//!
//! Runs are folded as an executor folds them: the whole installation on its board, and a stream for each open run. An approval is what the service does for one: the run's
//! stream is read from its beginning, the signature is verified, the decision is durable.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sealwarden_domain::approval::{Decision, Environment, Namespace, Statement, sign};
use sealwarden_domain::run::{Command, RunState, prepare};
use sealwarden_engine::{Board, Clock as _, Stream, StreamName, SystemClock, decode};
use sealwarden_eventlog::{Config, EventLog};
use sealwarden_runbook::MAX_STEPS;
use ssh_key::PrivateKey;

use super::Setting;
use super::figures::{Figure, Measured, number, rate};
use super::large::{mib, resident};
use super::steps::{self, execute, key, run_to_end, start_run};

/// Steps of a run of which each waits for people.
const APPROVED: usize = 64;
/// Approvals a second that a thousand a minute are.
const THOUSAND_A_MINUTE: f64 = 1000.0 / 60.0;
/// How often the long run is read.
const READS: u32 = 5;

pub(super) async fn measure(setting: &Setting) -> anyhow::Result<Measured> {
    let dir = setting.folder.join("events");
    let log = sealwarden_eventlog::open(Config::Embedded { dir }).await?;
    let mut measured = Measured::default();
    setting.stage("a run of as many steps as a runbook may have");
    replay(&log, &mut measured).await?;
    setting.stage("approvals");
    approvals(&log, setting.span, &mut measured).await?;
    open_runs(setting, &log, &mut measured).await?;
    measured.setting("durability", "each commit is fdatasynced");
    Ok(measured)
}

/// What a long run costs whoever reads it from its beginning.
async fn replay(log: &Arc<dyn EventLog>, measured: &mut Measured) -> anyhow::Result<()> {
    let stream = start_run(log, &steps::runbook(MAX_STEPS)).await?;
    let name = stream.name().clone();
    let live = run_to_end(stream, MAX_STEPS).await?;
    let (mut folding, mut decoding) = (Duration::ZERO, Duration::ZERO);
    let mut commits = 0;
    for _ in 0..READS {
        let begun = Instant::now();
        let again = Stream::load(Arc::clone(log), name.clone(), RunState::default()).await?;
        folding += begun.elapsed();
        ensure!(
            again.state() == live.state(),
            "refolded, the run is another one"
        );
        let begun = Instant::now();
        let (mut after, mut seen) = (0, 0);
        loop {
            let page = log.read(&name, after, 512).await?;
            let Some(last) = page.last() else { break };
            after = last.position;
            for recorded in &page {
                decode(recorded)?;
                seen += 1;
            }
        }
        decoding += begun.elapsed();
        commits = seen;
    }
    let each = |took: Duration| took.as_secs_f64() * 1000.0 / f64::from(READS);
    measured.figures.push(Figure {
        name: "runbook.replay",
        value: each(folding),
        unit: "ms",
        limit: each(decoding),
        limit_is: "reading and decoding the same commits, and nothing else",
    });
    measured.setting(
        "runbook.replay",
        format!(
            "a run of {MAX_STEPS} steps in a chain, {commits} commits, read from the embedded log"
        ),
    );
    Ok(())
}

/// How many approvals a second are verified and recorded, one after another.
async fn approvals(
    log: &Arc<dyn EventLog>,
    span: Duration,
    measured: &mut Measured,
) -> anyhow::Result<()> {
    let (key, begun) = (key(), Instant::now());
    let (mut done, mut signing, mut took) = (0_u64, Duration::ZERO, Duration::ZERO);
    while begun.elapsed() < span {
        let started = start_run(log, &steps::approved(APPROVED)).await?;
        for number in 0..APPROVED {
            let at = Instant::now();
            let (text, signature) = statement(started.state(), &steps::step_name(number), &key)?;
            signing += at.elapsed();
            let at = Instant::now();
            let (log, name) = (Arc::clone(log), started.name().clone());
            let mut stream = Stream::load(log, name, RunState::default()).await?;
            let command = Command::SubmitApproval {
                statement: text,
                signature,
                note: String::new(),
            };
            execute(&mut stream, &command).await?;
            took += at.elapsed();
            done += 1;
        }
    }
    measured.figures.push(Figure {
        name: "runbook.approvals",
        value: rate(done, took),
        unit: "approvals/s",
        limit: rate(done, signing),
        limit_is: "making the same signatures, and nothing else",
    });
    measured.setting(
        "runbook.approvals",
        format!(
            "one after another; a thousand a minute are {THOUSAND_A_MINUTE:.1}/s; the run of {APPROVED} steps is read from its beginning for each, as the service does"
        ),
    );
    Ok(())
}

fn statement(state: &RunState, step: &str, key: &PrivateKey) -> anyhow::Result<(String, String)> {
    let now = SystemClock.now();
    let asked = prepare(state, step, now)?;
    let statement = Statement {
        installation: asked.installation,
        environment: Environment::parse(&asked.environment).context("an environment")?,
        incident: asked.incident,
        run: asked.run,
        step: asked.step,
        iteration: asked.iteration,
        runbook: asked.runbook,
        runbook_digest: asked.runbook_digest,
        inputs_digest: asked.inputs_digest,
        roster_digest: asked.roster_digest,
        decision: Decision::Approve,
        approver: "ada".to_owned(),
        nonce: uuid::Uuid::new_v4().simple().to_string(),
        expires_s: now.wall_ms / 1000 + 600,
    };
    let text = statement.to_string();
    let signature = sign(&text, key, Namespace::ApprovalDrill)?;
    Ok((text, signature))
}

/// What an open run that waits costs in memory: on the board, and as the stream that its driver holds.
async fn open_runs(
    setting: &Setting,
    log: &Arc<dyn EventLog>,
    measured: &mut Measured,
) -> anyhow::Result<()> {
    let text = steps::approved(4);
    let before = resident()?;
    let mut streams = Vec::with_capacity(setting.runs);
    let mut at_half = before;
    for number in 0..setting.runs {
        if number % 100 == 0 {
            setting.stage(&format!("open runs: {number} of {}", setting.runs));
        }
        if number == setting.runs / 2 {
            at_half = resident()?;
        }
        streams.push(start_run(log, &text).await?);
    }
    let held = resident()?;
    let begun = Instant::now();
    let (board, follower) = Board::follow(Arc::clone(log));
    board.caught_up().await;
    let folded = begun.elapsed();
    let with_board = resident()?;
    follower.abort();
    let runs = number(u64::try_from(setting.runs)?);
    // What lies there of one: its texts, once.
    let name: StreamName = streams.last().context("no run")?.name().clone();
    let first = log.read(&name, 0, 1).await?;
    let bytes = first.first().map_or(0, |recorded| recorded.payload.len());
    measured.figures.push(Figure {
        name: "runbook.open",
        value: number(with_board.saturating_sub(before)) / 1024.0 / runs,
        unit: "KiB of memory a run",
        limit: number(u64::try_from(bytes)?) / 1024.0,
        limit_is: "the bytes of the run's first commit",
    });
    measured.setting(
        "runbook.open",
        format!(
            "{} runs that wait for people, each folded in a stream of its own as its driver holds it: resident {:.0} MiB before, {:.0} MiB at the half, {:.0} MiB with all, {:.0} MiB with the board, which was folded in {} ms",
            setting.runs, mib(before), mib(at_half), mib(held), mib(with_board), folded.as_millis()
        ),
    );
    Ok(())
}
