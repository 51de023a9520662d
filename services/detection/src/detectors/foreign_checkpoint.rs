//! A checkpoint that carries a log's own signature and that the log never intended: what a stolen key leaves behind.
//!
//! The note proves itself: anyone with the log's verifier key and its intents comes to the same conclusion.

use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::note::{Note, Vkey};
use sealwarden_wire::event::v1::{CheckpointSighted, Envelope, Reporter, SignalReported};

use sealwarden_domain::log_control::Origin;

use super::{Found, KEY_COMPROMISE, Logs, earliest, when};
use crate::ids::signal_id;

/// The detector's name.
pub(crate) const NAME: &str = "foreign-checkpoint";

/// What a checkpoint shows.
pub(crate) enum CheckpointFinding<'a> {
    /// It proves nothing: it cannot be read, or its log is unknown, or the log did not sign it.
    Nothing(String),
    /// The log intended exactly this root.
    Intended(Box<Checkpoint>),
    /// The log's key signed it and the log never intended it.
    Foreign(Box<Foreign<'a>>),
}

/// A checkpoint that the log's key signed and the log never intended.
pub(crate) struct Foreign<'a> {
    pub(crate) found: Found<'a>,
    pub(crate) checkpoint: Checkpoint,
    /// The note with the log's signatures alone: signatures of others prove nothing and could be varied without end.
    pub(crate) note: Note,
    pub(crate) signer: String,
    pub(crate) expected: String,
    /// Position of the intent that it contradicts.
    pub(crate) contradicts: Option<u64>,
}

/// Judges the bytes of a signed note.
pub(crate) fn judge<'a>(logs: Logs<'a>, note: &[u8]) -> CheckpointFinding<'a> {
    match judge_note(logs, note) {
        Ok(finding) => finding,
        Err(reason) => CheckpointFinding::Nothing(reason),
    }
}

fn judge_note<'a>(logs: Logs<'a>, note: &[u8]) -> Result<CheckpointFinding<'a>, String> {
    let note = Note::parse(note).map_err(|error| error.to_string())?;
    let checkpoint = Checkpoint::parse(note.text()).map_err(|error| error.to_string())?;
    let found = logs.origin(&checkpoint.origin).ok_or_else(|| {
        format!(
            "no log of this installation has the origin {}",
            checkpoint.origin
        )
    })?;
    let vkeys = found.origin.vkeys();
    let signed = signed_by(&note, &vkeys)?;
    let intent = found.origin.intents.get(checkpoint.size);
    if intent.is_some_and(|intent| intent.root == *checkpoint.root.as_bytes()) {
        return Ok(CheckpointFinding::Intended(Box::new(checkpoint)));
    }
    let note = note
        .filtered(|it| {
            signed
                .iter()
                .any(|vkey| it.name() == vkey.name() && it.key_id() == vkey.key_id())
        })
        .ok_or("the log did not sign it")?;
    let signers: Vec<_> = signed
        .iter()
        .map(|vkey| named(found.origin, vkey))
        .collect();
    Ok(CheckpointFinding::Foreign(Box::new(Foreign {
        expected: expected(found, &checkpoint),
        contradicts: intent.map(|intent| intent.position),
        signer: signers.join(" and "),
        found,
        checkpoint,
        note,
    })))
}

/// The keys of the origin whose signatures are good. One good signature of any of them proves that somebody used that key, whatever else the note carries.
fn signed_by<'a>(note: &Note, vkeys: &'a [Vkey]) -> Result<Vec<&'a Vkey>, String> {
    let mut signed = Vec::new();
    let mut reason = "its origin has no verifier key that can be read".to_owned();
    for vkey in vkeys {
        match note.verify(std::slice::from_ref(vkey)) {
            Ok(_) => signed.push(vkey),
            Err(error) => reason = error.to_string(),
        }
    }
    if signed.is_empty() {
        return Err(reason);
    }
    Ok(signed)
}

/// A key by its names at the provider and in notes.
fn named(origin: &Origin, vkey: &Vkey) -> String {
    let text = vkey.to_string();
    let signer = origin.signers.iter().find(|it| it.vkey == text);
    let id = signer.map_or("unknown", |it| it.key_id.as_str());
    format!("key {id} ({})", vkey.key_id())
}

fn expected(found: Found<'_>, checkpoint: &Checkpoint) -> String {
    let origin = found.origin;
    let mut sentence = match origin.intents.get(checkpoint.size) {
        Some(intent) => format!(
            "For size {} the log intended the root {}, at {}; a size never gets a second root.",
            checkpoint.size,
            sealwarden_seal::merkle::Hash(intent.root).to_base64(),
            when(intent.at_ms),
        ),
        None => format!(
            "Every root that the log signs is intended first; none of its {} intents names size {}, the last one names size {}.",
            origin.intents.len(),
            checkpoint.size,
            origin.intents.last_size().unwrap_or(0),
        ),
    };
    if let Some(reason) = found.gap {
        sentence.push_str(" Intents may be missing, so this proves nothing yet: ");
        sentence.push_str(reason);
    }
    sentence
}

