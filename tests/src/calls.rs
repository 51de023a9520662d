//! Runs whose steps call a system outside ([`crate::target`]), which counts what was done.

use sealwarden_wire::event::v1::event::Kind;
use sealwarden_wire::event::v1::{IncidentClassified, IncidentOpened};
use serde_json::Value;

use crate::history::History;
use crate::installation::Installation;
use crate::plans;
use crate::target::Target;

/// An installation whose plan has the class `roll-back` with these steps (lines of YAML), and whose settings name the target several times, and what the plan's own runbooks call.
pub fn prepared(here: Installation, target: &Target, steps: &str) -> Installation {
    assert!(here.up().terminate().success()); // writes the trial plan
    plans::with_runbook(&here, "roll-back", steps);
    let token = Target::token(here.home());
    let common = format!("token_file: {}, timeout_ms: 300", token.display());
    let settings = format!(
        "runbook-executor:\n  webhooks:\n    asked: {{url: '{}', observe_url: '{}', {common}}}\n    keyed: {{url: '{}', idempotent: true, {common}}}\n    blind: {{url: '{}', {common}}}\n    final: {{url: '{}', destructive: true, {common}}}\n    roll-back: {{url: '{}', destructive: true, {common}}}\n    gone: {{url: 'http://127.0.0.1:9/', {common}}}\n    releases: {{url: 'http://127.0.0.1:9/', {common}}}\n",
        target.url("/once"),
        target.url("/seen"),
        target.url("/keyed"),
        target.url("/once"),
        target.url("/once"),
        target.url("/once"),
    );
    std::fs::write(here.data().join("settings.yaml"), settings).expect("the settings");
    here.call(&["plan", "check"]).good();
    here
}

/// A step that calls a target.
pub fn step(id: &str, needs: &str, target: &str, how: &str) -> String {
    format!(
        "  - id: {id}\n    title: Call {target}\n    action: call-webhook\n{needs}    with:\n      target: {target}\n      body: '{{\"do\": \"{how}\", \"step\": \"{id}\", \"incident\": \"${{incident.id}}\"}}'\n"
    )
}

/// Records an incident of the class `roll-back`, classified: a run follows. Its id. Signals of a class join one incident, and a test may want many.
pub async fn begin_another(history: &History, number: usize) -> String {
    let incident = format!("I-{number:08x}-1");
    let opened = IncidentOpened {
        incident: incident.clone(),
        subject: format!("release {number}"),
        title: "errors since 10:00".to_owned(),
        ..IncidentOpened::default()
    };
    let classified = IncidentClassified {
        class: "roll-back".to_owned(),
        severity: "low".to_owned(),
        by: "operator".to_owned(),
        reason: "the release of 10:00".to_owned(),
        runbook: "roll-back".to_owned(),
        ..IncidentClassified::default()
    };
    let kinds = vec![
        Kind::IncidentOpened(opened),
        Kind::IncidentClassified(classified),
    ];
    history
        .writes(&format!("incident/{incident}"), "detection-1", kinds)
        .await;
    incident.replacen("I-", "R-", 1)
}

/// Starts the run of `roll-back`; its id.
pub fn begin(here: &Installation) -> String {
    plans::begin(here, "roll-back")
}

/// Steps that wait for one another and call a target that is asked, and one that is called again, by turns.
pub fn chain(length: usize) -> String {
    let mut steps = String::new();
    for n in 1..=length {
        let needs = match n {
            1 => String::new(),
            _ => format!("    needs: [s{:02}]\n", n - 1),
        };
        let name = if n % 2 == 0 { "asked" } else { "keyed" };
        steps += &step(&format!("s{n:02}"), &needs, name, "slow");
    }
    steps
}

/// The steps that were done, by how often, in the order of the target's book.
pub fn effects(target: &Target) -> Vec<String> {
    let name = |body: &str| {
        let body: Value = serde_json::from_str(body).expect("a body");
        body["step"].as_str().expect("a step").to_owned()
    };
    let book = target.book();
    book.effects.iter().map(|(_, body)| name(body)).collect()
}
