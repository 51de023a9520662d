//! Playbooks of strangers: what runs becomes a runbook, all else is refused with its place.

use std::collections::BTreeMap;

use crate::support::{importing, linear, origin, schema, shipped};
use proptest::prelude::*;
use sealwarden_cacao::{Finding, Importing, Playbook, export, import};
use sealwarden_runbook::{Action, Quorum, Role};
use serde_json::{Value, json};

fn read(value: &Value) -> Result<Playbook, Vec<Finding>> {
    Playbook::parse(&value.to_string())
}

fn codes(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.code).collect()
}

fn refused(value: &Value, importing: &Importing) -> Vec<Finding> {
    import(&read(value).unwrap(), importing).unwrap_err()
}

#[test]
fn manual_steps_become_tasks_of_people_with_variables_filled_in() {
    let mut playbook = linear(&[
        (
            "Ask",
            json!([{"type": "manual", "command": "Is __host__:value in ${danger}? See __ticket__:value."}]),
        ),
        (
            "Tell",
            json!([{"type": "manual", "command_b64": "dGVsbCBldmVyeWJvZHkgX19hbnN3ZXJfXzp2YWx1ZQ=="}, {"type": "manual", "command": "go home"}]),
        ),
    ]);
    playbook["playbook_variables"] = json!({
        "__host__": {"type": "string", "value": "db-${1}"},
        "__ticket__": {"type": "string", "external": true},
        "__answer__": {"type": "string"},
        "__note__": {"type": "string"},
        "__ANSWER__": {"type": "string"},
    });
    let ask = playbook["workflow"]
        .as_object_mut()
        .unwrap()
        .values_mut()
        .find(|s| s["name"] == "Ask")
        .unwrap();
    ask["out_args"] = json!(["__answer__", "__note__", "__ANSWER__"]);
    ask["timeout"] = json!(90_000);
    assert!(schema().is_valid(&playbook));

    let findings = refused(&playbook, &importing());
    assert_eq!(codes(&findings), ["unset-variable"]);
    assert!(
        findings[0].to_string().contains("--set __ticket__=")
            && findings[0].pointer.ends_with("/commands/0/command"),
        "{}",
        findings[0]
    );

    let mut importing = importing();
    importing.values = BTreeMap::from([("__ticket__".to_owned(), "${incident.id}".to_owned())]);
    let runbook = import(&read(&playbook).unwrap(), &importing)
        .unwrap()
        .runbook;
    let [ask, tell] = runbook.steps() else {
        panic!("{:?}", runbook.steps())
    };
    assert_eq!(
        (ask.id.as_str(), ask.action, ask.timeout.as_secs()),
        ("ask", Action::Confirm, 90)
    );
    let text = ask.instructions().unwrap().to_string();
    assert!(
        text.starts_with("Is db-$${1} in $${danger}? See ${incident.id}."),
        "{text}"
    );
    let evidence: Vec<String> = ask.evidence.iter().map(ToString::to_string).collect();
    assert_eq!(
        evidence,
        ["answer (text)", "value-1 (text)", "value-2 (text)"]
    );
    assert_eq!(tell.needs, ["ask"]);
    assert_eq!(
        tell.instructions().unwrap().to_string(),
        "1. tell everybody ${steps.ask.answer}\n2. go home"
    );
    assert_eq!(
        tell.approval.as_ref().unwrap().quorum.to_string(),
        "1 on-call-sre + 1 security-lead"
    );
}

#[test]
fn an_action_without_targets_runs_once() {
    let playbook = linear(&[("Once", json!([{"type": "manual", "command": "x"}]))]);
    let runbook = import(&read(&playbook).unwrap(), &importing())
        .unwrap()
        .runbook;
    assert_eq!(runbook.steps().len(), 1);
}

