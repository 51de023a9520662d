//! Asking for, granting and giving back the right to use an origin's key.

use sealwarden_wire::event::v1::{
    Event, PermitGranted, PermitReleased, PermitRequested, event::Kind,
};

use super::decide::{invalid, not_now, refused};
use super::fence::GrantClock;
use super::state::{LogControl, Origin, is_name};
use crate::fold::{At, Rejection, event};

/// The longest lifetime, key deadline or drift of a permit: a day, milliseconds. A permit is short; whatever is longer is a mistake.
const MAX_PERMIT_MS: u64 = 24 * 60 * 60 * 1000;

pub(super) fn request(
    log: &LogControl,
    node: String,
    request_id: String,
) -> Result<Vec<Event>, Rejection> {
    if !is_name(&node) || request_id.is_empty() {
        return Err(invalid(format!(
            "node {node:?} or its request {request_id:?} has no usable name"
        )));
    }
    let current = log
        .current()
        .ok_or_else(|| not_now("the log has no origin yet"))?;
    require_writer(current, &node)?;
    let asked = log
        .requests
        .get(&node)
        .is_some_and(|(id, _)| *id == request_id);
    let answered = log
        .grants
        .get(&node)
        .is_some_and(|g| g.request_id == request_id);
    if asked || answered {
        return Ok(Vec::new()); // a permit is counted from its request's first sending
    }
    let origin = current.origin.clone();
    Ok(vec![event(Kind::PermitRequested(PermitRequested {
        node,
        request_id,
        origin,
    }))])
}

fn require_writer(origin: &Origin, node: &str) -> Result<(), Rejection> {
    if origin.node == node {
        Ok(())
    } else {
        Err(refused(format!(
            "node {} writes {}, not {node}",
            origin.node, origin.origin
        )))
    }
}

pub(super) fn grant(
    log: &LogControl,
    node: &str,
    (lifetime_ms, key_deadline_ms, drift_ms): (u64, u64, u64),
    clock: &GrantClock,
    at: At,
) -> Result<Vec<Event>, Rejection> {
    if lifetime_ms == 0 || lifetime_ms.max(key_deadline_ms).max(drift_ms) > MAX_PERMIT_MS {
        return Err(invalid(format!(
            "a permit of {lifetime_ms} ms with {key_deadline_ms} ms for the key and {drift_ms} ms of drift is none; each is at most {MAX_PERMIT_MS} ms"
        )));
    }
    let Some((request_id, origin)) = log.requests.get(node) else {
        return Ok(Vec::new());
    };
    let current = log
        .current()
        .filter(|o| o.origin == *origin)
        .ok_or_else(|| not_now(format!("{origin} is not the current origin")))?;
    // Whoever writes the request into the log: only the origin's writer gets its permit.
    require_writer(current, node)?;
    if let Some(epoch) = current.isolation {
        return Err(refused(format!(
            "directive {epoch} isolates the key of {origin}"
        )));
    }
    if let Some(other) = other_holder(log, node, origin, clock, at) {
        return Err(not_now(format!(
            "node {other} may still hold the permit of {origin}"
        )));
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

fn other_holder<'a>(
    log: &'a LogControl,
    node: &str,
    origin: &str,
    clock: &GrantClock,
    at: At,
) -> Option<&'a str> {
    log.grants
        .iter()
        .filter(|(holder, _)| holder.as_str() != node)
        .filter_map(|(holder, latest)| Some((holder, latest.for_origin(origin)?)))
        .find(|(_, grant)| !grant.released && at.boot_ms < clock.end_of(grant))
        .map(|(holder, _)| holder.as_str())
}

/// Gives back a permit, or takes back a request that has no answer yet.
pub(super) fn release(log: &LogControl, node: String, request_id: String) -> Vec<Event> {
    let held = log
        .grants
        .get(&node)
        .is_some_and(|g| g.request_id == request_id && !g.released);
    let asked = log
        .requests
        .get(&node)
        .is_some_and(|(id, _)| *id == request_id);
    if held || asked {
        vec![event(Kind::PermitReleased(PermitReleased {
            node,
            request_id,
        }))]
    } else {
        Vec::new()
    }
}
