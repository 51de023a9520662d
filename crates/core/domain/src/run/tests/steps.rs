//! Steps from start to end, crashes between, and commands that come twice.

use std::collections::BTreeSet;

use sealwarden_wire::event::v1::event::Kind;
use sealwarden_wire::event::v1::{RunOutcome, RunStarted, StepOutcome};

use super::world::{ORDER, World, apply, outputs};
use crate::approval::Environment;
use crate::approval::fixture::{key_of, run_started};
use crate::fold::RejectionCode;
use crate::run::{
    Command, Effect, Phase, RunState, Viewer, idempotency_key, next_wake_ms, pending,
};

fn begins(effects: &[Effect]) -> Vec<&str> {
    let mut steps = Vec::new();
    for effect in effects {
        if let Effect::Begin { step } = effect {
            steps.push(step.as_str());
        }
    }
    steps
}

#[test]
fn a_run_starts_with_the_inputs_of_its_roots() {
    let world = World::started();
    let (_, first) = &world.log[0];
    assert!(
        matches!(
            first.as_slice(),
            [Kind::RunStarted(_), Kind::InputsResolved(_)]
        ),
        "{first:?}"
    );
    assert_eq!(begins(&world.pending()), ["snapshot"]);
}

#[test]
fn one_commit_ends_a_step_and_makes_the_next_ready() {
    let mut world = World::after(&["snapshot", "isolate"]);
    let (_, last) = world.log.last().unwrap();
    let [
        Kind::StepEnded(_),
        Kind::InputsResolved(a),
        Kind::InputsResolved(b),
    ] = last.as_slice()
    else {
        panic!("{last:?}")
    };
    let ready: BTreeSet<&str> = [a.step.as_str(), b.step.as_str()].into();
    assert_eq!(ready, ["find", "rotate"].into());
    // `find` needs nobody; `rotate` waits for people and does not hold it up.
    assert_eq!(begins(&world.pending()), ["find"]);
    world.approve("rotate", &["pete", "ada"]);
    assert_eq!(begins(&world.pending()), ["find", "rotate"]);
}

#[test]
fn one_commit_ends_a_step_and_starts_the_next_ones_that_wait_for_nobody() {
    let mut world = World::after(&["snapshot"]);
    world.approve("isolate", &["ada", "grace"]);
    world.begin("isolate").unwrap();
    let mut end = world.end_of("isolate", Ok(()));
    end.begin_next = true;
    let events = world.run(Command::EndStep(end)).unwrap();
    let [
        Kind::StepEnded(_),
        Kind::InputsResolved(_),
        Kind::InputsResolved(_),
        Kind::StepStarted(started),
    ] = events.as_slice()
    else {
        panic!("{events:?}")
    };
    assert_eq!((started.step.as_str(), started.attempt), ("find", 1));
    let [Effect::Execute { id, .. }] = &world.pending()[..] else {
        panic!("the process that ended the one performs the other")
    };
    assert_eq!(id.step, "find");
    // Another process finds its start on record, so it looks before it acts.
    world.own.clear();
    assert!(matches!(&world.pending()[..], [Effect::Observe { .. }]));
    assert_eq!(folded(&world, usize::MAX), world.state);
}

#[test]
fn an_attempt_that_was_not_done_starts_nothing_in_its_commit() {
    let mut world = World::started();
    world.begin("snapshot").unwrap();
    let mut end = world.end_of("snapshot", Err("no room"));
    end.begin_next = true;
    let events = world.run(Command::EndStep(end)).unwrap();
    assert!(
        matches!(events.as_slice(), [Kind::StepEnded(_)]),
        "{events:?}"
    );
}

