//! What a run is pinned to: the texts of runbook, roster and plan as they were when it started, read once.

use std::collections::BTreeMap;
use std::time::Duration;

use sealwarden_runbook::{
    Action, ErrorKind, Plan, PlanSet, Quorum, Reference, Roster, Runbook, Step, Unresolved,
};
use sealwarden_wire::event::v1::RunStarted;

use crate::approval::{Environment, Inputs, InputsError, sha256_hex};

/// The longest pause between two attempts, in milliseconds.
const MAX_BACKOFF_MS: i64 = 3_600_000;

/// Runbook, roster and plan of one run, and the event that they were read from.
#[derive(Clone, Debug)]
pub struct Pinned {
    started: RunStarted,
    environment: Environment,
    runbook: Runbook,
    roster: Roster,
    plan: Plan,
    order: Vec<String>,
    undo_order: Vec<String>,
    quorums: BTreeMap<String, Quorum>,
}

/// The event decides everything else.
impl PartialEq for Pinned {
    fn eq(&self, other: &Self) -> bool {
        self.started == other.started
    }
}

/// Why a run cannot be pinned to these texts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Neither production nor drill.
    #[error("the environment {0:?} is neither production nor drill")]
    Environment(String),
    /// An id or name that no statement could carry.
    #[error(
        "{what} {value:?} cannot stand in an approval: use 1 to 256 printable ASCII characters without spaces"
    )]
    Word {
        /// Which.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// The texts do not read or do not fit each other.
    #[error("the plan of the run cannot be used: {0}")]
    Plan(String),
    /// A text has another digest than the one recorded beside it.
    #[error("the {what} has the digest {actual} and {recorded} is recorded")]
    Digest {
        /// Which.
        what: &'static str,
        /// The text's.
        actual: String,
        /// The recorded one.
        recorded: String,
    },
    /// A step that nodes would refuse to obey or that nobody could ever end.
    #[error("step {step} cannot be executed: {reason}")]
    Step {
        /// Which.
        step: String,
        /// Why.
        reason: String,
    },
}

