//! The keys that sign for an origin: which there are, which of them sign each checkpoint, and how that changes.
//!
//! **Invariants**
//! - An origin has at least the signer that it was opened with. One without any event about signers has exactly that one, active.
//! - A retired signer never signs again; a key that is isolated, revoked or destroyed does not sign.
//! - After an order to isolate the origin no key is added and none is activated.
//! - Who signs changes by an event beside the intents, decided on the newest state: two nodes or two tasks never take two different ways.

use std::collections::BTreeSet;

use sealwarden_seal::note::Vkey;
use sealwarden_wire::event::v1::{
    ActivationReason, Envelope, Event, KeyPressureChanged, OriginOpened, SignerAdded,
    SignerRetired, SignersActivated, event::Kind,
};

use super::decide::{invalid, not_now, refused};
use super::state::{LogControl, Origin, is_name};
use crate::fold::{IllegalEvent, Rejection, RejectionCode, event};

/// The most signers of one origin: trust bundles list no more keys of a log.
pub const MAX_SIGNERS: usize = 16;

/// What attests nothing.
const NO_ATTESTATION: &str = "none";

/// What a signer does for its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SignerState {
    /// It is there and does not sign.
    Standby,
    /// It signs each checkpoint.
    Active,
    /// It signs each checkpoint beside the active ones, and is to be retired.
    Overlapping,
    /// It never signs again.
    Retired,
}

impl SignerState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standby => "standby",
            Self::Active => "active",
            Self::Overlapping => "overlapping",
            Self::Retired => "retired",
        }
    }
}

/// What orders have made of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SignerLife {
    /// Nothing keeps it from being used.
    Usable,
    /// Refused with its whole origin.
    Isolated,
    /// Refused by itself.
    Revoked,
    /// Gone.
    Destroyed,
}

impl SignerLife {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Usable => "usable",
            Self::Isolated => "isolated",
            Self::Revoked => "revoked",
            Self::Destroyed => "destroyed",
        }
    }
}

/// A key that may sign for an origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// Verifier key, named like the origin.
    pub vkey: String,
    /// Key at the provider.
    pub key_id: String,
    /// Provider's name.
    pub provider: String,
    /// `ed25519` or `ml-dsa-44`.
    pub algorithm: String,
    /// Whether the provider can stop every copy of the key.
    pub provider_can_disable: bool,
    /// The format of the provider's attestation, or `none`.
    pub attestation: String,
    /// Who asked for it; empty for the node itself.
    pub added_by: String,
    /// When it was added, Unix milliseconds.
    pub added_at_ms: i64,
    /// When it began to sign last, Unix milliseconds; none if it never did.
    pub activated_at_ms: Option<i64>,
    /// Checkpoints that it was to sign.
    pub uses: u64,
    /// What it does.
    pub state: SignerState,
    /// What orders have made of it.
    pub life: SignerLife,
    /// Epoch of the directive that did; 0 where none has.
    pub life_epoch: u64,
    /// Once it is revoked: since when its signatures prove nothing by themselves, Unix milliseconds.
    pub revoked_since_ms: Option<i64>,
}

impl Signer {
    /// The one that an origin is opened with.
    fn of_opening(e: &OriginOpened, at_ms: i64) -> Self {
        Self {
            vkey: e.vkey.clone(),
            key_id: e.key_id.clone(),
            provider: e.provider.clone(),
            algorithm: "ed25519".to_owned(),
            provider_can_disable: e.provider_can_disable,
            attestation: NO_ATTESTATION.to_owned(),
            added_by: String::new(),
            added_at_ms: at_ms,
            activated_at_ms: Some(at_ms),
            uses: 0,
            state: SignerState::Active,
            life: SignerLife::Usable,
            life_epoch: 0,
            revoked_since_ms: None,
        }
    }

    /// Whether it signs each checkpoint now.
    pub fn signs(&self) -> bool {
        let on_duty = match self.state {
            SignerState::Active | SignerState::Overlapping => true,
            SignerState::Standby | SignerState::Retired => false,
        };
        on_duty && self.life == SignerLife::Usable
    }

    /// Whether it could be activated.
    pub fn is_ready(&self) -> bool {
        self.state != SignerState::Retired && self.life == SignerLife::Usable
    }

    fn says(&self, e: &SignerAdded) -> bool {
        self.vkey == e.vkey
            && self.key_id == e.key_id
            && self.provider == e.provider
            && self.algorithm == e.algorithm
            && self.attestation == attestation(e)
    }
}

