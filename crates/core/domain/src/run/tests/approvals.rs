//! People's decisions in a run.

use sealwarden_wire::event::v1::event::Kind;

use super::world::World;
use crate::approval::fixture::{VALIDITY_MS, revocation, run_started, signed};
use crate::approval::{Decision, Environment, Statement};
use crate::fold::RejectionCode;
use crate::run::{Command, MAX_REFUSALS, Phase, RunState, answer};

/// The refusal's code, and that it was recorded.
fn code(events: &[Kind]) -> &str {
    let [Kind::ApprovalRefused(refused)] = events else {
        panic!("{events:?}")
    };
    &refused.code
}

#[test]
fn a_step_begins_only_when_its_quorum_is_met() {
    let mut world = World::after(&["snapshot"]);
    assert!(
        world
            .begin("isolate")
            .unwrap_err()
            .reason
            .contains("on-call-sre: 1, security-lead: 1")
    );
    world.approve("isolate", &["ada"]);
    let rejection = world.begin("isolate").unwrap_err();
    assert_eq!(rejection.code, RejectionCode::Refused);
    assert!(
        rejection.reason.contains("missing on-call-sre: 1"),
        "{rejection}"
    );
    world.approve("isolate", &["grace"]);
    assert!(world.begin("isolate").is_ok());
}

#[test]
fn a_runbook_that_asks_for_less_than_nodes_demand_does_not_start() {
    let mut started = run_started(Environment::Production);
    let weak = "{product-owner: 1}, within";
    started.runbook_text = started
        .runbook_text
        .replace("{product-owner: 1, security-lead: 1}, within", weak);
    started.runbook_digest = String::new();
    let rejection = World::empty()
        .run(Command::Start(Box::new(started)))
        .unwrap_err();
    assert!(
        rejection.reason.contains("security-lead") && rejection.reason.contains("rotate"),
        "{rejection}"
    );
}

#[test]
fn one_person_counts_once() {
    let mut world = World::after(&["snapshot"]);
    world.approve("isolate", &["linus"]);
    assert!(world.begin("isolate").is_err(), "both roles, one person");
    assert_eq!(
        code(&world.decided("linus", "isolate", Decision::Approve)),
        "already-decided"
    );
    world.approve("isolate", &["ada"]);
    assert!(world.begin("isolate").is_ok());
}

#[test]
fn refusals_are_recorded_with_their_reason() {
    let mut world = World::after(&["snapshot"]);
    assert_eq!(
        code(&world.decided("rita", "isolate", Decision::Approve)),
        "requester"
    );
    assert_eq!(
        code(&world.decided("pete", "isolate", Decision::Approve)),
        "wrong-role"
    );
    let good = world.statement("ada", "isolate", Decision::Approve);
    let other_step = Statement {
        step: "nonsense".into(),
        ..good.clone()
    };
    assert_eq!(code(&world.submit(&other_step, "").unwrap()), "wrong-step");
    let other_run = Statement {
        run: "run-2".into(),
        step: "nonsense".into(),
        ..good.clone()
    };
    assert_eq!(code(&world.submit(&other_run, "").unwrap()), "wrong-run");
    let events = world.run(Command::SubmitApproval {
        statement: "x".repeat(100_000),
        signature: "y".repeat(100_000),
        note: String::new(),
    });
    assert_eq!(code(&events.unwrap()), "malformed");
    let codes: Vec<&str> = world
        .state
        .refused()
        .iter()
        .map(|refused| refused.code.as_str())
        .collect();
    assert_eq!(
        codes,
        [
            "requester",
            "wrong-role",
            "wrong-step",
            "wrong-run",
            "malformed"
        ]
    );
    assert!(
        world
            .state
            .refused()
            .iter()
            .all(|refused| refused.statement.len() <= 4096)
    );
}

#[test]
fn a_statement_is_used_once() {
    let mut world = World::after(&["snapshot"]);
    let statement = world.statement("ada", "isolate", Decision::Approve);
    world.submit(&statement, "").unwrap();
    assert_eq!(code(&world.submit(&statement, "").unwrap()), "replayed");
}

#[test]
fn a_statement_that_came_too_early_stays_refused() {
    let mut world = World::after(&["snapshot"]);
    // Signed with the inputs that `rotate` will have, before they are resolved.
    let future =
        World::after(&["snapshot", "isolate"]).statement("pete", "rotate", Decision::Approve);
    let future = Statement {
        nonce: "f".repeat(32),
        ..future
    };
    assert_eq!(code(&world.submit(&future, "").unwrap()), "too-early");
    world.do_step("isolate");
    assert_eq!(code(&world.submit(&future, "").unwrap()), "replayed");
}

