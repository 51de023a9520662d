//! The event log's heads: sealed, kept, and what they show of a history that was changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sealwarden_domain::fold::event;
use sealwarden_engine::{Meta, encode};
use sealwarden_eventlog::{EventLog, Filter, Head, Memory, NewCommit, Recorded};
use sealwarden_runbook_executor::evidence::evidence_log_vkey;
use sealwarden_seal::seal::Seal;
use sealwarden_seallog::check::{CheckOptions, check};
use sealwarden_wire::event::v1::event::Kind;
use sealwarden_wire::event::v1::{ServiceAnnounced, SignalReported};

use super::world::{BASE, World, soon};

/// A world in which nobody writes but the tests.
fn quiet() -> World {
    let mut world = World::new();
    world.config.root_key = None;
    world
}

/// What is kept, by file name.
fn kept(world: &World) -> BTreeMap<String, String> {
    let dir: PathBuf = world.dir.path().join("executor/evidence-log/heads");
    let Ok(entries) = fs::read_dir(dir) else {
        return BTreeMap::new();
    };
    entries
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read_to_string(entry.path()).unwrap())
        })
        .collect()
}

fn announced(node: &str, url: &str) -> sealwarden_wire::event::v1::Event {
    event(Kind::ServiceAnnounced(ServiceAnnounced {
        node: node.to_owned(),
        role: "sealing".to_owned(),
        grpc_url: url.to_owned(),
        http_url: String::new(),
    }))
}

async fn announce(world: &World, node: &str, url: &str) -> u64 {
    world
        .append(&format!("node/{node}"), vec![announced(node, url)])
        .await
}

/// Every commit, in order.
async fn all(log: &dyn EventLog) -> Vec<Recorded> {
    let last = log.last_position().await.unwrap();
    let mut subscription = log.subscribe(Filter::All, 0).await.unwrap();
    let mut commits = Vec::new();
    while commits.last().map_or(0, |it: &Recorded| it.position) < last {
        commits.push(subscription.next_commit().await.unwrap().unwrap());
    }
    commits
}

/// The log as an administrator could have made it: `change` gives another payload, or none to leave the commit out. All hashes are right.
async fn rebuilt(
    world: &World,
    change: impl Fn(&Recorded) -> Option<Vec<u8>>,
) -> Arc<dyn EventLog> {
    let log = Memory::new();
    for commit in all(&*world.log).await {
        let Some(payload) = change(&commit) else {
            continue;
        };
        let payload = payload.into();
        let head = log.head(&commit.stream).await.unwrap();
        let id = commit.commit_id;
        log.append(&commit.stream, head, NewCommit { id, payload })
            .await
            .unwrap();
    }
    Arc::new(log)
}

/// Signals about the event log that stand in it.
async fn signals(log: &dyn EventLog) -> Vec<SignalReported> {
    all(log)
        .await
        .iter()
        .filter(|commit| commit.stream.category() == "signal")
        .flat_map(|commit| sealwarden_engine::decode(commit).unwrap().events)
        .filter_map(|event| match event.kind {
            Some(Kind::SignalReported(reported)) => Some(reported),
            _ => None,
        })
        .collect()
}

