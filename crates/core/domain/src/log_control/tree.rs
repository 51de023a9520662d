//! Opening origins, and what their writers record of the tree.

use sealwarden_wire::event::v1::{
    CheckpointAnchored, CheckpointCosigned, CheckpointPublished, DirectiveKind, Event,
    IntentRecorded, OriginOpened, SignatureWithheld, event::Kind,
};

use super::decide::{invalid, not_now, refused};
use super::signers::{Signer, is_same_key};
use super::state::{LogControl, Origin, is_name};
use crate::fold::{At, Rejection, RejectionCode, event};

/// No name of a witness or time-stamping authority is longer, in bytes.
const MAX_DATED_BY: usize = 512;

pub(super) fn open_origin(log: &LogControl, e: OriginOpened) -> Result<Vec<Event>, Rejection> {
    if let Some(known) = log.origin(&e.origin) {
        return if known.vkey == e.vkey && known.node == e.node {
            Ok(Vec::new())
        } else {
            Err(refused(format!(
                "origin {} exists with another key; an origin is never used for a second tree",
                e.origin
            )))
        };
    }
    let blank = |c: char| c.is_whitespace() || c.is_control();
    if e.origin.is_empty() || e.origin.contains(blank) || !is_name(&e.node) {
        return Err(invalid(format!(
            "{:?} of node {:?} is no origin",
            e.origin, e.node
        )));
    }
    match log.current() {
        None if e.epoch == 0 => {}
        None => {
            let reason = format!(
                "directive {} cannot replace the origin of a log that has none",
                e.epoch
            );
            return Err(refused(reason));
        }
        Some(current) => replaces(log, current, &e)?,
    }
    if log.origins.iter().any(|o| same_key(o, &e)) {
        let reason = format!(
            "key {} is an earlier origin's; a new origin needs a new key",
            e.key_id
        );
        return Err(refused(reason));
    }
    Ok(vec![event(Kind::OriginOpened(e))])
}

/// One rotation opens one origin, in place of the one that it names.
fn replaces(log: &LogControl, current: &Origin, e: &OriginOpened) -> Result<(), Rejection> {
    let rotation = log
        .directives
        .get(&e.epoch)
        .filter(|d| d.kind() == DirectiveKind::RotateOrigin)
        .ok_or_else(|| {
            refused(format!(
                "origin {} would replace the current one without a directive",
                e.origin
            ))
        })?;
    if let Some(opened) = &rotation.opened {
        return Err(refused(format!(
            "directive {} opened {opened} already",
            e.epoch
        )));
    }
    if e.predecessor != current.origin {
        let reason = format!(
            "origin {} would replace {:?}, and {} is the current one",
            e.origin, e.predecessor, current.origin
        );
        return Err(refused(reason));
    }
    Ok(())
}

fn same_key(origin: &Origin, e: &OriginOpened) -> bool {
    let same_place =
        |it: &Signer| origin.node == e.node && it.provider == e.provider && it.key_id == e.key_id;
    let mut signers = origin.signers.iter();
    signers.any(|it| is_same_key(&it.vkey, &e.vkey) || same_place(it))
}

