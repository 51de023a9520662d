//! Services as processes of their own, over a real nats-server; one of them is out of reach when it matters.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sealwarden_eventlog::test_server::TestServer;
use sealwarden_tests::history::History;
use sealwarden_tests::thief::{self, Thief};
use sealwarden_tests::{Installation, Process, eventually, people, wait};
use sealwarden_wire::event::v1::event::Kind;
use sealwarden_wire::seal::v1::{GetSealRequest, SealRequest, sealing_client::SealingClient};
use sealwarden_wire::verify::v1::{VerifyRequest, verification_client::VerificationClient};
use tokio::task::JoinSet;
use tonic::transport::Channel;

const ORIGIN: &str = "seal.example.com/main/1";
const SUCCESSOR: &str = "seal.example.com/main/2";
const SEALING: &str = "sealing-1";

/// Lifetime of a permit: what an unreachable node may still have when it is lost.
const PERMIT: Duration = Duration::from_secs(5);
/// The longest that a node may use a permit: its lifetime, a key call that began at its end, the drift between two clocks.
const LONGEST: Duration = Duration::from_millis(5_000 + 2_000 + 250);
/// Callers that seal without a pause.
const CALLERS: u8 = 8;

struct Distributed {
    here: Installation,
    server: TestServer,
    sealing: Process,
    others: [Process; 3],
}

impl Distributed {
    fn start() -> Self {
        let server = TestServer::start().expect("a nats-server");
        let here = Installation::over_nats(&server.url());
        let executor = here.serve("runbook-executor");
        let sealing = here.serve("sealing");
        let verification = here.serve("verification");
        let detection = here.serve("detection");
        here.seal_eventually(&here.file("first", b"they have found each other"));
        Self {
            here,
            server,
            sealing,
            others: [executor, verification, detection],
        }
    }

    /// The text of the first origin's checkpoint, from the tree's own file: the node may be suspended.
    fn checkpoint(&self) -> String {
        let file = self
            .here
            .data()
            .join("nodes")
            .join(SEALING)
            .join("log/main/1/checkpoint");
        let note = std::fs::read_to_string(file).expect("the checkpoint");
        note.lines().take(3).collect::<Vec<_>>().join(
            "
",
        )
    }
}

/// A seal that a caller was given.
struct Acknowledged {
    digest: [u8; 32],
    index: u64,
}

