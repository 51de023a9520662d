//! How a run looks to people.

use sealwarden_runbook::{Action, ErrorKind, undone_step};
use sealwarden_wire::event::v1::{Directive, RunOutcome, SignedStatement};
use sealwarden_wire::run::v1::{Approval, Approver, PrepareResponse, Run, Step};

use super::ballot::{REVIEWERS, ballot};
use super::evidence;
use super::gate::{may_begin, undecided, undone};
use super::pinned::Pinned;
use super::state::{Course, Decided, Judged, Phase, Refused, RunState, StepState, Word};
use super::submit::{missing, missing_of};
use super::undo::barred;
use super::waiting::waiting;
use crate::approval::{Authenticator, Decision, in_words, rfc3339_ms, wire_kind};
use crate::fold::{At, Rejection, RejectionCode};

/// The run as `run show` prints it. Before the run started it is empty.
pub fn view(state: &RunState, at: At) -> Run {
    let Some(pinned) = state.pinned() else {
        return Run::default();
    };
    let started = pinned.started();
    let (word, reason) = standing(state, pinned, at);
    Run {
        run: started.run.clone(),
        incident: started.incident.clone(),
        runbook: started.runbook.clone(),
        runbook_digest: started.runbook_digest.clone(),
        state: word.to_owned(),
        started_at_ms: state.started_at_ms(),
        ended_at_ms: state.ended().map_or(0, |end| end.at_ms),
        steps: pinned
            .order()
            .iter()
            .chain(pinned.undo_order())
            .filter_map(|id| step_view(state, pinned, id, at))
            .collect(),
        reason,
        requesters: started.requesters.clone(),
    }
}

/// The run's state in a word, and why.
fn standing(state: &RunState, pinned: &Pinned, at: At) -> (&'static str, String) {
    if let Some(end) = state.ended() {
        let word = match end.outcome {
            RunOutcome::Completed => "completed",
            RunOutcome::Aborted => "aborted",
            RunOutcome::Failed | RunOutcome::Unspecified => "failed",
        };
        return (word, end.reason.clone());
    }
    let aborting = matches!(state.course(), Course::Aborting(_));
    let steps = || {
        let order = pinned.order().iter().chain(pinned.undo_order());
        order.filter_map(|id| state.step(id).map(|step| (id, step)))
    };
    for (id, step) in steps() {
        match &step.phase {
            Phase::Failed if !aborting || undone_step(id).is_some() => {
                return (
                    "stuck",
                    format!(
                        "step {id} failed after {} attempts{} and needs an operator (`run retry` or `run skip`): {}",
                        step.attempts,
                        not_named(pinned, id, step),
                        step.error
                    ),
                );
            }
            Phase::Unknown {
                attempt,
                reason,
                needs_person: true,
            } => {
                return (
                    "stuck",
                    format!(
                        "nobody knows whether attempt {} of step {id} happened; an operator must find out: {reason}",
                        attempt.number
                    ),
                );
            }
            Phase::Undecided => {
                return (
                    "stuck",
                    format!(
                        "step {id} needs an operator (`run retry` or `run skip`): {}",
                        undecided(step)
                    ),
                );
            }
            Phase::Blocked
            | Phase::Ready
            | Phase::Running(_)
            | Phase::Unknown { .. }
            | Phase::Failed
            | Phase::Skipped
            | Phase::NotNeeded
            | Phase::Cancelled
            | Phase::Done => {}
        }
    }
    if let Some((word, mut reason)) = held_up(state, steps()) {
        for (id, step) in steps().filter(|(id, _)| undone_step(id).is_some()) {
            if step.phase == Phase::Ready {
                let waits = waits_for(state, pinned, id, step, at);
                reason = format!("{reason}; {waits}");
            }
        }
        return (word, reason);
    }
    let moving = |(id, step): (&String, &StepState)| {
        step.phase.attempt().is_some() || may_begin(state, pinned, id, step, at).is_ok()
    };
    if steps().any(moving) {
        return ("running", String::new());
    }
    let waits: Vec<String> = steps()
        .filter(|(_, step)| step.phase == Phase::Ready)
        .map(|(id, step)| waits_for(state, pinned, id, step, at))
        .collect();
    ("waiting", waits.join("; "))
}