#[test]
fn inputs_come_from_the_incident_and_from_earlier_steps() {
    let world = World::after(&ORDER[..6]);
    let inputs = |step: &str| {
        world
            .state
            .step(step)
            .unwrap()
            .inputs
            .clone()
            .unwrap()
            .0
            .to_string()
    };
    assert_eq!(inputs("publish"), "action: publish-trust\nlog: main\n");
    assert_eq!(
        inputs("tell"),
        "action: confirm\ninstructions: Tell the tenants of 7 seals.\n"
    );
    assert_eq!(
        inputs("reverify"),
        "action: reverify\norigin: origin-of-rotate-origin\n"
    );
}

#[test]
fn the_last_step_ends_the_run() {
    let mut world = World::after(&ORDER);
    assert_eq!(world.state.ended().unwrap().outcome, RunOutcome::Completed);
    assert!(world.pending().is_empty() && !world.state.is_open());
    assert_eq!(
        world.begin("close").unwrap_err().code,
        RejectionCode::NotNow
    );
    assert_eq!(world.end("close", Ok(())).unwrap(), []);
}

/// Folds the events of all commits, stopping after `count` of them.
fn folded(world: &World, count: usize) -> RunState {
    let mut state = RunState::default();
    let events = world
        .log
        .iter()
        .flat_map(|(at_ms, events)| events.iter().map(move |kind| (*at_ms, kind)));
    for (at_ms, kind) in events.take(count) {
        apply(&mut state, kind, at_ms);
    }
    state
}

#[test]
fn a_run_resumed_from_each_commit_goes_on_as_if_nothing_had_happened() {
    let finished = World::after(&ORDER);
    let mut live = World::empty();
    for (at_ms, events) in &finished.log {
        for kind in events {
            apply(&mut live.state, kind, *at_ms);
        }
        live.log.push((*at_ms, events.clone()));
        let count = live.log.iter().map(|(_, events)| events.len()).sum();
        assert_eq!(folded(&live, count), live.state);

        // A new process: it owns no attempt, so it repeats none. Whatever runs is observed as done, and the run completes.
        let mut resumed = World::empty();
        resumed.state = folded(&live, count);
        resumed.log = live.log.clone();
        resumed.now_ms = *at_ms + 1;
        complete(&mut resumed);
        assert_eq!(
            resumed.state.ended().unwrap().outcome,
            RunOutcome::Completed
        );
        let starts = resumed
            .log
            .iter()
            .flat_map(|(_, events)| events)
            .filter(|kind| matches!(kind, Kind::StepStarted(_)));
        assert_eq!(starts.count(), ORDER.len(), "no step's effect began twice");
    }
    assert_eq!(live.state, finished.state);
}

/// Brings a run to its end from wherever it stands.
fn complete(world: &mut World) {
    for step in ORDER {
        let phase = world
            .state
            .step(step)
            .map(|step| step.phase.clone())
            .unwrap();
        match phase {
            Phase::Done | Phase::Skipped | Phase::NotNeeded | Phase::Cancelled => {}
            Phase::Running(_) => {
                assert!(
                    world
                        .pending()
                        .iter()
                        .all(|effect| !matches!(effect, Effect::Execute { .. }))
                );
                world.end(step, Ok(())).unwrap();
            }
            Phase::Blocked
            | Phase::Ready
            | Phase::Undecided
            | Phase::Unknown { .. }
            | Phase::Failed => {
                resume_step(world, step);
            }
        }
    }
}

/// Does a step whose approvals may be there in part.
fn resume_step(world: &mut World, step: &str) {
    use crate::approval::Decision;
    let manual = step == "tell";
    let people = if manual {
        &["leila", "nora"]
    } else {
        super::world::approvers(step)
    };
    let decision = if manual {
        Decision::Confirm
    } else {
        Decision::Approve
    };
    for (number, person) in people.iter().enumerate() {
        let decided = &world.state.step(step).unwrap().decided;
        if decided.iter().any(|decided| decided.person == *person) {
            continue;
        }
        let mut statement = world.statement(person, step, decision);
        statement.nonce = format!("{:032x}", world.log.len() * 100 + number + 10_000);
        world.submit(&statement, "").unwrap();
    }
    if !manual {
        world.begin(step).unwrap();
        world.end(step, Ok(())).unwrap();
    }
}

