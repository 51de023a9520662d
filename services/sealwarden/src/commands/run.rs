//! `run list | show`

use sealwarden_wire::run::v1 as wire;
use serde_json::{Value, json};

use super::{Answer, client};
use crate::cli::{Cli, Run};
use crate::failure::Ending;
use crate::output::{self, time};

pub(crate) async fn run(cli: &Cli, what: &Run) -> Answer {
    let mut runs = client(cli)?.runs().await?;
    match what {
        Run::List { open } => {
            let list = runs
                .list(wire::ListRequest { open_only: *open })
                .await?
                .into_inner()
                .runs;
            if cli.json {
                output::json(&json!({ "runs": list.iter().map(document).collect::<Vec<_>>() }));
            } else if list.is_empty() {
                output::line("no runs");
            } else {
                let head = ["RUN", "STATE", "RUNBOOK", "INCIDENT", "STARTED (UTC)"];
                let mut rows = vec![head.map(str::to_owned).to_vec()];
                rows.extend(list.iter().map(|r| {
                    vec![
                        r.run.clone(),
                        r.state.clone(),
                        r.runbook.clone(),
                        r.incident.clone(),
                        time(r.started_at_ms),
                    ]
                }));
                output::table(&rows);
            }
        }
        Run::Show { id } => {
            let run = runs
                .show(wire::ShowRequest { run: id.clone() })
                .await?
                .into_inner();
            if cli.json {
                output::json(&document(&run));
            } else {
                show(&run);
            }
        }
    }
    Ok(Ending::Good)
}

fn show(run: &wire::Run) {
    output::line(&format!(
        "{}  runbook {} for incident {}",
        run.run, run.runbook, run.incident
    ));
    let reason = if run.reason.is_empty() {
        String::new()
    } else {
        format!(": {}", run.reason)
    };
    output::line(&format!("{}{reason}", run.state));
    output::line(&format!(
        "pinned to sha256:{}; started {} UTC",
        run.runbook_digest,
        time(run.started_at_ms)
    ));
    if !run.requesters.is_empty() {
        output::line(&format!(
            "cannot approve (they asked for it): {}",
            run.requesters.join(", ")
        ));
    }
    for step in &run.steps {
        output::line("");
        output::line(&format!(
            "{:<18} {:<17} {}",
            step.step, step.state, step.title
        ));
        if !step.quorum.is_empty() {
            let missing = if step.missing.is_empty() {
                "met".to_owned()
            } else {
                format!("missing {}", step.missing)
            };
            output::line(&format!("  quorum {} ({missing})", step.quorum));
        }
        for a in &step.approvals {
            let word = if a.refused.is_empty() {
                a.decision.clone()
            } else {
                format!("{} REFUSED: {}", a.decision, a.refused)
            };
            output::line(&format!(
                "  {}  {} ({}) {word}",
                time(a.at_ms),
                a.person,
                a.roles.join(", ")
            ));
        }
        if !step.progress.is_empty() && step.ended_at_ms == 0 {
            output::line(&format!("  {}", step.progress));
        }
        for (name, value) in &step.outputs {
            output::line(&format!("  {name}: {value}"));
        }
        if !step.error.is_empty() {
            output::line(&format!("  error: {}", step.error));
        }
    }
    let waiting: Vec<&str> = run
        .steps
        .iter()
        .filter(|s| s.state == "awaiting-approval" || s.state == "awaiting-person")
        .map(|s| s.step.as_str())
        .collect();
    if !waiting.is_empty() {
        output::line("");
        output::line(&format!(
            "waits for people: {}; sign with: sealwarden approve {} STEP --as NAME",
            waiting.join(", "),
            run.run
        ));
    }
}

/// A run as JSON.
pub(crate) fn document(run: &wire::Run) -> Value {
    json!({
        "run": run.run, "incident": run.incident, "runbook": run.runbook, "runbook_digest": run.runbook_digest,
        "state": run.state, "reason": run.reason, "started_at_ms": run.started_at_ms, "ended_at_ms": run.ended_at_ms,
        "requesters": run.requesters,
        "steps": run.steps.iter().map(step).collect::<Vec<_>>(),
    })
}

/// A step as JSON.
pub(crate) fn step(s: &wire::Step) -> Value {
    json!({
        "step": s.step, "title": s.title, "action": s.action, "state": s.state, "needs": s.needs, "quorum": s.quorum, "missing": s.missing,
        "attempts": s.attempts, "outputs": s.outputs, "progress": s.progress, "error": s.error, "inputs": s.inputs,
        "started_at_ms": s.started_at_ms, "ended_at_ms": s.ended_at_ms,
        "approvals": s.approvals.iter().map(approval).collect::<Vec<_>>(),
    })
}

/// An approval as JSON.
pub(crate) fn approval(a: &wire::Approval) -> Value {
    json!({
        "person": a.person, "roles": a.roles, "decision": a.decision, "at_ms": a.at_ms, "key_fingerprint": a.key_fingerprint,
        "statement": a.statement, "signature": a.signature, "refused": a.refused, "note": a.note,
    })
}