/// Why a step failed though attempts are left: its runbook does not try it again after this error.
fn not_named(pinned: &Pinned, id: &str, step: &StepState) -> String {
    let error = step
        .error_kind
        .filter(|error| !pinned.tries_again_after(id, Some(*error)));
    error.map_or_else(String::new, |error| {
        format!(" (`{error}` is not tried again by itself)")
    })
}

/// The words of a run that operators paused or aborted.
fn held_up<'a>(
    state: &RunState,
    steps: impl Iterator<Item = (&'a String, &'a StepState)>,
) -> Option<(&'static str, String)> {
    let under_way: Vec<&str> = steps
        .filter(|(_, step)| step.phase.attempt().is_some())
        .map(|(id, _)| id.as_str())
        .collect();
    let said = |word: &Word, what: &str| {
        let reason = if word.reason.is_empty() {
            String::new()
        } else {
            format!(" ({})", word.reason)
        };
        let rest = if under_way.is_empty() {
            String::new()
        } else {
            format!(
                "; under way, and observed to their end: {}",
                under_way.join(", ")
            )
        };
        format!(
            "{what} by {} at {}{reason}{rest}",
            word.by,
            rfc3339_ms(word.at_ms)
        )
    };
    match state.course() {
        Course::Going => None,
        Course::Paused(word) => {
            let told =
                "; no step starts, approvals are taken in and deadlines run on until `run resume`";
            Some(("paused", format!("{}{told}", said(word, "paused"))))
        }
        Course::Aborting(word) => Some(("aborting", said(word, "aborted"))),
    }
}

fn waits_for(state: &RunState, pinned: &Pinned, id: &str, step: &StepState, at: At) -> String {
    let manual = pinned
        .action(id)
        .is_some_and(|action: Action| action.spec().manual);
    match may_begin(state, pinned, id, step, at) {
        Err(_) if manual && step.denied_by(at.wall_ms).is_none() => {
            let open = evidence::missing(pinned, id, step);
            let evidence = if open.is_empty() {
                String::new()
            } else {
                format!("; to be handed in with `run done`: {}", open.join(", "))
            };
            format!(
                "step {id} waits for confirmations: missing {}{evidence}",
                missing(state, id, at)
            )
        }
        Err(rejection) => rejection.reason,
        Ok(()) => String::new(),
    }
}

fn step_word(
    state: &RunState,
    pinned: &Pinned,
    id: &str,
    step: &StepState,
    at: At,
) -> &'static str {
    match &step.phase {
        Phase::Running(_) => "running",
        Phase::Unknown { .. } => "unknown",
        Phase::Done => "done",
        Phase::Failed => "failed",
        Phase::Skipped | Phase::NotNeeded | Phase::Undecided | Phase::Cancelled => {
            step.phase.word()
        }
        Phase::Ready if step.denied_by(at.wall_ms).is_some() => "denied",
        Phase::Ready
            if pinned
                .action(id)
                .is_some_and(|action: Action| action.spec().manual) =>
        {
            "awaiting-person"
        }
        Phase::Ready if !missing(state, id, at).is_empty() => "awaiting-approval",
        Phase::Ready if may_begin(state, pinned, id, step, at).is_ok() => "running",
        Phase::Blocked | Phase::Ready => "blocked",
    }
}

