//! Sealing in bulk: over a crash nothing is lost and nothing doubled; many files at once; what goes wrong with one is said.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sealwarden_client::{Chunk, Client, Stage, Work};
use sealwarden_seal::merkle::Hash;
use sealwarden_seal::seal::Seal;
use sealwarden_tests::{Installation, wait::eventually};
use tokio::sync::mpsc;

const CHUNKS: u64 = 20;
const DIGESTS: u64 = 1_000;
/// The process is killed after this many answers.
const KILLED_AFTER: [usize; 2] = [3, 11];

fn digest(chunk: u64, place: u64) -> [u8; 32] {
    Hash::of(&(chunk * DIGESTS + place).to_be_bytes()).0
}

fn chunks() -> mpsc::Receiver<Chunk> {
    let (to, source) = mpsc::channel(20);
    for number in 0..CHUNKS {
        let chunk = Chunk {
            number,
            digests: (0..DIGESTS).map(|place| digest(number, place)).collect(),
            ..Chunk::default()
        };
        to.try_send(chunk).expect("room");
    }
    source
}

/// Seals all chunks under one id while the process is killed and started again; the seals by digest.
async fn seal_through_crashes(here: &Installation, work: &Work) -> BTreeMap<[u8; 32], Vec<u8>> {
    let mut up = here.up();
    let address = here.address("sealing", "grpc");
    let client = Client::connect(&address, &here.identity("operator")).await;
    let client = client
        .expect("a connection")
        .patience(Duration::from_mins(1));
    let (answered, mut answers) = mpsc::channel(100);
    let own = work.clone();
    let sealing = tokio::spawn(async move {
        let mut seals = BTreeMap::new();
        let done = client
            .seal_bulk(&own, chunks(), |chunk, sealed, stage| {
                // A chunk that is answered again after a crash may have its witness by then.
                assert!(
                    matches!(stage, Stage::Sealed | Stage::Witnessed),
                    "{stage:?}"
                );
                let mut digests = chunk.digests.iter();
                sealed.for_each_seal(|_, text| {
                    let digest = digests.next().expect("a digest for each seal");
                    seals.insert(*digest, text.as_bytes().to_vec());
                });
                answered.try_send(()).expect("room");
            })
            .await;
        done.expect("all is sealed in the end");
        seals
    });
    let mut count = 0;
    while answers.recv().await.is_some() {
        count += 1;
        if KILLED_AFTER.contains(&count) {
            up.kill();
            up = here.up();
            assert_eq!(here.address("sealing", "grpc"), address);
        }
    }
    let seals = sealing.await.expect("the client ends");
    assert_eq!(count, 20, "each chunk is answered once");
    drop(up);
    seals
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_digests_over_two_crashes_are_sealed_once_each() {
    let here = Installation::new();
    let work = Work {
        unanswered: 2,
        ..Work::new("acme")
    };
    let seals = seal_through_crashes(&here, &work).await;
    assert_eq!(seals.len(), 20_000);
    let mut indexes = BTreeSet::new();
    for (digest, seal) in &seals {
        let seal = Seal::parse(seal).expect("a seal");
        assert_eq!(seal.record.digest, *digest);
        assert_eq!(seal.record.tenant, "acme");
        indexes.insert(seal.index);
    }
    assert_eq!(indexes.len(), 20_000, "a place of its own for each");

    let _up = here.up();
    // The same work again, by another process: the same seals.
    let again = Client::of_installation(&here.data(), "operator").await;
    let mut same = 0;
    again
        .expect("a connection")
        .seal_bulk(&work, chunks(), |_, sealed, _| {
            sealed.for_each_seal(|index, _| same += usize::from(indexes.contains(&index)));
        })
        .await
        .expect("it is sealed already");
    assert_eq!(same, 20_000);
    let status = here.status();
    assert!(
        status.to_string().contains("20000"),
        "none doubled: {status:#}"
    );
    here.call(&["log", "check"]).good();

    // One of them as a file, with a seal as it was given out.
    let trust = here.trust("trust.json");
    let file = here.file("document", &7_u64.to_be_bytes());
    let file = file.to_str().expect("a path");
    let seal = &seals[&digest(0, 7)];
    std::fs::write(here.home().join("document.seal"), seal).expect("a seal");
    eventually("the seal is witnessed after a renewal", || {
        (here.call(&["seal", "--renew", file]).code == 0).then_some(())
    });
    let verdict = here
        .call(&["verify", file, "--trust", &trust.to_string_lossy()])
        .good();
    assert_eq!(verdict["verdict"], "valid", "{verdict:#}");
}

#[test]
fn many_files_are_sealed_in_bulk_and_what_fails_is_named() {
    let here = Installation::new();
    let up = here.up();
    here.seal_eventually(&here.file("first", b"first"));
    let folder = here.home().join("files");
    std::fs::create_dir(&folder).expect("a folder");
    let mut list = String::new();
    for number in 0..3_000 {
        let name = format!("files/{number}.txt");
        let file = here.file(&name, format!("file {number}").as_bytes());
        list.extend([file.to_str().expect("a path"), "\n"]);
    }
    let missing = folder.join("missing.txt").display().to_string();
    let other = here.file("files/other.txt", b"other").display().to_string();
    std::fs::copy(
        here.home().join("first.seal"),
        folder.join("other.txt.seal"),
    )
    .expect("a copy");
    list.extend([missing.as_str(), "\n", other.as_str(), "\n"]);
    let list = here.file("list", list.as_bytes());
    let list = list.to_string_lossy();

    let answer = here
        .call(&["seal", "--from-list", &list])
        .ends_with(2)
        .json();
    let seals = answer["seals"].as_array().expect("a list");
    assert_eq!(seals.len(), 3_002);
    let failed: BTreeMap<_, _> = seals
        .iter()
        .filter_map(|it| Some((it["file"].as_str()?, it["error"].as_str()?)))
        .collect();
    assert!(
        failed[missing.as_str()].contains("cannot read"),
        "{failed:?}"
    );
    assert!(
        failed[other.as_str()].contains("other content"),
        "{failed:?}"
    );
    assert_eq!(failed.len(), 2, "the others went on");
    let witnessed = seals.iter().filter(|it| it["stage"] == "witnessed").count();
    assert_eq!(witnessed, 3_000, "{}", seals[0]);
    for number in [0, 1_234, 2_999] {
        let file = folder.join(format!("{number}.txt"));
        assert_eq!(here.verify(&file).good()["verdict"], "valid");
    }

    // Again: all are there. One that is lost is made anew.
    std::fs::remove_file(folder.join("17.txt.seal")).expect("a seal");
    let answer = here
        .call(&["seal", "--from-list", &list])
        .ends_with(2)
        .json();
    let seals = answer["seals"].as_array().expect("a list");
    let already = seals
        .iter()
        .filter(|it| it["stage"] == "already sealed")
        .count();
    assert_eq!(already, 2_999);
    drop(up);

    std::fs::remove_file(folder.join("18.txt.seal")).expect("a seal");
    here.call(&["seal", "--from-list", &list]).must_end_with(3);
}

#[test]
fn lines_of_json_are_told_as_files_are_sealed_and_wait_takes_no_file_for_a_stage() {
    let here = Installation::new();
    let _up = here.up();
    here.seal_eventually(&here.file("first", b"first"));
    let files = (0..70).map(|number| {
        let name = format!("{number}.txt");
        here.file(&name, name.as_bytes()).display().to_string()
    });
    let names: Vec<_> = files.collect();
    let mut call = vec!["seal", "--json-lines", "--wait"];
    call.extend(names.iter().map(String::as_str));
    let answer = here.call(&call).ends_with(0);
    let lines: Vec<serde_json::Value> = answer
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("a document a line"))
        .collect();
    assert_eq!(lines.len(), 70);
    assert!(
        lines.iter().all(|it| it["stage"] == "witnessed"),
        "{answer}"
    );
    let one = here.file("one", b"one");
    let one = one.to_str().expect("a path");
    here.call(&["seal", "--wait", one]).must_end_with(0);
    // The file is a file, and nothing of it waits.
    let answer = here
        .call(&["seal", "--collect", "--wait", one])
        .ends_with(2);
    assert!(
        answer.stdout.contains("one.seal.ticket does not exist"),
        "{answer}"
    );
}