#[test]
fn other_commands_run_only_where_they_are_mapped() {
    let playbook = linear(&[
        ("Look", json!([{"type": "bash", "command": "who"}])),
        ("Keep", json!([{"type": "x-snapshot"}])),
        (
            "Call",
            json!([{"type": "http-api", "command": "GET / HTTP/1.1"}, {"type": "openc2-http", "command": "POST / HTTP/1.1", "content_b64": ""}]),
        ),
    ]);
    let findings = refused(&playbook, &importing());
    assert_eq!(codes(&findings), ["unknown-command"; 4], "all at once");
    assert!(
        findings[0].message.contains("`bash`") && findings[0].remedy.contains("--map bash=confirm")
    );

    let mut importing = importing();
    for (command, action) in [
        ("bash", Action::Confirm),
        ("x-snapshot", Action::SnapshotEvidence),
        ("http-api", Action::IsolateKey),
        ("openc2-http", Action::Reverify),
    ] {
        importing.commands.insert(command.to_owned(), action);
    }
    let runbook = import(&read(&playbook).unwrap(), &importing)
        .unwrap()
        .runbook;
    let actions: Vec<Action> = runbook.order().iter().map(|step| step.action).collect();
    assert_eq!(
        actions,
        [
            Action::Confirm,
            Action::SnapshotEvidence,
            Action::IsolateKey,
            Action::Reverify
        ]
    );
    assert_eq!(
        runbook
            .step("look")
            .unwrap()
            .instructions()
            .unwrap()
            .to_string(),
        "Run (bash): who"
    );
    let isolate = runbook.step("call").unwrap();
    assert_eq!(
        isolate.inputs["compromised-since"].to_string(),
        "${incident.compromised_since}"
    );
    assert!(isolate.approval.is_some() && runbook.step("keep").unwrap().approval.is_none());

    importing.quorum = None;
    assert_eq!(
        codes(&refused(&playbook, &importing)),
        ["no-quorum", "no-quorum"]
    );
}