fn step_view(state: &RunState, pinned: &Pinned, id: &str, at: At) -> Option<Step> {
    let (step, planned) = state.step(id).zip(pinned.runbook().work(id))?;
    let mut approvals: Vec<Approval> = step
        .decided
        .iter()
        .enumerate()
        .map(|(index, decided)| decided_view(state, step, (index, decided), at))
        .collect();
    approvals.extend(
        state
            .refused()
            .iter()
            .filter(|refused| refused.step == id)
            .map(refused_view),
    );
    approvals.extend(
        step.verbs
            .iter()
            .map(|said| shown(state, said, String::new())),
    );
    approvals.sort_by_key(|approval| approval.at_ms);
    let waits = waiting(state, pinned, id, step, at);
    Some(Step {
        step: id.to_owned(),
        title: planned.title.clone(),
        action: planned.action.name().to_owned(),
        state: step_word(state, pinned, id, step, at).to_owned(),
        needs: planned.needs.clone(),
        quorum: pinned
            .quorum(id)
            .map(|quorum| in_words(quorum.roles()))
            .unwrap_or_default(),
        missing: missing_words(state, pinned, id, step, at),
        approvals,
        attempts: step.attempts,
        outputs: step.outputs.clone(),
        progress: step.progress.clone(),
        waits_since_ms: waits.as_ref().map_or(0, |it| it.since_ms),
        due_ms: waits.as_ref().map_or(0, |it| it.due_ms),
        can_sign: waits.map(|it| it.can_sign).unwrap_or_default(),
        started_at_ms: step.started_at_ms,
        ended_at_ms: step.ended_at_ms,
        error: match &step.phase {
            Phase::Unknown { reason, .. } => reason.clone(),
            Phase::Blocked
            | Phase::Ready
            | Phase::Running(_)
            | Phase::Done
            | Phase::Failed
            | Phase::Skipped
            | Phase::NotNeeded
            | Phase::Cancelled => step.error.clone(),
            Phase::Undecided => undecided(step),
        },
        evidence: evidence::view(planned, step),
        error_kind: step.error_kind.map_or("", ErrorKind::as_str).to_owned(),
        retry: if planned.action.spec().manual {
            String::new()
        } else {
            planned.retry.to_string()
        },
        remark: remark(step),
        when: planned
            .when
            .as_ref()
            .map(|when| when.as_str().to_owned())
            .unwrap_or_default(),
        condition: step.condition.as_ref().map(condition).unwrap_or_default(),
        seen: step
            .condition
            .as_ref()
            .map(|judged| judged.seen.clone())
            .unwrap_or_default()
            .into_iter()
            .collect(),
        inputs: step
            .inputs
            .as_ref()
            .map(|(inputs, _)| inputs.to_string())
            .unwrap_or_default(),
    })
}

/// How a condition came out, in words.
fn condition(judged: &Judged) -> String {
    match &judged.holds {
        Ok(true) => "holds".to_owned(),
        Ok(false) => "does not hold".to_owned(),
        Err(error) => format!("could not be evaluated: {error}"),
    }
}

/// Who skipped or overrode a step.
fn remark(step: &StepState) -> String {
    let because = |reason: &str| {
        if reason.is_empty() {
            String::new()
        } else {
            format!(": {reason}")
        }
    };
    let skipped = step
        .skipped
        .as_ref()
        .map(|word| format!("skipped by {}{}", word.by, because(&word.reason)));
    let overridden = step.overridden.as_ref().map(|it| {
        let review = if it.reviewed_by.is_empty() {
            "; NOT YET REVIEWED by others".to_owned()
        } else {
            format!("; reviewed by {}", it.reviewed_by.join(", "))
        };
        let by = it.by.join(", ");
        format!("BREAK-GLASS by {by}{}{review}", because(&it.reason))
    });
    let remarks: Vec<String> = overridden.into_iter().chain(skipped).collect();
    remarks.join("; ")
}

/// What a step waits for: steps, approvals, or what its attempt says.
fn missing_words(state: &RunState, pinned: &Pinned, id: &str, step: &StepState, at: At) -> String {
    match &step.phase {
        Phase::Blocked => undone(state, pinned, id).join(", "),
        Phase::Ready => {
            let approvals = missing(state, id, at);
            if approvals.is_empty() {
                waits_for(state, pinned, id, step, at)
            } else {
                approvals
            }
        }
        Phase::Running(_) | Phase::Unknown { .. } => step.missing.join(", "),
        Phase::Undecided => "an operator's word".to_owned(),
        Phase::Done | Phase::Failed | Phase::Skipped | Phase::NotNeeded | Phase::Cancelled => {
            String::new()
        }
    }
}

