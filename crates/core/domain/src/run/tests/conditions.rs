//! Conditions: evaluated once, recorded with what they read, never guessed.

use sealwarden_wire::event::v1::event::Kind;
use sealwarden_wire::event::v1::{ConditionEvaluated, ConditionOutcome, RunOutcome};

use super::world::{World, apply, said};
use crate::approval::Decision;
use crate::fold::{Fold as _, RejectionCode, event};
use crate::run::tests::world::envelope;
use crate::run::{Command, Effect, Phase, RunState, view};

/// The fixture's step `find` with a condition.
fn find_when(condition: &str) -> World {
    let to = format!("needs: [isolate]\n    when: {condition}\n    with:\n      origin");
    World::changed(&[("needs: [isolate]\n    with:\n      origin", &to)])
}

fn phase(world: &World, step: &str) -> Phase {
    world.state.step(step).unwrap().phase.clone()
}

fn judged(events: &[Kind]) -> Vec<&ConditionEvaluated> {
    let judged = events.iter().filter_map(|kind| {
        if let Kind::ConditionEvaluated(event) = kind {
            Some(event)
        } else {
            None
        }
    });
    judged.collect()
}

#[test]
fn a_condition_that_holds_is_recorded_with_what_it_read() {
    let mut world = find_when("steps.isolate.outputs.epoch > 3 && incident.log == 'main'");
    world.do_step("snapshot");
    world.do_step("isolate");
    let (_, events) = world.log.last().unwrap();
    let [judged] = judged(events)[..] else {
        panic!("{events:?}")
    };
    assert_eq!(judged.outcome(), ConditionOutcome::Holds);
    assert_eq!(judged.seen["steps.isolate.outputs.epoch"], "7");
    assert_eq!(judged.seen["incident.log"], "main");
    assert_eq!(phase(&world, "find"), Phase::Ready);
    let shown = view(&world.state, world.at());
    let find = shown.steps.iter().find(|step| step.step == "find").unwrap();
    assert_eq!(find.condition, "holds");
    assert_eq!(find.seen["incident.log"], "main");
}

#[test]
fn a_step_that_is_not_needed_is_over_and_others_see_it() {
    let mut world = find_when("incident.log == 'other'");
    world.do_step("snapshot");
    world.do_step("isolate");
    assert_eq!(phase(&world, "find"), Phase::NotNeeded);
    // Whoever must tell people reads that there is nothing to tell.
    let (inputs, _) = world.state.step("tell").unwrap().inputs.clone().unwrap();
    assert!(
        inputs
            .get("instructions")
            .unwrap()
            .contains("(not needed: step find) seals"),
        "{inputs}"
    );
    for step in ["tell", "rotate", "publish", "reverify", "close"] {
        world.do_step(step);
    }
    let end = world.state.ended().unwrap();
    assert_eq!(end.outcome, RunOutcome::Completed);
    assert_eq!(end.reason, "7 steps are done, 1 not needed");
}

#[test]
fn a_row_of_steps_turns_out_not_to_be_needed_in_one_commit() {
    let manual = "needs: [find]\n    manual:";
    let told = "needs: [find]\n    when: steps.find.state != 'not-needed'\n    manual:";
    let mut world = World::changed(&[
        (
            "needs: [isolate]\n    with:\n      origin",
            "needs: [isolate]\n    when: incident.log == 'other'\n    with:\n      origin",
        ),
        (manual, told),
    ]);
    world.do_step("snapshot");
    world.do_step("isolate");
    let (_, events) = world.log.last().unwrap();
    let steps: Vec<&str> = judged(events).iter().map(|it| it.step.as_str()).collect();
    assert_eq!(steps, ["find", "tell"]);
    assert_eq!(phase(&world, "tell"), Phase::NotNeeded);
    // The last step too: then the run ends with the commit.
    let mut world = World::changed(&[(
        "needs: [reverify]\n",
        "needs: [reverify]\n    when: incident.log == 'other'\n",
    )]);
    for step in [
        "snapshot", "isolate", "rotate", "find", "publish", "tell", "reverify",
    ] {
        world.do_step(step);
    }
    assert_eq!(phase(&world, "close"), Phase::NotNeeded);
    assert_eq!(world.state.ended().unwrap().outcome, RunOutcome::Completed);
}

