//! What stands before a step's start. Read from the runbook it was proven once; here it is checked again at the moment itself.

use sealwarden_runbook::{Action, Approver, Assessment, Quorum, undone_step};

use super::pinned::Pinned;
use super::state::{Course, Decided, Phase, RunState, StepState};
use super::undo;
use super::verbs::{is_overridden, unreviewed};
use crate::approval::{in_words, rfc3339_ms};
use crate::fold::{At, Rejection, RejectionCode};

/// Whether a step may begin now, and if not, why. Everything but the signatures, which [`super::confirm::reverify`] checks again at the start itself.
pub(crate) fn may_begin(
    state: &RunState,
    pinned: &Pinned,
    id: &str,
    step: &StepState,
    at: At,
) -> Result<(), Rejection> {
    let not_now = |reason: String| Err(Rejection::new(RejectionCode::NotNow, reason));
    let refused = |reason: String| Err(Rejection::new(RejectionCode::Refused, reason));
    if let Some(closed) = closed(state, step) {
        return not_now(format!("step {id} does not begin: {closed}"));
    }
    if let Course::Paused(word) = state.course() {
        return not_now(format!(
            "step {id} does not begin: {} paused the run at {}; `sealwarden run resume` lets it go on",
            word.by,
            rfc3339_ms(word.at_ms)
        ));
    }
    if step.phase == Phase::Blocked || !state.needs_done(pinned, id) {
        return not_now(format!(
            "step {id} waits for {}",
            undone(state, pinned, id).join(", ")
        ));
    }
    let spec = pinned.action(id).map(Action::spec);
    if spec.is_none_or(|spec| spec.manual) {
        not_denied(id, step, at)?; // whoever stands against it is whom it waits for
        return refused(format!(
            "people perform step {id}; it ends by their confirmations"
        ));
    }
    let ready_ms = step
        .ended_at_ms
        .saturating_add(pinned.backoff_ms(id, step.attempts));
    if step.attempts > 0 && at.wall_ms < ready_ms {
        return not_now(format!(
            "step {id} is tried again at {}",
            rfc3339_ms(ready_ms)
        ));
    }
    quorum_met(state, pinned, id, step, at)?;
    let unreviewed = unreviewed(state);
    if pinned.action(id) == Some(Action::CloseIncident) && !unreviewed.is_empty() {
        let steps: Vec<&str> = unreviewed.into_iter().collect();
        return refused(format!(
            "step {id} waits until others have reviewed the override of {}; `sealwarden run review` does",
            steps.join(", ")
        ));
    }
    if spec.is_some_and(|spec| spec.needs_snapshot) && !has_snapshot(state, pinned) {
        return refused(format!(
            "step {id} needs a completed evidence snapshot in this run, and there is none"
        ));
    }
    Ok(())
}

/// Whether a step that becomes ready by the end of `ended` may begin in the same commit. Nobody can have approved it before its inputs were known, so only a step that
/// no person approves or performs.
pub(crate) fn waits_for_nobody(state: &RunState, pinned: &Pinned, id: &str, ended: &str) -> bool {
    let Some(spec) = pinned.action(id).map(Action::spec) else {
        return false;
    };
    let snapshot =
        || has_snapshot(state, pinned) || pinned.action(ended) == Some(Action::SnapshotEvidence);
    if *state.course() != Course::Going || pinned.action(id) == Some(Action::CloseIncident) {
        return false; // what holds these up is judged when they begin by themselves
    }
    !spec.manual && pinned.quorum(id).is_none() && (!spec.needs_snapshot || snapshot())
}

/// Whether a step's quorum stands at this moment, or an override of it; also where it needs none.
pub fn quorum_stands(state: &RunState, id: &str, at: At) -> bool {
    let known = state.pinned().zip(state.step(id));
    known.is_none_or(|(pinned, step)| quorum_met(state, pinned, id, step, at).is_ok())
}

/// Whether nobody stands against the step.
fn not_denied(id: &str, step: &StepState, at: At) -> Result<(), Rejection> {
    let Some(denied) = step.denied_by(at.wall_ms) else {
        return Ok(());
    };
    let person = &denied.person;
    let reason = format!(
        "{person} denied step {id}; it waits until {person} approves it with a new statement"
    );
    Err(Rejection::new(RejectionCode::Refused, reason))
}