#[test]
fn the_state_folded_from_any_prefix_of_events_is_legal() {
    let world = World::after(&ORDER);
    let total: usize = world.log.iter().map(|(_, events)| events.len()).sum();
    for count in 0..=total {
        let state = folded(&world, count);
        let effects = pending(&state, &BTreeSet::new(), Viewer::alone(""), world.at());
        assert!(
            effects
                .iter()
                .all(|effect| !matches!(effect, Effect::Execute { .. } | Effect::AskPerson { .. }))
        );
    }
}

#[test]
fn an_attempt_is_executed_by_the_process_that_began_it_and_observed_by_any_other() {
    let mut world = World::started();
    world.begin("snapshot").unwrap();
    let [
        Effect::Execute {
            id,
            idempotency_key: key,
            deadline_ms,
            ..
        },
    ] = &world.pending()[..]
    else {
        panic!()
    };
    assert_eq!((id.attempt, *deadline_ms), (1, world.now_ms + 60_000));
    assert_eq!(*key, idempotency_key("run-1", "snapshot", 0));
    world.own.clear();
    assert!(matches!(&world.pending()[..], [Effect::Observe { .. }]));
}

#[test]
fn the_same_command_twice_has_no_second_effect() {
    let mut world = World::started();
    let start = Command::Start(Box::new(run_started(Environment::Production)));
    assert_eq!(world.run(start).unwrap(), []);
    let mut other = run_started(Environment::Production);
    other.incident = "inc-2".to_owned();
    assert_eq!(
        world.run(Command::Start(Box::new(other))).unwrap_err().code,
        RejectionCode::NotNow
    );

    world.begin("snapshot").unwrap();
    assert_eq!(
        world.begin("snapshot").unwrap_err().code,
        RejectionCode::NotNow
    );
    let progress = Command::Progress {
        step: "snapshot".into(),
        text: "half".into(),
        missing: vec!["node-2".into()],
    };
    assert_eq!(world.run(progress.clone()).unwrap().len(), 1);
    assert_eq!(world.run(progress).unwrap(), []);
    world.lose("snapshot", false).unwrap();
    assert_eq!(world.lose("snapshot", false).unwrap(), []);
    world.end("snapshot", Ok(())).unwrap();
    assert_eq!(world.end("snapshot", Ok(())).unwrap(), []);
    assert!(
        world.end("snapshot", Err("no")).is_err(),
        "an end is not taken back"
    );
    assert!(world.lose("snapshot", false).is_err());
}

type Change = fn(&mut RunStarted);

#[test]
fn a_start_with_wrong_digests_or_missing_facts_is_refused() {
    let refused = |change: Change| {
        let mut started = run_started(Environment::Production);
        change(&mut started);
        World::empty()
            .run(Command::Start(Box::new(started)))
            .unwrap_err()
    };
    let cases: [(&str, Change); 7] = [
        ("runbook has the digest", |s| {
            s.runbook_digest = "0".repeat(64);
        }),
        ("roster has the digest", |s| {
            s.roster_digest = "0".repeat(64);
        }),
        ("production nor drill", |s| s.environment = "test".into()),
        ("run \"a b\"", |s| s.run = "a b".into()),
        ("incident.origin", |s| {
            drop(s.facts.remove("incident.origin"));
        }),
        ("line break", |s| {
            drop(s.facts.insert("incident.log".into(), "a\nb".into()));
        }),
        ("plan.yaml", |s| s.plan_text = "nonsense".into()),
    ];
    for (word, change) in cases {
        let rejection = refused(change);
        assert_eq!(rejection.code, RejectionCode::Invalid);
        assert!(rejection.reason.contains(word), "{word}: {rejection}");
    }
    let mut empty = run_started(Environment::Production);
    (empty.runbook_digest, empty.roster_digest) = (String::new(), String::new());
    assert!(
        World::empty().run(Command::Start(Box::new(empty))).is_ok(),
        "left out, they are filled in"
    );
}

