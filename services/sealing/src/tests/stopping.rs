//! What stops signing, and that it does.

use super::rig::{ORIGIN, Rig, World, soon};
use crate::stop::RETRY_AFTER;
use sealwarden_domain::log_control::Command;
use sealwarden_engine::Clock as _;
use sealwarden_keys::faults::Fault;
use sealwarden_wire::event::v1::{HoldPlaced, event::Kind};
use std::time::Duration;
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn without_a_permit_nothing_is_signed_and_the_caller_is_told_when_to_come_again() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    rig.sealed(1).await;
    rig.lifetime_ms.send_replace(0);
    world.clock.advance_ms(5_000);
    let status = rig.seal(2).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.metadata().contains_key(RETRY_AFTER), "{status}");
    assert_eq!(
        rig.service.current().unwrap().reader.view().unwrap().size(),
        1
    );
    rig.lifetime_ms.send_replace(5_000);
    rig.ready().await;
    assert_eq!(rig.sealed(3).await.index, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_stops_signing_until_it_ends() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    let now = world.clock.now().wall_ms;
    rig.command(Command::PlaceHold(HoldPlaced {
        incident: "I-7".to_owned(),
        signal: "S-7".to_owned(),
        origin: ORIGIN.to_owned(),
        reason: "a foreign checkpoint".to_owned(),
        placed_at_ms: now,
        expires_at_ms: now + 60_000,
    }))
    .await;
    let status = rig.seal(1).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("I-7"), "{status}");
    world.clock.advance_ms(60_000);
    rig.ready().await;
    rig.sealed(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_comes_after_its_permit_is_recorded_and_never_released() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    rig.sealed(1).await;
    rig.fault.set(Fault::Hang);
    let late = async {
        // Not when the intent stands: the permit is looked at between that and the key.
        soon(rig.fault.until_a_signature_hangs()).await;
        rig.lifetime_ms.send_replace(0);
        world.clock.advance_ms(10_000);
        rig.fault.set(Fault::None);
    };
    let (answer, ()) = tokio::join!(rig.seal(2), late);
    let status = answer.unwrap_err();
    assert!(status.message().contains("too late"), "{status}");
    let withheld = world
        .events("log", "main")
        .await
        .into_iter()
        .find_map(|event| match event.kind {
            Some(Kind::SignatureWithheld(withheld)) => Some(withheld),
            _ => None,
        });
    let withheld = withheld.unwrap();
    assert_eq!((withheld.size, withheld.origin.as_str()), (2, ORIGIN));
    assert_eq!(
        rig.service.current().unwrap().reader.view().unwrap().size(),
        1
    );

    rig.lifetime_ms.send_replace(5_000);
    rig.until(|log| (log.current()?.published_size == 2).then_some(()))
        .await;
    let view = rig.service.current().unwrap().reader.view().unwrap();
    assert_eq!(
        view.root_at(2).unwrap().0[..],
        withheld.root[..],
        "a size has one root"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_hangs_costs_its_deadline_and_no_more() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    rig.fault.set(Fault::Hang);
    let status = tokio::time::timeout(Duration::from_secs(6), rig.seal(1))
        .await
        .unwrap();
    assert_eq!(status.unwrap_err().code(), Code::Unavailable);
    rig.fault.set(Fault::None);
    rig.until(|log| (log.current()?.published_size == 1).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_use_of_a_sealing_key_is_in_the_event_log_even_another_process_s() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    rig.sealed(1).await;
    let thief = rig.thief(&world).await;
    let key = sealwarden_keys::KeyId::new("main-1").unwrap();
    let message = b"drill.invalid/main/1\n9\nAAAA\n";
    sealwarden_keys::KeyProvider::sign(&thief, &key, sealwarden_keys::Purpose::Sealing, message)
        .await
        .unwrap();
    let stolen = sealwarden_seal::merkle::Hash::of(message);
    let mut changes = rig.node.board.changes();
    let observed = soon(async {
        loop {
            let uses: Vec<_> = world
                .events("keyuse", "sealing-1")
                .await
                .into_iter()
                .filter_map(|event| match event.kind {
                    Some(Kind::KeyUseObserved(observed)) => Some(observed),
                    _ => None,
                })
                .collect();
            if uses.iter().any(|it| it.message_sha256[..] == stolen.0[..]) {
                return uses;
            }
            changes.changed().await.unwrap();
        }
    })
    .await;
    assert!(
        observed
            .iter()
            .all(|it| it.key_id == "main-1" && it.log == "main")
    );
    assert_eq!(
        observed.len(),
        2,
        "ours and the other one, each once, and no other key's"
    );
}