fn decided_view(
    state: &RunState,
    step: &StepState,
    (index, decided): (usize, &Decided),
    at: At,
) -> Approval {
    // What counted when the step started counts for ever; before that, it expires.
    let replaced = step
        .decided
        .iter()
        .skip(index + 1)
        .any(|later| later.person == decided.person);
    let at_ms = if step.phase == Phase::Ready || step.started_at_ms == 0 {
        at.wall_ms
    } else {
        step.started_at_ms
    };
    let refused = if replaced {
        format!("replaced by a later decision of {}", decided.person)
    } else if decided.stands(at_ms) {
        String::new()
    } else if decided.revoked_at_ms.is_some() {
        "its key was revoked before the step started".to_owned()
    } else {
        "expired before the step started".to_owned()
    };
    shown(state, decided, refused)
}

/// A FIDO key counts its signatures; where the count does not grow, there may be two keys (`WebAuthn`, section 6.1.1). It is said and not refused: an
/// authenticator may keep one count for many keys, or none, and people who sign at the same instant overtake each other.
fn counter_warning(state: &RunState, decided: &Decided) -> Option<String> {
    let mine = decided.authenticator.filter(|it| it.counter > 0)?.counter;
    let all = state
        .steps()
        .values()
        .flat_map(|step| step.decided.iter().chain(&step.verbs));
    let before = all.filter(|other| {
        other.fingerprint == decided.fingerprint
            && other.at_ms <= decided.at_ms
            && other.statement != decided.statement
    });
    let highest = before
        .filter_map(|other| Some(other.authenticator?.counter))
        .max()?;
    (highest >= mine).then(|| {
        format!(
            "the key's counter is {mine} and was {highest} before: the key may have been copied; ask {}",
            decided.person
        )
    })
}

fn presence(authenticator: Authenticator) -> &'static str {
    match (authenticator.is_touched(), authenticator.is_verified()) {
        (true, true) => "touched and verified",
        (true, false) => "touched",
        (false, _) => "not touched",
    }
}

fn shown(state: &RunState, decided: &Decided, refused: String) -> Approval {
    Approval {
        presence: decided
            .authenticator
            .map_or_else(String::new, |it| presence(it).to_owned()),
        counter: decided.authenticator.map_or(0, |it| it.counter),
        warning: counter_warning(state, decided).unwrap_or_default(),
        person: decided.person.clone(),
        roles: decided
            .roles
            .iter()
            .map(|role| role.as_str().to_owned())
            .collect(),
        decision: decided.decision.as_str().to_owned(),
        at_ms: decided.at_ms,
        key_fingerprint: decided.fingerprint.clone(),
        statement: decided.statement.clone(),
        signature: decided.signature.clone(),
        refused,
        note: decided.note.clone(),
    }
}

fn refused_view(refused: &Refused) -> Approval {
    Approval {
        person: refused.person.clone(),
        at_ms: refused.at_ms,
        statement: refused.statement.clone(),
        signature: refused.signature.clone(),
        refused: format!("{}: {}", refused.code, refused.reason),
        ..Approval::default()
    }
}

/// What an approver of a step needs to see and sign. Refused while the step's inputs are not resolved and when it takes no decisions any more.
pub fn prepare(state: &RunState, id: &str, at: At) -> Result<PrepareResponse, Rejection> {
    prepare_for(state, id, None, at)
}

