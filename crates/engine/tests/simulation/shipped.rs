//! The runbooks that come along: each step fails once, each step runs twice, and whoever comes back after any commit brings the run to its end.

use std::collections::{BTreeMap, BTreeSet};

use sealwarden_domain::approval::{Decision, Environment, Statement, sign};
use sealwarden_domain::fold::event;
use sealwarden_domain::run::{
    AttemptId, Command, Effect, Failure, Next, Observation, Phase, Report, RunState, Said, Viewer,
    after, decide, next_wake_ms, pending, prepare,
};
use sealwarden_domain::{At, Fold as _, Rejection};
use sealwarden_runbook::{ErrorKind, PlanSet, SHIPPED};
use sealwarden_wire::event::v1::event::Kind;
use sealwarden_wire::event::v1::{Actor, Envelope, RunOutcome, RunStarted};

use super::outside::outputs;
use super::people::key_of;

/// 2026-11-02T10:00:00Z.
const START_MS: i64 = 1_793_613_600_000;
const ME: &str = "executor-1";

/// What each step's effect is made to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Luck {
    /// All goes well.
    Good,
    /// Each step's first try fails.
    FailsOnce,
    /// Everything is said twice.
    Twice,
}

/// One run, driven by hand.
#[derive(Clone)]
struct Walk {
    state: RunState,
    log: Vec<(i64, Vec<Kind>)>,
    now_ms: i64,
    own: BTreeSet<AttemptId>,
    /// How often each step's effect happened outside.
    happened: BTreeMap<String, u32>,
    nonce: u32,
    luck: Luck,
}

fn shipped(name: &str) -> &'static str {
    let file = SHIPPED.iter().find(|(file, _)| *file == name);
    file.map(|(_, text)| *text).unwrap()
}

fn started(runbook: &str) -> RunStarted {
    let set = PlanSet::load(&SHIPPED).unwrap();
    let people = set.roster().people().iter();
    let keys = people
        .map(|person| {
            let line = key_of(&person.id).public_key().to_openssh().unwrap();
            (person.id.clone(), vec![line])
        })
        .collect();
    let facts = [
        ("incident.id", "inc-1"),
        ("incident.log", "main"),
        ("incident.origin", "seal.example.com/main/1"),
        ("incident.compromised_since", "2026-11-02T09:00:00Z"),
        ("incident.class", "any"),
        ("incident.key", "main-1"),
        ("incident.archive", "main"),
        ("incident.verifier", "fleet"),
        ("incident.vendor", "stamps-one"),
        ("incident.fallback", "stamps-two"),
    ];
    RunStarted {
        run: "run-1".to_owned(),
        incident: "inc-1".to_owned(),
        runbook: runbook.to_owned(),
        runbook_text: set.runbook(runbook).unwrap().source().to_owned(),
        roster_text: set.roster().with_trial_keys(&keys).unwrap().to_yaml(),
        plan_text: shipped("plan.yaml").to_owned(),
        installation: "acme".to_owned(),
        environment: Environment::Production.as_str().to_owned(),
        facts: facts
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        ..RunStarted::default()
    }
}

fn fold(state: &mut RunState, at_ms: i64, kind: &Kind) {
    let envelope = Envelope {
        stream: "run/run-1".to_owned(),
        position: 1,
        recorded_at_ms: at_ms,
        actor: Some(Actor {
            name: ME.to_owned(),
            ..Actor::default()
        }),
        ..Envelope::default()
    };
    state.apply(&envelope, &event(kind.clone())).unwrap();
}

impl Walk {
    fn begun(runbook: &str, luck: Luck) -> Self {
        let mut walk = Self {
            state: RunState::default(),
            log: Vec::new(),
            now_ms: START_MS,
            own: BTreeSet::new(),
            happened: BTreeMap::new(),
            nonce: 0,
            luck,
        };
        walk.tell(&Command::Start(Box::new(started(runbook))))
            .unwrap();
        walk
    }

