//! Outside detectors over HTTP: a real Alertmanager, CloudEvents, strangers, and a storm of alerts.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use sealwarden_tests::{Alertmanager, Installation, eventually, http};
use serde_json::{Value, json};

pub(super) const TOKEN: &str = "a-token-of-this-test-0123456789";

/// An installation with one source, `prometheus`, and rules of the plan for its labels.
fn with_source() -> Installation {
    let here = Installation::new();
    drop(here.up());
    let token = here.data().join("prometheus.token");
    std::fs::write(&token, TOKEN).expect("a token");
    std::fs::set_permissions(&token, PermissionsExt::from_mode(0o600)).expect("a mode");
    let settings = "detection:\n  outside:\n    prometheus: {token_file: prometheus.token, class: kms-outage, requests_per_minute: 60000}\n";
    std::fs::write(here.data().join("settings.yaml"), settings).expect("settings");
    let file = here.data().join("plan/detectors.yaml");
    let mut plan = std::fs::read_to_string(&file).expect("the plan");
    plan.push_str("\noutside:\n  - {labels: {alertname: HsmDown, log: \"*\"}, class: kms-outage, about: \"key providers of log {log}\"}\n  - {labels: {team: archive}, class: data-integrity}\n");
    std::fs::write(&file, plan).expect("the plan is ours");
    here
}

fn address(here: &Installation) -> SocketAddr {
    let url = here.address("detection", "http");
    let address = url.trim_start_matches("http://").parse();
    address.unwrap_or_else(|e| panic!("{url}: {e}"))
}

pub(super) fn post(
    here: &Installation,
    path: &str,
    token: &str,
    kind: &str,
    body: &str,
) -> (u16, String) {
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", kind)];
    let (status, answer) = http::call(address(here), "POST", path, &headers, body.as_bytes());
    (status, String::from_utf8_lossy(&answer).into_owned())
}

fn incidents(here: &Installation) -> Vec<Value> {
    let listed = here.call(&["incident", "list"]).good();
    listed["incidents"].as_array().cloned().unwrap_or_default()
}

fn about(here: &Installation, subject: &str) -> Option<String> {
    let found = incidents(here)
        .into_iter()
        .find(|it| it["subject"] == subject)?;
    found["incident"].as_str().map(str::to_owned)
}

/// The texts of an incident's timeline.
fn story(here: &Installation, id: &str) -> Vec<String> {
    let shown = here.call(&["incident", "show", id]).good();
    let timeline = shown["timeline"].as_array().cloned().unwrap_or_default();
    let texts = timeline.iter().filter_map(|it| it["text"].as_str());
    texts.map(str::to_owned).collect()
}

