//! Conditions against the graph, and who may rely on a step that has one.

use super::{found, named, step, text_of};

#[test]
fn a_condition_is_checked_against_the_graph() {
    let find = "with: {origin: x, compromised-since: 2026-11-02T10:00:00Z}";
    let steps = [
        step("find", "find-affected", &[find]),
        step("later", "close-incident", &["needs: [find]"]),
        step(
            "a",
            "close-incident",
            &["needs: [find]", "when: steps.find.outputs.totl > 3"],
        ),
        step(
            "b",
            "close-incident",
            &["needs: [find]", "when: \"steps.find.state == 'don'\""],
        ),
        step(
            "c",
            "close-incident",
            &["when: steps.find.outputs.total > 3"],
        ),
        step(
            "d",
            "close-incident",
            &["needs: [find]", "when: steps.fnd.state == 'done'"],
        ),
        step(
            "e",
            "close-incident",
            &["needs: [find]", "when: steps.find.outputs.total > '3'"],
        ),
        step("f", "close-incident", &["when: true"]),
        step("g", "close-incident", &["when: incident.log = 'main'"]),
    ];
    assert_eq!(
        found(&steps),
        [
            named("bad-condition", 18, "a"),
            named("bad-condition", 23, "b"),
            named("bad-condition", 27, "c"),
            named("bad-condition", 32, "d"),
            named("bad-condition", 37, "e"),
            named("wrong-type", 41, "f"),
            named("bad-condition", 45, "g"),
        ]
    );
    let text = text_of(&steps);
    for told in [
        "r.yaml:18:11: error[bad-condition] step a: `when`: `find-affected` has no output `totl` (did you mean `total`?)",
        "r.yaml:23:32: error[bad-condition] step b: `when`: no step that is over has the state \"don\" (did you mean `done`?)",
        "need not be done by then (add `find` to `needs`)",
        "refers to no step of this runbook (did you mean `find`?)",
        "takes a whole number, and here is a text",
        "r.yaml:45:24: error[bad-condition] step g: `when`: `=` has no meaning here (write `==` to compare)",
    ] {
        assert!(text.contains(told), "{told}\n{text}");
    }
}

#[test]
fn nothing_relies_on_a_step_that_may_turn_out_not_to_be_needed() {
    let when = "when: incident.log == 'main'";
    let approval = "approval: {quorum: {security-lead: 1}, within: 1m}";
    // A snapshot with a condition stands before nothing.
    let steps = [
        step("s", "snapshot-evidence", &[when]),
        step(
            "r",
            "resume",
            &["needs: [s]", "with: {log: main}", approval],
        ),
    ];
    assert_eq!(found(&steps), [named("no-snapshot", 10, "r")]);
    assert!(
        text_of(&steps).contains("without `when`"),
        "{}",
        text_of(&steps)
    );
    // What an action takes must be there.
    let rotated = |more: &[&str]| {
        let mut lines = vec!["needs: [new]", "with: {origin: '${steps.new.origin}'}"];
        lines.extend(more);
        let log = "with: {log: main, origin: x}";
        [
            step("s", "snapshot-evidence", &[]),
            step("new", "rotate-origin", &["needs: [s]", when, log, approval]),
            step("v", "reverify", &lines),
            step(
                "tell",
                "confirm",
                &[
                    "needs: [new]",
                    "manual: {instructions: 'Tell of ${steps.new.origin}'}",
                    approval,
                ],
            ),
        ]
    };
    let uncertain = rotated(&[]);
    assert_eq!(found(&uncertain), [named("uncertain-input", 20, "v")]);
    assert!(text_of(&uncertain).contains("add `when: steps.new.state == \"done\"`"));
    assert_eq!(
        found(&rotated(&["when: has(steps.new.outputs.origin)"])).len(),
        1
    );
    assert_eq!(
        found(&rotated(&[
            "when: incident.log != 'x' && steps.new.state == 'done'"
        ])),
        []
    );
}