    fn at(&self) -> At {
        At {
            wall_ms: self.now_ms,
            boot_ms: 0,
        }
    }

    /// Decides and folds. Where all is said twice, the second time changes nothing.
    fn tell(&mut self, command: &Command) -> Result<(), Rejection> {
        let events = decide(&self.state, command.clone(), self.at())?;
        for kind in &events {
            self.own.extend(AttemptId::begun_by(kind));
            fold(&mut self.state, self.now_ms, kind);
        }
        if !events.is_empty() {
            self.log.push((self.now_ms, events));
        }
        let signed = matches!(command, Command::SubmitApproval { .. });
        if self.luck == Luck::Twice && !signed {
            let again = decide(&self.state, command.clone(), self.at()).unwrap_or_default();
            assert_eq!(again, [], "said twice, done twice: {command:?}");
        }
        Ok(())
    }

    fn perform(&mut self, id: &AttemptId) -> Report {
        let action = self.state.pinned().and_then(|it| it.action(&id.step));
        let fails = self.luck == Luck::FailsOnce && id.attempt == 1;
        if fails {
            return Report::NotDone(Failure::new(ErrorKind::Refused, "the first try fails"));
        }
        *self.happened.entry(id.step.clone()).or_default() += 1;
        Report::Done(outputs(action.unwrap()))
    }

    fn observe(&self, id: &AttemptId) -> Report {
        let action = self.state.pinned().and_then(|it| it.action(&id.step));
        Report::Observed(if self.happened.contains_key(&id.step) {
            Observation::Done(outputs(action.unwrap()))
        } else {
            Observation::NotDone("nothing is there".to_owned())
        })
    }

    fn reported(&mut self, id: &AttemptId, report: Report) {
        match after(&self.state, &self.own, id, report, true, self.at()) {
            Next::End(end) => self.tell(&Command::EndStep(end)).unwrap(),
            Next::Perform { .. } => {
                let report = self.perform(id);
                self.reported(id, report);
            }
            Next::Lose { .. } => panic!("nobody loses {id:?} here"),
        }
    }

    /// One round: what is pending, and if nothing is, what people are asked for.
    fn round(&mut self) {
        let effects = pending(&self.state, &self.own, Viewer::alone(ME), self.at());
        for effect in &effects {
            match effect {
                Effect::Begin { step } => {
                    let step = step.clone();
                    self.tell(&Command::BeginStep { step: step.clone() })
                        .unwrap_or_else(|_| {
                            panic!("step {step} is pending and does not begin");
                        });
                }
                Effect::Execute { id, .. } => {
                    let report = self.perform(id);
                    self.reported(id, report);
                }
                Effect::Take { id } => self.tell(&Command::TakeStep(id.clone())).unwrap(),
                Effect::Observe { id, .. } => {
                    let report = self.observe(id);
                    self.reported(id, report);
                }
                Effect::AskPerson { step, .. } => {
                    let (step, said) = (step.clone(), word());
                    self.tell(&Command::Retry { step, said }).unwrap();
                }
            }
        }
        if effects.is_empty() {
            match next_wake_ms(&self.state, Viewer::alone(ME), self.at()) {
                Some(wake_ms) => self.now_ms = wake_ms,
                None => self.people(),
            }
        }
        self.now_ms += 10;
    }

