//! An abort that takes back what was done, through the binary: containment holds until its quorum lifts it.

use sealwarden_tests::{Installation, eventually, people, plans};

/// New seals are sent into the queue; then the runbook waits for people.
const STEPS: &str = r#"  - {id: snapshot, title: Evidence first, action: snapshot-evidence}
  - id: divert
    title: Send new seals into the queue
    action: divert
    needs: [snapshot]
    with: {log: main, mode: queue}
    approval: {quorum: {security-lead: 1, on-call-sre: 1}, within: 1h}
    undo: inverse
  - id: look
    title: Find out more
    action: confirm
    needs: [divert]
    manual: {instructions: "Find out more"}
    approval: {quorum: {security-lead: 1, on-call-sre: 1}, within: 1h}
  - {id: close, title: Close, action: close-incident, needs: [look]}
"#;

/// Gives the approvals that a step waits for.
fn approve(here: &Installation, run: &str, step: &str) {
    let shown = people::reaches(here, run, step, "awaiting-approval");
    for role in people::roles(shown["missing"].as_str().expect("who is missing")) {
        people::approve(here, run, step, people::with_role(&role)).must_end_with(0);
    }
}

#[test]
fn an_abort_takes_back_what_was_done_only_with_the_quorum_that_lifts_it() {
    let here = Installation::new();
    assert!(here.up().terminate().success()); // writes the trial plan
    plans::with_runbook(&here, "walk", STEPS);
    here.call(&["plan", "check"]).good();
    let shown = here.call(&["runbook", "show", "walk"]).good();
    assert_eq!(shown["undo"][0]["step"], "divert.undo");
    assert_eq!(shown["undo"][0]["action"], "resume");
    let up = here.up();
    let run = plans::begin(&here, "walk");
    approve(&here, &run, "divert");
    people::reaches(&here, &run, "divert", "done");
    let file = here.file("waits", b"x");
    let name = file.to_str().expect("a path");
    let queued = here.call(&["seal", name]);
    assert_ne!(queued.code, 0, "it waits in the queue: {queued}");

    let abort = ["run", "abort", &run, "--undo", "--why", "a false alarm"];
    here.call(&abort).must_end_with(0);
    let undo = people::reaches(&here, &run, "divert.undo", "awaiting-approval");
    assert!(!undo["missing"].as_str().expect("who").is_empty());
    let shown = people::run(&here, &run);
    assert_eq!(shown["state"], "aborting", "{shown:#}");
    assert_eq!(people::step(&shown, "look")["state"], "cancelled");
    // The process dies meanwhile, and containment still holds.
    up.kill();
    let _up = here.up();
    let later = here.file("later", b"y");
    let later = later.to_str().expect("a path");
    let queued = here.call(&["seal", later]);
    assert_ne!(queued.code, 0, "nobody lifted it: {queued}");

    approve(&here, &run, "divert.undo");
    let end = eventually("the run ends", || {
        let answer = here.call(&["run", "show", &run]);
        (answer.code == 0)
            .then(|| answer.json())
            .filter(|shown| shown["state"] == "aborted")
    });
    assert_eq!(people::step(&end, "divert.undo")["state"], "done");
    let reason = end["reason"].as_str().expect("a reason");
    assert!(reason.contains("taken back: divert"), "{reason}");
    here.seal_eventually(&here.file("after", b"z"));
}
