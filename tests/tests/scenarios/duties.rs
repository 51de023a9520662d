//! Duties to notify: which run, what people say of them, and that it is all there after a restart.

use sealwarden_tests::{Answer, Installation};
use serde_json::Value;

/// The duty as `incident obligations --json` shows it.
fn duty(at: &Installation, incident: &str, name: &str) -> Value {
    let shown = at.call(&["incident", "obligations", incident]).json();
    of(&shown, name)
}

fn of(shown: &Value, name: &str) -> Value {
    let (regime, duty) = name.split_once('/').expect("regime/duty");
    let duties = shown["duties"].as_array().expect("duties").clone();
    duties
        .into_iter()
        .find(|d| d["regime"] == regime && d["duty"] == duty)
        .unwrap_or_else(|| panic!("{name} is not shown in {shown}"))
}

fn told(at: &Installation, incident: &str, duty: &str, more: &[&str]) -> Answer {
    let mut command = vec!["incident", "told", incident, duty];
    command.extend(more);
    at.call(&command)
}

fn rules(at: &Installation, incident: &str, regime: &str, word: &str) -> Answer {
    at.call(&[
        "incident",
        "regime",
        incident,
        regime,
        word,
        "--reason",
        "counsel looked at it",
    ])
}

#[test]
fn duties_run_from_the_first_signal_until_people_speak() {
    let here = Installation::new();
    let up = here.up();
    let signal = here
        .call(&["signal", "--seen", "an odd login on the HSM"])
        .good();
    let id = signal["incident"].as_str().expect("an incident").to_owned();

    // Nobody has classified it: every clock runs that an incident starts by itself.
    let warning = duty(&here, &id, "nis2/early-warning");
    assert_eq!(warning["standing"], "running");
    let due = warning["due_at_ms"].as_i64().expect("a time");
    let started = warning["started_at_ms"].as_i64().expect("a time");
    assert_eq!(due - started, 24 * 3_600_000);
    assert_eq!(duty(&here, &id, "gdpr/persons")["standing"], "due now");
    assert_eq!(duty(&here, &id, "gdpr/persons")["checked"], false);
    assert_eq!(duty(&here, &id, "sec-8k/filing")["standing"], "waiting");

    let shown = told(
        &here,
        &id,
        "nis2/early-warning",
        &["--reference", "CSIRT 4711"],
    )
    .good();
    assert_eq!(of(&shown, "nis2/early-warning")["standing"], "met");
    assert_eq!(of(&shown, "nis2/early-warning")["by"], "person operator");
    assert_eq!(of(&shown, "nis2/final-report")["standing"], "waiting");
    let shown = told(
        &here,
        &id,
        "nis2/notification",
        &["--reference", "CSIRT 4712"],
    )
    .good();
    assert_eq!(of(&shown, "nis2/final-report")["clock"], "met notification");

    let shown = rules(&here, &id, "hipaa", "--does-not-apply").good();
    assert_eq!(of(&shown, "hipaa/individuals")["standing"], "ruled out");

    // Determined three weeks ago: four working days have gone by, whatever holidays there were.
    let at = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(21 * 24);
    let at = at.to_string();
    let material = [
        "incident",
        "material",
        &id,
        "sec-8k",
        "--at",
        &at,
        "--reason",
        "the board",
    ];
    let filing = of(&here.call(&material).good(), "sec-8k/filing");
    assert_eq!(filing["standing"], "overdue", "{filing}");

    // What was said stands in the event log, and in the incident's story.
    drop(up);
    let _up = here.up();
    assert_eq!(
        duty(&here, &id, "nis2/early-warning")["reference"],
        "CSIRT 4711"
    );
    assert_eq!(
        duty(&here, &id, "hipaa/individuals")["standing"],
        "ruled out"
    );
    let story = here.call(&["incident", "show", &id]).good()["timeline"].to_string();
    for sentence in [
        "duty gdpr/persons is due at once",
        "duty nis2/early-warning was met",
        "hipaa does not concern this incident",
    ] {
        assert!(story.contains(sentence), "{sentence:?} is not in {story}");
    }
}

#[test]
fn words_that_cannot_be_are_refused_with_their_reason() {
    let here = Installation::new();
    let _up = here.up();
    let signal = here
        .call(&["signal", "--seen", "an odd login on the HSM"])
        .good();
    let id = signal["incident"].as_str().expect("an incident").to_owned();

    here.call(&["incident", "obligations", "I-0"])
        .must_end_with(2);
    told(&here, &id, "nis2", &["--reference", "x"]).must_end_with(2);
    told(&here, &id, "nis2/early-warning", &[]).must_end_with(2);
    told(&here, &id, "nis2/late-warning", &["--reference", "x"]).must_end_with(2);
    told(&here, &id, "nis2/early-warning", &["--reference", " "]).must_end_with(2);
    told(
        &here,
        &id,
        "nis2/early-warning",
        &["--reference", "x", "--at", "2999-01-01T00:00:00Z"],
    )
    .must_end_with(2);
    told(
        &here,
        &id,
        "nis2/early-warning",
        &["--reference", "x", "--at", "2020-01-01T00:00:00Z"],
    )
    .must_end_with(2);
    here.call(&["incident", "regime", &id, "nis2", "--reason", "x"])
        .must_end_with(2);
    rules(&here, &id, "nis2", "--does-not-apply").good();
    told(&here, &id, "nis2/early-warning", &["--reference", "x"]).must_end_with(4);
    // A caller who may report may not speak for counsel.
    here.issue("watcher", "detector");
    here.call(&[
        "incident",
        "regime",
        &id,
        "nis2",
        "--applies",
        "--reason",
        "x",
        "--as",
        "watcher",
    ])
    .must_end_with(4);
    assert_eq!(
        duty(&here, &id, "nis2/early-warning")["standing"],
        "ruled out"
    );
}
