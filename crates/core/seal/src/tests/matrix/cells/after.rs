//! Leaves sealed again, witnesses, the age of the bundle.

use super::*;

pub(super) const CELLS: &[Cell] = &[
    cell(
        RESEALED,
        "names an original before the cut of a frozen log",
        Verdict::Valid,
        "the original is leaf 8 of seal.example.com/main/0",
        |it| {
            resealed(it, "seal.example.com/main/0", 8);
        },
    ),
    cell(
        RESEALED,
        "names an original after the cut (laundered)",
        Verdict::Suspect,
        "only its first 9 leaves are known",
        |it| {
            resealed(it, "seal.example.com/main/0", 9);
        },
    ),
    cell(
        RESEALED,
        "after the cut, within what the log intended before the compromise",
        Verdict::Valid,
        "the original is leaf 10 of",
        |it| {
            resealed(it, "seal.example.com/main/0", 10);
            it.payload.logs[1].resealable = Some(11);
        },
    ),
    cell(
        RESEALED,
        "names an original in a log that the bundle does not list",
        Verdict::Suspect,
        "does not know that log",
        |it| {
            resealed(it, "elsewhere.example/main/1", 0);
        },
    ),
    cell(
        RESEALED,
        "names an original in its own log",
        Verdict::Suspect,
        "no log seals its own leaves again",
        |it| {
            resealed(it, ORIGIN, 0);
        },
    ),
    cell(
        RESEALED,
        "names an original in a log that still grows",
        Verdict::Suspect,
        "neither frozen nor retired",
        |it| {
            resealed(it, "seal.example.com/main/0", 0);
            it.payload.logs[1].state = LogState::Active;
        },
    ),
    cell(
        RESEALED,
        "names an original in a retired log whose key was compromised, without a cut",
        Verdict::Suspect,
        "does not say where its good part ends",
        |it| {
            resealed(it, "seal.example.com/main/0", 0);
            it.payload.logs[1].state = LogState::Retired;
            it.payload.logs[1].frozen_at = None;
        },
    ),
    cell(
        WITNESSES,
        "count: enough cosigned",
        Verdict::Valid,
        "cosigned by 2 witnesses",
        |_| {},
    ),
    cell(
        WITNESSES,
        "count: one is missing",
        Verdict::Unwitnessed,
        "2 of all witnesses must",
        |it| {
            cosigners(it, &[LOCAL]);
        },
    ),
    cell(
        WITNESSES,
        "count: nobody is asked for",
        Verdict::Valid,
        "cosigned by no witness",
        |it| {
            it.payload.quorum = Quorum::Count(0);
            cosigners(it, &[]);
        },
    ),
    cell(
        WITNESSES,
        "`none`: nobody is asked for",
        Verdict::Valid,
        "cosigned by no witness",
        |it| {
            it.payload.quorum = tree(NO_QUORUM, vec![]);
            cosigners(it, &[]);
        },
    ),
    cell(
        WITNESSES,
        "one witness by name: it cosigned",
        Verdict::Valid,
        "cosigned by 1 witness",
        |it| {
            it.payload.quorum = tree("w3", vec![]);
            cosigners(it, &[OUTSIDE]);
        },
    ),
    cell(
        WITNESSES,
        "one witness by name: another one cosigned",
        Verdict::Unwitnessed,
        "w3 must",
        |it| {
            it.payload.quorum = tree("w3", vec![]);
            cosigners(it, &[LOCAL]);
        },
    ),
    cell(
        WITNESSES,
        "`any`: one of two cosigned",
        Verdict::Valid,
        "cosigned by 1 witness",
        |it| {
            it.payload.quorum = tree("g", vec![group("g", Threshold::Any, &["w2", "w3"])]);
            cosigners(it, &[LOCAL]);
        },
    ),
    cell(
        WITNESSES,
        "`any`: nobody cosigned",
        Verdict::Unwitnessed,
        "any of w2, w3 must",
        |it| {
            it.payload.quorum = tree("g", vec![group("g", Threshold::Any, &["w2", "w3"])]);
            cosigners(it, &[]);
        },
    ),
    cell(
        WITNESSES,
        "`all`: one is missing",
        Verdict::Unwitnessed,
        "all of w2, w3 must",
        |it| {
            it.payload.quorum = tree("g", vec![group("g", Threshold::All, &["w2", "w3"])]);
            cosigners(it, &[OUTSIDE]);
        },
    ),
    cell(
        WITNESSES,
        "k of members: met",
        Verdict::Valid,
        "cosigned by 2 witnesses",
        |it| {
            it.payload.quorum = tree("g", vec![group("g", Threshold::Members(2), &["w2", "w3"])]);
        },
    ),
    cell(
        WITNESSES,
        "k of members: not met",
        Verdict::Unwitnessed,
        "2 of w2, w3 must",
        |it| {
            it.payload.quorum = tree("g", vec![group("g", Threshold::Members(2), &["w2", "w3"])]);
            cosigners(it, &[LOCAL]);
        },
    ),
    cell(
        WITNESSES,
        "nested groups: the inner one is not met",
        Verdict::Unwitnessed,
        "all of w2, (any of w3) must",
        |it| {
            it.payload.quorum = tree(
                "g",
                vec![
                    group("outside", Threshold::Any, &["w3"]),
                    group("g", Threshold::All, &["w2", "outside"]),
                ],
            );
            cosigners(it, &[LOCAL]);
        },
    ),
    cell(
        WITNESSES,
        "nested groups: met",
        Verdict::Valid,
        "cosigned by 2 witnesses",
        |it| {
            it.payload.quorum = tree(
                "g",
                vec![
                    group("outside", Threshold::Any, &["w3"]),
                    group("g", Threshold::All, &["w2", "outside"]),
                ],
            );
        },
    ),
    cell(
        WITNESSES,
        "one witness cosigned twice",
        Verdict::Unwitnessed,
        "1 of the bundle's witnesses cosigned",
        |it| {
            cosigners(it, &[OUTSIDE]);
            cosign(&mut it.seal.note, OUTSIDE, cosigned_s() + 9);
        },
    ),
    cell(
        WITNESSES,
        "cosignature from the future, beyond the skew",
        Verdict::Unwitnessed,
        "dated after the present",
        |it| {
            it.now = "2026-05-01T11:00:00Z";
        },
    ),
    cell(
        WITNESSES,
        "a listed witness's cosignature fails",
        Verdict::BadSignature,
        "was changed or forged",
        |it| {
            let vkey = witness_vkey(OUTSIDE);
            it.seal
                .note
                .attach(vkey.name(), vkey.key_id(), &[0; 72])
                .unwrap();
        },
    ),
    cell(
        WITNESSES,
        "witnesses cosigned, the log did not sign",
        Verdict::BadSignature,
        "no key of its log signed it",
        |it| {
            it.seal.note = without_log(it);
        },
    ),
    cell(
        WITNESSES,
        "compromise and a missing witness: the compromise is told",
        Verdict::Suspect,
        "may have been compromised",
        |it| {
            compromise(it, "2026-04-20T00:00:00Z");
            cosigners(it, &[]);
        },
    ),
    cell(
        BUNDLE,
        "expired",
        Verdict::Suspect,
        "that expired at",
        |it| {
            it.now = "2026-08-01T00:00:00Z";
        },
    ),
    cell(
        BUNDLE,
        "expired, and the seal is older than a compromise",
        Verdict::Suspect,
        "that expired at",
        |it| {
            compromise(it, "2026-05-20T00:00:00Z");
            it.now = "2026-08-01T00:00:00Z";
        },
    ),
    cell(
        BUNDLE,
        "issued after the present, beyond the skew",
        Verdict::Suspect,
        "set this machine's clock",
        |it| {
            it.payload.issued = at("2026-06-01T12:05:00.001Z");
        },
    ),
    cell(
        BUNDLE,
        "older than the verifier allows (`--max-age`)",
        Verdict::Suspect,
        "longer ago than the 86400 s",
        |it| {
            it.max_age_s = Some(86_400);
        },
    ),
    cell(
        BUNDLE,
        "younger than the verifier allows",
        Verdict::Valid,
        "is the one sealed",
        |it| {
            it.max_age_s = Some(86_400 * 60);
        },
    ),
];