fn attestation(e: &SignerAdded) -> &str {
    if e.attestation.is_empty() {
        NO_ATTESTATION
    } else {
        &e.attestation
    }
}

/// What a node does by itself because its key provider is slow or away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPressure {
    /// Provider.
    pub provider: String,
    /// In words.
    pub reason: String,
    /// Since when, Unix milliseconds.
    pub since_ms: i64,
}

impl Origin {
    /// The signers that the origin begins with.
    pub(super) fn opening_signers(e: &OriginOpened, at_ms: i64) -> Vec<Signer> {
        vec![Signer::of_opening(e, at_ms)]
    }

    /// The signer with this key.
    pub fn signer(&self, key_id: &str) -> Option<&Signer> {
        self.signers.iter().find(|it| it.key_id == key_id)
    }

    /// Those that sign each checkpoint now, in the order they were added.
    pub fn signing(&self) -> impl Iterator<Item = &Signer> {
        self.signers.iter().filter(|it| it.signs())
    }

    /// The ids of the keys that sign now.
    pub fn signing_keys(&self) -> Vec<String> {
        self.signing().map(|it| it.key_id.clone()).collect()
    }

    /// Every key that signed for the origin or may, as verifier keys. What cannot be read is none.
    pub fn vkeys(&self) -> Vec<Vkey> {
        self.signers
            .iter()
            .filter_map(|it| it.vkey.parse().ok())
            .collect()
    }

    /// The key that waits to take over from an active one in a planned rotation, and that one: a younger key of the same provider and algorithm that never signed.
    pub fn planned(&self) -> Option<(&Signer, &Signer)> {
        self.signers.iter().rev().find_map(|new| {
            let waits = new.state == SignerState::Standby
                && new.life == SignerLife::Usable
                && new.activated_at_ms.is_none();
            let takes_over = |old: &&Signer| {
                old.state == SignerState::Active
                    && old.provider == new.provider
                    && old.algorithm == new.algorithm
                    && old.added_at_ms <= new.added_at_ms
            };
            Some(new)
                .filter(|_| waits)
                .zip(self.signing().find(takes_over))
        })
    }

    /// An algorithm that signed for the origin and of which no key does any more: each is revoked, destroyed or isolated.
    pub fn lacking(&self) -> Option<&str> {
        let signed = self
            .signers
            .iter()
            .filter(|it| it.activated_at_ms.is_some());
        let mut algorithms = signed.map(|it| it.algorithm.as_str());
        algorithms.find(|algorithm| self.signing().all(|it| it.algorithm != *algorithm))
    }

    /// Counts a use of each key that signs.
    pub(super) fn count_use(&mut self) {
        for signer in self.signers.iter_mut().filter(|it| it.signs()) {
            signer.uses = signer.uses.saturating_add(1);
        }
    }

    /// What it takes for `change` to be possible, or why it is not.
    pub(super) fn check_activation(&self, change: &SignersActivated) -> Result<(), String> {
        if let Some(epoch) = self.isolation {
            return Err(format!(
                "directive {epoch} isolates {}, so that none of its keys is activated",
                self.origin
            ));
        }
        if change.active.is_empty() {
            return Err(format!("{} would have no active signer", self.origin));
        }
        let mut named = BTreeSet::new();
        for key in change.active.iter().chain(&change.overlapping) {
            let signer = self
                .signer(key)
                .ok_or_else(|| format!("key {key} is no signer of {}", self.origin))?;
            if !signer.is_ready() {
                return Err(format!(
                    "key {key} is {} and {}: it does not sign for {} any more",
                    signer.state.as_str(),
                    signer.life.as_str(),
                    self.origin
                ));
            }
            if !named.insert(key) {
                return Err(format!("key {key} is named twice"));
            }
        }
        Ok(())
    }

    fn check_addition(&self, e: &SignerAdded) -> Result<(), String> {
        if let Some(epoch) = self.isolation {
            return Err(format!(
                "directive {epoch} isolates {}, so that it gets no other key",
                self.origin
            ));
        }
        if e.node != self.node {
            return Err(format!(
                "node {} writes {}, not {}",
                self.node, self.origin, e.node
            ));
        }
        if e.key_id.is_empty() || e.vkey.is_empty() {
            return Err("a signer without key".to_owned());
        }
        let same = self
            .signers
            .iter()
            .find(|it| it.key_id == e.key_id || it.vkey == e.vkey);
        if same.is_some_and(|it| it.key_id != e.key_id || it.vkey != e.vkey) {
            return Err(format!(
                "key {} or its verifier key is another signer's of {}",
                e.key_id, self.origin
            ));
        }
        if same.is_none() && self.signers.len() >= MAX_SIGNERS {
            return Err(format!(
                "{} has {MAX_SIGNERS} signers, which is as many as a trust bundle lists; rotate the origin",
                self.origin
            ));
        }
        Ok(())
    }