    /// Everybody signs what waits for them.
    fn people(&mut self) {
        let ready = self.state.steps().iter();
        let ready: Vec<String> = ready
            .filter(|(_, step)| step.phase == Phase::Ready)
            .map(|(id, _)| id.clone())
            .collect();
        for step in ready {
            let people = self.state.pinned().unwrap().roster().people().to_vec();
            for person in people {
                let Ok(prepared) = prepare(&self.state, &step, self.at()) else {
                    break;
                };
                let wanted = |role: &sealwarden_runbook::Role| {
                    prepared.missing.contains(&format!("{}: ", role.as_str()))
                };
                if !person.roles.iter().any(wanted) {
                    continue;
                }
                self.nonce += 1;
                let statement = Statement {
                    installation: prepared.installation,
                    environment: Environment::Production,
                    incident: prepared.incident,
                    run: prepared.run,
                    step: prepared.step,
                    iteration: prepared.iteration,
                    runbook: prepared.runbook,
                    runbook_digest: prepared.runbook_digest,
                    inputs_digest: prepared.inputs_digest,
                    roster_digest: prepared.roster_digest,
                    decision: if prepared.manual {
                        Decision::Confirm
                    } else {
                        Decision::Approve
                    },
                    approver: person.id.clone(),
                    nonce: format!("{:032x}", self.nonce),
                    expires_s: self.now_ms / 1000 + 600,
                };
                let text = statement.to_string();
                let namespace = Environment::Production.namespace();
                let command = Command::SubmitApproval {
                    signature: sign(&text, &key_of(&person.id), namespace).unwrap(),
                    statement: text,
                    note: String::new(),
                };
                self.tell(&command).unwrap();
            }
        }
    }

    fn ends(mut self) -> Self {
        for _ in 0..400 {
            if !self.state.is_open() {
                break;
            }
            self.round();
        }
        let outcome = self.state.ended().map(|end| end.outcome);
        assert_eq!(outcome, Some(RunOutcome::Completed), "it does not end");
        for (id, step) in self.state.steps() {
            let manual = self
                .state
                .pinned()
                .unwrap()
                .action(id)
                .unwrap()
                .spec()
                .manual;
            assert_eq!(step.phase, Phase::Done, "step {id}");
            let times = self.happened.get(id).copied();
            assert_eq!(times, (!manual).then_some(1), "the effect of step {id}");
        }
        self
    }
}

fn word() -> Said {
    Said {
        by: "olga".to_owned(),
        reason: "once more".to_owned(),
    }
}

/// The names of the shipped runbooks.
fn runbooks() -> Vec<String> {
    let set = PlanSet::load(&SHIPPED).unwrap();
    let names: Vec<String> = set.runbooks().keys().cloned().collect();
    assert!(names.len() >= 5, "{names:?}");
    names
}

#[test]
fn each_step_of_a_shipped_runbook_may_fail_once() {
    for runbook in runbooks() {
        let walk = Walk::begun(&runbook, Luck::FailsOnce).ends();
        for (id, step) in walk.state.steps() {
            let manual = walk
                .state
                .pinned()
                .unwrap()
                .action(id)
                .unwrap()
                .spec()
                .manual;
            assert_eq!(step.attempts, if manual { 1 } else { 2 }, "{runbook}: {id}");
        }
    }
}

#[test]
fn each_step_of_a_shipped_runbook_may_be_told_twice() {
    for runbook in runbooks() {
        let walk = Walk::begun(&runbook, Luck::Twice).ends();
        assert!(walk.state.steps().values().all(|step| step.attempts == 1));
    }
}

#[test]
fn a_shipped_runbook_goes_on_after_every_commit() {
    for runbook in runbooks() {
        let whole = Walk::begun(&runbook, Luck::Good).ends();
        let mut prefix = Walk::begun(&runbook, Luck::Good);
        for (at_ms, commit) in whole.log.iter().skip(1) {
            for kind in commit {
                fold(&mut prefix.state, *at_ms, kind);
                if let Kind::StepEnded(ended) = kind
                    && !prefix
                        .state
                        .pinned()
                        .unwrap()
                        .action(&ended.step)
                        .unwrap()
                        .spec()
                        .manual
                {
                    prefix.happened.insert(ended.step.clone(), 1);
                }
            }
            prefix.now_ms = *at_ms + 5;
            prefix.nonce = 1000;
            prefix.own.clear();
            // What ran when its process died had happened, or had not.
            prefix.clone().ends();
            let mut lucky = prefix.clone();
            for (id, step) in prefix.state.steps() {
                if step.phase.attempt().is_some() {
                    lucky.happened.insert(id.clone(), 1);
                }
            }
            lucky.ends();
        }
    }
}