/// The same for a decision that is no approval: to retry, skip, override or review the step.
pub fn prepare_for(
    state: &RunState,
    id: &str,
    decision: Option<Decision>,
    at: At,
) -> Result<PrepareResponse, Rejection> {
    let pinned = state.started()?;
    let step = state.named(pinned, id)?;
    let not_now = |reason: String| Rejection::new(RejectionCode::NotNow, reason);
    let named = decision.unwrap_or(Decision::Approve);
    let ballot = ballot(state, pinned, id, step, named, at);
    if let Some(why) = &ballot.closed {
        let what = decision.map_or("no decisions any more", |_| "no such decision now");
        return Err(not_now(format!("step {id} takes {what}: {why}")));
    }
    let Some((inputs, digest)) = &step.inputs else {
        let waits = undone(state, pinned, id).join(", ");
        return Err(not_now(format!(
            "the inputs of step {id} are not resolved yet; it waits for {waits}"
        )));
    };
    let planned = pinned
        .runbook()
        .work(id)
        .ok_or_else(|| not_now(format!("there is no step {id}")))?;
    let (spec, started) = (planned.action.spec(), pinned.started());
    Ok(PrepareResponse {
        installation: started.installation.clone(),
        environment: started.environment.clone(),
        run: started.run.clone(),
        incident: started.incident.clone(),
        step: id.to_owned(),
        iteration: step.iteration,
        runbook: started.runbook.clone(),
        runbook_digest: started.runbook_digest.clone(),
        inputs: inputs.to_string(),
        inputs_digest: digest.clone(),
        roster_digest: started.roster_digest.clone(),
        namespace: pinned.environment().namespace().as_str().to_owned(),
        title: planned.title.clone(),
        description: pinned.runbook().description().to_owned(),
        action: spec.name.to_owned(),
        action_does: spec.summary.to_owned(),
        manual: spec.manual,
        quorum: match (&ballot.quorum, named) {
            (Some(quorum), _) => in_words(quorum.roles()),
            (None, Decision::Review) => format!("{REVIEWERS} people who had no part in it"),
            (None, _) if ballot.anyone => "one person of the roster".to_owned(),
            (None, _) => String::new(),
        },
        missing: missing_of(state, id, decision, at),
        validity_ms: pinned.approval_validity_ms(),
        approvers: approvers(pinned),
        requesters: ballot.barred,
        decision: decision
            .map(|it| it.as_str().to_owned())
            .unwrap_or_default(),
    })
}

fn approvers(pinned: &Pinned) -> Vec<Approver> {
    let people = pinned.roster().people().iter();
    people
        .map(|person| Approver {
            person: person.id.clone(),
            name: person.name.clone(),
            roles: person
                .roles
                .iter()
                .map(|role| role.as_str().to_owned())
                .collect(),
            key_fingerprints: person
                .keys
                .iter()
                .map(|key| key.fingerprint.clone())
                .collect(),
        })
        .collect()
}

/// The directive that a step's action sends, with the approvals that stand now. Its epoch is 0: whoever appends it to the log's stream fills that in. `None`
/// if the step sends none, is not resolved, or its inputs name no log.
pub fn directive_draft(state: &RunState, id: &str, at: At) -> Option<Directive> {
    let pinned = state.pinned()?;
    let (step, started) = (state.step(id)?, pinned.started());
    let (inputs, _) = step.inputs.as_ref()?;
    let kind = pinned.action(id)?.spec().directive(inputs.get("mode"))?;
    let approvals = step
        .standing(at.wall_ms)
        .filter(|decided| decided.decision == Decision::Approve)
        .chain(step.said(Decision::Override, at.wall_ms))
        .map(|decided| SignedStatement {
            statement: decided.statement.clone(),
            signature: decided.signature.clone(),
        })
        .collect();
    Some(Directive {
        epoch: 0,
        kind: wire_kind(kind).into(),
        log: inputs.get("log")?.to_owned(),
        incident: started.incident.clone(),
        run: started.run.clone(),
        step: id.to_owned(),
        iteration: step.iteration,
        runbook: started.runbook.clone(),
        runbook_digest: started.runbook_digest.clone(),
        inputs: inputs.to_string(),
        approvals,
        issued_at_ms: at.wall_ms,
        requesters: barred(state, pinned, id),
    })
}
