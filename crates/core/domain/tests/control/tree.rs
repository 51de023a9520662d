//! Origins, intents and published checkpoints.

use sealwarden_domain::RejectionCode;
use sealwarden_domain::log_control::Command;
use sealwarden_wire::event::v1::{
    CheckpointAnchored, CheckpointCosigned, DirectiveKind, event::Kind,
};

use crate::support::{
    FIRST, Line, OTHER, SECOND, WRITER, acknowledgement, intend, intent, origin, published,
};

#[test]
fn the_first_origin_opens_once_and_for_one_key() {
    let mut line = Line::default();
    let ordered = Command::OpenOrigin(origin(FIRST, WRITER, "", 3));
    assert_eq!(line.refusal(ordered), RejectionCode::Refused);
    let blank = Command::OpenOrigin(origin("a b", WRITER, "", 0));
    assert_eq!(line.refusal(blank), RejectionCode::Invalid);
    let opened = origin(FIRST, WRITER, "", 0);
    assert_eq!(line.done(Command::OpenOrigin(opened.clone())).len(), 1);
    assert_eq!(line.done(Command::OpenOrigin(opened.clone())), []);
    let mut other_key = opened.clone();
    other_key.vkey = "another".to_owned();
    assert_eq!(
        line.refusal(Command::OpenOrigin(other_key)),
        RejectionCode::Refused
    );
    let undirected = Command::OpenOrigin(origin(SECOND, WRITER, FIRST, 0));
    assert_eq!(line.refusal(undirected), RejectionCode::Refused);
    assert!(line.forge(Kind::OriginOpened(opened)).is_err());
    assert!(
        line.forge(Kind::OriginOpened(origin(SECOND, OTHER, FIRST, 0)))
            .is_err()
    );
}

#[test]
fn one_rotation_opens_one_origin_with_a_new_key() {
    let mut line = Line::new();
    let epoch = line.order(DirectiveKind::RotateOrigin, &format!("origin: {FIRST}\n"));
    let second = origin(SECOND, WRITER, FIRST, epoch);
    let refused = [
        ("by another node", origin(SECOND, OTHER, FIRST, epoch)),
        ("of another epoch", origin(SECOND, WRITER, FIRST, epoch + 1)),
        (
            "of another tree",
            origin(SECOND, WRITER, "seal.example.com/main/0", epoch),
        ),
        ("with the old key", {
            let mut same = second.clone();
            same.key_id = "key-0".to_owned();
            same
        }),
    ];
    for (case, opened) in refused {
        let code = line.refusal(acknowledgement(epoch, WRITER, Some(opened)));
        assert_eq!(code, RejectionCode::Refused, "{case}");
    }
    assert_eq!(
        line.done(acknowledgement(epoch, WRITER, Some(second.clone())))
            .len(),
        2
    );
    assert_eq!(line.done(acknowledgement(epoch, WRITER, Some(second))), []);
    assert_eq!(line.state.current().unwrap().origin, SECOND);

    let third = origin("seal.example.com/main/3", OTHER, SECOND, epoch);
    let code = line.refusal(acknowledgement(epoch, OTHER, Some(third.clone())));
    assert_eq!(code, RejectionCode::Refused, "the directive has its origin");
    assert!(line.forge(Kind::OriginOpened(third)).is_err());
}

#[test]
fn a_size_has_one_root_for_ever() {
    let (mut line, _) = Line::with_permit();
    assert_eq!(line.done(intend(intent(0, 3, 1))).len(), 1);
    assert_eq!(
        line.done(intend(intent(0, 3, 1))),
        [],
        "recovery signs the same bytes"
    );
    assert_eq!(
        line.refusal(intend(intent(0, 3, 2))),
        RejectionCode::Refused
    );
    let mut other_message = intent(0, 3, 1);
    other_message.message_sha256 = vec![9; 32].into();
    assert_eq!(
        line.refusal(intend(other_message.clone())),
        RejectionCode::Refused
    );
    assert_eq!(
        line.refusal(intend(intent(0, 4, 2))),
        RejectionCode::Refused,
        "not from the end"
    );
    assert_eq!(
        line.refusal(intend(intent(3, 2, 2))),
        RejectionCode::Refused,
        "backwards"
    );
    assert_eq!(line.done(intend(intent(3, 4, 2))).len(), 1);
    for forged in [intent(0, 3, 2), other_message] {
        assert!(line.clone().forge(Kind::IntentRecorded(forged)).is_err());
    }
}