#[test]
fn what_was_not_done_is_tried_again_later_with_the_same_key_until_attempts_run_out() {
    let mut world = World::started();
    for attempt in 1..=3_u32 {
        let events = world.begin("snapshot").unwrap();
        let [Kind::StepStarted(started)] = events.as_slice() else {
            panic!("{events:?}")
        };
        assert_eq!(started.attempt, attempt);
        assert_eq!(
            started.idempotency_key,
            idempotency_key("run-1", "snapshot", 0)
        );
        world.now_ms += 5;
        let events = world.end("snapshot", Err("disk full")).unwrap();
        let [Kind::StepEnded(ended)] = events.as_slice() else {
            panic!("{events:?}")
        };
        assert_eq!(ended.outcome(), StepOutcome::NotDone);
        assert_eq!(world.end("snapshot", Err("disk full")).unwrap(), []);
        if attempt < 3 {
            let wake_ms = world.now_ms + 1000 * (1 << (attempt - 1));
            assert!(world.pending().is_empty(), "it waits");
            assert!(world.begin("snapshot").is_err());
            assert_eq!(
                next_wake_ms(&world.state, Viewer::alone(""), world.at()),
                Some(wake_ms)
            );
            world.now_ms = wake_ms;
            assert_eq!(begins(&world.pending()), ["snapshot"]);
        }
    }
    assert_eq!(world.state.step("snapshot").unwrap().phase, Phase::Failed);
    let [Effect::AskPerson { step, reason, .. }] = &world.pending()[..] else {
        panic!()
    };
    assert_eq!((step.as_str(), reason.as_str()), ("snapshot", "disk full"));
    assert!(world.state.is_open(), "stuck is not ended");
    assert!(world.begin("snapshot").is_err());
}

#[test]
fn jitter_makes_pauses_longer_differently_in_each_run_and_always_the_same() {
    let pauses = |run: &str| {
        let mut started = run_started(Environment::Production);
        let longer = "retry: {attempts: 3, backoff: 1s, jitter: 10s}";
        let text = started.runbook_text;
        started.runbook_text = text.replace("retry: {attempts: 3, backoff: 1s}", longer);
        started.runbook_digest = String::new();
        started.run = run.to_owned();
        let mut world = World::empty();
        let events =
            crate::run::decide(&world.state, Command::Start(Box::new(started)), world.at());
        for kind in events.unwrap() {
            world.state.take(&kind, world.now_ms).unwrap();
        }
        let pinned = world.state.pinned().unwrap();
        [1, 2].map(|attempts| pinned.backoff_ms("snapshot", attempts))
    };
    let drawn = [pauses("run-1"), pauses("run-2")];
    assert_ne!(drawn[0], drawn[1]);
    assert_eq!(drawn[0], pauses("run-1"));
    for [first, second] in drawn {
        assert!((1_000..=11_000).contains(&first), "{first}");
        assert!((2_000..=12_000).contains(&second), "{second}");
    }
}

#[test]
fn the_unknown_is_observed_and_then_a_person_is_asked() {
    let mut world = World::started();
    world.begin("snapshot").unwrap();
    world.lose("snapshot", false).unwrap();
    assert!(
        matches!(&world.pending()[..], [Effect::Observe { .. }]),
        "even by the process that began it"
    );
    world.lose("snapshot", true).unwrap();
    assert!(matches!(&world.pending()[..], [Effect::AskPerson { .. }]));
    assert_eq!(
        world.lose("snapshot", false).unwrap(),
        [],
        "nobody takes the question back"
    );
    let mut end = world.end_of("snapshot", Err("it never began"));
    end.observed = true;
    world.run(Command::EndStep(end)).unwrap();
    world.now_ms += 1000;
    assert_eq!(
        begins(&world.pending()),
        ["snapshot"],
        "known not to have happened: tried again"
    );
}

