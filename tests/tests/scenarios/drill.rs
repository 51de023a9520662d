//! The drill as a user starts it: one command, one document.

use sealwarden_eventlog::test_server::TestServer;
use sealwarden_tests::binary::Answer;
use sealwarden_tests::{Installation, sealwarden};
use serde_json::Value;

fn drill(home: &Installation, extra: &[&str]) -> Answer {
    let folder = home.home().join("documents");
    std::fs::create_dir_all(&folder).expect("a folder");
    for n in 0..4_u8 {
        std::fs::write(folder.join(format!("{n}.txt")), [n; 100]).expect("a document");
    }
    let mut arguments = vec![
        "drill",
        "key-compromise",
        "--json",
        "--dir",
        folder.to_str().expect("a path"),
    ];
    arguments.extend(extra);
    sealwarden(home.home(), &arguments)
}

fn list<'a>(document: &'a Value, name: &str) -> &'a Vec<Value> {
    document[name]
        .as_array()
        .unwrap_or_else(|| panic!("{name} is no list in {document:#}"))
}

fn told_everything(answer: Answer) {
    let document = answer.good();
    assert_eq!(document["outcome"], "closed", "{document:#}");
    assert!(
        document["incident"]
            .as_str()
            .is_some_and(|id| id.starts_with("I-")),
        "{document:#}"
    );
    for time in ["detect_ms", "contain_ms", "recover_ms"] {
        assert!(
            document[time].as_i64().is_some_and(|ms| ms >= 0),
            "{time} of {document:#}"
        );
    }
    assert!(
        list(&document, "steps")
            .iter()
            .all(|step| step["state"] == "done"),
        "{document:#}"
    );
    assert_eq!(list(&document, "steps").len(), 12, "{document:#}");
    assert!(list(&document, "approvals").len() >= 14, "{document:#}");
    assert!(
        list(&document, "acknowledgements").len() >= 5,
        "{document:#}"
    );
    assert!(list(&document, "verdicts").len() >= 4, "{document:#}");
    assert!(!document["evidence"].is_null(), "{document:#}");
}

#[test]
fn the_drill_closes_its_incident_with_everything_verified() {
    let home = Installation::new();
    told_everything(drill(&home, &[]));
    let left: Vec<_> = std::fs::read_dir(home.home())
        .expect("the home folder")
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name != "documents")
        .collect();
    assert!(left.is_empty(), "the drill leaves {left:?} behind");
}

#[test]
fn the_drill_does_the_same_over_a_real_nats_server() {
    let server = TestServer::start().expect("a nats-server");
    told_everything(drill(&Installation::new(), &["--nats", &server.url()]));
}

#[test]
fn a_drill_stays_away_from_servers_where_production_runs() {
    let server = TestServer::start().expect("a nats-server");
    let production = Installation::over_nats(&server.url());
    let _up = production.up();
    production.seal(&production.file("file", b"x"));
    let answer = drill(&Installation::new(), &["--nats", &server.url()]);
    assert!([3, 4].contains(&answer.code), "{answer}");
    assert!(answer.to_string().contains("production"), "{answer}");
    assert_eq!(production.status()["open_incidents"], 0);
}
