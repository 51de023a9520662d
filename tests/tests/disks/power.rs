//! The power fails: what was not made durable is gone, what was acknowledged is there. A file system in an image is told to go down without writing anything back; it then reads as a
//! disk does after the lights went out.

use std::collections::HashMap;
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sealwarden_client::{Client, Document, Stage};
use sealwarden_seal::merkle::Hash;
use sealwarden_seal::seal::Seal;
use sealwarden_tests::wait::a_while;
use sealwarden_tests::{Disk, Installation, Process, load, people, thief};
use sealwarden_wire::seal::v1::{ExportSealsRequest, sealing_client::SealingClient};
use tokio::task::JoinSet;

const MIB: u64 = 512;
/// How often the power fails while documents are sealed, and while a run goes on.
const FAILURES: [u64; 2] = [6, 10];
const CALLERS: u64 = 16;
/// How long a caller asks a service again that is gone.
const PATIENCE: Duration = Duration::from_secs(1);
const ORIGIN: &str = "seal.example.com/main/1";

/// An installation whose data lies on a disk of its own.
fn with_disk() -> (Installation, Disk) {
    let here = Installation::new();
    let disk = Disk::ext4(&here.data(), here.home(), MIB);
    (here, disk)
}

/// The tool itself: a write that nobody made durable is gone with the power, and one that was is there.
#[test]
fn the_power_takes_what_is_not_durable() {
    let (here, disk) = with_disk();
    let (kept, lost) = (here.data().join("kept"), here.data().join("lost"));
    for path in [&kept, &lost] {
        std::fs::write(path, [7; 4096]).expect("a file");
    }
    File::open(&kept)
        .and_then(|file| file.sync_all())
        .expect("a durable file");
    disk.lose_power();
    disk.regain_power();
    assert_eq!(std::fs::read(&kept).expect("the durable file"), [7; 4096]);
    assert_ne!(std::fs::read(&lost).unwrap_or_default(), [7; 4096]);
}

/// The power fails under a process, and comes back.
fn power_fails(disk: &Disk, up: Process) {
    disk.lose_power();
    up.kill();
    disk.regain_power();
}

/// Seals until the service is gone: what was acknowledged.
async fn seal_until_dark(client: Client, from: u64) -> Vec<load::Outcome> {
    let mut acknowledged = Vec::new();
    for number in from.. {
        let digest = Hash::of(&number.to_be_bytes()).0;
        let document = Document {
            wait: Stage::Sealed,
            ..Document::new(digest)
        };
        let Ok(sealwarden_client::Outcome::Sealed(sealed)) = client.seal(&document).await else {
            break;
        };
        let told = Ok(sealed.seal);
        acknowledged.push(load::Outcome { digest, told });
    }
    acknowledged
}

/// Lets callers seal, and takes the power in the middle of it.
async fn seal_and_fail(here: &Installation, disk: &Disk, round: u64) -> Vec<load::Outcome> {
    let up = here.up();
    let client =
        Client::connect(&here.address("sealing", "grpc"), &here.identity("operator")).await;
    let client = client.expect("a connection").patience(PATIENCE);
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        callers.spawn(seal_until_dark(
            client.clone(),
            (round * CALLERS + caller) << 32,
        ));
    }
    tokio::task::block_in_place(|| {
        a_while(1_000..3_000);
        power_fails(disk, up);
    });
    callers.join_all().await.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_seal_and_no_step_is_lost_with_the_power() {
    let (here, disk) = with_disk();
    let mut acknowledged = Vec::new();
    for round in 0..FAILURES[0] {
        acknowledged.extend(seal_and_fail(&here, &disk, round).await);
    }
    let count = acknowledged.len();
    assert!(count > 0, "nothing was sealed between the failures");
    println!(
        "{count} seals were acknowledged before the power failed {} times",
        FAILURES[0]
    );

    let up = here.up();
    load::must_be_valid(&acknowledged, &here.trust("trust"));
    every_leaf_is_there(&here, &acknowledged).await;
    here.call(&["log", "check"]).good();

    let stolen = thief::Thief::steals_from(&here, "sealing-1").await;
    let forged = stolen.forges(ORIGIN, 1_000_000).await;
    thief::shows_to_the_witness(&here, &forged, 0).await;
    let run = people::run_of_the_incident(&here);
    power_fails(&disk, up);
    for _ in 0..FAILURES[1] {
        let up = here.up();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    people::approve_what_waits(&here, &run, &[]);
                }
            });
            a_while(0..1_500);
            power_fails(&disk, up);
            stop.store(true, Ordering::Relaxed);
        });
    }
    let up = here.up();
    let run = people::approve_until_the_end(&here, &run);
    assert_eq!(run["state"], "completed", "{run:#}");
    here.call(&["log", "check"]).good();
    let status = here.status();
    assert_eq!(status["open_incidents"], 0, "{status:#}");
    assert!(up.terminate().success());
}

/// An acknowledged seal is no proof of itself only: the log has its leaf in its place.
async fn every_leaf_is_there(here: &Installation, acknowledged: &[load::Outcome]) {
    let mut sealing = SealingClient::new(here.connect("sealing", "operator").await);
    let request = ExportSealsRequest {
        origin: ORIGIN.to_owned(),
    };
    let answer = sealing
        .export_seals(request)
        .await
        .expect("the log's seals");
    let mut seals = answer.into_inner();
    let mut held = HashMap::new();
    while let Some(answer) = seals.message().await.expect("a seal") {
        let seal = Seal::parse(&answer.seal).expect("a seal");
        held.insert(seal.record.digest, answer.index);
    }
    for outcome in acknowledged {
        let seal = outcome.told.as_ref().expect("a seal");
        let index = Seal::parse(seal).expect("a seal").index;
        assert_eq!(
            held.get(&outcome.digest),
            Some(&index),
            "of {} leaves",
            held.len()
        );
    }
}
