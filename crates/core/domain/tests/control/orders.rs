//! Holds and directives.

use std::collections::BTreeMap;

use sealwarden_domain::RejectionCode;
use sealwarden_domain::log_control::{
    Command, IsolationProof, Mode, StopReason, acknowledgement_results, acknowledgement_text,
};
use sealwarden_wire::event::v1::{
    Directive, DirectiveAcknowledged, DirectiveIssued, DirectiveKind, Fenced, Isolated, event::Kind,
};

use crate::support::{
    FIRST, Line, OTHER, SECOND, WRITER, acknowledgement, fence, hold, intend, intent, isolate,
    order, origin, proof,
};

fn stop(line: &Line) -> Option<StopReason> {
    line.state.may_sign(WRITER, FIRST, line.wall_ms).err()
}

fn place(line: &mut Line, signal: &str, ms: i64) -> usize {
    let expires = line.wall_ms + ms;
    line.done(Command::PlaceHold(hold(signal, expires))).len()
}

#[test]
fn a_hold_is_bounded_and_ends_by_itself() {
    let (mut line, _) = Line::with_permit();
    for expires in [line.wall_ms, i64::MIN, i64::MAX] {
        let code = line.refusal(Command::PlaceHold(hold("S-1", expires)));
        assert_eq!(code, RejectionCode::Invalid);
    }
    assert_eq!(place(&mut line, "S-1", 1_000), 1);
    assert_eq!(place(&mut line, "S-2", 1_000), 0, "it is held already");
    assert!(matches!(stop(&line), Some(StopReason::Hold { .. })));
    assert_eq!(line.refusal(intend(intent(0, 1, 1))), RejectionCode::NotNow);
    line.pass_ms(1_000);
    assert_eq!(stop(&line), None);
    assert_eq!(line.done(intend(intent(0, 1, 1))).len(), 1);
    assert_eq!(place(&mut line, "S-1", 1_000), 0, "one signal holds once");
}

#[test]
fn a_hold_is_lifted_by_what_the_writer_itself_acknowledged() {
    let (mut line, _) = Line::with_permit();
    place(&mut line, "S-1", 1_000);
    let epoch = line.order(DirectiveKind::Open, "log: main\n");
    assert!(stop(&line).is_some(), "ordered is not judged");
    line.acknowledge(epoch, OTHER);
    assert!(
        stop(&line).is_some(),
        "another node's word starts nobody's key"
    );
    line.acknowledge(epoch, WRITER);
    assert_eq!(stop(&line), None);
    assert_eq!(
        place(&mut line, "S-2", 1_000),
        1,
        "a later signal holds again"
    );
    assert!(stop(&line).is_some());
}

#[test]
fn a_hold_placed_after_the_order_to_open_stays() {
    let (mut line, _) = Line::with_permit();
    let epoch = line.order(DirectiveKind::Open, "log: main\n");
    place(&mut line, "S-1", 1_000);
    line.acknowledge(epoch, WRITER);
    assert!(matches!(stop(&line), Some(StopReason::Hold { .. })));
}

#[test]
fn a_stop_that_is_not_judged_yet_stops() {
    for (kind, inputs) in [
        (DirectiveKind::IsolateKey, isolate(FIRST)),
        (DirectiveKind::ReadOnly, "log: main\n".into()),
    ] {
        let (mut line, _) = Line::with_permit();
        let epoch = line.order(kind, &inputs);
        assert_eq!(stop(&line), Some(StopReason::Judging { epoch }));
        let mut refusing = line.clone();
        let reason = "two approvals are missing".to_owned();
        refusing.done(Command::Refuse {
            epoch,
            node: WRITER.to_owned(),
            reason,
            note: String::new(),
        });
        assert_eq!(
            stop(&refusing),
            None,
            "the node judged that nobody ordered it"
        );
        line.acknowledge(epoch, WRITER);
        assert!(matches!(
            stop(&line),
            Some(StopReason::Isolated { .. } | StopReason::ReadOnly { .. })
        ));
    }
}

