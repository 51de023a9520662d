//! What the shell should do next.

use std::collections::BTreeSet;

use sealwarden_runbook::{Action, undone_step};

use super::gate::{may_begin, undecided};
use super::pinned::Pinned;
use super::state::{Attempt, Course, Phase, RunState, StepState};
use crate::approval::Inputs;
use crate::fold::At;

/// How long after an attempt's deadline another executor than the one that began it looks at it, in milliseconds: what clocks may be apart, and what a request needs to
/// end that its sender has given up.
pub const TAKEOVER_MS: i64 = 10_000;

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
    /// Find out whether an attempt's effect happened; never repeat it. It is named at once where an earlier life of this executor began the attempt: that life is dead.
    /// What another executor began is named only [`TAKEOVER_MS`] after its deadline, because that executor may be at work. Answer with [`super::Command::EndStep`] (`observed`) or [`super::Command::LoseStep`] (`needs_person`).
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

/// What is to be done now by the executor `me`, in the runbook's order. `own` names the attempts whose start this very process recorded and whose end it has not: they
/// are executed; attempts of earlier process lives are observed.
pub fn pending(state: &RunState, own: &BTreeSet<AttemptId>, me: &str, at: At) -> Vec<Effect> {
    let Some(pinned) = state.pinned().filter(|_| state.is_open()) else {
        return Vec::new();
    };
    let order = pinned.order().iter().chain(pinned.undo_order());
    order
        .filter_map(|id| {
            state
                .step(id)
                .and_then(|step| of_step(state, pinned, id, step, (own, me), at))
        })
        .collect()
}

fn of_step(
    state: &RunState,
    pinned: &Pinned,
    id: &str,
    step: &StepState,
    (own, me): (&BTreeSet<AttemptId>, &str),
    at: At,
) -> Option<Effect> {
    match &step.phase {
        Phase::Blocked | Phase::Done | Phase::Skipped | Phase::NotNeeded | Phase::Cancelled => None,
        Phase::Undecided => Some(Effect::AskPerson {
            step: id.to_owned(),
            attempt: step.attempts,
            reason: undecided(step),
        }),
        Phase::Ready => may_begin(state, pinned, id, step, at)
            .ok()
            .map(|()| Effect::Begin {
                step: id.to_owned(),
            }),
        Phase::Running(attempt) => {
            let mine = own.contains(&attempt_id(id, step, attempt));
            of_attempt(pinned, id, step, attempt, mine)
                .filter(|_| mine || observable_ms(attempt, me) <= at.wall_ms)
        }
        Phase::Unknown {
            attempt,
            needs_person: false,
            ..
        } => of_attempt(pinned, id, step, attempt, false)
            .filter(|_| observable_ms(attempt, me) <= at.wall_ms),
        Phase::Unknown {
            attempt,
            reason,
            needs_person: true,
        } => Some(Effect::AskPerson {
            step: id.to_owned(),
            attempt: attempt.number,
            reason: reason.clone(),
        }),
        Phase::Failed
            if matches!(state.course(), Course::Aborting(_)) && undone_step(id).is_none() =>
        {
            None
        }
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

/// From when on an executor may look at an attempt that it does not perform, Unix milliseconds.
fn observable_ms(attempt: &Attempt, me: &str) -> i64 {
    if attempt.by == me {
        return i64::MIN;
    }
    attempt.deadline_ms.saturating_add(TAKEOVER_MS)
}

/// When [`pending`] may say something new to the executor `me` without a new event, Unix milliseconds: the earliest end of a pause between two attempts, or of the time
/// that another executor has for an attempt.
pub fn next_wake_ms(state: &RunState, me: &str, at: At) -> Option<i64> {
    let pinned = state.pinned().filter(|_| state.is_open())?;
    let wakes = state.steps().iter().filter_map(|(id, step)| {
        if step.phase == Phase::Ready && step.attempts > 0 {
            let pause_ms = pinned.backoff_ms(id, step.attempts);
            return Some(step.ended_at_ms.saturating_add(pause_ms));
        }
        let attempt = step.phase.attempt()?;
        (attempt.by != me).then(|| observable_ms(attempt, me))
    });
    wakes.filter(|wake_ms| *wake_ms > at.wall_ms).min()
}
