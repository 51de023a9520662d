//! Orders about single keys: what each of them demands, and what it makes of a key's life.
//!
//! **Invariants**
//! - A key's life goes down (usable, isolated, revoked, destroyed) and comes up in one way: an order to restore an isolated one.
//! - An order of an older epoch changes nothing of what a newer one made of a key.
//! - Only keys of the current origin are restored: the tree of an origin that was replaced has ended.

use sealwarden_wire::event::v1::{
    Directive, DirectiveKind, Envelope, Event, KeyLife, KeyLifeChanged, SignersActivated,
    event::Kind,
};

use super::decide::{KeyChanges, invalid, refused};
use super::orders::not_found;
use super::signers::{Signer, SignerLife, SignerState};
use super::state::{DirectiveState, LogControl, Origin, directive_input, kind_name};
use crate::fold::{IllegalEvent, Rejection, event};

/// What a directive of this kind makes of keys; `None` if nothing.
fn life_by(kind: DirectiveKind) -> Option<KeyLife> {
    match kind {
        DirectiveKind::IsolateKey => Some(KeyLife::Isolated),
        DirectiveKind::RevokeKey => Some(KeyLife::Revoked),
        DirectiveKind::DestroyKey => Some(KeyLife::Destroyed),
        DirectiveKind::RestoreKey => Some(KeyLife::Restored),
        DirectiveKind::Unspecified
        | DirectiveKind::ReadOnly
        | DirectiveKind::RotateOrigin
        | DirectiveKind::Reseal
        | DirectiveKind::Open
        | DirectiveKind::Queue
        | DirectiveKind::QueueNoncritical => None,
    }
}

/// Whether an order about one key can be carried out: the key is there, and its life can go on like that.
pub(super) fn check(log: &LogControl, directive: &Directive) -> Result<(), Rejection> {
    let kind = directive.kind();
    let Some(life) = life_by(kind).filter(|_| kind != DirectiveKind::IsolateKey) else {
        return Ok(());
    };
    let name = directive_input(directive, "origin").unwrap_or_default();
    let key = directive_input(directive, "key").unwrap_or_default();
    let known = log
        .origin(name)
        .zip(log.origin(name).and_then(|it| it.signer(key)));
    let (origin, signer) =
        known.ok_or_else(|| not_found(format!("key {key} is no signer of {name}")))?;
    if signer.life == SignerLife::Revoked && life == KeyLife::Revoked {
        return Err(refused(format!("key {key} is revoked already")));
    }
    if signer.life == SignerLife::Destroyed && life == KeyLife::Destroyed {
        return Err(refused(format!("key {key} is destroyed already")));
    }
    after(signer, life).map_err(refused)?;
    match life {
        KeyLife::Revoked if since_ms(directive).is_none() => Err(invalid(format!(
            "{:?} is no time from which on the signatures of key {key} prove nothing (RFC 3339)",
            directive_input(directive, "compromised-since").unwrap_or_default()
        ))),
        KeyLife::Destroyed if signer.signs() => Err(refused(format!(
            "key {key} signs for {name}; revoke it, or rotate to another one, before it is destroyed"
        ))),
        KeyLife::Restored if log.current() != Some(origin) => Err(refused(format!(
            "{name} was replaced; its tree has ended, and its keys sign nothing any more"
        ))),
        KeyLife::Unspecified
        | KeyLife::Isolated
        | KeyLife::Revoked
        | KeyLife::Destroyed
        | KeyLife::Restored => Ok(()),
    }
}

/// What a key becomes, or why it does not.
fn after(signer: &Signer, life: KeyLife) -> Result<SignerLife, String> {
    let now = signer.life;
    let to = match life {
        KeyLife::Unspecified => return Ok(now), // of a newer version
        KeyLife::Restored if now == SignerLife::Isolated => return Ok(SignerLife::Usable),
        KeyLife::Restored => {
            return Err(format!(
                "key {} is {}, and only an isolated key is restored",
                signer.key_id,
                now.as_str()
            ));
        }
        KeyLife::Isolated => SignerLife::Isolated,
        KeyLife::Revoked => SignerLife::Revoked,
        KeyLife::Destroyed => SignerLife::Destroyed,
    };
    if to < now {
        return Err(format!(
            "key {} is {}, and does not become {} again",
            signer.key_id,
            now.as_str(),
            to.as_str()
        ));
    }
    Ok(to)
}

