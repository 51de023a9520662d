//! The fold of `trust/<installation>`.

use sealwarden_domain::certificates::Certificates;
use sealwarden_domain::{Fold, IllegalEvent};
use sealwarden_seal::merkle::Hash;
use sealwarden_wire::event::v1::{Envelope, Event, SuspensionAdded, TrustPublished, event::Kind};

/// Versions are published one after another, each once.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrustFacts {
    /// Every version, in order.
    pub(crate) published: Vec<TrustPublished>,
    /// Suspensions, in order.
    pub(crate) suspensions: Vec<SuspensionAdded>,
    /// Seal certificates.
    pub(crate) certificates: Certificates,
}

impl TrustFacts {
    /// Version and payload digest of the newest bundle.
    pub(crate) fn previous(&self) -> Option<(u64, Hash)> {
        let last = self.published.last()?;
        Some((last.version, Hash::from_hex(&last.digest).ok()?))
    }

    /// The version that was published for this reason.
    pub(crate) fn published_for(&self, reason: &str) -> Option<&TrustPublished> {
        self.published
            .iter()
            .find(|published| published.reason == reason)
    }

    /// A suspension of the origin from this time or an earlier one.
    pub(crate) fn suspended(&self, origin: &str, from_ms: i64) -> Option<&SuspensionAdded> {
        self.suspensions.iter().find(|added| {
            added.vkey.is_empty() && added.origin == origin && added.from_ms <= from_ms
        })
    }

    /// A suspension of this one key of the origin from this time or an earlier one.
    pub(crate) fn key_suspended(&self, vkey: &str, from_ms: i64) -> Option<&SuspensionAdded> {
        self.suspensions
            .iter()
            .find(|added| added.vkey == vkey && added.from_ms <= from_ms)
    }
}

impl Fold for TrustFacts {
    fn apply(&mut self, envelope: &Envelope, event: &Event) -> Result<(), IllegalEvent> {
        match &event.kind {
            // Written by a newer version, or of people and not of the log.
            None
            | Some(
                Kind::ApproverKeyRevoked(_)
                | Kind::RosterAdopted(_)
                | Kind::RosterProposed(_)
                | Kind::RosterDecided(_)
                | Kind::RosterChanged(_)
                | Kind::PersonAway(_),
            ) => {}
            Some(Kind::TrustPublished(e)) => {
                let next = self.published.last().map_or(1, |last| last.version + 1);
                if e.version != next {
                    return Err(IllegalEvent::new(
                        envelope,
                        format!("trust version {} follows {}", e.version, next - 1),
                    ));
                }
                if Hash::from_hex(&e.digest).is_err() {
                    return Err(IllegalEvent::new(
                        envelope,
                        format!("the digest {:?} is not 64 hex digits", e.digest),
                    ));
                }
                self.published.push(e.clone());
            }
            Some(Kind::SuspensionAdded(e)) => self.suspensions.push(e.clone()),
            Some(kind) if self.certificates.apply(envelope, kind)? => {}
            Some(_) => {
                return Err(IllegalEvent::new(
                    envelope,
                    "an event of another stream in a trust stream",
                ));
            }
        }
        Ok(())
    }
}