#[test]
fn an_order_of_unknown_kind_stops_until_it_is_judged() {
    let (mut line, _) = Line::with_permit();
    let directive = Directive {
        epoch: 1,
        kind: 99,
        ..Directive::default()
    };
    line.forge(Kind::DirectiveIssued(DirectiveIssued {
        directive: Some(directive),
    }))
    .unwrap();
    assert_eq!(stop(&line), Some(StopReason::Judging { epoch: 1 }));
    let unspecified = Command::Issue(order(DirectiveKind::Unspecified, "s", ""));
    assert_eq!(line.refusal(unspecified), RejectionCode::Invalid);
}

#[test]
fn opening_lifts_read_only_mode_and_never_an_isolation() {
    let (mut line, _) = Line::with_permit();
    let read_only = line.order(DirectiveKind::ReadOnly, "log: main\n");
    line.acknowledge(read_only, WRITER);
    let open = line.order(DirectiveKind::Open, "log: main\n");
    line.acknowledge(open, WRITER);
    assert_eq!(stop(&line), None);
    let isolated = line.order(DirectiveKind::IsolateKey, &isolate(FIRST));
    line.acknowledge(isolated, WRITER);
    let open = line.order(DirectiveKind::Open, "log: main\n");
    line.acknowledge(open, WRITER);
    assert!(matches!(stop(&line), Some(StopReason::Isolated { .. })));
}

#[test]
fn a_weaker_mode_never_lifts_a_stricter_one_and_opening_lifts_all() {
    let (mut line, _) = Line::with_permit();
    let mode = |line: &Line| line.state.ordered_mode(WRITER).map(|it| it.mode);
    let mut order = |kind| {
        let epoch = line.order(kind, "log: main\n");
        line.acknowledge(epoch, WRITER);
        (mode(&line), stop(&line))
    };
    let noncritical = Some(Mode::QueueNoncritical);
    assert_eq!(order(DirectiveKind::QueueNoncritical), (noncritical, None));
    let (ordered, stopped) = order(DirectiveKind::Queue);
    assert_eq!(ordered, Some(Mode::Queue));
    assert!(matches!(stopped, Some(StopReason::Queue { .. })));
    let (ordered, _) = order(DirectiveKind::QueueNoncritical);
    assert_eq!(ordered, Some(Mode::Queue));
    let (ordered, stopped) = order(DirectiveKind::ReadOnly);
    assert_eq!(ordered, Some(Mode::ReadOnly));
    assert!(matches!(stopped, Some(StopReason::ReadOnly { .. })));
    let (ordered, stopped) = order(DirectiveKind::Queue);
    assert_eq!(ordered, Some(Mode::ReadOnly));
    assert!(matches!(stopped, Some(StopReason::ReadOnly { .. })));
    assert_eq!(order(DirectiveKind::Open), (None, None));
}

#[test]
fn a_queue_order_stops_signing_before_it_is_judged_and_a_noncritical_one_does_not() {
    let (mut line, _) = Line::with_permit();
    line.order(DirectiveKind::QueueNoncritical, "log: main\n");
    assert_eq!(stop(&line), None);
    let epoch = line.order(DirectiveKind::Queue, "log: main\n");
    assert_eq!(stop(&line), Some(StopReason::Judging { epoch }));
}

#[test]
fn resealing_passes_an_earlier_read_only_order_and_no_later_one() {
    let (mut line, _) = Line::with_permit();
    let may = |line: &Line, reseal| {
        line.state
            .may_sign_for(WRITER, FIRST, line.wall_ms, reseal)
            .is_ok()
    };
    let epoch = line.order(DirectiveKind::ReadOnly, "log: main\n");
    line.acknowledge(epoch, WRITER);
    let reseal = line.order(DirectiveKind::Reseal, &format!("into: {FIRST}\n"));
    assert!(may(&line, Some(reseal)));
    assert!(!may(&line, None), "callers' seals are refused meanwhile");
    assert!(!may(&line, Some(epoch)), "another order is no permission");
    assert!(!may(&line, Some(99)));

    let mut finished = line.clone();
    finished.acknowledge(reseal, WRITER);
    assert!(
        !may(&finished, Some(reseal)),
        "the permission ends with the work"
    );

    place(&mut line.clone(), "S-1", 1_000);
    let mut held = line.clone();
    place(&mut held, "S-1", 1_000);
    assert!(!may(&held, Some(reseal)), "a hold stops everything");

    let later = line.order(DirectiveKind::ReadOnly, "log: main\n");
    assert!(!may(&line, Some(reseal)), "not judged yet");
    line.acknowledge(later, WRITER);
    assert!(
        !may(&line, Some(reseal)),
        "it was ordered after the re-sealing"
    );
}

