//! The C2SP witness over HTTP.

use sealwarden_seal::cosignature::merge_answer;
use sealwarden_seal::merkle::{Hash, MemoryTree};
use sealwarden_seal::note::VerifierKey;
use sealwarden_seal::witness::AddCheckpoint;
use sealwarden_verification::Config;
use sealwarden_wire::event::v1::event::Kind;

use crate::support::{Answer, ORIGIN, World, soon};

const TEXT: &str = "text/plain; charset=utf-8";

/// Leaves 0..3 and 0..5 intended.
async fn world() -> World {
    let world = World::with_leaves(6).await;
    world.intend(3).await;
    world.intend(5).await;
    world
}

fn status(answer: &Answer) -> u16 {
    assert_eq!(
        answer.content_type,
        if answer.status == 409 {
            "text/x.tlog.size"
        } else {
            TEXT
        }
    );
    answer.status
}

#[tokio::test]
async fn it_cosigns_what_extends_the_log() {
    let world = world().await;
    let service = world.start().await;
    let vkey = service.witness_vkey().await;
    assert_eq!(vkey.name(), "verification-1.witness.test");
    for (old, new) in [(0, 3), (3, 5), (5, 5)] {
        let answer = service.post(world.request(old, new)).await;
        assert_eq!(status(&answer), 200, "{answer:?}");
        let mut note = world.signed(new);
        assert_eq!(
            merge_answer(&mut note, answer.body.as_bytes(), &vkey),
            Ok(1)
        );
        assert_eq!(note.verify(&[world.vkey(), vkey.clone()]).unwrap().len(), 2);
    }
    service.stop().await;
}

