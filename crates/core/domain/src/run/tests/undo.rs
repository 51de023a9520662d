//! Aborts that take back what was done.

use sealwarden_wire::event::v1::RunOutcome;
use sealwarden_wire::event::v1::event::Kind;

use super::world::{World, said};
use crate::approval::Decision;
use crate::fold::RejectionCode;
use crate::run::{Command, Effect, Phase, Said, prepare, view};

/// The fixture's runbook, in which `isolate` and `find` say how they are taken back.
fn world() -> World {
    World::changed(&[
        (
            "    timeout: 2m\n",
            "    timeout: 2m\n    undo: {action: resume, with: {log: '${incident.log}'}, approval: {quorum: {security-lead: 1, on-call-sre: 1}, within: 15m}, retry: {attempts: 1}}\n",
        ),
        (
            "    timeout: 1m\n  - id: rotate\n",
            "    timeout: 1m\n    undo: {title: Forget it, action: reverify, with: {origin: 'of ${steps.find.total}'}}\n  - id: rotate\n",
        ),
    ])
}

fn after(steps: &[&str]) -> World {
    let mut world = world();
    for step in steps {
        world.do_step(step);
    }
    world
}

fn abort(world: &mut World) -> Vec<Kind> {
    let said = said("a false alarm");
    world.run(Command::Abort { said, undo: true }).unwrap()
}

fn phase(world: &World, step: &str) -> Phase {
    world.state.step(step).unwrap().phase.clone()
}

#[test]
fn what_is_done_is_taken_back_in_reverse_order_with_its_quorum() {
    let mut world = after(&["snapshot", "isolate", "find"]);
    abort(&mut world);
    assert_eq!(phase(&world, "find.undo"), Phase::Ready);
    assert_eq!(phase(&world, "isolate.undo"), Phase::Blocked);
    assert_eq!(phase(&world, "rotate"), Phase::Cancelled);
    // Nothing is taken back that relies on nothing of its own, and it may not start before.
    assert_eq!(
        world.begin("isolate.undo").unwrap_err().code,
        RejectionCode::NotNow
    );
    let shown = view(&world.state, world.at());
    let undo = shown
        .steps
        .iter()
        .find(|it| it.step == "isolate.undo")
        .unwrap();
    assert_eq!(undo.missing, "find.undo");

    world.begin("find.undo").unwrap();
    let attempt = phase(&world, "find.undo").attempt().cloned().unwrap();
    let key = crate::run::idempotency_key("run-1", "find.undo", 0);
    assert_eq!(attempt.idempotency_key, key);
    let (inputs, _) = world
        .state
        .step("find.undo")
        .unwrap()
        .inputs
        .clone()
        .unwrap();
    assert_eq!(inputs.get("origin"), Some("of 7"));
    world.end("find.undo", Ok(())).unwrap();

    // Lifting containment takes its quorum: what the plan demands for it (`open`), and what the undo asks for besides.
    assert_eq!(phase(&world, "isolate.undo"), Phase::Ready);
    let refused = world.begin("isolate.undo").unwrap_err();
    assert_eq!(refused.code, RejectionCode::Refused);
    let asked = prepare(&world.state, "isolate.undo", world.at()).unwrap();
    assert!(
        asked.quorum.contains("security-lead: 1") && asked.quorum.contains("on-call-sre: 1"),
        "{}",
        asked.quorum
    );
    world.approve("isolate.undo", &["ada"]);
    world.begin("isolate.undo").unwrap_err();
    assert!(world.state.is_open(), "containment holds until then");
    world.approve("isolate.undo", &["grace"]);
    world.begin("isolate.undo").unwrap();
    world.end("isolate.undo", Ok(())).unwrap();
    let end = world.state.ended().unwrap();
    assert_eq!(end.outcome, RunOutcome::Aborted);
    assert!(
        end.reason.contains("taken back: find, isolate"),
        "{}",
        end.reason
    );
}

