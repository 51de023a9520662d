//! Permits and the proof of fencing.

use sealwarden_domain::RejectionCode;
use sealwarden_domain::log_control::{Command, FenceHow, GrantClock, fence_status};
use sealwarden_wire::event::v1::{
    DirectiveKind, PermitGranted, PermitReleased, PermitRequested, event::Kind,
};

use crate::support::{
    FIRST, LIFETIME_MS, Line, OTHER, SECOND, SPAN_MS, WRITER, acknowledgement, clock_of, fence,
    grant, intend, intent, isolate, order, origin, release, request,
};

fn granted(node: &str, request_id: &str, origin: &str) -> PermitGranted {
    PermitGranted {
        node: node.to_owned(),
        request_id: request_id.to_owned(),
        origin: origin.to_owned(),
        lifetime_ms: LIFETIME_MS,
        key_deadline_ms: 0,
        drift_ms: 0,
    }
}

#[test]
fn only_the_writer_of_the_current_origin_asks_and_gets() {
    let mut line = Line::new();
    let clock = GrantClock::starting_at(line.boot_ms);
    assert_eq!(line.refusal(request(OTHER, "r1")), RejectionCode::Refused);
    assert_eq!(line.refusal(request("../x", "r1")), RejectionCode::Invalid);
    assert_eq!(line.refusal(request(WRITER, "")), RejectionCode::Invalid);
    assert_eq!(line.done(request(WRITER, "r1")).len(), 1);
    assert_eq!(line.done(request(WRITER, "r1")), []);
    assert_eq!(line.done(grant(WRITER, &clock)).len(), 1);
    assert_eq!(
        line.done(grant(WRITER, &clock)),
        [],
        "one request has one answer"
    );
    assert_eq!(
        line.done(request(WRITER, "r1")),
        [],
        "and is never asked again"
    );

    // Somebody writes a request into the log without asking.
    let forged = PermitRequested {
        node: OTHER.to_owned(),
        request_id: "r2".to_owned(),
        origin: FIRST.to_owned(),
    };
    line.forge(Kind::PermitRequested(forged)).unwrap();
    line.pass_ms(10 * SPAN_MS);
    assert_eq!(line.refusal(grant(OTHER, &clock)), RejectionCode::Refused);
}

#[test]
fn a_permit_of_absurd_length_is_refused_and_one_in_the_log_never_runs_out() {
    let mut line = Line::new();
    let clock = GrantClock::starting_at(0);
    line.done(request(WRITER, "r1"));
    for (lifetime_ms, key_deadline_ms, drift_ms) in [(0, 1, 1), (u64::MAX, 1, 1), (1, u64::MAX, 1)]
    {
        let command = Command::GrantPermit {
            node: WRITER.to_owned(),
            lifetime_ms,
            key_deadline_ms,
            drift_ms,
            clock: clock.clone(),
        };
        assert_eq!(line.refusal(command), RejectionCode::Invalid);
    }
    let mut endless = granted(WRITER, "r1", FIRST);
    (
        endless.lifetime_ms,
        endless.key_deadline_ms,
        endless.drift_ms,
    ) = (u64::MAX, u64::MAX, u64::MAX);
    line.forge(Kind::PermitGranted(endless)).unwrap();
    let epoch = line.order(DirectiveKind::IsolateKey, &isolate(FIRST));
    line.boot_ms = u64::MAX - 1;
    assert_eq!(line.refusal(fence(epoch, &clock)), RejectionCode::NotNow);
}

#[test]
fn no_grant_follows_an_isolation_not_even_in_a_forged_log() {
    let (mut line, clock) = Line::with_permit();
    line.done(request(WRITER, "r2"));
    line.order(DirectiveKind::IsolateKey, &isolate(FIRST));
    assert_eq!(line.refusal(grant(WRITER, &clock)), RejectionCode::Refused);
    let illegal = line
        .forge(Kind::PermitGranted(granted(WRITER, "r2", FIRST)))
        .unwrap_err();
    assert!(
        illegal.reason.contains("follows its isolation"),
        "{illegal}"
    );
}

#[test]
fn a_grant_answers_the_request_of_the_origins_writer() {
    let cases = [
        ("unasked", granted(WRITER, "r9", FIRST)),
        ("another node's", granted(OTHER, "r2", FIRST)),
        ("another origin's", granted(WRITER, "r2", SECOND)),
    ];
    for (case, event) in cases {
        let (mut line, _) = Line::with_permit();
        line.done(request(WRITER, "r2"));
        assert!(line.forge(Kind::PermitGranted(event)).is_err(), "{case}");
    }
}

#[test]
fn releasing_takes_back_the_permit_and_the_open_request() {
    let (mut line, clock) = Line::with_permit();
    line.done(request(WRITER, "r2"));
    assert_eq!(line.done(release(WRITER, "r0")), [], "an unknown permit");
    let stale = PermitReleased {
        node: WRITER.to_owned(),
        request_id: "r0".to_owned(),
    };
    line.forge(Kind::PermitReleased(stale)).unwrap();
    assert!(
        line.state.requests.contains_key(WRITER),
        "a stale release takes nothing back"
    );
    assert_eq!(line.done(release(WRITER, "r1")).len(), 1);
    assert_eq!(line.done(release(WRITER, "r1")), []);
    assert_eq!(
        line.done(grant(WRITER, &clock)),
        [],
        "nothing is granted to one who left"
    );
    assert_eq!(line.refusal(intend(intent(0, 1, 1))), RejectionCode::NotNow);

    line.done(request(WRITER, "r3"));
    assert_eq!(
        line.done(release(WRITER, "r3")).len(),
        1,
        "a request without answer"
    );
    assert_eq!(line.done(grant(WRITER, &clock)), []);
}

