use super::*;
use crate::trust::FrozenAt;
use crate::verdict::{Verdict, Verification, VerifiedAnchor, Verifier, verify, verify_anchored};

fn judge(seal: &Seal, payload: &Payload) -> Verification {
    verify(&bytes_of(seal), Some(DOCUMENT), &opened(payload), now_ms())
}

fn changed(change: impl FnOnce(&mut Payload)) -> Payload {
    let mut payload = payload();
    change(&mut payload);
    payload
}

/// `since` relative to the outside witness's time.
fn compromised(since: &str) -> Payload {
    changed(|it| {
        it.logs[0].compromised_since = Some(at(since));
        it.logs[0].successor = Some("seal.example.com/main/2".into());
    })
}

#[test]
fn a_good_seal_is_valid_and_says_what_it_rests_on() {
    let answer = judge(&seal(), &payload());
    assert_eq!(answer.verdict, Verdict::Valid, "{}", answer.reason);
    assert_eq!(answer.origin.as_deref(), Some(ORIGIN));
    assert_eq!((answer.index, answer.tree_size), (Some(5), Some(11)));
    assert_eq!(answer.sealed_at.as_deref(), Some("2026-05-01T12:00:00Z"));
    assert_eq!(answer.claimed_at.as_deref(), Some("2026-05-01T11:59:59Z"));
    assert_eq!(answer.bundle_version, 1);
    assert_eq!(answer.bundle_issued, "2026-05-01T00:00:00Z");
    assert_eq!(answer.record, Some(record()));
    let witnesses: Vec<_> = answer
        .witnesses
        .iter()
        .map(|it| (it.name.as_str(), it.local))
        .collect();
    assert_eq!(witnesses, [("w2", true), ("w3", false)]);
    let json = serde_json::to_value(&answer).unwrap();
    assert_eq!(json["verdict"], "valid");
    assert_eq!(json["witnesses"][1]["time"], "2026-05-01T12:01:00Z");
}

#[test]
fn names_and_exit_codes_are_the_promised_ones() {
    let all = [
        (Verdict::Valid, "valid"),
        (Verdict::ValidBeforeCompromise, "valid-before-compromise"),
        (Verdict::Suspect, "suspect"),
        (Verdict::Unwitnessed, "unwitnessed"),
        (Verdict::DocumentMismatch, "document-mismatch"),
        (Verdict::BadProof, "bad-proof"),
        (Verdict::BadSignature, "bad-signature"),
        (Verdict::UnknownLog, "unknown-log"),
        (Verdict::Malformed, "malformed"),
    ];
    for (place, (verdict, name)) in all.into_iter().enumerate() {
        assert_eq!(verdict.as_str(), name);
        assert_eq!(serde_json::to_value(verdict).unwrap(), name);
        assert_eq!(verdict.exit_code(), u8::from(place > 1));
    }
}

#[test]
fn no_flipped_bit_leaves_a_seal_valid() {
    let bytes = bytes_of(&seal());
    let bundle = opened(&payload());
    let mut cached = Verifier::new(&bundle, 4);
    assert_eq!(
        cached.verify(&bytes, Some(DOCUMENT), now_ms()).verdict,
        Verdict::Valid
    );
    for (bit, flipped) in flips(&bytes) {
        let answer = cached.verify(&flipped, Some(DOCUMENT), now_ms());
        assert!(
            !answer.verdict.is_valid(),
            "bit {bit} of byte {}: {}",
            bit / 8,
            answer.reason
        );
        assert!(answer.reason.ends_with('.'), "{}", answer.reason);
    }
}

#[test]
fn no_flipped_bit_of_the_document_leaves_it_valid() {
    let bundle = opened(&payload());
    for (_, digest) in flips(&DOCUMENT) {
        let digest = Some(digest.try_into().unwrap());
        let answer = verify(&bytes_of(&seal()), digest, &bundle, now_ms());
        assert_eq!(answer.verdict, Verdict::DocumentMismatch);
    }
    let answer = verify(&bytes_of(&seal()), None, &bundle, now_ms());
    assert_eq!(answer.verdict, Verdict::Valid);
    assert!(
        answer.reason.starts_with("No document was compared"),
        "{}",
        answer.reason
    );
}