#[test]
fn a_real_alertmanager_reports_once_over_a_restart_and_says_when_it_is_over() {
    let here = with_source();
    let up = here.up();
    let url = format!("http://{}/outside/alertmanager", address(&here));
    let alertmanager = Alertmanager::start(here.home(), &url, TOKEN);
    let labels = json!({ "alertname": "HsmDown", "log": "main" });
    let (summary, started) = ("the HSM does not answer", "2026-01-01T00:00:00Z");
    alertmanager.tell(&labels, summary, started, None);
    let subject = "key providers of log main";
    let id = eventually("the alert is an incident", || about(&here, subject));
    let shown = here.call(&["incident", "show", &id]).good();
    assert_eq!(shown["class"], "", "nobody proved anything: {shown}");
    assert_eq!(shown["signals"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        shown["signals"][0]["seen"],
        "prometheus says: HsmDown: the HSM does not answer"
    );
    drop(up);
    // The same address again, so that Alertmanager finds it.
    let _up = here.up();
    let again = json!({ "version": "4", "alerts": [] }).to_string();
    let kind = "application/json";
    assert_eq!(
        post(&here, "/outside/alertmanager", TOKEN, kind, &again).0,
        200
    );
    alertmanager.tell(&labels, summary, started, Some("2026-01-01T01:00:00Z"));
    eventually("it is over", || {
        story(&here, &id)
            .iter()
            .any(|text| text.starts_with("prometheus says that signal S-"))
            .then_some(())
    });
    let shown = here.call(&["incident", "show", &id]).good();
    assert_eq!(
        shown["signals"].as_array().map(Vec::len),
        Some(1),
        "{shown}"
    );
}

#[test]
fn strangers_and_nonsense_are_refused_and_cloud_events_are_taken() {
    let here = with_source();
    let _up = here.up();
    let alerts = "/outside/alertmanager";
    let kind = "application/json";
    let good = json!({ "version": "4", "alerts": [] }).to_string();
    assert_eq!(
        post(&here, alerts, "another-token-0123456789", kind, &good).0,
        401
    );
    let (status, _) = http::call(address(&here), "POST", alerts, &[], good.as_bytes());
    assert_eq!(status, 401);
    let (status, why) = post(
        &here,
        alerts,
        TOKEN,
        kind,
        "{\"version\":\"3\",\"alerts\":[]}",
    );
    assert!(status == 400 && why.contains("\"4\""), "{status} {why}");
    let large = "x".repeat(5 * 1024 * 1024);
    assert_eq!(post(&here, alerts, TOKEN, kind, &large).0, 413);
    assert!(incidents(&here).is_empty());
    let event = |id: &str, of_type: &str, data: Value| {
        let event = json!({ "specversion": "1.0", "id": id, "source": "/ci", "type": of_type, "data": data });
        let kind = "application/cloudevents+json";
        post(&here, "/outside/events", TOKEN, kind, &event.to_string())
    };
    let broken = json!({ "team": "archive", "summary": "checksums differ" });
    for said in ["1 new signals", "1 known already"] {
        let (status, answer) = event("1", "com.example.broken", broken.clone());
        assert!(status == 200 && answer.contains(said), "{status} {answer}");
    }
    let id = about(&here, "outside prometheus").expect("an incident");
    let title = here.call(&["incident", "show", &id]).good()["title"].to_string();
    assert!(
        title.contains("data-integrity"),
        "the rule of the plan gives the class: {title}"
    );
    let release = json!({ "component": "sealing", "version": "2.4.0" });
    assert_eq!(event("2", "dev.sealwarden.release.v1", release).0, 200);
    assert_eq!(event("3", "dev.sealwarden.release.v1", json!({})).0, 400);
}

#[test]
fn a_storm_of_a_hundred_thousand_alerts_is_one_incident_and_counted() {
    let here = with_source();
    let _up = here.up();
    for payload in 0..10 {
        let alerts: Vec<Value> = (0..10_000)
            .map(|n| json!({ "status": "firing", "fingerprint": format!("{payload}-{n}"), "labels": { "instance": n.to_string() } }))
            .collect();
        let body = json!({ "version": "4", "alerts": alerts }).to_string();
        let (status, answer) = post(
            &here,
            "/outside/alertmanager",
            TOKEN,
            "application/json",
            &body,
        );
        assert_eq!(status, 200, "{answer}");
    }
    let storm = incidents(&here);
    assert_eq!(storm.len(), 1, "{storm:?}");
    let id = storm[0]["incident"].as_str().expect("its id").to_owned();
    let counted = |texts: &[String]| -> u64 {
        let further = texts
            .iter()
            .filter(|text| text.contains("further alerts of prometheus"));
        further
            .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
            .sum()
    };
    eventually("all are counted", || {
        (counted(&story(&here, &id)) == 100_000 - 32).then_some(())
    });
    let peak = std::fs::read_to_string(format!("/proc/{}/status", here.pid("detection")))
        .expect("its status");
    let peak = peak.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak: u64 = peak
        .and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
        .expect("a size");
    assert!(peak < 400 * 1024, "{peak} kB at most");
}