#[test]
fn what_is_under_way_is_taken_back_only_if_it_turns_out_to_be_done() {
    let begun = || {
        let mut world = after(&["snapshot"]);
        world.approve("isolate", &["ada", "grace"]);
        world.begin("isolate").unwrap();
        abort(&mut world);
        assert_eq!(phase(&world, "isolate.undo"), Phase::Blocked);
        world
    };
    let mut world = begun();
    world.end("isolate", Ok(())).unwrap();
    assert_eq!(phase(&world, "isolate.undo"), Phase::Ready);

    let mut world = begun();
    world.end("isolate", Err("nobody was there")).unwrap();
    assert_eq!(phase(&world, "isolate.undo"), Phase::Cancelled);
    assert_eq!(world.state.ended().unwrap().outcome, RunOutcome::Aborted);

    // Nobody knows: a person finds out, and signs that it did not happen.
    let mut world = begun();
    world.lose("isolate", true).unwrap();
    assert!(world.state.is_open());
    world.says("ada", "isolate", Decision::Retry);
    assert_eq!(phase(&world, "isolate.undo"), Phase::Cancelled);
    assert!(world.state.ended().is_some());
}

#[test]
fn an_undo_that_fails_is_stuck_and_an_operator_goes_on() {
    let failed = || {
        let mut world = after(&["snapshot", "isolate"]);
        abort(&mut world);
        world.approve("isolate.undo", &["ada", "grace"]);
        world.begin("isolate.undo").unwrap();
        world.end("isolate.undo", Err("the node is away")).unwrap();
        world
    };
    let mut world = failed();
    assert_eq!(phase(&world, "isolate.undo"), Phase::Failed);
    let shown = view(&world.state, world.at());
    assert_eq!(shown.state, "stuck");
    assert!(
        shown.reason.contains("needs an operator"),
        "{}",
        shown.reason
    );
    assert!(
        world
            .pending()
            .iter()
            .any(|it| matches!(it, Effect::AskPerson { step, .. } if step == "isolate.undo"))
    );
    // The run's own steps are not tried again; taking them back is.
    let retry = |step: &str| Command::Retry {
        step: step.to_owned(),
        said: said("it is back"),
    };
    world.run(retry("rotate")).unwrap_err();
    world.run(retry("isolate.undo")).unwrap();
    world.begin("isolate.undo").unwrap();
    world.end("isolate.undo", Ok(())).unwrap();
    assert!(world.state.ended().is_some());

    let mut world = failed();
    for person in ["ada", "grace"] {
        world.says(person, "isolate.undo", Decision::Skip);
    }
    let end = world.state.ended().unwrap();
    assert!(end.reason.contains("what they did stays"), "{}", end.reason);
}

#[test]
fn an_undo_that_began_is_observed_by_the_next_life() {
    let mut world = after(&["snapshot", "isolate", "find"]);
    abort(&mut world);
    world.begin("find.undo").unwrap();
    world.own.clear();
    let pending = world.pending();
    assert!(
        matches!(&pending[..], [Effect::Observe { id, .. }] if id.step == "find.undo"),
        "{pending:?}"
    );
}

#[test]
fn whoever_orders_it_does_not_approve_it() {
    let mut world = after(&["snapshot", "isolate"]);
    let said = Said {
        by: "ada".to_owned(),
        reason: "a false alarm".to_owned(),
    };
    world.run(Command::Abort { said, undo: true }).unwrap();
    let statement = world.statement("ada", "isolate.undo", Decision::Approve);
    let events = world.submit(&statement, "").unwrap();
    assert!(
        matches!(&events[..], [Kind::ApprovalRefused(refused)] if refused.code == "requester"),
        "{events:?}"
    );
}

#[test]
fn an_abort_undoes_only_if_it_says_so_and_the_runbook_can() {
    let mut world = after(&["snapshot", "isolate"]);
    let again = Command::Abort {
        said: said("all of it"),
        undo: true,
    };
    let plain = Command::Abort {
        said: said("enough"),
        undo: false,
    };
    world.run(plain).unwrap();
    let end = world.state.ended().unwrap();
    assert!(end.reason.contains("what they did stays"), "{}", end.reason);
    world.run(again.clone()).unwrap_err();

    let mut world = World::after(&["snapshot"]);
    let refused = world.run(again.clone()).unwrap_err();
    assert!(refused.reason.contains("no step"), "{refused}");
    // Nothing is done yet that could be taken back: the run just ends.
    let mut world = after(&["snapshot"]);
    world.run(again).unwrap();
    assert!(world.state.ended().is_some());
}
