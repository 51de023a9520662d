//! `run show`: one run as text, once or whenever it changes.

use std::time::Duration;

use sealwarden_wire::run::v1 as wire;
use sealwarden_wire::run::v1::runs_client::RunsClient;

use super::document;
use crate::cli::Cli;
use crate::client::Traced;
use crate::commands::Answer;
use crate::failure::{Ending, Failure, Kind};
use crate::output::{self, span, time};

/// How often a watched run is asked for.
const LOOK: Duration = Duration::from_millis(500);

/// The run as the executor tells it now.
pub(super) async fn fetch(runs: &mut RunsClient<Traced>, id: &str) -> Result<wire::Run, Failure> {
    let asked = wire::ShowRequest { run: id.to_owned() };
    Ok(runs.show(asked).await?.into_inner())
}

/// Shows a run whenever it changed, until it ended. An executor that goes away while somebody watches is waited for: it may be starting again.
pub(super) async fn watch(cli: &Cli, runs: &mut RunsClient<Traced>, id: &str) -> Answer {
    let mut run = fetch(runs, id).await?;
    let mut shown = None;
    loop {
        // A redrawn screen also shows how time passes; everything else only what is new.
        if output::is_terminal() && !cli.json {
            output::screen(&format!("{}\n\n{}", text(&run), footer(&run)));
        } else if shown.as_ref() != Some(&run) {
            if cli.json {
                output::line(&document(&run).to_string());
            } else {
                output::line(&format!("{}\n", text(&run)));
            }
            shown = Some(run.clone());
        }
        if run.ended_at_ms > 0 {
            let completed = run.state == COMPLETED;
            return Ok(if completed {
                Ending::Good
            } else {
                Ending::Negative
            });
        }
        tokio::time::sleep(LOOK).await;
        run = until_told(runs, id).await?;
    }
}

/// The state of a run that did all of its steps.
const COMPLETED: &str = "completed";

/// The run, as soon as somebody tells it; says once that nobody does.
async fn until_told(runs: &mut RunsClient<Traced>, id: &str) -> Result<wire::Run, Failure> {
    let mut complained = false;
    loop {
        match fetch(runs, id).await {
            Err(failure) if failure.kind() == Kind::Unavailable => {
                if !complained {
                    output::complain(
                        "the runbook executor does not answer; trying again (Ctrl-C ends the view)",
                    );
                    complained = true;
                }
                tokio::time::sleep(LOOK).await;
            }
            told => return told,
        }
    }
}

fn footer(run: &wire::Run) -> String {
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let done = run.steps.iter().filter(|step| step.ended_at_ms > 0).count();
    let until = if run.ended_at_ms > 0 {
        run.ended_at_ms
    } else {
        now_ms
    };
    format!(
        "{done} of {} steps ended, {} since the start; {} UTC. Ctrl-C ends this view, not the run.",
        run.steps.len(),
        span(until - run.started_at_ms),
        time(now_ms)
    )
}

/// A step's condition: how it came out, and what it read.
fn condition(step: &wire::Step) -> String {
    if step.condition.is_empty() {
        return format!("  when {}", step.when);
    }
    let mut seen: Vec<String> = step
        .seen
        .iter()
        .map(|(k, v)| format!("{k} = {v}"))
        .collect();
    seen.sort();
    format!(
        "  when {}: {} ({})",
        step.when,
        step.condition,
        seen.join(", ")
    )
}

/// A run as a person reads it.
pub(super) fn text(run: &wire::Run) -> String {
    let mut lines: Vec<String> = Vec::new();
    lines.push(format!(
        "{}  runbook {} for incident {}",
        run.run, run.runbook, run.incident
    ));
    let reason = if run.reason.is_empty() {
        String::new()
    } else {
        format!(": {}", run.reason)
    };
    lines.push(format!("{}{reason}", run.state));
    lines.push(format!(
        "pinned to sha256:{}; started {} UTC",
        run.runbook_digest,
        time(run.started_at_ms)
    ));
    if !run.requesters.is_empty() {
        lines.push(format!(
            "cannot approve (they asked for it): {}",
            run.requesters.join(", ")
        ));
    }
    for step in &run.steps {
        lines.push(String::new());
        lines.push(format!(
            "{:<18} {:<17} {}",
            step.step, step.state, step.title
        ));
        if !step.when.is_empty() {
            lines.push(condition(step));
        }
        if !step.quorum.is_empty() {
            let missing = if step.missing.is_empty() {
                "met".to_owned()
            } else {
                format!("missing {}", step.missing)
            };
            lines.push(format!("  quorum {} ({missing})", step.quorum));
        }
        for a in &step.approvals {
            let word = if a.refused.is_empty() {
                a.decision.clone()
            } else {
                format!("{} REFUSED: {}", a.decision, a.refused)
            };
            let presence = if a.presence.is_empty() {
                String::new()
            } else {
                format!(", FIDO key {}", a.presence)
            };
            lines.push(format!(
                "  {}  {} ({}) {word}{presence}",
                time(a.at_ms),
                a.person,
                a.roles.join(", ")
            ));
            if !a.warning.is_empty() {
                lines.push(format!("    WARNING: {}", a.warning));
            }
        }
        lines.extend(step.evidence.iter().map(evidence));
        if !step.progress.is_empty() && step.ended_at_ms == 0 {
            lines.push(format!("  {}", step.progress));
        }
        for (name, value) in &step.outputs {
            lines.push(format!("  {name}: {value}"));
        }
        if !step.remark.is_empty() {
            lines.push(format!("  {}", step.remark));
        }
        if !step.error.is_empty() {
            let kind = if step.error_kind.is_empty() {
                String::new()
            } else {
                format!(" ({}; {})", step.error_kind, step.retry)
            };
            lines.push(format!("  error{kind}: {}", step.error));
        }
    }
    for (state, how) in [
        ("awaiting-approval", "sign with: sealwarden approve"),
        (
            "awaiting-person",
            "say that it is done with: sealwarden run done",
        ),
    ] {
        let waiting = run.steps.iter().filter(|step| step.state == state);
        let waiting: Vec<&str> = waiting.map(|step| step.step.as_str()).collect();
        if !waiting.is_empty() {
            let (steps, run) = (waiting.join(", "), &run.run);
            lines.push(format!(
                "\nwaits for people: {steps}; {how} {run} STEP --as NAME"
            ));
        }
    }
    lines.join("\n")
}

/// A field of evidence in a line.
pub(super) fn evidence(e: &wire::Evidence) -> String {
    let optional = if e.required { "" } else { ", optional" };
    let given = if e.value.is_empty() {
        "not handed in".to_owned()
    } else if e.stored.is_empty() {
        e.value.clone()
    } else {
        let (file, bytes) = (&e.file_name, e.bytes);
        format!("{file} ({bytes} bytes, sha256 {}) in {}", e.value, e.stored)
    };
    format!("  evidence {} ({}{optional}): {given}", e.name, e.kind)
}
