//! Folding `log/<name>`.

use std::collections::BTreeMap;

use sealwarden_wire::event::v1::{
    Directive, DirectiveKind, Envelope, Event, IntentRecorded, OriginOpened, event::Kind,
};

use super::state::{Ack, DirectiveState, Grant, Hold, Intent, LogControl, Origin, directive_input};
use crate::fold::{Fold, IllegalEvent};

impl Fold for LogControl {
    fn apply(&mut self, envelope: &Envelope, event: &Event) -> Result<(), IllegalEvent> {
        let Some(kind) = &event.kind else {
            return Ok(()); // written by a newer version: not known to this one
        };
        match kind {
            Kind::OriginOpened(e) => self.opened(envelope, e),
            Kind::PermitRequested(e) => {
                self.requests
                    .insert(e.node.clone(), (e.request_id.clone(), e.origin.clone()));
                Ok(())
            }
            Kind::PermitGranted(e) => {
                self.requests.remove(&e.node);
                let grant = Grant {
                    request_id: e.request_id.clone(),
                    origin: e.origin.clone(),
                    lifetime_ms: e.lifetime_ms,
                    key_deadline_ms: e.key_deadline_ms,
                    drift_ms: e.drift_ms,
                    released: false,
                };
                self.grants.insert(e.node.clone(), grant);
                Ok(())
            }
            Kind::PermitReleased(e) => {
                self.requests.remove(&e.node);
                if let Some(grant) = self.grants.get_mut(&e.node)
                    && grant.request_id == e.request_id
                {
                    grant.released = true;
                }
                Ok(())
            }
            Kind::IntentRecorded(e) => self.intended(envelope, e),
            Kind::CheckpointPublished(e) => {
                let origin = self.origin_mut(envelope, &e.origin)?;
                origin.published_size = origin.published_size.max(e.size);
                Ok(())
            }
            Kind::HoldPlaced(e) => {
                self.holds.push(Hold {
                    incident: e.incident.clone(),
                    signal: e.signal.clone(),
                    origin: e.origin.clone(),
                    expires_at_ms: e.expires_at_ms,
                    position: envelope.position,
                });
                Ok(())
            }
            Kind::DirectiveIssued(e) => {
                let Some(directive) = &e.directive else {
                    return Err(IllegalEvent::new(envelope, "a directive without content"));
                };
                self.issued(envelope, directive)
            }
            Kind::DirectiveAcknowledged(e) => {
                let ack = Ack {
                    note: e.note.clone(),
                    position: envelope.position,
                    at_ms: envelope.recorded_at_ms,
                };
                self.directive_mut(envelope, e.epoch)?.acks.insert(e.node.clone(), ack);
                Ok(())
            }
            Kind::DirectiveRefused(e) => {
                self.directive_mut(envelope, e.epoch)?
                    .refusals
                    .insert(e.node.clone(), e.reason.clone());
                Ok(())
            }
            Kind::Fenced(e) => {
                self.directive_mut(envelope, e.epoch)?.fenced_at_ms = Some(envelope.recorded_at_ms);
                Ok(())
            }
            Kind::Isolated(e) => {
                self.directive_mut(envelope, e.epoch)?.isolated_at_ms = Some(envelope.recorded_at_ms);
                Ok(())
            }
            Kind::SignatureWithheld(_) => Ok(()),
            Kind::KeyUseObserved(_)
            | Kind::CheckpointSighted(_)
            | Kind::SignalReported(_)
            | Kind::IncidentOpened(_)
            | Kind::SignalJoined(_)
            | Kind::IncidentClassified(_)
            | Kind::IncidentStageReached(_)
            | Kind::RunLinked(_)
            | Kind::EvidenceSealed(_)
            | Kind::RunStarted(_)
            | Kind::InputsResolved(_)
            | Kind::ApprovalRecorded(_)
            | Kind::ApprovalRefused(_)
            | Kind::StepStarted(_)
            | Kind::StepProgressed(_)
            | Kind::StepEnded(_)
            | Kind::StepUnknown(_)
            | Kind::RunEnded(_)
            | Kind::NodeEnrolled(_)
            | Kind::ServiceAnnounced(_)
            | Kind::TrustPublished(_)
            | Kind::SuspensionAdded(_) => {
                Err(IllegalEvent::new(envelope, "an event of another stream in a log's stream"))
            }
        }
    }
}

impl LogControl {
    fn opened(&mut self, envelope: &Envelope, e: &OriginOpened) -> Result<(), IllegalEvent> {
        if self.origin(&e.origin).is_some() {
            return Err(IllegalEvent::new(envelope, format!("origin {} is opened twice", e.origin)));
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
            intents: BTreeMap::new(),
            published_size: 0,
            isolation: None,
            compromised_since_ms: None,
        });
        Ok(())
    }

    fn intended(&mut self, envelope: &Envelope, e: &IntentRecorded) -> Result<(), IllegalEvent> {
        let root = bytes32(envelope, "root", &e.root)?;
        let message_sha256 = bytes32(envelope, "message_sha256", &e.message_sha256)?;
        let at_ms = envelope.recorded_at_ms;
        let position = envelope.position;
        let origin = self.origin_mut(envelope, &e.origin)?;
        if let Some(known) = origin.intents.get(&e.size)
            && known.root != root
        {
            let reason = format!("size {} of {} gets a second root", e.size, e.origin);
            return Err(IllegalEvent::new(envelope, reason));
        }
        origin.intents.entry(e.size).or_insert(Intent { root, message_sha256, at_ms, position });
        Ok(())
    }

    fn issued(&mut self, envelope: &Envelope, directive: &Directive) -> Result<(), IllegalEvent> {
        if directive.epoch != self.epoch() + 1 {
            let reason = format!("epoch {} follows epoch {}", directive.epoch, self.epoch());
            return Err(IllegalEvent::new(envelope, reason));
        }
        if directive.kind() == DirectiveKind::IsolateKey
            && let Some(name) = directive_input(directive, "origin").map(str::to_owned)
        {
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
                acks: BTreeMap::new(),
                refusals: BTreeMap::new(),
                fenced_at_ms: None,
                isolated_at_ms: None,
            },
        );
        Ok(())
    }

    fn origin_mut(&mut self, envelope: &Envelope, name: &str) -> Result<&mut Origin, IllegalEvent> {
        self.origins
            .iter_mut()
            .find(|o| o.origin == name)
            .ok_or_else(|| IllegalEvent::new(envelope, format!("origin {name} was never opened")))
    }

    fn directive_mut(
        &mut self,
        envelope: &Envelope,
        epoch: u64,
    ) -> Result<&mut DirectiveState, IllegalEvent> {
        self.directives
            .get_mut(&epoch)
            .ok_or_else(|| IllegalEvent::new(envelope, format!("directive {epoch} was never issued")))
    }
}

fn bytes32(envelope: &Envelope, name: &str, bytes: &[u8]) -> Result<[u8; 32], IllegalEvent> {
    bytes
        .try_into()
        .map_err(|_| IllegalEvent::new(envelope, format!("{name} has {} bytes, not 32", bytes.len())))
}