#[test]
fn an_approval_that_expires_before_the_step_starts_no_longer_counts() {
    let mut world = World::after(&["snapshot"]);
    world.approve("isolate", &["ada"]);
    world.now_ms += VALIDITY_MS / 2;
    world.approve("isolate", &["grace"]);
    assert!(!world.pending().is_empty());
    world.now_ms += VALIDITY_MS / 2;
    assert!(world.pending().is_empty());
    let rejection = world.begin("isolate").unwrap_err();
    assert!(
        rejection
            .reason
            .contains("missing security-lead: 1 (1 expired"),
        "{rejection}"
    );
    world.approve("isolate", &["ada"]);
    assert!(world.begin("isolate").is_ok());
}

#[test]
fn a_denial_blocks_until_the_same_person_approves() {
    let mut world = World::after(&["snapshot"]);
    world.approve("isolate", &["ada", "grace"]);
    world.decided("linus", "isolate", Decision::Deny);
    world.now_ms += 1000;
    let rejection = world.begin("isolate").unwrap_err();
    assert!(rejection.reason.contains("linus denied"), "{rejection}");
    assert!(world.pending().is_empty());
    world.approve("isolate", &["linus"]);
    assert!(world.begin("isolate").is_ok());
}

#[test]
fn a_denial_does_not_expire() {
    let mut world = World::after(&["snapshot"]);
    world.decided("linus", "isolate", Decision::Deny);
    world.now_ms += 10 * VALIDITY_MS;
    world.approve("isolate", &["ada", "grace"]);
    assert!(world.begin("isolate").is_err());
}

#[test]
fn a_running_or_ended_step_takes_no_decisions() {
    let mut world = World::after(&["snapshot"]);
    world.approve("isolate", &["ada", "grace"]);
    let late = world.statement("linus", "isolate", Decision::Approve);
    world.begin("isolate").unwrap();
    assert_eq!(code(&world.submit(&late, "").unwrap()), "step-closed");
    world.end("isolate", Ok(())).unwrap();
    assert_eq!(code(&world.submit(&late, "").unwrap()), "step-closed");
}

#[test]
fn people_confirm_a_manual_step_and_end_it() {
    let mut world = World::after(&["snapshot", "isolate", "find"]);
    assert!(
        world
            .begin("tell")
            .unwrap_err()
            .reason
            .contains("people perform")
    );
    assert_eq!(
        code(&world.decided("leila", "tell", Decision::Approve)),
        "wrong-decision"
    );
    let first = world.statement("leila", "tell", Decision::Confirm);
    assert_eq!(world.submit(&first, "called them").unwrap().len(), 1);
    let second = world.statement("nora", "tell", Decision::Confirm);
    let events = world.submit(&second, "wrote to them").unwrap();
    assert!(
        matches!(
            events.as_slice(),
            [
                Kind::ApprovalRecorded(_),
                Kind::StepStarted(_),
                Kind::StepEnded(_)
            ]
        ),
        "{events:?}"
    );
    let step = world.state.step("tell").unwrap();
    assert_eq!(step.phase, Phase::Done);
    assert_eq!(step.outputs["by"], "leila, nora");
    assert_eq!(step.outputs["note"], "called them; wrote to them");
}

#[test]
fn a_denied_manual_step_is_not_confirmed_by_others() {
    let mut world = World::after(&["snapshot", "isolate", "find"]);
    world.decided("leila", "tell", Decision::Deny);
    world.decided("nora", "tell", Decision::Confirm);
    assert_eq!(world.state.step("tell").unwrap().phase, Phase::Ready);
    world.decided("leila", "tell", Decision::Confirm);
    assert_eq!(world.state.step("tell").unwrap().phase, Phase::Done);
}

#[test]
fn notes_are_one_line() {
    let mut world = World::after(&["snapshot"]);
    let statement = world.statement("ada", "isolate", Decision::Approve);
    assert_eq!(
        world.submit(&statement, "a\nb").unwrap_err().code,
        RejectionCode::Invalid
    );
    assert_eq!(
        world.submit(&statement, &"x".repeat(501)).unwrap_err().code,
        RejectionCode::Invalid
    );
    assert!(world.submit(&statement, "fine").is_ok());
}

#[test]
fn approvals_that_somebody_else_wrote_into_the_log_do_not_start_a_step() {
    let mut world = World::after(&["snapshot"]);
    world.approve("isolate", &["ada", "grace"]);
    let forged = &mut world.state.steps.get_mut("isolate").unwrap().decided[1];
    let (_, signature) =
        signed(&Statement::parse(&forged.statement.replace("run-1", "run-2")).unwrap());
    forged.signature = signature;
    let rejection = world.begin("isolate").unwrap_err();
    assert!(
        rejection.reason.contains("altered") && rejection.reason.contains("on-call-sre"),
        "{rejection}"
    );
}

