//! What a drill came to: times against the plan's targets, verdicts before and after, and the evidence.

use sealwarden_wire::incident::v1::Incident;
use sealwarden_wire::run::v1 as wire;
use serde_json::{Value, json};

use super::documents::Document;
use super::sandbox::Sandbox;
use crate::commands::run as run_view;
use crate::failure::{Ending, Failure};
use crate::output::{self, span};

/// The result.
pub(crate) struct Score {
    incident: Incident,
    detect_ms: i64,
    contain_ms: i64,
    recover_ms: i64,
    run: Option<wire::Run>,
    acknowledgements: Vec<Value>,
    documents: Vec<Document>,
    forged: String,
    evidence: Vec<Value>,
    problems: Vec<String>,
}

/// Gathers the result from the services' own answers.
pub(crate) async fn collect(
    sandbox: &Sandbox,
    incident: &Incident,
    misused_ms: i64,
    documents: Vec<Document>,
    forged: String,
) -> Result<Score, Failure> {
    let run = match incident.runs.first() {
        Some(id) => {
            let mut runs = sandbox.client("operator")?.runs().await?;
            Some(
                runs.show(wire::ShowRequest { run: id.clone() })
                    .await?
                    .into_inner(),
            )
        }
        None => None,
    };
    let (acknowledgements, contained_ms, closed_ms) = facts(sandbox, incident);
    let mut score = Score {
        detect_ms: incident.opened_at_ms - misused_ms,
        contain_ms: contained_ms.map_or(-1, |at| at - misused_ms),
        recover_ms: closed_ms.map_or(-1, |at| at - misused_ms),
        incident: incident.clone(),
        run,
        acknowledgements,
        documents,
        forged,
        evidence: evidence(sandbox, incident),
        problems: Vec::new(),
    };
    score.problems = score.find_problems();
    Ok(score)
}

fn facts(sandbox: &Sandbox, incident: &Incident) -> (Vec<Value>, Option<i64>, Option<i64>) {
    use sealwarden_domain::log_control::kind_name;
    use sealwarden_wire::event::v1::IncidentStage;
    sandbox.started.board.read(|i| {
        let folded = i.incidents.get(&incident.incident);
        let reached = |stage| folded.and_then(|f| f.reached_at(stage));
        let acknowledgements = i
            .logs
            .values()
            .flat_map(|log| log.directives.values())
            .flat_map(|d| {
                d.acks.iter().map(move |(node, ack)| {
                    json!({ "node": node, "epoch": d.directive.epoch, "kind": kind_name(d.kind()), "at_ms": ack.at_ms, "note": ack.note })
                })
            })
            .collect();
        (acknowledgements, reached(IncidentStage::Contained), reached(IncidentStage::Closed))
    })
}

/// Checks each bundle with the function that `evidence verify` uses.
fn evidence(sandbox: &Sandbox, incident: &Incident) -> Vec<Value> {
    let sealed = sandbox.started.board.read(|i| {
        i.incidents
            .get(&incident.incident)
            .map(|f| f.evidence.clone())
            .unwrap_or_default()
    });
    sealed
        .iter()
        .map(|e| {
            let check = crate::commands::evidence::check_own(sandbox.data(), &e.bundle);
            json!({
                "bundle": e.bundle, "files": e.files, "manifest_sha256": e.manifest_sha256,
                "verified": check.is_ok(), "problem": check.err(),
            })
        })
        .collect()
}

impl Score {
    fn find_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.incident.stage != "closed" {
            problems.push(format!(
                "the incident is {} and not closed",
                self.incident.stage
            ));
        }
        for d in &self.documents {
            if d.before != "valid" {
                problems.push(format!("{} was {} after sealing", d.name, d.before));
            }
            if d.after != "valid" {
                problems.push(format!(
                    "{} is {} after the incident: {}",
                    d.name, d.after, d.reason
                ));
            }
        }
        if self.forged.starts_with("valid") {
            problems.push(format!("the forged document is {}", self.forged));
        }
        if self.evidence.is_empty() {
            problems.push("no evidence was sealed".to_owned());
        }
        for e in self.evidence.iter().filter(|e| e["verified"] != true) {
            problems.push(format!(
                "evidence {} does not verify: {}",
                e["bundle"], e["problem"]
            ));
        }
        problems
    }

    fn document(&self) -> Value {
        let steps: Vec<Value> = self
            .run
            .iter()
            .flat_map(|r| r.steps.iter().map(run_view::step))
            .collect();
        let approvals: Vec<Value> = self
            .run
            .iter()
            .flat_map(|r| &r.steps)
            .flat_map(|s| {
                s.approvals.iter().map(move |a| {
                    let mut value = run_view::approval(a);
                    value["step"] = json!(s.step);
                    value
                })
            })
            .collect();
        json!({
            "outcome": if self.problems.is_empty() { "closed" } else { "failed" },
            "incident": self.incident.incident,
            "detect_ms": self.detect_ms, "contain_ms": self.contain_ms, "recover_ms": self.recover_ms,
            "targets": self.incident.targets.iter().map(|t| json!({ "name": t.name, "target_ms": t.target_ms })).collect::<Vec<_>>(),
            "steps": steps, "approvals": approvals, "acknowledgements": self.acknowledgements,
            "verdicts": self.documents.iter().map(|d| json!({
                "file": d.name, "before": d.before, "first_seal_after": d.first_seal_after, "after": d.after, "reason": d.reason,
            })).collect::<Vec<_>>(),
            "forged": self.forged, "evidence": self.evidence, "problems": self.problems,
        })
    }
}

/// Prints the result and answers how the drill ended.
pub(crate) fn report(json: bool, score: &Score) -> Ending {
    if json {
        output::json(&score.document());
    } else {
        tables(score);
    }
    if score.problems.is_empty() {
        Ending::Good
    } else {
        Ending::Negative
    }
}

fn tables(score: &Score) {
    output::line("== Times against the plan's targets (from the first misuse)");
    let mut rows = vec![["", "ACTUAL", "TARGET", ""].map(str::to_owned).to_vec()];
    for (name, actual) in [
        ("detect", score.detect_ms),
        ("contain", score.contain_ms),
        ("recover", score.recover_ms),
    ] {
        let target = score
            .incident
            .targets
            .iter()
            .find(|t| t.name == name)
            .map_or(-1, |t| t.target_ms);
        let word = if actual >= 0 && actual <= target {
            "met"
        } else {
            "MISSED"
        };
        rows.push(vec![
            name.to_owned(),
            span(actual),
            span(target),
            word.to_owned(),
        ]);
    }
    output::table(&rows);
    output::line("");
    output::line("== Verdicts");
    let mut rows = vec![
        ["FILE", "BEFORE", "FIRST SEAL, AFTER", "PRESENT SEAL"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(score.documents.iter().map(|d| {
        vec![
            d.name.clone(),
            d.before.clone(),
            d.first_seal_after.clone(),
            d.after.clone(),
        ]
    }));
    output::table(&rows);
    output::line("");
    for e in &score.evidence {
        let word = if e["verified"] == true {
            "verifies"
        } else {
            "DOES NOT VERIFY"
        };
        output::line(&format!(
            "evidence {} ({} files) {word}",
            e["bundle"].as_str().unwrap_or_default(),
            e["files"]
        ));
    }
    output::line("");
    if score.problems.is_empty() {
        output::line(&format!(
            "Drill passed: incident {} is closed and everything verifies.",
            score.incident.incident
        ));
    } else {
        for problem in &score.problems {
            output::line(&format!("PROBLEM: {problem}"));
        }
        output::line("Drill failed.");
    }
}
