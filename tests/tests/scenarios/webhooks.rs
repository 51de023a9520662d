//! Steps that act outside: each effect happens once, whatever the target answers and whenever the process dies.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sealwarden_tests::calls::{begin, chain, effects, prepared, step};
use sealwarden_tests::target::Target;
use sealwarden_tests::{Installation, Process, people, wait};

/// How long the process is killed again and again.
const KILLING: Duration = Duration::from_mins(1);
/// Steps of the run that is killed.
const STEPS: usize = 50;

#[test]
fn whatever_the_target_answers_its_effect_happens_once() {
    let target = Target::start();
    let done_once = [
        "well",
        "fail-first",
        "vanish-first",
        "hang",
        "cut",
        "garbage",
        "redirect",
        "oversized",
        "error",
    ];
    let mut steps = String::new();
    for how in done_once {
        steps += &step(&format!("asked-{how}"), "", "asked", how);
    }
    for how in ["well", "fail-first", "vanish-first"] {
        steps += &step(&format!("keyed-{how}"), "", "keyed", how);
    }
    for how in ["well", "cut", "refuse"] {
        steps += &step(&format!("blind-{how}"), "", "blind", how);
    }
    // Known only when the step starts.
    steps += &step("unknown-target", "", "tpyo-${plan.version}", "well");
    steps += &step("taken-for-less", "", "${incident.class}", "well");
    steps += "  - {id: snapshot, title: Evidence, action: snapshot-evidence}\n";
    steps += &step(
        "final",
        "    needs: [snapshot]\n    approval: {quorum: {on-call-sre: 1}, within: 1h}\n",
        "final",
        "well",
    )
    .replace("call-webhook\n", "call-webhook-destructive\n");
    steps += &step("nobody-there", "", "gone", "well");
    let here = prepared(Installation::new(), &target, &steps);
    let _up = here.up();
    let run = begin(&here);

    for how in done_once {
        let step = people::reaches(&here, &run, &format!("asked-{how}"), "done");
        assert!(step["outputs"].to_string().contains("status"), "{step:#}");
    }
    for how in ["well", "fail-first", "vanish-first"] {
        people::reaches(&here, &run, &format!("keyed-{how}"), "done");
    }
    people::reaches(&here, &run, "blind-well", "done");
    let says = |id: &str, state: &str, words: &str| {
        let step = people::reaches(&here, &run, id, state);
        assert!(step.to_string().contains(words), "{words}: {step:#}");
    };
    says(
        "blind-refuse",
        "failed",
        "422 Unprocessable Entity: no such flag",
    );
    says("unknown-target", "failed", "is not in the settings");
    says("taken-for-less", "failed", "is destructive");
    people::reaches(&here, &run, "final", "awaiting-approval");
    people::approve_what_waits(&here, &run, &[]);
    people::reaches(&here, &run, "final", "done");
    says("nobody-there", "failed", "refused");
    says("blind-cut", "unknown", "ask its people");

    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for id in effects(&target) {
        *seen.entry(id).or_default() += 1;
    }
    let twice: Vec<_> = seen.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert_eq!(seen.len(), done_once.len() + 3 + 2 + 1, "{seen:#?}");
    let book = target.book();
    assert_eq!(book.strangers, 0);
    let prefix = format!("{}/{run}/", here.name());
    assert!(
        book.effects
            .iter()
            .all(|(key, _)| key.starts_with(&prefix) && key.ends_with("/0")),
        "{book:#?}"
    );
}

#[test]
fn a_plan_that_calls_what_the_settings_do_not_allow_is_refused() {
    let target = Target::start();
    let here = prepared(
        Installation::new(),
        &target,
        &step("flag", "", "asked", "well"),
    );
    let runbook = here.data().join("plan/roll-back.yaml");
    let good = std::fs::read_to_string(&runbook).expect("the runbook");
    for (from, to, words) in [
        ("target: asked", "target: askd", "did you mean `asked`?"),
        ("target: asked", "target: final", "call-webhook-destructive"),
        ("target: asked", "tarket: asked", "tarket"),
        (
            "call-webhook\n",
            "call-webhook-destructive\n",
            "missing-approval",
        ),
    ] {
        std::fs::write(&runbook, good.replace(from, to)).expect("the runbook");
        let answer = here.call(&["plan", "check"]).ends_with(1);
        assert!(answer.stdout.contains(words), "{words}: {answer}");
    }
}

#[test]
fn fifty_effects_happen_once_and_in_order_while_the_process_is_killed() {
    let started = Instant::now();
    let (mut kills, mut looks) = (0, 0);
    while started.elapsed() < KILLING {
        let (killed, looked) = one_run_that_is_killed();
        kills += killed;
        looks += looked;
    }
    assert!(
        kills >= 10 && looks > 0,
        "{kills} kills, and {looks} calls were asked for or repeated: nothing was tried"
    );
}

/// How often the process was killed, and how many calls were asked for or repeated.
fn one_run_that_is_killed() -> (u32, usize) {
    let target = Target::start();
    let here = prepared(Installation::new(), &target, &chain(STEPS));
    let up = here.up();
    let run = begin(&here);
    up.kill();
    let started = Instant::now();
    let mut kills = 1;
    while started.elapsed() < KILLING && target.book().effects.len() < STEPS {
        if kills % 4 == 0 {
            // While it starts: recovery is interrupted too.
            let starting = Process::spawn(here.home(), "up", &here.arguments(&["up"]));
            wait::a_while(0..400);
            starting.kill();
        } else {
            let up = here.up();
            wait::a_while(0..400);
            up.kill();
        }
        kills += 1;
    }
    let up = here.up();
    wait::within(Duration::from_mins(3), "the run ends", || {
        let answer = here.call(&["run", "show", &run]);
        let shown = (answer.code == 0).then(|| answer.json())?;
        assert_ne!(shown["state"], "stuck", "{shown:#}");
        (shown["state"] == "completed").then_some(())
    });
    assert!(up.terminate().success());
    let expected: Vec<String> = (1..=STEPS).map(|n| format!("s{n:02}")).collect();
    assert_eq!(effects(&target), expected, "after {kills} kills");
    let requests = target.book().requests;
    let looked = requests
        .iter()
        .filter(|((_, path, _), times)| match path.as_str() {
            "/seen" => true,
            "/keyed" => **times > 1,
            _ => false,
        });
    (kills, looked.count())
}