#[test]
fn a_call_over_http_becomes_one_to_a_target_of_the_settings() {
    let command = json!([{"type": "http-api", "command": "POST /flags HTTP/1.1", "headers": {"Authorization": ["Bearer x"]}}]);
    let playbook = read(&linear(&[("Switch it off", command)])).unwrap();
    let mut importing = importing();
    let calls = |importing: &mut Importing, action| {
        importing.commands.insert("http-api".to_owned(), action);
        import(&playbook, importing)
    };
    let findings = calls(&mut importing, Action::CallWebhook).unwrap_err();
    assert_eq!(codes(&findings), ["missing-input", "missing-input"]);
    assert!(findings[0].remedy.contains("--set __target__="));
    for (name, value) in [("__target__", "flags"), ("__body__", r#"{"on": false}"#)] {
        importing.values.insert(name.to_owned(), value.to_owned());
    }
    let runbook = calls(&mut importing, Action::CallWebhook).unwrap().runbook;
    let step = runbook.step("switch-it-off").unwrap();
    assert_eq!(step.action, Action::CallWebhook);
    assert_eq!(step.inputs["target"].to_string(), "flags");
    assert_eq!(step.inputs["body"].to_string(), r#"{"on": false}"#);
    assert!(!runbook.source().contains("Bearer"));

    // Nothing takes the evidence before it.
    let findings = calls(&mut importing, Action::CallWebhookDestructive).unwrap_err();
    assert!(
        findings[0].to_string().contains("snapshot"),
        "{}",
        findings[0]
    );
}

/// start -> parallel(a -> end1, b -> end2) -> c -> end
fn forked() -> Value {
    let mut playbook = linear(&[
        ("A", json!([{"type": "manual", "command": "a"}])),
        ("B", json!([{"type": "manual", "command": "b"}])),
        ("C", json!([{"type": "manual", "command": "c"}])),
    ]);
    let ids: BTreeMap<String, String> = playbook["workflow"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(id, s)| {
            (
                s["name"].as_str().unwrap_or_default().to_owned(),
                id.clone(),
            )
        })
        .collect();
    let (start, a, b, c) = (&ids["Start"], &ids["A"], &ids["B"], &ids["C"]);
    let id = |kind: &str, n: u8| format!("{kind}--0000000{n}-1000-4000-a000-000100010001");
    let workflow = playbook["workflow"].as_object_mut().unwrap();
    workflow[start]["on_completion"] = id("parallel", 1).into();
    workflow.insert(
        id("parallel", 1),
        json!({"type": "parallel", "next_steps": [a, b], "on_completion": c}),
    );
    for (step, end) in [(a, id("end", 2)), (b, id("end", 3))] {
        workflow[step]["on_completion"] = end.clone().into();
        workflow.insert(end, json!({"type": "end"}));
    }
    playbook
}

#[test]
fn parallel_branches_join_in_what_follows() {
    let runbook = import(&read(&forked()).unwrap(), &importing())
        .unwrap()
        .runbook;
    assert!(
        runbook.step("a").unwrap().needs.is_empty() && runbook.step("b").unwrap().needs.is_empty()
    );
    assert_eq!(runbook.step("c").unwrap().needs, ["a", "b"]);
}

#[test]
fn branches_that_meet_without_an_end_are_refused() {
    let mut playbook = forked();
    let workflow = playbook["workflow"].as_object_mut().unwrap();
    let c = workflow
        .iter()
        .find(|(_, s)| s["name"] == "C")
        .unwrap()
        .0
        .clone();
    for name in ["A", "B"] {
        workflow.values_mut().find(|s| s["name"] == name).unwrap()["on_completion"] =
            c.clone().into();
    }
    assert!(codes(&refused(&playbook, &importing())).contains(&"runs-twice"));
}

#[test]
fn what_the_engine_does_not_do_is_refused_all_at_once() {
    let mut playbook = forked();
    let end = "end--00000002-1000-4000-a000-000100010001";
    let workflow = playbook["workflow"].as_object_mut().unwrap();
    let a = workflow
        .iter()
        .find(|(_, s)| s["name"] == "A")
        .unwrap()
        .0
        .clone();
    let c = workflow
        .iter()
        .find(|(_, s)| s["name"] == "C")
        .unwrap()
        .0
        .clone();
    let b = workflow
        .iter()
        .find(|(_, s)| s["name"] == "B")
        .unwrap()
        .0
        .clone();
    workflow.shift_remove("parallel--00000001-1000-4000-a000-000100010001");
    let id = |kind: &str| format!("{kind}--00000009-1000-4000-a000-000100010001");
    let start = workflow
        .iter()
        .find(|(_, s)| s["type"] == "start")
        .unwrap()
        .0
        .clone();
    workflow[&start]["on_completion"] = id("if-condition").into();
    workflow.insert(id("if-condition"), json!({"type": "if-condition", "condition": "__x__:value != '5'", "on_true": a, "on_false": end, "on_completion": id("while-condition")}));
    workflow.insert(id("while-condition"), json!({"type": "while-condition", "condition": "[__x__:value < 3]", "on_true": b, "on_completion": id("switch-condition")}));
    workflow.insert(id("switch-condition"), json!({"type": "switch-condition", "switch": "__x__:value", "cases": {"1": end}, "on_completion": id("playbook-action")}));
    workflow.insert(id("playbook-action"), json!({"type": "playbook-action", "playbook_id": id("playbook"), "on_success": c, "on_failure": end}));
    workflow[&c]["delay"] = json!(5);
    playbook["workflow_exception"] = c.into();
    playbook["playbook_variables"] = json!({"__x__": {"type": "integer", "value": "1"}});
    let findings = refused(&playbook, &importing());
    assert_eq!(codes(&findings), ["not-executable"; 6], "{findings:#?}");
}

#[test]
fn times_revocation_and_class_are_looked_at() {
    let mut playbook = linear(&[("A", json!([{"type": "manual", "command": "a"}]))]);
    playbook["valid_until"] = "2020-01-01T00:00:00Z".into();
    playbook["revoked"] = true.into();
    let mut importing = importing();
    importing.class = None;
    assert_eq!(
        codes(&refused(&playbook, &importing)),
        ["revoked", "not-valid", "no-class"]
    );
}

#[test]
fn mistakes_are_found_with_their_places() {
    type Change = fn(&mut Value);
    let cases: [(&str, Change); 14] = [
        ("missing-property", |p| {
            p.as_object_mut().unwrap().shift_remove("created_by");
        }),
        ("wrong-type", |p| p["id"] = "playbook--1".into()),
        ("wrong-type", |p| p["created"] = "yesterday".into()),
        ("wrong-type", |p| p["priority"] = 101.into()),
        ("modified-before-created", |p| {
            p["modified"] = "1999-01-01T00:00:00.000Z".into();
        }),
        ("unknown-property", |p| p["descripton"] = "x".into()),
        ("bad-key", |p| {
            p["playbook_variables"] = json!({"x": {"type": "string"}});
        }),
        ("bad-key", |p| {
            p["workflow"]["action--x"] = json!({"type": "end"});
        }),
        ("unknown-step", |p| {
            p["workflow_start"] = "start--00000009-1000-4000-a000-000100010001".into();
        }),
        ("unknown-step-type", |p| {
            p["workflow"]["end--00000009-1000-4000-a000-000100010001"] = json!({"type": "ende"});
        }),
        ("type-differs", |p| {
            p["workflow"]["end--00000009-1000-4000-a000-000100010001"] =
                json!({"type": "start", "on_completion": "x"});
        }),
        (
            "bad-condition",
            |p| p["workflow"]["if-condition--00000009-1000-4000-a000-000100010001"] = json!({"type": "if-condition", "condition": "x", "on_true": "end--00000009-1000-4000-a000-000100010001"}),
        ),
        ("missing-end", |p| {
            p["workflow"]
                .as_object_mut()
                .unwrap()
                .values_mut()
                .find(|s| s["name"] == "A")
                .unwrap()
                .as_object_mut()
                .unwrap()
                .shift_remove("on_completion")
                .unwrap();
        }),
        ("cycle", |p| {
            let w = p["workflow"].as_object_mut().unwrap();
            let a = w.iter().find(|(_, s)| s["name"] == "A").unwrap().0.clone();
            w[&a]["on_completion"] = a.clone().into();
        }),
    ];
    for (code, change) in cases {
        let mut playbook = linear(&[("A", json!([{"type": "manual", "command": "a"}]))]);
        assert!(read(&playbook).is_ok());
        change(&mut playbook);
        let findings = read(&playbook).unwrap_err();
        assert!(codes(&findings).contains(&code), "{code}: {findings:#?}");
        assert!(
            findings
                .iter()
                .all(|f| !f.remedy.is_empty() || !f.is_error()),
            "{findings:#?}"
        );
    }
}

#[test]
fn unknown_properties_are_kept_and_told() {
    let mut playbook = linear(&[("A", json!([{"type": "manual", "command": "a"}]))]);
    playbook["x_banana"] = json!({"deep": [1, 2]});
    assert!(
        schema().is_valid(&playbook),
        "draft-07 knows no unevaluatedProperties"
    );
    let read = read(&playbook).unwrap();
    assert_eq!(codes(read.warnings()), ["unknown-property"]);
    assert_eq!(read.value(), &playbook);
}

/// Changes one value somewhere in a playbook.
fn damage(value: &mut Value, path: &[usize], with: &Value) {
    let Some((first, rest)) = path.split_first() else {
        *value = with.clone();
        return;
    };
    match value {
        Value::Array(items) if !items.is_empty() => {
            let at = first % items.len();
            damage(&mut items[at], rest, with);
        }
        Value::Object(entries) if !entries.is_empty() => {
            let at = first % entries.len();
            let key = entries.keys().nth(at).unwrap().clone();
            damage(&mut entries[&key], rest, with);
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => {
            *value = with.clone();
        }
    }
}

fn broad() -> Importing {
    let mut importing = importing();
    importing
        .commands
        .insert("bash".to_owned(), Action::Confirm);
    importing.quorum = Some(Quorum::new(BTreeMap::from([(Role::new("x").unwrap(), 1)])).unwrap());
    importing
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn a_damaged_playbook_is_refused_or_imported_and_never_a_panic(
        path in prop::collection::vec(0usize..40, 1..7),
        with in prop_oneof![
            Just(Value::Null), Just(json!(true)), Just(json!(-1)), Just(json!(1.5e300)), Just(json!([])), Just(json!({})),
            Just(json!("")), "[a-z_:\\-${}\u{0}-\u{1f}\u{202e}é0-9]{0,40}".prop_map(Value::from),
            Just(json!("action--00000009-1000-4000-a000-000100010001")), Just(json!({"type": "end"})), Just(json!([[["x"]]])),
        ],
        ours in any::<bool>(),
    ) {
        let mut playbook = if ours { export(&shipped().remove(0), &origin()).unwrap().value().clone() } else { forked() };
        damage(&mut playbook, &path, &with);
        match Playbook::parse(&playbook.to_string()) {
            Ok(read) => match import(&read, &broad()) {
                Ok(imported) => prop_assert!(export(&imported.runbook, &origin()).is_ok()),
                Err(findings) => prop_assert!(!findings.is_empty()),
            },
            Err(findings) => prop_assert!(findings.iter().any(Finding::is_error)),
        }
    }

    #[test]
    fn any_text_is_refused_or_read(text in "[\\[\\]{}\",:a-z0-9\\\\ ]{0,80}") {
        drop(Playbook::parse(&text));
    }
}
