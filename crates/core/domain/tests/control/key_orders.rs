//! Orders about single keys: revoked, destroyed, restored, and what an old order cannot undo.

use sealwarden_domain::RejectionCode;
use sealwarden_domain::log_control::{Command, GrantClock, KeyChanges, SignerLife, StopReason};
use sealwarden_wire::event::v1::{
    ActivationReason, DirectiveKind, KeyLife, KeyLifeChanged, SignersActivated, event::Kind,
};

use crate::signers::{OPENED, activation, first, with_standby};
use crate::support::{
    FIRST, Line, OTHER, SECOND, SPAN_MS, WRITER, grant, isolate, order, origin, request,
};

fn inputs(action: &str, key: &str) -> String {
    let since = if action == "revoke-key" {
        "compromised-since: 2026-11-02T10:00:00Z\n"
    } else {
        ""
    };
    format!("action: {action}\n{since}key: {key}\nlog: main\norigin: {FIRST}\n")
}

fn life(key: &str, life: KeyLife, epoch: u64) -> KeyLifeChanged {
    KeyLifeChanged {
        origin: FIRST.to_owned(),
        key_id: key.to_owned(),
        provider: "software".to_owned(),
        life: life.into(),
        by: WRITER.to_owned(),
        epoch,
        outcome: "done".to_owned(),
    }
}

fn ordered(active: &[&str]) -> SignersActivated {
    SignersActivated {
        reason: ActivationReason::Ordered.into(),
        ..activation(active, &[])
    }
}

fn acknowledge(
    epoch: u64,
    lives: Vec<KeyLifeChanged>,
    signers: Option<SignersActivated>,
) -> Command {
    Command::Acknowledge {
        epoch,
        node: WRITER.to_owned(),
        note: "signed".to_owned(),
        opened: None,
        keys: KeyChanges { lives, signers },
    }
}

fn stop(line: &Line) -> Option<StopReason> {
    line.state.may_sign(WRITER, FIRST, line.wall_ms).err()
}

fn life_of(line: &Line, key: &str) -> SignerLife {
    first(line).signer(key).unwrap().life
}

/// A line whose two keys are isolated by directive 1.
fn isolated() -> Line {
    let mut line = with_standby();
    let epoch = line.order(DirectiveKind::IsolateKey, &isolate(FIRST));
    let lives = [OPENED, "spare"].map(|key| life(key, KeyLife::Isolated, epoch));
    line.done(acknowledge(epoch, lives.into(), None));
    line
}

#[test]
fn a_revoked_key_never_signs_again_and_the_next_one_does() {
    let mut line = with_standby();
    let epoch = line.order(DirectiveKind::RevokeKey, &inputs("revoke-key", OPENED));
    assert_eq!(
        stop(&line),
        Some(StopReason::Judging { epoch }),
        "an order that is not judged stops"
    );
    let revoked = vec![life(OPENED, KeyLife::Revoked, epoch)];
    line.done(acknowledge(epoch, revoked, Some(ordered(&["spare"]))));
    assert_eq!(first(&line).signing_keys(), ["spare"]);
    assert_eq!(stop(&line), None, "the origin goes on");
    let signer = first(&line).signer(OPENED).unwrap();
    assert_eq!(signer.life, SignerLife::Revoked);
    assert!(signer.revoked_since_ms.is_some());

    let back = Command::ActivateSigners {
        node: WRITER.to_owned(),
        seen: first(&line).signing_keys(),
        change: activation(&[OPENED], &[]),
    };
    assert_eq!(line.refusal(back), RejectionCode::Refused);
    for (kind, action) in [
        (DirectiveKind::RevokeKey, "revoke-key"),
        (DirectiveKind::RestoreKey, "restore-key"),
    ] {
        let again = Command::Issue(order(kind, "again", &inputs(action, OPENED)));
        assert_eq!(line.refusal(again), RejectionCode::Refused, "{action}");
    }
    assert_eq!(line.refolded(), line.state);
}

#[test]
fn the_last_key_that_is_revoked_stops_its_origin() {
    let mut line = Line::new();
    let epoch = line.order(DirectiveKind::RevokeKey, &inputs("revoke-key", OPENED));
    line.done(acknowledge(
        epoch,
        vec![life(OPENED, KeyLife::Revoked, epoch)],
        None,
    ));
    let algorithm = "ed25519".to_owned();
    assert_eq!(stop(&line), Some(StopReason::NoKey { algorithm }));
}

