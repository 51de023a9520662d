//! ML-DSA-44 on checkpoints: vkeys, the exact message, log signatures and cosignatures, both types at once.

use super::*;
use crate::note::{NoteError, VkeyError};
use crate::trust::{FORMAT_2, SignatureType};
use crate::verdict::{Verdict, verify};

const PQ: u8 = 80;
const PQ_WITNESS: u8 = 81;

fn checkpoint() -> Checkpoint {
    Checkpoint {
        origin: ORIGIN.into(),
        size: 0x0102_0304,
        root: Hash([9; 32]),
    }
}

#[test]
fn the_message_is_the_one_that_c2sp_describes() {
    let key = ml_dsa_vkey("w.example/1", PQ);
    let text = checkpoint().to_text();
    let mut expected = b"subtree/v1\n\0\x0bw.example/1".to_vec();
    expected.extend_from_slice(&[0, 0, 0, 0, 0x68, 0x13, 0x55, 0x80]);
    expected.push(23);
    expected.extend_from_slice(b"seal.example.com/main/1");
    expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend_from_slice(&[0, 0, 0, 0, 1, 2, 3, 4]);
    expected.extend_from_slice(&[9; 32]);
    let message = cosignature::witness_message(&key, &text, 0x6813_5580).unwrap();
    assert_eq!(message, expected);
    // A log's own signature states the time 0.
    let key = ml_dsa_vkey(ORIGIN, PQ);
    let message = cosignature::log_message(&key, &checkpoint()).unwrap();
    assert_eq!(message[36..44], [0; 8]);
    assert_eq!(
        cosignature::witness_message(&key, &text, 0).unwrap(),
        message
    );
}

#[test]
fn keys_have_one_spelling_and_one_length() {
    let key = ml_dsa_vkey(ORIGIN, PQ);
    let text = key.to_string();
    assert_eq!(text.parse::<Vkey>().unwrap(), key);
    assert_eq!(
        key.key_id(),
        crate::note::key_id(ORIGIN, 6, key.public_key())
    );
    for length in [0, 32, 1311, 1313] {
        let mut bytes = vec![6];
        bytes.resize(1 + length, 1);
        let id = crate::note::key_id("n", 6, &bytes[1..]);
        let text = format!("n+{id}+{}", crate::encoding::base64(&bytes));
        assert!(matches!(
            text.parse::<Vkey>(),
            Err(VkeyError::KeyLength { expected: 1312, .. })
        ));
    }
}

#[test]
fn only_keys_of_the_fitting_kind_sign() {
    let text = checkpoint().to_text();
    assert!(cosignature::log_message(&witness_vkey(2), &checkpoint()).is_err());
    assert!(cosignature::log_line(&witness_vkey(2), &[0; 64]).is_err());
    assert!(cosignature::witness_message(&log_vkey(), &text, 1).is_err());
    assert!(cosignature::witness_line(&log_vkey(), 1, &[0; 64]).is_err());
    let key = ml_dsa_vkey(ORIGIN, PQ);
    for length in [0, 64, 2419, 2421] {
        assert!(cosignature::log_line(&key, &vec![0; length]).is_err());
        assert!(cosignature::witness_line(&key, 1, &vec![0; length]).is_err());
    }
    assert!(cosignature::witness_message(&key, "no checkpoint\n", 1).is_err());
    let long = Checkpoint {
        origin: "x".repeat(256),
        ..checkpoint()
    };
    assert!(cosignature::log_message(&key, &long).is_err());
}

#[test]
fn both_types_stand_on_one_checkpoint_and_a_bad_one_of_a_known_key_rejects() {
    let mut note = signed_checkpoint(3, Hash([1; 32]));
    sign_ml_dsa(&mut note, PQ);
    let key = ml_dsa_vkey(ORIGIN, PQ);
    let both = [log_vkey(), key.clone()];
    let again = Note::parse(note.to_string().as_bytes()).unwrap();
    let verified = again.verify(&both).unwrap();
    assert_eq!(
        verified.iter().map(|it| it.key_index).collect::<Vec<_>>(),
        [0, 1]
    );
    assert!(verified.iter().all(|it| it.time_s.is_none()));
    // Each alone is enough for who knows only that key: the other is of an unknown pair.
    assert_eq!(again.verify(&both[..1]).unwrap().len(), 1);
    assert_eq!(again.verify(&both[1..]).unwrap().len(), 1);
    // Another time than the signed one, another root, another signer's name, a cut signature.
    let good = again.signatures()[1].blob().to_vec();
    let mut other_time = good.clone();
    other_time[7] = 1;
    let mut flipped = good.clone();
    flipped[1000] ^= 1;
    for blob in [other_time, flipped, good[..2427].to_vec(), vec![0; 3]] {
        let mut bad = signed_checkpoint(3, Hash([1; 32]));
        bad.attach(ORIGIN, key.key_id(), &blob).unwrap();
        assert!(matches!(
            bad.verify(&both),
            Err(NoteError::BadSignature { .. })
        ));
        assert_eq!(bad.verify(&both[..1]).unwrap().len(), 1);
    }
    let mut moved = signed_checkpoint(4, Hash([1; 32]));
    moved.attach(ORIGIN, key.key_id(), &good).unwrap();
    assert!(moved.verify(&both).is_err());
    // ML-DSA-44 keys sign checkpoints only, whatever the bytes.
    let text = crate::note::UnsignedNote::new("hello\n").unwrap();
    let note = text.attach(ORIGIN, key.key_id(), &good).unwrap();
    assert!(note.verify(&[key]).is_err());
}

