//! Signed statements as they come in.

use sealwarden_runbook::{Approver, Assessment, Role};
use sealwarden_wire::event::v1::event::Kind;
use sealwarden_wire::event::v1::{
    self as wire, ApprovalRecorded, ApprovalRefused, ApproverKeyRevoked,
};
use sealwarden_wire::run::v1::ApproveResponse;

use super::ballot::{REVIEWERS, ballot};
use super::confirm;
use super::gate::closed;
use super::pinned::Pinned;
use super::state::{Decided, MAX_REFUSALS, RunState, StepState, cut};
use super::verbs;
use crate::approval::{
    Accepted, Decision, Expectation, MAX_SIGNATURE_BYTES, MAX_STATEMENT_BYTES, Refusal,
    RefusalCode, Statement, authenticate, check, in_words, is_line_breaking,
};
use crate::fold::{At, Rejection, RejectionCode};

/// The longest note beside a decision, in characters.
pub const MAX_NOTE_CHARS: usize = 500;

/// A key of the run's roster counts no more. No events: it is none of this run's, or that is recorded, or the run has ended.
pub(super) fn revoke(
    state: &RunState,
    revoked: ApproverKeyRevoked,
) -> Result<Vec<Kind>, Rejection> {
    let roster = state.started()?.roster();
    let known = roster.by_fingerprint(&revoked.key_fingerprint).is_some();
    if !known || !state.is_open() || state.revoked.contains(&revoked.key_fingerprint) {
        return Ok(Vec::new());
    }
    Ok(vec![Kind::ApproverKeyRevoked(revoked)])
}

pub(super) fn decide(
    state: &RunState,
    statement: &str,
    signature: &str,
    note: &str,
    at: At,
) -> Result<Vec<Kind>, Rejection> {
    let pinned = state.started()?;
    if note.chars().count() > MAX_NOTE_CHARS || note.chars().any(is_line_breaking) {
        let reason = format!("the note must be one line of at most {MAX_NOTE_CHARS} characters");
        return Err(Rejection::new(RejectionCode::Invalid, reason));
    }
    match judge(state, pinned, statement, signature, at) {
        Err(refusal) => refused(state, statement, signature, &refusal),
        Ok((step_id, accepted)) => recorded(
            state,
            &step_id,
            &accepted,
            &Signed {
                statement,
                signature,
                note,
            },
            at,
        ),
    }
}

struct Signed<'a> {
    statement: &'a str,
    signature: &'a str,
    note: &'a str,
}

fn judge(
    state: &RunState,
    pinned: &Pinned,
    text: &str,
    signature: &str,
    at: At,
) -> Result<(String, Accepted), Refusal> {
    // Read for its step only; `check` reads it again and judges it.
    let parsed = Statement::parse(text).ok();
    let named_decision = parsed.as_ref().map(|statement| statement.decision);
    let named = parsed.map(|statement| statement.step).unwrap_or_default();
    let Some((id, step)) = state.steps().get_key_value(&named) else {
        return Err(unknown_step(pinned, text, signature, &named));
    };
    let decision = named_decision.unwrap_or(Decision::Approve);
    let ballot = ballot(state, pinned, id, step, decision, at);
    let started = pinned.started();
    let expected = Expectation {
        installation: &started.installation,
        environment: pinned.environment(),
        incident: &started.incident,
        run: &started.run,
        step: id,
        iteration: step.iteration,
        runbook: &started.runbook,
        runbook_digest: &started.runbook_digest,
        inputs_digest: step.inputs.as_ref().map(|(_, digest)| digest.as_str()),
        roster: pinned.roster(),
        requesters: &ballot.barred,
        revoked: &state.revoked,
        used_nonces: &state.nonces,
        quorum: ballot.quorum.as_ref(),
        anyone: ballot.anyone,
        touch: ballot.touch,
        standing: &ballot.standing,
        max_validity_ms: pinned.approval_validity_ms(),
        takes: ballot.takes,
        closed: ballot.closed.as_deref(),
    };
    check(text, signature, &expected, at.wall_ms).map(|accepted| (id.clone(), accepted))
}

/// The refusal of a statement whose step this runbook does not have: perhaps it cannot even be read, or is another run's.
fn unknown_step(pinned: &Pinned, text: &str, signature: &str, step: &str) -> Refusal {
    let authentic = match authenticate(text, signature, pinned.roster()) {
        Ok(authentic) => authentic,
        Err(refusal) => return refusal,
    };
    let (person, started) = (&authentic.person.id, pinned.started());
    if authentic.statement.run != started.run {
        let reason = format!(
            "the statement is for the run {} and this is {}",
            authentic.statement.run, started.run
        );
        return Refusal::new(RefusalCode::WrongRun, person, reason);
    }
    let reason = format!(
        "runbook {} has no step {step}; it has {}",
        started.runbook,
        pinned.order().join(", ")
    );
    Refusal::new(RefusalCode::WrongStep, person, reason)
}

