//! A run with people, driven without a shell.

use std::collections::{BTreeMap, BTreeSet};

use sealwarden_runbook::{Action, ErrorKind, ValueType};
use sealwarden_wire::event::v1::Envelope;
use sealwarden_wire::event::v1::event::Kind;
use sealwarden_wire::run::v1::PrepareResponse;

use crate::approval::fixture::{NOW_MS, VALIDITY_MS, run_started, signed};
use crate::approval::{Decision, Environment, Statement};
use crate::fold::{At, Fold as _, Rejection, event};
use crate::run::{
    AttemptId, Command, Effect, End, Failure, RunState, Said, Viewer, decide, pending, prepare,
    prepare_for,
};

/// The run, its log, and a clock that tests move.
#[derive(Clone)]
pub(super) struct World {
    pub(super) state: RunState,
    /// Each commit's events with the time they were recorded at.
    pub(super) log: Vec<(i64, Vec<Kind>)>,
    pub(super) now_ms: i64,
    pub(super) own: BTreeSet<AttemptId>,
    nonce: u64,
}

pub(super) fn envelope(at_ms: i64) -> Envelope {
    Envelope {
        stream: "run/run-1".to_owned(),
        position: 1,
        recorded_at_ms: at_ms,
        ..Envelope::default()
    }
}

/// An operator with a reason.
pub(super) fn said(reason: &str) -> Said {
    Said {
        by: "olga".to_owned(),
        reason: reason.to_owned(),
    }
}

/// Folds one event.
pub(super) fn apply(state: &mut RunState, kind: &Kind, at_ms: i64) {
    state.apply(&envelope(at_ms), &event(kind.clone())).unwrap();
}

impl World {
    pub(super) fn empty() -> Self {
        Self {
            state: RunState::default(),
            log: Vec::new(),
            now_ms: NOW_MS,
            own: BTreeSet::new(),
            nonce: 0,
        }
    }

    pub(super) fn started() -> Self {
        let mut world = Self::empty();
        world
            .run(Command::Start(Box::new(run_started(
                Environment::Production,
            ))))
            .unwrap();
        world
    }

    /// A run of the fixture's runbook with other texts in some places.
    pub(super) fn changed(changes: &[(&str, &str)]) -> Self {
        let mut started = run_started(Environment::Production);
        for (from, to) in changes {
            assert!(started.runbook_text.contains(from), "{from}");
            started.runbook_text = started.runbook_text.replacen(from, to, 1);
        }
        started.runbook_digest.clear();
        let mut world = Self::empty();
        world.run(Command::Start(Box::new(started))).unwrap();
        world
    }

    /// A run that has done these steps, with their approvals.
    pub(super) fn after(steps: &[&str]) -> Self {
        let mut world = Self::started();
        for step in steps {
            world.do_step(step);
        }
        world
    }

    pub(super) fn at(&self) -> At {
        At {
            wall_ms: self.now_ms,
            boot_ms: 0,
        }
    }

    /// Decides and folds; the events become one commit.
    pub(super) fn run(&mut self, command: Command) -> Result<Vec<Kind>, Rejection> {
        let events = decide(&self.state, command, self.at())?;
        for kind in &events {
            self.own.extend(AttemptId::begun_by(kind));
            apply(&mut self.state, kind, self.now_ms);
        }
        if !events.is_empty() {
            self.log.push((self.now_ms, events.clone()));
        }
        Ok(events)
    }

    pub(super) fn pending(&self) -> Vec<Effect> {
        pending(&self.state, &self.own, Viewer::alone(""), self.at())
    }

    /// What `person` would sign for a step that can be prepared.
    pub(super) fn statement(&mut self, person: &str, step: &str, decision: Decision) -> Statement {
        let prepared = prepare(&self.state, step, self.at()).unwrap();
        self.nonce += 1;
        self.statement_of(prepared, person, decision)
    }

    fn statement_of(
        &self,
        prepared: PrepareResponse,
        person: &str,
        decision: Decision,
    ) -> Statement {
        Statement {
            installation: prepared.installation,
            environment: Environment::parse(&prepared.environment).unwrap(),
            incident: prepared.incident,
            run: prepared.run,
            step: prepared.step,
            iteration: prepared.iteration,
            runbook: prepared.runbook,
            runbook_digest: prepared.runbook_digest,
            inputs_digest: prepared.inputs_digest,
            roster_digest: prepared.roster_digest,
            decision,
            approver: person.to_owned(),
            nonce: format!("{:032x}", self.nonce),
            expires_s: (self.now_ms + VALIDITY_MS) / 1000,
        }
    }