#[test]
fn an_intent_needs_the_permit_and_whole_hashes() {
    let (mut line, _) = Line::with_permit();
    let mut without = intent(0, 1, 1);
    without.request_id = "r0".to_owned();
    assert_eq!(line.refusal(intend(without)), RejectionCode::NotNow);
    let mut stranger = intent(0, 1, 1);
    stranger.node = OTHER.to_owned();
    assert_eq!(line.refusal(intend(stranger)), RejectionCode::NotNow);
    let mut short = intent(0, 1, 1);
    short.root = vec![1; 31].into();
    assert_eq!(line.refusal(intend(short.clone())), RejectionCode::Invalid);
    assert!(line.forge(Kind::IntentRecorded(short)).is_err());
}

#[test]
fn an_intent_carries_the_epoch_that_its_node_enforces() {
    let (mut line, _) = Line::with_permit();
    let epoch = line.order(DirectiveKind::Open, "log: main\n");
    line.acknowledge(epoch, WRITER);
    let events = line.done(intend(intent(0, 1, 1)));
    let Some(Kind::IntentRecorded(recorded)) = &events[0].kind else {
        panic!("{events:?}")
    };
    assert_eq!(recorded.epoch, epoch);
}

#[test]
fn only_what_was_intended_is_published() {
    let (mut line, _) = Line::with_permit();
    assert_eq!(
        line.refusal(Command::PublishCheckpoint(published(3, 1))),
        RejectionCode::Refused
    );
    line.done(intend(intent(0, 3, 1)));
    assert_eq!(
        line.refusal(Command::PublishCheckpoint(published(3, 2))),
        RejectionCode::Refused
    );
    let mut unknown = published(3, 1);
    unknown.origin = SECOND.to_owned();
    assert_eq!(
        line.refusal(Command::PublishCheckpoint(unknown.clone())),
        RejectionCode::NotFound
    );
    let mut stranger = published(3, 1);
    stranger.node = OTHER.to_owned();
    assert_eq!(
        line.refusal(Command::PublishCheckpoint(stranger)),
        RejectionCode::Refused
    );
    assert_eq!(
        line.done(Command::PublishCheckpoint(published(3, 1))).len(),
        1
    );
    assert_eq!(line.done(Command::PublishCheckpoint(published(3, 1))), []);
    for forged in [unknown, published(3, 2), published(u64::MAX, 1)] {
        assert!(
            line.clone()
                .forge(Kind::CheckpointPublished(forged))
                .is_err()
        );
    }
}

#[test]
fn what_others_say_about_time_counts_once_and_only_of_what_was_intended() {
    let (mut line, _) = Line::with_permit();
    line.done(intend(intent(0, 5, 5)));
    let anchored = |size: u64, root: u8, tsa: &str, node: &str| CheckpointAnchored {
        origin: FIRST.to_owned(),
        size,
        root: vec![root; 32].into(),
        name: "test".to_owned(),
        tsa: tsa.to_owned(),
        time_ms: 77,
        note: vec![1].into(),
        token: vec![2].into(),
        node: node.to_owned(),
    };
    let first = anchored(5, 5, "CN=A", WRITER);
    assert_eq!(line.done(Command::RecordAnchor(first.clone())).len(), 1);
    assert_eq!(line.done(Command::RecordAnchor(first)), []);
    for (case, other) in [
        ("another root", anchored(5, 6, "CN=B", WRITER)),
        ("a size never intended", anchored(6, 5, "CN=B", WRITER)),
        ("another node", anchored(5, 5, "CN=B", OTHER)),
    ] {
        let code = line.refusal(Command::RecordAnchor(other.clone()));
        assert_eq!(code, RejectionCode::Refused, "{case}");
        // Whoever writes it all the same dates nothing that was not intended.
        if case != "another node" {
            line.forge(Kind::CheckpointAnchored(other)).unwrap();
        }
    }
    let mut bare = anchored(5, 5, "CN=B", WRITER);
    bare.token = Vec::new().into();
    assert_eq!(
        line.refusal(Command::RecordAnchor(bare)),
        RejectionCode::Invalid
    );
    let cosigned = CheckpointCosigned {
        origin: FIRST.to_owned(),
        size: 5,
        root: vec![5; 32].into(),
        witness: "w.example".to_owned(),
        operator: "other".to_owned(),
        time_ms: 66,
        note: vec![1].into(),
        node: WRITER.to_owned(),
    };
    assert_eq!(
        line.done(Command::RecordCosignature(cosigned.clone()))
            .len(),
        1
    );
    assert_eq!(line.done(Command::RecordCosignature(cosigned)), []);
    let dated: Vec<_> = line
        .state
        .origin(FIRST)
        .unwrap()
        .dated
        .iter()
        .map(|((size, by), it)| (*size, by.clone(), it.time_ms))
        .collect();
    assert_eq!(
        dated,
        [(5, "CN=A".to_owned(), 77), (5, "w.example".to_owned(), 66)]
    );
    assert_eq!(line.refolded(), line.state);
}
