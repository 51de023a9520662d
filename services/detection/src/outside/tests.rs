use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};

use super::payload::{alertmanager, cloud_event};
use super::*;

/// In the form that Alertmanager 0.25 sends.
const FIRING: &str = r#"{"receiver":"sealwarden","status":"firing","alerts":[{"status":"firing","labels":{"alertname":"HsmDown","log":"main","severity":"critical"},"annotations":{"summary":"the HSM does not answer"},"startsAt":"2026-11-23T19:00:00.123Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://prometheus/graph","fingerprint":"93a9ab22ba5b1d0c"}],"groupLabels":{},"commonLabels":{},"commonAnnotations":{},"externalURL":"http://alertmanager","version":"4","groupKey":"{}:{}","truncatedAlerts":0}"#;

fn alerts(told: Told) -> Vec<payload::Alert> {
    match told {
        Told::Alerts(alerts) => alerts,
        Told::Release { .. } | Told::Measure { .. } | Told::Canary { .. } => {
            panic!("no alerts: {told:?}")
        }
    }
}

fn headers(given: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        headers.insert(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

#[test]
fn an_alert_is_read_with_its_labels_and_is_known_by_fingerprint_and_start() {
    let alert = alerts(alertmanager(FIRING.as_bytes()).unwrap()).remove(0);
    assert_eq!(alert.key, "93a9ab22ba5b1d0c 2026-11-23T19:00:00.123Z");
    assert_eq!(alert.seen, "HsmDown: the HSM does not answer");
    assert_eq!(alert.labels["log"], "main");
    assert_eq!((alert.started_ms % 1000, alert.resolved), (123, false));
    let over = FIRING.replace(
        r#""alerts":[{"status":"firing""#,
        r#""alerts":[{"status":"resolved""#,
    );
    assert!(alerts(alertmanager(over.as_bytes()).unwrap())[0].resolved);
}

#[test]
fn hostile_payloads_are_refused_or_cut() {
    for bad in [
        "",
        "null",
        "[]",
        "{\"version\":\"4\"}",
        "{\"version\":4,\"alerts\":[]}",
        &FIRING.replace(r#""version":"4""#, r#""version":"5""#),
        &FIRING.replace(r#"[{"status":"firing""#, r#"[{"status":"odd""#),
        &FIRING.replace("93a9ab22ba5b1d0c", ""),
        &"[".repeat(100_000),
    ] {
        let shown = bad.get(..60).unwrap_or(bad);
        assert!(alertmanager(bad.as_bytes()).is_err(), "{shown}");
    }
    let many = vec![r#"{"status":"firing","fingerprint":"x"}"#; 10_001].join(",");
    let many = format!(r#"{{"version":"4","alerts":[{many}]}}"#);
    let refused = alertmanager(many.as_bytes()).unwrap_err().to_string();
    assert!(refused.contains("10001"), "{refused}");
    // Escape sequences and endless texts reach neither a terminal nor the log.
    let odd = format!("\\u001b[2J{}", "x".repeat(50_000));
    let odd = FIRING.replace("the HSM does not answer", &odd);
    let alert = alerts(alertmanager(odd.as_bytes()).unwrap()).remove(0);
    assert!(alert.seen.chars().count() <= 1_000 && !alert.seen.contains('\u{1b}'));
}

#[test]
fn a_cloud_event_says_the_same_in_both_modes() {
    let structured = r#"{"specversion":"1.0","id":"7","source":"/hsm","type":"com.example.down","subject":"slot 3","time":"2026-11-23T19:00:00Z","data":{"summary":"slot 3 is away","log":"main"}}"#;
    let of_type = headers(&[(
        "content-type",
        "application/cloudevents+json; charset=utf-8",
    )]);
    let first = cloud_event(&of_type, structured.as_bytes()).unwrap();
    let binary = headers(&[
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "7"),
        ("ce-source", "/hsm"),
        ("ce-type", "com.example.down"),
        ("ce-subject", "slot 3"),
        ("ce-time", "2026-11-23T19:00:00Z"),
    ]);
    let body = r#"{"summary":"slot 3 is away","log":"main"}"#;
    assert_eq!(cloud_event(&binary, body.as_bytes()).unwrap(), first);
    let alert = alerts(first).remove(0);
    assert_eq!((&*alert.key, &*alert.seen), ("/hsm 7", "slot 3 is away"));
    assert_eq!(alert.labels["type"], "com.example.down");
    assert_eq!(alert.labels["log"], "main");
}

#[test]
fn releases_and_measures_are_events_of_their_own_types() {
    let of_type = headers(&[("content-type", "application/cloudevents+json")]);
    let event = |kind: &str, data: &str| {
        let text = format!(
            r#"{{"specversion":"1.0","id":"1","source":"ci","type":"{kind}","data":{data}}}"#
        );
        cloud_event(&of_type, text.as_bytes())
    };
    let data = r#"{"component":"sealing","version":"2.4.0"}"#;
    let release = event("dev.sealwarden.release.v1", data);
    assert!(matches!(release, Ok(Told::Release { version, .. }) if version == "2.4.0"));
    let measure = event("dev.sealwarden.measure.v1", r#"{"name":"lag","value":-3}"#);
    assert!(matches!(measure, Ok(Told::Measure { value: -3, .. })));
    let data = r#"{"log":"main","good":false,"took_ms":12}"#;
    let Ok(Told::Canary { good, took_ms, .. }) = event("dev.sealwarden.canary.v1", data) else {
        panic!("no canary")
    };
    assert_eq!((good, took_ms), (false, 12));
    for (kind, data) in [
        (
            "dev.sealwarden.canary.v1",
            r#"{"log":"main","good":"no","took_ms":12}"#,
        ),
        ("dev.sealwarden.release.v1", r#"{"component":"sealing"}"#),
        ("dev.sealwarden.measure.v1", r#"{"name":"lag","value":1.5}"#),
        ("", "{}"),
    ] {
        assert!(event(kind, data).is_err(), "{kind} {data}");
    }
    let batch = headers(&[("content-type", "application/cloudevents-batch+json")]);
    assert!(cloud_event(&batch, b"[]").is_err());
    let old = r#"{"specversion":"0.3","id":"1","source":"ci","type":"x"}"#;
    assert!(cloud_event(&of_type, old.as_bytes()).is_err());
}

#[tokio::test]
async fn tokens_are_private_long_and_each_sources_own_and_rates_are_kept() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let token = |name: &str, text: &str, mode: u32| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        OutsideSource {
            token_file: path,
            class: "kms-outage".to_owned(),
            requests_per_minute: 60,
        }
    };
    let open = |given: &[(&str, &OutsideSource)]| {
        let sources = given
            .iter()
            .map(|(name, it)| ((*name).to_owned(), (*it).clone()));
        let sources: std::collections::BTreeMap<_, _> = sources.collect();
        async move { Sources::open(&sources).await }
    };
    let good = token("good", "0123456789abcdef\n", 0o600);
    for bad in [
        token("short", "0123456789abcde", 0o600),
        token("open", "0123456789abcdef", 0o644),
        token("two-lines", "0123456789abcdef\n0123456789abcdef", 0o600),
    ] {
        let opened = open(&[("a", &bad)]).await;
        assert!(matches!(opened, Err(BadSource::Token { .. })));
    }
    let twice = open(&[("a", &good), ("b", &good)]).await;
    assert!(matches!(twice, Err(BadSource::SameToken(..))));
    let sources = open(&[("a", &good)]).await.ok().unwrap();
    assert!(sources.with_token(b"0123456789abcdeg").is_none());
    let source = sources.with_token(b"0123456789abcdef").unwrap();
    let now = Instant::now();
    let admitted = (0..100).filter(|_| source.admit(now)).count();
    assert_eq!(admitted, 10, "a sixth of a minute's requests at once");
    assert!(source.admit(now + Duration::from_secs(1)));
    assert!(!source.admit(now + Duration::from_secs(1)));
}