fn refused(
    state: &RunState,
    statement: &str,
    signature: &str,
    refusal: &Refusal,
) -> Result<Vec<Kind>, Rejection> {
    if state.refused().len() >= MAX_REFUSALS {
        let reason = format!(
            "{refusal}; this was not recorded, because the run has recorded {MAX_REFUSALS} refused approvals"
        );
        return Err(Rejection::new(RejectionCode::Refused, reason));
    }
    let step = Statement::parse(statement)
        .map(|statement| statement.step)
        .unwrap_or_default();
    Ok(vec![Kind::ApprovalRefused(ApprovalRefused {
        step,
        person: refusal.person.clone(),
        statement: cut(statement, MAX_STATEMENT_BYTES),
        signature: cut(signature, MAX_SIGNATURE_BYTES),
        code: refusal.code.as_str().to_owned(),
        reason: refusal.reason.clone(),
    })])
}

fn recorded(
    state: &RunState,
    id: &str,
    accepted: &Accepted,
    signed: &Signed<'_>,
    at: At,
) -> Result<Vec<Kind>, Rejection> {
    let iteration = state.step(id).map_or(0, |step: &StepState| step.iteration);
    let event = ApprovalRecorded {
        step: id.to_owned(),
        iteration,
        person: accepted.person.clone(),
        decision: accepted.decision.as_str().to_owned(),
        statement: signed.statement.to_owned(),
        signature: signed.signature.to_owned(),
        key_fingerprint: accepted.fingerprint.clone(),
        roles: accepted
            .roles
            .iter()
            .map(|role: &Role| role.as_str().to_owned())
            .collect(),
        nonce: accepted.nonce.clone(),
        note: signed.note.to_owned(),
        authenticator: accepted.authenticator.map(|it| wire::Authenticator {
            flags: u32::from(it.flags),
            counter: it.counter,
        }),
    };
    let new = Decided {
        person: accepted.person.clone(),
        roles: accepted.roles.clone(),
        decision: accepted.decision,
        statement: event.statement.clone(),
        signature: event.signature.clone(),
        fingerprint: event.key_fingerprint.clone(),
        note: event.note.clone(),
        at_ms: at.wall_ms,
        expires_ms: accepted.expires_ms,
        authenticator: accepted.authenticator,
        revoked_at_ms: None,
    };
    if !new.decision.is_about_the_quorum() {
        return verbs::after(state, id, Kind::ApprovalRecorded(event), &new, at);
    }
    let mut events = vec![Kind::ApprovalRecorded(event)];
    events.extend(confirm::after(state, id, &new, at)?);
    Ok(events)
}

/// The answer to the person, from the events of a [`super::Command::SubmitApproval`] and the state after them.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only two kinds of event answer an approval"
)]
pub fn answer(after: &RunState, events: &[Kind], at: At) -> ApproveResponse {
    for event in events {
        match event {
            Kind::ApprovalRefused(refused) => {
                return ApproveResponse {
                    accepted: false,
                    code: refused.code.clone(),
                    reason: refused.reason.clone(),
                    missing: missing(after, &refused.step, at),
                };
            }
            Kind::ApprovalRecorded(recorded) => {
                return ApproveResponse {
                    accepted: true,
                    code: String::new(),
                    reason: String::new(),
                    missing: missing_of(
                        after,
                        &recorded.step,
                        Decision::parse(&recorded.decision),
                        at,
                    ),
                };
            }
            _ => {}
        }
    }
    ApproveResponse::default()
}

/// What is missing for a decision, in words; empty if nothing.
pub(crate) fn missing_of(state: &RunState, id: &str, decision: Option<Decision>, at: At) -> String {
    let named = state.step(id).zip(state.pinned()).zip(decision);
    let Some(((step, pinned), decision)) =
        named.filter(|(_, decision)| !decision.is_about_the_quorum())
    else {
        return missing(state, id, at);
    };
    let ballot = ballot(state, pinned, id, step, decision, at);
    if ballot.closed.is_some() {
        return String::new();
    }
    let said: Vec<Approver> = step
        .said(decision, at.wall_ms)
        .map(|said| Approver {
            person: said.person.clone(),
            roles: said.roles.clone(),
        })
        .collect();
    match ballot.quorum.map(|quorum| quorum.assess(&said)) {
        Some(Assessment::Missing(missing)) => in_words(&missing),
        None if decision == Decision::Review => {
            let more = REVIEWERS.saturating_sub(said.len());
            format!("{more} more who had no part in it")
        }
        Some(Assessment::Met(_)) | None => String::new(),
    }
}

/// Which approvals a step still waits for, in words; empty if none.
pub(crate) fn missing(state: &RunState, id: &str, at: At) -> String {
    let Some((step, quorum)) = state
        .step(id)
        .zip(state.pinned().and_then(|pinned| pinned.quorum(id)))
    else {
        return String::new();
    };
    if closed(state, step).is_some() {
        return String::new();
    }
    match step.assess(quorum, at.wall_ms) {
        Assessment::Met(_) => String::new(),
        Assessment::Missing(missing) => in_words(&missing),
    }
}
