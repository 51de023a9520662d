//! What an executor leaves alone, and ends that come from people.

use std::collections::{BTreeMap, BTreeSet};

use sealwarden_wire::event::v1::RunOutcome;

use super::world::World;
use crate::approval::Environment;
use crate::approval::fixture::{RUNBOOK, run_started};
use crate::fold::At;
use crate::run::{
    AttemptId, Command, Effect, Known, Next, Observation, Report, TAKEOVER_MS, Viewer, after,
    next_wake_ms, pending,
};

#[test]
fn a_run_can_end_with_what_people_do() {
    let mut started = run_started(Environment::Production);
    let (shorter, _) = RUNBOOK.split_once("  - id: reverify").unwrap();
    started.runbook_text = shorter.to_owned();
    started.runbook_digest = String::new();
    let mut world = World::empty();
    world.run(Command::Start(Box::new(started))).unwrap();
    for step in ["snapshot", "isolate", "rotate", "find", "publish", "tell"] {
        world.do_step(step);
    }
    let ended = world.state.ended().unwrap();
    assert_eq!(ended.outcome, RunOutcome::Completed);
}

#[test]
fn what_another_executor_began_is_left_alone_until_its_time_is_over() {
    let mut world = World::after(&[]);
    world.begin("snapshot").unwrap();
    let first = world.own.first().unwrap().clone();
    world.own.clear();
    let deadline_ms = world
        .state
        .step("snapshot")
        .unwrap()
        .phase
        .attempt()
        .unwrap()
        .deadline_ms;
    let pending_of =
        |world: &World, me: &str| pending(&world.state, &world.own, Viewer::alone(me), world.at());
    assert!(matches!(
        &pending_of(&world, "")[..],
        [Effect::Observe { .. }]
    ));
    let shared = Viewer {
        is_shared: true,
        ..Viewer::alone("")
    };
    assert!(
        matches!(
            &pending(&world.state, &world.own, shared, world.at())[..],
            [Effect::Take { .. }]
        ),
        "where others may take it over, too"
    );
    assert_eq!(pending_of(&world, "executor-2"), []);
    let free_ms = deadline_ms + TAKEOVER_MS;
    assert_eq!(
        next_wake_ms(&world.state, Viewer::alone("executor-2"), world.at()),
        Some(free_ms)
    );
    world.now_ms = free_ms - 1;
    assert_eq!(pending_of(&world, "executor-2"), []);
    world.now_ms = free_ms;
    assert_eq!(
        pending_of(&world, "executor-2"),
        [Effect::Take { id: first }]
    );
}

#[test]
fn what_an_executor_held_that_is_gone_is_taken_over_at_once_and_its_own_reports_count_no_more() {
    let mut world = World::after(&[]);
    world.begin("snapshot").unwrap();
    let held = world.own.first().unwrap().clone();
    let late = world.end_of("snapshot", Err("it never began"));
    world.own.clear();
    let known = |known| BTreeMap::from([(String::new(), known)]);
    let others = known(Known::Over { position: 0 });
    let viewer = Viewer {
        me: "executor-2",
        is_shared: true,
        others: &others,
    };
    assert_eq!(
        pending(&world.state, &world.own, viewer, world.at()),
        [],
        "it was begun after that was known"
    );
    let others = known(Known::Lasts);
    let viewer = Viewer {
        others: &others,
        ..viewer
    };
    let far = At {
        wall_ms: i64::MAX,
        boot_ms: 0,
    };
    assert_eq!(
        pending(&world.state, &world.own, viewer, far),
        [],
        "whose lease lasts is left alone"
    );
    let others = known(Known::Over { position: 1 });
    let viewer = Viewer {
        others: &others,
        ..viewer
    };
    let due = pending(&world.state, &world.own, viewer, world.at());
    assert_eq!(due, [Effect::Take { id: held.clone() }]);
    world.run(Command::TakeStep(held.clone())).unwrap();
    let taken = AttemptId {
        claim: 1,
        ..held.clone()
    };
    assert_eq!(world.own, BTreeSet::from([taken.clone()]));
    let due = pending(&world.state, &world.own, viewer, world.at());
    assert!(matches!(&due[..], [Effect::Observe { id, .. }] if *id == taken));

    // Two that take it from the same hand: one does.
    let refused = world.run(Command::TakeStep(held)).unwrap_err();
    assert!(refused.reason.contains("was taken over"), "{refused}");
    let refused = world.run(Command::EndStep(late)).unwrap_err();
    assert!(refused.reason.contains("was taken over"), "{refused}");
    let report = Report::Observed(Observation::NotDone("nothing is there".to_owned()));
    let next = after(&world.state, &world.own, &taken, report, true, world.at());
    let Next::End(end) = next else {
        panic!("{next:?}")
    };
    world.run(Command::EndStep(end)).unwrap();
    assert!(
        world
            .state
            .step("snapshot")
            .unwrap()
            .phase
            .attempt()
            .is_none()
    );
}

#[test]
fn what_has_no_time_left_does_not_begin() {
    let mut world = World::after(&[]);
    world.begin("snapshot").unwrap();
    let id = world.own.first().unwrap().clone();
    let next = after(
        &world.state,
        &world.own,
        &id,
        Report::TooLate,
        true,
        world.at(),
    );
    let Next::End(end) = next else {
        panic!("{next:?}")
    };
    assert!(
        !end.observed
            && end
                .result
                .is_err_and(|failure| failure.reason.contains("time was over"))
    );
}
