//! Approvals that race: with each other, with the step's start, with a denial, with their own expiry. None is lost, none counts twice.

use std::collections::BTreeMap;

use sealwarden_tests::calls::{begin, effects, prepared};
use sealwarden_tests::history::History;
use sealwarden_tests::target::Target;
use sealwarden_tests::wait::eventually;
use sealwarden_tests::{Installation, people};
use sealwarden_wire::event::v1::event::Kind;
use serde_json::Value;

const MARA: &str = "mara.lindqvist"; // security-lead
const INES: &str = "ines.duarte"; // on-call-sre
const JONAS: &str = "jonas.weber"; // on-call-sre
/// Rounds of each race.
const ROUNDS: usize = 6;
/// Exit codes of what counted and of what was refused.
const COUNTED: i32 = 0;
const REFUSED: i32 = 4;

/// Decisions that counted, by step, person and decision.
type Counted = BTreeMap<(String, String, String), usize>;

/// A step that calls a target once these people said so.
fn step(id: &str, quorum: &str) -> String {
    format!(
        "  - id: {id}\n    title: Call\n    action: call-webhook\n    approval: {{quorum: {{{quorum}}}, within: 1h}}\n    with:\n      target: keyed\n      body: '{{\"do\": \"well\", \"step\": \"{id}\"}}'\n"
    )
}

/// Says all of it at the same instant, each in a process of its own; whether it counted.
fn at_once(
    here: &Installation,
    run: &str,
    step: &str,
    who: &[(&str, bool)],
    counted: &mut Counted,
) {
    let codes: Vec<i32> = std::thread::scope(|scope| {
        let calls: Vec<_> = who
            .iter()
            .map(|(person, denies)| {
                scope.spawn(move || {
                    let mut words = vec!["approve", run, step, "--as", person, "--yes"];
                    words.extend(denies.then_some("--deny"));
                    here.call(&words)
                })
            })
            .collect();
        let ends = calls.into_iter().map(|call| call.join().expect("it ends"));
        ends.inspect(|answer| assert!([COUNTED, REFUSED].contains(&answer.code), "{answer}"))
            .map(|answer| answer.code)
            .collect()
    });
    for ((person, denies), code) in who.iter().zip(codes) {
        if code == COUNTED {
            let decision = if *denies { "deny" } else { "approve" };
            let key = (step.to_owned(), (*person).to_owned(), decision.to_owned());
            *counted.entry(key).or_default() += 1;
        }
    }
}

fn state(here: &Installation, run: &str, id: &str) -> Value {
    people::step(&people::run(here, run), id)
}

/// What the run's stream holds of decisions, and in which order starts and denials came.
fn recorded(kinds: &[Kind]) -> Counted {
    let mut found = Counted::new();
    for kind in kinds {
        if let Kind::ApprovalRecorded(it) = kind {
            let key = (it.step.clone(), it.person.clone(), it.decision.clone());
            *found.entry(key).or_default() += 1;
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_races_no_approval_is_lost_and_none_counts_twice() {
    let target = Target::start();
    let mut steps = String::new();
    for round in 0..ROUNDS {
        steps += &step(&format!("two-{round}"), "on-call-sre: 1, security-lead: 1");
        steps += &step(&format!("start-{round}"), "on-call-sre: 1");
        steps += &step(&format!("denied-{round}"), "on-call-sre: 1");
    }
    let here = prepared(Installation::new(), &target, &steps);
    let up = here.up();
    let run = begin(&here);
    people::reaches(&here, &run, "two-0", "awaiting-approval");
    let mut counted = Counted::new();
    for round in 0..ROUNDS {
        // Two people at once, each at two keyboards.
        let id = format!("two-{round}");
        let who = [(INES, false), (MARA, false), (INES, false), (MARA, false)];
        at_once(&here, &run, &id, &who, &mut counted);
        for person in [INES, MARA] {
            let key = (id.clone(), person.to_owned(), "approve".to_owned());
            assert_eq!(counted.get(&key), Some(&1), "{person} in {id}: {counted:?}");
        }
        people::reaches(&here, &run, &id, "done");

        // The first one starts the step; the second one comes before that or after.
        let id = format!("start-{round}");
        let who = [(INES, false), (JONAS, false)];
        at_once(&here, &run, &id, &who, &mut counted);
        people::reaches(&here, &run, &id, "done");

        // A denial against an approval: before the start it stops the step, after that it is refused.
        let id = format!("denied-{round}");
        let who = [(INES, false), (JONAS, true)];
        at_once(&here, &run, &id, &who, &mut counted);
        let denied = counted.contains_key(&(id.clone(), JONAS.to_owned(), "deny".to_owned()));
        if denied {
            assert_ne!(state(&here, &run, &id)["state"], "done", "it was denied");
            assert!(!effects(&target).contains(&id), "{id} happened");
            // A denial stands until the same person approves.
            at_once(&here, &run, &id, &[(JONAS, false)], &mut counted);
        }
        people::reaches(&here, &run, &id, "done");
    }
    let mut done = effects(&target);
    done.sort();
    let mut all: Vec<String> = ["denied", "start", "two"]
        .iter()
        .flat_map(|race| (0..ROUNDS).map(move |round| format!("{race}-{round}")))
        .collect();
    all.sort();
    assert_eq!(done, all, "each effect once");
    assert!(up.terminate().success());
    let history = History::embedded(&here.data()).await;
    let kinds = history.events(&format!("run/{run}")).await;
    assert_eq!(
        recorded(&kinds),
        counted,
        "what counted is what is on record"
    );
    let started = |id: &str| {
        let starts = |kind: &&Kind| matches!(kind, Kind::StepStarted(it) if it.step == id);
        kinds.iter().filter(starts).count()
    };
    for id in &all {
        assert_eq!(started(id), 1, "{id}");
    }
}

#[test]
fn an_approval_that_ran_out_counts_no_more_and_a_new_one_does() {
    let target = Target::start();
    let here = prepared(
        Installation::new(),
        &target,
        &step("late", "on-call-sre: 1, security-lead: 1"),
    );
    let plan = here.data().join("plan/plan.yaml");
    let text = std::fs::read_to_string(&plan).expect("the plan");
    let shorter: Vec<String> = text
        .lines()
        .map(|line| match line.split_once(':') {
            Some(("approval_validity", _)) => "approval_validity: 15s".to_owned(),
            _ => line.to_owned(),
        })
        .collect();
    std::fs::write(&plan, shorter.join("\n")).expect("the plan");
    let _up = here.up();
    let run = begin(&here);
    people::reaches(&here, &run, "late", "awaiting-approval");
    let mut counted = Counted::new();
    at_once(&here, &run, "late", &[(INES, false)], &mut counted);
    eventually("her approval runs out", || {
        let missing = state(&here, &run, "late")["missing"].to_string();
        missing.contains("on-call-sre").then_some(())
    });
    at_once(&here, &run, "late", &[(MARA, false)], &mut counted);
    assert_eq!(state(&here, &run, "late")["state"], "awaiting-approval");
    assert_eq!(effects(&target), Vec::<String>::new());
    // Both again, at once: whoever's earlier word still stands is refused, and it counts all the same.
    let who = [(INES, false), (MARA, false)];
    at_once(&here, &run, "late", &who, &mut counted);
    people::reaches(&here, &run, "late", "done");
    assert_eq!(effects(&target), ["late"]);
}
