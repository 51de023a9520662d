//! Whatever comes in: no panic, and what is accepted is what would be written.

use super::*;
use crate::note::Note;
use crate::verdict::{self, Verdict};
use crate::witness::{AddCheckpoint, WitnessState, decide};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn feed(bytes: &[u8], bundle: &VerifiedBundle) {
    if let Ok(seal) = Seal::parse(bytes) {
        assert_eq!(bytes_of(&seal), bytes);
    }
    if let Ok(note) = Note::parse(bytes) {
        assert_eq!(note.to_string().as_bytes(), bytes);
    }
    if let Ok(request) = AddCheckpoint::parse(bytes) {
        assert_eq!(request.to_text().as_bytes(), bytes);
    }
    if let Ok(bundle) = TrustBundle::parse(bytes) {
        assert_eq!(bundle.to_bytes().unwrap(), bytes);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(checkpoint) = Checkpoint::parse(text) {
            assert_eq!(checkpoint.to_text(), text);
        }
        if let Ok(vkey) = text.parse::<Vkey>() {
            assert_eq!(vkey.to_string(), text);
        }
        if let Ok(suspension) = Suspension::parse(text) {
            assert_eq!(suspension.to_text(), text);
        }
        drop(Payload::parse(text));
    }
    let trusted = BTreeMap::from([(ORIGIN.to_owned(), vec![log_vkey()])]);
    drop(decide(&WitnessState::default(), bytes, &trusted));
    drop(verdict::verify(bytes, Some(DOCUMENT), bundle, now_ms()));
}

fn samples() -> Vec<Vec<u8>> {
    let mut bundle = signed_bundle(&payload(), &[ROOT_A, ROOT_B]);
    let note = signed_suspension(&suspension("2026-05-02T00:00:00Z"), SIGNING);
    bundle.add_suspension(&note).unwrap();
    let seal = seal();
    let request = AddCheckpoint {
        old_size: 1,
        proof: seal.proof.clone(),
        note: seal.note.clone(),
    };
    vec![
        bytes_of(&seal),
        seal.note.to_string().into_bytes(),
        request.to_text().into_bytes(),
        bundle.to_bytes().unwrap(),
        bundle.payload_text().as_bytes().to_vec(),
        note.text().as_bytes().to_vec(),
        log_vkey().to_string().into_bytes(),
    ]
}

#[test]
fn empty_huge_and_binary_inputs_are_refused_in_words() {
    let bundle = opened(&payload());
    let huge = vec![b'\n'; 8 * 1024 * 1024];
    let deep = vec![b'['; 100_000];
    for bytes in [
        b"".as_slice(),
        b"\n",
        b"\0\xff\xfe",
        "—".as_bytes(),
        &huge,
        &deep,
    ] {
        feed(bytes, &bundle);
        let answer = verdict::verify(bytes, Some(DOCUMENT), &bundle, now_ms());
        assert_eq!(answer.verdict, Verdict::Malformed);
        assert!(
            answer.reason.ends_with('.') && answer.reason.len() < 400,
            "{}",
            answer.reason
        );
    }
    for now in [i64::MIN, -1, 0, i64::MAX] {
        drop(verdict::verify(
            &bytes_of(&seal()),
            Some(DOCUMENT),
            &bundle,
            now,
        ));
    }
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        feed(&bytes, &opened(&payload()));
    }

    #[test]
    fn damaged_files(
        pick in any::<prop::sample::Index>(), from in any::<prop::sample::Index>(),
        length in 0_usize..40, patch in prop::collection::vec(any::<u8>(), 0..40), repeat in any::<bool>(),
    ) {
        let samples = samples();
        let mut bytes = pick.get(&samples).clone();
        let from = from.index(bytes.len());
        let to = (from + length).min(bytes.len());
        let patch = if repeat { bytes[from..to].repeat(2) } else { patch };
        bytes.splice(from..to, patch);
        feed(&bytes, &opened(&payload()));
    }
}