fn required_payload() -> Payload {
    let mut payload = payload();
    payload.format = FORMAT_2.into();
    payload.logs[0].vkeys.push(ml_dsa_vkey(ORIGIN, PQ));
    payload.logs[0].required = vec![SignatureType::Ed25519, SignatureType::MlDsa44];
    payload
}

fn verdict(seal: &Seal, payload: &Payload) -> (Verdict, String) {
    let answer = verify(&bytes_of(seal), Some(DOCUMENT), &opened(payload), now_ms());
    (answer.verdict, answer.reason)
}

#[test]
fn a_checkpoint_that_lacks_a_required_type_is_bad_in_words() {
    let payload = required_payload();
    let mut both = seal();
    sign_ml_dsa(&mut both.note, PQ);
    assert_eq!(verdict(&both, &payload).0, Verdict::Valid);
    for (name, wanted) in [
        ("ed25519", log_vkey()),
        ("ml-dsa-44", ml_dsa_vkey(ORIGIN, PQ)),
    ] {
        let mut stripped = both.clone();
        stripped.note = both
            .note
            .filtered(|line| line.key_id() != wanted.key_id())
            .unwrap();
        let (found, reason) = verdict(&stripped, &payload);
        assert_eq!(found, Verdict::BadSignature);
        assert!(
            reason.contains(&format!("the {name} signature of its log")),
            "{reason}"
        );
        // Where the bundle asks for no type, any signature of the log is enough.
        let mut any = payload.clone();
        any.logs[0].required.clear();
        assert_eq!(verdict(&stripped, &any).0, Verdict::Valid);
    }
}

#[test]
fn an_ml_dsa_cosignature_counts_and_one_without_a_time_dates_nothing() {
    let mut payload = payload();
    payload.format = FORMAT_2.into();
    payload.witnesses[1].other_vkeys = vec![ml_dsa_vkey("w3.pq", PQ_WITNESS)];
    let cosigned = |time_s: u64| {
        let mut seal = unwitnessed_seal();
        cosign(&mut seal.note, LOCAL, cosigned_s());
        let key = ml_dsa_vkey("w3.pq", PQ_WITNESS);
        let message = cosignature::witness_message(&key, seal.note.text(), time_s).unwrap();
        let signature = ml_dsa_sign(PQ_WITNESS, &message);
        seal.note
            .push(cosignature::witness_line(&key, time_s, &signature).unwrap())
            .unwrap();
        seal
    };
    let answer = |seal: &Seal, payload: &Payload| {
        verify(&bytes_of(seal), Some(DOCUMENT), &opened(payload), now_ms())
    };
    let dated = answer(&cosigned(cosigned_s()), &payload);
    assert_eq!(dated.verdict, Verdict::Valid, "{}", dated.reason);
    assert_eq!(
        dated.witnesses[1].time.as_deref(),
        Some("2026-05-01T12:00:00Z")
    );
    let undated = answer(&cosigned(0), &payload);
    assert_eq!(undated.verdict, Verdict::Valid, "{}", undated.reason);
    assert_eq!(undated.sealed_at.as_deref(), Some("2026-05-01T12:00:00Z"));
    // Both keys of one witness are one witness.
    let mut twice = unwitnessed_seal();
    cosign(&mut twice.note, OUTSIDE, cosigned_s());
    let line = cosigned(cosigned_s()).note.signatures()[2].clone();
    twice.note.push(line).unwrap();
    assert_eq!(answer(&twice, &payload).verdict, Verdict::Unwitnessed);
    // Time 0 is not 1970: it saves no seal of a compromised log.
    payload.logs[0].compromised_since = Some(at("2026-05-20T00:00:00Z"));
    assert_eq!(
        answer(&cosigned(cosigned_s()), &payload).verdict,
        Verdict::ValidBeforeCompromise
    );
    assert_eq!(answer(&cosigned(0), &payload).verdict, Verdict::Suspect);
}