#[test]
fn a_step_orders_once_and_epochs_follow_each_other() {
    let mut line = Line::new();
    let first = Command::Issue(order(DirectiveKind::ReadOnly, "stop", "log: main\n"));
    assert_eq!(line.done(first.clone()).len(), 1);
    assert_eq!(line.done(first), []);
    assert_eq!(line.state.ordered("R-1", "stop", 1), Some(1));
    assert_eq!(line.order(DirectiveKind::Open, "log: main\n"), 2);
    for epoch in [0, 2, 4, u64::MAX] {
        let directive = Directive {
            epoch,
            ..Directive::default()
        };
        let issued = DirectiveIssued {
            directive: Some(directive),
        };
        assert!(
            line.clone().forge(Kind::DirectiveIssued(issued)).is_err(),
            "{epoch}"
        );
    }
    assert!(
        line.forge(Kind::DirectiveIssued(DirectiveIssued { directive: None }))
            .is_err()
    );
}

#[test]
fn an_order_names_what_exists_and_is_current() {
    let mut line = Line::new();
    let mut issue = |kind, inputs: &str| line.refusal(Command::Issue(order(kind, "s", inputs)));
    let unknown = format!("origin: {SECOND}\n");
    assert_eq!(
        issue(DirectiveKind::IsolateKey, &unknown),
        RejectionCode::NotFound
    );
    assert_eq!(
        issue(DirectiveKind::RotateOrigin, ""),
        RejectionCode::Invalid
    );
    assert_eq!(
        issue(DirectiveKind::Reseal, &format!("origin: {FIRST}\n")),
        RejectionCode::Invalid
    );
    let rotate = line.order(DirectiveKind::RotateOrigin, &format!("origin: {FIRST}\n"));
    line.done(acknowledgement(
        rotate,
        WRITER,
        Some(origin(SECOND, WRITER, FIRST, rotate)),
    ));
    let again = order(
        DirectiveKind::RotateOrigin,
        "again",
        &format!("origin: {FIRST}\n"),
    );
    assert_eq!(line.refusal(Command::Issue(again)), RejectionCode::Refused);
}

#[test]
fn two_rotations_of_one_origin_replace_it_once() {
    let mut line = Line::new();
    let inputs = format!("origin: {FIRST}\n");
    let first = line.order(DirectiveKind::RotateOrigin, &inputs);
    let second = line.order(DirectiveKind::RotateOrigin, &inputs);
    line.done(acknowledgement(
        first,
        WRITER,
        Some(origin(SECOND, WRITER, FIRST, first)),
    ));
    let third = origin("seal.example.com/main/3", WRITER, SECOND, second);
    let code = line.refusal(acknowledgement(second, WRITER, Some(third)));
    assert_eq!(code, RejectionCode::Refused);
}

#[test]
fn an_older_epoch_is_not_acknowledged_after_a_newer_one() {
    let mut line = Line::new();
    let old = line.order(DirectiveKind::ReadOnly, "log: main\n");
    let new = line.order(DirectiveKind::Open, "log: main\n");
    line.acknowledge(new, WRITER);
    assert_eq!(
        line.refusal(acknowledgement(old, WRITER, None)),
        RejectionCode::Refused
    );
    assert_eq!(line.state.acknowledged_epoch(WRITER), new);
    line.acknowledge(old, OTHER);
    let forged = DirectiveAcknowledged {
        epoch: old,
        node: WRITER.to_owned(),
        note: String::new(),
    };
    assert!(line.forge(Kind::DirectiveAcknowledged(forged)).is_err());
}

