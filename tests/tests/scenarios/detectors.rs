//! The plan's detectors, from outside: they conclude, explain themselves, say the same after a restart, and a changed file is tried on what is recorded.

use sealwarden_tests::{Installation, eventually};
use serde_json::Value;

/// A plan's `detectors.yaml` with a rate of seals above this many in ten minutes, and the shipped file's owner.
fn seals_above(limit: u32) -> String {
    format!(
        "version: 7\ndetectors:\n  many-seals:\n    title: More seals than anybody here makes\n    owner: on-call-sre\n    kind: rate\n    class: kms-outage\n    about: seals of log {{name}}\n    measure: seals\n    window: 10m\n    above: {limit}\n"
    )
}

/// An installation whose plan has these detectors.
fn with_detectors(text: &str) -> Installation {
    let here = Installation::new();
    drop(here.up());
    std::fs::write(here.data().join("plan/detectors.yaml"), text).expect("the plan is ours");
    here
}

fn seal(here: &Installation, count: u32) {
    for n in 0..count {
        let name = format!("document-{n}");
        here.seal(&here.file(&name, name.as_bytes()));
    }
}

/// The incident about the seals, with the id of its signal.
fn incident(here: &Installation) -> (String, String) {
    let listed = eventually("an incident about the seals", || {
        let listed = here.call(&["incident", "list"]).good();
        let incidents = listed["incidents"].as_array()?.clone();
        incidents
            .into_iter()
            .find(|it| it["subject"] == "seals of log main")
    });
    let id = listed["incident"].as_str().expect("its id").to_owned();
    let shown = here.call(&["incident", "show", &id]).good();
    let signal = &shown["signals"][0]["signal"];
    (id, signal.as_str().expect("a signal").to_owned())
}

fn explain(here: &Installation, id: &str) -> Value {
    here.call(&["signal", "explain", id]).good()
}

fn backtest(here: &Installation, limit: u32) -> Value {
    let folder = here.home().join(format!("changed-{limit}"));
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("detectors.yaml"), seals_above(limit)).expect("a file");
    let folder = folder.to_str().expect("a path");
    here.call(&["plan", "backtest", "--plan", folder]).good()
}

#[test]
fn a_detector_of_the_plan_concludes_explains_itself_and_says_the_same_after_a_restart() {
    let here = with_detectors(&seals_above(2));
    let up = here.up();
    seal(&here, 3);
    let (id, signal) = incident(&here);
    let shown = here.call(&["incident", "show", &id]).good();
    assert_eq!(
        shown["class"], "",
        "nothing is proven, so a person classifies: {shown}"
    );
    let why = explain(&here, &signal);
    assert_eq!(why["detector"], "many-seals");
    assert_eq!(why["owner"], "on-call-sre");
    assert_eq!(
        why["seen"],
        "seals of log main: sum 3 seals over 10m, from 3 values."
    );
    assert_eq!(why["expected"], "At most 2 seals.");
    assert_eq!(why["reading"]["value"], "3");
    assert_eq!(why["reading"]["percent"], 150);
    let events = why["events"].as_array().expect("events");
    assert_eq!(events.len(), 3, "{why}");
    assert!(
        events
            .iter()
            .all(|it| it["stream"] == "log/main" && it["text"] == "IntentRecorded"),
        "{why}"
    );
    drop(up);
    let _up = here.up();
    let mut again = explain(&here, &signal);
    again["near_misses"] = why["near_misses"].clone();
    assert_eq!(again, why);
    let listed = here.call(&["detectors", "list"]).good();
    assert_eq!(listed["version"], 7);
    let ours = listed["detectors"].as_array().expect("detectors").iter();
    let ours = ours
        .clone()
        .find(|it| it["name"] == "many-seals")
        .expect("ours")
        .clone();
    assert_eq!(
        (&ours["signals"], &ours["watched"][0]["phase"]),
        (&Value::from(1), &Value::from("signal"))
    );
    here.call(&["signal", "explain", "S-nonsense"])
        .must_end_with(2);
}

#[test]
fn a_changed_file_is_tried_on_what_is_recorded_before_it_is_in_force() {
    let here = with_detectors(&seals_above(2));
    let _up = here.up();
    seal(&here, 4);
    incident(&here);
    let same = backtest(&here, 2);
    assert_eq!(
        (&same["both"], &same["would"], &same["did"]),
        (&1.into(), &0.into(), &0.into()),
        "{same}"
    );
    let stricter = backtest(&here, 1);
    assert_eq!(
        (&stricter["both"], &stricter["did"]),
        (&1.into(), &0.into()),
        "{stricter}"
    );
    let looser = backtest(&here, 10);
    assert_eq!(
        (&looser["both"], &looser["would"], &looser["did"]),
        (&0.into(), &0.into(), &1.into()),
        "{looser}"
    );
    // A file with a mistake is refused with its line.
    let folder = here.home().join("broken");
    std::fs::create_dir_all(&folder).expect("a folder");
    let broken = seals_above(2).replace("measure: seals", "measure: seal");
    std::fs::write(folder.join("detectors.yaml"), broken).expect("a file");
    let answer = here.call(&[
        "plan",
        "backtest",
        "--plan",
        folder.to_str().expect("a path"),
    ]);
    let error = answer.ends_with(2).json()["error"].to_string();
    assert!(
        error.contains("detectors.yaml:9") && error.contains("seals"),
        "{error}"
    );
}
