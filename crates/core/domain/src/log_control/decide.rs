//! Commands to a log's control and the events they give.

use std::collections::BTreeMap;

use sealwarden_wire::event::v1::{
    CheckpointPublished, Directive, DirectiveAcknowledged, DirectiveIssued, DirectiveKind,
    DirectiveRefused, Event, Fenced, HoldPlaced, IntentRecorded, Isolated, NodeFence, OriginOpened,
    PermitGranted, PermitReleased, PermitRequested, SignatureWithheld, SignedStatement, event::Kind,
};

use super::fence::{FenceHow, GrantClock, NodeFenceStatus, fence_status};
use super::state::{DirectiveState, LogControl, directive_input, kind_name};
use crate::fold::{At, Rejection, RejectionCode, event};

/// A containment order before it has an epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// Kind.
    pub kind: DirectiveKind,
    /// Log that it is for.
    pub log: String,
    /// Incident, run, step and iteration that order it.
    pub incident: String,
    /// Run.
    pub run: String,
    /// Step.
    pub step: String,
    /// Iteration.
    pub iteration: u32,
    /// Runbook's name.
    pub runbook: String,
    /// Runbook's SHA-256, hex.
    pub runbook_digest: String,
    /// Canonical inputs text.
    pub inputs: String,
    /// Signed approvals.
    pub approvals: Vec<SignedStatement>,
    /// People who cannot approve.
    pub requesters: Vec<String>,
}

/// What `isolated` needs beyond fencing, each in words for the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsolationProof {
    /// What the provider did with the key, or that it cannot.
    pub provider: String,
    /// Which witness froze the origin at which size.
    pub witness: String,
    /// Which suspension says so.
    pub trust: String,
}

/// A command to one log.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Open the first origin, or the one that a rotation ordered.
    OpenOrigin(OriginOpened),
    /// A node asks for a permit.
    RequestPermit {
        /// Node.
        node: String,
        /// New UUID.
        request_id: String,
    },
    /// The grantor answers the node's latest request.
    GrantPermit {
        /// Node.
        node: String,
        /// Permit's lifetime, milliseconds.
        lifetime_ms: u64,
        /// Longest key call, milliseconds.
        key_deadline_ms: u64,
        /// Allowed drift, milliseconds.
        drift_ms: u64,
        /// The grantor's memory of its grants.
        clock: GrantClock,
    },
    /// A node gives its permit back.
    ReleasePermit {
        /// Node.
        node: String,
        /// Request.
        request_id: String,
    },
    /// The writer is about to use the key.
    RecordIntent {
        /// The intent.
        intent: IntentRecorded,
        /// Epoch of the re-seal directive that it serves, if it does.
        reseal: Option<u64>,
    },
    /// The writer published a checkpoint.
    PublishCheckpoint(CheckpointPublished),
    /// A late signature was thrown away.
    WithholdSignature(SignatureWithheld),
    /// A proven signal stops signing.
    PlaceHold(HoldPlaced),
    /// The executor orders something.
    Issue(Order),
    /// A node enforces a directive; a rotation opens its origin in the same commit.
    Acknowledge {
        /// Epoch.
        epoch: u64,
        /// Node.
        node: String,
        /// Its signed note.
        note: String,
        /// The origin that a rotation opened.
        opened: Option<OriginOpened>,
    },
    /// A node refuses a directive.
    Refuse {
        /// Epoch.
        epoch: u64,
        /// Node.
        node: String,
        /// Why.
        reason: String,
    },
    /// The grantor concludes that no node can sign.
    ConcludeFence {
        /// Epoch.
        epoch: u64,
        /// The grantor's memory of its grants.
        clock: GrantClock,
    },
    /// The executor concludes that the key is isolated.
    ConcludeIsolation {
        /// Epoch.
        epoch: u64,
        /// What beyond fencing was established.
        proof: IsolationProof,
    },
}

/// Decides a command. No events means that it is already so.
pub fn decide(log: &LogControl, command: Command, at: At) -> Result<Vec<Event>, Rejection> {
    match command {
        Command::OpenOrigin(e) => open_origin(log, e),
        Command::RequestPermit { node, request_id } => request_permit(log, node, request_id),
        Command::GrantPermit { node, lifetime_ms, key_deadline_ms, drift_ms, clock } => {
            grant(log, &node, (lifetime_ms, key_deadline_ms, drift_ms), &clock, at)
        }
        Command::ReleasePermit { node, request_id } => Ok(release(log, node, request_id)),
        Command::RecordIntent { intent, reseal } => record_intent(log, intent, reseal, at),
        Command::PublishCheckpoint(e) => Ok(publish(log, e)),
        Command::WithholdSignature(e) => Ok(vec![event(Kind::SignatureWithheld(e))]),
        Command::PlaceHold(e) => place_hold(log, e, at),
        Command::Issue(order) => issue(log, order, at),
        Command::Acknowledge { epoch, node, note, opened } => {
            acknowledge(log, epoch, node, note, opened)
        }
        Command::Refuse { epoch, node, reason } => refuse(log, epoch, node, reason),
        Command::ConcludeFence { epoch, clock } => conclude_fence(log, epoch, &clock, at),
        Command::ConcludeIsolation { epoch, proof } => conclude_isolation(log, epoch, proof),
    }
}

