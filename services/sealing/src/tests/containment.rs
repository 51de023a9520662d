//! Orders: which are obeyed, and what holds then.

use super::rig::{ORIGIN, Rig, World, called_by};
use sealwarden_domain::log_control::acknowledgement_results;
use sealwarden_keys::{KeyId, KeyState};
use sealwarden_pki::CallerRole;
use sealwarden_seal::note::Note;
use sealwarden_seal::seal::Seal;
use sealwarden_wire::event::v1::DirectiveKind;
use sealwarden_wire::seal::v1::GetSealRequest;
use sealwarden_wire::seal::v1::sealing_server::Sealing as _;
use tonic::Code;

const NEXT: &str = "drill.invalid/main/2";

fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).unwrap().to_string()
}

fn isolation(world: &World, since: &str, roles: &[&str]) -> sealwarden_domain::log_control::Order {
    let inputs = [
        ("log", "main"),
        ("origin", ORIGIN),
        ("compromised-since", since),
    ];
    world.order(DirectiveKind::IsolateKey, "isolate", &inputs, roles)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_without_its_approvals_is_refused_and_sealing_goes_on() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    let since = time(1_700_000_000_000);
    let reason = rig.issue(isolation(&world, &since, &[])).await.unwrap_err();
    assert!(reason.contains("quorum"), "{reason}");
    let mut half = isolation(&world, &since, &["security-lead"]);
    half.step = "isolate-2".to_owned();
    rig.issue(half).await.unwrap_err();
    let mut altered = isolation(&world, &since, &["security-lead", "on-call-sre"]);
    altered.step = "isolate-3".to_owned();
    let reason = rig.issue(altered).await.unwrap_err();
    assert!(reason.contains("wrong-step"), "{reason}");
    rig.ready().await;
    rig.sealed(1).await;
    let info = rig
        .node
        .keys
        .info(&KeyId::new("main-1").unwrap())
        .await
        .unwrap();
    assert_eq!(info.state, KeyState::Active);
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_mode_refuses_callers_with_the_incident_until_it_is_lifted() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    rig.sealed(1).await;
    let approvers = ["security-lead", "on-call-sre"];
    let order = world.order(
        DirectiveKind::ReadOnly,
        "read-only",
        &[("log", "main")],
        &approvers,
    );
    rig.issue(order.clone()).await.unwrap();
    let status = rig.seal(2).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("I-1"), "{status}");
    let order = world.order(
        DirectiveKind::Open,
        "resume",
        &[("log", "main")],
        &approvers,
    );
    rig.issue(order).await.unwrap();
    rig.ready().await;
    assert_eq!(rig.sealed(3).await.index, 1);
}

/// How far the event log says that the origin is published, now.
async fn recorded_size(rig: &Rig) -> u64 {
    rig.until(|log| Some(log.origin(ORIGIN)?.published_size))
        .await
}

