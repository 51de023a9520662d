//! Verifiers that say something else than is known of archived documents, or that said it and now say nothing.
//!
//! One signal for what the same releases say until the verifier has agreed again: a regression is compared more than once while it is answered.

use sealwarden_domain::incident::time_text;
use sealwarden_wire::event::v1::{Envelope, Reporter, SignalReported, VerdictsCompared};

use crate::ids::signal_id;

/// The detector's name.
const NAME: &str = "verdict-regression";
/// The class of its signals.
const RELEASE_REGRESSION: &str = "release-regression";

/// The detector.
pub(crate) fn verdict_regression(
    envelope: &Envelope,
    e: &VerdictsCompared,
) -> Option<SignalReported> {
    let differing: Vec<&str> = e
        .releases
        .iter()
        .filter(|it| it.different > 0)
        .map(|it| it.release.as_str())
        .collect();
    // Of a verifier that never answered nobody knows what it is; the first time that it agrees it becomes one that can regress.
    let silent = !e.problem.is_empty() && e.agreed_at_ms > 0;
    if differing.is_empty() && !silent {
        return None;
    }
    let what = if differing.is_empty() {
        "silent".to_owned()
    } else {
        differing.join(" ")
    };
    let parts = [
        e.verifier.as_bytes(),
        what.as_bytes(),
        &e.agreed_at_ms.to_be_bytes(),
    ];
    Some(SignalReported {
        reading: None,
        key: String::new(),
        signal: signal_id(NAME, &parts),
        detector: NAME.to_owned(),
        class: RELEASE_REGRESSION.to_owned(),
        subject: format!("verifier {}", e.verifier),
        log: String::new(),
        origin: String::new(),
        // Whoever has the documents, their seals and the trust bundle can put the same questions.
        proven: true,
        seen: format!("Verifier {}: {}.", e.verifier, sentence(e)),
        expected: expected(e),
        events: vec![envelope.position],
        evidence: evidence(e).into(),
        earliest_at_ms: if e.at_ms > 0 {
            e.at_ms
        } else {
            envelope.recorded_at_ms
        },
        reporter: Some(Reporter {
            person: false,
            name: NAME.to_owned(),
        }),
    })
}

fn expected(e: &VerdictsCompared) -> String {
    let known =
        "It says of every archived document what this installation's own verification says.";
    if e.agreed_at_ms == 0 {
        return known.to_owned();
    }
    format!(
        "{known} It last did at {}, at release {}.",
        time_text(e.agreed_at_ms),
        e.agreed_releases.join(", ")
    )
}

fn evidence(e: &VerdictsCompared) -> String {
    let lines = e.differences.iter().map(|it| {
        format!(
            "{} {} of archive {} at release {}: expected {}, said {}: {}",
            it.probe, it.object, e.archive, it.release, it.expected, it.said, it.reason
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A comparison in words.
pub(crate) fn sentence(e: &VerdictsCompared) -> String {
    let releases: Vec<String> = e
        .releases
        .iter()
        .map(|it| match it.different {
            0 => format!("release {} agrees on all of {}", it.release, it.compared),
            some => format!(
                "release {} differs on {some} of {}",
                it.release, it.compared
            ),
        })
        .collect();
    let first = e.differences.first().map(|it| {
        format!(
            "the first difference: {} {}, {} instead of {}",
            it.probe, it.object, it.said, it.expected
        )
    });
    let silence = (!e.problem.is_empty()).then(|| format!("it does not answer: {}", e.problem));
    let words: Vec<String> = releases.into_iter().chain(first).chain(silence).collect();
    words.join("; ")
}

#[cfg(test)]
mod tests {
    use sealwarden_wire::event::v1::{DifferentVerdict, ReleaseCompared};

    use super::*;

    fn compared(releases: &[(&str, u64)], problem: &str, agreed_at_ms: i64) -> VerdictsCompared {
        let releases = releases.iter().map(|(release, different)| ReleaseCompared {
            release: (*release).to_owned(),
            compared: 9,
            different: *different,
            ..ReleaseCompared::default()
        });
        VerdictsCompared {
            verifier: "fleet".to_owned(),
            releases: releases.collect(),
            differences: vec![DifferentVerdict {
                object: "a.pdf".to_owned(),
                probe: "archived".to_owned(),
                expected: "valid".to_owned(),
                said: "suspect".to_owned(),
                ..DifferentVerdict::default()
            }],
            problem: problem.to_owned(),
            agreed_at_ms,
            agreed_releases: vec!["1".to_owned()],
            at_ms: 7,
            ..VerdictsCompared::default()
        }
    }

    fn found(e: &VerdictsCompared) -> Option<SignalReported> {
        verdict_regression(&Envelope::default(), e)
    }

    #[test]
    fn a_release_that_differs_is_named_and_one_that_agrees_is_none() {
        assert!(found(&compared(&[("1", 0)], "", 5)).is_none());
        let signal = found(&compared(&[("1", 0), ("2", 3)], "", 5)).unwrap();
        assert_eq!(signal.subject, "verifier fleet");
        assert!(signal.proven && signal.log.is_empty() && signal.origin.is_empty());
        assert!(
            signal.seen.contains("release 2 differs on 3 of 9"),
            "{}",
            signal.seen
        );
        assert!(
            signal.expected.contains("at release 1"),
            "{}",
            signal.expected
        );
    }

    #[test]
    fn the_same_regression_is_one_signal_until_all_agreed_again() {
        let first = found(&compared(&[("2", 3)], "", 5)).unwrap().signal;
        assert_eq!(found(&compared(&[("2", 9)], "", 5)).unwrap().signal, first);
        assert_ne!(found(&compared(&[("2", 3)], "", 6)).unwrap().signal, first);
        assert_ne!(found(&compared(&[("3", 3)], "", 5)).unwrap().signal, first);
    }

    #[test]
    fn silence_is_a_signal_only_of_a_verifier_that_once_agreed() {
        assert!(found(&compared(&[], "connection refused", 0)).is_none());
        let signal = found(&compared(&[], "connection refused", 5)).unwrap();
        assert!(
            signal.seen.contains("connection refused"),
            "{}",
            signal.seen
        );
    }
}
