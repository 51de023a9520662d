//! Folding what operators said to a run.

use sealwarden_runbook::undone_step;
use sealwarden_wire::event::v1::{
    OverrideReviewed, RunAborted, RunPaused, StepOverridden, StepRetried, StepSkipped,
};

use crate::approval::Decision;
use crate::run::state::{Course, Decided, Overridden, Phase, RunState, StepState, Word};

/// Whether a step can be decided about so where it stands.
pub(super) fn takes(step: &StepState, decision: Decision) -> bool {
    let asked = matches!(
        step.phase,
        Phase::Unknown {
            needs_person: true,
            ..
        }
    );
    match decision {
        Decision::Approve | Decision::Deny | Decision::Confirm | Decision::Override => {
            step.phase == Phase::Ready
        }
        Decision::Retry => asked || step.phase == Phase::Undecided,
        Decision::Skip => {
            asked || matches!(step.phase, Phase::Ready | Phase::Failed | Phase::Undecided)
        }
        Decision::Review => step
            .overridden
            .as_ref()
            .is_some_and(|overridden| overridden.reviewed_by.is_empty()),
    }
}

/// Whether each of them signed it, and there is one at least.
fn signed(step: &StepState, decision: Decision, by: &[String]) -> bool {
    let did = |person: &String| {
        let is_it = |said: &Decided| said.person == *person && said.decision == decision;
        step.verbs.iter().any(is_it)
    };
    !by.is_empty() && by.iter().all(did)
}

impl RunState {
    pub(super) fn run_paused(&mut self, event: &RunPaused, at_ms: i64) -> Result<(), String> {
        self.open()?;
        if self.course != Course::Going {
            return Err("the run is paused and does not go on".to_owned());
        }
        self.course = Course::Paused(word(&event.by, &event.reason, at_ms));
        Ok(())
    }

    pub(super) fn run_resumed(&mut self) -> Result<(), String> {
        self.open()?;
        match self.course {
            Course::Paused(_) => self.course = Course::Going,
            Course::Going | Course::Aborting(_) => {
                return Err("the run is resumed and was not paused".to_owned());
            }
        }
        Ok(())
    }

    pub(super) fn run_aborted(&mut self, event: &RunAborted, at_ms: i64) -> Result<(), String> {
        let pinned = self.open()?;
        if matches!(self.course, Course::Aborting(_)) {
            return Err("the run is aborted a second time".to_owned());
        }
        self.course = Course::Aborting(word(&event.by, &event.reason, at_ms));
        for step in self.steps.values_mut() {
            if matches!(step.phase, Phase::Blocked | Phase::Ready | Phase::Undecided) {
                step.phase = Phase::Cancelled;
            }
        }
        if event.undo {
            self.begin_undoing(&pinned);
        }
        Ok(())
    }

    pub(super) fn step_retried(&mut self, event: &StepRetried) -> Result<(), String> {
        self.open()?;
        // What was aborted is not tried again; taking it back is.
        let aborting =
            matches!(self.course, Course::Aborting(_)) && undone_step(&event.step).is_none();
        let step = self.step_mut(&event.step, event.iteration)?;
        let signed = takes(step, Decision::Retry)
            && signed(step, Decision::Retry, std::slice::from_ref(&event.by));
        let failed = step.phase == Phase::Failed && !aborting;
        if step.attempts != event.attempt || !(failed || signed) {
            return Err(format!(
                "attempt {} of step {} is retried and did not fail",
                event.attempt, event.step
            ));
        }
        step.phase = if aborting {
            Phase::Cancelled
        } else {
            Phase::Ready
        };
        step.granted = step.granted.max(event.attempt.saturating_add(1));
        step.ended_at_ms = 0; // no pause before the next attempt: a person asked for it now
        step.missing.clear();
        self.settle_undo(&event.step);
        Ok(())
    }

    pub(super) fn step_skipped(&mut self, event: &StepSkipped, at_ms: i64) -> Result<(), String> {
        self.open()?;
        let step = self.step_mut(&event.step, event.iteration)?;
        if !takes(step, Decision::Skip) || !signed(step, Decision::Skip, &event.by) {
            return Err(format!("step {} is skipped by nobody's word", event.step));
        }
        step.phase = Phase::Skipped;
        step.ended_at_ms = at_ms;
        step.skipped = Some(word(&event.by.join(", "), &event.reason, at_ms));
        step.missing.clear();
        self.settle_undo(&event.step);
        Ok(())
    }

    pub(super) fn step_overridden(
        &mut self,
        event: &StepOverridden,
        at_ms: i64,
    ) -> Result<(), String> {
        self.open()?;
        let step = self.step_mut(&event.step, event.iteration)?;
        if !takes(step, Decision::Override) || !signed(step, Decision::Override, &event.by) {
            return Err(format!(
                "step {} is overridden by nobody's word",
                event.step
            ));
        }
        step.overridden = Some(Overridden {
            by: event.by.clone(),
            reason: event.reason.clone(),
            at_ms,
            reviewed_by: Vec::new(),
        });
        Ok(())
    }

    pub(super) fn override_reviewed(&mut self, event: &OverrideReviewed) -> Result<(), String> {
        let step = self.step_mut(&event.step, event.iteration)?;
        let signed = signed(step, Decision::Review, &event.by);
        match &mut step.overridden {
            Some(overridden) if overridden.reviewed_by.is_empty() && signed => {
                overridden.reviewed_by.clone_from(&event.by);
                Ok(())
            }
            Some(_) | None => Err(format!(
                "an override of step {} is reviewed that nobody could review",
                event.step
            )),
        }
    }
}

fn word(by: &str, reason: &str, at_ms: i64) -> Word {
    Word {
        by: by.to_owned(),
        reason: reason.to_owned(),
        at_ms,
    }
}
