//! What operators say to a whole run: pause, resume, abort; and to a step that failed: retry.
//!
//! Each is one commit in the run's own stream, so a step either starts before a pause or not at all: there is no moment between.

use sealwarden_runbook::undone_step;
use sealwarden_wire::event::v1::event::Kind;
use sealwarden_wire::event::v1::{
    RunAborted, RunEnded, RunOutcome, RunPaused, RunResumed, StepRetried,
};

use super::gate::undecided;
use super::state::{Course, Phase, RunState, Word};
use super::submit::MAX_NOTE_CHARS;
use super::undo;
use crate::approval::{is_line_breaking, rfc3339_ms};
use crate::fold::{At, Rejection, RejectionCode};

/// Who says it, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Who.
    pub by: String,
    /// Why, one line of at most [`MAX_NOTE_CHARS`] characters.
    pub reason: String,
}

pub(super) fn pause(state: &RunState, said: Said) -> Result<Vec<Kind>, Rejection> {
    let Said { by, reason } = checked(state, said)?;
    match state.course() {
        Course::Going => Ok(vec![Kind::RunPaused(RunPaused { by, reason })]),
        Course::Paused(_) => Ok(Vec::new()),
        Course::Aborting(word) => Err(aborting("paused", word)),
    }
}

pub(super) fn resume(state: &RunState, said: Said) -> Result<Vec<Kind>, Rejection> {
    let Said { by, reason } = checked(state, said)?;
    match state.course() {
        Course::Going => Ok(Vec::new()),
        Course::Paused(_) => Ok(vec![Kind::RunResumed(RunResumed { by, reason })]),
        Course::Aborting(word) => Err(aborting("resumed", word)),
    }
}

pub(super) fn abort(
    state: &RunState,
    said: Said,
    undo: bool,
    at: At,
) -> Result<Vec<Kind>, Rejection> {
    let Said { by, reason } = checked(state, said)?;
    if reason.is_empty() {
        return Err(Rejection::new(
            RejectionCode::Invalid,
            "an abort cannot be taken back: say why with --why TEXT",
        ));
    }
    let pinned = state.started()?;
    if undo && pinned.undo_order().is_empty() {
        let reason = format!(
            "no step of runbook {} says how to undo it; abort without --undo, and take back by hand what must be",
            pinned.started().runbook
        );
        return Err(Rejection::new(RejectionCode::Invalid, reason));
    }
    match state.course() {
        Course::Going | Course::Paused(_) => {
            let aborted = RunAborted { by, reason, undo };
            with_end(state, vec![Kind::RunAborted(aborted)], at)
        }
        Course::Aborting(word) if undo && !state.is_undoing() => {
            Err(aborting("aborted with --undo", word))
        }
        Course::Aborting(_) => Ok(Vec::new()),
    }
}

/// A failed step is tried again. One of which nobody knows whether it happened wants a person's signed word instead.
pub(super) fn retry(state: &RunState, id: &str, said: Said) -> Result<Vec<Kind>, Rejection> {
    let Said { by, reason } = checked(state, said)?;
    let pinned = state.started()?;
    let step = state.named(pinned, id)?;
    let not_now = |reason: String| Err(Rejection::new(RejectionCode::NotNow, reason));
    if let Course::Aborting(word) = state.course()
        && undone_step(id).is_none()
    {
        return Err(aborting(&format!("retried (step {id})"), word));
    }
    match &step.phase {
        Phase::Failed => Ok(vec![Kind::StepRetried(StepRetried {
            step: id.to_owned(),
            iteration: step.iteration,
            attempt: step.attempts,
            by,
            reason,
        })]),
        Phase::Ready if step.attempts > 0 => Ok(Vec::new()),
        Phase::Blocked | Phase::Ready => not_now(format!(
            "step {id} has not been tried yet; it starts by itself"
        )),
        Phase::Running(attempt) => not_now(format!(
            "attempt {} of step {id} runs; wait for its end",
            attempt.number
        )),
        Phase::Unknown {
            needs_person: false,
            ..
        } => not_now(format!(
            "nobody knows yet whether step {id} happened; it is being observed, and tried again by itself if it did not"
        )),
        Phase::Unknown {
            needs_person: true, ..
        } => Err(Rejection::new(
            RejectionCode::Refused,
            format!(
                "observing cannot tell whether step {id} happened: find out, and sign that it did not (`sealwarden run retry` does, with your key)"
            ),
        )),
        Phase::Undecided => Err(Rejection::new(
            RejectionCode::Refused,
            format!(
                "step {id}: {}; sign that it goes on as if it held (`sealwarden run retry` does, with your key), or skip it",
                undecided(step)
            ),
        )),
        Phase::Done | Phase::Skipped | Phase::NotNeeded | Phase::Cancelled => not_now(format!(
            "step {id} did not fail; it is {}",
            step.phase.word()
        )),
    }
}

