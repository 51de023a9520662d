//! Folding `log/<name>`.

use std::collections::BTreeMap;

use sealwarden_wire::event::v1::{
    CheckpointPublished, Directive, DirectiveAcknowledged, DirectiveKind, DirectiveRefused,
    Envelope, Event, HoldPlaced, IntentRecorded, OriginOpened, PermitGranted, PermitReleased,
    event::Kind,
};

use super::intents::{Intent, Intents};
use super::state::{
    Ack, DirectiveState, Grant, Hold, LogControl, NodeRefusal, Origin, OutsideTime,
    directive_input, is_name,
};
use crate::fold::{Fold, IllegalEvent};

impl Fold for LogControl {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "every other kind is illegal in a log's stream, new ones too"
    )]
    fn apply(&mut self, envelope: &Envelope, event: &Event) -> Result<(), IllegalEvent> {
        let Some(kind) = &event.kind else {
            return Ok(()); // written by a newer version: not known to this one
        };
        match kind {
            Kind::OriginOpened(e) => self.opened(envelope, e),
            Kind::PermitRequested(e) => {
                name(envelope, &e.node)?;
                self.requests
                    .insert(e.node.clone(), (e.request_id.clone(), e.origin.clone()));
                Ok(())
            }
            Kind::PermitGranted(e) => self.granted(envelope, e),
            Kind::PermitReleased(e) => {
                self.released(e);
                Ok(())
            }
            Kind::IntentRecorded(e) => self.intended(envelope, e),
            Kind::CheckpointPublished(e) => self.published(envelope, e),
            Kind::HoldPlaced(e) => {
                self.held(envelope, e);
                Ok(())
            }
            Kind::DirectiveIssued(e) => {
                let Some(directive) = &e.directive else {
                    return Err(illegal(envelope, "a directive without content"));
                };
                self.issued(envelope, directive)
            }
            Kind::DirectiveAcknowledged(e) => self.acknowledged(envelope, e),
            Kind::DirectiveRefused(e) => self.refused(envelope, e),
            Kind::Fenced(e) => self.fenced(envelope, e.epoch),
            Kind::Isolated(e) => self.isolated(envelope, e.epoch),
            Kind::SignatureWithheld(_) => Ok(()),
            Kind::CheckpointAnchored(e) => {
                self.dated(envelope, (&e.origin, e.size, &e.root), &e.tsa, e.time_ms)
            }
            Kind::CheckpointCosigned(e) => self.dated(
                envelope,
                (&e.origin, e.size, &e.root),
                &e.witness,
                e.time_ms,
            ),
            Kind::SignerAdded(e) => {
                name(envelope, &e.node)?;
                self.signer_added(envelope, e)
            }
            Kind::SignersActivated(e) => self.signers_activated(envelope, e),
            Kind::SignerRetired(e) => self.signer_retired(envelope, e),
            Kind::KeyLifeChanged(e) => self.key_life_changed(envelope, e),
            Kind::KeyPressureChanged(e) => self.key_pressure_changed(envelope, e),
            _ => Err(illegal(
                envelope,
                "an event of another stream in a log's stream",
            )),
        }
    }
}

impl LogControl {
    fn isolated(&mut self, envelope: &Envelope, epoch: u64) -> Result<(), IllegalEvent> {
        let directive = self.directive_mut(envelope, epoch)?;
        if directive.fenced_at_ms.is_none() {
            let reason = format!("directive {epoch} is isolated unfenced");
            return Err(illegal(envelope, reason));
        }
        directive
            .isolated_at_ms
            .get_or_insert(envelope.recorded_at_ms);
        Ok(())
    }

    fn held(&mut self, envelope: &Envelope, e: &HoldPlaced) {
        self.holds.push(Hold {
            incident: e.incident.clone(),
            signal: e.signal.clone(),
            origin: e.origin.clone(),
            expires_at_ms: e.expires_at_ms,
            position: envelope.position,
        });
    }

    fn refused(&mut self, envelope: &Envelope, e: &DirectiveRefused) -> Result<(), IllegalEvent> {
        name(envelope, &e.node)?;
        if !self.is_believable(&e.node, e.epoch, &e.note) {
            return Ok(());
        }
        let directive = self.directive_mut(envelope, e.epoch)?;
        directive
            .refusals
            .entry(e.node.clone())
            .or_insert_with(|| NodeRefusal {
                reason: e.reason.clone(),
                note: e.note.clone(),
            });
        Ok(())
    }

    fn fenced(&mut self, envelope: &Envelope, epoch: u64) -> Result<(), IllegalEvent> {
        let directive = self.directive_mut(envelope, epoch)?;
        if directive.kind() != DirectiveKind::IsolateKey {
            return Err(illegal(
                envelope,
                format!("directive {epoch} isolates nothing"),
            ));
        }
        directive
            .fenced_at_ms
            .get_or_insert(envelope.recorded_at_ms);
        Ok(())
    }