fn since_ms(directive: &Directive) -> Option<i64> {
    let text = directive_input(directive, "compromised-since")?;
    let since: jiff::Timestamp = text.parse().ok()?;
    Some(since.as_millisecond())
}

/// The events of what a directive made of keys, in the order in which they hold.
pub(super) fn changes(
    log: &LogControl,
    state: &DirectiveState,
    keys: KeyChanges,
    node: &str,
) -> Result<Vec<Event>, Rejection> {
    let KeyChanges { lives, signers } = keys;
    let mut events = Vec::new();
    let mut changed: Option<Origin> = None;
    for life in lives {
        let known = changed.take().or_else(|| log.origin(&life.origin).cloned());
        let Some(mut origin) = known else {
            return Err(not_found(format!("origin {} is not known", life.origin)));
        };
        if origin.signer(&life.key_id).is_none() {
            let reason = format!("key {} is no signer of {}", life.key_id, life.origin);
            return Err(not_found(reason));
        }
        if life.by != node {
            let reason = format!("node {node} cannot speak of a key for node {}", life.by);
            return Err(refused(reason));
        }
        origin
            .change_life(&life, &state.directive)
            .map_err(refused)?;
        changed = Some(origin);
        events.push(event(Kind::KeyLifeChanged(life)));
    }
    if let Some(change) = signers {
        check_signers(changed.as_ref(), state, &change).map_err(refused)?;
        events.push(event(Kind::SignersActivated(change)));
    }
    Ok(events)
}

/// Who signs changes with a key's life, and with nothing else.
fn check_signers(
    changed: Option<&Origin>,
    state: &DirectiveState,
    change: &SignersActivated,
) -> Result<(), String> {
    let kind = kind_name(state.kind());
    changed
        .filter(|origin| origin.origin == change.origin)
        .ok_or_else(|| {
            format!(
                "a {kind} directive does not change who signs for {}",
                change.origin
            )
        })?
        .check_activation(change)
}

impl Origin {
    /// A key's life goes on by a directive.
    fn change_life(&mut self, e: &KeyLifeChanged, directive: &Directive) -> Result<(), String> {
        let name = self.origin.clone();
        let does = life_by(directive.kind());
        let only = directive_input(directive, "key").filter(|_| does != Some(KeyLife::Isolated));
        let fits = does == Some(e.life())
            && directive_input(directive, "origin") == Some(name.as_str())
            && only.is_none_or(|key| key == e.key_id)
            && e.epoch == directive.epoch;
        if !fits {
            return Err(format!(
                "directive {} ({}) does not make that of key {} of {name}",
                directive.epoch,
                kind_name(directive.kind()),
                e.key_id
            ));
        }
        let signer = self.signers.iter_mut().find(|it| it.key_id == e.key_id);
        let signer = signer.ok_or_else(|| format!("key {} is no signer of {name}", e.key_id))?;
        if signer.life_epoch > e.epoch {
            return Err(format!(
                "directive {} made key {} {}; directive {} is older and undoes nothing",
                signer.life_epoch,
                e.key_id,
                signer.life.as_str(),
                e.epoch
            ));
        }
        signer.life = after(signer, e.life())?;
        signer.life_epoch = e.epoch;
        if signer.state != SignerState::Retired {
            signer.state = SignerState::Standby;
        }
        if signer.life == SignerLife::Revoked {
            signer.revoked_since_ms = since_ms(directive);
        }
        if e.life() == KeyLife::Restored {
            self.isolation = None;
            self.compromised_since_ms = None;
        }
        Ok(())
    }
}

impl LogControl {
    pub(super) fn key_life_changed(
        &mut self,
        envelope: &Envelope,
        e: &KeyLifeChanged,
    ) -> Result<(), IllegalEvent> {
        if e.life() == KeyLife::Unspecified {
            return Ok(()); // of a newer version
        }
        let illegal = |reason: String| IllegalEvent::new(envelope, reason);
        let Some(directive) = self.directives.get(&e.epoch).map(|it| it.directive.clone()) else {
            return Err(illegal(format!(
                "the life of key {} changes by directive {}, which was never issued",
                e.key_id, e.epoch
            )));
        };
        self.origin_mut(envelope, &e.origin)?
            .change_life(e, &directive)
            .map_err(illegal)
    }
}