#[test]
fn a_key_that_signs_is_not_destroyed_and_a_destroyed_one_has_no_more_life() {
    let mut line = with_standby();
    let destroy = |key: &str| {
        let inputs = inputs("destroy-key", key);
        Command::Issue(order(DirectiveKind::DestroyKey, "destroy", &inputs))
    };
    assert_eq!(line.refusal(destroy(OPENED)), RejectionCode::Refused);
    assert_eq!(line.refusal(destroy("nobody")), RejectionCode::NotFound);
    line.done(destroy("spare"));
    let epoch = line.state.epoch();
    assert_eq!(stop(&line), None, "it stops nothing");
    line.done(acknowledge(
        epoch,
        vec![life("spare", KeyLife::Destroyed, epoch)],
        None,
    ));
    assert_eq!(life_of(&line, "spare"), SignerLife::Destroyed);
    for (kind, action) in [
        (DirectiveKind::RevokeKey, "revoke-key"),
        (DirectiveKind::DestroyKey, "destroy-key"),
        (DirectiveKind::RestoreKey, "restore-key"),
    ] {
        let order = Command::Issue(order(kind, "again", &inputs(action, "spare")));
        assert_eq!(line.refusal(order), RejectionCode::Refused, "{action}");
    }
    // An isolation of the whole origin leaves it as it is.
    let epoch = line.order(DirectiveKind::IsolateKey, &isolate(FIRST));
    let backwards = acknowledge(epoch, vec![life("spare", KeyLife::Isolated, epoch)], None);
    assert_eq!(line.refusal(backwards), RejectionCode::Refused);
}

#[test]
fn a_restored_key_signs_again_and_its_origin_gets_permits() {
    let mut line = isolated();
    assert!(matches!(stop(&line), Some(StopReason::Isolated { .. })));
    let clock = GrantClock::starting_at(line.boot_ms);
    line.done(request(WRITER, "r1"));
    assert_eq!(
        line.refusal(grant(WRITER, &clock)),
        RejectionCode::Refused,
        "an isolated origin gets no permit"
    );
    let epoch = line.order(DirectiveKind::RestoreKey, &inputs("restore-key", "spare"));
    assert!(
        matches!(stop(&line), Some(StopReason::Isolated { .. })),
        "nothing is restored before it is acknowledged"
    );
    let restored = vec![life("spare", KeyLife::Restored, epoch)];
    line.done(acknowledge(epoch, restored, Some(ordered(&["spare"]))));
    assert_eq!(first(&line).isolation, None);
    assert_eq!(first(&line).compromised_since_ms, None);
    assert_eq!(first(&line).signing_keys(), ["spare"]);
    assert_eq!(life_of(&line, OPENED), SignerLife::Isolated, "only the one");
    assert_eq!(stop(&line), None);
    line.pass_ms(SPAN_MS);
    assert_eq!(line.done(grant(WRITER, &clock)).len(), 1);
    assert_eq!(line.refolded(), line.state);

    // The older isolation, told once more, changes nothing.
    let old = life("spare", KeyLife::Isolated, 1);
    assert!(line.clone().forge(Kind::KeyLifeChanged(old)).is_err());
}

#[test]
fn only_what_is_isolated_and_current_is_restored() {
    let mut line = with_standby();
    let restore = |key: &str| {
        let inputs = inputs("restore-key", key);
        Command::Issue(order(DirectiveKind::RestoreKey, "restore", &inputs))
    };
    assert_eq!(line.refusal(restore("spare")), RejectionCode::Refused);
    line = isolated();
    let epoch = line.order(
        DirectiveKind::RotateOrigin,
        &format!("action: rotate-origin\nlog: main\norigin: {FIRST}\n"),
    );
    line.done(Command::Acknowledge {
        epoch,
        node: WRITER.to_owned(),
        note: "signed".to_owned(),
        opened: Some(origin(SECOND, WRITER, FIRST, epoch)),
        keys: KeyChanges::default(),
    });
    assert_eq!(line.refusal(restore("spare")), RejectionCode::Refused);
}

#[test]
fn an_order_makes_of_its_own_key_what_it_says_and_nothing_else() {
    let mut line = with_standby();
    let epoch = line.order(DirectiveKind::RevokeKey, &inputs("revoke-key", OPENED));
    for wrong in [
        life("spare", KeyLife::Revoked, epoch),
        life(OPENED, KeyLife::Destroyed, epoch),
        life(OPENED, KeyLife::Revoked, epoch + 1),
        KeyLifeChanged {
            by: OTHER.to_owned(),
            ..life(OPENED, KeyLife::Revoked, epoch)
        },
    ] {
        let told = acknowledge(epoch, vec![wrong.clone()], None);
        assert_eq!(line.refusal(told), RejectionCode::Refused);
        if wrong.by == WRITER {
            assert!(line.clone().forge(Kind::KeyLifeChanged(wrong)).is_err());
        }
    }
    let still = acknowledge(
        epoch,
        vec![life(OPENED, KeyLife::Revoked, epoch)],
        Some(ordered(&[OPENED])),
    );
    assert_eq!(
        line.refusal(still),
        RejectionCode::Refused,
        "the revoked key itself does not go on"
    );
    let bare = order(
        DirectiveKind::RevokeKey,
        "bare",
        &format!("key: spare\norigin: {FIRST}\ncompromised-since: yesterday\n"),
    );
    assert_eq!(line.refusal(Command::Issue(bare)), RejectionCode::Invalid);
}
