//! An audit that does not show what it should: a checkpoint whose key use is missing in it, or no line at all.
//!
//! Neither proves that anybody else used the key: a device is switched off, moved or rotated for honest reasons, too. So these signals stop nothing by
//! themselves. They say that as long as this lasts nobody could see a misuse, and a person decides.

use sealwarden_wire::event::v1::{
    AuditGapKind, AuditGapObserved, AuditUse, Envelope, Reporter, SignalReported,
};

use super::{Found, KEY_COMPROMISE, Logs, earliest, when};
use crate::ids::signal_id;

/// The detector of uses that are missing in an audit that goes on.
const NOT_SHOWN: &str = "key-use-not-shown";
/// The detector of audits that say nothing, or are not what they were.
const SILENT: &str = "silent-audit";
/// How many uses a sentence names.
const NAMED: usize = 8;

/// The detector.
pub(crate) fn audit_gap(
    logs: Logs<'_>,
    envelope: &Envelope,
    gap: &AuditGapObserved,
) -> Option<SignalReported> {
    let detector = match gap.kind() {
        // What a newer version writes says nothing to this one.
        AuditGapKind::Unspecified => return None,
        AuditGapKind::UseNotShown => NOT_SHOWN,
        AuditGapKind::Silent
        | AuditGapKind::Off
        | AuditGapKind::Truncated
        | AuditGapKind::Rewritten
        | AuditGapKind::Replaced
        | AuditGapKind::Lost
        | AuditGapKind::Unreadable => SILENT,
    };
    let first = gap.uses.first();
    let found = first
        .and_then(|used| logs.key(&gap.log, &used.key_id))
        .or_else(|| logs.origin(&gap.origin));
    let times = [gap.since_ms, envelope.recorded_at_ms];
    let (subject, log, origin, earliest_at_ms) = match found {
        Some(found) => (
            format!("origin {}", found.origin.origin),
            found.log.to_owned(),
            found.origin.origin.clone(),
            earliest(found.origin, &times),
        ),
        None => (
            format!("key audit of {}", gap.node),
            gap.log.clone(),
            String::new(),
            gap.since_ms.max(0),
        ),
    };
    let mut seen = sentence(&words(gap));
    if !gap.uses.is_empty() {
        seen.push(' ');
        seen.push_str(&sentence(&named(found, &gap.uses, gap.use_count)));
    }
    Some(SignalReported {
        reading: None,
        key: String::new(),
        signal: signal_id(detector, &[gap.node.as_bytes(), gap.gap.as_bytes()]),
        detector: detector.to_owned(),
        class: KEY_COMPROMISE.to_owned(),
        subject,
        log,
        origin,
        proven: false,
        seen,
        expected: expected(gap.kind()),
        events: vec![envelope.position],
        evidence: gap.evidence.clone().into(),
        earliest_at_ms,
        reporter: Some(Reporter {
            person: false,
            name: detector.to_owned(),
        }),
    })
}

/// What was noticed, without a capital letter and a full stop.
pub(crate) fn words(gap: &AuditGapObserved) -> String {
    let (provider, since, count) = (&gap.provider, when(gap.since_ms), gap.use_count);
    match gap.kind() {
        AuditGapKind::Unspecified => {
            format!("something is wrong with the audit of the {provider} provider")
        }
        AuditGapKind::UseNotShown => format!(
            "the audit of the {provider} provider went on after a use of a key at {since} and does not show it"
        ),
        AuditGapKind::Silent if count == 0 => format!(
            "the audit of the {provider} provider has no new line since {since}, although the provider was asked for something that it has to write down"
        ),
        AuditGapKind::Silent => format!(
            "the audit of the {provider} provider has no new line since {since}, although keys were used {count} times by then: it is switched off, or writes to another file"
        ),
        AuditGapKind::Off => format!(
            "the server of the {provider} provider says since {since} that it has no such audit: somebody switched it off, and no key is used there until it is back"
        ),
        AuditGapKind::Truncated => format!(
            "the audit file of the {provider} provider was cut in place before {since}, as logrotate's copytruncate does: lines between copying and cutting are lost"
        ),
        AuditGapKind::Rewritten if count > 0 => format!(
            "the audit file of the {provider} provider is not what was read before {since}: somebody has rewritten it, and uses that were read in it are missing now ({count})"
        ),
        AuditGapKind::Rewritten => format!(
            "the audit file of the {provider} provider is not what was read before {since}: somebody has rewritten it"
        ),
        AuditGapKind::Replaced => format!(
            "another file has the name of the {provider} provider's audit since {since}, and it holds older lines: it was not rotated but replaced"
        ),
        AuditGapKind::Lost => format!(
            "the audit file of the {provider} provider that was read before {since} is gone, and what came after the last line read here with it"
        ),
        AuditGapKind::Unreadable => format!(
            "the audit of the {provider} provider cannot be read any further since {since}: {}",
            gap.evidence
        ),
    }
}

fn expected(kind: AuditGapKind) -> String {
    let should = match kind {
        AuditGapKind::UseNotShown | AuditGapKind::Unspecified => {
            "Each use of a key stands in the audit of whoever keeps the key."
        }
        AuditGapKind::Silent | AuditGapKind::Off => {
            "Each request to the server is a line of its audit."
        }
        AuditGapKind::Truncated
        | AuditGapKind::Rewritten
        | AuditGapKind::Replaced
        | AuditGapKind::Lost => {
            "An audit file only grows; it is rotated by renaming it and sending the server SIGHUP."
        }
        AuditGapKind::Unreadable => "An audit goes on where it was read to before.",
    };
    format!(
        "{should} This proves no misuse and stops nothing by itself, but a misuse meanwhile would not be seen: a person decides whether to act as if there was one."
    )
}

