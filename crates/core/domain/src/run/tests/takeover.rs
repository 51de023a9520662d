//! What an executor leaves alone, and ends that come from people.

use sealwarden_wire::event::v1::RunOutcome;

use super::world::World;
use crate::approval::Environment;
use crate::approval::fixture::{RUNBOOK, run_started};
use crate::run::{Command, Effect, Next, Report, TAKEOVER_MS, after, next_wake_ms, pending};

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
    world.own.clear();
    let deadline_ms = world
        .state
        .step("snapshot")
        .unwrap()
        .phase
        .attempt()
        .unwrap()
        .deadline_ms;
    let pending_of = |world: &World, me: &str| pending(&world.state, &world.own, me, world.at());
    assert!(matches!(
        &pending_of(&world, "")[..],
        [Effect::Observe { .. }]
    ));
    assert_eq!(pending_of(&world, "executor-2"), []);
    let free_ms = deadline_ms + TAKEOVER_MS;
    assert_eq!(
        next_wake_ms(&world.state, "executor-2", world.at()),
        Some(free_ms)
    );
    world.now_ms = free_ms - 1;
    assert_eq!(pending_of(&world, "executor-2"), []);
    world.now_ms = free_ms;
    assert!(matches!(
        &pending_of(&world, "executor-2")[..],
        [Effect::Observe { .. }]
    ));
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
                .is_err_and(|reason| reason.contains("time was over"))
    );
}