#[tokio::test]
async fn a_second_key_cosigns_beside_the_first_and_goes_on_to() {
    let world = world().await;
    let service = world.start().await;
    let first = service.witness_vkey().await;
    assert_eq!(service.post(world.request(0, 3)).await.status, 200);
    service.stop().await;
    let config = Config {
        post_quantum: true,
        ..Config::default()
    };
    // An older witness keeps its key and its state; the new key stands behind it, and stays when the setting goes.
    let mut known = Vec::new();
    for (config, old, new) in [(config, 3, 5), (Config::default(), 5, 5)] {
        let service = world.try_start(config).await.unwrap();
        let keys = service.witness_vkeys().await;
        assert_eq!((keys.len(), &keys[0]), (2, &first));
        assert_eq!(keys[1].name(), first.name());
        assert!(matches!(keys[1].key(), VerifierKey::MlDsa44(_)));
        assert!(known.is_empty() || known == keys);
        let answer = service.post(world.request(old, new)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let mut note = world.signed(new);
        for key in &keys {
            let merged = merge_answer(&mut note, answer.body.as_bytes(), key);
            assert_eq!(merged, Ok(1), "{key}");
        }
        let times = note.verify(&keys).unwrap();
        assert_eq!(times.len(), 2);
        assert!(times[0].time_s.is_some() && times[0].time_s == times[1].time_s);
        known = keys;
        service.stop().await;
    }
}

#[tokio::test]
async fn each_refusal_has_its_status() {
    let world = world().await;
    let service = world.start().await;
    assert_eq!(status(&service.post(world.request(0, 3)).await), 200);
    assert_eq!(status(&service.post("rubbish").await), 400);
    let exceeds = AddCheckpoint {
        old_size: 9,
        proof: Vec::new(),
        note: world.signed(5),
    };
    assert_eq!(status(&service.post(exceeds.to_text()).await), 400);
    let mut other = world.checkpoint(5);
    other.origin = "elsewhere.example/main/1".to_owned();
    let unknown = AddCheckpoint {
        old_size: 0,
        proof: Vec::new(),
        note: world.sign(&other),
    };
    assert_eq!(status(&service.post(unknown.to_text()).await), 404);
    let request = world.request(3, 5);
    let broken = request.replacen("5\n", "4\n", 1);
    assert_ne!(broken, request);
    assert_eq!(status(&service.post(broken).await), 403);
    let unsigned = request.replace(&format!("\u{2014} {ORIGIN} "), "\u{2014} somebody ");
    assert_eq!(status(&service.post(unsigned).await), 403);
    let stale = service.post(world.request(0, 5)).await;
    assert_eq!((status(&stale), stale.body.as_str()), (409, "3\n"));
    let bad_proof = AddCheckpoint {
        old_size: 3,
        proof: vec![Hash([1; 32])],
        note: world.signed(5),
    };
    assert_eq!(status(&service.post(bad_proof.to_text()).await), 422);
    // A mistaken proof of the log's own checkpoint accuses nobody.
    service.stop().await;
    assert_eq!(world.sighted().await, 0);
}

#[tokio::test]
async fn too_large_a_request_is_not_read() {
    let world = world().await;
    let service = world.start().await;
    assert_eq!(status(&service.post("x".repeat(2 << 20)).await), 413);
    service.stop().await;
}

#[tokio::test]
async fn what_was_cosigned_is_stored_before_the_answer_and_stands_after_a_restart() {
    let world = world().await;
    let service = world.start().await;
    assert_eq!(service.post(world.request(0, 3)).await.status, 200);
    let stored = std::fs::read_to_string(world.data().join("witness.json")).unwrap();
    assert!(
        stored.contains(ORIGIN) && stored.contains("\"size\": 3"),
        "{stored}"
    );
    let vkey = service.witness_vkey().await;
    service.stop().await;
    let service = world.start().await;
    assert_eq!(service.witness_vkey().await, vkey);
    let stale = service.post(world.request(0, 5)).await;
    assert_eq!((stale.status, stale.body.as_str()), (409, "3\n"));
    assert_eq!(service.post(world.request(3, 5)).await.status, 200);
    service.stop().await;
}

#[tokio::test]
async fn a_witness_that_lost_its_state_does_not_start() {
    let world = world().await;
    world.start().await.stop().await;
    std::fs::remove_file(world.data().join("witness.json")).unwrap();
    let error = world.try_start(Config::default()).await.err().unwrap();
    assert!(
        error.to_string().contains("lost what it cosigned"),
        "{error}"
    );
}

#[tokio::test]
async fn a_forgery_that_extends_our_tree_is_refused_kept_and_reported_once() {
    let world = world().await;
    let service = world.start().await;
    assert_eq!(service.post(world.request(0, 5)).await.status, 200);
    // Leaf 5 is the thief's: the proof is good, the signature is the log's, and nobody intended it.
    let forged = world.request(5, 6);
    for _ in 0..2 {
        let answer = service.post(forged.clone()).await;
        assert_eq!(status(&answer), 403);
        assert!(answer.body.contains("no intent"), "{}", answer.body);
    }
    // The same checkpoint with somebody's signature beside the log's is the same.
    assert_eq!(
        service
            .post(format!("{forged}\u{2014} somebody AAAAAAAA\n"))
            .await
            .status,
        403
    );
    let id = Hash::of(world.signed(6).to_string().as_bytes()).to_string();
    let kept = std::fs::read_to_string(world.data().join("refused").join(&id)).unwrap();
    assert_eq!(kept, world.signed(6).to_string());
    wait_for_sightings(&world, 1).await;
    service.stop().await;
    let service = world.start().await;
    assert_eq!(service.post(forged).await.status, 403);
    // A later sighting is told after everything before it.
    assert_eq!(service.post(contradiction(&world, 5, 7)).await.status, 422);
    wait_for_sightings(&world, 2).await;
    service.stop().await;
    let sighting = |kind| {
        if let Kind::CheckpointSighted(e) = kind {
            Some(e)
        } else {
            None
        }
    };
    let sighted: Vec<_> = world
        .events()
        .await
        .into_iter()
        .filter_map(sighting)
        .collect();
    assert_eq!(sighted.len(), 2);
    assert_eq!(
        (sighted[0].source.as_str(), sighted[0].seen_by.as_str()),
        ("witness", "verification-1")
    );
    assert_eq!(sighted[0].note, world.signed(6).to_string().into_bytes());
}

/// A second root for a size, signed by the log's key.
fn contradiction(world: &World, size: u64, salt: u8) -> String {
    let mut other = MemoryTree::new();
    for n in 0..u8::try_from(size).unwrap() {
        other.push(Hash([n ^ salt; 32]));
    }
    let mut checkpoint = world.checkpoint(size);
    checkpoint.root = other.root();
    AddCheckpoint {
        old_size: size,
        proof: Vec::new(),
        note: world.sign(&checkpoint),
    }
    .to_text()
}

async fn wait_for_sightings(world: &World, count: usize) {
    let enough = async {
        let log = world.log();
        let filter = sealwarden_eventlog::Filter::Category("sighting".to_owned());
        let mut subscription = log.subscribe(filter, 0).await.unwrap();
        for _ in 0..count {
            subscription.next_commit().await.unwrap().unwrap();
        }
    };
    soon(enough).await;
}

#[tokio::test]
async fn without_the_event_log_it_cosigns_what_it_knows_and_keeps_what_contradicts() {
    let world = world().await;
    let service = world.start().await;
    service
        .until(|i| {
            i.logs
                .get("main")
                .filter(|log| log.origins[0].intents.len() == 2)
                .map(drop)
        })
        .await;
    assert_eq!(service.post(world.request(0, 3)).await.status, 200);
    world.log.set_down(true);
    assert_eq!(service.post(world.request(3, 6)).await.status, 503);
    assert_eq!(service.post(world.request(3, 5)).await.status, 200);
    assert_eq!(service.post(contradiction(&world, 5, 9)).await.status, 422);
    let kept = std::fs::read_dir(world.data().join("refused"))
        .unwrap()
        .count();
    assert_eq!(kept, 2, "the note and its details");
    world.log.set_down(false);
    wait_for_sightings(&world, 1).await;
    service.stop().await;
}

#[tokio::test]
async fn a_flood_of_forgeries_fills_neither_disk_nor_log() {
    let world = world().await;
    let config = Config {
        max_sightings_per_origin: 3,
        ..Config::default()
    };
    let service = world.try_start(config).await.unwrap();
    assert_eq!(service.post(world.request(0, 5)).await.status, 200);
    for salt in 10..30 {
        assert_eq!(
            service.post(contradiction(&world, 5, salt)).await.status,
            422
        );
    }
    wait_for_sightings(&world, 3).await;
    service.stop().await;
    assert_eq!(world.sighted().await, 3);
    assert_eq!(
        std::fs::read_dir(world.data().join("refused"))
            .unwrap()
            .count(),
        6
    );
}
