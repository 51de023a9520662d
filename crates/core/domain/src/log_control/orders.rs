//! Holds, directives and what becomes of them.

use std::collections::BTreeMap;

use sealwarden_wire::event::v1::{
    Directive, DirectiveAcknowledged, DirectiveIssued, DirectiveKind, DirectiveRefused, Event,
    Fenced, HoldPlaced, Isolated, NodeFence, OriginOpened, event::Kind,
};

use super::decide::{IsolationProof, KeyChanges, Order, invalid, not_now, refused};
use super::fence::{FenceHow, GrantClock, NodeFenceStatus, fence_status};
use super::key_orders;
use super::state::{DirectiveState, LogControl, directive_input, is_name, kind_name};
use super::tree::open_origin;
use crate::fold::{At, Rejection, RejectionCode, event};

/// The longest hold: a week, milliseconds. Nobody approved it, so it has to end.
const MAX_HOLD_MS: i64 = 7 * 24 * 60 * 60 * 1000;

pub(super) fn not_found(reason: impl Into<String>) -> Rejection {
    Rejection::new(RejectionCode::NotFound, reason)
}

pub(super) fn place_hold(log: &LogControl, e: HoldPlaced, at: At) -> Result<Vec<Event>, Rejection> {
    let origin = log
        .origin(&e.origin)
        .ok_or_else(|| not_found(format!("origin {} is not known", e.origin)))?;
    let known = log
        .holds
        .iter()
        .any(|h| h.signal == e.signal && h.origin == e.origin);
    if known || origin.isolation.is_some() || log.active_hold(&e.origin, at.wall_ms).is_some() {
        return Ok(Vec::new());
    }
    let left_ms = e.expires_at_ms.saturating_sub(at.wall_ms);
    if left_ms <= 0 || left_ms > MAX_HOLD_MS {
        return Err(invalid(format!(
            "a hold of {left_ms} ms is none; it lasts at most {MAX_HOLD_MS} ms"
        )));
    }
    Ok(vec![event(Kind::HoldPlaced(e))])
}

pub(super) fn issue(log: &LogControl, order: Order, at: At) -> Result<Vec<Event>, Rejection> {
    if log
        .ordered(&order.run, &order.step, order.iteration)
        .is_some()
    {
        return Ok(Vec::new());
    }
    let epoch = log
        .epoch()
        .checked_add(1)
        .ok_or_else(|| refused("the log has no epoch left"))?;
    let directive = Directive {
        epoch,
        kind: order.kind.into(),
        log: order.log,
        incident: order.incident,
        run: order.run,
        step: order.step,
        iteration: order.iteration,
        runbook: order.runbook,
        runbook_digest: order.runbook_digest,
        inputs: order.inputs,
        approvals: order.approvals,
        issued_at_ms: at.wall_ms,
        requesters: order.requesters,
    };
    check_inputs(log, &directive)?;
    Ok(vec![event(Kind::DirectiveIssued(DirectiveIssued {
        directive: Some(directive),
    }))])
}

/// Everything that an order names exists, and is what that kind of order is about.
fn check_inputs(log: &LogControl, directive: &Directive) -> Result<(), Rejection> {
    let needed: &[&str] = match directive.kind() {
        DirectiveKind::Unspecified => {
            return Err(invalid("an unspecified directive orders nothing"));
        }
        DirectiveKind::IsolateKey | DirectiveKind::RotateOrigin => &["origin"],
        DirectiveKind::Reseal => &["into"],
        DirectiveKind::RevokeKey => &["origin", "key", "compromised-since"],
        DirectiveKind::DestroyKey | DirectiveKind::RestoreKey => &["origin", "key"],
        DirectiveKind::ReadOnly
        | DirectiveKind::Open
        | DirectiveKind::Queue
        | DirectiveKind::QueueNoncritical => &[],
    };
    for name in needed {
        if directive_input(directive, name).is_none() {
            let kind = kind_name(directive.kind());
            return Err(invalid(format!(
                "a {kind} directive needs the input `{name}`"
            )));
        }
    }
    for origin in ["origin", "into"]
        .iter()
        .filter_map(|name| directive_input(directive, name))
    {
        if log.origin(origin).is_none() {
            return Err(not_found(format!(
                "origin {origin} was never opened in log {}",
                directive.log
            )));
        }
    }
    if directive.kind() == DirectiveKind::RotateOrigin {
        replaces_current(log, directive)?;
    }
    key_orders::check(log, directive)
}

fn replaces_current(log: &LogControl, directive: &Directive) -> Result<(), Rejection> {
    let named = directive_input(directive, "origin").unwrap_or_default();
    match log.current() {
        Some(current) if current.origin == named => Ok(()),
        Some(current) => Err(refused(format!(
            "origin {named} was replaced already; {} is the current one",
            current.origin
        ))),
        None => Err(not_now("the log has no origin yet")),
    }
}

