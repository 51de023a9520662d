//! `contain.latency`: from the last approval of `isolate-key` to proven isolation, and `contain.hold`: from the first bad event to
//! the hold. Each sample is a whole installation in a sandbox, a key used past its service, and the shipped runbook.
//!
//! Three nodes take part in isolating: the sealing node stops and acknowledges, the verification node freezes the origin at its
//! witness, and the control node proves that no permit is left and records it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use sealwarden_engine::Board;
use sealwarden_wire::run::v1::{Run, ShowRequest};

use super::Setting;
use super::figures::{Baseline, Figure, Measured, ms, quantile};
use super::limits;
use crate::drill::people;
use crate::drill::sandbox::{Sandbox, Scene};
use crate::drill::thief;

/// The step of the shipped runbook that isolates.
const STEP: &str = "isolate";
/// At least so many samples, however long they take.
const SAMPLES: usize = 3;
/// No sample takes longer.
const BOUND: Duration = Duration::from_mins(1);

struct Sample {
    hold: Duration,
    isolated: Duration,
}

pub(super) async fn measure(setting: &Setting) -> anyhow::Result<Measured> {
    let begun = Instant::now();
    let (mut holds, mut isolations) = (Vec::new(), Vec::new());
    while holds.len() < SAMPLES || begun.elapsed() < setting.span {
        setting.stage(&format!("installation {}", holds.len() + 1));
        let sample = tokio::time::timeout(BOUND, sample()).await;
        let sample = sample.context("a sample did not end in its time")??;
        holds.push(sample.hold);
        isolations.push(sample.isolated);
    }
    let folder = setting.folder.clone();
    let alone = tokio::task::spawn_blocking(move || {
        let span = Duration::from_secs(1);
        anyhow::Ok((
            1.0 / limits::appends(&folder, 512, span)?,
            limits::sign_s(span)?,
        ))
    });
    let (sync_s, sign_s) = alone.await.context("measuring limits")??;
    let samples = holds.len();
    let figure = |name, value, limit, limit_is| Figure {
        name,
        value,
        unit: "ms",
        limit,
        limit_is,
    };
    let mut measured = Measured {
        figures: vec![
            figure(
                "contain.latency",
                ms(quantile(&mut isolations, 990)),
                (3.0 * sync_s + sign_s) * 1000.0,
                "order, acknowledgement and proof, each appended durably, and one signature",
            ),
            figure(
                "contain.hold",
                ms(quantile(&mut holds, 990)),
                3.0 * sync_s * 1000.0,
                "key use, signal and hold, each appended durably",
            ),
        ],
        baselines: vec![Baseline {
            figure: "contain.latency",
            value: 7_250.0,
            is: "waiting for the permit, key deadline and drift to run out (5 s + 2 s + 250 ms), as without acknowledgements",
        }],
        settings: Vec::new(),
    };
    measured.setting(
        "durability",
        "every decision and acknowledgement is fsynced before the next",
    );
    measured.setting(
        "samples",
        format!(
            "{samples} installations; p99 of few samples is their maximum; medians {:.1} ms and {:.1} ms",
            ms(quantile(&mut isolations, 500)),
            ms(quantile(&mut holds, 500))
        ),
    );
    measured.setting(
        "nodes",
        "sealing, verification (witness) and control, with detection, in one process",
    );
    Ok(measured)
}

async fn sample() -> anyhow::Result<Sample> {
    let sandbox = Sandbox::start(None, None, Scene::default()).await?;
    let result = contain(&sandbox).await;
    sandbox.stop().await?;
    result
}

async fn contain(sandbox: &Sandbox) -> anyhow::Result<Sample> {
    let board = &sandbox.started.board;
    let key = board
        .wait_until(|i| {
            let log = i.logs.values().next()?;
            // Only a node that holds a permit can be fenced.
            (!log.grants.is_empty()).then(|| log.current().map(|it| it.key_id.clone()))?
        })
        .await;
    let node = sandbox.data().join("nodes").join("sealing-1");
    let begun = Instant::now();
    thief::misuse_in_place(&node, &key).await?;
    board
        .wait_until(|i| {
            i.logs
                .values()
                .any(|log| !log.holds.is_empty())
                .then_some(())
        })
        .await;
    let hold = begun.elapsed();
    let run = respond(sandbox, board).await?;
    let step = run.steps.iter().find(|step| step.step == STEP);
    let step = step.context("the runbook has no step isolate")?;
    let approved = step.approvals.iter().map(|it| it.at_ms).max();
    let took = step.ended_at_ms - approved.context("nobody approved")?;
    Ok(Sample {
        hold,
        isolated: Duration::from_millis(u64::try_from(took).unwrap_or(0)),
    })
}

/// Lets people approve until the key is isolated.
async fn respond(sandbox: &Sandbox, board: &Board) -> anyhow::Result<Run> {
    let id = board.wait_until(|i| i.runs.keys().next().cloned()).await;
    let mut runs = sandbox
        .client("operator")?
        .runs()
        .await
        .map_err(|e| told(&e))?;
    let mut changes = board.changes();
    loop {
        changes.mark_unchanged();
        let request = ShowRequest { run: id.clone() };
        let run = runs.show(request).await?.into_inner();
        if run
            .steps
            .iter()
            .any(|it| it.step == STEP && it.ended_at_ms > 0)
        {
            return Ok(run);
        }
        let stuck = people::answer_all(sandbox, &run)
            .await
            .map_err(|e| told(&e))?;
        if let Some(reason) = stuck {
            bail!("the run is stuck: {reason}");
        }
        changes.changed().await?;
    }
}

fn told(failure: &crate::failure::Failure) -> anyhow::Error {
    anyhow::anyhow!(failure.message())
}
