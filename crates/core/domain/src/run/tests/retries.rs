//! After which errors a step is tried again.

use sealwarden_runbook::ErrorKind;
use sealwarden_wire::event::v1::StepEnded;
use sealwarden_wire::event::v1::event::Kind;

use super::world::{World, said};
use crate::run::{
    AttemptId, Command, Failure, Next, Observation, Phase, Report, RunState, after, view,
};

const RETRY: &str = "retry: {attempts: 3, backoff: 1s}";
const NAMED: &str = "retry: {attempts: 3, backoff: 1s, on: [unavailable, timeout]}";

fn named() -> World {
    World::changed(&[(RETRY, NAMED)])
}

/// Begins the snapshot and lets it end with this error.
fn fails(world: &mut World, kind: ErrorKind) -> Vec<Kind> {
    world.begin("snapshot").unwrap();
    let mut end = world.end_of("snapshot", Ok(()));
    end.result = Err(Failure::new(kind, "no luck"));
    world.run(Command::EndStep(end)).unwrap()
}

fn phase(world: &World) -> Phase {
    world.state.step("snapshot").unwrap().phase.clone()
}

#[test]
fn an_error_that_is_named_is_followed_by_another_attempt_and_others_fail_the_step() {
    let mut world = named();
    let events = fails(&mut world, ErrorKind::Unavailable);
    let [Kind::StepEnded(ended)] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!(ended.error_kind, "unavailable");
    assert_eq!(phase(&world), Phase::Ready);
    world.now_ms += 1_000;
    fails(&mut world, ErrorKind::Damaged);
    assert_eq!(phase(&world), Phase::Failed, "an attempt is left");
    let shown = view(&world.state, world.at());
    let told = "step snapshot failed after 2 attempts (`damaged` is not tried again by itself) and needs an operator";
    assert!(shown.reason.starts_with(told), "{}", shown.reason);
    let step = &shown.steps[0];
    assert_eq!(step.error_kind, "damaged");
    assert_eq!(
        step.retry,
        "3 attempts, after unavailable or timeout; 1s and longer between them"
    );
    // An operator's word gives it one more attempt, and what is named is tried again after that too.
    let retry = Command::Retry {
        step: "snapshot".to_owned(),
        said: said("the disk is mended"),
    };
    world.run(retry).unwrap();
    fails(&mut world, ErrorKind::Damaged);
    assert_eq!(phase(&world), Phase::Failed);
}

#[test]
fn without_names_every_error_is_followed_by_another_attempt() {
    for kind in ErrorKind::ALL {
        let mut world = World::started();
        fails(&mut world, kind);
        assert_eq!(phase(&world), Phase::Ready, "{kind}");
    }
}

/// What is observed not to have happened broke off within its time, and was too late after it.
#[test]
fn what_is_observed_has_a_kind_too() {
    let mut world = named();
    world.begin("snapshot").unwrap();
    world.lose("snapshot", false).unwrap();
    let id = world.state.step("snapshot").unwrap().attempt_id("snapshot");
    let id: AttemptId = id.unwrap();
    let report = || Report::Observed(Observation::NotDone("nothing is there".to_owned()));
    let within = after(&world.state, &world.own, &id, report(), false, world.at());
    assert!(
        matches!(
            within,
            Next::Perform {
                deadline_ms: Some(_)
            }
        ),
        "it would be its last attempt, and its time is not over: {within:?}"
    );
    let mut plain = World::started();
    plain.begin("snapshot").unwrap();
    plain.lose("snapshot", false).unwrap();
    let kind_of = |world: &World| {
        let next = after(&world.state, &world.own, &id, report(), false, world.at());
        let Next::End(end) = next else {
            panic!("{next:?}")
        };
        end.result.unwrap_err().kind
    };
    assert_eq!(kind_of(&plain), ErrorKind::Interrupted);
    plain.now_ms += 60_000;
    assert_eq!(kind_of(&plain), ErrorKind::Timeout);
    world.now_ms += 60_000;
    assert_eq!(kind_of(&world), ErrorKind::Timeout);
}

#[test]
fn a_log_from_before_kinds_is_read_and_one_with_a_strange_kind_is_not() {
    let end = |kind: &str| {
        let mut ended = StepEnded {
            step: "snapshot".to_owned(),
            attempt: 1,
            error: "no luck".to_owned(),
            error_kind: kind.to_owned(),
            ..StepEnded::default()
        };
        ended.set_outcome(sealwarden_wire::event::v1::StepOutcome::NotDone);
        Kind::StepEnded(ended)
    };
    let folded = |mut world: World, kind: &str| {
        world.begin("snapshot").unwrap();
        let mut state: RunState = world.state.clone();
        let taken = state.take(&end(kind), world.now_ms);
        taken.map(|()| state.step("snapshot").unwrap().phase.clone())
    };
    assert_eq!(folded(World::started(), ""), Ok(Phase::Ready));
    assert_eq!(folded(named(), ""), Ok(Phase::Failed));
    assert_eq!(folded(named(), "timeout"), Ok(Phase::Ready));
    assert!(folded(World::started(), "odd").is_err());
}
