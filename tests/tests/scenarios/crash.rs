//! SIGKILL at any moment: the run goes on, no effect happens twice, no acknowledged seal is lost.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use sealwarden_seal::seal::Seal;
use sealwarden_tests::history::History;
use sealwarden_tests::thief::{self, Thief};
use sealwarden_tests::wait::a_while;
use sealwarden_tests::{Installation, Process, people};
use sealwarden_wire::event::v1::event::Kind;
use sealwarden_wire::event::v1::{RunOutcome, StepOutcome};
use sealwarden_wire::seal::v1::{ExportSealsRequest, sealing_client::SealingClient};
use serde_json::Value;

const ORIGIN: &str = "seal.example.com/main/1";
/// How often the process is killed while files are sealed, and while the run goes on.
const KILLS: [u32; 2] = [3, 12];

/// Seals files one after another until told to stop; those that were acknowledged.
fn seal_until(here: &Installation, from: u32, stop: &AtomicBool) -> Vec<PathBuf> {
    let mut acknowledged = Vec::new();
    for n in from.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let file = here.file(&format!("file {n}"), &n.to_be_bytes());
        let answer = here.call(&["seal", file.to_str().expect("a path"), "--wait", "sealed"]);
        if answer.code == 0 {
            acknowledged.push(file);
        } else {
            assert!([1, 3].contains(&answer.code), "{answer}");
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_survives_being_killed_at_random_moments() {
    let here = Installation::new();
    let files = seal_and_kill(&here);
    assert!(!files.is_empty(), "nothing was sealed between the crashes");

    let up = here.up();
    for file in &files {
        // A witness's answer may have been on its way when the process died.
        let answer = here.call(&["seal", "--renew", file.to_str().expect("a path")]);
        assert_eq!(answer.code, 0, "an acknowledged seal is lost: {answer}");
        assert_eq!(
            here.verify(file).good()["verdict"],
            "valid",
            "{}",
            file.display()
        );
    }
    let thief = Thief::steals_from(&here, "sealing-1").await;
    thief::shows_to_the_witness(&here, &thief.forges(ORIGIN, 1_000_000).await, 0).await;
    let id = people::run_of_the_incident(&here);
    up.kill();

    let run = respond_and_kill(&here, &id);
    assert_eq!(run["state"], "completed", "{run:#}");
    every_seal_has_its_successor(&here, &files);
    every_leaf_was_sealed_again_once(&here).await;
    everything_happened_once(&here, &id).await;
}

fn seal_and_kill(here: &Installation) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for kill in 0..KILLS[0] {
        let up = here.up();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let sealer = scope.spawn(|| seal_until(here, kill * 10_000, &stop));
            a_while(300..1000);
            up.kill();
            stop.store(true, Ordering::Relaxed);
            files.extend(sealer.join().expect("the sealer ends"));
        });
    }
    files
}

fn respond_and_kill(here: &Installation, id: &str) -> Value {
    for kill in 0..KILLS[1] {
        if kill % 4 == 3 {
            // While it starts: recovery is interrupted too.
            let starting = Process::spawn(here.home(), "up", &here.arguments(&["up"]));
            a_while(0..400);
            starting.kill();
        }
        let up = here.up();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let approver = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    people::approve_what_waits(here, id, &[]);
                }
            });
            a_while(0..900);
            up.kill();
            stop.store(true, Ordering::Relaxed);
            approver.join().expect("the approver ends");
        });
    }
    let up = here.up();
    let run = people::approve_until_the_end(here, id);
    assert!(up.terminate().success());
    run
}

fn every_seal_has_its_successor(here: &Installation, files: &[PathBuf]) {
    let up = here.up();
    for file in files {
        here.call(&["seal", "--renew", file.to_str().expect("a path")])
            .must_end_with(0);
        let answer = here.verify(file).good();
        assert_eq!(answer["verdict"], "valid", "{answer}");
        assert_eq!(answer["origin"], "seal.example.com/main/2", "{answer}");
    }
    let status = here.status();
    assert_eq!(status["open_incidents"], 0, "{status:#}");
    assert_eq!(
        status["logs"][0]["origins"].as_array().map(Vec::len),
        Some(2),
        "one rotation: {status:#}"
    );
    assert!(up.terminate().success());
}

