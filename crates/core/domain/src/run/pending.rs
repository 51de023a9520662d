//! What the shell should do next.

use std::collections::BTreeSet;

use sealwarden_runbook::Action;

use super::gate::may_begin;
use super::pinned::Pinned;
use super::state::{Attempt, Course, Phase, RunState, StepState};
use crate::approval::Inputs;
use crate::fold::At;

/// One attempt of a step's iteration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttemptId {
    /// The step.
    pub step: String,
    /// Its iteration.
    pub iteration: u32,
    /// The attempt, from 1.
    pub attempt: u32,
}

/// Something for the shell to do. Doing it twice does no harm if the shell keeps to what each variant says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Decide and append [`super::Command::BeginStep`]; the step is approved and ready.
    Begin {
        /// Which step.
        step: String,
    },
    /// Perform the action: this process recorded the attempt's start. It is named as long as the attempt runs; the shell starts it once.
    Execute {
        /// Which attempt.
        id: AttemptId,
        /// The same for every attempt of the step's iteration.
        idempotency_key: String,
        /// What to perform.
        action: Action,
        /// With which inputs.
        inputs: Inputs,
        /// When it must have ended, Unix milliseconds.
        deadline_ms: i64,
    },
    /// Find out whether an attempt's effect happened; never repeat it. Another process may have begun it: unless that process is known to be dead, wait until
    /// `deadline_ms`. Answer with [`super::Command::EndStep`] (`observed`) or [`super::Command::LoseStep`] (`needs_person`).
    Observe {
        /// Which attempt.
        id: AttemptId,
        /// The same for every attempt of the step's iteration.
        idempotency_key: String,
        /// What was performed, perhaps.
        action: Action,
        /// With which inputs.
        inputs: Inputs,
        /// When the effect must have ended, Unix milliseconds.
        deadline_ms: i64,
    },
    /// Tell an operator: the run is stuck at this step.
    AskPerson {
        /// Which step.
        step: String,
        /// Which attempt.
        attempt: u32,
        /// What happened.
        reason: String,
    },
}

/// What is to be done now, in the runbook's order. `own` names the attempts whose start this very process recorded and whose end it has not: they are executed;
/// attempts of earlier process lives are observed.
pub fn pending(state: &RunState, own: &BTreeSet<AttemptId>, at: At) -> Vec<Effect> {
    let Some(pinned) = state.pinned().filter(|_| state.is_open()) else {
        return Vec::new();
    };
    pinned
        .order()
        .iter()
        .filter_map(|id| {
            state
                .step(id)
                .and_then(|step| of_step(state, pinned, id, step, own, at))
        })
        .collect()
}

fn of_step(
    state: &RunState,
    pinned: &Pinned,
    id: &str,
    step: &StepState,
    own: &BTreeSet<AttemptId>,
    at: At,
) -> Option<Effect> {
    match &step.phase {
        Phase::Blocked | Phase::Done | Phase::Skipped | Phase::Cancelled => None,
        Phase::Ready => may_begin(state, pinned, id, step, at)
            .ok()
            .map(|()| Effect::Begin {
                step: id.to_owned(),
            }),
        Phase::Running(attempt) => {
            let mine = own.contains(&attempt_id(id, step, attempt));
            of_attempt(pinned, id, step, attempt, mine)
        }
        Phase::Unknown {
            attempt,
            needs_person: false,
            ..
        } => of_attempt(pinned, id, step, attempt, false),
        Phase::Unknown {
            attempt,
            reason,
            needs_person: true,
        } => Some(Effect::AskPerson {
            step: id.to_owned(),
            attempt: attempt.number,
            reason: reason.clone(),
        }),
        Phase::Failed if matches!(state.course(), Course::Aborting(_)) => None,
        Phase::Failed => Some(Effect::AskPerson {
            step: id.to_owned(),
            attempt: step.attempts,
            reason: step.error.clone(),
        }),
    }
}

fn attempt_id(id: &str, step: &StepState, attempt: &Attempt) -> AttemptId {
    AttemptId {
        step: id.to_owned(),
        iteration: step.iteration,
        attempt: attempt.number,
    }
}

fn of_attempt(
    pinned: &Pinned,
    id: &str,
    step: &StepState,
    attempt: &Attempt,
    mine: bool,
) -> Option<Effect> {
    let (action, inputs) = pinned
        .action(id)
        .zip(step.inputs.as_ref().map(|(inputs, _)| inputs.clone()))?;
    let idempotency_key = attempt.idempotency_key.clone();
    let deadline_ms = attempt.deadline_ms;
    let id = attempt_id(id, step, attempt);
    Some(if mine {
        Effect::Execute {
            id,
            idempotency_key,
            action,
            inputs,
            deadline_ms,
        }
    } else {
        Effect::Observe {
            id,
            idempotency_key,
            action,
            inputs,
            deadline_ms,
        }
    })
}

/// When [`pending`] may say something new without a new event, Unix milliseconds: the earliest end of a pause between two attempts.
pub fn next_wake_ms(state: &RunState, at: At) -> Option<i64> {
    let pinned = state.pinned().filter(|_| state.is_open())?;
    state
        .steps()
        .iter()
        .filter(|(_, step)| step.phase == Phase::Ready && step.attempts > 0)
        .map(|(id, step)| {
            step.ended_at_ms
                .saturating_add(pinned.backoff_ms(id, step.attempts))
        })
        .filter(|wake_ms| *wake_ms > at.wall_ms)
        .min()
}
