//! What a drill came to: times against the plan's targets, what the drill itself found, and the evidence.

use sealwarden_wire::incident::v1::Incident;
use sealwarden_wire::run::v1 as wire;
use serde_json::{Value, json};

use super::sandbox::Sandbox;
use crate::commands::run as run_view;
use crate::failure::{Ending, Failure};
use crate::output::{self, span};

/// What the times count from.
pub(crate) struct Since {
    /// When it was, Unix milliseconds.
    pub(crate) at_ms: i64,
    /// What it was.
    pub(crate) words: &'static str,
}

/// What one drill found beside what all incidents tell.
pub(crate) struct Findings {
    /// Title of the table.
    pub(crate) title: &'static str,
    /// For people: the first row is the head.
    pub(crate) table: Vec<Vec<String>>,
    /// For programs: further fields of the document.
    pub(crate) facts: Vec<(&'static str, Value)>,
    /// What is not as it should be; any fails the drill.
    pub(crate) problems: Vec<String>,
}

/// The result.
pub(crate) struct Score {
    incident: Incident,
    since: Since,
    /// Name and milliseconds, -1 if it was not reached.
    times: [(&'static str, i64); 3],
    run: Option<wire::Run>,
    acknowledgements: Vec<Value>,
    findings: Findings,
    evidence: Vec<Value>,
    problems: Vec<String>,
}

/// Gathers the result from the services' own answers.
pub(crate) async fn collect(
    sandbox: &Sandbox,
    incident: &Incident,
    since: Since,
    findings: Findings,
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
        times: [
            ("detect", incident.opened_at_ms - since.at_ms),
            ("contain", contained_ms.map_or(-1, |at| at - since.at_ms)),
            ("recover", closed_ms.map_or(-1, |at| at - since.at_ms)),
        ],
        since,
        incident: incident.clone(),
        run,
        acknowledgements,
        findings,
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
        problems.extend(self.findings.problems.iter().cloned());
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
        let mut document = json!({
            "outcome": if self.problems.is_empty() { "closed" } else { "failed" },
            "incident": self.incident.incident, "class": self.incident.class,
            "steps": steps, "approvals": approvals, "acknowledgements": self.acknowledgements,
            "evidence": self.evidence, "problems": self.problems,
        });
        for (name, ms) in self.times {
            document[format!("{name}_ms")] = json!(ms);
        }
        let targets = self.times.iter().map(|(name, ms)| {
            let target_ms = self.target_ms(name);
            json!({ "name": name, "target_ms": target_ms, "met": met(*ms, target_ms) })
        });
        document["targets"] = targets.collect();
        for (name, value) in &self.findings.facts {
            document[*name] = value.clone();
        }
        document
    }

    /// What the plan allows, in milliseconds; -1 if it says nothing.
    fn target_ms(&self, name: &str) -> i64 {
        let mut targets = self.incident.targets.iter();
        targets.find(|t| t.name == name).map_or(-1, |t| t.target_ms)
    }
}

fn met(actual_ms: i64, target_ms: i64) -> bool {
    actual_ms >= 0 && actual_ms <= target_ms
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
    output::line(&format!(
        "== Times against the plan's targets (from {})",
        score.since.words
    ));
    let mut rows = vec![["", "ACTUAL", "TARGET", ""].map(str::to_owned).to_vec()];
    for (name, actual) in score.times {
        let target = score.target_ms(name);
        let word = if met(actual, target) { "met" } else { "MISSED" };
        rows.push(vec![
            name.to_owned(),
            span(actual),
            span(target),
            word.to_owned(),
        ]);
    }
    output::table(&rows);
    output::line("");
    output::line(&format!("== {}", score.findings.title));
    output::table(&score.findings.table);
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
