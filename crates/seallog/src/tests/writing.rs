//! Writing, reading and refusing.

use super::naive::{check_seal, check_tiles, leaf_hashes, root};
use super::{ORIGIN, Signer, grown, leaf, leaves, publish};
use crate::{Intent, LogError, LogReader, MAX_RECORD_BYTES, ReserveError, SealLog};
use sealwarden_seal::cosignature::{Cosignature, message};
use sealwarden_seal::merkle::verify_consistency;
use sealwarden_seal::note::{Note, Vkey};
use std::os::unix::fs::PermissionsExt;

#[test]
fn every_seal_of_every_size_proves_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = SealLog::create(dir.path(), &Signer::log().vkey).unwrap();
    for size in [1, 2, 3, 255, 256, 257, 511, 512, 515, 1030] {
        let first = log.size();
        let staged = log.stage(leaves(first, size)).unwrap();
        let published = publish(&mut log, &staged);
        assert_eq!((published.first_index, published.size), (first, size));
        let root = check_tiles(dir.path(), usize::try_from(size).unwrap());
        assert_eq!(published.root.0, root);
        for seal in &published.seals().unwrap() {
            check_seal(&seal.to_text(), root, size);
        }
        assert_eq!(
            published.seals().unwrap(),
            log.view().unwrap().seals(first..size).unwrap()
        );
    }
    // Older tiles stay: each older size can still be rebuilt.
    for size in [1, 2, 3, 255, 256, 257, 511, 512, 515] {
        let old = root(&leaf_hashes(dir.path(), size));
        let view = log.view().unwrap();
        let size = u64::try_from(size).unwrap();
        assert_eq!(view.root_at(size).unwrap().0, old);
        let proof = view.consistency_proof(size, 1030).unwrap();
        let older = view.root_at(size).unwrap();
        verify_consistency(size, &older, 1030, &log.root(), &proof).unwrap();
    }
    let all: Vec<_> = log.view().unwrap().iter().map(Result::unwrap).collect();
    assert_eq!(
        all,
        (0..1030)
            .map(|index| (index, leaf(index)))
            .collect::<Vec<_>>()
    );
}

#[test]
fn a_log_longer_than_a_private_segment_finds_every_record() {
    let dir = tempfile::tempdir().unwrap();
    let log = grown(dir.path(), &[65_530, 65_600, 65_601]);
    let view = log.view().unwrap();
    let around = view.records(65_500..65_601).unwrap();
    assert_eq!(around, leaves(65_500, 65_601));
    for index in [0, 65_535, 65_536, 65_600] {
        check_seal(
            &view.seal_of(index).unwrap().to_text(),
            log.root().0,
            65_601,
        );
    }
}

#[test]
fn what_a_batch_asks_for_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = grown(dir.path(), &[5]);
    assert!(matches!(
        log.stage(vec![]).unwrap_err(),
        LogError::BatchSize { .. }
    ));
    let mut oversized = leaf(5);
    oversized.record = vec![0; MAX_RECORD_BYTES + 1];
    assert!(matches!(
        log.stage(vec![oversized]).unwrap_err(),
        LogError::RecordTooLong { .. }
    ));
    let staged = log.stage(leaves(5, 8)).unwrap();
    assert!(matches!(
        log.stage(leaves(5, 8)).unwrap_err(),
        LogError::AlreadyStaged { .. }
    ));

    let other_text = staged.checkpoint_text.replace("\n8\n", "\n9\n");
    let stranger = Signer::named(ORIGIN, 9);
    for note in [
        Signer::log().sign(&other_text),
        stranger.sign(&staged.checkpoint_text),
    ] {
        let error = log.publish(&staged, &note).unwrap_err();
        assert!(matches!(error, LogError::Note { .. }), "{error}");
    }
    assert_eq!(log.size(), 5);
    publish(&mut log, &staged);
    assert_eq!(
        publish(&mut log, &staged).size,
        8,
        "publishing again is recognised"
    );
    assert!(matches!(
        log.view().unwrap().seal_of(8).unwrap_err(),
        LogError::NoLeaf { .. }
    ));
}

#[test]
fn a_staged_batch_goes_only_if_no_intent_stands_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = grown(dir.path(), &[5]);
    let staged = log.stage(leaves(5, 8)).unwrap();
    let error = log.discard_staged(Intent::PerhapsRecorded).unwrap_err();
    assert!(
        matches!(error, LogError::IntentRecorded { size: 8 }),
        "{error}"
    );
    log.discard_staged(Intent::NotRecorded).unwrap();
    let note = Signer::log().sign(&staged.checkpoint_text);
    assert!(matches!(
        log.publish(&staged, &note).unwrap_err(),
        LogError::NotStaged { .. }
    ));
    drop(log);
    assert!(SealLog::open(dir.path()).unwrap().staged().is_none());
}