/// Seals new digests until the service refuses or goes away.
async fn seal_on(
    mut client: SealingClient<Channel>,
    caller: u8,
    count: Arc<AtomicUsize>,
) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    for n in 0_u64.. {
        let mut digest = [caller; 32];
        digest.split_at_mut(8).0.copy_from_slice(&n.to_be_bytes());
        let request = SealRequest {
            digest_algorithm: "sha-256".to_owned(),
            digest: digest.to_vec().into(),
            ..SealRequest::default()
        };
        let Ok(answer) = client.seal(request).await else {
            break;
        };
        let answer = answer.into_inner();
        assert_eq!(answer.origin, ORIGIN);
        acknowledged.push(Acknowledged {
            digest,
            index: answer.index,
        });
        count.fetch_add(1, Ordering::Relaxed);
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn four_processes_seal_verify_and_stop_cleanly() {
    let Distributed {
        here,
        server,
        sealing,
        others,
    } = Distributed::start();
    let file = here.file("file", b"x");
    here.seal_eventually(&file);
    assert_eq!(here.verify(&file).good()["verdict"], "valid");
    assert!(
        sealing.terminate().success(),
        "the sealing node ends cleanly"
    );
    assert_eq!(
        here.verify(&file).good()["verdict"],
        "valid",
        "verification goes on while sealing is down"
    );
    let other = here.file("other", b"y");
    here.call(&["seal", other.to_str().expect("a path")])
        .must_end_with(3);
    for process in others {
        assert!(process.terminate().success());
    }
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_suspended_in_the_middle_of_its_work_releases_nothing_when_it_wakes() {
    let all = Distributed::start();
    let here = &all.here;
    let thief = Thief::steals_from(here, SEALING).await;
    let forged = thief.forges(ORIGIN, 1_000_000).await;
    let client = SealingClient::new(here.connect("sealing", "operator").await);
    let count = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        callers.spawn(seal_on(client.clone(), caller, Arc::clone(&count)));
    }
    eventually("callers are served", || {
        (count.load(Ordering::Relaxed) >= 200).then_some(())
    });

    // In the middle of its work, with a permit in its hands and requests in its queue.
    all.sealing.suspend();
    let checkpoint = all.checkpoint();
    thief::shows_to_the_witness(here, &forged, 0).await;
    let run = people::run_of_the_incident(here);
    people::reaches(here, &run, "isolate", "awaiting-approval");
    for person in ["mara.lindqvist", "ines.duarte"] {
        people::approve(here, &run, "isolate", person).must_end_with(0);
    }
    people::reaches(here, &run, "isolate", "done");
    fenced_by_the_clock(&all).await;
    assert_eq!(
        all.checkpoint(),
        checkpoint,
        "the suspended node wrote something"
    );

    all.sealing.resume();
    let acknowledged: Vec<_> = in_time(callers.join_all())
        .await
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(
        all.checkpoint(),
        checkpoint,
        "the isolated origin grew when the node woke"
    );
    // An answer may still have been on its way; the signature in it was public before the node was suspended.
    let size: u64 = checkpoint
        .lines()
        .nth(1)
        .and_then(|line| line.parse().ok())
        .expect("a size");
    let new = acknowledged
        .iter()
        .filter(|seal| seal.index >= size)
        .count();
    assert_eq!(new, 0, "signatures were released after the fence");
    let ended = people::approve_until_the_end(here, &run);
    assert_eq!(ended["state"], "completed", "{ended:#}");
    assert_eq!(all.checkpoint(), checkpoint, "the isolated origin grew");
    nothing_is_lost(here, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn isolation_waits_for_a_node_out_of_reach_and_says_so() {
    let all = Distributed::start();
    let here = &all.here;
    let thief = Thief::steals_from(here, SEALING).await;
    thief::shows_to_the_witness(here, &thief.forges(ORIGIN, 9).await, 1).await;
    let run = people::run_of_the_incident(here);
    people::reaches(here, &run, "isolate", "awaiting-approval");
    people::approve(here, &run, "isolate", "mara.lindqvist").must_end_with(0);
    // At the last moment, with a fresh permit in its hands.
    all.sealing.suspend();
    people::approve(here, &run, "isolate", "ines.duarte").must_end_with(0);
    people::reaches(here, &run, "isolate", "done");
    fenced_by_the_clock(&all).await;

    let history = History::nats(&all.server.url(), &here.name()).await;
    let told = history
        .events(&format!("run/{run}"))
        .await
        .into_iter()
        .any(|kind| {
            let Kind::StepProgressed(said) = kind else {
                return false;
            };
            said.step == "isolate"
                && said.text.contains(SEALING)
                && said.missing.iter().any(|m| m.contains(SEALING))
        });
    assert!(told, "nobody was told that the step waits for {SEALING}");
    all.sealing.resume();
    assert_eq!(
        people::approve_until_the_end(here, &run)["state"],
        "completed"
    );
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
    assert_eq!(how, Some("permit ran out"), "{fenced:?}");
    let issued = history
        .time_of("log/main", |kind| matches!(kind, Kind::DirectiveIssued(_)))
        .await
        .unwrap_or_default();
    let fenced = history
        .time_of("log/main", |kind| matches!(kind, Kind::Fenced(_)))
        .await
        .unwrap_or_default();
    let waited_ms = u128::try_from(fenced - issued).expect("the fence follows its directive");
    assert!(
        waited_ms < LONGEST.as_millis() + 2_000,
        "fencing took {waited_ms} ms, though a permit lasts {PERMIT:?}"
    );
    let early = events
        .iter()
        .any(|kind| matches!(kind, Kind::DirectiveAcknowledged(a) if a.node == SEALING));
    assert!(!early, "a suspended node acknowledged something");
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(wait::PATIENCE, work)
        .await
        .expect("callers are answered")
}

/// Each seal that a caller was given has a successor in the new origin, and that is valid.
async fn nothing_is_lost(here: &Installation, acknowledged: &[Acknowledged]) {
    let mut sealing = SealingClient::new(here.connect("sealing", "operator").await);
    let mut verification = VerificationClient::new(here.connect("verification", "operator").await);
    for seal in acknowledged {
        let request = GetSealRequest {
            origin: ORIGIN.to_owned(),
            index: seal.index,
            follow: true,
        };
        let renewed = sealing
            .get_seal(request)
            .await
            .expect("an acknowledged seal")
            .into_inner();
        assert_eq!(
            renewed.origin, SUCCESSOR,
            "leaf {} has no successor",
            seal.index
        );
        let request = VerifyRequest {
            seal: renewed.seal,
            digest: seal.digest.to_vec().into(),
            anchors: Vec::new().into(),
        };
        let answer = verification
            .verify(request)
            .await
            .expect("a verdict")
            .into_inner();
        assert_eq!(answer.verdict, "valid", "{}", answer.reason);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_the_event_log_stops_signing_by_itself_and_goes_on_when_it_is_back() {
    let mut all = Distributed::start();
    let first = all.here.file("known", b"1");
    all.here.seal_eventually(&first);
    all.server.kill().expect("the server is killed");
    let second = all.here.file("second", b"2");
    let seal = all.here.home().join("second.seal");
    // A request may be queued or refused; nothing is signed.
    eventually("the permit has run out", || {
        let answer = all
            .here
            .call(&["seal", second.to_str()?, "--wait", "sealed"]);
        assert!([1, 3].contains(&answer.code), "{answer}");
        assert!(!seal.exists(), "sealed without the event log: {answer}");
        let status = all.here.call(&["status"]);
        (status.code == 0 && status.json()["sealing"]["mode"] == "no-permit").then_some(())
    });
    assert_eq!(
        all.here.verify(&first).good()["verdict"],
        "valid",
        "verification needs no event log"
    );
    all.server.restart().expect("the server starts again");
    all.here.seal_eventually(&second);
    assert_eq!(all.here.verify(&second).good()["verdict"], "valid");
}
