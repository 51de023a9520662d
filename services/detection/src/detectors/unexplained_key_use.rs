//! A key use in a provider's audit trail that no intent explains.
//!
//! Intents are recorded before the key is used and uses are read from the audit after it, so at the position of an observed use its intent is
//! always known. A line that cannot be read explains nothing and proves nothing: it waits for a person.

use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::cosignature::log_message;
use sealwarden_seal::merkle::Hash;
use sealwarden_seal::note::Vkey;
use sealwarden_seal::trust::SignatureType;
use sealwarden_wire::event::v1::{Envelope, KeyUseObserved, Reporter, SignalReported};

use super::{Found, KEY_COMPROMISE, Logs, earliest, when};
use crate::ids::signal_id;

/// The detector's name.
const NAME: &str = "unexplained-key-use";
/// How much of an audit line a sentence quotes, in characters.
const QUOTED: usize = 160;

/// The detector.
pub(crate) fn unexplained_key_use(
    logs: Logs<'_>,
    envelope: &Envelope,
    used: &KeyUseObserved,
) -> Option<SignalReported> {
    let found = logs.key(&used.log, &used.key_id);
    let message: Option<[u8; 32]> = used.message_sha256[..].try_into().ok();
    match (message, found) {
        (None, found) => Some(unreadable(envelope, used, found)),
        (Some(message), Some(found)) if is_explained(found, &used.key_id, &message) => None,
        (Some(message), found) => Some(unexplained(envelope, used, &message, found)),
    }
}

/// Looks from the newest intent backwards: an honest use follows its intent closely. An intent names the hash of the checkpoint's text, which an Ed25519 key
/// signs; what an ML-DSA-44 key signs follows from the same size and root.
fn is_explained(found: Found<'_>, key_id: &str, message: &[u8; 32]) -> bool {
    let origin = found.origin;
    let quantum = origin
        .signer(key_id)
        .and_then(|it| it.vkey.parse::<Vkey>().ok())
        .filter(|vkey| SignatureType::of(vkey) == Some(SignatureType::MlDsa44));
    let Some(vkey) = quantum else {
        return origin.intents.of_message(message).is_some();
    };
    origin.intents.iter().rev().any(|(size, intent)| {
        let checkpoint = Checkpoint {
            origin: origin.origin.clone(),
            size,
            root: Hash(intent.root),
        };
        log_message(&vkey, &checkpoint).is_ok_and(|signed| Hash::of(&signed).0 == *message)
    })
}

fn unexplained(
    envelope: &Envelope,
    used: &KeyUseObserved,
    message: &[u8; 32],
    found: Option<Found<'_>>,
) -> SignalReported {
    // A server that keys its digests tells ours from a stranger's message, and nobody else what that message was.
    let digest = if used.line.contains("hmac-sha256:") {
        "the keyed digest (HMAC-SHA-256)"
    } else {
        "SHA-256"
    };
    let seen = format!(
        "The audit of the {} provider at {} says that key {} signed a message with {digest} {} at {}.",
        used.provider,
        used.node,
        used.key_id,
        hex::encode(message),
        when(used.at_ms),
    );
    let expected = match found {
        Some(found) => {
            let origin = found.origin;
            let mut text = format!(
                "Each use of the key signs an intended checkpoint of {}; none of its {} intents names that message.",
                origin.origin,
                origin.intents.len(),
            );
            if let Some(reason) = found.gap {
                text.push_str(" Intents may be missing, so this proves nothing yet: ");
                text.push_str(reason);
            }
            text
        }
        None => format!(
            "Key {} signs for no origin of this installation, so it should not be used at all.",
            used.key_id
        ),
    };
    let proven = found.is_some_and(|found| found.gap.is_none());
    signal(envelope, used, found, (seen, expected, proven))
}

fn unreadable(
    envelope: &Envelope,
    used: &KeyUseObserved,
    found: Option<Found<'_>>,
) -> SignalReported {
    let quoted: String = used.line.chars().take(QUOTED).collect();
    let seen = format!(
        "The audit of the {} provider at {} has a line that is not an audit record, before byte {}: {quoted:?}.",
        used.provider, used.node, used.cursor,
    );
    let expected = "Every line names a key, a purpose, a time and a message; a torn write leaves such a line, and so does somebody who edits the audit."
        .to_owned();
    signal(envelope, used, found, (seen, expected, false))
}

