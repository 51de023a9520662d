//! What the shell should do next.

use std::collections::{BTreeMap, BTreeSet};

use sealwarden_runbook::{Action, undone_step};
use sealwarden_wire::event::v1::event::Kind;

use super::gate::{may_begin, undecided};
use super::pinned::Pinned;
use super::state::{Attempt, Course, Phase, RunState, StepState};
use crate::approval::Inputs;
use crate::fold::At;

/// How long after an attempt's deadline another executor than the one that holds it takes it over, in milliseconds, where nobody can tell that the holder is gone: what
/// clocks may be apart, and what a request needs to end that its sender has given up.
pub const TAKEOVER_MS: i64 = 10_000;

/// How soon an executor looks again at what was held after its holder's lease was known to be over, in milliseconds.
const LOOK_AGAIN_MS: i64 = 500;

/// One attempt of a step's iteration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttemptId {
    /// The step.
    pub step: String,
    /// Its iteration.
    pub iteration: u32,
    /// The attempt, from 1.
    pub attempt: u32,
    /// How often it was taken over; 0 is whoever recorded its start.
    pub claim: u32,
}

impl AttemptId {
    /// The attempt that whoever stored this event answers for from then on.
    pub fn begun_by(kind: &Kind) -> Option<Self> {
        if let Kind::StepStarted(started) = kind {
            return Some(Self {
                step: started.step.clone(),
                iteration: started.iteration,
                attempt: started.attempt,
                claim: 0,
            });
        }
        if let Kind::StepTaken(taken) = kind {
            return Some(Self {
                step: taken.step.clone(),
                iteration: taken.iteration,
                attempt: taken.attempt,
                claim: taken.claim,
            });
        }
        None
    }
}

/// What an executor knows of another one's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It lasts: what it holds is its own.
    Lasts,
    /// It ran out or was given back: nothing is being worked on that was held up to this position of the event log.
    Over {
        /// The position.
        position: u64,
    },
}

/// An executor, and what it knows of the others.
#[derive(Clone, Copy, Debug)]
pub struct Viewer<'a> {
    /// Its name.
    pub me: &'a str,
    /// Whether others may take over what it holds: then it takes over itself what an earlier life or lease of it held, so that only one goes on with it.
    pub is_shared: bool,
    /// What is known of the others' leases. Who is not named has never had one.
    pub others: &'a BTreeMap<String, Known>,
}

impl<'a> Viewer<'a> {
    /// An executor that knows of no others.
    pub const fn alone(me: &'a str) -> Self {
        const NOBODY: &BTreeMap<String, Known> = &BTreeMap::new();
        Self {
            me,
            is_shared: false,
            others: NOBODY,
        }
    }
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
    /// Take an attempt over, with [`super::Command::TakeStep`]: nobody works on it any more, or nobody may. It is named at once where an executor held it whose lease is over, or
    /// an earlier life or lease of this one; from one whose lease lasts never; else [`TAKEOVER_MS`] after its deadline, because its holder may be at work.
    Take {
        /// Which attempt, with the claim that it is taken from.
        id: AttemptId,
    },
    /// Find out whether the effect of an attempt that was taken over, ended without an answer, or was begun by an earlier life, happened; never repeat it. Answer with [`super::Command::EndStep`]
    /// (`observed`) or [`super::Command::LoseStep`] (`needs_person`).
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

/// What is to be done now by an executor, in the runbook's order. `own` names the attempts that this very process began or took over and has not ended: what it began it
/// executes, what it took over it observes.
pub fn pending(
    state: &RunState,
    own: &BTreeSet<AttemptId>,
    viewer: Viewer<'_>,
    at: At,
) -> Vec<Effect> {
    let Some(pinned) = state.pinned().filter(|_| state.is_open()) else {
        return Vec::new();
    };
    let order = pinned.order().iter().chain(pinned.undo_order());
    order
        .filter_map(|id| {
            state
                .step(id)
                .and_then(|step| of_step(state, pinned, id, step, (own, viewer), at))
        })
        .collect()
}

fn of_step(
    state: &RunState,
    pinned: &Pinned,
    id: &str,
    step: &StepState,
    (own, viewer): (&BTreeSet<AttemptId>, Viewer<'_>),
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
        Phase::Running(attempt)
        | Phase::Unknown {
            attempt,
            needs_person: false,
            ..
        } => {
            let attempt_id = step.attempt_id(id)?;
            if own.contains(&attempt_id) {
                let begun = attempt.claim == 0 && matches!(step.phase, Phase::Running(_));
                return of_attempt(pinned, id, step, attempt, begun);
            }
            if attempt.by == viewer.me && !viewer.is_shared {
                return of_attempt(pinned, id, step, attempt, false);
            }
            let due = takeable_ms(attempt, viewer).is_some_and(|due_ms| due_ms <= at.wall_ms);
            due.then_some(Effect::Take { id: attempt_id })
        }
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

impl StepState {
    /// The attempt under way of the step `id`, with the claim that it is under.
    pub fn attempt_id(&self, id: &str) -> Option<AttemptId> {
        self.phase.attempt().map(|attempt| AttemptId {
            step: id.to_owned(),
            iteration: self.iteration,
            attempt: attempt.number,
            claim: attempt.claim,
        })
    }
}

fn of_attempt(
    pinned: &Pinned,
    id: &str,
    step: &StepState,
    attempt: &Attempt,
    begun: bool,
) -> Option<Effect> {
    let (action, inputs) = pinned
        .action(id)
        .zip(step.inputs.as_ref().map(|(inputs, _)| inputs.clone()))?;
    let idempotency_key = attempt.idempotency_key.clone();
    let deadline_ms = attempt.deadline_ms;
    let id = step.attempt_id(id)?;
    Some(if begun {
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

/// From when on an executor may take over an attempt that it does not hold, Unix milliseconds; `None`: not before it hears of something.
fn takeable_ms(attempt: &Attempt, viewer: Viewer<'_>) -> Option<i64> {
    if attempt.by == viewer.me {
        return Some(i64::MIN);
    }
    match viewer.others.get(&attempt.by) {
        Some(Known::Over { position }) if attempt.held_at <= *position => Some(i64::MIN),
        Some(Known::Over { .. } | Known::Lasts) => None,
        None => {
            let last_ms = attempt.deadline_ms.max(attempt.held_since_ms);
            Some(last_ms.saturating_add(TAKEOVER_MS))
        }
    }
}

/// When [`pending`] may say something new to an executor without a new event, Unix milliseconds: the earliest end of a pause between two attempts, or of the time
/// that another executor has for an attempt.
pub fn next_wake_ms(state: &RunState, viewer: Viewer<'_>, at: At) -> Option<i64> {
    let pinned = state.pinned().filter(|_| state.is_open())?;
    let wakes = state.steps().iter().filter_map(|(id, step)| {
        if step.phase == Phase::Ready && step.attempts > 0 {
            let pause_ms = pinned.backoff_ms(id, step.attempts);
            return Some(step.ended_at_ms.saturating_add(pause_ms));
        }
        let attempt = step.phase.attempt()?;
        let over = matches!(viewer.others.get(&attempt.by), Some(Known::Over { .. }));
        let look_again = || over.then(|| at.wall_ms.saturating_add(LOOK_AGAIN_MS));
        takeable_ms(attempt, viewer).or_else(look_again)
    });
    wakes.filter(|wake_ms| *wake_ms > at.wall_ms).min()
}
