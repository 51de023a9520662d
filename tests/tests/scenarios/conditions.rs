//! Steps with conditions through the binary: not needed, needed, and left to a person.

use sealwarden_tests::{Installation, eventually, people, plans};
use serde_json::Value;

const INES: &str = "ines.duarte"; // on-call-sre

/// Steps that look at the queue of seals; nothing waits in it.
const STEPS: &str = r#"  - {id: drain, title: Look at the queue, action: drain-queue, with: {log: main}}
  - id: tell
    title: Tell those whose seals waited
    action: confirm
    needs: [drain]
    when: steps.drain.outputs.drained > 0
    manual: {instructions: "Tell the owners of ${steps.drain.drained} seals"}
    approval: {quorum: {on-call-sre: 1}, within: 1h}
  - id: again
    title: Look once more
    action: drain-queue
    needs: [drain, tell]
    when: steps.tell.state == "not-needed" && has(incident.id)
    with: {log: main}
  - {id: guess, title: Only for one key, action: drain-queue, needs: [again], when: incident.key == "k", with: {log: main}}
  - {id: guess-too, title: Only for one key, action: drain-queue, needs: [again], when: incident.key == "k", with: {log: main}}
  - {id: close, title: Close, action: close-incident, needs: [guess, guess-too]}
"#;

fn stuck_at(here: &Installation, run: &str, step: &str) -> Value {
    eventually(&format!("nobody can tell whether {step} is needed"), || {
        let shown = people::run(here, run);
        let undecided = people::step(&shown, step)["state"] == "undecided";
        (undecided && shown["state"] == "stuck").then_some(shown)
    })
}

#[test]
fn a_step_runs_when_its_condition_holds_and_a_person_decides_where_nobody_can_tell() {
    let here = Installation::new();
    assert!(here.up().terminate().success()); // writes the trial plan
    plans::with_runbook(&here, "walk", STEPS);
    here.call(&["plan", "check"]).good();
    let shown = here.call(&["runbook", "show", "walk"]).good();
    assert_eq!(
        people::step(&shown, "tell")["when"],
        "steps.drain.outputs.drained > 0"
    );
    let _up = here.up();
    let run = plans::begin(&here, "walk");

    people::reaches(&here, &run, "again", "done");
    let shown = stuck_at(&here, &run, "guess-too");
    let tell = people::step(&shown, "tell");
    assert_eq!(tell["state"], "not-needed", "{tell:#}");
    assert_eq!(tell["condition"], "does not hold");
    assert_eq!(tell["seen"]["steps.drain.outputs.drained"], "0");
    let guess = people::step(&shown, "guess");
    let error = guess["error"].as_str().expect("an error");
    assert!(error.contains("incident.key has no value"), "{error}");

    // Nobody approves what may not be needed; a signature decides, one way or the other.
    people::approve(&here, &run, "guess", INES).must_end_with(4);
    let says = |verb: &str, step: &str| {
        let words = [
            "run", verb, &run, step, "--as", INES, "--yes", "--why", "looked",
        ];
        here.call(&words).must_end_with(0);
    };
    says("retry", "guess");
    says("skip", "guess-too");
    people::reaches(&here, &run, "guess", "done");
    let end = eventually("the run ends", || {
        let shown = people::run(&here, &run);
        (shown["state"] == "completed").then_some(shown)
    });
    assert_eq!(people::step(&end, "guess-too")["state"], "skipped");
    let reason = end["reason"].as_str().expect("a reason");
    assert_eq!(reason, "4 steps are done, 1 skipped, 1 not needed");
    let svg = here.call(&["run", "draw", &run]).ends_with(0).stdout;
    assert!(
        svg.contains("not needed") && svg.contains("only when"),
        "{svg}"
    );
}

#[test]
fn a_condition_with_a_mistake_is_refused_with_its_place() {
    let here = Installation::new();
    assert!(here.up().terminate().success());
    let steps = STEPS.replace("outputs.drained > 0", "outputs.draind > 0");
    plans::with_runbook(&here, "walk", &steps);
    let refused = here.call(&["plan", "check"]).ends_with(1);
    let told = refused.to_string();
    for words in ["bad-condition", "did you mean `drained`?", "\"line\""] {
        assert!(told.contains(words), "{words}: {told}");
    }
    let answer = refused.json();
    let findings = answer["findings"].as_array().expect("findings");
    let finding = findings.iter().find(|it| it["code"] == "bad-condition");
    let finding = finding.expect("the finding");
    // Line 7 of the steps, behind five lines of head; the name stands at column 11.
    assert_eq!(
        (&finding["line"], &finding["column"]),
        (&11.into(), &11.into())
    );
    assert_eq!(finding["step"], "tell");
}
