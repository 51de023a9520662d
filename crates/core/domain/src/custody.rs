//! The chain of custody of an incident's evidence: `custody/<incident>`. Who collected a bundle stands in its manifest; who was given a copy, when and what for,
//! stands here, before the copy leaves.

use sealwarden_wire::event::v1::event::Kind;
use sealwarden_wire::event::v1::{Envelope, Event, EvidenceHandedOut};

use crate::fold::{Fold, IllegalEvent, Rejection, RejectionCode, event};

/// Longest purpose, characters.
pub const MAX_PURPOSE: usize = 1_000;

/// One handing out.
#[derive(Clone, Debug, PartialEq)]
pub struct Handing {
    /// When the event log recorded it, Unix milliseconds.
    pub at_ms: i64,
    /// What was given to whom.
    pub handed: EvidenceHandedOut,
}

/// Who was given copies of an incident's evidence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Custody {
    /// Oldest first.
    pub handings: Vec<Handing>,
}

/// Decides that copies are handed out: to somebody, of something, for a purpose.
pub fn hand_out(handed: EvidenceHandedOut) -> Result<Vec<Event>, Rejection> {
    let refuse = |reason: String| Err(Rejection::new(RejectionCode::Invalid, reason));
    let length = handed.purpose.chars().count();
    if !(1..=MAX_PURPOSE).contains(&length) || handed.purpose.chars().any(char::is_control) {
        return refuse(format!(
            "a purpose has 1 to {MAX_PURPOSE} characters on one line, this one has {length}; say what the copy is for"
        ));
    }
    if handed.bundles.is_empty() {
        return refuse(format!(
            "incident {} has no evidence; a runbook's snapshot collects it",
            handed.incident
        ));
    }
    Ok(vec![event(Kind::EvidenceHandedOut(handed))])
}

impl Fold for Custody {
    fn apply(&mut self, envelope: &Envelope, event: &Event) -> Result<(), IllegalEvent> {
        let illegal = |reason: &str| Err(IllegalEvent::new(envelope, reason));
        match &event.kind {
            Some(Kind::EvidenceHandedOut(handed)) => {
                if envelope.stream != format!("custody/{}", handed.incident) {
                    return illegal("evidence of another incident");
                }
                self.handings.push(Handing {
                    at_ms: envelope.recorded_at_ms,
                    handed: handed.clone(),
                });
                Ok(())
            }
            None => Ok(()), // written by a newer version
            Some(_) => illegal("an event of another stream in a chain of custody"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealwarden_wire::event::v1::HandedBundle;

    fn handed(purpose: &str) -> EvidenceHandedOut {
        EvidenceHandedOut {
            incident: "I-1".to_owned(),
            bundles: vec![HandedBundle::default()],
            person: "ada".to_owned(),
            purpose: purpose.to_owned(),
            ..EvidenceHandedOut::default()
        }
    }

    #[test]
    fn a_copy_needs_a_purpose_and_something_to_copy() {
        for bad in ["", "two\nlines", &"x".repeat(MAX_PURPOSE + 1)] {
            assert!(hand_out(handed(bad)).is_err(), "{bad:?}");
        }
        let nothing = EvidenceHandedOut {
            bundles: Vec::new(),
            ..handed("court order 12")
        };
        assert!(hand_out(nothing).is_err());
        assert_eq!(hand_out(handed("court order 12")).unwrap().len(), 1);
    }

    #[test]
    fn only_its_own_incidents_evidence_is_in_a_chain() {
        let [event] = hand_out(handed("court order 12"))
            .unwrap()
            .try_into()
            .unwrap();
        let envelope = |stream: &str| Envelope {
            stream: stream.to_owned(),
            recorded_at_ms: 7,
            ..Envelope::default()
        };
        let mut custody = Custody::default();
        custody.apply(&envelope("custody/I-1"), &event).unwrap();
        assert_eq!(custody.handings[0].at_ms, 7);
        assert!(custody.apply(&envelope("custody/I-2"), &event).is_err());
    }
}