#[test]
fn an_end_without_the_promised_outputs_is_refused() {
    let mut world = World::started();
    world.begin("snapshot").unwrap();
    let good = world.end_of("snapshot", Ok(()));
    let mut cases = Vec::new();
    for (name, value) in [
        ("digest", None),
        ("digest", Some("two\nlines")),
        ("extra", Some("1")),
    ] {
        let mut end = good.clone();
        let mut values = outputs(sealwarden_runbook::Action::SnapshotEvidence);
        match value {
            Some(value) => drop(values.insert(name.to_owned(), value.to_owned())),
            None => drop(values.remove(name)),
        }
        end.result = Ok(values);
        cases.push(end);
    }
    for end in cases {
        assert_eq!(
            world.run(Command::EndStep(end)).unwrap_err().code,
            RejectionCode::Invalid
        );
    }
    let mut early = good.clone();
    early.attempt = 2;
    assert_eq!(
        world.run(Command::EndStep(early)).unwrap_err().code,
        RejectionCode::NotNow
    );
    assert!(world.run(Command::EndStep(good)).is_ok());
}

#[test]
fn commands_about_what_is_not_there_are_told_so() {
    let mut world = World::empty();
    assert_eq!(
        world.begin("snapshot").unwrap_err().code,
        RejectionCode::NotFound
    );
    let mut world = World::started();
    let rejection = world.begin("nonsense").unwrap_err();
    assert_eq!(rejection.code, RejectionCode::NotFound);
    assert!(rejection.reason.contains("snapshot"), "{rejection}");
    let waits = world.begin("rotate").unwrap_err();
    assert!(waits.reason.contains("isolate, snapshot"), "{waits}");
}

#[test]
fn a_step_that_needs_evidence_does_not_begin_without_it_even_if_its_needs_are_done() {
    let mut world = World::after(&["snapshot", "isolate", "rotate"]);
    world.approve("publish", &["leila"]);
    assert!(begins(&world.pending()).contains(&"publish"));
    // As if a reader of runbooks had let a runbook through that it should have refused.
    world.state.steps.get_mut("snapshot").unwrap().phase = Phase::Failed;
    let rejection = world.begin("publish").unwrap_err();
    assert!(
        rejection.reason.contains("evidence snapshot"),
        "{rejection}"
    );
    assert!(!begins(&world.pending()).contains(&"publish"));
}

#[test]
fn the_shipped_runbook_starts_with_a_roster_that_has_keys() {
    starts_with_plan(include_str!("../../../../../../runbooks/plan.yaml"));
}

#[test]
fn a_run_starts_from_a_plan_whose_other_classes_have_runbooks_that_it_does_not_pin() {
    let plan = include_str!("../../../../../../runbooks/plan.yaml");
    let class = "classes:\n  lost-building:\n    title: A building is lost\n    severity: high\n    runbook: lost-building\n    targets: { detect: 1m, contain: 1h, recover: 72h }\n";
    starts_with_plan(&plan.replacen("classes:\n", class, 1));
}

fn starts_with_plan(plan: &str) {
    let shipped = include_str!("../../../../../../runbooks/roster.yaml");
    let roster = sealwarden_runbook::Roster::parse("roster.yaml", shipped).unwrap();
    let key = |id: &str| vec![key_of(id).public_key().to_openssh().unwrap()];
    let keys = roster
        .people()
        .iter()
        .map(|person| (person.id.clone(), key(&person.id)))
        .collect();
    let mut started = run_started(Environment::Drill);
    started.runbook = "key-compromise".to_owned();
    started.runbook_text =
        include_str!("../../../../../../runbooks/key-compromise.yaml").to_owned();
    plan.clone_into(&mut started.plan_text);
    started.roster_text = roster.with_trial_keys(&keys).unwrap().to_yaml();
    (started.runbook_digest, started.roster_digest) = (String::new(), String::new());
    let mut world = World::empty();
    world.run(Command::Start(Box::new(started))).unwrap();
    assert_eq!(begins(&world.pending()), ["snapshot"]);
}