impl Foreign<'_> {
    /// The signal, with what was seen as a sentence.
    pub(crate) fn signal(
        &self,
        seen: String,
        events: Vec<u64>,
        times_ms: &[i64],
        reporter: Reporter,
    ) -> SignalReported {
        let origin = self.found.origin;
        let mut events = events;
        events.extend(self.contradicts);
        SignalReported {
            reading: None,
            key: String::new(),
            signal: signal_id(NAME, &[self.note.text().as_bytes()]),
            detector: NAME.to_owned(),
            class: KEY_COMPROMISE.to_owned(),
            subject: format!("origin {}", origin.origin),
            log: self.found.log.to_owned(),
            origin: origin.origin.clone(),
            proven: self.found.gap.is_none(),
            seen,
            expected: self.expected.clone(),
            events,
            evidence: self.note.to_string().into(),
            earliest_at_ms: earliest(origin, times_ms),
            reporter: Some(reporter),
        }
    }
}

/// The detector.
pub(crate) fn foreign_checkpoint(
    logs: Logs<'_>,
    envelope: &Envelope,
    sighted: &CheckpointSighted,
) -> Option<SignalReported> {
    let CheckpointFinding::Foreign(foreign) = judge(logs, &sighted.note) else {
        return None;
    };
    let Checkpoint { origin, size, root } = &foreign.checkpoint;
    let seen = format!(
        "{} ({}) saw a checkpoint of {origin} with size {size} and root {}, signed by the log's own {}, at {}.",
        sighted.seen_by,
        sighted.source,
        root.to_base64(),
        foreign.signer,
        when(sighted.seen_at_ms),
    );
    let reporter = Reporter {
        person: false,
        name: NAME.to_owned(),
    };
    let times = [sighted.seen_at_ms, envelope.recorded_at_ms];
    Some(foreign.signal(seen, vec![envelope.position], &times, reporter))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Fixture, ORIGIN};
    use super::*;

    fn sighted(note: String) -> (Envelope, CheckpointSighted) {
        let envelope = Envelope {
            position: 77,
            recorded_at_ms: 9_000,
            ..Envelope::default()
        };
        let sighted = CheckpointSighted {
            note: note.into(),
            origin: ORIGIN.to_owned(),
            source: "witness".to_owned(),
            seen_by: "verification-1".to_owned(),
            reason: String::new(),
            seen_at_ms: 8_000,
        };
        (envelope, sighted)
    }

    fn run(fixture: &Fixture, note: String) -> Option<SignalReported> {
        let (envelope, sighted) = sighted(note);
        foreign_checkpoint(fixture.logs(), &envelope, &sighted)
    }

    #[test]
    fn an_intended_checkpoint_is_no_signal() {
        let mut fixture = Fixture::new();
        fixture.intend(3, [7; 32]);
        assert_eq!(run(&fixture, fixture.signed(3, [7; 32])), None);
    }

    #[test]
    fn a_signed_root_that_was_never_intended_proves_itself() {
        let mut fixture = Fixture::new();
        fixture.intend(3, [7; 32]);
        let signal = run(&fixture, fixture.signed(4, [9; 32])).unwrap();
        assert!(signal.proven);
        assert_eq!(signal.subject, format!("origin {ORIGIN}"));
        assert_eq!(
            (signal.log.as_str(), signal.class.as_str()),
            ("main", KEY_COMPROMISE)
        );
        assert_eq!(signal.earliest_at_ms, 8_000);
        assert_eq!(signal.events, [77]);
        assert!(signal.seen.contains("size 4"), "{}", signal.seen);
        assert!(
            signal.expected.contains("the last one names size 3"),
            "{}",
            signal.expected
        );
    }

    #[test]
    fn a_second_root_for_a_size_names_the_intent_that_it_contradicts() {
        let mut fixture = Fixture::new();
        fixture.intend(3, [7; 32]);
        let signal = run(&fixture, fixture.signed(3, [8; 32])).unwrap();
        assert!(signal.proven && signal.expected.contains("a size never gets a second root"));
        assert_eq!(signal.events, [77, fixture.intent_position(3)]);
    }

    #[test]
    fn what_the_log_did_not_sign_is_no_signal() {
        let fixture = Fixture::new();
        assert_eq!(run(&fixture, Fixture::other_key().signed(3, [7; 32])), None);
        assert_eq!(run(&fixture, "rubbish".to_owned()), None);
        let foreign_log = fixture.signed_as("elsewhere.example/main/1", 3, [7; 32]);
        assert_eq!(run(&fixture, foreign_log), None);
    }

    #[test]
    fn signatures_of_others_do_not_make_a_new_signal() {
        let fixture = Fixture::new();
        let note = fixture.signed(4, [9; 32]);
        let plain = run(&fixture, note.clone()).unwrap();
        let decorated = format!("{note}\u{2014} somebody AAAAAAAA\n");
        let again = run(&fixture, decorated).unwrap();
        assert_eq!(
            (again.signal, again.evidence),
            (plain.signal, plain.evidence)
        );
    }

    #[test]
    fn nothing_is_proven_while_intents_may_be_missing() {
        let mut fixture = Fixture::new();
        fixture.poison("size 2 gets a second root");
        let signal = run(&fixture, fixture.signed(4, [9; 32])).unwrap();
        assert!(!signal.proven && signal.expected.contains("second root"));
    }

    #[test]
    fn nothing_is_earlier_than_the_key() {
        let mut fixture = Fixture::new();
        fixture.opened_at(8_500);
        assert_eq!(
            run(&fixture, fixture.signed(4, [9; 32]))
                .unwrap()
                .earliest_at_ms,
            8_500
        );
    }
}
