//! What a node asks of a directive before it obeys.
//!
//! The directive comes from the event log, where the executor put it; the node believes neither. It relies on its own roster, its own plan's quorum for the kind, its
//! own clock, and the orders that it has seen.

use std::collections::BTreeSet;

use sealwarden_runbook::{Action, Approver, Assessment, DirectiveKind, Quorum, Roster};
use sealwarden_wire::event::v1::{Directive, DirectiveKind as WireKind, SignedStatement};

use super::break_glass;
use super::check::{Accepted, Expectation, check, in_words};
use super::inputs::Inputs;
use super::refusal::{Refusal, RefusalCode};
use super::statement::{Decision, Environment, Statement, rfc3339_ms};

/// The most approvals of one directive that are looked at.
const MAX_APPROVALS: usize = 64;

/// One order: whatever its epoch, it is obeyed once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    /// The run.
    pub run: String,
    /// The step.
    pub step: String,
    /// The step's iteration.
    pub iteration: u32,
}

impl From<&Directive> for Order {
    fn from(directive: &Directive) -> Self {
        Self {
            run: directive.run.clone(),
            step: directive.step.clone(),
            iteration: directive.iteration,
        }
    }
}

/// What the node knows by itself.
#[derive(Clone, Debug)]
pub struct DirectiveExpectation<'a> {
    /// The installation's name.
    pub installation: &'a str,
    /// Production or drill.
    pub environment: Environment,
    /// The log line that the node serves.
    pub log: &'a str,
    /// The node's roster.
    pub roster: &'a Roster,
    /// The quorum that the node's own plan demands for the directive's kind.
    pub required: &'a Quorum,
    /// The longest validity of an approval, in milliseconds.
    pub max_validity_ms: i64,
    /// The node's clock, Unix milliseconds.
    pub now_ms: i64,
    /// How far in the node's future a directive may have been issued, in milliseconds.
    pub max_skew_ms: i64,
    /// How long ago a directive may have been issued, in milliseconds: a late reader refuses it.
    pub max_age_ms: i64,
    /// Orders of other epochs that this node has obeyed: a directive that repeats one is a replay.
    pub seen: &'a BTreeSet<Order>,
    /// Keys that were revoked, as far as the node has read the event log.
    pub revoked: &'a BTreeSet<String>,
    /// Requesters that the node knows of itself, from the incident's stream; the directive's own are added.
    pub requesters: &'a [String],
}

/// The wire's word for a kind of directive.
pub fn wire_kind(kind: DirectiveKind) -> WireKind {
    match kind {
        DirectiveKind::IsolateKey => WireKind::IsolateKey,
        DirectiveKind::ReadOnly => WireKind::ReadOnly,
        DirectiveKind::RotateOrigin => WireKind::RotateOrigin,
        DirectiveKind::Reseal => WireKind::Reseal,
        DirectiveKind::Open => WireKind::Open,
        DirectiveKind::Queue => WireKind::Queue,
        DirectiveKind::QueueNoncritical => WireKind::QueueNoncritical,
        DirectiveKind::RevokeKey => WireKind::RevokeKey,
        DirectiveKind::DestroyKey => WireKind::DestroyKey,
        DirectiveKind::RestoreKey => WireKind::RestoreKey,
    }
}

/// Decides whether a node may obey a directive. Gives the approvals that counted. A single bad approval is passed over; if the quorum is then not met, the
/// refusal gives the reason of each.
pub fn verify_directive(
    directive: &Directive,
    expected: &DirectiveExpectation<'_>,
) -> Result<Vec<Accepted>, Refusal> {
    let (inputs_digest, kind) = check_order(directive, expected)?;
    check_time(directive, expected)?;
    let mut requesters = expected.requesters.to_vec();
    requesters.extend(directive.requesters.iter().cloned());
    let no_nonces = BTreeSet::new();
    let expectation = Expectation {
        installation: expected.installation,
        environment: expected.environment,
        incident: &directive.incident,
        run: &directive.run,
        step: &directive.step,
        iteration: directive.iteration,
        runbook: &directive.runbook,
        runbook_digest: &directive.runbook_digest,
        inputs_digest: Some(&inputs_digest),
        roster: expected.roster,
        requesters: &requesters,
        revoked: expected.revoked,
        used_nonces: &no_nonces,
        quorum: Some(expected.required),
        anyone: false,
        touch: false,
        standing: &[],
        max_validity_ms: expected.max_validity_ms,
        takes: &[Decision::Approve, Decision::Deny],
        closed: None,
    };
    if let Some(keys) = overriding(directive, kind, &expectation) {
        return Ok(keys);
    }
    count(directive, expected.required, &expectation)
}

/// Whether an approval was signed as an override. What cannot be read is judged, and named, with the approvals.
fn is_override(signed: &SignedStatement) -> bool {
    Statement::parse(&signed.statement)
        .is_ok_and(|statement| statement.decision == Decision::Override)
}

