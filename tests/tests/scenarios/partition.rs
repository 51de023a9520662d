//! Services as processes of their own, over a real nats-server; one of them is out of reach when it matters.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sealwarden_eventlog::test_server::TestServer;
use sealwarden_tests::history::History;
use sealwarden_tests::thief::{self, Thief};
use sealwarden_tests::{Installation, Process, eventually, people};
use sealwarden_wire::event::v1::event::Kind;

const ORIGIN: &str = "seal.example.com/main/1";
const SEALING: &str = "sealing-1";

/// Lifetime of a permit: what an unreachable node may still have when it is lost.
const PERMIT: Duration = Duration::from_secs(5);

struct Distributed {
    here: Installation,
    server: TestServer,
    sealing: Process,
    _others: [Process; 3],
}

impl Distributed {
    fn start() -> Self {
        let server = TestServer::start().expect("a nats-server");
        let here = Installation::over_nats(&server.url());
        let executor = here.serve("runbook-executor", "runbook-executor-1");
        let sealing = here.serve("sealing", SEALING);
        let verification = here.serve("verification", "verification-1");
        let detection = here.serve("detection", "detection-1");
        eventually("the services have found each other", || {
            let answer = here.call(&["trust", "export", "--out", here.home().join("t").to_str()?]);
            (answer.code == 0).then_some(())
        });
        Self {
            here,
            server,
            sealing,
            _others: [executor, verification, detection],
        }
    }

    /// Size and root that the origin's public checkpoint states, read from the tree's own file: the node may be suspended.
    async fn published(&self) -> BTreeSet<(String, u64)> {
        let history = History::nats(&self.server.url(), &self.here.name()).await;
        let published = history
            .events("log/main")
            .await
            .into_iter()
            .filter_map(|kind| {
                let Kind::CheckpointPublished(published) = kind else {
                    return None;
                };
                Some((published.origin, published.size))
            });
        published.collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn four_processes_seal_verify_and_stop_cleanly() {
    let all = Distributed::start();
    let file = all.here.file("file", b"x");
    all.here.seal_eventually(&file);
    assert_eq!(all.here.verify(&file).good()["verdict"], "valid");
    let Distributed {
        sealing,
        _others: others,
        here,
        server,
    } = all;
    assert!(
        sealing.terminate().success(),
        "the sealing node ends cleanly"
    );
    assert_eq!(
        here.verify(&file).good()["verdict"],
        "valid",
        "verification goes on while sealing is down"
    );
    here.call(&["seal", here.file("other", b"y").to_str().expect("a path")])
        .must_end_with(3);
    for process in others {
        assert!(process.terminate().success());
    }
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn isolation_waits_for_a_suspended_node_names_it_and_it_signs_nothing_when_it_wakes() {
    let all = Distributed::start();
    let here = &all.here;
    let documents: Vec<_> = ["a", "b", "c"]
        .map(|name| here.file(name, name.as_bytes()))
        .into();
    for document in &documents {
        here.seal_eventually(document);
    }
    let thief = Thief::steals_from(here, SEALING).await;
    thief::shows_to_the_witness(here, &thief.forges(ORIGIN, 9).await, 3).await;
    let run = people::run_of_the_incident(here);
    people::reaches(here, &run, "isolate", "awaiting-approval");
    let before = all.published().await;

    // It holds a permit, or had one a moment ago, and now it hears and says nothing.
    let suspended_at = Instant::now();
    all.sealing.suspend();
    for person in ["mara.lindqvist", "ines.duarte"] {
        people::approve(here, &run, "isolate", person).must_end_with(0);
    }
    let progress = eventually("the step says who is missing", || {
        let step = people::step(&people::run(here, &run), "isolate");
        let said = step["progress"].as_str().unwrap_or_default().to_owned();
        (step["state"] == "done" || said.contains(SEALING)).then_some((step["state"].clone(), said))
    });
    assert!(
        progress.1.contains(SEALING),
        "nobody said that {SEALING} was missing: {progress:?}"
    );
    let isolated = people::reaches(here, &run, "isolate", "done");
    let waited = suspended_at.elapsed();
    assert!(
        waited < PERMIT * 4,
        "it took {waited:?}, though the permit ran out after {PERMIT:?}: {isolated:#}"
    );
    fenced_by_the_clock(&all).await;

    // It wakes with what it had in its hands.
    let late = here.file("late", b"late");
    all.sealing.resume();
    let answer = here.call(&["seal", late.to_str().expect("a path")]);
    assert!([3, 4].contains(&answer.code), "{answer}");
    nothing_was_signed_since(&all, &before, &run).await;
}

async fn fenced_by_the_clock(all: &Distributed) {
    let history = History::nats(&all.server.url(), &all.here.name()).await;
    let events = history.events("log/main").await;
    let fenced = events.iter().find_map(|kind| {
        if let Kind::Fenced(fenced) = kind {
            Some(fenced)
        } else {
            None
        }
    });
    let fenced = fenced.expect("the fence is on record");
    let how = fenced
        .nodes
        .iter()
        .find(|node| node.node == SEALING)
        .map(|node| node.how.as_str());
    assert!(
        how == Some("permit ran out") || how == Some("permit released"),
        "{fenced:?}"
    );
    let early = events
        .iter()
        .any(|kind| matches!(kind, Kind::DirectiveAcknowledged(a) if a.node == SEALING));
    assert!(!early, "a suspended node acknowledged something");
}

/// The run goes on to its end with the node awake; the old origin never grew.
async fn nothing_was_signed_since(all: &Distributed, before: &BTreeSet<(String, u64)>, run: &str) {
    let here = &all.here;
    let ended = people::approve_until_the_end(here, run);
    assert_eq!(ended["state"], "completed", "{ended:#}");
    let old = |set: &BTreeSet<(String, u64)>| {
        set.iter()
            .filter(|(origin, _)| origin == ORIGIN)
            .map(|(_, size)| *size)
            .max()
    };
    let after = all.published().await;
    assert!(
        old(&after) <= old(before).max(Some(3)),
        "the isolated origin grew: {before:?} then {after:?}"
    );
    let url = format!("{}/main/1/checkpoint", here.address("sealing", "http"));
    let note = reqwest::get(url)
        .await
        .expect("an answer")
        .text()
        .await
        .expect("a checkpoint");
    assert_eq!(
        note.lines().nth(1),
        Some("3"),
        "the isolated origin's checkpoint: {note}"
    );
    let new = here.file("new", b"after it all");
    here.seal_eventually(&new);
    assert_eq!(
        here.verify(&new).good()["origin"],
        "seal.example.com/main/2"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_the_event_log_stops_signing_by_itself_and_goes_on_when_it_is_back() {
    let mut all = Distributed::start();
    let first = all.here.file("first", b"1");
    all.here.seal_eventually(&first);
    all.server.kill().expect("the server is killed");
    let second = all.here.file("second", b"2");
    let refused = eventually("sealing stops", || {
        let answer = all
            .here
            .call(&["seal", second.to_str()?, "--wait", "sealed"]);
        (answer.code == 3).then_some(answer)
    });
    assert!(!refused.to_string().contains("panicked"), "{refused}");
    assert_eq!(
        all.here.verify(&first).good()["verdict"],
        "valid",
        "verification needs no event log"
    );
    all.server.restart().expect("the server starts again");
    all.here.seal_eventually(&second);
    assert_eq!(all.here.verify(&second).good()["verdict"], "valid");
}