#[test]
fn the_earlier_failure_wins() {
    let bundle = opened(&payload());
    let verdict =
        |seal: &Seal, digest| verify(&bytes_of(seal), Some(digest), &bundle, now_ms()).verdict;
    let mut bad = unwitnessed_seal();
    assert_eq!(verdict(&bad, DOCUMENT), Verdict::Unwitnessed);
    assert_eq!(verdict(&bad, [0; 32]), Verdict::DocumentMismatch);
    bad.proof[0] = Hash([0; 32]);
    assert_eq!(verdict(&bad, [0; 32]), Verdict::BadProof);
    bad.note
        .attach(ORIGIN, log_vkey().key_id(), &[0; 64])
        .unwrap();
    assert_eq!(verdict(&bad, [0; 32]), Verdict::BadSignature);
    let elsewhere = Checkpoint {
        origin: "other/1".into(),
        size: 11,
        root: Hash([0; 32]),
    };
    bad.note = elsewhere
        .to_note()
        .unwrap()
        .attach("n", log_vkey().key_id(), &[0])
        .unwrap();
    assert_eq!(verdict(&bad, [0; 32]), Verdict::UnknownLog);
    assert_eq!(
        verify(b"x", None, &bundle, now_ms()).verdict,
        Verdict::Malformed
    );
}

#[test]
fn a_checkpoint_that_only_witnesses_signed_is_bad() {
    let mut seal = seal();
    seal.note = seal.note.filtered(|line| line.name() != ORIGIN).unwrap();
    assert_eq!(judge(&seal, &payload()).verdict, Verdict::BadSignature);
}

#[test]
fn a_trusted_witnesses_bad_cosignature_rejects() {
    let mut seal = seal();
    let vkey = witness_vkey(OUTSIDE);
    seal.note
        .attach(vkey.name(), vkey.key_id(), &[0; 72])
        .unwrap();
    assert_eq!(judge(&seal, &payload()).verdict, Verdict::BadSignature);
}

#[test]
fn one_witness_counts_once() {
    let mut seal = unwitnessed_seal();
    cosign(&mut seal.note, OUTSIDE, cosigned_s() + 9);
    cosign(&mut seal.note, OUTSIDE, cosigned_s());
    let answer = judge(&seal, &payload());
    assert_eq!(answer.verdict, Verdict::Unwitnessed);
    assert_eq!(answer.witnesses.len(), 1);
    assert_eq!(answer.sealed_at.as_deref(), Some("2026-05-01T12:00:00Z"));
    assert_eq!(
        judge(&seal, &changed(|it| it.quorum = Quorum::Count(1))).verdict,
        Verdict::Valid
    );
}

#[test]
fn cosignatures_from_the_future_do_not_count() {
    let skew_s = payload().clock_skew_s;
    let now_s = u64::try_from(now_ms() / 1000).unwrap();
    for (time_s, verdict) in [
        (now_s + skew_s, Verdict::Valid),
        (now_s + skew_s + 1, Verdict::Unwitnessed),
        (u64::MAX, Verdict::Unwitnessed),
        (1 << 60, Verdict::Unwitnessed),
    ] {
        let mut seal = unwitnessed_seal();
        cosign(&mut seal.note, LOCAL, cosigned_s());
        cosign(&mut seal.note, OUTSIDE, time_s);
        assert_eq!(judge(&seal, &payload()).verdict, verdict, "{time_s}");
    }
}