#[test]
fn refusals_are_recorded_up_to_a_bound_and_refused_after() {
    let mut world = World::started();
    let bad = || Command::SubmitApproval {
        statement: "x".into(),
        signature: "y".into(),
        note: String::new(),
    };
    for _ in 0..MAX_REFUSALS {
        world.run(bad()).unwrap();
    }
    let rejection = world.run(bad()).unwrap_err();
    assert!(
        rejection.reason.contains("malformed") && rejection.reason.contains("not recorded"),
        "{rejection}"
    );
}

#[test]
fn people_are_answered_with_what_is_missing() {
    let mut world = World::after(&["snapshot"]);
    let respond = |state: &RunState, events: &[Kind], at| answer(state, events, at);
    let events = world.decided("ada", "isolate", Decision::Approve);
    let response = respond(&world.state, &events, world.at());
    assert!(response.accepted);
    assert_eq!(response.missing, "on-call-sre: 1");
    let events = world.decided("rita", "isolate", Decision::Approve);
    let response = respond(&world.state, &events, world.at());
    assert_eq!(
        (response.accepted, response.code.as_str()),
        (false, "requester")
    );
    let events = world.decided("grace", "isolate", Decision::Approve);
    assert_eq!(respond(&world.state, &events, world.at()).missing, "");
}

fn revoke(world: &mut World, person: &str) -> Vec<Kind> {
    let revoked = revocation(person, "bea", "left on a train");
    world.run(Command::RevokeKey(revoked)).unwrap()
}

#[test]
fn a_key_revoked_in_mid_run_counts_for_nothing_that_has_not_begun() {
    let mut world = World::after(&["snapshot"]);
    world.approve("isolate", &["ada", "grace"]);
    assert_eq!(revoke(&mut world, "ada").len(), 1);
    world.now_ms += 1;
    let rejection = world.begin("isolate").unwrap_err();
    assert!(
        rejection.reason.contains("missing security-lead: 1"),
        "{rejection}"
    );
    assert!(
        rejection.reason.contains("1 by keys that were revoked"),
        "{rejection}"
    );
    let again = world.decided("ada", "isolate", Decision::Approve);
    assert_eq!(code(&again), "revoked-key");
    assert!(revoke(&mut world, "ada").is_empty(), "once is enough");
    // Somebody else takes the place.
    world.approve("isolate", &["linus"]);
    assert!(world.begin("isolate").is_ok());
}

#[test]
fn what_had_begun_when_its_approvers_key_was_revoked_goes_on() {
    let mut world = World::after(&["snapshot"]);
    world.approve("isolate", &["ada", "grace"]);
    world.begin("isolate").unwrap();
    world.now_ms += 1;
    revoke(&mut world, "ada");
    assert!(world.end("isolate", Ok(())).is_ok());
    assert_eq!(world.state.step("isolate").unwrap().phase, Phase::Done);
}

#[test]
fn a_denial_outlives_its_key_and_an_override_does_not() {
    let mut world = World::after(&["snapshot"]);
    world.decided("ada", "isolate", Decision::Deny);
    revoke(&mut world, "ada");
    world.now_ms += 1;
    world.approve("isolate", &["linus", "grace"]);
    let rejection = world.begin("isolate").unwrap_err();
    assert!(rejection.reason.contains("ada denied"), "{rejection}");
    world.says("max", "isolate", Decision::Override);
    let revoked = revocation("max", "bea", "stolen");
    world.run(Command::RevokeKey(revoked)).unwrap();
    world.now_ms += 1;
    assert!(world.begin("isolate").is_err(), "the glass is whole again");
    world.says("bea", "isolate", Decision::Override);
    assert!(world.begin("isolate").is_ok());
}

#[test]
fn a_run_without_the_key_or_at_its_end_is_told_nothing() {
    let mut world = World::after(&["snapshot"]);
    assert!(revoke(&mut world, "mallory").is_empty());
    let mut ended = World::after(&["snapshot"]);
    let abort = Command::Abort {
        said: super::world::said("over"),
        undo: false,
    };
    ended.run(abort).unwrap();
    assert!(revoke(&mut ended, "ada").is_empty());
}

#[test]
fn when_revocations_leave_too_few_the_way_out_is_named() {
    let mut world = World::after(&["snapshot"]);
    for person in ["grace", "linus"] {
        assert!(
            !world
                .begin("isolate")
                .unwrap_err()
                .reason
                .contains("run override")
        );
        revoke(&mut world, person);
    }
    // Rita is on call too, and asked for the run.
    let rejection = world.begin("isolate").unwrap_err();
    assert!(rejection.reason.contains("run override"), "{rejection}");
}
