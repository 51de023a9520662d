//! What is exported is a playbook by the official schema, and comes back as the same runbook.

use crate::support::{origin, schema, shipped};
use sealwarden_cacao::{EXTENSION, Importing, Playbook, export, import};
use sealwarden_runbook::Runbook;
use serde_json::Value;

#[test]
fn each_shipped_runbook_is_valid_by_the_official_schema() {
    let schema = schema();
    for runbook in shipped() {
        let playbook = export(&runbook, &origin()).unwrap();
        let errors: Vec<String> = schema
            .iter_errors(playbook.value())
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", runbook.name());
        assert_eq!(playbook.warnings(), [], "{}", runbook.name());
    }
    let mut bad = export(&shipped().remove(0), &origin())
        .unwrap()
        .value()
        .clone();
    bad["spec_version"] = "cacao-1.1".into();
    assert!(!schema.is_valid(&bad), "the schema refuses nothing");
}

#[test]
fn each_shipped_runbook_comes_back_with_the_same_digest() {
    for runbook in shipped() {
        let text = export(&runbook, &origin()).unwrap().value().to_string();
        let playbook = Playbook::parse(&text).unwrap();
        let back = import(&playbook, &Importing::default()).unwrap();
        assert_eq!(back.runbook.digest_hex(), runbook.digest_hex());
        assert_eq!(back.warnings, []);
        assert_eq!(
            export(&back.runbook, &origin()).unwrap().value(),
            playbook.value()
        );
    }
}

fn meaning(runbook: &Runbook) -> Vec<String> {
    let mut steps: Vec<String> = runbook
        .steps()
        .iter()
        .map(|step| {
            format!(
                "{} {} {:?} {:?} {:?} {:?}",
                step.id,
                step.action,
                step.inputs,
                step.retry,
                step.timeout,
                step.approval.as_ref().map(|a| (&a.quorum, a.within))
            )
        })
        .collect();
    steps.sort();
    steps
}

#[test]
fn without_the_source_the_steps_keep_their_meaning_and_a_stricter_order() {
    for runbook in shipped() {
        let mut value = export(&runbook, &origin()).unwrap().value().clone();
        value["playbook_extensions"][EXTENSION]
            .as_object_mut()
            .unwrap()
            .remove("source");
        let playbook = Playbook::parse(&value.to_string()).unwrap();
        let back = import(&playbook, &Importing::default()).unwrap();
        assert_eq!(meaning(&back.runbook), meaning(&runbook));
        for step in runbook.steps() {
            let before = back.runbook.ancestors(&step.id);
            assert!(
                step.needs.iter().all(|need| before.contains(need.as_str())),
                "{}",
                step.id
            );
        }
    }
}

#[test]
fn a_playbook_that_was_changed_is_made_from_its_workflow() {
    let runbook = shipped().remove(0);
    let mut value = export(&runbook, &origin()).unwrap().value().clone();
    let steps = value["workflow"].as_object_mut().unwrap();
    let action = steps
        .values_mut()
        .find(|step| step["name"] == "Close the incident")
        .unwrap();
    action["step_extensions"][EXTENSION]["title"] = Value::from("Close it");
    let playbook = Playbook::parse(&value.to_string()).unwrap();
    let back = import(&playbook, &Importing::default()).unwrap();
    assert_eq!(back.warnings[0].code, "changed-since-export");
    assert_eq!(back.runbook.step("close").unwrap().title, "Close it");
    assert_ne!(back.runbook.digest_hex(), runbook.digest_hex());
}
