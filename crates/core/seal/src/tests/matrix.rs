//! The verdict matrix: every situation with its verdict, as one table of data. `docs/verdicts.md` holds the same table for people,
//! and the last test compares the two.

mod cells;

use super::*;
use crate::trust::{FORMAT_2, TrustError, accept};
use crate::verdict::{Verdict, VerifiedAnchor, verify_anchored};
use std::fmt::Write as _;

/// One situation: what is verified, by what.
pub(super) struct Case {
    pub(super) seal: Seal,
    /// Takes the place of the seal's file where it is no seal's.
    pub(super) bytes: Option<Vec<u8>>,
    pub(super) digest: Option<[u8; 32]>,
    pub(super) payload: Payload,
    pub(super) suspensions: Vec<Suspension>,
    pub(super) max_age_s: Option<u64>,
    pub(super) anchors: Vec<VerifiedAnchor>,
    pub(super) now: &'static str,
}

impl Case {
    /// A good seal with its document under a bundle of the second format.
    fn good() -> Self {
        let mut payload = payload();
        payload.format = FORMAT_2.into();
        Self {
            seal: seal(),
            bytes: None,
            digest: Some(DOCUMENT),
            payload,
            suspensions: Vec::new(),
            max_age_s: None,
            anchors: Vec::new(),
            now: "2026-06-01T12:00:00Z",
        }
    }

    fn verdict(&self) -> (Verdict, String) {
        let mut bundle = signed_bundle(&self.payload, &[ROOT_A, ROOT_B]);
        for suspension in &self.suspensions {
            bundle
                .add_suspension(&signed_suspension(suspension, SIGNING))
                .unwrap();
        }
        let mut bundle = bundle.open(None).unwrap();
        if let Some(max_age_s) = self.max_age_s {
            bundle = bundle.with_max_age_s(max_age_s);
        }
        let bytes = self.bytes.clone().unwrap_or_else(|| bytes_of(&self.seal));
        let now_ms = at(self.now).as_millisecond();
        let answer = verify_anchored(&bytes, self.digest, &bundle, &self.anchors, now_ms);
        (answer.verdict, answer.reason)
    }
}

/// A row of the table.
pub(super) struct Cell {
    pub(super) area: &'static str,
    pub(super) situation: &'static str,
    pub(super) verdict: Verdict,
    /// What the reason says, among other things.
    pub(super) says: &'static str,
    pub(super) arrange: fn(&mut Case),
}

#[test]
fn every_cell_has_its_verdict_and_its_reason() {
    for cell in cells::all() {
        let mut case = Case::good();
        (cell.arrange)(&mut case);
        let (verdict, reason) = case.verdict();
        assert_eq!(verdict, cell.verdict, "{}: {reason}", cell.situation);
        assert!(reason.contains(cell.says), "{}: {reason}", cell.situation);
        assert!(reason.ends_with('.'), "{}: {reason}", cell.situation);
    }
}

#[test]
fn every_verdict_has_a_cell() {
    for verdict in [
        Verdict::Valid,
        Verdict::ValidBeforeCompromise,
        Verdict::Suspect,
        Verdict::Unwitnessed,
        Verdict::DocumentMismatch,
        Verdict::BadProof,
        Verdict::BadSignature,
        Verdict::UnknownLog,
        Verdict::Malformed,
    ] {
        assert!(cells::all().any(|cell| cell.verdict == verdict));
    }
}

/// A bundle that is refused, so that nothing is verified by it: what came after what.
struct Refusal {
    situation: &'static str,
    arrange: fn() -> TrustError,
    says: &'static str,
}

fn next(payload: &Payload) -> Payload {
    let text = payload.to_json().unwrap();
    Payload {
        version: payload.version + 1,
        previous: Some(Hash::of(text.as_bytes())),
        ..payload.clone()
    }
}

fn after(seen: &VerifiedBundle, bundle: &VerifiedBundle) -> TrustError {
    let seen = accept(None, seen).unwrap();
    accept(Some(&seen), bundle).unwrap_err()
}

const REFUSALS: [Refusal; 6] = [
    Refusal {
        situation: "lower version than one seen before (rolled back)",
        arrange: || after(&opened(&next(&payload())), &opened(&payload())),
        says: "may be a replay",
    },
    Refusal {
        situation: "another payload under a version seen before, or one that does not follow it",
        arrange: || {
            let other = Payload {
                clock_skew_s: 1,
                ..payload()
            };
            after(&opened(&payload()), &opened(&other))
        },
        says: "does not agree with the one seen before",
    },
    Refusal {
        situation: "suspension seen before is missing",
        arrange: || {
            let mut suspended = signed_bundle(&payload(), &[ROOT_A, ROOT_B]);
            let note = signed_suspension(&suspension("2026-05-02T00:00:00Z"), SIGNING);
            suspended.add_suspension(&note).unwrap();
            after(&suspended.open(None).unwrap(), &opened(&payload()))
        },
        says: "seen before is missing",
    },
    Refusal {
        situation: "other root keys, for which the ones seen before did not sign",
        arrange: || {
            let mut other = next(&payload());
            other.roots = roots(1, &[77]);
            let other = signed_bundle(&other, &[77]).open(None).unwrap();
            after(&opened(&payload()), &other)
        },
        says: "names other root keys",
    },
    Refusal {
        situation: "too few root keys signed",
        arrange: || signed_bundle(&payload(), &[ROOT_A]).open(None).unwrap_err(),
        says: "1 of the bundle's own root keys signed, 2 must",
    },
    Refusal {
        situation: "one root signature or suspension does not verify",
        arrange: || {
            let mut bundle = signed_bundle(&payload(), &[ROOT_A, ROOT_B]);
            bundle
                .add_signature(&armored(99, "sealwarden-trust", "something else"))
                .unwrap();
            bundle.open(None).unwrap_err()
        },
        says: "does not verify",
    },
];

#[test]
fn every_bundle_that_must_not_count_is_refused() {
    for refusal in &REFUSALS {
        let error = (refusal.arrange)().to_string();
        assert!(
            error.contains(refusal.says),
            "{}: {error}",
            refusal.situation
        );
    }
}

#[test]
fn the_documentation_says_the_same() {
    let mut table = String::new();
    let mut area = "";
    for cell in cells::all() {
        if cell.area != area {
            area = cell.area;
            let head = "| situation | verdict | the reason says |\n|---|---|---|\n";
            write!(table, "\n### {area}\n\n{head}").unwrap();
        }
        let (situation, says) = (cell.situation, cell.says);
        writeln!(table, "| {situation} | `{}` | {says} |", cell.verdict).unwrap();
    }
    let mut refused = "| the bundle | the refusal says |\n|---|---|\n".to_owned();
    for refusal in &REFUSALS {
        writeln!(refused, "| {} | {} |", refusal.situation, refusal.says).unwrap();
    }
    let page = include_str!("../../../../../docs/verdicts.md");
    assert!(
        page.contains(&table),
        "docs/verdicts.md must hold:\n{table}"
    );
    assert!(
        page.contains(&refused),
        "docs/verdicts.md must hold:\n{refused}"
    );
}
