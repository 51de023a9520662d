//! A process that is killed while it appends: what it acknowledged is there, and nothing torn.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use sealwarden_eventlog::{Embedded, EventLog, Head, NewCommit, Recorded};

use crate::adapters::stream;

/// Tells the child where its log is.
const FOLDER: &str = "SEALWARDEN_TEST_CRASH_FOLDER";
/// Two streams, one of them with payloads of several pieces.
const STREAMS: [(&str, usize); 2] = [("log/small", 200), ("log/large", 40_000)];

/// The child: appends for ever and prints the position of each acknowledged commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs as the child of the test below"]
async fn appends_until_killed() {
    let folder = std::env::var_os(FOLDER).expect("the parent sets the folder");
    let log = Embedded::open(Path::new(&folder)).await.unwrap();
    let append_for_ever = async |(name, bytes): (&str, usize)| {
        let name = stream(name);
        let mut head = log.head(&name).await.unwrap();
        loop {
            let new = NewCommit::new(vec![5; bytes]);
            head = log.append(&name, head, new).await.unwrap().head();
            println!("\nacknowledged {} {}", name.id(), head.position);
        }
    };
    tokio::join!(append_for_ever(STREAMS[0]), append_for_ever(STREAMS[1]));
}

/// Runs a child until it has acknowledged `count` commits, kills it, and answers the last position
/// it acknowledged in each stream.
fn run_and_kill(folder: &Path, count: usize) -> [u64; 2] {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "crash::appends_until_killed",
            "--ignored",
            "--nocapture",
        ])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut last = [0; 2];
    let mut seen = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some(acknowledged) = line.strip_prefix("acknowledged ") else {
            continue;
        };
        let (id, position) = acknowledged.split_once(' ').unwrap();
        last[usize::from(id == "large")] = position.parse().unwrap();
        seen += 1;
        if seen == count {
            // What the child still prints before it dies is read too.
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(seen >= count, "the child ended by itself");
    last
}

#[tokio::test]
async fn a_killed_process_loses_nothing_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut before = [Head::EMPTY; 2];
    for round in 0..6 {
        let dir = folder.path().to_owned();
        let acknowledged = tokio::task::spawn_blocking(move || run_and_kill(&dir, 20 + 37 * round))
            .await
            .unwrap();
        let log = Embedded::open(folder.path()).await.unwrap();
        for (which, (name, bytes)) in STREAMS.into_iter().enumerate() {
            let commits = log.read(&stream(name), 0, 1_000_000).await.unwrap();
            assert!(commits.iter().all(|commit| commit.payload.len() == bytes));
            let head = log.head(&stream(name)).await.unwrap();
            assert_eq!(commits.last().map_or(Head::EMPTY, Recorded::head), head);
            assert!(head.position >= acknowledged[which].max(before[which].position));
            before[which] = head;
        }
    }
}