    /// What `person` signs to retry, skip, override or review a step.
    pub(super) fn word(&mut self, person: &str, step: &str, decision: Decision) -> Statement {
        let prepared = prepare_for(&self.state, step, Some(decision), self.at()).unwrap();
        self.nonce += 1;
        self.statement_of(prepared, person, decision)
    }

    /// Says it, and it counts.
    pub(super) fn says(&mut self, person: &str, step: &str, decision: Decision) -> Vec<Kind> {
        let statement = self.word(person, step, decision);
        let events = self.submit(&statement, "because").unwrap();
        assert!(
            matches!(events.first(), Some(Kind::ApprovalRecorded(_))),
            "{events:?}"
        );
        events
    }

    pub(super) fn submit(
        &mut self,
        statement: &Statement,
        note: &str,
    ) -> Result<Vec<Kind>, Rejection> {
        let (statement, signature) = signed(statement);
        self.run(Command::SubmitApproval {
            statement,
            signature,
            note: note.to_owned(),
        })
    }

    pub(super) fn decided(&mut self, person: &str, step: &str, decision: Decision) -> Vec<Kind> {
        let statement = self.statement(person, step, decision);
        self.submit(&statement, "").unwrap()
    }

    pub(super) fn approve(&mut self, step: &str, people: &[&str]) {
        for person in people {
            let events = self.decided(person, step, Decision::Approve);
            assert!(
                matches!(events.as_slice(), [Kind::ApprovalRecorded(_)]),
                "{events:?}"
            );
        }
    }

    pub(super) fn begin(&mut self, step: &str) -> Result<Vec<Kind>, Rejection> {
        self.run(Command::BeginStep {
            step: step.to_owned(),
        })
    }

    pub(super) fn end(
        &mut self,
        step: &str,
        result: Result<(), &str>,
    ) -> Result<Vec<Kind>, Rejection> {
        self.run(Command::EndStep(self.end_of(step, result)))
    }

    /// The end of the step's latest attempt.
    pub(super) fn end_of(&self, step: &str, result: Result<(), &str>) -> End {
        End {
            step: step.to_owned(),
            attempt: self.state.step(step).unwrap().attempts,
            claim: self.claim(step),
            result: result
                .map(|()| outputs(self.action(step)))
                .map_err(|reason| Failure::new(ErrorKind::Refused, reason)),
            observed: false,
            begin_next: false,
        }
    }

    pub(super) fn lose(&mut self, step: &str, needs_person: bool) -> Result<Vec<Kind>, Rejection> {
        let attempt = self.state.step(step).unwrap().attempts;
        let (reason, claim) = ("no answer".to_owned(), self.claim(step));
        self.run(Command::LoseStep {
            step: step.to_owned(),
            attempt,
            claim,
            reason,
            needs_person,
        })
    }

    /// The claim that the step's attempt is under.
    fn claim(&self, step: &str) -> u32 {
        let attempt = self.state.step(step).unwrap().phase.attempt();
        attempt.map_or(0, |attempt| attempt.claim)
    }

    fn action(&self, step: &str) -> Action {
        self.state.pinned().unwrap().action(step).unwrap()
    }

    /// Approves, begins and ends a step; people confirm a manual one.
    pub(super) fn do_step(&mut self, step: &str) {
        if self.action(step) == Action::Confirm {
            for (person, note) in [("leila", "by letter"), ("nora", "")] {
                let statement = self.statement(person, step, Decision::Confirm);
                self.submit(&statement, note).unwrap();
                self.now_ms += 10;
            }
            return;
        }
        self.approve(step, approvers(step));
        self.now_ms += 10;
        self.begin(step).unwrap();
        self.now_ms += 10;
        self.end(step, Ok(())).unwrap();
        self.now_ms += 10;
    }
}

/// Every step in an order that the needs allow.
pub(super) const ORDER: [&str; 8] = [
    "snapshot", "isolate", "rotate", "find", "publish", "tell", "reverify", "close",
];

/// People who meet a step's quorum.
pub(super) fn approvers(step: &str) -> &'static [&'static str] {
    match step {
        "isolate" => &["ada", "grace"],
        "rotate" => &["pete", "ada"],
        "publish" => &["leila"],
        _ => &[],
    }
}

/// Outputs of the types that an action declares.
pub(super) fn outputs(action: Action) -> BTreeMap<String, String> {
    let fields = action.spec().outputs.iter();
    fields
        .map(|field| {
            let value = match field.kind {
                ValueType::Text => format!("{}-of-{}", field.name, action),
                ValueType::Time => "2026-11-02T10:00:01Z".to_owned(),
                ValueType::Count => "7".to_owned(),
                ValueType::Mode => "queue".to_owned(),
            };
            (field.name.to_owned(), value)
        })
        .collect()
}