/// Why a step's inputs cannot be resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResolveError {
    /// A value is missing or of the wrong type.
    #[error(transparent)]
    Unresolved(#[from] Unresolved),
    /// A value that cannot stand in the canonical text.
    #[error(transparent)]
    Inputs(#[from] InputsError),
}

impl Pinned {
    /// Reads the texts of a run's first event and checks the digests beside them.
    pub fn read(started: RunStarted) -> Result<Self, Unusable> {
        let environment = Environment::parse(&started.environment)
            .ok_or_else(|| Unusable::Environment(started.environment.clone()))?;
        check_words(&started)?;
        let set = read_set(&started)?;
        let (roster, plan) = (set.roster().clone(), set.plan().clone());
        let runbook = set
            .runbook(&started.runbook)
            .cloned()
            .ok_or_else(|| Unusable::Word {
                what: "runbook",
                value: started.runbook.clone(),
            })?;
        check_digest("runbook", &runbook.digest_hex(), &started.runbook_digest)?;
        check_digest("roster", &roster.digest_hex(), &started.roster_digest)?;
        let order = runbook.order().iter().map(|step| step.id.clone()).collect();
        let undo_order = runbook.undo_order();
        let undo_order = undo_order.iter().map(|undo| undo.id.clone()).collect();
        let mut quorums = BTreeMap::new();
        for step in runbook.all_work() {
            if let Some(quorum) = effective_quorum(step, &plan)? {
                quorums.insert(step.id.clone(), quorum);
            }
        }
        Ok(Self {
            started,
            environment,
            runbook,
            roster,
            plan,
            order,
            undo_order,
            quorums,
        })
    }

    /// The run's first event.
    pub fn started(&self) -> &RunStarted {
        &self.started
    }

    /// Production or drill.
    pub fn environment(&self) -> Environment {
        self.environment
    }

    /// The runbook.
    pub fn runbook(&self) -> &Runbook {
        &self.runbook
    }

    /// The people, their roles and keys.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The steps' ids so that each stands after all that it needs.
    pub fn order(&self) -> &[String] {
        &self.order
    }

    /// The ids of the undos in the order in which they run.
    pub fn undo_order(&self) -> &[String] {
        &self.undo_order
    }

    /// What a step performs.
    pub fn action(&self, step: &str) -> Option<Action> {
        self.runbook.work(step).map(|step| step.action)
    }

    /// The steps that must be done before a step.
    pub fn needs(&self, step: &str) -> &[String] {
        self.runbook
            .work(step)
            .map(|step| step.needs.as_slice())
            .unwrap_or_default()
    }

    /// Who must approve a step: what the step asks for, and what the plan demands for the directive that it sends, whichever is more, role by role.
    pub fn quorum(&self, step: &str) -> Option<&Quorum> {
        self.quorums.get(step)
    }

    /// How often a step is tried, at least once.
    pub fn max_attempts(&self, step: &str) -> u32 {
        self.runbook
            .work(step)
            .map_or(1, |step| step.retry.attempts.max(1))
    }

    /// Whether a step is tried again after this error, as long as attempts are left.
    pub fn tries_again_after(&self, step: &str, error: Option<ErrorKind>) -> bool {
        let step = self.runbook.work(step);
        step.is_some_and(|step| step.retry.tries_again_after(error))
    }

    /// How long one attempt may take, in milliseconds.
    pub fn timeout_ms(&self, step: &str) -> i64 {
        self.runbook
            .work(step)
            .map_or(0, |step| millis(step.timeout))
    }

    /// The pause after `attempts` attempts, in milliseconds: it doubles from one to the next, up to an hour, and is longer by a part of the step's jitter that follows
    /// from run, step and attempt.
    pub fn backoff_ms(&self, step: &str, attempts: u32) -> i64 {
        let Some(step) = self.runbook.work(step) else {
            return 0;
        };
        let Some(doublings) = attempts.checked_sub(1) else {
            return 0;
        };
        let factor = 1_i64.checked_shl(doublings.min(40)).unwrap_or(i64::MAX);
        let pause_ms = millis(step.retry.backoff).saturating_mul(factor);
        pause_ms
            .saturating_add(self.jitter_ms(step, attempts))
            .min(MAX_BACKOFF_MS)
    }

    /// From 0 to the step's jitter, the same whenever it is asked for: a pause does not move when a run is folded again.
    fn jitter_ms(&self, step: &Step, attempts: u32) -> i64 {
        let most_ms = millis(step.retry.jitter);
        let text = format!("{}\n{}\n{attempts}\n", self.started.run, step.id);
        let digest = sha256_hex(text.as_bytes());
        let drawn = digest
            .get(..15)
            .and_then(|hex| i64::from_str_radix(hex, 16).ok());
        drawn.map_or(0, |drawn| drawn.rem_euclid(most_ms.saturating_add(1)))
    }

    /// The longest validity of an approval, in milliseconds.
    pub fn approval_validity_ms(&self) -> i64 {
        millis(self.plan.approval_validity())
    }

    /// What a reference stands for; `output` gives the outputs of steps that are done.
    pub(crate) fn value(
        &self,
        reference: &Reference,
        output: &dyn Fn(&str, &str) -> Option<String>,
    ) -> Option<String> {
        match reference {
            Reference::Incident(field) => {
                let name = format!("incident.{}", field.as_str());
                self.started.facts.get(&name).cloned()
            }
            Reference::Plan(field) => Some(self.plan.field(*field)),
            Reference::Step { step, output: name } => output(step, name),
        }
    }

    /// Resolves a step's inputs; `output` gives the outputs of steps that are done.
    pub(crate) fn resolve(
        &self,
        step: &Step,
        output: &dyn Fn(&str, &str) -> Option<String>,
    ) -> Result<Inputs, ResolveError> {
        let resolved = step.resolve(&|reference| self.value(reference, output))?;
        let values = resolved
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Ok(Inputs::new(step.action.name(), values)?)
    }

    /// Checks that nothing but outputs of earlier steps is missing for any step, so that a run does not get stuck half-way on what was wrong from the start.
    pub(crate) fn rehearse(&self) -> Result<(), Unusable> {
        let unusable = |step: &Step, reason: String| Unusable::Step {
            step: step.id.clone(),
            reason,
        };
        for step in self.runbook.all_work() {
            let output = |from: &str, name: &str| self.sample(from, name);
            self.resolve(step, &output)
                .map_err(|error| unusable(step, error.to_string()))?;
        }
        Ok(())
    }

    /// A value of the type that an output will have.
    fn sample(&self, step: &str, output: &str) -> Option<String> {
        use sealwarden_runbook::ValueType;
        let kind = self.runbook.work(step)?.output(output)?;
        let text = match kind {
            ValueType::Text => "sample",
            ValueType::Time => "2026-01-01T00:00:00Z",
            ValueType::Count => "0",
            ValueType::Mode => "queue",
        };
        Some(text.to_owned())
    }
}

fn effective_quorum(step: &Step, plan: &Plan) -> Result<Option<Quorum>, Unusable> {
    let unusable = |reason: String| Unusable::Step {
        step: step.id.clone(),
        reason,
    };
    let spec = step.action.spec();
    let mut roles = step
        .approval
        .as_ref()
        .map(|approval| approval.quorum.roles().clone())
        .unwrap_or_default();
    if let Some(kind) = step.directive() {
        let demanded = plan.containment(kind).ok_or_else(|| {
            unusable(format!(
                "the plan has no containment quorum for {kind}, so nodes would refuse it"
            ))
        })?;
        for (role, count) in demanded.roles() {
            let mine = roles.entry(role.clone()).or_insert(0);
            *mine = (*mine).max(*count);
        }
    }
    if spec.manual && roles.is_empty() {
        return Err(unusable(
            "it is manual and names nobody who could confirm it; add an approval".to_owned(),
        ));
    }
    if roles.is_empty() {
        return Ok(None);
    }
    Quorum::new(roles)
        .map(Some)
        .map_err(|error| unusable(error.to_string()))
}

fn check_words(started: &RunStarted) -> Result<(), Unusable> {
    let words = [
        ("run", &started.run),
        ("incident", &started.incident),
        ("runbook", &started.runbook),
        ("installation", &started.installation),
    ];
    for (what, value) in words {
        let fits =
            (1..=256).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic());
        if !fits {
            return Err(Unusable::Word {
                what,
                value: value.clone(),
            });
        }
    }
    Ok(())
}

fn check_digest(what: &'static str, actual: &str, recorded: &str) -> Result<(), Unusable> {
    if actual == recorded {
        return Ok(());
    }
    Err(Unusable::Digest {
        what,
        actual: actual.to_owned(),
        recorded: recorded.to_owned(),
    })
}

/// Reads the pinned texts as a plan of this one runbook, which checks them against each other too: a quorum that the roster cannot meet is refused here.
fn read_set(started: &RunStarted) -> Result<PlanSet, Unusable> {
    let file = format!("{}.yaml", started.runbook);
    let files = [
        ("plan.yaml", started.plan_text.as_str()),
        ("roster.yaml", started.roster_text.as_str()),
        (file.as_str(), started.runbook_text.as_str()),
    ];
    PlanSet::load_for_run(&files).map_err(|findings| {
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        Unusable::Plan(lines.join("; "))
    })
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