/// Erases the one record of this document.
async fn erase(rig: &Rig, number: u8) {
    let request = sealwarden_wire::seal::v1::ErasureRequest {
        tenant: "default".to_owned(),
        digest: vec![number; 32].into(),
        reason: "case 7".to_owned(),
        ..Default::default()
    };
    assert_eq!(rig.erase(request).await.unwrap().leaves, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_compromise_what_was_covered_is_sealed_again_in_a_new_origin() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    for number in 0..4 {
        rig.sealed(number).await;
    }
    erase(&rig, 0).await;
    let third = rig
        .until(|log| log.current()?.intents.get(3).map(|it| it.at_ms))
        .await;
    let since = time(third + 1);
    let sre = ["security-lead", "on-call-sre"];
    let order = world.order(
        DirectiveKind::ReadOnly,
        "read-only",
        &[("log", "main")],
        &sre,
    );
    rig.issue(order).await.unwrap();

    let note = rig.issue(isolation(&world, &since, &sre)).await.unwrap();
    let note = Note::parse(note.as_bytes()).unwrap();
    note.verify(std::slice::from_ref(&rig.node.vkey)).unwrap();
    let results = acknowledgement_results(note.text());
    assert!(
        results["provider"].starts_with("cannot disable every copy"),
        "{results:?}"
    );
    assert_eq!(results["size"], "4");
    // Recorded before it was acknowledged: the trust bundle that freezes the log rests on it.
    assert_eq!(recorded_size(&rig).await, 4);
    let info = rig
        .node
        .keys
        .info(&KeyId::new("main-1").unwrap())
        .await
        .unwrap();
    assert_eq!(info.state, KeyState::Disabled);

    let owner = ["security-lead", "product-owner"];
    let inputs = [("log", "main"), ("origin", ORIGIN)];
    let order = world.order(DirectiveKind::RotateOrigin, "rotate", &inputs, &owner);
    let note = rig.issue(order).await.unwrap();
    assert_eq!(acknowledgement_results(&note)["origin"], NEXT);

    let compliance = ["security-lead", "compliance-owner"];
    let inputs = [
        ("log", "main"),
        ("origin", ORIGIN),
        ("into", NEXT),
        ("compromised-since", since.as_str()),
    ];
    let order = world.order(DirectiveKind::Reseal, "reseal", &inputs, &compliance);
    let note = rig.issue(order.clone()).await.unwrap();
    let results = acknowledgement_results(&note);
    assert_eq!(
        (results["resealed"].as_str(), results["reported"].as_str()),
        ("2", "2")
    );
    assert_eq!(results["erased"], "1", "what is gone is reported");
    assert_eq!(
        rig.seal(9).await.unwrap_err().code(),
        Code::FailedPrecondition
    );

    let order = world.order(DirectiveKind::Open, "resume", &[("log", "main")], &sre);
    rig.issue(order).await.unwrap();
    rig.ready().await;
    assert_eq!(rig.sealed(9).await.checkpoint().unwrap().origin, NEXT);

    let follow = |index| {
        let request = GetSealRequest {
            origin: ORIGIN.to_owned(),
            index,
            follow: true,
        };
        rig.grpc.get_seal(called_by(CallerRole::Operator, request))
    };
    let again = follow(1).await.unwrap().into_inner();
    let seal = Seal::parse(&again.seal).unwrap();
    assert_eq!((again.origin.as_str(), seal.record.digest), (NEXT, [1; 32]));
    let original = seal.record.original.unwrap();
    assert_eq!((original.origin.as_str(), original.index), (ORIGIN, 1));
    assert_eq!(
        follow(3).await.unwrap().into_inner().origin,
        ORIGIN,
        "a reported one is not"
    );

    rig.stop().await;
    let rig = Rig::open(&world).await;
    let request = GetSealRequest {
        origin: ORIGIN.to_owned(),
        index: 2,
        follow: true,
    };
    let again = rig
        .grpc
        .get_seal(called_by(CallerRole::Operator, request))
        .await
        .unwrap();
    assert_eq!(
        again.into_inner().origin,
        NEXT,
        "the index is rebuilt from the records"
    );
    assert_eq!(rig.sealed(10).await.checkpoint().unwrap().size, 4);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resealing_that_a_crash_cut_seals_nothing_twice() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    for number in 0..3 {
        rig.sealed(number).await;
    }
    let last = rig
        .until(|log| log.current()?.intents.get(3).map(|it| it.at_ms))
        .await;
    let since = time(last + 1);
    let sre = ["security-lead", "on-call-sre"];
    rig.issue(isolation(&world, &since, &sre)).await.unwrap();
    let inputs = [("log", "main"), ("origin", ORIGIN)];
    let owner = ["security-lead", "product-owner"];
    rig.issue(world.order(DirectiveKind::RotateOrigin, "rotate", &inputs, &owner))
        .await
        .unwrap();
    rig.ready().await;

    rig.fault
        .set(sealwarden_keys::faults::Fault::Fail("away".to_owned()));
    let inputs = [
        ("log", "main"),
        ("origin", ORIGIN),
        ("into", NEXT),
        ("compromised-since", since.as_str()),
    ];
    let compliance = ["security-lead", "compliance-owner"];
    let order = world.order(DirectiveKind::Reseal, "reseal", &inputs, &compliance);
    rig.command(sealwarden_domain::log_control::Command::Issue(order))
        .await;
    rig.until(|log| log.current()?.intents.get(3).map(drop))
        .await;
    rig.crash().await;

    let rig = Rig::start(&world).await;
    let acknowledged = |log: &sealwarden_domain::log_control::LogControl| {
        let epoch = log.ordered("R-1", "reseal", 0)?;
        log.directives[&epoch]
            .acks
            .get("sealing-1")
            .map(|ack| ack.note.clone())
    };
    let note = rig.until(acknowledged).await;
    assert_eq!(acknowledgement_results(&note)["resealed"], "3");
    let view = rig.service.tree(NEXT).unwrap().reader.view().unwrap();
    assert_eq!(view.size(), 3, "each is there once");
    rig.stop().await;
}
