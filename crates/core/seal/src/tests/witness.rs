use super::{LOG, ORIGIN, log_vkey, sign, signed_checkpoint};
use crate::merkle::{Hash, MemoryTree, empty_root};
use crate::note::Vkey;
use crate::witness::*;
use std::collections::BTreeMap;

fn tree(size: u64) -> MemoryTree {
    let mut tree = MemoryTree::new();
    (0..size).for_each(|leaf| tree.push_entry(&leaf.to_be_bytes()));
    tree
}

fn trusted() -> BTreeMap<String, Vec<Vkey>> {
    BTreeMap::from([(ORIGIN.into(), vec![log_vkey()])])
}

fn state(size: u64) -> WitnessState {
    let origin = OriginState {
        size,
        root: tree(size).root(),
        frozen: None,
    };
    WitnessState {
        origins: BTreeMap::from([(ORIGIN.into(), origin)]),
    }
}

fn request(old_size: u64, size: u64) -> AddCheckpoint {
    let tree = tree(size);
    AddCheckpoint {
        old_size,
        proof: tree.consistency_proof(old_size.min(size), size).unwrap(),
        note: signed_checkpoint(size, tree.root()),
    }
}

fn decide_text(state: &WitnessState, request: &AddCheckpoint) -> Result<Accept, Refusal> {
    let text = request.to_text();
    assert_eq!(&AddCheckpoint::parse(text.as_bytes()).unwrap(), request);
    decide(state, text.as_bytes(), &trusted())
}

#[test]
fn a_tree_that_extends_the_cosigned_one_is_accepted() {
    for (old, new) in [(0, 0), (0, 7), (3, 7), (7, 7), (4, 9)] {
        let accept = decide_text(&state(old), &request(old, new)).unwrap();
        assert_eq!(accept.checkpoint.size, new);
        assert_eq!(accept.checkpoint.root, tree(new).root());
        assert_eq!(accept.previous.size, old);
        assert_eq!(accept.log_signatures.len(), 1);
    }
    assert!(decide_text(&WitnessState::default(), &request(0, 5)).is_ok());
}

#[test]
fn each_refusal_has_the_protocols_status() {
    let status = |state: &WitnessState, request: &AddCheckpoint| {
        decide_text(state, request).unwrap_err().status()
    };
    assert_eq!(status(&state(3), &request(9, 7)), 400);
    assert_eq!(status(&state(3), &request(2, 7)), 409);
    assert_eq!(status(&state(9), &request(3, 7)), 409);
    let with_root = |size, root: Hash, old_size, proof: &[Hash]| AddCheckpoint {
        old_size,
        proof: proof.to_vec(),
        note: signed_checkpoint(size, root),
    };
    let other = Hash([9; 32]);
    assert_eq!(
        status(&state(3), &with_root(7, other, 3, &request(3, 7).proof)),
        422
    );
    assert_eq!(status(&state(3), &with_root(3, other, 3, &[])), 422);
    assert_eq!(status(&state(0), &with_root(0, other, 0, &[])), 422);
    assert_eq!(
        status(&state(0), &with_root(7, tree(7).root(), 0, &[other])),
        422
    );
    for body in [
        b"".as_slice(),
        b"old x\n\n",
        b"old 1\n",
        b"\xff\xfe",
        b"old 01\n\nx\n",
    ] {
        assert_eq!(
            decide(&state(0), body, &trusted()).unwrap_err().status(),
            400
        );
    }
    let text = request(0, 1).to_text();
    let unknown = decide(&state(0), text.as_bytes(), &BTreeMap::new()).unwrap_err();
    assert_eq!(
        (unknown.status(), unknown.has_log_signature()),
        (404, false)
    );
}

#[test]
fn a_checkpoint_that_the_log_did_not_sign_is_refused_and_is_no_evidence() {
    let note = request(0, 5).note;
    let forged = sign(LOG + 100, note.text().as_bytes());
    assert!(note.filtered(|_| false).is_none());
    let text = request(0, 5).to_text().replace("\n5\n", "\n6\n");
    let refusal = decide(&state(0), text.as_bytes(), &trusted()).unwrap_err();
    assert_eq!(
        (refusal.status(), refusal.has_log_signature()),
        (403, false)
    );
    let mut note = note;
    note.attach(ORIGIN, log_vkey().key_id(), &forged).unwrap();
    let refusal = decide_text(
        &state(0),
        &AddCheckpoint {
            old_size: 0,
            proof: vec![],
            note,
        },
    );
    assert_eq!(refusal.unwrap_err().kind, RefusalKind::BadSignature);
}

#[test]
fn a_stale_size_is_answered_with_the_cosigned_one() {
    let refusal = decide_text(&state(7), &request(3, 9)).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Stale { cosigned_size: 7 });
    assert_eq!(
        (refusal.body().as_str(), refusal.content_type()),
        ("7\n", "text/x.tlog.size")
    );
    assert!(refusal.has_log_signature() && !refusal.is_evidence());
}

#[test]
fn a_second_root_for_a_size_is_evidence_whatever_the_status() {
    let fork = |old_size| AddCheckpoint {
        old_size,
        proof: Vec::new(),
        note: signed_checkpoint(7, empty_root()),
    };
    for (old_size, status) in [(7, 422), (3, 409)] {
        let refusal = decide_text(&state(7), &fork(old_size)).unwrap_err();
        assert_eq!(refusal.status(), status);
        assert!(refusal.proves_fork() && refusal.is_evidence());
        assert_eq!(refusal.signed.unwrap().0.root, empty_root());
    }
}

#[test]
fn a_senders_bad_proof_is_kept_but_proves_nothing_against_the_log() {
    let mut request = request(3, 7);
    request.proof.pop();
    let refusal = decide_text(&state(3), &request).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Inconsistent);
    assert!(refusal.is_evidence() && !refusal.proves_fork());
}

#[test]
fn a_frozen_origin_is_refused_and_what_it_signed_is_kept() {
    let mut state = state(3);
    state.origins.get_mut(ORIGIN).unwrap().frozen = Some("incident INC-7".into());
    let refusal = decide_text(&state, &request(3, 7)).unwrap_err();
    assert_eq!(refusal.status(), 403);
    assert!(refusal.reason.contains("INC-7") && refusal.is_evidence());
}

#[test]
fn requests_have_limits() {
    let mut long = request(3, 7);
    long.proof = vec![empty_root(); 64];
    assert_eq!(
        decide(&state(3), long.to_text().as_bytes(), &trusted())
            .unwrap_err()
            .status(),
        400
    );
    let huge = vec![b'a'; MAX_REQUEST_BYTES + 1];
    assert!(matches!(
        AddCheckpoint::parse(&huge),
        Err(RequestError::TooLong(_))
    ));
}