#[test]
fn fencing_waits_for_the_permit_the_key_call_and_the_drift() {
    let (mut line, clock) = Line::with_permit();
    line.pass_ms(1_000);
    let epoch = line.order(DirectiveKind::IsolateKey, &isolate(FIRST));
    let waiting = FenceHow::Waiting {
        remaining_ms: SPAN_MS - 1_000,
    };
    assert_eq!(
        fence_status(&line.state, epoch, &clock, line.boot_ms)[0].how,
        waiting
    );
    line.pass_ms(SPAN_MS - 1_001);
    assert_eq!(line.refusal(fence(epoch, &clock)), RejectionCode::NotNow);
    line.pass_ms(1);
    assert_eq!(line.done(fence(epoch, &clock)).len(), 1);
    assert_eq!(line.done(fence(epoch, &clock)), []);
    assert!(line.state.directives[&epoch].fenced_at_ms.is_some());
}

#[test]
fn fencing_needs_no_waiting_after_acknowledgement_or_release() {
    let (mut line, clock) = Line::with_permit();
    let mut released = line.clone();
    let epoch = line.order(DirectiveKind::IsolateKey, &isolate(FIRST));
    line.acknowledge(epoch, WRITER);
    assert_eq!(
        fence_status(&line.state, epoch, &clock, line.boot_ms)[0].how,
        FenceHow::Acknowledged
    );
    assert_eq!(line.done(fence(epoch, &clock)).len(), 1);

    released.done(release(WRITER, "r1"));
    let epoch = released.order(DirectiveKind::IsolateKey, &isolate(FIRST));
    assert_eq!(released.done(fence(epoch, &clock)).len(), 1);
}

#[test]
fn a_restarted_grantor_waits_a_full_lifetime() {
    let (mut line, _) = Line::with_permit();
    let epoch = line.order(DirectiveKind::IsolateKey, &isolate(FIRST));
    line.pass_ms(4_000);
    let restarted = GrantClock::starting_at(line.boot_ms);
    line.pass_ms(SPAN_MS - 1);
    assert_eq!(
        line.refusal(fence(epoch, &restarted)),
        RejectionCode::NotNow
    );
    line.pass_ms(1);
    assert_eq!(line.done(fence(epoch, &restarted)).len(), 1);
}

#[test]
fn a_grant_of_another_grantor_counts_from_when_it_was_seen() {
    // It started long before somebody else granted `r1`.
    let (mut line, _) = Line::with_permit();
    let mut standby = GrantClock::starting_at(0);
    let epoch = line.order(DirectiveKind::IsolateKey, &isolate(FIRST));
    standby.observe(&line.state, line.boot_ms);
    assert_eq!(line.refusal(fence(epoch, &standby)), RejectionCode::NotNow);
    line.pass_ms(SPAN_MS);
    standby.observe(&line.state, line.boot_ms);
    assert_eq!(line.done(fence(epoch, &standby)).len(), 1);
}

#[test]
fn a_permit_that_a_shorter_one_renewed_still_counts() {
    let (mut line, mut clock) = Line::with_permit();
    line.done(request(WRITER, "r2"));
    line.done(Command::GrantPermit {
        node: WRITER.to_owned(),
        lifetime_ms: 1,
        key_deadline_ms: 0,
        drift_ms: 0,
        clock: clock.clone(),
    });
    clock.observe(&line.state, line.boot_ms);
    let epoch = line.order(DirectiveKind::IsolateKey, &isolate(FIRST));
    line.pass_ms(SPAN_MS - 1);
    assert_eq!(line.refusal(fence(epoch, &clock)), RejectionCode::NotNow);
    line.pass_ms(1);
    assert_eq!(line.done(fence(epoch, &clock)).len(), 1);
}

#[test]
fn a_permit_of_a_replaced_origin_still_counts() {
    let (mut line, mut clock) = Line::with_permit();
    let rotate = line.order(DirectiveKind::RotateOrigin, &format!("origin: {FIRST}\n"));
    line.done(acknowledgement(
        rotate,
        WRITER,
        Some(origin(SECOND, WRITER, FIRST, rotate)),
    ));
    line.permit(WRITER, "r2", &mut clock);
    let epoch = line.order(DirectiveKind::IsolateKey, &isolate(FIRST));
    assert_eq!(line.refusal(fence(epoch, &clock)), RejectionCode::NotNow);
    line.pass_ms(SPAN_MS);
    assert_eq!(line.done(fence(epoch, &clock)).len(), 1);
}

#[test]
fn nothing_but_an_isolation_that_names_an_origin_is_fenced() {
    let (mut line, clock) = Line::with_permit();
    let nameless = Command::Issue(order(DirectiveKind::IsolateKey, "s", "log: main\n"));
    assert_eq!(line.refusal(nameless), RejectionCode::Invalid);
    let epoch = line.order(DirectiveKind::ReadOnly, "log: main\n");
    assert_eq!(line.refusal(fence(epoch, &clock)), RejectionCode::Invalid);
    assert_eq!(line.refusal(fence(7, &clock)), RejectionCode::NotFound);
    assert!(fence_status(&line.state, 7, &clock, 0).is_empty());
}

#[test]
fn a_clock_knows_its_own_grants_by_their_time() {
    let (line, _) = Line::with_permit();
    let grant = &line.state.grants[WRITER];
    assert_eq!(clock_of(10, &[("r1", 700)]).end_of(grant), 700 + SPAN_MS);
    assert_eq!(clock_of(10, &[]).end_of(grant), 10 + SPAN_MS);
}
