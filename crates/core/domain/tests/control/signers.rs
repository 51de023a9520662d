//! The keys that sign for an origin.

use proptest::prelude::*;
use sealwarden_domain::RejectionCode;
use sealwarden_domain::log_control::{Command, KeyChanges, Origin, SignerLife, SignerState};
use sealwarden_seal::note::Vkey;
use sealwarden_wire::event::v1::{
    ActivationReason, DirectiveKind, KeyLife, KeyLifeChanged, SignerAdded, SignerRetired,
    SignersActivated, event::Kind,
};

use crate::support::{FIRST, Line, OTHER, WRITER, intend, intent, isolate};

/// The key that [`Line::new`] opens its origin with.
pub(crate) const OPENED: &str = "key-0";

fn added(key: &str, provider: &str) -> SignerAdded {
    let seed = key
        .bytes()
        .fold(1_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
    SignerAdded {
        origin: FIRST.to_owned(),
        vkey: Vkey::ed25519(FIRST, [seed; 32]).unwrap().to_string(),
        key_id: key.to_owned(),
        provider: provider.to_owned(),
        algorithm: "ed25519".to_owned(),
        provider_can_disable: true,
        attestation: String::new(),
        node: WRITER.to_owned(),
        by: String::new(),
        why: String::new(),
    }
}

pub(crate) fn activation(active: &[&str], overlapping: &[&str]) -> SignersActivated {
    let owned = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
    SignersActivated {
        origin: FIRST.to_owned(),
        active: owned(active),
        overlapping: owned(overlapping),
        reason: ActivationReason::Failover.into(),
        by: WRITER.to_owned(),
        why: "it did not sign".to_owned(),
    }
}

fn activate(line: &Line, active: &[&str], overlapping: &[&str]) -> Command {
    Command::ActivateSigners {
        node: WRITER.to_owned(),
        seen: first(line).signing_keys(),
        change: activation(active, overlapping),
    }
}

fn retire(key: &str) -> Command {
    let retired = SignerRetired {
        origin: FIRST.to_owned(),
        key_id: key.to_owned(),
        by: WRITER.to_owned(),
        why: "old".to_owned(),
    };
    Command::RetireSigner {
        node: WRITER.to_owned(),
        retired,
    }
}

pub(crate) fn first(line: &Line) -> &Origin {
    line.state.origin(FIRST).unwrap()
}

pub(crate) fn with_standby() -> Line {
    let mut line = Line::new();
    line.done(Command::AddSigner(added("spare", "software")));
    line
}

#[test]
fn an_origin_without_any_event_about_signers_has_one_that_signs() {
    let line = Line::new();
    let origin = first(&line);
    assert_eq!(origin.signing_keys(), [OPENED]);
    assert_eq!(origin.signers.len(), 1);
    assert_eq!(origin.signers[0].vkey, origin.vkey);
}

#[test]
fn a_key_that_is_added_stands_by_and_adding_it_again_changes_nothing() {
    let mut line = with_standby();
    assert_eq!(
        first(&line).signer("spare").unwrap().state,
        SignerState::Standby
    );
    assert_eq!(first(&line).signing_keys(), [OPENED]);
    assert!(
        line.done(Command::AddSigner(added("spare", "software")))
            .is_empty()
    );
    let mut attested = added("spare", "software");
    attested.attestation = "pkcs11-attributes-v1".to_owned();
    assert_eq!(
        line.done(Command::AddSigner(attested)).len(),
        1,
        "more is known of it"
    );
    assert_eq!(first(&line).signers.len(), 2);
}

#[test]
fn what_cannot_be_a_signer_is_refused() {
    let mut line = with_standby();
    let mut other_node = added("x", "software");
    other_node.node = OTHER.to_owned();
    let mut other_name = added("x", "software");
    other_name.vkey = Vkey::ed25519("seal.example.com/other/1", [3; 32])
        .unwrap()
        .to_string();
    let mut same_key = added("x", "software");
    same_key.vkey = added("spare", "software").vkey;
    let mut unknown = added("x", "software");
    unknown.origin = "seal.example.com/main/9".to_owned();
    for (bad, code) in [
        (other_node, RejectionCode::Refused),
        (other_name, RejectionCode::Invalid),
        (same_key, RejectionCode::Refused),
        (unknown, RejectionCode::NotFound),
    ] {
        assert_eq!(
            line.refusal(Command::AddSigner(bad.clone())),
            code,
            "{bad:?}"
        );
    }
}

#[test]
fn failing_over_is_decided_on_what_the_caller_saw_and_done_once() {
    let mut line = with_standby();
    line.done(Command::AddSigner(added("third", "cloud")));
    let stale = activate(&line, &["third"], &[]);
    let command = activate(&line, &["spare"], &[]);
    assert_eq!(line.done(command.clone()).len(), 1);
    assert_eq!(first(&line).signing_keys(), ["spare"]);
    assert_eq!(
        first(&line).signer(OPENED).unwrap().state,
        SignerState::Standby
    );
    assert!(line.done(command).is_empty(), "it is so already");
    assert_eq!(line.refusal(stale), RejectionCode::NotNow);
}

#[test]
fn nobody_signs_who_is_unknown_retired_or_not_alone_in_the_list() {
    let mut line = with_standby();
    assert_eq!(
        line.refusal(activate(&line, &[], &["spare"])),
        RejectionCode::Refused
    );
    assert_eq!(
        line.refusal(activate(&line, &["nobody"], &[])),
        RejectionCode::Refused
    );
    assert_eq!(
        line.refusal(activate(&line, &["spare"], &["spare"])),
        RejectionCode::Refused
    );
    assert_eq!(
        line.refusal(retire(OPENED)),
        RejectionCode::Refused,
        "the only one that signs"
    );
    line.done(activate(&line, &["spare"], &[OPENED]));
    assert_eq!(first(&line).signing_keys(), [OPENED, "spare"]);
    line.done(retire(OPENED));
    assert_eq!(first(&line).signing_keys(), ["spare"]);
    assert!(line.done(retire(OPENED)).is_empty());
    assert_eq!(
        line.refusal(activate(&line, &[OPENED], &[])),
        RejectionCode::Refused
    );
    let forged = Kind::SignersActivated(activation(&[OPENED], &[]));
    assert!(
        line.clone().forge(forged).is_err(),
        "nor if somebody writes it"
    );
}

#[test]
fn uses_are_counted_for_those_that_sign() {
    let (mut line, _) = Line::with_permit();
    line.done(Command::AddSigner(added("spare", "software")));
    line.done(intend(intent(0, 1, 1)));
    line.done(intend(intent(0, 1, 1)));
    line.done(activate(&line, &["spare"], &[]));
    line.done(intend(intent(1, 2, 2)));
    let uses = |key: &str| first(&line).signer(key).unwrap().uses;
    assert_eq!(
        (uses(OPENED), uses("spare")),
        (1, 2),
        "the failover's batch counts for both"
    );
}

fn isolated(key: &str, epoch: u64) -> KeyLifeChanged {
    KeyLifeChanged {
        origin: FIRST.to_owned(),
        key_id: key.to_owned(),
        provider: "software".to_owned(),
        life: KeyLife::Isolated.into(),
        by: WRITER.to_owned(),
        epoch,
        outcome: "disabled".to_owned(),
    }
}

fn acknowledge(epoch: u64, keys: Vec<KeyLifeChanged>) -> Command {
    Command::Acknowledge {
        epoch,
        node: WRITER.to_owned(),
        note: "signed".to_owned(),
        opened: None,
        keys: KeyChanges {
            lives: keys,
            signers: None,
        },
    }
}

#[test]
fn after_an_isolation_no_key_signs_and_none_is_added() {
    let mut line = with_standby();
    let epoch = line.order(DirectiveKind::IsolateKey, &isolate(FIRST));
    assert_eq!(
        line.refusal(activate(&line, &["spare"], &[])),
        RejectionCode::Refused
    );
    let late = Command::AddSigner(added("late", "software"));
    assert_eq!(line.refusal(late), RejectionCode::Refused);
    line.done(acknowledge(
        epoch,
        vec![isolated(OPENED, epoch), isolated("spare", epoch)],
    ));
    assert!(first(&line).signing_keys().is_empty());
    assert!(
        first(&line)
            .signers
            .iter()
            .all(|it| it.life == SignerLife::Isolated)
    );
}

#[test]
fn a_directive_changes_only_the_life_of_its_own_keys() {
    let mut line = with_standby();
    let epoch = line.order(DirectiveKind::ReadOnly, "log: main\n");
    assert_eq!(
        line.refusal(acknowledge(epoch, vec![isolated(OPENED, epoch)])),
        RejectionCode::Refused
    );
    let epoch = line.order(DirectiveKind::IsolateKey, &isolate(FIRST));
    for wrong in [
        KeyLifeChanged {
            epoch: epoch + 1,
            ..isolated(OPENED, epoch)
        },
        KeyLifeChanged {
            life: KeyLife::Destroyed.into(),
            ..isolated(OPENED, epoch)
        },
        KeyLifeChanged {
            by: OTHER.to_owned(),
            ..isolated(OPENED, epoch)
        },
    ] {
        assert_eq!(
            line.refusal(acknowledge(epoch, vec![wrong])),
            RejectionCode::Refused
        );
    }
    let unknown = acknowledge(epoch, vec![isolated("nobody", epoch)]);
    assert_eq!(line.refusal(unknown), RejectionCode::NotFound);
}

/// One thing that may happen to signers.
#[derive(Clone, Debug)]
enum Move {
    Add(u8),
    Activate(Vec<u8>, Vec<u8>),
    Retire(u8),
    Isolate,
    Intend,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let keys = || prop::collection::vec(0_u8..5, 0..3);
    let one = prop_oneof![
        3 => (0_u8..5).prop_map(Move::Add),
        4 => (keys(), keys()).prop_map(|(active, overlapping)| Move::Activate(active, overlapping)),
        2 => (0_u8..5).prop_map(Move::Retire),
        1 => Just(Move::Isolate),
        3 => Just(Move::Intend),
    ];
    prop::collection::vec(one, 1..40)
}

fn key(number: u8) -> String {
    if number == 0 {
        OPENED.to_owned()
    } else {
        format!("k{number}")
    }
}

proptest! {
    #[test]
    fn whatever_is_tried_somebody_may_sign_and_nobody_who_must_not(moves in moves()) {
        let (mut line, _) = Line::with_permit();
        let mut retired = std::collections::BTreeSet::new();
        let mut is_isolated = false;
        for step in moves {
            let events = match step {
                Move::Add(number) => line.command(Command::AddSigner(added(&key(number), "software"))),
                Move::Activate(active, overlapping) => {
                    let names = |keys: &[u8]| keys.iter().map(|it| key(*it)).collect::<Vec<_>>();
                    let (active, overlapping) = (names(&active), names(&overlapping));
                    let of = |keys: &[String]| keys.iter().map(String::as_str).map(str::to_owned).collect();
                    let mut change = activation(&[], &[]);
                    change.active = of(&active);
                    change.overlapping = of(&overlapping);
                    let seen = first(&line).signing_keys();
                    line.command(Command::ActivateSigners { node: WRITER.to_owned(), seen, change })
                }
                Move::Retire(number) => line.command(retire(&key(number))),
                Move::Isolate => {
                    let epoch = line.order(DirectiveKind::IsolateKey, &isolate(FIRST));
                    let keys = first(&line).signers.iter().map(|it| isolated(&it.key_id, epoch)).collect();
                    is_isolated = true;
                    line.command(acknowledge(epoch, keys))
                }
                Move::Intend => {
                    let last = first(&line).intents.last_size().unwrap_or(0);
                    line.command(intend(intent(last, last + 1, 7)))
                }
            };
            for event in events.unwrap_or_default() {
                if let Some(Kind::SignerRetired(e)) = event.kind {
                    retired.insert(e.key_id);
                }
            }
            let origin = first(&line);
            prop_assert!(origin.signing().all(|it| !retired.contains(&it.key_id)));
            prop_assert_eq!(origin.signing().next().is_none(), is_isolated);
            prop_assert_eq!(line.refolded(), line.state.clone());
        }
    }
}