    /// Retiring the last key that signs would leave the origin without one.
    fn check_retirement(&self, key_id: &str) -> Result<(), String> {
        let signer = self
            .signer(key_id)
            .ok_or_else(|| format!("key {key_id} is no signer of {}", self.origin))?;
        let others = self.signing().filter(|it| it.key_id != key_id).count();
        if signer.signs() && others == 0 {
            return Err(format!(
                "key {key_id} is the only one that signs for {}",
                self.origin
            ));
        }
        Ok(())
    }
}

impl LogControl {
    pub(super) fn signer_added(
        &mut self,
        envelope: &Envelope,
        e: &SignerAdded,
    ) -> Result<(), IllegalEvent> {
        let at_ms = envelope.recorded_at_ms;
        let taken = self
            .origins
            .iter()
            .any(|o| o.origin != e.origin && o.signers.iter().any(|it| it.vkey == e.vkey));
        let origin = self.origin_mut(envelope, &e.origin)?;
        let checked = if taken {
            Err(format!("key {} is another origin's", e.key_id))
        } else {
            origin.check_addition(e)
        };
        checked.map_err(|reason| IllegalEvent::new(envelope, reason))?;
        let signer = Signer {
            vkey: e.vkey.clone(),
            key_id: e.key_id.clone(),
            provider: e.provider.clone(),
            algorithm: e.algorithm.clone(),
            provider_can_disable: e.provider_can_disable,
            attestation: attestation(e).to_owned(),
            added_by: e.by.clone(),
            added_at_ms: at_ms,
            activated_at_ms: None,
            uses: 0,
            state: SignerState::Standby,
            life: SignerLife::Usable,
            life_epoch: 0,
            revoked_since_ms: None,
        };
        match origin.signers.iter_mut().find(|it| it.key_id == e.key_id) {
            // More is known of it than before; what it does stays.
            Some(known) => {
                known.algorithm = signer.algorithm;
                known.attestation = signer.attestation;
                known.provider = signer.provider;
            }
            None => origin.signers.push(signer),
        }
        Ok(())
    }

    pub(super) fn signers_activated(
        &mut self,
        envelope: &Envelope,
        e: &SignersActivated,
    ) -> Result<(), IllegalEvent> {
        let at_ms = envelope.recorded_at_ms;
        let origin = self.origin_mut(envelope, &e.origin)?;
        origin
            .check_activation(e)
            .map_err(|reason| IllegalEvent::new(envelope, reason))?;
        for signer in &mut origin.signers {
            let before = signer.signs();
            signer.state = if e.active.contains(&signer.key_id) {
                SignerState::Active
            } else if e.overlapping.contains(&signer.key_id) {
                SignerState::Overlapping
            } else if signer.state == SignerState::Retired {
                SignerState::Retired
            } else {
                SignerState::Standby
            };
            if signer.signs() && !before {
                signer.activated_at_ms = Some(at_ms);
                if e.reason() == ActivationReason::Failover {
                    // It signs what the other one was intended to.
                    signer.uses = signer.uses.saturating_add(1);
                }
            }
        }
        Ok(())
    }

    pub(super) fn signer_retired(
        &mut self,
        envelope: &Envelope,
        e: &SignerRetired,
    ) -> Result<(), IllegalEvent> {
        let origin = self.origin_mut(envelope, &e.origin)?;
        origin
            .check_retirement(&e.key_id)
            .map_err(|reason| IllegalEvent::new(envelope, reason))?;
        for signer in origin.signers.iter_mut().filter(|it| it.key_id == e.key_id) {
            signer.state = SignerState::Retired;
        }
        Ok(())
    }

    pub(super) fn key_pressure_changed(
        &mut self,
        envelope: &Envelope,
        e: &KeyPressureChanged,
    ) -> Result<(), IllegalEvent> {
        if !is_name(&e.node) {
            let reason = format!("{:?} is no node's name", e.node);
            return Err(IllegalEvent::new(envelope, reason));
        }
        if e.diverting {
            let pressure = KeyPressure {
                provider: e.provider.clone(),
                reason: e.reason.clone(),
                since_ms: envelope.recorded_at_ms,
            };
            self.pressure.insert(e.node.clone(), pressure);
        } else {
            self.pressure.remove(&e.node);
        }
        Ok(())
    }
}