#[test]
fn answers_come_from_nodes_and_to_directives() {
    let mut line = Line::new();
    assert_eq!(
        line.refusal(acknowledgement(1, WRITER, None)),
        RejectionCode::NotFound
    );
    let epoch = line.order(DirectiveKind::ReadOnly, "log: main\n");
    assert_eq!(
        line.refusal(acknowledgement(epoch, "../x", None)),
        RejectionCode::Invalid
    );
    let opened = Some(origin(SECOND, WRITER, FIRST, epoch));
    assert_eq!(
        line.refusal(acknowledgement(epoch, WRITER, opened)),
        RejectionCode::Refused
    );
    let forged = DirectiveAcknowledged {
        epoch,
        node: "../x".to_owned(),
        note: String::new(),
    };
    assert!(line.forge(Kind::DirectiveAcknowledged(forged)).is_err());
}

#[test]
fn isolation_is_fencing_and_three_words_more() {
    let (mut line, clock) = Line::with_permit();
    let epoch = line.order(DirectiveKind::IsolateKey, &isolate(FIRST));
    let conclude = |proof| Command::ConcludeIsolation { epoch, proof };
    assert_eq!(line.refusal(conclude(proof())), RejectionCode::NotNow);
    line.acknowledge(epoch, WRITER);
    line.done(fence(epoch, &clock));
    let silent = IsolationProof {
        witness: " ".to_owned(),
        ..proof()
    };
    assert_eq!(line.refusal(conclude(silent)), RejectionCode::Invalid);
    assert_eq!(line.done(conclude(proof())).len(), 1);
    assert_eq!(line.done(conclude(proof())), []);
    assert!(line.state.directives[&epoch].isolated_at_ms.is_some());
}

#[test]
fn a_forged_proof_is_set_aside() {
    let (mut line, _) = Line::with_permit();
    let read_only = line.order(DirectiveKind::ReadOnly, "log: main\n");
    let isolation = line.order(DirectiveKind::IsolateKey, &isolate(FIRST));
    let fenced = Fenced {
        epoch: read_only,
        ..Fenced::default()
    };
    assert!(line.clone().forge(Kind::Fenced(fenced)).is_err());
    let isolated = Isolated {
        epoch: isolation,
        ..Isolated::default()
    };
    assert!(line.clone().forge(Kind::Isolated(isolated)).is_err());
    assert!(
        line.forge(Kind::Fenced(Fenced {
            epoch: 9,
            ..Fenced::default()
        }))
        .is_err()
    );
}

#[test]
fn the_time_of_compromise_moves_only_to_earlier() {
    let mut line = Line::new();
    let since = |line: &Line| line.state.origin(FIRST).unwrap().compromised_since_ms;
    for (text, known) in [
        ("1970-01-01T00:00:09Z", 9_000),
        ("1970-01-01T00:00:04Z", 4_000),
        ("1970-01-01T00:00:06Z", 4_000),
        ("no time", 4_000),
    ] {
        let inputs = format!("{}compromised-since: {text}\n", isolate(FIRST));
        line.order(DirectiveKind::IsolateKey, &inputs);
        assert_eq!(since(&line), Some(known), "{text}");
    }
    assert_eq!(
        line.state.origin(FIRST).unwrap().isolation,
        Some(1),
        "the first one isolates"
    );
}

#[test]
fn an_acknowledgement_says_what_it_is_about_in_lines_that_nobody_can_add_to() {
    let directive = Directive {
        epoch: 3,
        log: "main".to_owned(),
        ..Directive::default()
    };
    let results = BTreeMap::from([
        ("provider".to_owned(), "disabled\nnode: other".to_owned()),
        ("size\nepoch".to_owned(), "7".to_owned()),
    ]);
    let text = acknowledgement_text("i", WRITER, &directive, (5, &[1; 32]), &results);
    assert_eq!(text.lines().count(), 10, "{text}");
    assert_eq!(
        text.lines()
            .filter(|line| line.starts_with("node: "))
            .count(),
        1
    );
    let found = acknowledgement_results(&format!("{text}\n— signature\n"));
    assert_eq!(found["provider"], "disabled node: other");
    assert_eq!(found["size epoch"], "7");
}
