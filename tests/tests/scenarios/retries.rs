//! A step is tried again after the errors that its runbook names, and after no others.

use sealwarden_tests::calls::{begin, effects, prepared, step};
use sealwarden_tests::target::Target;
use sealwarden_tests::{Installation, people};

/// A step that calls a target, with this `retry`.
fn tried(id: &str, target: &str, how: &str, retry: &str) -> String {
    format!("{}    retry: {{{retry}}}\n", step(id, "", target, how))
}

#[test]
fn a_step_is_tried_again_after_the_errors_that_it_names() {
    let target = Target::start();
    let named = "attempts: 3, backoff: 100ms, on: [unavailable, interrupted]";
    let other = "attempts: 3, backoff: 100ms, on: [timeout]";
    let steps = [
        tried("nobody-there", "gone", "well", named),
        tried("refused", "blind", "refuse", named),
        tried("vanishes", "asked", "vanish-first", named),
        tried("unnamed", "gone", "well", other),
    ];
    let here = prepared(Installation::new(), &target, &steps.concat());
    let shown = here.call(&["runbook", "show", "roll-back"]).good();
    assert_eq!(
        people::step(&shown, "refused")["retry"],
        "3 attempts, after unavailable or interrupted; 100ms and longer between them"
    );
    let _up = here.up();
    let run = begin(&here);
    for (id, attempts, error) in [
        ("nobody-there", 3, "unavailable"),
        ("refused", 1, "refused"),
        ("unnamed", 1, "unavailable"),
    ] {
        let step = people::reaches(&here, &run, id, "failed");
        assert_eq!(step["attempts"], attempts, "{step:#}");
        assert_eq!(step["error_kind"], error, "{step:#}");
    }
    people::reaches(&here, &run, "vanishes", "done");
    assert_eq!(effects(&target), ["vanishes"]);
    // A person's word tries once more what is not tried again by itself.
    here.call(&["run", "retry", &run, "refused", "--why", "look"])
        .must_end_with(0);
    sealwarden_tests::eventually("it is tried again", || {
        let step = people::step(&people::run(&here, &run), "refused");
        (step["attempts"] == 2 && step["state"] == "failed").then_some(())
    });
}

#[test]
fn an_error_that_cannot_be_is_refused_with_its_place() {
    let target = Target::start();
    let good = tried("flag", "asked", "well", "attempts: 3, on: [refused]");
    let here = prepared(Installation::new(), &target, &good);
    let runbook = here.data().join("plan/roll-back.yaml");
    let text = std::fs::read_to_string(&runbook).expect("the runbook");
    for (word, words) in [
        ("[refusd]", "did you mean `refused`?"),
        ("[damaged]", "`call-webhook` never ends with `damaged`"),
    ] {
        std::fs::write(&runbook, text.replace("[refused]", word)).expect("the runbook");
        let answer = here.call(&["plan", "check"]).ends_with(1);
        assert!(answer.stdout.contains(words), "{words}: {answer}");
        let answer = answer.json();
        let finding = &answer["findings"][0];
        assert_eq!(
            (&finding["line"], &finding["step"]),
            (&12.into(), &"flag".into())
        );
    }
}