#[test]
fn an_expired_or_future_bundle_makes_a_good_seal_suspect() {
    let bundle = opened(&payload());
    let verdict = |now: &str| {
        verify(
            &bytes_of(&seal()),
            Some(DOCUMENT),
            &bundle,
            at(now).as_millisecond(),
        )
        .verdict
    };
    assert_eq!(verdict("2026-07-31T23:59:59Z"), Verdict::Valid);
    assert_eq!(verdict("2026-08-01T00:00:00Z"), Verdict::Suspect);
    let early = changed(|it| it.issued = at("2026-06-01T12:05:00.001Z"));
    assert_eq!(judge(&seal(), &early).verdict, Verdict::Suspect);
    let early = changed(|it| it.issued = at("2026-06-01T12:05:00Z"));
    assert_eq!(judge(&seal(), &early).verdict, Verdict::Valid);
}

#[test]
fn only_an_outside_time_plus_skew_before_the_compromise_saves_a_seal() {
    // The outside witness cosigned at 12:01:00; the skew is 300 s.
    let verdict = |since: &str| judge(&seal(), &compromised(since));
    assert_eq!(
        verdict("2026-05-01T12:06:00.001Z").verdict,
        Verdict::ValidBeforeCompromise
    );
    let suspect = verdict("2026-05-01T12:06:00Z");
    assert_eq!(suspect.verdict, Verdict::Suspect);
    assert!(
        suspect
            .reason
            .contains("re-sealed in seal.example.com/main/2"),
        "{}",
        suspect.reason
    );
    // A local witness's time says nothing.
    let mut local = unwitnessed_seal();
    cosign(&mut local.note, LOCAL, cosigned_s());
    let lone = changed(|it| {
        it.quorum = Quorum::Count(1);
        it.logs[0].compromised_since = Some(at("2026-05-20T00:00:00Z"));
    });
    assert_eq!(judge(&local, &lone).verdict, Verdict::Suspect);
    cosign(&mut local.note, OUTSIDE, cosigned_s());
    assert_eq!(judge(&local, &lone).verdict, Verdict::ValidBeforeCompromise);
}

#[test]
fn a_seal_older_than_the_compromise_still_needs_quorum_and_a_current_bundle() {
    let mut outside = unwitnessed_seal();
    cosign(&mut outside.note, OUTSIDE, cosigned_s());
    let payload = compromised("2026-05-20T00:00:00Z");
    assert_eq!(judge(&outside, &payload).verdict, Verdict::Unwitnessed);
    let expired = Payload {
        expires: at("2026-05-30T00:00:00Z"),
        ..payload
    };
    assert_eq!(judge(&seal(), &expired).verdict, Verdict::Suspect);
}

#[test]
fn a_frozen_log_ends_where_it_was_frozen() {
    let root = seal().checkpoint().unwrap().root;
    let frozen = |size, root, since: Option<&str>| {
        changed(|it| {
            it.logs[0].state = LogState::Frozen;
            it.logs[0].frozen_at = Some(FrozenAt { size, root });
            it.logs[0].compromised_since = since.map(at);
        })
    };
    let verdict = |size, root, since| judge(&seal(), &frozen(size, root, since)).verdict;
    let late = Some("2026-05-20T00:00:00Z");
    assert_eq!(verdict(11, root, None), Verdict::Valid);
    assert_eq!(verdict(12, root, None), Verdict::Valid);
    assert_eq!(verdict(10, root, None), Verdict::Suspect);
    assert_eq!(verdict(11, Hash([0; 32]), None), Verdict::Suspect);
    assert_eq!(verdict(11, root, late), Verdict::ValidBeforeCompromise);
    assert_eq!(verdict(10, root, late), Verdict::Suspect);
}

#[test]
fn a_suspension_works_like_a_compromise_and_names_its_incident() {
    let mut bundle = signed_bundle(&payload(), &[ROOT_A, ROOT_B]);
    let note = signed_suspension(&suspension("2026-05-01T12:00:00Z"), SIGNING);
    bundle.add_suspension(&note).unwrap();
    let bundle = bundle.open(None).unwrap();
    let answer = verify(&bytes_of(&seal()), Some(DOCUMENT), &bundle, now_ms());
    assert_eq!(answer.verdict, Verdict::Suspect);
    assert!(answer.reason.contains("INC-1"), "{}", answer.reason);
}