fn writers_origin<'a>(
    log: &'a LogControl,
    name: &str,
    node: &str,
) -> Result<&'a Origin, Rejection> {
    let origin = log.origin(name).ok_or_else(|| {
        Rejection::new(
            RejectionCode::NotFound,
            format!("origin {name} is not known"),
        )
    })?;
    if log
        .current()
        .is_none_or(|current| current.origin != origin.origin)
    {
        return Err(refused(format!("{name} is not the log's current origin")));
    }
    if origin.node != node {
        return Err(refused(format!(
            "node {} writes {name}, not {node}",
            origin.node
        )));
    }
    Ok(origin)
}

/// Whether two verifier keys are one key, whatever they are called: the name of an origin is part of the text.
pub(super) fn is_same_key(one: &str, other: &str) -> bool {
    let material = |vkey: &str| vkey.splitn(3, '+').nth(2).map(str::to_owned);
    one == other || material(one).is_some_and(|it| material(other) == Some(it))
}

pub(super) fn add(log: &LogControl, e: SignerAdded) -> Result<Vec<Event>, Rejection> {
    let origin = writers_origin(log, &e.origin, &e.node)?;
    if origin.signer(&e.key_id).is_some_and(|known| known.says(&e)) {
        return Ok(Vec::new());
    }
    let taken = log
        .origins
        .iter()
        .filter(|o| o.origin != e.origin)
        .any(|o| o.signers.iter().any(|it| is_same_key(&it.vkey, &e.vkey)));
    if taken {
        return Err(refused(format!(
            "key {} is another origin's; a new signer needs a new key",
            e.key_id
        )));
    }
    let is_named = |vkey: &Vkey| vkey.name() == e.origin;
    if !e.vkey.parse::<Vkey>().is_ok_and(|vkey| is_named(&vkey)) {
        return Err(invalid(format!(
            "{:?} is no verifier key of {}",
            e.vkey, e.origin
        )));
    }
    origin.check_addition(&e).map_err(refused)?;
    Ok(vec![event(Kind::SignerAdded(e))])
}

/// Decided only if the keys that sign now are those that the caller saw: what somebody else changed meanwhile is looked at again.
pub(super) fn activate(
    log: &LogControl,
    node: &str,
    seen: &[String],
    change: SignersActivated,
) -> Result<Vec<Event>, Rejection> {
    let origin = writers_origin(log, &change.origin, node)?;
    let ids = |state: SignerState| -> Vec<&String> {
        let of_state = origin
            .signing()
            .filter(|it| it.state == state)
            .map(|it| &it.key_id);
        of_state.collect()
    };
    let same = |now: Vec<&String>, wanted: &[String]| {
        let (now, wanted): (BTreeSet<_>, BTreeSet<_>) =
            (now.into_iter().collect(), wanted.iter().collect());
        now == wanted
    };
    if same(ids(SignerState::Active), &change.active)
        && same(ids(SignerState::Overlapping), &change.overlapping)
    {
        return Ok(Vec::new());
    }
    if origin.signing_keys() != seen {
        return Err(not_now(format!(
            "{} is signed by {} meanwhile, not by {}",
            origin.origin,
            origin.signing_keys().join(", "),
            seen.join(", ")
        )));
    }
    if change.by.is_empty() || change.reason() == ActivationReason::Unspecified {
        return Err(invalid(
            "who signs is changed by somebody and for a reason; one of them is missing",
        ));
    }
    origin.check_activation(&change).map_err(refused)?;
    Ok(vec![event(Kind::SignersActivated(change))])
}

pub(super) fn retire(
    log: &LogControl,
    node: &str,
    e: SignerRetired,
) -> Result<Vec<Event>, Rejection> {
    let origin = writers_origin(log, &e.origin, node)?;
    let is_retired = |it: &Signer| it.state == SignerState::Retired;
    if origin.signer(&e.key_id).is_some_and(is_retired) {
        return Ok(Vec::new());
    }
    origin.check_retirement(&e.key_id).map_err(refused)?;
    Ok(vec![event(Kind::SignerRetired(e))])
}

pub(super) fn press(log: &LogControl, e: KeyPressureChanged) -> Result<Vec<Event>, Rejection> {
    writers_origin(log, &e.origin, &e.node)?;
    let known = log.pressure.get(&e.node);
    let same = match known {
        Some(known) => e.diverting && known.provider == e.provider && known.reason == e.reason,
        None => !e.diverting,
    };
    if same {
        return Ok(Vec::new());
    }
    Ok(vec![event(Kind::KeyPressureChanged(e))])
}
