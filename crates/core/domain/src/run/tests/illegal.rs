//! A log that no correct decider wrote is reported, whatever it holds.

use proptest::prelude::*;
use sealwarden_wire::event::v1::event::Kind;
use sealwarden_wire::event::v1::{
    Event, HoldPlaced, InputsResolved, RunEnded, StepEnded, StepProgressed, StepStarted,
    StepUnknown,
};

use super::world::{ORDER, World, envelope};
use crate::approval::Environment;
use crate::approval::fixture::run_started;
use crate::fold::Fold as _;
use crate::run::{RunState, idempotency_key};

fn refused(state: &RunState, kind: Kind) -> String {
    let mut state = state.clone();
    state
        .apply(&envelope(1), &Event { kind: Some(kind) })
        .unwrap_err()
        .to_string()
}

#[test]
fn events_at_the_wrong_time_are_illegal() {
    let ready = World::started().state;
    let start = |attempt: u32, key: String| {
        let (step, iteration, deadline_ms) = ("snapshot".into(), 0, 1);
        Kind::StepStarted(StepStarted {
            step,
            iteration,
            attempt,
            idempotency_key: key,
            deadline_ms,
        })
    };
    let key = idempotency_key("run-1", "snapshot", 0);
    let end = |outcome: i32| {
        Kind::StepEnded(StepEnded {
            step: "snapshot".into(),
            attempt: 1,
            outcome,
            ..StepEnded::default()
        })
    };
    let inputs = |step: &str| {
        Kind::InputsResolved(InputsResolved {
            step: step.into(),
            ..InputsResolved::default()
        })
    };
    let cases = [
        (
            "second time",
            Kind::RunStarted(run_started(Environment::Production)),
        ),
        ("second time", inputs("snapshot")),
        ("before the steps", inputs("isolate")),
        ("attempt 2 after 0", start(2, key.clone())),
        ("idempotency key", start(1, String::new())),
        ("does not run", end(1)),
        (
            "does not run",
            Kind::StepProgressed(StepProgressed {
                step: "snapshot".into(),
                ..StepProgressed::default()
            }),
        ),
        (
            "does not run",
            Kind::StepUnknown(StepUnknown {
                step: "snapshot".into(),
                attempt: 1,
                ..StepUnknown::default()
            }),
        ),
        ("no step", Kind::StepUnknown(StepUnknown::default())),
        (
            "not done",
            Kind::RunEnded(RunEnded {
                outcome: 1,
                ..RunEnded::default()
            }),
        ),
        ("without outcome", Kind::RunEnded(RunEnded::default())),
        ("belong", Kind::HoldPlaced(HoldPlaced::default())),
    ];
    for (word, kind) in cases {
        let error = refused(&ready, kind);
        assert!(
            error.contains(word) && error.contains("run/run-1"),
            "{word}: {error}"
        );
    }
    let mut running = World::started();
    running.begin("snapshot").unwrap();
    assert!(refused(&running.state, start(2, key)).contains("not ready"));
    assert!(refused(&running.state, end(0)).contains("without outcome"));
    assert!(refused(&running.state, end(77)).contains("without outcome"));
    let nothing = ready
        .clone()
        .apply(&envelope(1), &Event { kind: None })
        .unwrap_err();
    assert!(nothing.reason.contains("newer version"));
    assert!(refused(&RunState::default(), end(1)).contains("has not started"));
    let mut other = run_started(Environment::Production);
    other.run = "run-2".to_owned();
    assert!(refused(&RunState::default(), Kind::RunStarted(other)).contains("stream of its own"));
}

#[test]
fn a_changed_event_is_illegal_or_changes_nothing_that_was_approved() {
    let world = World::after(&ORDER[..2]);
    let flat: Vec<Kind> = world
        .log
        .iter()
        .flat_map(|(_, events)| events.clone())
        .collect();
    let mut state = RunState::default();
    for kind in &flat {
        if let Kind::InputsResolved(event) = kind {
            let mut changed = event.clone();
            changed.inputs = changed.inputs.replace("action: ", "action: x");
            refused(&state, Kind::InputsResolved(changed));
            let mut changed = event.clone();
            changed.digest = "0".repeat(64);
            refused(&state, Kind::InputsResolved(changed));
        }
        if let Kind::ApprovalRecorded(event) = kind {
            for change in [
                |e: &mut sealwarden_wire::event::v1::ApprovalRecorded| e.person = "linus".into(),
                |e: &mut sealwarden_wire::event::v1::ApprovalRecorded| e.decision = "deny".into(),
                |e: &mut sealwarden_wire::event::v1::ApprovalRecorded| e.nonce = "0".repeat(32),
                |e: &mut sealwarden_wire::event::v1::ApprovalRecorded| e.statement.push('\n'),
                |e: &mut sealwarden_wire::event::v1::ApprovalRecorded| e.step = "rotate".into(),
            ] {
                let mut changed = event.clone();
                change(&mut changed);
                refused(&state, Kind::ApprovalRecorded(changed));
            }
        }
        super::world::apply(&mut state, kind, 1);
        if matches!(kind, Kind::ApprovalRecorded(_)) {
            assert!(refused(&state, kind.clone()).contains("second time"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Events of a real run in any order, any number of times: each is taken or refused, and none panics.
    #[test]
    fn any_order_of_events_is_taken_or_refused(order in prop::collection::vec(0_usize..40, 0..60)) {
        let world = World::after(&ORDER);
        let events: Vec<Kind> = world.log.iter().flat_map(|(_, events)| events.clone()).collect();
        let mut state = World::started().state;
        for index in order {
            let event = Event { kind: events.get(index % events.len()).cloned() };
            let before = state.clone();
            if state.apply(&envelope(5), &event).is_err() {
                prop_assert_eq!(&state, &before, "a refused event changes nothing");
            }
        }
    }
}
