//! What follows from a signed decision that is no approval: when enough people said it, the run acts on it in the same commit.

use std::collections::BTreeSet;

use sealwarden_runbook::{Approver, Quorum};
use sealwarden_wire::event::v1::event::Kind;
use sealwarden_wire::event::v1::{OverrideReviewed, StepOverridden, StepRetried, StepSkipped};

use super::ballot::{REVIEWERS, directive_of, skip_quorum};
use super::operate::with_end;
use super::pinned::Pinned;
use super::ready::{Over, ready};
use super::state::{Course, Decided, RunState, StepState};
use crate::approval::{Decision, break_glass};
use crate::fold::{At, Rejection};

pub(super) fn after(
    state: &RunState,
    id: &str,
    recorded: Kind,
    new: &Decided,
    at: At,
) -> Result<Vec<Kind>, Rejection> {
    let pinned = state.started()?;
    let mut step = state.named(pinned, id)?.clone();
    step.verbs.push(new.clone());
    let by = || {
        let said = step.said(new.decision, at.wall_ms);
        said.map(|said| said.person.clone()).collect::<Vec<_>>()
    };
    let (name, iteration, reason) = (id.to_owned(), step.iteration, new.note.clone());
    let follows = match new.decision {
        Decision::Retry => Kind::StepRetried(StepRetried {
            step: name,
            iteration,
            attempt: step.attempts,
            by: new.person.clone(),
            reason,
        }),
        Decision::Skip if enough(&step, skip_quorum(state, pinned, id).as_ref(), new, at) => {
            let skipped = StepSkipped {
                step: name,
                iteration,
                by: by(),
                reason,
            };
            return skip(
                state,
                pinned,
                id,
                vec![recorded, Kind::StepSkipped(skipped)],
                at,
            );
        }
        Decision::Override if is_overridden(pinned, id, &step, at) => {
            Kind::StepOverridden(StepOverridden {
                step: name,
                iteration,
                by: by(),
                reason,
            })
        }
        Decision::Review if by().len() >= REVIEWERS => Kind::OverrideReviewed(OverrideReviewed {
            step: name,
            iteration,
            by: by(),
        }),
        Decision::Skip
        | Decision::Override
        | Decision::Review
        | Decision::Approve
        | Decision::Deny
        | Decision::Confirm => return Ok(vec![recorded]),
    };
    with_end(state, vec![recorded, follows], at)
}

/// The skip, the inputs of what waited for the step only, and the run's end if nothing is left.
fn skip(
    state: &RunState,
    pinned: &Pinned,
    id: &str,
    mut events: Vec<Kind>,
    at: At,
) -> Result<Vec<Kind>, Rejection> {
    match state.course() {
        Course::Going | Course::Paused(_) => {
            let over = Over {
                step: id,
                outputs: None,
            };
            events.extend(ready(state, pinned, Some(over))?.events);
        }
        Course::Aborting(_) => {}
    }
    with_end(state, events, at)
}

/// Whether those who said it suffice: the quorum, or where there is none, one person.
fn enough(step: &StepState, quorum: Option<&Quorum>, new: &Decided, at: At) -> bool {
    quorum.is_none_or(|quorum| {
        let people = approvers(step, new.decision, at);
        quorum.assess(&people).is_met()
    })
}

/// Whether enough break-glass keys order the step at this moment.
pub(crate) fn is_overridden(pinned: &Pinned, id: &str, step: &StepState, at: At) -> bool {
    let people = approvers(step, Decision::Override, at);
    break_glass::quorum(directive_of(pinned, id))
        .is_some_and(|quorum| quorum.assess(&people).is_met())
}

fn approvers(step: &StepState, decision: Decision, at: At) -> Vec<Approver> {
    step.said(decision, at.wall_ms)
        .map(|said| Approver {
            person: said.person.clone(),
            roles: said.roles.clone(),
        })
        .collect()
}

/// The overridden steps that nobody has reviewed yet.
pub(crate) fn unreviewed(state: &RunState) -> BTreeSet<&str> {
    let steps = state.steps().iter().filter(|(_, step)| {
        let overridden = step.overridden.as_ref();
        overridden.is_some_and(|it| it.reviewed_by.is_empty())
    });
    steps.map(|(id, _)| id.as_str()).collect()
}