async fn one_life(world: &World, log: &Arc<dyn EventLog>) {
    world.live(Arc::clone(log)).await.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_are_sealed_and_kept_when_they_changed_and_survive_a_restart() {
    let mut world = quiet();
    let at = announce(&world, "n-1", "https://one").await;
    one_life(&world, &world.log).await;
    let first = kept(&world);
    let names: Vec<&str> = first.keys().map(String::as_str).collect();
    assert_eq!(names, ["0000000001.seal", "0000000001.txt"]);

    let text = &first["0000000001.txt"];
    let head = world.log.head(&"node/n-1".parse().unwrap()).await.unwrap();
    let line = format!("\nnode/n-1 {at} sha256:{}\n", hex::encode(head.hash));
    assert!(
        text.starts_with("sealwarden heads v1\ninstallation: acme\nenvironment: drill\ntime: ")
    );
    assert!(text.contains(&line), "{text}");
    let seal = Seal::parse(first["0000000001.seal"].as_bytes()).unwrap();
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    assert_eq!(seal.record.digest, digest.as_ref());
    let vkey = evidence_log_vkey(BASE, &world.signing_vkey().await).unwrap();
    assert!(seal.note.verify(&[vkey]).is_ok());
    let evidence_log = world.dir.path().join("executor/evidence-log");
    let report = check(&evidence_log, &CheckOptions::default(), &mut |_, _| {}).unwrap();
    assert!(report.is_intact() && report.size == 1, "{report:?}");

    one_life(&world, &world.log).await;
    assert_eq!(kept(&world), first, "nothing changed, nothing is written");

    world.config.heads_interval_ms = 10;
    let life = world.live(Arc::clone(&world.log)).await;
    let at = announce(&world, "n-1", "https://two").await;
    let line = format!("\nnode/n-1 {at} sha256:");
    soon(async {
        while !kept(&world).values().any(|text| text.contains(&line)) {
            // bounded poll: a file that is written tells nobody
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    life.die().await;
    let later = kept(&world);
    assert!(first.iter().all(|(name, text)| later[name] == *text));
    one_life(&world, &world.log).await;
    assert_eq!(signals(&*world.log).await, [], "this history only grew");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_changed_under_a_chain_of_its_own_is_found_named_and_reported_once() {
    let world = quiet();
    announce(&world, "n-1", "https://one").await;
    let at = announce(&world, "n-2", "https://two").await;
    announce(&world, "n-1", "https://three").await;
    one_life(&world, &world.log).await;
    let sealed = kept(&world);
    let was = world.log.head(&"node/n-2".parse().unwrap()).await.unwrap();

    let rewritten = rebuilt(&world, |commit| {
        let mine = commit.position == at;
        Some(if mine {
            let forged = [announced("n-2", "https://forged")];
            encode(
                commit.commit_id,
                &commit.stream,
                &Meta::node("test"),
                &forged,
            )
            .to_vec()
        } else {
            commit.payload.to_vec()
        })
    })
    .await;
    let is = rewritten.head(&"node/n-2".parse().unwrap()).await.unwrap();
    assert_eq!((is.position, is.hash == was.hash), (was.position, false));
    one_life(&world, &rewritten).await;
    one_life(&world, &rewritten).await;

    let reported = signals(&*rewritten).await;
    assert_eq!(reported.len(), 1, "{reported:?}");
    let signal = &reported[0];
    assert!(signal.proven && signal.log.is_empty() && signal.origin.is_empty());
    assert_eq!(
        (signal.class.as_str(), signal.subject.as_str()),
        ("data-integrity", "event log acme")
    );
    let named = |head: Head| {
        format!(
            "sha256:{}, at position {at} of node/n-2.",
            hex::encode(head.hash)
        )
    };
    assert!(signal.seen.ends_with(&named(is)), "{}", signal.seen);
    assert!(
        signal.expected.contains(&hex::encode(was.hash)),
        "{}",
        signal.expected
    );
    let evidence = String::from_utf8(signal.evidence.to_vec()).unwrap();
    let (text, seal) = evidence.split_once("\n\n").unwrap();
    assert_eq!(format!("{text}\n"), sealed["0000000001.txt"]);
    assert_eq!(seal, sealed["0000000001.seal"]);
    assert_eq!(
        kept(&world).len(),
        4,
        "the signal's own stream is in new heads"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_were_cut_off_and_heads_that_were_changed_are_found() {
    let world = quiet();
    announce(&world, "n-1", "https://one").await;
    one_life(&world, &world.log).await;
    let at = announce(&world, "n-1", "https://two").await;
    one_life(&world, &world.log).await;
    let cut = rebuilt(&world, |commit| {
        (commit.position < at).then(|| commit.payload.to_vec())
    })
    .await;
    one_life(&world, &cut).await;
    let reported = signals(&*cut).await;
    let seen = &reported[0].seen;
    assert!(
        seen.contains(&format!("no commit at position {at} of node/n-1")),
        "{seen}"
    );

    // The newest heads do not hold any more: that is told, and those before them serve.
    let newest = world
        .dir
        .path()
        .join("executor/evidence-log/heads/0000000003.txt");
    let changed = fs::read_to_string(&newest).unwrap().replace("acme", "acne");
    fs::write(&newest, changed).unwrap();
    one_life(&world, &cut).await;
    let told: Vec<(bool, String)> = signals(&*cut)
        .await
        .into_iter()
        .map(|it| (it.proven, it.seen))
        .collect();
    assert!(
        told.iter()
            .any(|(proven, seen)| !proven && seen.contains("0000000003.txt")),
        "{told:?}"
    );
    assert!(
        told.iter()
            .any(|(proven, seen)| *proven && seen.contains("node/n-1")),
        "{told:?}"
    );
}
