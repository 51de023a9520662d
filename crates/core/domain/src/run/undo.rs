//! Taking back what a run did, when it is aborted with `--undo`.
//!
//! An undo is a step of the run that comes to life with the abort: its own attempts, idempotency key, inputs and approvals; it is observed, retried and skipped as any
//! other. It waits until everything that relies on its step is settled and taken back. Aborting without it changes nothing outside: containment stays.

use sealwarden_runbook::{undo_id, undone_step};
use sealwarden_wire::event::v1::event::Kind;

use super::pinned::Pinned;
use super::ready::{After, Ready};
use super::state::{Course, Phase, RunState, StepState};
use crate::fold::Rejection;

/// Whether a phase of an undo leaves nothing to do.
fn is_settled(phase: &Phase) -> bool {
    phase.is_over() || *phase == Phase::Cancelled
}

/// What an undo of `step` waits for: the step's own end, that of the steps behind it, and their undos.
pub(crate) fn waits_for(state: &RunState, pinned: &Pinned, step: &str) -> Vec<String> {
    let runs = |id: &str| {
        let step = state.step(id);
        step.is_some_and(|step| step.phase.attempt().is_some())
    };
    let mut waits = Vec::new();
    if runs(step) {
        waits.push(step.to_owned());
    }
    for behind in pinned.runbook().descendants(step) {
        let undo = undo_id(behind);
        if runs(behind) {
            waits.push(behind.to_owned());
        } else if state
            .step(&undo)
            .is_some_and(|undo| !is_settled(&undo.phase))
        {
            waits.push(undo);
        }
    }
    waits
}

/// The inputs of every undo that waits for nothing more.
pub(crate) fn ready(state: &RunState, pinned: &Pinned) -> Result<Vec<Kind>, Rejection> {
    let mut ready = Ready::default();
    let after = After::of(state, pinned);
    for id in pinned.undo_order() {
        let blocked = state.step(id).is_some_and(|it| it.phase == Phase::Blocked);
        if blocked
            && state.needs_done(pinned, id)
            && let Some(undo) = pinned.runbook().work(id)
        {
            after.next(undo, &mut ready)?;
        }
    }
    Ok(ready.events)
}

/// Whether every undo is done, skipped, or has nothing to take back.
pub(crate) fn is_complete(state: &RunState) -> bool {
    let mut undos = state
        .steps()
        .iter()
        .filter(|(id, _)| undone_step(id).is_some());
    undos.all(|(_, undo)| is_settled(&undo.phase))
}

/// Who cannot decide about a step: whoever asked for the run, and about an undo also whoever ordered it.
pub(crate) fn barred(state: &RunState, pinned: &Pinned, id: &str) -> Vec<String> {
    let mut barred = pinned.started().requesters.clone();
    if let Course::Aborting(word) = state.course()
        && undone_step(id).is_some()
        && !barred.contains(&word.by)
    {
        barred.push(word.by.clone());
    }
    barred
}

impl RunState {
    /// The undos come to life: of each step that is done, and of each that is under way and may be.
    pub(super) fn begin_undoing(&mut self, pinned: &Pinned) {
        self.undoing = true;
        for id in pinned.undo_order() {
            let step = undone_step(id).and_then(|step| self.step(step));
            let may_be_done =
                step.is_some_and(|it| it.phase == Phase::Done || it.phase.attempt().is_some());
            if may_be_done {
                self.steps.insert(id.clone(), StepState::blocked());
            }
        }
    }

    /// A step that turned out not to be done has nothing to be taken back.
    pub(super) fn settle_undo(&mut self, step: &str) {
        let open = |it: &StepState| it.phase == Phase::Done || it.phase.attempt().is_some();
        if self.step(step).is_none_or(open) {
            return;
        }
        if let Some(undo) = self.steps.get_mut(&undo_id(step)) {
            undo.phase = Phase::Cancelled;
        }
    }
}