fn signal(
    envelope: &Envelope,
    used: &KeyUseObserved,
    found: Option<Found<'_>>,
    (seen, expected, proven): (String, String, bool),
) -> SignalReported {
    let times = [used.at_ms, envelope.recorded_at_ms];
    let (subject, log, origin, earliest_at_ms) = if let Some(found) = found {
        (
            format!("origin {}", found.origin.origin),
            found.log.to_owned(),
            found.origin.origin.clone(),
            earliest(found.origin, &times),
        )
    } else {
        let known = times.into_iter().filter(|at| *at > 0).min();
        let subject = format!("key audit of {}", used.node);
        (subject, used.log.clone(), String::new(), known.unwrap_or(0))
    };
    let cursor = used.cursor.to_be_bytes();
    SignalReported {
        reading: None,
        key: String::new(),
        signal: signal_id(NAME, &[used.node.as_bytes(), &cursor, used.line.as_bytes()]),
        detector: NAME.to_owned(),
        class: KEY_COMPROMISE.to_owned(),
        subject,
        log,
        origin,
        proven,
        seen,
        expected,
        events: vec![envelope.position],
        evidence: used.line.clone().into(),
        earliest_at_ms,
        reporter: Some(Reporter {
            person: false,
            name: NAME.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Fixture, KEY, ORIGIN};
    use super::*;

    fn used(message: &[u8]) -> KeyUseObserved {
        KeyUseObserved {
            provider: "software".to_owned(),
            node: "sealing-1".to_owned(),
            key_id: KEY.to_owned(),
            message_sha256: message.to_vec().into(),
            at_ms: 8_000,
            line: "{\"at\":\"…\"}".to_owned(),
            cursor: 120,
            log: "main".to_owned(),
        }
    }

    fn run(fixture: &Fixture, used: &KeyUseObserved) -> Option<SignalReported> {
        let envelope = Envelope {
            position: 78,
            recorded_at_ms: 9_000,
            ..Envelope::default()
        };
        unexplained_key_use(fixture.logs(), &envelope, used)
    }

    #[test]
    fn an_intended_use_is_no_signal() {
        let mut fixture = Fixture::new();
        let message = fixture.intend(3, [7; 32]);
        fixture.intend(4, [8; 32]);
        assert_eq!(run(&fixture, &used(&message)), None);
    }

    #[test]
    fn a_use_without_intent_is_proven() {
        let mut fixture = Fixture::new();
        fixture.intend(3, [7; 32]);
        let signal = run(&fixture, &used(&[1; 32])).unwrap();
        assert!(signal.proven);
        assert_eq!(signal.origin, ORIGIN);
        assert_eq!(signal.earliest_at_ms, 8_000);
        assert!(signal.seen.contains("sealing-1") && signal.seen.contains(KEY));
        assert!(
            signal.expected.contains("none of its 1 intents"),
            "{}",
            signal.expected
        );
    }

    #[test]
    fn a_malformed_line_is_an_unproven_signal() {
        let fixture = Fixture::new();
        let mut use_of_key = used(&[]);
        use_of_key.line = "{torn".to_owned();
        let signal = run(&fixture, &use_of_key).unwrap();
        assert!(!signal.proven && signal.seen.contains("{torn"));
        assert_eq!(&signal.evidence[..], b"{torn");
        use_of_key.key_id = String::new();
        assert_eq!(
            run(&fixture, &use_of_key).unwrap().subject,
            "key audit of sealing-1"
        );
    }

    #[test]
    fn a_key_of_no_origin_is_reported_without_proof() {
        let fixture = Fixture::new();
        let mut use_of_key = used(&[1; 32]);
        use_of_key.key_id = "other".to_owned();
        let signal = run(&fixture, &use_of_key).unwrap();
        assert!(!signal.proven && signal.origin.is_empty());
    }

    #[test]
    fn two_lines_are_two_signals_and_one_line_is_one() {
        let fixture = Fixture::new();
        let first = run(&fixture, &used(&[1; 32])).unwrap();
        assert_eq!(run(&fixture, &used(&[1; 32])).unwrap().signal, first.signal);
        let mut later = used(&[1; 32]);
        later.cursor = 240;
        assert_ne!(run(&fixture, &later).unwrap().signal, first.signal);
    }
}
