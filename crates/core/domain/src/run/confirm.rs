//! People's part at a step's start and end: signatures are verified once more before an effect begins, and manual steps end by confirmations.

use std::collections::BTreeMap;

use sealwarden_runbook::{Action, Approver, Assessment, Quorum};
use sealwarden_wire::event::v1::event::Kind;

use super::ballot::directive_of;
use super::decide::{End, end_events, started_event};
use super::pinned::Pinned;
use super::state::{Decided, RunState, StepState};
use super::verbs::is_overridden;
use crate::approval::{Decision, authenticate, break_glass, counted_roles, in_words};
use crate::fold::{At, Rejection, RejectionCode};

/// Verifies the signatures behind the approvals that count, because the log could have been written by somebody else.
pub(crate) fn reverify(
    pinned: &Pinned,
    id: &str,
    step: &StepState,
    at: At,
) -> Result<(), Rejection> {
    let overridden = is_overridden(pinned, id, step, at);
    let (decision, quorum) = if overridden {
        (
            Decision::Override,
            break_glass::quorum(directive_of(pinned, id)),
        )
    } else {
        (Decision::Approve, pinned.quorum(id).cloned())
    };
    let Some(quorum) = quorum else {
        return Ok(());
    };
    let counted: Vec<&Decided> = if overridden {
        step.said(decision, at.wall_ms).collect()
    } else {
        step.standing(at.wall_ms)
            .filter(|decided| decided.decision == decision)
            .collect()
    };
    let mut genuine = Vec::new();
    let mut problems = Vec::new();
    for decided in counted {
        match genuine_approver(pinned, id, step, decided, &quorum) {
            Ok(approver) => genuine.push(approver),
            Err(problem) => problems.push(problem),
        }
    }
    match quorum.assess(&genuine) {
        Assessment::Met(_) => Ok(()),
        Assessment::Missing(missing) => {
            let reason = format!(
                "step {id} does not begin: recorded approvals do not hold ({}), so {} are missing",
                problems.join("; "),
                in_words(&missing),
            );
            Err(Rejection::new(RejectionCode::Refused, reason))
        }
    }
}

fn genuine_approver(
    pinned: &Pinned,
    id: &str,
    step: &StepState,
    decided: &Decided,
    quorum: &Quorum,
) -> Result<Approver, String> {
    let authentic = authenticate(&decided.statement, &decided.signature, pinned.roster())
        .map_err(|refusal| refusal.to_string())?;
    let (statement, started) = (&authentic.statement, pinned.started());
    let bound = statement.run == started.run
        && statement.incident == started.incident
        && statement.installation == started.installation
        && statement.environment == pinned.environment()
        && statement.step == id
        && statement.iteration == step.iteration
        && statement.runbook_digest == started.runbook_digest
        && statement.roster_digest == started.roster_digest
        && step
            .inputs
            .as_ref()
            .is_some_and(|(_, digest)| *digest == statement.inputs_digest)
        && statement.decision == decided.decision
        && authentic.is_in_its_namespace();
    if !bound {
        return Err(format!(
            "the statement of {} is not for this step as it is",
            authentic.person.id
        ));
    }
    let alone =
        decided.decision == Decision::Override && break_glass::tightens(directive_of(pinned, id));
    if !alone && started.requesters.contains(&authentic.person.id) {
        return Err(format!("{} is a requester", authentic.person.id));
    }
    let directive = directive_of(pinned, id);
    let touch = decided.decision == Decision::Override && break_glass::needs_touch(directive);
    if touch && !authentic.is_touched() {
        return Err(format!(
            "the key of {} proves no touch",
            authentic.person.id
        ));
    }
    let roles = counted_roles(authentic.person, Some(quorum));
    Ok(Approver {
        person: authentic.person.id.clone(),
        roles,
    })
}

/// What follows when a new confirmation meets the quorum of a manual step: it starts and ends in the same commit.
pub(crate) fn after(
    state: &RunState,
    id: &str,
    new: &Decided,
    at: At,
) -> Result<Vec<Kind>, Rejection> {
    let pinned = state.started()?;
    let step = state.named(pinned, id)?;
    let manual = pinned
        .action(id)
        .is_some_and(|action: Action| action.spec().manual);
    let Some(quorum) = pinned.quorum(id).filter(|_| manual) else {
        return Ok(Vec::new());
    };
    let mut with_new = step.clone();
    with_new.decided.push(new.clone());
    let met =
        with_new.denied_by(at.wall_ms).is_none() && with_new.assess(quorum, at.wall_ms).is_met();
    if !met {
        return Ok(Vec::new());
    }
    let confirmed: Vec<&Decided> = with_new
        .standing(at.wall_ms)
        .filter(|decided| decided.decision == Decision::Confirm)
        .collect();
    let by: Vec<&str> = confirmed
        .iter()
        .map(|decided| decided.person.as_str())
        .collect();
    let notes: Vec<&str> = confirmed
        .iter()
        .map(|decided| decided.note.as_str())
        .filter(|note| !note.is_empty())
        .collect();
    let mut outputs = BTreeMap::from([
        ("by".to_owned(), by.join(", ")),
        ("note".to_owned(), notes.join("; ")),
    ]);
    let evidence = step.evidence.iter();
    outputs.extend(evidence.map(|(name, given)| (name.clone(), given.value.clone())));
    let end = End {
        step: id.to_owned(),
        attempt: step.attempts.saturating_add(1),
        claim: 0,
        result: Ok(outputs),
        observed: false,
        // Whoever takes in confirmations performs no steps.
        begin_next: false,
    };
    let start = started_event(pinned, id, step, at);
    // The end is decided on the state in which the step runs: it may be the run's last, and then the run's end is decided with it.
    let mut running = state.clone();
    running
        .take(&start, at.wall_ms)
        .map_err(|reason| Rejection::new(RejectionCode::Invalid, reason))?;
    let mut events = vec![start];
    events.extend(end_events(&running, pinned, step.iteration, end, at)?);
    Ok(events)
}