/// Made with `dilithium-py` 1.5.1 (pure Python, FIPS 204) from this module's description of the format, and checked with
/// `cryptography` 48: a checkpoint with a log's signature and a witness's cosignature.
const FOREIGN_NOTE: &str = include_str!("vectors/ml-dsa-44.note");
const FOREIGN_KEYS: &str = include_str!("vectors/ml-dsa-44.vkeys");

#[test]
fn signatures_of_another_implementation_verify_and_no_bit_of_them_may_change() {
    let keys: Vec<Vkey> = FOREIGN_KEYS.lines().map(|it| it.parse().unwrap()).collect();
    let printed: Vec<_> = keys.iter().map(ToString::to_string).collect();
    assert_eq!(printed.join("\n") + "\n", FOREIGN_KEYS);
    let note = Note::parse(FOREIGN_NOTE.as_bytes()).unwrap();
    let times: Vec<_> = note
        .verify(&keys)
        .unwrap()
        .iter()
        .map(|it| it.time_s)
        .collect();
    assert_eq!(times, [None, Some(1_777_636_800)]);
    // One bit in each fiftieth byte: a verification takes a while.
    for (place, line) in note.signatures().iter().enumerate() {
        for byte in (0..line.blob().len()).step_by(50) {
            let mut blob = line.blob().to_vec();
            blob[byte] ^= 1;
            let bad = crate::note::UnsignedNote::new(note.text()).unwrap();
            let bad = bad.attach(line.name(), line.key_id(), &blob).unwrap();
            assert!(bad.verify(&keys[place..=place]).is_err(), "byte {byte}");
        }
    }
}

#[test]
fn a_witness_of_whom_both_types_are_required_counts_with_both_and_dates_with_the_later() {
    let mut payload = payload();
    payload.format = FORMAT_2.into();
    payload.witnesses[1].other_vkeys = vec![ml_dsa_vkey("w3.pq", PQ_WITNESS)];
    payload.witnesses[1].required = vec![SignatureType::Ed25519, SignatureType::MlDsa44];
    let error = payload.validate().unwrap_err().to_string();
    assert!(error.contains("must be sealwarden-trust/4"), "{error}");
    let payload = payload.in_lowest_format();
    assert_eq!(
        Payload::parse(&payload.to_json().unwrap()),
        Ok(payload.clone())
    );
    let cosigned = |classic_s: Option<u64>, quantum_s: Option<u64>| {
        let mut seal = unwitnessed_seal();
        cosign(&mut seal.note, LOCAL, cosigned_s());
        if let Some(time_s) = classic_s {
            cosign(&mut seal.note, OUTSIDE, time_s);
        }
        if let Some(time_s) = quantum_s {
            let key = ml_dsa_vkey("w3.pq", PQ_WITNESS);
            let message = cosignature::witness_message(&key, seal.note.text(), time_s).unwrap();
            let signature = ml_dsa_sign(PQ_WITNESS, &message);
            let line = cosignature::witness_line(&key, time_s, &signature).unwrap();
            seal.note.push(line).unwrap();
        }
        seal
    };
    let witnessing = payload.witnessing();
    let time_s = cosigned_s();
    let judged = |seal: &Seal| {
        let answer = verify(&bytes_of(seal), Some(DOCUMENT), &opened(&payload), now_ms());
        let is_valid = answer.verdict == Verdict::Valid;
        assert_eq!(
            witnessing.is_met_by(&seal.note),
            is_valid,
            "{}",
            answer.reason
        );
        assert!(is_valid || answer.verdict == Verdict::Unwitnessed);
        let counted = witnessing.witnesses[1].cosigned(&seal.note);
        assert_eq!(counted.is_some(), is_valid);
        let of_other = answer.witnesses.into_iter().find(|it| !it.local);
        (is_valid, counted.flatten(), of_other.and_then(|it| it.time))
    };
    assert!(
        !judged(&cosigned(Some(time_s), None)).0,
        "one type is not enough"
    );
    assert!(!judged(&cosigned(None, Some(time_s))).0, "nor is the other");
    let both = judged(&cosigned(Some(time_s), Some(time_s)));
    assert_eq!((both.0, both.1), (true, Some(time_s)));
    // Who forged one of the two cannot move the time back.
    for (classic_s, quantum_s) in [(time_s - 900, time_s), (time_s, time_s - 900)] {
        let late = judged(&cosigned(Some(classic_s), Some(quantum_s)));
        assert_eq!(late.1, Some(time_s));
        assert_eq!(late.2.as_deref(), Some("2026-05-01T12:00:00Z"));
    }
    let undated = judged(&cosigned(Some(time_s), Some(0)));
    assert_eq!(
        undated,
        (true, None, None),
        "one without a time dates nothing"
    );
}