fn directive(log: &LogControl, epoch: u64) -> Result<&DirectiveState, Rejection> {
    log.directives
        .get(&epoch)
        .ok_or_else(|| not_found(format!("directive {epoch} was never issued")))
}

fn require_name(node: &str) -> Result<(), Rejection> {
    if is_name(node) {
        Ok(())
    } else {
        Err(invalid(format!("{node:?} is no node's name")))
    }
}

pub(super) fn acknowledge(
    log: &LogControl,
    epoch: u64,
    (node, note): (String, String),
    opened: Option<OriginOpened>,
    keys: KeyChanges,
) -> Result<Vec<Event>, Rejection> {
    let state = directive(log, epoch)?;
    require_name(&node)?;
    if state.acks.contains_key(&node) {
        return Ok(Vec::new());
    }
    let newest = log.acknowledged_epoch(&node);
    if newest > epoch {
        let reason = format!(
            "node {node} enforces epoch {newest}; epoch {epoch} is older and undoes nothing"
        );
        return Err(refused(reason));
    }
    let mut events = Vec::new();
    if let Some(opened) = opened {
        if state.kind() != DirectiveKind::RotateOrigin || opened.epoch != epoch {
            let reason = format!("a {} directive opens no origin", kind_name(state.kind()));
            return Err(refused(reason));
        }
        if opened.node != node {
            let reason = format!("node {node} cannot open an origin for node {}", opened.node);
            return Err(refused(reason));
        }
        if log.origin(&opened.origin).is_none() {
            replaces_current(log, &state.directive)?;
        }
        events.extend(open_origin(log, opened)?);
    }
    events.extend(key_orders::changes(log, state, keys, &node)?);
    events.push(event(Kind::DirectiveAcknowledged(DirectiveAcknowledged {
        epoch,
        node,
        note,
    })));
    Ok(events)
}

pub(super) fn refuse(
    log: &LogControl,
    epoch: u64,
    node: String,
    reason: String,
    note: String,
) -> Result<Vec<Event>, Rejection> {
    require_name(&node)?;
    if directive(log, epoch)?.answered_by(&node) {
        return Ok(Vec::new());
    }
    Ok(vec![event(Kind::DirectiveRefused(DirectiveRefused {
        epoch,
        node,
        reason,
        note,
    }))])
}

pub(super) fn conclude_fence(
    log: &LogControl,
    epoch: u64,
    clock: &GrantClock,
    at: At,
) -> Result<Vec<Event>, Rejection> {
    let state = directive(log, epoch)?;
    if state.fenced_at_ms.is_some() {
        return Ok(Vec::new());
    }
    if state.kind() != DirectiveKind::IsolateKey {
        return Err(invalid(format!("directive {epoch} isolates nothing")));
    }
    let nodes = fence_status(log, epoch, clock, at.boot_ms);
    let missing: Vec<String> = nodes
        .iter()
        .filter(|n| matches!(n.how, FenceHow::Waiting { .. }))
        .map(|n| format!("{}: {}", n.node, n.words()))
        .collect();
    if !missing.is_empty() {
        return Err(not_now(format!("not fenced yet: {}", missing.join("; "))));
    }
    Ok(vec![event(Kind::Fenced(Fenced {
        epoch,
        origin: directive_input(&state.directive, "origin")
            .unwrap_or_default()
            .to_owned(),
        nodes: nodes.iter().map(node_fence).collect(),
    }))])
}

fn node_fence(status: &NodeFenceStatus) -> NodeFence {
    NodeFence {
        node: status.node.clone(),
        how: status.words(),
    }
}

pub(super) fn conclude_isolation(
    log: &LogControl,
    epoch: u64,
    proof: IsolationProof,
) -> Result<Vec<Event>, Rejection> {
    let state = directive(log, epoch)?;
    if state.isolated_at_ms.is_some() {
        return Ok(Vec::new());
    }
    if state.fenced_at_ms.is_none() {
        return Err(not_now(format!("directive {epoch} is not fenced yet")));
    }
    if [&proof.provider, &proof.witness, &proof.trust]
        .iter()
        .any(|part| part.trim().is_empty())
    {
        return Err(invalid(
            "isolation is proven by provider, witness and trust bundle; one says nothing",
        ));
    }
    Ok(vec![event(Kind::Isolated(Isolated {
        epoch,
        origin: directive_input(&state.directive, "origin")
            .unwrap_or_default()
            .to_owned(),
        provider: proof.provider,
        witness: proof.witness,
        trust: proof.trust,
    }))])
}

/// Results of an acknowledgement: the `name: value` lines after its fixed ones.
pub fn acknowledgement_results(note: &str) -> BTreeMap<String, String> {
    note.lines()
        .skip(8)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