#[test]
fn a_log_has_one_writer_and_one_identity() {
    let dir = tempfile::tempdir().unwrap();
    let error = SealLog::open(dir.path()).unwrap_err();
    assert!(matches!(error, LogError::Identity { .. }), "{error}");
    let log = grown(dir.path(), &[5]);
    assert!(matches!(
        SealLog::open(dir.path()).unwrap_err(),
        LogError::Locked { .. }
    ));
    assert_eq!(
        LogReader::open(dir.path()).unwrap().view().unwrap().size(),
        5
    );
    drop(log);
    let stranger = Signer::named("seal.example.com/test/2", 1);
    let error = SealLog::create(dir.path(), &stranger.vkey).unwrap_err();
    assert!(matches!(error, LogError::Identity { .. }), "{error}");
    assert_eq!(
        SealLog::create(dir.path(), &Signer::log().vkey)
            .unwrap()
            .size(),
        5
    );
}

#[test]
fn records_are_for_the_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = grown(dir.path(), &[5]);
    log.stage(leaves(5, 6)).unwrap();
    for (path, mode) in [
        ("private", 0o700),
        ("private/0000000000.records", 0o600),
        ("private/0000000000.ends", 0o600),
        ("staged", 0o600),
    ] {
        let found = dir
            .path()
            .join(path)
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(found & 0o777, mode, "{path}");
    }
}

pub(super) fn cosign(note: &Note, name: &str, seed: u8) -> (Note, Vkey) {
    let witness = Signer::named(name, seed);
    let vkey = Vkey::cosignature_v1(name, witness.vkey.public_key().try_into().unwrap()).unwrap();
    let signature = witness.pair.sign(&message(note.text(), 1_700_000_000));
    let signature = signature.as_ref().try_into().unwrap();
    let mut cosigned = note.clone();
    cosigned
        .push(
            Cosignature {
                time_s: 1_700_000_000,
                signature,
            }
            .into_line(&vkey)
            .unwrap(),
        )
        .unwrap();
    (cosigned, vkey)
}

#[test]
fn a_seal_carries_the_witnessed_checkpoint_that_covers_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = grown(dir.path(), &[5]);
    let small = log.checkpoint_note().unwrap().note.clone();
    let staged = log.stage(leaves(5, 9)).unwrap();
    publish(&mut log, &staged);
    let (cosigned, first) = cosign(&small, "witness.example.com/a", 2);
    assert!(log.attach_cosignatures(&cosigned).unwrap());
    let (also_cosigned, second) = cosign(&small, "witness.example.com/b", 3);
    assert!(log.attach_cosignatures(&also_cosigned).unwrap());

    let reader = log.reader();
    drop(log);
    let mut log = SealLog::open(dir.path()).unwrap();
    let view = reader.view().unwrap();
    let covered = view.seal_of(4).unwrap();
    assert!(covered.witnessed);
    let seal = covered.to_seal().unwrap();
    assert_eq!(seal.checkpoint().unwrap().size, 5);
    let keys = [Signer::log().vkey, first, second];
    assert_eq!(
        seal.note.verify(&keys).unwrap().len(),
        3,
        "cosignatures of one size join"
    );
    assert!(!view.seal_of(5).unwrap().witnessed);
    assert_eq!(view.seals(3..7).unwrap().len(), 4);

    let large = log.checkpoint_note().unwrap().note.clone();
    assert!(
        log.attach_cosignatures(&cosign(&large, "witness.example.com/a", 2).0)
            .unwrap()
    );
    assert!(
        !log.attach_cosignatures(&cosigned).unwrap(),
        "an older one is not taken"
    );
    assert!(log.view().unwrap().seal_of(5).unwrap().witnessed);

    let forged = Signer::log().sign(&large.text().replace("\n9\n", "\n7\n"));
    assert!(matches!(
        log.attach_cosignatures(&forged).unwrap_err(),
        LogError::Note { .. }
    ));
}

#[test]
fn a_reservation_that_cannot_fit_says_how_much_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let log = grown(dir.path(), &[1]);
    log.reserve(1).unwrap();
    match log.reserve(u64::MAX).unwrap_err() {
        ReserveError::NoSpace(error) => assert!(error.free < error.needed),
        ReserveError::Log(other) => panic!("another error: {other}"),
    }
}
