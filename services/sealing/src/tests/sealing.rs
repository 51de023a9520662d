//! Sealing, reading, recovering.

use super::rig::{ORIGIN, Rig, World, called_by, soon};
use sealwarden_keys::faults::Fault;
use sealwarden_pki::CallerRole;
use sealwarden_seal::merkle::{Hash, verify_inclusion};
use sealwarden_seal::record::entry_leaf_hash;
use sealwarden_seal::seal::Seal;
use sealwarden_wire::seal::v1::sealing_server::Sealing as _;
use sealwarden_wire::seal::v1::{
    ExportSealsRequest, FindAffectedRequest, GetSealRequest, SealRequest, StatusRequest,
};
use std::collections::BTreeSet;
use tokio_stream::StreamExt as _;
use tonic::Code;

fn check(seal: &Seal, rig: &Rig) {
    let tree = rig.service.tree(ORIGIN).unwrap();
    seal.note.verify(std::slice::from_ref(&tree.vkey)).unwrap();
    let checkpoint = seal.checkpoint().unwrap();
    assert_eq!(checkpoint.origin, ORIGIN);
    let leaf = entry_leaf_hash(&seal.nonce, &seal.record.encode().unwrap());
    let (size, root) = (checkpoint.size, checkpoint.root);
    verify_inclusion(&leaf, seal.index, size, &seal.proof, &root).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_caller_of_a_batch_gets_a_seal_that_proves_itself_and_was_intended() {
    let world = World::new();
    let rig = std::sync::Arc::new(Rig::open(&world).await);
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..60 {
        let rig = std::sync::Arc::clone(&rig);
        callers.spawn(async move { rig.sealed(number).await });
    }
    let seals = soon(callers.join_all()).await;
    let indexes: BTreeSet<_> = seals.iter().map(|seal| seal.index).collect();
    assert_eq!(indexes, (0..60).collect(), "each has a place of its own");
    let published = |log: &sealwarden_domain::log_control::LogControl| {
        log.current()
            .filter(|origin| origin.published_size == 60)
            .cloned()
    };
    let origin = rig.until(published).await;
    assert_eq!(origin.intents.last_size(), Some(60));
    for seal in &seals {
        check(seal, &rig);
        let checkpoint = seal.checkpoint().unwrap();
        let intent = origin.intents.get(checkpoint.size).unwrap();
        assert_eq!(
            intent.root, checkpoint.root.0,
            "what was signed was intended"
        );
        assert_eq!(
            origin.intents.message_sha256(checkpoint.size).unwrap(),
            Hash::of(seal.note.text().as_bytes()).0
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn seals_are_read_exported_and_counted() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    for number in 0..3 {
        rig.sealed(number).await;
    }
    let get = |index| GetSealRequest {
        origin: ORIGIN.to_owned(),
        index,
        follow: true,
    };
    let got = rig
        .grpc
        .get_seal(called_by(CallerRole::Sealer, get(1)))
        .await
        .unwrap()
        .into_inner();
    let seal = Seal::parse(&got.seal).unwrap();
    assert_eq!((got.index, seal.record.digest), (1, [1; 32]));
    check(&seal, &rig);
    let missing = rig
        .grpc
        .get_seal(called_by(CallerRole::Sealer, get(3)))
        .await
        .unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);

    let export = ExportSealsRequest {
        origin: ORIGIN.to_owned(),
    };
    let refused = rig
        .grpc
        .export_seals(called_by(CallerRole::Sealer, export.clone()))
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let stream = rig
        .grpc
        .export_seals(called_by(CallerRole::Node, export))
        .await
        .unwrap();
    let all: Vec<_> = soon(stream.into_inner().collect()).await;
    let indexes: Vec<_> = all.into_iter().map(|seal| seal.unwrap().index).collect();
    assert_eq!(indexes, [0, 1, 2]);

    let second_intent = rig
        .until(|log| log.current()?.intents.get(2).map(|it| it.at_ms))
        .await;
    let affected = FindAffectedRequest {
        origin: ORIGIN.to_owned(),
        compromised_since_ms: second_intent + 1,
    };
    let found = rig
        .grpc
        .find_affected(called_by(CallerRole::Operator, affected))
        .await
        .unwrap();
    let found = found.into_inner();
    assert_eq!((found.total, found.covered, found.reported), (3, 2, 1));
    assert_eq!(found.reported_indexes, [2]);

    let status = rig
        .grpc
        .status(called_by(CallerRole::Operator, StatusRequest {}))
        .await
        .unwrap();
    let status = status.into_inner();
    assert_eq!(
        (status.mode.as_str(), status.size, status.permit),
        ("open", 3, true)
    );
    let key = status
        .keys
        .iter()
        .find(|key| key.key_id == "main-1")
        .unwrap();
    assert_eq!(
        (key.origin.as_str(), key.purpose.as_str()),
        (ORIGIN, "sealing")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_and_a_wrong_role_are_refused() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    let nobody = rig
        .grpc
        .seal(tonic::Request::new(SealRequest::default()))
        .await;
    assert_eq!(nobody.unwrap_err().code(), Code::Unauthenticated);
    let verifier = called_by(CallerRole::Verifier, SealRequest::default());
    assert_eq!(
        rig.grpc.seal(verifier).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    let bad = called_by(CallerRole::Sealer, SealRequest::default());
    assert_eq!(
        rig.grpc.seal(bad).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_was_intended_and_not_signed_is_finished_after_a_crash_with_the_same_root() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    rig.sealed(1).await;
    rig.fault
        .set(Fault::Fail("the provider is away".to_owned()));
    let unknown = rig.seal(2).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unavailable);
    assert!(
        unknown
            .message()
            .contains("sealing the same digest again is safe"),
        "{unknown}"
    );
    let intended = rig
        .until(|log| log.current()?.intents.get(2).map(|it| it.root))
        .await;
    rig.crash().await;

    let rig = Rig::open(&world).await;
    let published = |log: &sealwarden_domain::log_control::LogControl| {
        (log.current()?.published_size == 2).then_some(())
    };
    rig.until(published).await;
    let view = rig.service.tree(ORIGIN).unwrap().reader.view().unwrap();
    assert_eq!(view.root_at(2).unwrap().0, intended);
    assert_eq!(rig.sealed(3).await.index, 2);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_stopped_goes_on_where_it_was_and_gives_its_permit_back() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    rig.sealed(1).await;
    let service = std::sync::Arc::clone(&rig.service);
    rig.stop().await;
    assert!(service.control.lock().await.state().grants["sealing-1"].released);
    drop(service);
    let rig = Rig::open(&world).await;
    assert_eq!(rig.sealed(2).await.index, 1);
    rig.stop().await;
}
