//! `runbook draw NAME`, `run draw RUN`

use std::path::{Path, PathBuf};

use sealwarden_runbook::{
    Live, LiveStep, Runbook, Tone, draw_dot, draw_mermaid, draw_run_svg, draw_svg, draw_text,
};
use sealwarden_wire::run::v1 as wire;
use serde_json::json;

use super::Which;
use crate::cli::Cli;
use crate::commands::Answer;
use crate::failure::{Ending, Failure};
use crate::host::installation::write_public;
use crate::output;

#[derive(Debug, clap::Args)]
pub(crate) struct Draw {
    #[command(flatten)]
    which: Which,
    /// As what
    #[arg(long, value_enum, default_value_t = Form::Svg)]
    format: Form,
    /// File to write (default: standard output)
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DrawRun {
    /// The run's id
    pub(crate) run: String,
    /// Plan folder that has the runbook to which the run is pinned (default: the installation's)
    #[arg(long, value_name = "DIR")]
    plan: Option<PathBuf>,
    /// File to write (default: standard output)
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// A picture for a browser, light or dark as the reader likes
    Svg,
    /// For Graphviz
    Dot,
    /// For pages that render Mermaid
    Mermaid,
    /// For a terminal of 80 columns
    Text,
}

pub(super) fn draw(cli: &Cli, args: &Draw) -> Answer {
    let runbook = args.which.load(cli)?;
    let picture = match args.format {
        Form::Svg => draw_svg(&runbook),
        Form::Dot => draw_dot(&runbook),
        Form::Mermaid => draw_mermaid(&runbook),
        Form::Text => draw_text(&runbook),
    };
    write(cli, args.out.as_deref(), &picture)
}

pub(crate) fn draw_run(cli: &Cli, args: &DrawRun, run: &wire::Run) -> Answer {
    let which = Which {
        name: run.runbook.clone(),
        plan: args.plan.clone(),
    };
    let runbook = which.load(cli)?;
    if runbook.digest_hex() != run.runbook_digest {
        return Err(Failure::usage(format!(
            "the run is pinned to the runbook {} with sha256 {}, and the plan has {}; name the folder that has the other one with --plan",
            run.runbook,
            run.runbook_digest,
            runbook.digest_hex()
        )));
    }
    write(cli, args.out.as_deref(), &picture(&runbook, run))
}

fn write(cli: &Cli, out: Option<&Path>, picture: &str) -> Answer {
    let Some(out) = out else {
        output::line(picture.trim_end());
        return Ok(Ending::Good);
    };
    write_public(out, picture.as_bytes())?;
    if cli.json {
        output::json(&json!({ "file": out, "bytes": picture.len() }));
    } else {
        output::line(&format!("{}: {} bytes", out.display(), picture.len()));
    }
    Ok(Ending::Good)
}

fn picture(runbook: &Runbook, run: &wire::Run) -> String {
    let reason = if run.reason.is_empty() {
        String::new()
    } else {
        format!(" ({})", run.reason)
    };
    let ended = if run.ended_at_ms > 0 {
        format!(", ended {} UTC", output::time(run.ended_at_ms))
    } else {
        String::new()
    };
    let live = Live {
        heading: format!(
            "run {}: {}{reason}, incident {}, started {} UTC{ended}",
            run.run,
            run.state,
            run.incident,
            output::time(run.started_at_ms)
        ),
        steps: run
            .steps
            .iter()
            .map(|step| (step.step.clone(), live(step)))
            .collect(),
    };
    draw_run_svg(runbook, &live)
}

fn live(step: &wire::Step) -> LiveStep {
    let (tone, state) = match step.state.as_str() {
        "blocked" => (Tone::Waits, "waits for other steps"),
        "awaiting-approval" => (Tone::Asks, "waits for approvals"),
        "awaiting-person" => (Tone::Asks, "waits for people"),
        "running" => (Tone::Runs, "running"),
        "done" => (Tone::Done, "done"),
        "skipped" => (Tone::Skipped, "skipped"),
        "cancelled" => (Tone::Skipped, "cancelled"),
        "not-needed" => (Tone::Skipped, "not needed"),
        // What is unknown, failed, denied or stuck needs somebody's eyes; so does a state of a newer server.
        other => (Tone::Failed, other),
    };
    let mut notes = Vec::new();
    let approved: Vec<&str> = step
        .approvals
        .iter()
        .filter(|approval| approval.refused.is_empty())
        .map(|approval| approval.person.as_str())
        .collect();
    if !approved.is_empty() {
        notes.push(format!("signed: {}", approved.join(", ")));
    }
    if !step.condition.is_empty() {
        notes.push(format!("the condition {}", step.condition));
    }
    if !step.missing.is_empty() && tone != Tone::Done {
        notes.push(format!("missing: {}", step.missing));
    }
    if step.started_at_ms > 0 {
        let begun = clock(step.started_at_ms);
        notes.push(if step.ended_at_ms > 0 {
            let span = output::span(step.ended_at_ms - step.started_at_ms);
            format!("{begun} to {}, {span}", clock(step.ended_at_ms))
        } else {
            format!("since {begun}")
        });
    }
    if !step.remark.is_empty() {
        notes.push(step.remark.clone());
    }
    if !step.error.is_empty() {
        notes.push(step.error.clone());
    } else if !step.progress.is_empty() && step.ended_at_ms == 0 {
        notes.push(step.progress.clone());
    }
    LiveStep {
        tone,
        state: state.to_owned(),
        notes,
    }
}

/// The time of day, UTC, to the second.
fn clock(ms: i64) -> String {
    let time = output::time(ms);
    time.get(11..19).unwrap_or(&time).to_owned()
}