fn not_now(reason: impl Into<String>) -> Rejection {
    Rejection::new(RejectionCode::NotNow, reason)
}

fn open_origin(log: &LogControl, e: OriginOpened) -> Result<Vec<Event>, Rejection> {
    if let Some(known) = log.origin(&e.origin) {
        return if known.vkey == e.vkey && known.node == e.node {
            Ok(Vec::new())
        } else {
            Err(Rejection::new(
                RejectionCode::Refused,
                format!("origin {} exists with another key; an origin is never used for a second tree", e.origin),
            ))
        };
    }
    if e.epoch == 0 && log.current().is_some() {
        return Err(Rejection::new(
            RejectionCode::Refused,
            format!("origin {} would replace the current one without a directive", e.origin),
        ));
    }
    Ok(vec![event(Kind::OriginOpened(e))])
}

fn request_permit(log: &LogControl, node: String, request_id: String) -> Result<Vec<Event>, Rejection> {
    let current = log.current().ok_or_else(|| not_now("the log has no origin yet"))?;
    if current.node != node {
        let reason = format!("node {} writes {}, not {node}", current.node, current.origin);
        return Err(Rejection::new(RejectionCode::Refused, reason));
    }
    let origin = current.origin.clone();
    Ok(vec![event(Kind::PermitRequested(PermitRequested { node, request_id, origin }))])
}

fn grant(
    log: &LogControl,
    node: &str,
    (lifetime_ms, key_deadline_ms, drift_ms): (u64, u64, u64),
    clock: &GrantClock,
    at: At,
) -> Result<Vec<Event>, Rejection> {
    let Some((request_id, origin)) = log.requests.get(node) else {
        return Ok(Vec::new());
    };
    let current = log
        .current()
        .filter(|o| o.origin == *origin)
        .ok_or_else(|| not_now(format!("{origin} is not the current origin")))?;
    if let Some(epoch) = current.isolation {
        return Err(Rejection::new(
            RejectionCode::Refused,
            format!("directive {epoch} isolates the key of {origin}"),
        ));
    }
    if let Some(other) = other_holder(log, node, origin, clock, at) {
        return Err(not_now(format!("node {other} may still hold the permit of {origin}")));
    }
    Ok(vec![event(Kind::PermitGranted(PermitGranted {
        node: node.to_owned(),
        request_id: request_id.clone(),
        origin: origin.clone(),
        lifetime_ms,
        key_deadline_ms,
        drift_ms,
    }))])
}

fn other_holder(
    log: &LogControl,
    node: &str,
    origin: &str,
    clock: &GrantClock,
    at: At,
) -> Option<String> {
    log.grants
        .iter()
        .filter(|(holder, g)| holder.as_str() != node && g.origin == origin && !g.released)
        .find(|(_, g)| {
            let granted = clock
                .granted_boot_ms
                .get(&g.request_id)
                .copied()
                .unwrap_or(clock.started_boot_ms);
            at.boot_ms < granted + g.lifetime_ms + g.key_deadline_ms + g.drift_ms
        })
        .map(|(holder, _)| holder.clone())
}

fn release(log: &LogControl, node: String, request_id: String) -> Vec<Event> {
    match log.grants.get(&node) {
        Some(g) if g.request_id == request_id && !g.released => {
            vec![event(Kind::PermitReleased(PermitReleased { node, request_id }))]
        }
        Some(_) | None => Vec::new(),
    }
}