/// The break-glass keys that order this without its quorum, if there are enough of them; a denial does not stop them.
fn overriding(
    directive: &Directive,
    kind: DirectiveKind,
    expectation: &Expectation<'_>,
) -> Option<Vec<Accepted>> {
    let quorum = break_glass::quorum(Some(kind))?;
    let nobody: [String; 0] = [];
    let expectation = Expectation {
        quorum: Some(&quorum),
        takes: &[Decision::Override],
        touch: break_glass::needs_touch(Some(kind)),
        requesters: if break_glass::tightens(Some(kind)) {
            &nobody
        } else {
            expectation.requesters
        },
        ..expectation.clone()
    };
    let mut counted: Vec<Accepted> = Vec::new();
    let signed = directive.approvals.iter().take(MAX_APPROVALS);
    for signed in signed.filter(|signed| is_override(signed)) {
        let (text, signature) = (&signed.statement, &signed.signature);
        let Ok(accepted) = check(text, signature, &expectation, directive.issued_at_ms) else {
            continue;
        };
        if counted.iter().all(|other| other.person != accepted.person) {
            counted.push(accepted);
        }
    }
    let approvers: Vec<Approver> = counted.iter().map(approver).collect();
    quorum.assess(&approvers).is_met().then_some(counted)
}

fn count(
    directive: &Directive,
    required: &Quorum,
    expectation: &Expectation<'_>,
) -> Result<Vec<Accepted>, Refusal> {
    let mut counted: Vec<Accepted> = Vec::new();
    let mut passed_over: Vec<String> = Vec::new();
    if directive.approvals.len() > MAX_APPROVALS {
        passed_over.push(format!(
            "{} approvals were sent and {MAX_APPROVALS} were read",
            directive.approvals.len()
        ));
    }
    for signed in directive.approvals.iter().take(MAX_APPROVALS) {
        match check(
            &signed.statement,
            &signed.signature,
            expectation,
            directive.issued_at_ms,
        ) {
            Ok(accepted) if accepted.decision == Decision::Deny => {
                let reason = format!(
                    "{} denied this step; a new approval by them must come first",
                    accepted.person
                );
                return Err(Refusal::new(
                    RefusalCode::WrongDecision,
                    &accepted.person,
                    reason,
                ));
            }
            Ok(accepted) if counted.iter().any(|other| other.person == accepted.person) => {
                passed_over.push(format!(
                    "{} approved twice and counts once",
                    accepted.person
                ));
            }
            Ok(accepted) => counted.push(accepted),
            Err(refusal) => passed_over.push(refusal.to_string()),
        }
    }
    let approvers: Vec<Approver> = counted.iter().map(approver).collect();
    match required.assess(&approvers) {
        Assessment::Met(_) => Ok(counted),
        Assessment::Missing(missing) => {
            let mut reason = format!(
                "the approvals of directive {} do not meet this node's quorum {}: missing {}",
                directive.epoch,
                in_words(required.roles()),
                in_words(&missing),
            );
            if !passed_over.is_empty() {
                reason.push_str("; not counted: ");
                reason.push_str(&passed_over.join("; "));
            }
            Err(Refusal::new(RefusalCode::QuorumMissing, "", reason))
        }
    }
}

fn approver(accepted: &Accepted) -> Approver {
    Approver {
        person: accepted.person.clone(),
        roles: accepted.roles.clone(),
    }
}

/// The directive's lines must say what its signed inputs say. Gives the inputs' digest and what is ordered.
fn check_order(
    directive: &Directive,
    expected: &DirectiveExpectation<'_>,
) -> Result<(String, DirectiveKind), Refusal> {
    let wrong = |reason: String| Err(Refusal::new(RefusalCode::WrongDirective, "", reason));
    if directive.log != expected.log {
        return wrong(format!(
            "the directive is for log {:?} and this node serves {:?}",
            directive.log, expected.log
        ));
    }
    let inputs = match Inputs::parse(&directive.inputs) {
        Ok(inputs) => inputs,
        Err(error) => return wrong(format!("the directive's inputs are malformed: {error}")),
    };
    let Some(ordered) = Action::from_name(inputs.action())
        .and_then(|action| action.spec().directive(inputs.get("mode")))
    else {
        return wrong(format!(
            "the approved action {:?} sends no directive",
            inputs.action()
        ));
    };
    if directive.kind() != wire_kind(ordered) {
        return wrong(format!(
            "the directive orders {} and the approved action is {}",
            directive.kind().as_str_name(),
            inputs.action()
        ));
    }
    if inputs.get("log") != Some(&directive.log) {
        return wrong(format!(
            "the directive is for log {:?} and the approved inputs say {:?}",
            directive.log,
            inputs.get("log")
        ));
    }
    if expected.seen.contains(&Order::from(directive)) {
        let reason = format!(
            "step {} of run {} (iteration {}) was obeyed under another epoch; an order is obeyed once",
            directive.step, directive.run, directive.iteration,
        );
        return Err(Refusal::new(RefusalCode::Replayed, "", reason));
    }
    Ok((inputs.digest(), ordered))
}

/// `issued_at_ms` is the executor's word, and approvals are held against it: so it must lie close to the node's own time.
fn check_time(directive: &Directive, expected: &DirectiveExpectation<'_>) -> Result<(), Refusal> {
    let age_ms = expected.now_ms.saturating_sub(directive.issued_at_ms);
    let issued = rfc3339_ms(directive.issued_at_ms);
    if age_ms < expected.max_skew_ms.saturating_neg() {
        let reason =
            format!("the directive was issued at {issued}, in this node's future; set the clocks");
        return Err(Refusal::new(RefusalCode::TooEarly, "", reason));
    }
    if age_ms > expected.max_age_ms {
        let reason = format!(
            "the directive was issued at {issued}, more than {} s ago; it must be approved and issued again",
            expected.max_age_ms / 1000,
        );
        return Err(Refusal::new(RefusalCode::Expired, "", reason));
    }
    Ok(())
}