#[test]
fn a_retired_log_goes_on_verifying_and_several_keys_may_sign() {
    let payload = changed(|it| {
        it.logs[0].state = LogState::Retired;
        it.logs[0]
            .vkeys
            .insert(0, Vkey::ed25519(ORIGIN, public(60)).unwrap());
    });
    assert_eq!(judge(&seal(), &payload).verdict, Verdict::Valid);
}

#[test]
fn a_remembered_checkpoint_gives_the_same_answers() {
    let bundle = opened(&compromised("2026-05-20T00:00:00Z"));
    let mut verifier = Verifier::new(&bundle, 1);
    let seals = [seal(), unwitnessed_seal(), seal(), seal()];
    for seal in &seals {
        for now in [
            now_ms(),
            at("2026-04-01T00:00:00Z").as_millisecond(),
            now_ms(),
        ] {
            let bytes = bytes_of(seal);
            let fresh = verify(&bytes, Some(DOCUMENT), &bundle, now);
            assert_eq!(verifier.verify(&bytes, Some(DOCUMENT), now), fresh);
        }
    }
}

fn anchor(time: &str, checkpoint: &Note) -> VerifiedAnchor {
    VerifiedAnchor {
        time_ms: at(time).as_millisecond(),
        tsa: "CN=TSA".into(),
        checkpoint: checkpoint.to_string(),
        proof: Vec::new(),
    }
}

fn judge_anchored(payload: &Payload, anchors: &[VerifiedAnchor]) -> Verification {
    let bundle = opened(payload);
    verify_anchored(
        &bytes_of(&seal()),
        Some(DOCUMENT),
        &bundle,
        anchors,
        now_ms(),
    )
}

#[test]
fn an_anchor_from_before_the_compromise_dates_a_seal() {
    // Before the outside witness's time less the skew, so that it cannot help.
    let payload = compromised("2026-05-01T11:00:00Z");
    let early = anchor("2026-05-01T10:00:00Z", &seal().note);
    assert_eq!(judge_anchored(&payload, &[]).verdict, Verdict::Suspect);
    let answer = judge_anchored(&payload, std::slice::from_ref(&early));
    assert_eq!(
        answer.verdict,
        Verdict::ValidBeforeCompromise,
        "{}",
        answer.reason
    );
    assert!(
        answer
            .reason
            .contains("CN=TSA anchored this checkpoint at 2026-05-01T10:00:00Z")
    );
    // Its cosignatures may be others than the seal's.
    let unsigned = seal().note.filtered(|it| it.name() != ORIGIN).unwrap();
    let bare = seal().note.filtered(|it| it.name() == ORIGIN).unwrap();
    let answer = judge_anchored(&payload, &[anchor("2026-05-01T10:00:00Z", &bare)]);
    assert_eq!(answer.verdict, Verdict::ValidBeforeCompromise);
    // Too late (skew included), over a text that the log did not sign, or over no checkpoint at all: as if it were not there.
    let mut rubbish = early.clone();
    rubbish.checkpoint = "rubbish".into();
    for useless in [
        anchor("2026-05-01T10:59:59Z", &seal().note),
        anchor("2026-05-01T10:00:00Z", &unsigned),
        rubbish,
    ] {
        let answer = judge_anchored(&payload, std::slice::from_ref(&useless));
        assert_eq!(answer.verdict, Verdict::Suspect, "{useless:?}");
        let answer = judge_anchored(&payload, &[useless, early.clone()]);
        assert_eq!(answer.verdict, Verdict::ValidBeforeCompromise);
    }
}

#[test]
fn an_anchor_changes_nothing_where_no_key_was_compromised() {
    let early = anchor("2026-05-01T10:00:00Z", &seal().note);
    assert_eq!(
        judge_anchored(&payload(), &[early]),
        judge(&seal(), &payload())
    );
}