/// What the new tree holds: each leaf of the frozen one, once.
async fn every_leaf_was_sealed_again_once(here: &Installation) {
    let up = here.up();
    let bundle = here.call(&["trust", "show"]).good();
    let frozen = bundle["payload"]["logs"][0]["frozen_at"]["size"]
        .as_u64()
        .expect("a size");
    let mut sealing = SealingClient::new(here.connect("sealing", "operator").await);
    let request = ExportSealsRequest {
        origin: "seal.example.com/main/2".to_owned(),
    };
    let mut seals = sealing
        .export_seals(request)
        .await
        .expect("the new tree's seals")
        .into_inner();
    let mut originals = Vec::new();
    while let Some(answer) = seals.message().await.expect("a seal") {
        let seal = Seal::parse(&answer.seal).expect("a seal");
        originals.extend(seal.record.original.map(|original| original.index));
    }
    originals.sort_unstable();
    assert_eq!(originals, (0..frozen).collect::<Vec<_>>());
    assert!(up.terminate().success());
}

/// What the event log says happened, counted.
async fn everything_happened_once(here: &Installation, run: &str) {
    let history = History::embedded(&here.data()).await;
    let incident = run.replacen('R', "I", 1);
    let streams = [
        "log/main".to_owned(),
        format!("run/{run}"),
        format!("incident/{incident}"),
        format!("trust/{}", here.name()),
    ];
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    for stream in streams {
        for what in history
            .events(&stream)
            .await
            .into_iter()
            .filter_map(what_happens_once)
        {
            *times.entry(what).or_default() += 1;
        }
    }
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "not exactly once: {twice:#?}");
    let sum = |words: &str| times.keys().filter(|what| what.contains(words)).count();
    assert_eq!(sum("step "), 12, "{times:#?}");
    assert_eq!(sum("directive of"), 5, "{times:#?}");
    assert_eq!(sum("evidence"), 2, "{times:#?}");
    assert_eq!(sum("origin seal"), 2, "{times:#?}");
    assert_eq!(sum("run ended"), 1, "{times:#?}");
    assert!(sum("trust version") >= 2, "{times:#?}");
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the other kinds may happen any number of times"
)]
fn what_happens_once(kind: Kind) -> Option<String> {
    Some(match kind {
        Kind::OriginOpened(e) => format!("origin {} opened", e.origin),
        Kind::DirectiveIssued(e) => {
            let directive = e.directive.unwrap_or_default();
            format!(
                "directive of {}/{}/{}",
                directive.run, directive.step, directive.iteration
            )
        }
        Kind::DirectiveAcknowledged(e) => {
            format!("directive {} acknowledged by {}", e.epoch, e.node)
        }
        Kind::Fenced(e) => format!("{} fenced", e.origin),
        Kind::Isolated(e) => format!("{} isolated", e.origin),
        Kind::RunStarted(_) => "run started".to_owned(),
        Kind::StepEnded(e) if e.outcome() == StepOutcome::Done => format!("step {} done", e.step),
        Kind::RunEnded(e) => {
            assert_eq!(e.outcome(), RunOutcome::Completed, "{e:?}");
            "run ended".to_owned()
        }
        Kind::IncidentOpened(_) => "incident opened".to_owned(),
        Kind::RunLinked(_) => "run linked".to_owned(),
        Kind::EvidenceSealed(e) => format!("evidence {} sealed", e.bundle),
        Kind::IncidentStageReached(e) => format!("stage {:?}", e.stage()),
        Kind::TrustPublished(e) => format!("trust version {}", e.version),
        Kind::SuspensionAdded(e) => format!("{} suspended", e.origin),
        _ => return None,
    })
}