    fn opened(&mut self, envelope: &Envelope, e: &OriginOpened) -> Result<(), IllegalEvent> {
        name(envelope, &e.node)?;
        if e.origin.is_empty()
            || e.origin
                .contains(|c: char| c.is_whitespace() || c.is_control())
        {
            return Err(illegal(envelope, format!("{:?} is no origin", e.origin)));
        }
        if self.origin(&e.origin).is_some() {
            return Err(illegal(
                envelope,
                format!("origin {} is opened twice", e.origin),
            ));
        }
        if e.epoch != 0 || self.current().is_some() {
            let rotation = self.directive_mut(envelope, e.epoch)?;
            if rotation.kind() != DirectiveKind::RotateOrigin || rotation.opened.is_some() {
                let reason = format!("directive {} opens no origin {}", e.epoch, e.origin);
                return Err(illegal(envelope, reason));
            }
            rotation.opened = Some(e.origin.clone());
        }
        self.origins.push(Origin {
            origin: e.origin.clone(),
            vkey: e.vkey.clone(),
            key_id: e.key_id.clone(),
            provider: e.provider.clone(),
            provider_can_disable: e.provider_can_disable,
            node: e.node.clone(),
            predecessor: e.predecessor.clone(),
            opened_at_ms: envelope.recorded_at_ms,
            signers: Origin::opening_signers(e, envelope.recorded_at_ms),
            intents: Intents::of(&e.origin),
            published_size: 0,
            dated: BTreeMap::new(),
            isolation: None,
            compromised_since_ms: None,
        });
        Ok(())
    }

    fn granted(&mut self, envelope: &Envelope, e: &PermitGranted) -> Result<(), IllegalEvent> {
        let asked = self.requests.get(&e.node);
        if asked.is_none_or(|(id, origin)| *id != e.request_id || *origin != e.origin) {
            let reason = format!(
                "node {} gets a permit {} that it does not ask for",
                e.node, e.request_id
            );
            return Err(illegal(envelope, reason));
        }
        let origin = self.origin_mut(envelope, &e.origin)?;
        if let Some(epoch) = origin.isolation {
            let reason = format!(
                "a permit of {} follows its isolation by directive {epoch}",
                e.origin
            );
            return Err(illegal(envelope, reason));
        }
        if origin.node != e.node {
            let reason = format!(
                "node {} gets a permit of {}, which {} writes",
                e.node, e.origin, origin.node
            );
            return Err(illegal(envelope, reason));
        }
        self.requests.remove(&e.node);
        let span = e
            .lifetime_ms
            .saturating_add(e.key_deadline_ms)
            .saturating_add(e.drift_ms);
        let mut grant = Grant {
            request_id: e.request_id.clone(),
            origin: e.origin.clone(),
            lifetime_ms: e.lifetime_ms,
            key_deadline_ms: e.key_deadline_ms,
            drift_ms: e.drift_ms,
            released: false,
            span_ms: span,
            earlier: Vec::new(),
        };
        if let Some(mut before) = self.grants.remove(&e.node) {
            grant.earlier = std::mem::take(&mut before.earlier);
            grant.earlier.push(before);
            grant.earlier.retain(|old| {
                if old.origin == grant.origin && !old.released {
                    grant.span_ms = grant.span_ms.max(old.span_ms);
                }
                old.origin != grant.origin
            });
        }
        self.grants.insert(e.node.clone(), grant);
        Ok(())
    }

    fn released(&mut self, e: &PermitReleased) {
        let mut known = self
            .requests
            .get(&e.node)
            .is_some_and(|(id, _)| *id == e.request_id);
        if let Some(grant) = self.grants.get_mut(&e.node)
            && grant.request_id == e.request_id
        {
            grant.released = true;
            known = true;
        }
        if known {
            // A node that gives up wants no answer to what it asked for before.
            self.requests.remove(&e.node);
        }
    }

    fn acknowledged(
        &mut self,
        envelope: &Envelope,
        e: &DirectiveAcknowledged,
    ) -> Result<(), IllegalEvent> {
        name(envelope, &e.node)?;
        if !self.is_believable(&e.node, e.epoch, &e.note) {
            return Ok(());
        }
        let newest = self.acknowledged_epoch(&e.node);
        if newest > e.epoch {
            let reason = format!(
                "node {} acknowledges epoch {} after epoch {newest}",
                e.node, e.epoch
            );
            return Err(illegal(envelope, reason));
        }
        let ack = Ack {
            note: e.note.clone(),
            position: envelope.position,
            at_ms: envelope.recorded_at_ms,
        };
        self.directive_mut(envelope, e.epoch)?
            .acks
            .entry(e.node.clone())
            .or_insert(ack);
        Ok(())
    }

