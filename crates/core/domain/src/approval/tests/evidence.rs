//! Which snapshots stand before an order.

use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::merkle::Hash;
use sealwarden_seal::note::{UnsignedNote, Vkey};
use sealwarden_seal::record::{DigestAlgorithm, Record, entry_leaf_hash};
use sealwarden_seal::seal::format_seal;
use sealwarden_wire::event::v1::{Directive, EvidenceSealed};

use crate::approval::{snapshot_subject, verify_snapshot};

const LOG: &str = "acme.example/evidence/1";

fn key(seed: u8) -> (Ed25519KeyPair, Vkey) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let public = <[u8; 32]>::try_from(pair.public_key().as_ref()).unwrap();
    (pair, Vkey::ed25519("acme.signing", public).unwrap())
}

/// A manifest sealed by the key of `seed`, its subject and its run as told.
fn evidence(seed: u8, subject: &str, run: &str) -> EvidenceSealed {
    let record = Record {
        tenant: "sealwarden".to_owned(),
        policy: "evidence".to_owned(),
        digest_algorithm: DigestAlgorithm::Sha256,
        digest: [5; 32],
        claimed_at_ms: 1,
        subject: Some(subject.to_owned()),
        original: None,
        request_id: None,
    };
    let record = record.encode().unwrap();
    let root = entry_leaf_hash(&[7; 16], &record);
    let checkpoint = Checkpoint {
        origin: LOG.to_owned(),
        size: 1,
        root,
    };
    let (pair, signing) = key(seed);
    let vkey = Vkey::new(LOG, signing.key().clone()).unwrap();
    let note = UnsignedNote::new(checkpoint.to_text()).unwrap();
    let signature = pair.sign(note.text().as_bytes());
    let note = note
        .attach(vkey.name(), vkey.key_id(), signature.as_ref())
        .unwrap();
    EvidenceSealed {
        incident: "I-1".to_owned(),
        run: run.to_owned(),
        bundle: "evidence/b".to_owned(),
        manifest_sha256: Hash([5; 32]).to_string(),
        files: 1,
        seal: format_seal(&[7; 16], &record, 0, &[], &note.to_string()),
    }
}

#[test]
fn an_order_needs_a_snapshot_of_its_own_run_in_the_evidence_log() {
    let directive = Directive {
        incident: "I-1".to_owned(),
        run: "R-1".to_owned(),
        ..Directive::default()
    };
    let subject = snapshot_subject("I-1", "R-1", "snapshot");
    let good = evidence(1, &subject, "R-1");
    let (_, signing) = key(1);
    let check = |known: &[EvidenceSealed]| verify_snapshot(&directive, known, &signing);
    assert_eq!(check(std::slice::from_ref(&good)), Ok(()));
    let other = evidence(1, &snapshot_subject("I-1", "R-2", "snapshot"), "R-2");
    assert_eq!(check(&[other.clone(), good.clone()]), Ok(()));
    let borrowed = EvidenceSealed {
        run: "R-1".to_owned(),
        ..other.clone()
    };
    let another_manifest = EvidenceSealed {
        manifest_sha256: Hash([6; 32]).to_string(),
        ..good.clone()
    };
    let unsealed = EvidenceSealed {
        seal: String::new(),
        ..good
    };
    let forged = evidence(2, &subject, "R-1");
    for (bad, words) in [
        (vec![], "none is recorded"),
        (vec![other], "none is recorded"),
        (vec![borrowed], "run R-2"),
        (vec![another_manifest], "another manifest"),
        (vec![unsealed], "evidence/b"),
        (vec![forged], "evidence/b"),
    ] {
        let reason = check(&bad).unwrap_err();
        assert!(reason.contains(words), "{words}: {reason}");
    }
}
