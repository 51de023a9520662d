//! Answers to directives: a node believes one in its own name only with its own signature.

use std::collections::BTreeMap;

use ring::signature::{Ed25519KeyPair, KeyPair as _};
use sealwarden_domain::Fold as _;
use sealwarden_domain::fold::event;
use sealwarden_domain::log_control::{LogControl, acknowledgement_text, refusal_text};
use sealwarden_seal::note::{UnsignedNote, Vkey};
use sealwarden_wire::event::v1::{
    Directive, DirectiveAcknowledged, DirectiveIssued, DirectiveKind, DirectiveRefused, Envelope,
    event::Kind,
};

const NODE: &str = "sealing-1";

fn key(seed: u8) -> (Ed25519KeyPair, Vkey) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let public: [u8; 32] = pair.public_key().as_ref().try_into().unwrap();
    let vkey = Vkey::ed25519(NODE, public).unwrap();
    (pair, vkey)
}

fn sign(text: &str, (pair, vkey): &(Ed25519KeyPair, Vkey)) -> String {
    let note = UnsignedNote::new(text).unwrap();
    let signature = pair.sign(note.text().as_bytes());
    let signed = note.attach(vkey.name(), vkey.key_id(), signature.as_ref());
    signed.unwrap().to_string()
}

fn directive(epoch: u64, kind: DirectiveKind) -> Directive {
    Directive {
        epoch,
        kind: kind.into(),
        log: "main".to_owned(),
        run: format!("R-{epoch}"),
        inputs: "action: resume\nlog: main\n".to_owned(),
        ..Directive::default()
    }
}

/// The state of a node that was ordered these kinds, in order.
fn ordered(kinds: &[DirectiveKind]) -> LogControl {
    let mut log = LogControl::of_node(NODE, key(1).1);
    for (epoch, kind) in (1..).zip(kinds) {
        let issued = DirectiveIssued {
            directive: Some(directive(epoch, *kind)),
        };
        take_in(&mut log, Kind::DirectiveIssued(issued));
    }
    log
}

fn take_in(log: &mut LogControl, kind: Kind) {
    let envelope = Envelope {
        stream: "log/main".to_owned(),
        ..Envelope::default()
    };
    log.apply(&envelope, &event(kind)).unwrap();
}

fn acknowledge(log: &mut LogControl, node: &str, epoch: u64, note: String) {
    let node = node.to_owned();
    take_in(
        log,
        Kind::DirectiveAcknowledged(DirectiveAcknowledged { epoch, node, note }),
    );
}

fn text(epoch: u64, kind: DirectiveKind) -> String {
    let head = (7, &[9; 32]);
    acknowledgement_text(
        "example",
        NODE,
        &directive(epoch, kind),
        head,
        &BTreeMap::new(),
    )
}

#[test]
fn the_nodes_own_acknowledgement_counts() {
    let mut log = ordered(&[DirectiveKind::ReadOnly]);
    acknowledge(
        &mut log,
        NODE,
        1,
        sign(&text(1, DirectiveKind::ReadOnly), &key(1)),
    );
    assert!(log.directives[&1].answered_by(NODE));
}

#[test]
fn nobody_else_acknowledges_in_its_name() {
    let open = text(2, DirectiveKind::Open);
    let forgeries = [
        String::new(),
        open.clone(),
        sign(&open, &key(2)),
        sign(&text(1, DirectiveKind::ReadOnly), &key(1)),
        sign(&text(2, DirectiveKind::ReadOnly), &key(1)),
    ];
    for forged in forgeries {
        let mut log = ordered(&[DirectiveKind::ReadOnly, DirectiveKind::Open]);
        acknowledge(&mut log, NODE, 2, forged.clone());
        assert!(!log.directives[&2].answered_by(NODE), "believed: {forged}");
    }
}

#[test]
fn nobody_else_refuses_in_its_name() {
    let read_only = directive(1, DirectiveKind::ReadOnly);
    let isolation = directive(1, DirectiveKind::IsolateKey);
    let reason = "an approval is missing".to_owned();
    let words = |directive| refusal_text("example", NODE, directive, &reason);
    for (note, believed) in [
        (String::new(), false),
        (sign(&words(&read_only), &key(2)), false),
        (sign(&words(&isolation), &key(1)), false),
        (sign(&words(&read_only), &key(1)), true),
    ] {
        let mut log = ordered(&[DirectiveKind::ReadOnly]);
        let refused = DirectiveRefused {
            epoch: 1,
            node: NODE.to_owned(),
            reason: reason.clone(),
            note,
        };
        take_in(&mut log, Kind::DirectiveRefused(refused));
        assert_eq!(log.directives[&1].answered_by(NODE), believed);
    }
}

#[test]
fn another_nodes_answer_is_for_others_to_check() {
    let mut log = ordered(&[DirectiveKind::ReadOnly]);
    acknowledge(&mut log, "verification-1", 1, String::new());
    assert!(log.directives[&1].answered_by("verification-1"));
}
