//! What was told, folded.

use std::collections::{BTreeMap, BTreeSet};

use sealwarden_wire::event::v1::{
    DeliveryEnded, DeliveryOutcome, DeliveryStarted, Envelope, Event, NoticeDecided,
    NoticePrepared, event::Kind,
};

use super::approve::missing;
use crate::fold::{Fold, IllegalEvent};

/// Where a delivery on one channel stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryPhase {
    /// It is sent at or after this time, Unix milliseconds; 0 is at once.
    Waiting(i64),
    /// An attempt was started and has not ended.
    Sending,
    /// The other side has it.
    Delivered,
    /// The other side will not take it.
    Refused,
    /// No attempt is left.
    GivenUp,
}

/// A notice on one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Where it stands.
    pub phase: DeliveryPhase,
    /// Attempts that were started.
    pub attempts: u32,
    /// The key of the last attempt.
    pub key: String,
    /// How the last attempt ended, in words.
    pub reason: String,
    /// When the last thing happened, Unix milliseconds.
    pub at_ms: i64,
}

/// What a person said, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// `person NAME`
    pub by: String,
    /// What they wrote; may be empty.
    pub note: String,
    /// When it was recorded, Unix milliseconds.
    pub at_ms: i64,
}

/// A notice.
#[derive(Clone, Debug, PartialEq)]
pub struct NoticeState {
    /// As it was prepared.
    pub prepared: NoticePrepared,
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// By channel.
    pub deliveries: BTreeMap<String, Delivery>,
    /// Decisions in order of time; the last of each person stands.
    pub decided: Vec<NoticeDecided>,
    /// Since when it may be sent, Unix milliseconds: from its beginning, or since its quorum was met at a time at which all approvals were good.
    pub freed_at_ms: Option<i64>,
}

/// Folded state of `communication/<incident>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Communication {
    /// Notices in order; number n stands at n - 1.
    pub notices: Vec<NoticeState>,
    /// What they cover.
    pub covered: BTreeSet<String>,
    /// Who took care, in order of time.
    pub acknowledged: Vec<Word>,
    /// Nonces of decisions.
    pub nonces: BTreeSet<String>,
}

/// How often and when a delivery is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts altogether.
    pub attempts: u32,
    /// The pause after the first, milliseconds; each further one doubles it.
    pub first_ms: i64,
    /// The longest pause, milliseconds.
    pub last_ms: i64,
}

impl Retry {
    /// The pause after this attempt (from 1), longer by up to a half as `chance` (0 to 1000) says, so that channels do not come back together.
    pub fn pause_ms(&self, attempt: u32, chance: u16) -> i64 {
        let doublings = attempt.saturating_sub(1).min(30);
        let pause = self
            .first_ms
            .saturating_mul(1_i64 << doublings)
            .clamp(0, self.last_ms);
        pause.saturating_add(pause / 2 * i64::from(chance.min(1000)) / 1000)
    }
}

/// A delivery that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sending {
    /// Which notice.
    pub number: u32,
    /// On which channel.
    pub channel: String,
    /// Which attempt it is, from 1.
    pub attempt: u32,
}

/// The roles of which one person each has to approve the notice.
pub(super) fn awaited(notice: &NoticePrepared) -> &[String] {
    let NoticePrepared { awaits: roles, .. } = notice;
    roles
}

impl NoticeState {
    /// Whether a person's denial stands.
    pub fn is_denied(&self) -> bool {
        self.standing().any(|d| d.decision == "deny")
    }

    /// Whether it may be sent.
    pub fn is_free(&self) -> bool {
        !self.is_denied() && self.freed_at_ms.is_some()
    }

    /// The last decision of each person.
    pub fn standing(&self) -> impl Iterator<Item = &NoticeDecided> {
        self.decided.iter().enumerate().filter_map(|(index, d)| {
            let later = self.decided.iter().skip(index + 1);
            let replaced = later.into_iter().any(|other| other.person == d.person);
            (!replaced).then_some(d)
        })
    }
}