    /// What is published was intended. A fold that was begun without the older intents knows no more than the newer ones.
    fn published(
        &mut self,
        envelope: &Envelope,
        e: &CheckpointPublished,
    ) -> Result<(), IllegalEvent> {
        let root = bytes32(envelope, "root", &e.root)?;
        let origin = self.origin_mut(envelope, &e.origin)?;
        let other = origin
            .intents
            .get(e.size)
            .is_some_and(|intent| intent.root != root);
        let beyond = origin.intents.last_size().is_some_and(|last| e.size > last);
        if other || beyond {
            return Err(illegal(
                envelope,
                format!(
                    "size {} of {} is published without intent",
                    e.size, e.origin
                ),
            ));
        }
        origin.published_size = origin.published_size.max(e.size);
        Ok(())
    }

    /// Only what the log intended is worth a date; the first word of each counts.
    fn dated(
        &mut self,
        envelope: &Envelope,
        (origin, size, root): (&str, u64, &[u8]),
        by: &str,
        time_ms: i64,
    ) -> Result<(), IllegalEvent> {
        let root = bytes32(envelope, "root", root)?;
        let position = envelope.position;
        let origin = self.origin_mut(envelope, origin)?;
        if origin
            .intents
            .get(size)
            .is_some_and(|intent| intent.root == root)
        {
            origin
                .dated
                .entry((size, by.to_owned()))
                .or_insert(OutsideTime { time_ms, position });
        }
        Ok(())
    }

    fn intended(&mut self, envelope: &Envelope, e: &IntentRecorded) -> Result<(), IllegalEvent> {
        let root = bytes32(envelope, "root", &e.root)?;
        let message_sha256 = bytes32(envelope, "message_sha256", &e.message_sha256)?;
        let at_ms = envelope.recorded_at_ms;
        let position = envelope.position;
        let origin = self.origin_mut(envelope, &e.origin)?;
        if let Some(known) = origin.intents.get(e.size) {
            if known.root != root || origin.intents.message_sha256(e.size) != Some(message_sha256) {
                return Err(illegal(
                    envelope,
                    format!("size {} of {} gets a second root", e.size, e.origin),
                ));
            }
            return Ok(());
        }
        origin.count_use();
        let intent = Intent {
            root,
            at_ms,
            position,
        };
        origin.intents.insert(e.size, message_sha256, intent);
        Ok(())
    }

    fn issued(&mut self, envelope: &Envelope, directive: &Directive) -> Result<(), IllegalEvent> {
        if self.epoch().checked_add(1) != Some(directive.epoch) {
            let reason = format!("epoch {} follows epoch {}", directive.epoch, self.epoch());
            return Err(illegal(envelope, reason));
        }
        if directive.kind() == DirectiveKind::IsolateKey {
            // Without one it would be fenced at once, and nothing would be.
            let name = directive_input(directive, "origin")
                .ok_or_else(|| illegal(envelope, "an isolation names no origin"))?
                .to_owned();
            let since = directive_input(directive, "compromised-since")
                .and_then(|text| text.parse::<jiff::Timestamp>().ok())
                .map(jiff::Timestamp::as_millisecond);
            let origin = self.origin_mut(envelope, &name)?;
            origin.isolation.get_or_insert(directive.epoch);
            origin.compromised_since_ms = match (origin.compromised_since_ms, since) {
                (Some(known), Some(new)) => Some(known.min(new)), // it only ever moves to earlier
                (known, new) => known.or(new),
            };
        }
        self.directives.insert(
            directive.epoch,
            DirectiveState {
                directive: directive.clone(),
                position: envelope.position,
                opened: None,
                acks: BTreeMap::new(),
                refusals: BTreeMap::new(),
                fenced_at_ms: None,
                isolated_at_ms: None,
            },
        );
        Ok(())
    }

    pub(super) fn origin_mut(
        &mut self,
        envelope: &Envelope,
        name: &str,
    ) -> Result<&mut Origin, IllegalEvent> {
        self.origins
            .iter_mut()
            .find(|o| o.origin == name)
            .ok_or_else(|| illegal(envelope, format!("origin {name} was never opened")))
    }

    fn directive_mut(
        &mut self,
        envelope: &Envelope,
        epoch: u64,
    ) -> Result<&mut DirectiveState, IllegalEvent> {
        self.directives
            .get_mut(&epoch)
            .ok_or_else(|| illegal(envelope, format!("directive {epoch} was never issued")))
    }
}

fn bytes32(envelope: &Envelope, name: &str, bytes: &[u8]) -> Result<[u8; 32], IllegalEvent> {
    bytes.try_into().map_err(|_| {
        illegal(
            envelope,
            format!("{name} has {} bytes, not 32", bytes.len()),
        )
    })
}

/// Names become parts of file names and of signed lines, so they are made of what a stream's id is made of.
fn name(envelope: &Envelope, node: &str) -> Result<(), IllegalEvent> {
    if is_name(node) {
        Ok(())
    } else {
        Err(illegal(envelope, format!("{node:?} is no node's name")))
    }
}

fn illegal(envelope: &Envelope, reason: impl Into<String>) -> IllegalEvent {
    IllegalEvent::new(envelope, reason)
}
