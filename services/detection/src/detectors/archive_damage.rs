//! Documents of an archive that are not what was sealed.
//!
//! One signal when a revalidation finds the first damage, one with the sums when it ends, and one for each document of which no intact original was found. All of them are
//! about the archive, so that a thousand damaged documents are one incident. They name no log: what happened to stored bytes is no reason to stop signing.

use sealwarden_wire::event::v1::{
    ArchiveDamageFound, Envelope, Reporter, RestoreFailed, RevalidationFinished, SignalReported,
    event::Kind,
};

use crate::archive_words::damages;
use crate::ids::signal_id;

/// The detector's name.
const NAME: &str = "archive-damage";
/// The class of its signals.
const DATA_INTEGRITY: &str = "data-integrity";
/// How much damage one signal keeps as evidence.
const EVIDENCE: usize = 32;

/// The detector.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only these events of an archive say that something is wrong"
)]
pub(crate) fn archive_damage(envelope: &Envelope, kind: &Kind) -> Option<SignalReported> {
    match kind {
        Kind::ArchiveDamageFound(e) => Some(found(envelope, e)),
        Kind::RevalidationFinished(e) if e.new_damage > 0 => Some(finished(envelope, e)),
        Kind::RestoreFailed(e) => Some(not_restored(envelope, e)),
        _ => None,
    }
}

fn found(envelope: &Envelope, e: &ArchiveDamageFound) -> SignalReported {
    let seen = format!(
        "Revalidation {} of archive {} found objects that are not what was stored: {}.",
        e.job,
        e.archive,
        damages(&e.damage)
    );
    let expected = "Every object of the inventory has the SHA-256 that its leaf commits to, and its seal holds for it.";
    let evidence: Vec<String> = e
        .damage
        .iter()
        .take(EVIDENCE)
        .map(|d| {
            format!(
                "{} {} expected {} found {}: {}",
                d.class,
                d.object,
                hex::encode(&d.expected_sha256),
                hex::encode(&d.found_sha256),
                d.detail
            )
        })
        .collect();
    let id = signal_id(NAME, &[e.archive.as_bytes(), e.job.as_bytes(), b"found"]);
    signal(
        envelope,
        &e.archive,
        (id, seen, expected.to_owned()),
        evidence.join("\n"),
        e.found_at_ms,
    )
}

fn finished(envelope: &Envelope, e: &RevalidationFinished) -> SignalReported {
    let classes: Vec<String> = e
        .by_class
        .iter()
        .map(|(class, count)| format!("{count} {class}"))
        .collect();
    let seen = format!(
        "Revalidation {} of archive {} {}: of {} objects {} are damaged, {} of them newly found ({}).",
        e.job,
        e.archive,
        e.outcome,
        e.checked,
        e.damaged,
        e.new_damage,
        classes.join(", ")
    );
    let expected = "A revalidation finds nothing new.".to_owned();
    let id = signal_id(NAME, &[e.archive.as_bytes(), e.job.as_bytes(), b"finished"]);
    let evidence = format!("report {}", hex::encode(&e.report_sha256));
    signal(
        envelope,
        &e.archive,
        (id, seen, expected),
        evidence,
        e.finished_at_ms,
    )
}

fn not_restored(envelope: &Envelope, e: &RestoreFailed) -> SignalReported {
    let seen = format!(
        "No intact original of {} of archive {} was found: {}.",
        e.object, e.archive, e.reason
    );
    let expected = "A version in the backup store has the bytes that were sealed, and a seal that holds for them.".to_owned();
    let id = signal_id(
        NAME,
        &[
            e.archive.as_bytes(),
            e.object.as_bytes(),
            &e.at_ms.to_be_bytes(),
        ],
    );
    signal(
        envelope,
        &e.archive,
        (id, seen, expected),
        e.reason.clone(),
        e.at_ms,
    )
}

fn signal(
    envelope: &Envelope,
    archive: &str,
    (id, seen, expected): (String, String, String),
    evidence: String,
    at_ms: i64,
) -> SignalReported {
    SignalReported {
        reading: None,
        key: String::new(),
        signal: id,
        detector: NAME.to_owned(),
        class: DATA_INTEGRITY.to_owned(),
        subject: format!("archive {archive}"),
        log: String::new(),
        origin: String::new(),
        // Whoever has the object, its seal and the trust bundle can check it.
        proven: true,
        seen,
        expected,
        events: vec![envelope.position],
        evidence: evidence.into(),
        earliest_at_ms: if at_ms > 0 {
            at_ms
        } else {
            envelope.recorded_at_ms
        },
        reporter: Some(Reporter {
            person: false,
            name: NAME.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use sealwarden_wire::event::v1::ArchiveDamage;

    use super::*;

    fn run(kind: &Kind) -> Option<SignalReported> {
        let envelope = Envelope {
            position: 9,
            ..Envelope::default()
        };
        archive_damage(&envelope, kind)
    }

    fn damage(job: &str, objects: u32) -> Kind {
        let damage = (0..objects).map(|n| ArchiveDamage {
            object: format!("{n}.pdf"),
            class: "missing".to_owned(),
            ..ArchiveDamage::default()
        });
        Kind::ArchiveDamageFound(ArchiveDamageFound {
            archive: "main".to_owned(),
            job: job.to_owned(),
            damage: damage.collect(),
            found_at_ms: 5,
        })
    }

    #[test]
    fn all_damage_of_one_revalidation_is_one_signal_about_the_archive_and_about_no_log() {
        let first = run(&damage("main-1", 5)).unwrap();
        assert_eq!(first.subject, "archive main");
        assert!(first.log.is_empty() && first.origin.is_empty() && first.proven);
        assert!(
            first
                .seen
                .contains("5 missing (0.pdf, 1.pdf, 2.pdf and 2 more)"),
            "{}",
            first.seen
        );
        assert_eq!(run(&damage("main-1", 1)).unwrap().signal, first.signal);
        assert_ne!(run(&damage("main-2", 1)).unwrap().signal, first.signal);
    }

    #[test]
    fn an_end_without_news_is_no_signal() {
        let mut end = RevalidationFinished {
            archive: "main".to_owned(),
            job: "main-1".to_owned(),
            damaged: 3,
            ..RevalidationFinished::default()
        };
        assert!(run(&Kind::RevalidationFinished(end.clone())).is_none());
        end.new_damage = 1;
        assert!(run(&Kind::RevalidationFinished(end)).is_some());
    }

    #[test]
    fn what_cannot_be_restored_is_said() {
        let failed = RestoreFailed {
            archive: "main".to_owned(),
            object: "a".to_owned(),
            reason: "3 versions, none intact".to_owned(),
            at_ms: 4,
            ..RestoreFailed::default()
        };
        let signal = run(&Kind::RestoreFailed(failed)).unwrap();
        assert!(signal.seen.contains("3 versions"), "{}", signal.seen);
    }
}