fn record_intent(
    log: &LogControl,
    e: IntentRecorded,
    reseal: Option<u64>,
    at: At,
) -> Result<Vec<Event>, Rejection> {
    log.may_sign_for(&e.node, &e.origin, at.wall_ms, reseal)
        .map_err(|stop| not_now(stop.to_string()))?;
    let held = log.grants.get(&e.node).is_some_and(|g| {
        g.request_id == e.request_id && g.origin == e.origin && !g.released
    });
    if !held {
        return Err(not_now(format!("node {} holds no permit {}", e.node, e.request_id)));
    }
    let Some(origin) = log.origin(&e.origin) else {
        return Err(not_now(format!("origin {} is not open", e.origin)));
    };
    if let Some(known) = origin.intents.get(&e.size) {
        return if known.root[..] == e.root[..] {
            Ok(Vec::new()) // recovery signs the same root again
        } else {
            Err(Rejection::new(
                RejectionCode::Refused,
                format!("size {} of {} already has another root; signing stops for good", e.size, e.origin),
            ))
        };
    }
    let last = origin.intents.keys().next_back().copied().unwrap_or(0);
    if e.old_size != last || e.size < e.old_size {
        return Err(Rejection::new(
            RejectionCode::Refused,
            format!("intent {} -> {} does not extend the last intended size {last}", e.old_size, e.size),
        ));
    }
    Ok(vec![event(Kind::IntentRecorded(e))])
}

fn publish(log: &LogControl, e: CheckpointPublished) -> Vec<Event> {
    let known = log.origin(&e.origin).is_some_and(|o| o.published_size >= e.size);
    if known { Vec::new() } else { vec![event(Kind::CheckpointPublished(e))] }
}

fn place_hold(log: &LogControl, e: HoldPlaced, at: At) -> Result<Vec<Event>, Rejection> {
    let origin = log.origin(&e.origin).ok_or_else(|| {
        Rejection::new(RejectionCode::NotFound, format!("origin {} is not known", e.origin))
    })?;
    let known = log.holds.iter().any(|h| h.signal == e.signal && h.origin == e.origin);
    if known || origin.isolation.is_some() || log.active_hold(&e.origin, at.wall_ms).is_some() {
        return Ok(Vec::new());
    }
    Ok(vec![event(Kind::HoldPlaced(e))])
}

fn issue(log: &LogControl, order: Order, at: At) -> Result<Vec<Event>, Rejection> {
    if log.ordered(&order.run, &order.step, order.iteration).is_some() {
        return Ok(Vec::new());
    }
    let directive = Directive {
        epoch: log.epoch() + 1,
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
    if let Some(origin) = directive_input(&directive, "origin")
        && log.origin(origin).is_none()
    {
        let reason = format!("origin {origin} was never opened in log {}", directive.log);
        return Err(Rejection::new(RejectionCode::NotFound, reason));
    }
    Ok(vec![event(Kind::DirectiveIssued(DirectiveIssued { directive: Some(directive) }))])
}

fn directive(log: &LogControl, epoch: u64) -> Result<&DirectiveState, Rejection> {
    log.directives.get(&epoch).ok_or_else(|| {
        Rejection::new(RejectionCode::NotFound, format!("directive {epoch} was never issued"))
    })
}

fn acknowledge(
    log: &LogControl,
    epoch: u64,
    node: String,
    note: String,
    opened: Option<OriginOpened>,
) -> Result<Vec<Event>, Rejection> {
    let state = directive(log, epoch)?;
    if state.acks.contains_key(&node) {
        return Ok(Vec::new());
    }
    let newest = log.acknowledged_epoch(&node);
    if newest > epoch {
        let reason = format!("node {node} enforces epoch {newest}; epoch {epoch} is older and undoes nothing");
        return Err(Rejection::new(RejectionCode::Refused, reason));
    }
    let mut events = Vec::new();
    if let Some(opened) = opened {
        if state.kind() != DirectiveKind::RotateOrigin || opened.epoch != epoch {
            let reason = format!("a {} directive opens no origin", kind_name(state.kind()));
            return Err(Rejection::new(RejectionCode::Refused, reason));
        }
        events.extend(open_origin(log, opened)?);
    }
    events.push(event(Kind::DirectiveAcknowledged(DirectiveAcknowledged { epoch, node, note })));
    Ok(events)
}

fn refuse(log: &LogControl, epoch: u64, node: String, reason: String) -> Result<Vec<Event>, Rejection> {
    if directive(log, epoch)?.answered_by(&node) {
        return Ok(Vec::new());
    }
    Ok(vec![event(Kind::DirectiveRefused(DirectiveRefused { epoch, node, reason }))])
}

fn conclude_fence(
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
        return Err(Rejection::new(RejectionCode::Invalid, format!("directive {epoch} isolates nothing")));
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
        origin: directive_input(&state.directive, "origin").unwrap_or_default().to_owned(),
        nodes: nodes.iter().map(node_fence).collect(),
    }))])
}

fn node_fence(status: &NodeFenceStatus) -> NodeFence {
    NodeFence { node: status.node.clone(), how: status.words() }
}

fn conclude_isolation(
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
    Ok(vec![event(Kind::Isolated(Isolated {
        epoch,
        origin: directive_input(&state.directive, "origin").unwrap_or_default().to_owned(),
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
