//! The drill as a user starts it: one command, one document.

use sealwarden_eventlog::test_server::TestServer;
use sealwarden_tests::binary::Answer;
use sealwarden_tests::{Installation, sealwarden};
use serde_json::Value;

fn drill(home: &Installation, name: &str, extra: &[&str]) -> Answer {
    let folder = home.home().join("documents");
    std::fs::create_dir_all(&folder).expect("a folder");
    for n in 0..4_u8 {
        std::fs::write(folder.join(format!("{n}.txt")), [n; 100]).expect("a document");
    }
    let mut arguments = vec![
        "drill",
        name,
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

/// The times, the steps, the approvals and the evidence that every drill tells.
fn closed(answer: Answer) -> Value {
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
    assert!(
        list(&document, "targets")
            .iter()
            .all(|target| target["target_ms"].as_i64().is_some_and(|ms| ms > 0)),
        "{document:#}"
    );
    let evidence = list(&document, "evidence");
    assert!(
        !evidence.is_empty() && evidence.iter().all(|it| it["verified"] == true),
        "{document:#}"
    );
    document
}

fn told_everything(answer: Answer) {
    let document = closed(answer);
    assert_eq!(list(&document, "steps").len(), 12, "{document:#}");
    assert!(list(&document, "approvals").len() >= 14, "{document:#}");
    assert!(
        list(&document, "acknowledgements").len() >= 5,
        "{document:#}"
    );
    assert!(list(&document, "verdicts").len() >= 4, "{document:#}");
}

/// Each kind of damage was seen for what it is, nothing else was called damaged, and everything is valid again.
fn mended(answer: Answer) {
    let document = closed(answer);
    assert_eq!(document["class"], "data-integrity", "{document:#}");
    let verdicts = list(&document, "verdicts");
    assert_eq!(verdicts.len(), 4, "{document:#}");
    let mut found: Vec<&str> = verdicts
        .iter()
        .filter_map(|verdict| verdict["found"][0].as_str())
        .collect();
    found.sort_unstable();
    assert_eq!(
        found,
        ["bytes-changed", "missing", "seal-damaged", "truncated"],
        "{document:#}"
    );
    for verdict in verdicts {
        assert_eq!(verdict["before"], "valid", "{verdict:#}");
        assert_ne!(verdict["damaged"], "valid", "{verdict:#}");
        assert_eq!(verdict["in_archive"], "valid", "{verdict:#}");
        assert_eq!(verdict["after"], "valid", "{verdict:#}");
    }
}

#[test]
fn silent_corruption_is_found_and_mended() {
    let home = Installation::new();
    mended(drill(&home, "silent-corruption", &[]));
}

#[test]
fn silent_corruption_is_mended_over_a_real_nats_server_too() {
    let server = TestServer::start().expect("a nats-server");
    let home = Installation::new();
    mended(drill(
        &home,
        "silent-corruption",
        &["--nats", &server.url()],
    ));
}

/// Another provider signed, what is not critical waited and became seals, and the repaired provider signs again.
fn carried_on(answer: Answer) {
    let document = closed(answer);
    assert_eq!(document["class"], "kms-outage", "{document:#}");
    assert_eq!(document["signs_now"], "hsm", "{document:#}");
    assert!(
        document["failover_ms"].as_i64().is_some_and(|ms| ms > 0),
        "{document:#}"
    );
    let phases = list(&document, "phases");
    assert_eq!(phases.len(), 4, "{document:#}");
    for phase in phases {
        assert!(
            phase["documents"].as_u64().is_some_and(|count| count > 0),
            "{document:#}"
        );
        assert_eq!(phase["documents"], phase["valid"], "{document:#}");
        let waits = phase["phase"] == "diverted, not critical";
        assert_eq!(
            phase["tickets"] == phase["documents"],
            waits,
            "{document:#}"
        );
    }
    let drain = list(&document, "steps")
        .iter()
        .find(|step| step["step"] == "drain")
        .expect("the step drain");
    assert_eq!(drain["outputs"]["provider"], "hsm", "{drain:#}");
}

/// One vendor stood in while the other was away, and only then; nothing that was sealed needs either.
fn stood_in(answer: Answer) {
    let document = closed(answer);
    assert_eq!(document["class"], "vendor-failure", "{document:#}");
    let stamped = list(&document, "stamped");
    let counts = |at: usize| {
        let count = |who: &str| stamped[at][who].as_u64().expect("a count");
        (count("first"), count("second"))
    };
    let (fall, meanwhile, end) = (counts(0), counts(1), counts(2));
    assert_eq!(fall.1, 0, "{document:#}");
    assert!(
        meanwhile.0 == fall.0 && meanwhile.1 > fall.0,
        "{document:#}"
    );
    assert!(end.0 > meanwhile.1 && end.1 == meanwhile.1, "{document:#}");
}

#[test]
fn a_vendor_that_goes_away_is_stood_in_for() {
    stood_in(drill(&Installation::new(), "vendor-outage", &[]));
}

#[test]
fn a_vendor_that_goes_away_is_stood_in_for_over_a_real_nats_server_too() {
    let server = TestServer::start().expect("a nats-server");
    stood_in(drill(
        &Installation::new(),
        "vendor-outage",
        &["--nats", &server.url()],
    ));
}

/// A bad release was found, rolled back and replaced in stages; nobody was told that a wrong document is valid.
fn rolled_back(answer: Answer) {
    let document = closed(answer);
    assert_eq!(document["class"], "release-regression", "{document:#}");
    let asked = list(&document, "asked");
    let counts = |at: usize, what: &str| asked[at][what].as_u64().expect("a count");
    for (at, valid, release) in [(0, 4, "1.0"), (1, 0, "2.0"), (2, 4, "2.1")] {
        assert_eq!(counts(at, "valid"), valid, "{document:#}");
        assert_eq!(counts(at, "wrong_refused"), 4, "{document:#}");
        assert_eq!(asked[at]["releases"][0], release, "{document:#}");
    }
    assert_eq!(list(&document, "deployments").len(), 7, "{document:#}");
}

#[test]
fn a_bad_release_is_rolled_back_and_replaced_in_stages() {
    rolled_back(drill(&Installation::new(), "bad-release", &[]));
}

#[test]
fn a_bad_release_is_rolled_back_over_a_real_nats_server_too() {
    let server = TestServer::start().expect("a nats-server");
    rolled_back(drill(
        &Installation::new(),
        "bad-release",
        &["--nats", &server.url()],
    ));
}

/// Files enough for every phase of the drill.
fn many(home: &Installation) -> String {
    let folder = home.home().join("many");
    std::fs::create_dir_all(&folder).expect("a folder");
    for n in 0..9_u8 {
        std::fs::write(folder.join(format!("{n}.txt")), [n; 100]).expect("a document");
    }
    folder.to_str().expect("a path").to_owned()
}

#[test]
fn a_slow_and_then_silent_key_provider_loses_nothing() {
    let home = Installation::new();
    let folder = many(&home);
    let words = ["drill", "hsm-latency", "--json", "--dir", &folder];
    carried_on(sealwarden(home.home(), &words));
}

#[test]
fn a_slow_and_then_silent_key_provider_loses_nothing_over_a_real_nats_server() {
    let server = TestServer::start().expect("a nats-server");
    let home = Installation::new();
    let (folder, url) = (many(&home), server.url());
    let words = [
        "drill",
        "hsm-latency",
        "--json",
        "--dir",
        &folder,
        "--nats",
        &url,
    ];
    carried_on(sealwarden(home.home(), &words));
}

#[test]
fn too_few_documents_for_the_story_are_refused_with_a_remedy() {
    let refused = drill(&Installation::new(), "hsm-latency", &[]);
    assert_eq!(refused.code, 2, "{refused}");
    assert!(refused.to_string().contains("--dir"), "{refused}");
}

#[test]
fn the_list_names_every_drill_that_can_be_started() {
    let home = Installation::new();
    let document = sealwarden(home.home(), &["drill", "list", "--json"]).good();
    for entry in list(&document, "drills") {
        for word in ["injects", "class", "needs"] {
            assert!(entry[word].is_string(), "{word} of {entry}");
        }
    }
    let refused = sealwarden(home.home(), &["drill", "no-such-drill"]);
    for entry in list(&document, "drills") {
        let name = entry["drill"].as_str().expect("a name");
        assert!(refused.to_string().contains(name), "{refused}");
    }
}

#[test]
fn the_drill_closes_its_incident_with_everything_verified() {
    let home = Installation::new();
    told_everything(drill(&home, "key-compromise", &[]));
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
    told_everything(drill(
        &Installation::new(),
        "key-compromise",
        &["--nats", &server.url()],
    ));
}

#[test]
fn a_drill_stays_away_from_servers_where_production_runs() {
    let server = TestServer::start().expect("a nats-server");
    let production = Installation::over_nats(&server.url());
    let _up = production.up();
    production.seal(&production.file("file", b"x"));
    let answer = drill(
        &Installation::new(),
        "key-compromise",
        &["--nats", &server.url()],
    );
    assert!([3, 4].contains(&answer.code), "{answer}");
    assert!(answer.to_string().contains("production"), "{answer}");
    assert_eq!(production.status()["open_incidents"], 0);
}