#[test]
fn where_nobody_can_tell_a_person_decides_with_a_signature() {
    let undecided = || {
        let mut world = find_when("incident.key == 'k'");
        world.do_step("snapshot");
        world.do_step("isolate");
        world
    };
    let mut world = undecided();
    assert_eq!(phase(&world, "find"), Phase::Undecided);
    let asks = world.pending();
    assert!(
        asks.iter().any(|effect| matches!(effect, Effect::AskPerson { step, reason, .. } if step == "find" && reason.contains("incident.key has no value"))),
        "{asks:?}"
    );
    let shown = view(&world.state, world.at());
    assert_eq!(shown.state, "stuck");
    assert!(shown.reason.contains("run retry"), "{}", shown.reason);
    // Nothing but a signed word moves it.
    assert_eq!(world.begin("find").unwrap_err().code, RejectionCode::NotNow);
    let unsigned = Command::Retry {
        step: "find".to_owned(),
        said: said("go"),
    };
    assert_eq!(
        world.run(unsigned).unwrap_err().code,
        RejectionCode::Refused
    );
    world.says("ada", "find", Decision::Retry);
    assert_eq!(phase(&world, "find"), Phase::Ready);
    world.do_step("find");
    assert_eq!(phase(&world, "find"), Phase::Done);

    let mut world = undecided();
    // Nothing behind it that cannot be taken back, so one person may skip it.
    world.says("ada", "find", Decision::Skip);
    assert_eq!(phase(&world, "find"), Phase::Skipped);
    assert_eq!(phase(&world, "tell"), Phase::Ready);

    let mut world = undecided();
    world
        .run(Command::Abort {
            said: said("enough"),
            undo: false,
        })
        .unwrap();
    assert_eq!(phase(&world, "find"), Phase::Cancelled);
    assert!(world.state.ended().is_some());
}

#[test]
fn the_first_steps_have_conditions_too() {
    let mut world = World::changed(&[(
        "action: find-affected\n    needs: [isolate]\n",
        "action: find-affected\n    when: incident.class == 'loss'\n",
    )]);
    assert_eq!(phase(&world, "find"), Phase::NotNeeded);
    assert_eq!(phase(&world, "tell"), Phase::Ready);
    world.do_step("tell");
}

#[test]
fn a_step_is_skipped_though_one_behind_takes_its_outputs_if_that_is_needed_only_then() {
    let taker = "needs: [publish, tell]\n    when: steps.rotate.state == 'done'\n";
    let mut world = World::changed(&[("needs: [publish, tell]\n", taker)]);
    for step in ["snapshot", "isolate", "find", "tell"] {
        world.do_step(step);
    }
    for person in ["pete", "ada"] {
        world.says(person, "rotate", Decision::Skip);
    }
    assert_eq!(phase(&world, "rotate"), Phase::Skipped);
    world.do_step("publish");
    assert_eq!(phase(&world, "reverify"), Phase::NotNeeded);
}

#[test]
fn a_log_in_which_a_condition_cannot_be_so_is_reported() {
    let mut world = find_when("incident.log == 'other'");
    world.do_step("snapshot");
    world.approve("isolate", &["ada", "grace"]);
    world.begin("isolate").unwrap();
    let before = world.state.clone();
    world.end("isolate", Ok(())).unwrap();
    let (at_ms, events) = world.log.last().unwrap().clone();
    let good = judged(&events)[0].clone();
    let refused = |state: &RunState, kind: Kind| {
        let told = state.clone().apply(&envelope(at_ms), &event(kind));
        told.expect_err("it is legal").to_string()
    };
    // Too early, twice, of another text, without an outcome.
    let early = refused(&before, Kind::ConditionEvaluated(good.clone()));
    assert!(early.contains("not its turn"), "{early}");
    refused(&world.state, Kind::ConditionEvaluated(good.clone()));
    let mut state = before.clone();
    for kind in events
        .iter()
        .take_while(|kind| !matches!(kind, Kind::ConditionEvaluated(_)))
    {
        apply(&mut state, kind, at_ms);
    }
    let mut other = good.clone();
    other.condition = "incident.log == 'main'".to_owned();
    assert!(refused(&state, Kind::ConditionEvaluated(other)).contains("another condition"));
    let mut none = good;
    none.outcome = 0;
    assert!(refused(&state, Kind::ConditionEvaluated(none)).contains("without outcome"));
    // Inputs before the condition.
    let mut world = find_when("incident.log == 'main'");
    world.do_step("snapshot");
    world.approve("isolate", &["ada", "grace"]);
    world.begin("isolate").unwrap();
    let before = world.state.clone();
    world.end("isolate", Ok(())).unwrap();
    let (at_ms, events) = world.log.last().unwrap().clone();
    let mut state = before;
    for kind in &events {
        if let Kind::InputsResolved(resolved) = kind
            && resolved.step == "find"
        {
            assert!(refused(&state, kind.clone()).contains("before its condition"));
            return;
        }
        if !matches!(kind, Kind::ConditionEvaluated(_)) {
            apply(&mut state, kind, at_ms);
        }
    }
    panic!("its inputs were not resolved");
}
