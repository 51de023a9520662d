//! What becomes ready when a step is over: conditions are evaluated and inputs resolved, once, and both are recorded.
//!
//! A step whose condition does not hold is over itself, so one end may make a whole row of steps not needed in the same commit.

use std::collections::{BTreeMap, BTreeSet};

use sealwarden_runbook::{Action, Condition, Evaluated, Fact, Reference, Step, ValueType};
use sealwarden_wire::event::v1::event::Kind;
use sealwarden_wire::event::v1::{ConditionEvaluated, ConditionOutcome, InputsResolved};

use super::pinned::Pinned;
use super::state::{Phase, RunState};
use crate::fold::{Rejection, RejectionCode};

/// A step that is over by the commit that is being decided.
#[derive(Clone, Copy)]
pub(crate) struct Over<'o> {
    /// Which.
    pub(crate) step: &'o str,
    /// What it left; `None`: it was skipped.
    pub(crate) outputs: Option<&'o BTreeMap<String, String>>,
}

/// What follows for the steps behind.
#[derive(Default)]
pub(crate) struct Ready {
    /// The conditions that were evaluated, and the inputs of the steps that are needed.
    pub(crate) events: Vec<Kind>,
    /// The steps that can start as far as conditions and needs go, in the runbook's order.
    pub(crate) needed: Vec<String>,
    /// The steps that are over because their conditions do not hold.
    pub(crate) not_needed: BTreeSet<String>,
}

/// The steps as they are once the commit is stored.
pub(crate) struct After<'a> {
    state: &'a RunState,
    pinned: &'a Pinned,
    over: Option<Over<'a>>,
}

/// What follows when a step is over, or, without one, when the run starts.
pub(crate) fn ready(
    state: &RunState,
    pinned: &Pinned,
    over: Option<Over<'_>>,
) -> Result<Ready, Rejection> {
    let after = After {
        state,
        pinned,
        over,
    };
    let mut ready = Ready::default();
    // In an order in which each step stands behind all that it needs, one pass is enough.
    for id in pinned.order() {
        let blocked = state
            .step(id)
            .is_none_or(|step| step.phase == Phase::Blocked);
        let is_over = |need: &String| after.word(need, &ready.not_needed).is_some();
        if blocked
            && pinned.needs(id).iter().all(is_over)
            && let Some(step) = pinned.runbook().step(id)
        {
            after.next(step, &mut ready)?;
        }
    }
    Ok(ready)
}

impl<'a> After<'a> {
    /// The steps as they are.
    pub(crate) fn of(state: &'a RunState, pinned: &'a Pinned) -> Self {
        Self {
            state,
            pinned,
            over: None,
        }
    }
}

impl After<'_> {
    /// How a step that is over ended, as conditions see it.
    fn word(&self, id: &str, not_needed: &BTreeSet<String>) -> Option<&'static str> {
        if let Some(over) = self.over.filter(|over| over.step == id) {
            return Some(if over.outputs.is_some() {
                Phase::Done.word()
            } else {
                Phase::Skipped.word()
            });
        }
        if not_needed.contains(id) {
            return Some(Phase::NotNeeded.word());
        }
        let phase = &self.state.step(id)?.phase;
        phase.is_over().then(|| phase.word())
    }

    fn output(&self, id: &str, name: &str) -> Option<String> {
        let outputs = match self.over.filter(|over| over.step == id) {
            Some(over) => over.outputs,
            None => self.state.step(id).map(|step| &step.outputs),
        };
        outputs.and_then(|outputs| outputs.get(name)).cloned()
    }

    /// A step of which all needs are over.
    pub(crate) fn next(&self, step: &Step, ready: &mut Ready) -> Result<(), Rejection> {
        let mut needed = true;
        if let Some(condition) = &step.when {
            let evaluated = condition.evaluate(&|fact| self.fact(fact, &ready.not_needed));
            needed = evaluated.holds == Ok(true);
            let does_not_hold = evaluated.holds == Ok(false);
            ready.events.push(judged(&step.id, condition, evaluated));
            if does_not_hold {
                ready.not_needed.insert(step.id.clone());
                return Ok(());
            }
        }
        // Also where nobody can tell whether it is needed: whoever decides that decides about these inputs.
        let resolved = self.resolved(step, &ready.not_needed)?;
        ready.events.push(resolved);
        if needed {
            ready.needed.push(step.id.clone());
        }
        Ok(())
    }

    fn fact(&self, fact: &Fact, not_needed: &BTreeSet<String>) -> Option<(ValueType, String)> {
        match fact {
            Fact::State(step) => {
                let word = self.word(step, not_needed)?;
                Some((ValueType::Text, word.to_owned()))
            }
            Fact::Value(reference) => {
                let kind = match reference {
                    Reference::Incident(field) => field.kind(),
                    Reference::Plan(field) => field.kind(),
                    Reference::Step { step, output } => {
                        self.pinned.runbook().work(step)?.output(output)?
                    }
                };
                let output = |step: &str, name: &str| self.output(step, name);
                Some((kind, self.pinned.value(reference, &output)?))
            }
        }
    }

    /// `InputsResolved` of a step.
    fn resolved(&self, step: &Step, not_needed: &BTreeSet<String>) -> Result<Kind, Rejection> {
        // People can read that there is no output; actions never run on one that is not there.
        let told = |from: &str, name: &str| {
            let missing = || {
                let word = self.word(from, not_needed)?;
                Some(format!("({}: step {from})", word.replace('-', " ")))
            };
            self.output(from, name).or_else(missing)
        };
        let output = |from: &str, name: &str| self.output(from, name);
        let output: &dyn Fn(&str, &str) -> Option<String> = if is_manual(step.action) {
            &told
        } else {
            &output
        };
        let inputs = self.pinned.resolve(step, output).map_err(|error| {
            Rejection::new(
                RejectionCode::Invalid,
                format!("the inputs of step {} cannot be resolved: {error}", step.id),
            )
        })?;
        Ok(Kind::InputsResolved(InputsResolved {
            step: step.id.clone(),
            iteration: 0,
            digest: inputs.digest(),
            inputs: inputs.to_string(),
        }))
    }
}

fn is_manual(action: Action) -> bool {
    action.spec().manual
}

/// `ConditionEvaluated` of a step.
fn judged(step: &str, condition: &Condition, evaluated: Evaluated) -> Kind {
    let (outcome, error) = match evaluated.holds {
        Ok(true) => (ConditionOutcome::Holds, String::new()),
        Ok(false) => (ConditionOutcome::DoesNotHold, String::new()),
        Err(error) => (ConditionOutcome::Error, error),
    };
    Kind::ConditionEvaluated(ConditionEvaluated {
        step: step.to_owned(),
        iteration: 0,
        condition: condition.as_str().to_owned(),
        outcome: outcome.into(),
        seen: evaluated.seen.into_iter().collect(),
        error,
    })
}
