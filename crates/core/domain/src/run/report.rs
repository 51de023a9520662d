//! What follows from the end of the work on an attempt.

use std::collections::{BTreeMap, BTreeSet};

use sealwarden_runbook::{ErrorKind, undone_step};

use super::decide::End;
use super::failure::Failure;
use super::pending::AttemptId;
use super::state::{Course, Phase, RunState};
use crate::fold::At;

/// What looking at an attempt's effect showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// It happened.
    Done(BTreeMap<String, String>),
    /// It definitely did not.
    NotDone(String),
    /// It began and is not complete: performing the step again goes on with it and repeats nothing.
    Underway(String),
    /// Looking cannot tell; a person must.
    CannotTell(String),
}

/// How the work on an attempt ended, as its process saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// It was performed and left this.
    Done(BTreeMap<String, String>),
    /// It was performed; its effect definitely did not happen, or not wholly and can be gone on with.
    NotDone(Failure),
    /// It was performed and nobody knows.
    Unknown(String),
    /// It did not answer in its time.
    Overdue,
    /// Its time was over before its process came to perform it. Others may have taken it up since, so it does not begin any more.
    TooLate,
    /// It was looked at.
    Observed(Observation),
}

/// What the process does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Records the end with [`super::Command::EndStep`]. The attempt is its own no more.
    End(End),
    /// Records with [`super::Command::LoseStep`] that nobody knows. The attempt stays its own, to be observed, unless a person is asked.
    Lose {
        /// Why nobody knows.
        reason: String,
        /// Observing could not tell either.
        needs_person: bool,
    },
    /// Performs the attempt as it stands, under its own key.
    Perform {
        /// When it must have ended, Unix milliseconds; `None`: it is awaited as long as it takes.
        deadline_ms: Option<i64>,
    },
}

/// What follows from a report on an attempt. `own` is as for [`super::pending`]; `begin_next` as in [`End`].
pub fn after(
    state: &RunState,
    own: &BTreeSet<AttemptId>,
    id: &AttemptId,
    report: Report,
    begin_next: bool,
    at: At,
) -> Next {
    let end = |result, observed| {
        Next::End(End {
            step: id.step.clone(),
            attempt: id.attempt,
            claim: id.claim,
            result,
            observed,
            begin_next,
        })
    };
    let lose = |reason, needs_person| Next::Lose {
        reason,
        needs_person,
    };
    match report {
        Report::Done(outputs) => {
            let lost = state
                .step(&id.step)
                .is_some_and(|step| matches!(step.phase, Phase::Unknown { .. }));
            end(Ok(outputs), lost || id.claim > 0 || !own.contains(id))
        }
        Report::NotDone(failure) => end(Err(failure), false),
        Report::Unknown(reason) => lose(reason, false),
        Report::Overdue => {
            let reason = format!("attempt {} did not end in its time", id.attempt);
            lose(reason, false)
        }
        Report::TooLate => {
            let reason = "its time was over before its effect could begin";
            end(Err(Failure::new(ErrorKind::Timeout, reason)), false)
        }
        Report::Observed(Observation::Done(outputs)) => end(Ok(outputs), true),
        Report::Observed(Observation::Underway(_)) => Next::Perform { deadline_ms: None },
        Report::Observed(Observation::NotDone(reason)) => {
            let failure = Failure::new(not_done(state, id, at), reason);
            match deadline_of_last(state, id, failure.kind, at) {
                // A crash between an attempt's start and its effect must not fail a run.
                Some(deadline_ms) => Next::Perform {
                    deadline_ms: Some(deadline_ms),
                },
                None => end(Err(failure), true),
            }
        }
        Report::Observed(Observation::CannotTell(reason)) => lose(reason, true),
    }
}

/// What an effect that did not happen came to: within its time something broke off, after it the time was over.
fn not_done(state: &RunState, id: &AttemptId, at: At) -> ErrorKind {
    let attempt = state.step(&id.step).and_then(|step| step.phase.attempt());
    if attempt.is_some_and(|attempt| at.wall_ms < attempt.deadline_ms) {
        ErrorKind::Interrupted
    } else {
        ErrorKind::Timeout
    }
}

/// The deadline of a step's last try, if this is it and its time is not over.
fn deadline_of_last(state: &RunState, id: &AttemptId, error: ErrorKind, at: At) -> Option<i64> {
    let attempt = state.step(&id.step)?.phase.attempt()?;
    let is_last = !state.is_tried_again(&id.step, attempt.number, Some(error));
    // An aborted run begins no effect that is known not to have begun.
    let aborting = matches!(state.course(), Course::Aborting(_)) && undone_step(&id.step).is_none();
    let due = is_last && !aborting && attempt.deadline_ms > at.wall_ms;
    due.then_some(attempt.deadline_ms)
}

impl End {
    /// What is recorded instead where the decider refused what an effect left: an action that breaks its own promise must not be performed for ever. `None` where the
    /// refused end was none of an effect that happened.
    pub fn refused(&self, refusal: &str) -> Option<Self> {
        self.result.is_ok().then(|| Self {
            result: Err(Failure::new(
                ErrorKind::Refused,
                format!("what it left is refused: {refusal}"),
            )),
            ..self.clone()
        })
    }
}
