//! What a run waits for, as far as people have to be told: folded from `run/<id>` without the plan that it is pinned to.

use std::collections::{BTreeMap, BTreeSet};

use sealwarden_wire::event::v1::event::Kind;

/// A step whose inputs are known and that has not begun.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Since when, Unix milliseconds.
    pub since_ms: i64,
    /// Who has approved or denied it.
    pub decided: BTreeSet<String>,
}

/// A run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFacts {
    /// Its id.
    pub run: String,
    /// Its incident.
    pub incident: String,
    /// Its runbook.
    pub runbook: String,
    /// Who cannot approve.
    pub requesters: Vec<String>,
    /// Steps that may be approved, by id.
    pub waiting: BTreeMap<String, Waiting>,
    /// Steps under way.
    pub running: BTreeSet<String>,
    /// Steps that are done or were skipped.
    pub over: BTreeSet<String>,
    /// Steps that failed, or of which nobody knows, with the reason.
    pub stuck: BTreeMap<String, String>,
    /// Whether it ended.
    pub ended: bool,
}

impl RunFacts {
    /// Takes in an event of the run's stream.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "what is not named here tells nobody anything new"
    )]
    pub fn take_in(&mut self, kind: &Kind, at_ms: i64) {
        match kind {
            Kind::RunStarted(e) => {
                self.run.clone_from(&e.run);
                self.incident.clone_from(&e.incident);
                self.runbook.clone_from(&e.runbook);
                self.requesters.clone_from(&e.requesters);
            }
            Kind::InputsResolved(e) => {
                let waiting = Waiting {
                    since_ms: at_ms,
                    decided: BTreeSet::new(),
                };
                self.waiting.insert(e.step.clone(), waiting);
            }
            Kind::ApprovalRecorded(e) => {
                if let Some(waiting) = self.waiting.get_mut(&e.step) {
                    waiting.decided.insert(e.person.clone());
                }
            }
            Kind::StepStarted(e) => {
                self.waiting.remove(&e.step);
                self.stuck.remove(&e.step);
                self.running.insert(e.step.clone());
            }
            Kind::StepEnded(e) => {
                self.waiting.remove(&e.step);
                self.running.remove(&e.step);
                if e.error.is_empty() {
                    self.over.insert(e.step.clone());
                } else {
                    self.stuck.insert(e.step.clone(), e.error.clone());
                }
            }
            Kind::StepUnknown(e) if e.needs_person => {
                self.running.remove(&e.step);
                self.stuck.insert(e.step.clone(), e.reason.clone());
            }
            Kind::StepSkipped(e) => {
                self.waiting.remove(&e.step);
                self.stuck.remove(&e.step);
                self.over.insert(e.step.clone());
            }
            Kind::RunEnded(_) => {
                self.ended = true;
                self.waiting.clear();
                self.running.clear();
            }
            _ => {}
        }
    }
}
