//! Errors that `retry: {on: […]}` names.

use sealwarden_runbook::{ErrorKind, Runbook};

use super::{HEAD, found, named, step, text_of};

const WITH: &str = "with: {origin: x}";

#[test]
fn errors_that_cannot_be_are_named_with_what_was_meant() {
    let with = |on: &str| {
        let retry = format!("retry: {{attempts: 3, on: {on}}}");
        [WITH.to_owned(), retry]
    };
    let steps: Vec<String> = [
        ("a", "[damagd]"),
        ("b", "[unavailable]"),
        ("c", "[]"),
        ("d", "[timeout, timeout]"),
        ("e", "timeout"),
        ("f", "[3]"),
    ]
    .into_iter()
    .map(|(id, on)| {
        let lines = with(on);
        step(id, "reverify", &[lines[0].as_str(), lines[1].as_str()])
    })
    .collect();
    assert_eq!(
        found(&steps),
        [
            named("unknown-error", 10, "a"),
            named("unknown-error", 15, "b"),
            named("empty", 20, "c"),
            named("unknown-error", 25, "d"),
            named("wrong-type", 30, "e"),
            named("wrong-type", 35, "f"),
        ]
    );
    let text = text_of(&steps);
    for told in [
        "r.yaml:10:31: error[unknown-error] step a: there is no error `damagd` (did you mean `damaged`?)",
        "step b: `reverify` never ends with `unavailable` (the errors that it can end with are: timeout, interrupted, refused, damaged)",
        "step c: `on` names no error, so nothing would be tried again (name some of timeout, interrupted, refused, damaged, or write `attempts: 1`)",
        "step d: `timeout` is named twice",
        "step e: `on` is a list, and here is a text",
    ] {
        assert!(text.contains(told), "{told}\n{text}");
    }
}

#[test]
fn errors_are_read_and_told() {
    let retry = "retry: {attempts: 4, backoff: 2s, on: [interrupted, timeout]}";
    let plain = "retry: {attempts: 2}";
    let steps = [
        step("a", "reverify", &[WITH, retry]),
        step("b", "reverify", &[WITH, plain]),
    ];
    let read = Runbook::parse("r.yaml", &format!("{HEAD}{}", steps.concat())).unwrap();
    let (a, b) = (&read.steps()[0].retry, &read.steps()[1].retry);
    assert_eq!(
        a.to_string(),
        "4 attempts, after timeout or interrupted; 2s and longer between them"
    );
    assert_eq!(b.to_string(), "2 attempts; 1s and longer between them");
    assert!(a.tries_again_after(Some(ErrorKind::Timeout)));
    assert!(!a.tries_again_after(Some(ErrorKind::Damaged)));
    assert!(!a.tries_again_after(None));
    assert!(b.tries_again_after(Some(ErrorKind::Damaged)) && b.tries_again_after(None));
    assert!(sealwarden_runbook::draw_text(&read).contains("retry    4 attempts, after timeout"));
    assert!(sealwarden_runbook::draw_svg(&read).contains("after timeout"));
}