/// Whether nobody denies and enough people stand for the step at this moment.
pub(crate) fn quorum_met(
    state: &RunState,
    pinned: &Pinned,
    id: &str,
    step: &StepState,
    at: At,
) -> Result<(), Rejection> {
    let refused = |reason: String| Err(Rejection::new(RejectionCode::Refused, reason));
    if is_overridden(pinned, id, step, at) {
        return Ok(());
    }
    not_denied(id, step, at)?;
    let Some(quorum) = pinned.quorum(id) else {
        return Ok(());
    };
    match step.assess(quorum, at.wall_ms) {
        Assessment::Met(_) => Ok(()),
        Assessment::Missing(missing) => {
            let mut reason = format!(
                "step {id} waits for approvals: missing {}",
                in_words(&missing)
            );
            let gone = |decided: &&Decided| !decided.stands(at.wall_ms);
            let (revoked, expired): (Vec<_>, Vec<_>) = step
                .decided
                .iter()
                .filter(gone)
                .partition(|decided| decided.revoked_at_ms.is_some());
            if !revoked.is_empty() {
                reason = format!("{reason} ({} by keys that were revoked)", revoked.len());
            }
            let expired = expired.len();
            if expired > 0 {
                reason = format!("{reason} ({expired} expired before it started)");
            }
            if nobody_else_could(state, pinned, quorum) {
                reason = format!(
                    "{reason}; nobody but those who asked for the run could meet the quorum, so the way out is `sealwarden run override`"
                );
            }
            refused(reason)
        }
    }
}

/// Whether the people of the roster, without those who asked for the run, cannot meet a quorum.
fn nobody_else_could(state: &RunState, pinned: &Pinned, quorum: &Quorum) -> bool {
    let others = pinned.roster().people().iter().filter(|person| {
        let mut keys = person.keys.iter();
        keys.any(|key| !state.revoked().contains(&key.fingerprint))
            && !pinned.started().requesters.contains(&person.id)
    });
    let others: Vec<Approver> = others.map(Approver::from).collect();
    !quorum.assess(&others).is_met()
}

/// Why a step takes neither starts nor decisions any more; `None` while it does.
pub(crate) fn closed(state: &RunState, step: &StepState) -> Option<String> {
    if let Some(end) = state.ended() {
        return Some(format!("the run ended at {}", rfc3339_ms(end.at_ms)));
    }
    match &step.phase {
        Phase::Blocked | Phase::Ready => None,
        Phase::Running(attempt) => Some(format!("its attempt {} runs", attempt.number)),
        Phase::Unknown { attempt, .. } => Some(format!(
            "nobody knows yet how its attempt {} ended",
            attempt.number
        )),
        Phase::Done => Some(format!("it is done since {}", rfc3339_ms(step.ended_at_ms))),
        Phase::Failed => Some(format!("it failed after {} attempts", step.attempts)),
        Phase::Skipped => Some(format!(
            "it was skipped at {}",
            rfc3339_ms(step.ended_at_ms)
        )),
        Phase::NotNeeded => Some("it was not needed: its condition did not hold".to_owned()),
        Phase::Undecided => Some(format!(
            "{}; `sealwarden run retry` lets it go on as if it held, `sealwarden run skip` goes on without it, both signed",
            undecided(step)
        )),
        Phase::Cancelled => Some("the run is being aborted".to_owned()),
    }
}

/// Why nobody can tell whether a step is needed.
pub(crate) fn undecided(step: &StepState) -> String {
    let judged = step.condition.as_ref();
    let error = judged.and_then(|judged| judged.holds.as_ref().err());
    let error = error.map(String::as_str).unwrap_or_default();
    format!("its condition could not be evaluated: {error}")
}

/// The steps that a step waits for.
pub(crate) fn undone(state: &RunState, pinned: &Pinned, id: &str) -> Vec<String> {
    if let Some(step) = undone_step(id) {
        return undo::waits_for(state, pinned, step);
    }
    let done = |need: &&String| state.step(need).is_some_and(|step| step.phase.is_over());
    pinned
        .needs(id)
        .iter()
        .filter(|need| !done(need))
        .cloned()
        .collect()
}

fn has_snapshot(state: &RunState, pinned: &Pinned) -> bool {
    state.steps().iter().any(|(id, step)| {
        // A skipped one was given up by the quorum of the very steps that rely on it.
        matches!(step.phase, Phase::Done | Phase::Skipped)
            && pinned.action(id) == Some(Action::SnapshotEvidence)
    })
}