/// The uses by the checkpoints that they signed.
fn named(found: Option<Found<'_>>, uses: &[AuditUse], count: u64) -> String {
    let mut words: Vec<String> = uses
        .iter()
        .take(NAMED)
        .map(|used| one(found, used))
        .collect();
    let named = u64::try_from(words.len()).unwrap_or(u64::MAX);
    if count > named {
        words.push(format!("and {} more", count - named));
    }
    format!("not shown: {}", words.join("; "))
}

fn one(found: Option<Found<'_>>, used: &AuditUse) -> String {
    let checkpoint = found.and_then(|found| {
        let (size, _) = found.origin.intents.of_message(&used.message_sha256)?;
        Some(format!(
            " (the checkpoint of {} at size {size})",
            found.origin.origin
        ))
    });
    format!(
        "key {} signed SHA-256 {}{} at {}",
        used.key_id,
        hex::encode(&used.message_sha256),
        checkpoint.unwrap_or_default(),
        when(used.at_ms)
    )
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters
        .next()
        .map(|letter| letter.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), letters.as_str())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Fixture, KEY, ORIGIN};
    use super::*;

    fn gap(kind: AuditGapKind, messages: &[[u8; 32]]) -> AuditGapObserved {
        let uses = messages.iter().map(|message| AuditUse {
            key_id: KEY.to_owned(),
            message_sha256: message.to_vec().into(),
            at_ms: 7_000,
        });
        AuditGapObserved {
            gap: "00ff".to_owned(),
            provider: "bao".to_owned(),
            node: "sealing-1".to_owned(),
            log: "main".to_owned(),
            origin: ORIGIN.to_owned(),
            kind: kind.into(),
            since_ms: 7_000,
            uses: uses.collect(),
            use_count: u64::try_from(messages.len()).unwrap(),
            evidence: "/var/log/audit.log\nlast line".to_owned(),
        }
    }

    fn run(fixture: &Fixture, gap: &AuditGapObserved) -> Option<SignalReported> {
        let envelope = Envelope {
            position: 9,
            recorded_at_ms: 8_000,
            ..Envelope::default()
        };
        audit_gap(fixture.logs(), &envelope, gap)
    }

    #[test]
    fn a_missing_use_names_its_checkpoint_and_proves_nothing() {
        let mut fixture = Fixture::new();
        let message = fixture.intend(3, [7; 32]);
        let found = run(&fixture, &gap(AuditGapKind::UseNotShown, &[message])).unwrap();
        assert_eq!(found.detector, NOT_SHOWN);
        assert!(!found.proven, "it stops nothing by itself");
        assert_eq!((&*found.origin, &*found.log), (ORIGIN, "main"));
        assert_eq!(found.subject, format!("origin {ORIGIN}"));
        assert!(found.seen.contains(&hex::encode(message)), "{}", found.seen);
        assert!(found.seen.contains("at size 3"), "{}", found.seen);
        assert!(found.expected.contains("a person decides"));
        assert_eq!(&found.evidence[..], b"/var/log/audit.log\nlast line");
    }

    #[test]
    fn each_silence_is_told_as_what_it_is_also_without_uses() {
        let fixture = Fixture::new();
        let mut ids = std::collections::BTreeSet::new();
        for (kind, word) in [
            (AuditGapKind::Silent, "no new line"),
            (AuditGapKind::Off, "switched it off"),
            (AuditGapKind::Truncated, "copytruncate"),
            (AuditGapKind::Rewritten, "rewritten"),
            (AuditGapKind::Replaced, "not rotated but replaced"),
            (AuditGapKind::Lost, "is gone"),
            (AuditGapKind::Unreadable, "last line"),
        ] {
            let mut gap = gap(kind, &[]);
            gap.gap = kind.as_str_name().to_owned();
            let found = run(&fixture, &gap).unwrap();
            assert_eq!((&*found.detector, found.proven), (SILENT, false));
            assert!(found.seen.contains(word), "{}", found.seen);
            assert_eq!(found.origin, ORIGIN);
            ids.insert(found.signal);
        }
        assert_eq!(ids.len(), 7);
        assert!(run(&fixture, &gap(AuditGapKind::Unspecified, &[])).is_none());
    }

    #[test]
    fn one_gap_is_one_signal_and_many_uses_are_counted() {
        let fixture = Fixture::new();
        let gap = gap(AuditGapKind::Silent, &[[5; 32]; 12]);
        let found = run(&fixture, &gap).unwrap();
        assert_eq!(run(&fixture, &gap).unwrap().signal, found.signal);
        assert!(found.seen.contains("used 12 times"), "{}", found.seen);
        assert!(found.seen.contains("and 4 more"), "{}", found.seen);
    }

    #[test]
    fn a_gap_of_no_known_origin_is_about_the_nodes_audit() {
        let fixture = Fixture::new();
        let mut gap = gap(AuditGapKind::Off, &[]);
        gap.origin = "other.example/1".to_owned();
        let found = run(&fixture, &gap).unwrap();
        assert_eq!(found.subject, "key audit of sealing-1");
        assert!(found.origin.is_empty());
    }
}