fn checked(state: &RunState, said: Said) -> Result<Said, Rejection> {
    state.started()?;
    if let Some(end) = state.ended() {
        let reason = format!("the run ended at {}", rfc3339_ms(end.at_ms));
        return Err(Rejection::new(RejectionCode::NotNow, reason));
    }
    if said.reason.chars().count() > MAX_NOTE_CHARS || said.reason.chars().any(is_line_breaking) {
        let reason = format!("the reason must be one line of at most {MAX_NOTE_CHARS} characters");
        return Err(Rejection::new(RejectionCode::Invalid, reason));
    }
    Ok(said)
}

fn aborting(what: &str, word: &Word) -> Rejection {
    let reason = format!(
        "the run cannot be {what}: {} aborted it at {} ({}), and that is not taken back",
        word.by,
        rfc3339_ms(word.at_ms),
        word.reason
    );
    Rejection::new(RejectionCode::NotNow, reason)
}

/// These events, and the run's end if they leave nothing to do.
pub(crate) fn with_end(
    state: &RunState,
    mut events: Vec<Kind>,
    at: At,
) -> Result<Vec<Kind>, Rejection> {
    let mut after = state.clone();
    for kind in &events {
        after
            .take(kind, at.wall_ms)
            .map_err(|reason| Rejection::new(RejectionCode::Invalid, reason))?;
    }
    if after.is_undoing()
        && let Some(pinned) = after.pinned.clone()
    {
        for kind in undo::ready(&after, &pinned)? {
            after
                .take(&kind, at.wall_ms)
                .map_err(|reason| Rejection::new(RejectionCode::Invalid, reason))?;
            events.push(kind);
        }
    }
    if let Some(end) = natural_end(&after) {
        events.push(Kind::RunEnded(end));
    }
    Ok(events)
}

/// What became of what an aborted run did.
fn taken_back(state: &RunState) -> String {
    let undone: Vec<&str> = state
        .steps()
        .iter()
        .filter(|(_, step)| step.phase == Phase::Done)
        .filter_map(|(id, _)| undone_step(id))
        .collect();
    if undone.is_empty() {
        return "what they did stays".to_owned();
    }
    format!(
        "of what they did this was taken back: {}; the rest stays",
        undone.join(", ")
    )
}

/// The end of a run in which nothing is left to do.
pub(crate) fn natural_end(state: &RunState) -> Option<RunEnded> {
    if !state.is_open() {
        return None;
    }
    let steps = || {
        state
            .steps()
            .iter()
            .filter(|(id, _)| undone_step(id).is_none())
    };
    let count = |wanted: fn(&Phase) -> bool| {
        let phases = steps().map(|(_, step)| &step.phase);
        phases.filter(|phase| wanted(phase)).count()
    };
    let all = steps().count();
    let done = count(|phase| *phase == Phase::Done);
    let skipped = count(|phase| *phase == Phase::Skipped);
    let not_needed = count(|phase| *phase == Phase::NotNeeded);
    let outcome = |outcome: RunOutcome, reason: String| {
        Some(RunEnded {
            outcome: outcome.into(),
            reason,
        })
    };
    match state.course() {
        Course::Going | Course::Paused(_) if done == all => {
            outcome(RunOutcome::Completed, format!("all {all} steps are done"))
        }
        Course::Going | Course::Paused(_) if done + skipped + not_needed == all => {
            let mut reason = format!("{done} steps are done");
            if skipped > 0 {
                reason = format!("{reason}, {skipped} skipped");
            }
            if not_needed > 0 {
                reason = format!("{reason}, {not_needed} not needed");
            }
            outcome(RunOutcome::Completed, reason)
        }
        Course::Going | Course::Paused(_) => None,
        Course::Aborting(word) => {
            let settled = count(|phase| phase.attempt().is_none());
            let ends = settled == all && undo::is_complete(state);
            ends.then(|| RunEnded {
                outcome: RunOutcome::Aborted.into(),
                reason: format!(
                    "aborted by {}: {}; {done} of {all} steps are done, and {}",
                    word.by,
                    word.reason,
                    taken_back(state)
                ),
            })
        }
    }
}