pub(super) fn record_intent(
    log: &LogControl,
    mut e: IntentRecorded,
    reseal: Option<u64>,
    at: At,
) -> Result<Vec<Event>, Rejection> {
    if e.root.len() != 32 || e.message_sha256.len() != 32 {
        let reason = format!(
            "root and message hash have {} and {} bytes, not 32",
            e.root.len(),
            e.message_sha256.len()
        );
        return Err(invalid(reason));
    }
    log.may_sign_for(&e.node, &e.origin, at.wall_ms, reseal)
        .map_err(|stop| not_now(stop.to_string()))?;
    let held = log
        .grants
        .get(&e.node)
        .is_some_and(|g| g.request_id == e.request_id && g.origin == e.origin && !g.released);
    if !held {
        return Err(not_now(format!(
            "node {} holds no permit {}",
            e.node, e.request_id
        )));
    }
    let Some(origin) = log.origin(&e.origin) else {
        return Err(not_now(format!("origin {} is not open", e.origin)));
    };
    if let Some(known) = origin.intents.get(e.size) {
        let message = origin.intents.message_sha256(e.size);
        let same = message.is_some_and(|it| it[..] == e.message_sha256[..]);
        return if known.root[..] == e.root[..] && same {
            Ok(Vec::new()) // recovery signs the same bytes again
        } else {
            Err(refused(format!(
                "size {} of {} already has another root; signing stops for good",
                e.size, e.origin
            )))
        };
    }
    let last = origin.intents.last_size().unwrap_or(0);
    if e.old_size != last || e.size < e.old_size {
        return Err(refused(format!(
            "intent {} -> {} does not extend the last intended size {last}",
            e.old_size, e.size
        )));
    }
    // The caller may have read it before an order that it has acknowledged since.
    e.epoch = log.acknowledged_epoch(&e.node);
    Ok(vec![event(Kind::IntentRecorded(e))])
}

pub(super) fn publish(log: &LogControl, e: CheckpointPublished) -> Result<Vec<Event>, Rejection> {
    let origin = log.origin(&e.origin).ok_or_else(|| {
        Rejection::new(
            RejectionCode::NotFound,
            format!("origin {} is not known", e.origin),
        )
    })?;
    if origin.node != e.node {
        return Err(refused(format!(
            "node {} writes {}, not {}",
            origin.node, e.origin, e.node
        )));
    }
    if origin.published_size >= e.size {
        return Ok(Vec::new());
    }
    if origin
        .intents
        .get(e.size)
        .is_none_or(|intent| intent.root[..] != e.root[..])
    {
        let reason = format!(
            "size {} of {} was not intended with this root",
            e.size, e.origin
        );
        return Err(refused(reason));
    }
    Ok(vec![event(Kind::CheckpointPublished(e))])
}

pub(super) fn anchored(log: &LogControl, e: CheckpointAnchored) -> Result<Vec<Event>, Rejection> {
    let by = &e.tsa;
    let known = dated(log, (&e.origin, e.size, &e.root), by, &e.node)?;
    if e.note.is_empty() || e.token.is_empty() {
        return Err(invalid(format!("the anchor by {by} has no evidence")));
    }
    Ok(if known {
        Vec::new()
    } else {
        vec![event(Kind::CheckpointAnchored(e))]
    })
}

pub(super) fn cosigned(log: &LogControl, e: CheckpointCosigned) -> Result<Vec<Event>, Rejection> {
    let by = &e.witness;
    let known = dated(log, (&e.origin, e.size, &e.root), by, &e.node)?;
    if e.note.is_empty() {
        return Err(invalid(format!("the cosignature by {by} has no evidence")));
    }
    Ok(if known {
        Vec::new()
    } else {
        vec![event(Kind::CheckpointCosigned(e))]
    })
}

/// Whether this is known already: `by` dated this size. Only the writer records dates, and only of what it intended.
fn dated(
    log: &LogControl,
    (name, size, root): (&str, u64, &[u8]),
    by: &str,
    node: &str,
) -> Result<bool, Rejection> {
    let origin = log.origin(name).filter(|origin| origin.node == node);
    let origin =
        origin.ok_or_else(|| refused(format!("node {node} writes no origin {name:?} here")))?;
    if by.is_empty() || by.len() > MAX_DATED_BY {
        let reason = format!("{} bytes are no name; use 1 to {MAX_DATED_BY}", by.len());
        return Err(invalid(reason));
    }
    if origin
        .intents
        .get(size)
        .is_none_or(|intent| intent.root[..] != *root)
    {
        return Err(refused(format!(
            "size {size} of {name} was not intended with this root, so nobody's date of it counts"
        )));
    }
    Ok(origin.dated.contains_key(&(size, by.to_owned())))
}

pub(super) fn withhold(e: SignatureWithheld) -> Vec<Event> {
    vec![event(Kind::SignatureWithheld(e))]
}