impl Communication {
    /// The notice of this number.
    pub fn notice(&self, number: u32) -> Option<&NoticeState> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.notices.get(index)
    }

    fn notice_mut(&mut self, number: u32) -> Option<&mut NoticeState> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.notices.get_mut(index)
    }

    /// The number of the next notice.
    pub fn next_number(&self) -> u32 {
        u32::try_from(self.notices.len())
            .unwrap_or(u32::MAX)
            .saturating_add(1)
    }

    fn prepared(&mut self, envelope: &Envelope, e: &NoticePrepared) -> Result<(), IllegalEvent> {
        if e.number != self.next_number() {
            let reason = format!("notice {} follows notice {}", e.number, self.notices.len());
            return Err(IllegalEvent::new(envelope, reason));
        }
        let waiting = Delivery {
            phase: DeliveryPhase::Waiting(0),
            attempts: 0,
            key: String::new(),
            reason: String::new(),
            at_ms: envelope.recorded_at_ms,
        };
        let channels = e.channels.iter();
        let deliveries = channels.map(|name| (name.clone(), waiting.clone()));
        self.covered.extend(e.covers.iter().cloned());
        self.notices.push(NoticeState {
            prepared: e.clone(),
            at_ms: envelope.recorded_at_ms,
            deliveries: deliveries.collect(),
            decided: Vec::new(),
            freed_at_ms: awaited(e).is_empty().then_some(envelope.recorded_at_ms),
        });
        Ok(())
    }

    fn started(&mut self, envelope: &Envelope, e: &DeliveryStarted) -> Result<(), IllegalEvent> {
        let delivery = self.delivery(envelope, e.number, &e.channel)?;
        delivery.phase = DeliveryPhase::Sending;
        delivery.attempts = e.attempt;
        delivery.key.clone_from(&e.key);
        delivery.at_ms = envelope.recorded_at_ms;
        Ok(())
    }

    fn ended(&mut self, envelope: &Envelope, e: &DeliveryEnded) -> Result<(), IllegalEvent> {
        let delivery = self.delivery(envelope, e.number, &e.channel)?;
        delivery.phase = match e.outcome() {
            DeliveryOutcome::Delivered => DeliveryPhase::Delivered,
            DeliveryOutcome::Refused => DeliveryPhase::Refused,
            // An outcome of a newer version says no more than these: it is tried again or not.
            DeliveryOutcome::NotSent | DeliveryOutcome::Unknown | DeliveryOutcome::Unspecified => {
                if e.again_at_ms == 0 {
                    DeliveryPhase::GivenUp
                } else {
                    DeliveryPhase::Waiting(e.again_at_ms)
                }
            }
        };
        delivery.reason.clone_from(&e.reason);
        delivery.at_ms = envelope.recorded_at_ms;
        Ok(())
    }

    fn delivery(
        &mut self,
        envelope: &Envelope,
        number: u32,
        channel: &str,
    ) -> Result<&mut Delivery, IllegalEvent> {
        let found = self
            .notice_mut(number)
            .and_then(|notice| notice.deliveries.get_mut(channel));
        found.ok_or_else(|| {
            let reason = format!("notice {number} has no delivery on the channel {channel:?}");
            IllegalEvent::new(envelope, reason)
        })
    }
}

impl Fold for Communication {
    fn apply(&mut self, envelope: &Envelope, event: &Event) -> Result<(), IllegalEvent> {
        let Some(kind) = &event.kind else {
            return Ok(()); // written by a newer version: not known to this one
        };
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "every other event is illegal in this stream"
        )]
        match kind {
            Kind::NoticePrepared(e) => self.prepared(envelope, e),
            Kind::DeliveryStarted(e) => self.started(envelope, e),
            Kind::DeliveryEnded(e) => self.ended(envelope, e),
            Kind::NoticeDecided(e) => {
                self.nonces.insert(e.nonce.clone());
                let notice = self.notice_mut(e.number).ok_or_else(|| {
                    IllegalEvent::new(envelope, format!("there is no notice {}", e.number))
                })?;
                notice.decided.push(e.clone());
                let now_ms = envelope.recorded_at_ms;
                if notice.freed_at_ms.is_none() && missing(notice, now_ms).is_empty() {
                    notice.freed_at_ms = Some(now_ms);
                }
                Ok(())
            }
            Kind::IncidentAcknowledged(e) => {
                self.acknowledged.push(Word {
                    by: e.by.clone(),
                    note: e.note.clone(),
                    at_ms: envelope.recorded_at_ms,
                });
                Ok(())
            }
            _ => Err(IllegalEvent::new(
                envelope,
                "an event of another stream in a communication's stream",
            )),
        }
    }
}

/// The deliveries that are to be made now, in the order of the notices; and when the next one is, Unix milliseconds. An attempt that was started and did not end is made
/// again, under the same key: whoever started it and still works on it leaves it out.
pub fn pending(state: &Communication, now_ms: i64) -> (Vec<Sending>, Option<i64>) {
    let mut sendings = Vec::new();
    let mut next: Option<i64> = None;
    for notice in state.notices.iter().filter(|notice| notice.is_free()) {
        for (channel, delivery) in &notice.deliveries {
            let at_ms = match delivery.phase {
                DeliveryPhase::Waiting(at_ms) => at_ms,
                DeliveryPhase::Sending => 0,
                DeliveryPhase::Delivered | DeliveryPhase::Refused | DeliveryPhase::GivenUp => {
                    continue;
                }
            };
            if at_ms > now_ms {
                next = Some(next.map_or(at_ms, |known| known.min(at_ms)));
                continue;
            }
            sendings.push(Sending {
                number: notice.prepared.number,
                channel: channel.clone(),
                attempt: delivery.attempts.saturating_add(1),
            });
        }
    }
    (sendings, next)
}
