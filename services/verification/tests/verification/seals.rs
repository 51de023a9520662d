//! Verdicts over gRPC, and the trust bundle they rest on.

use sealwarden_seal::cosignature::merge_answer;
use sealwarden_seal::merkle::Hash;
use sealwarden_seal::note::Note;
use sealwarden_seal::trust::TrustBundle;
use sealwarden_wire::verify::v1::{GetTrustRequest, VerifyRequest, VerifyResponse};
use tokio_stream::StreamExt as _;
use tonic::{Code, Request};

use crate::bundle::{bundle, publish, publish_bytes, suspend};
use crate::support::{Service, World, by, now_ms, soon};

/// A world with a published bundle, and the note of size 3, cosigned.
async fn ready() -> (World, Service, Note) {
    let world = World::with_leaves(6).await;
    world.intend(3).await;
    let service = world.start().await;
    let vkey = service.witness_vkey().await;
    let version = publish(&world, &bundle(&world, Some(vkey.clone()), 1, None), 1).await;
    soon(service.node.board.reached(version)).await;
    let answer = service.post(world.request(0, 3)).await;
    let mut note = world.signed(3);
    merge_answer(&mut note, answer.body.as_bytes(), &vkey).unwrap();
    (world, service, note)
}

async fn verify(service: &mut Service, seal: Vec<u8>, digest: &[u8]) -> VerifyResponse {
    let request = VerifyRequest {
        seal: seal.into(),
        digest: digest.to_vec().into(),
        anchors: Vec::new().into(),
    };
    soon(service.client.verify(by(request)))
        .await
        .unwrap()
        .into_inner()
}

#[tokio::test]
async fn the_right_document_is_valid_and_each_fault_has_its_verdict() {
    let (world, mut service, note) = ready().await;
    let valid = verify(&mut service, world.seal(1, &note), &[1; 32]).await;
    assert_eq!(
        (valid.verdict.as_str(), valid.index, valid.trust_version),
        ("valid", 1, 1),
        "{}",
        valid.reason
    );
    assert!(valid.witnesses[0].local && !valid.sealed_at.is_empty());
    let alone = verify(&mut service, world.seal(1, &note), &[]).await;
    assert_eq!(alone.verdict, "valid");
    let other = verify(&mut service, world.seal(1, &note), &[2; 32]).await;
    assert_eq!(other.verdict, "document-mismatch");
    let unwitnessed = verify(&mut service, world.seal(1, &world.signed(3)), &[1; 32]).await;
    assert_eq!(unwitnessed.verdict, "unwitnessed");
    let text = String::from_utf8(world.seal(1, &note)).unwrap();
    let moved = verify(
        &mut service,
        text.replace("index 1\n", "index 2\n").into_bytes(),
        &[1; 32],
    )
    .await;
    assert_eq!(moved.verdict, "bad-proof");
    let changed = verify(
        &mut service,
        text.replace("\n3\n", "\n4\n").into_bytes(),
        &[1; 32],
    )
    .await;
    assert_eq!(changed.verdict, "bad-signature");
    let elsewhere = verify(
        &mut service,
        text.replace("seal.example.com/main/1\n3", "other.example/1\n3")
            .into_bytes(),
        &[1; 32],
    );
    assert_eq!(elsewhere.await.verdict, "unknown-log");
    assert_eq!(
        verify(&mut service, b"rubbish".to_vec(), &[]).await.verdict,
        "malformed"
    );
    assert_eq!(
        verify(&mut service, vec![b'x'; 300 * 1024], &[])
            .await
            .verdict,
        "malformed"
    );
    service.stop().await;
    assert_eq!(world.sighted().await, 0);
}

#[tokio::test]
async fn a_seal_under_a_root_that_was_never_intended_is_suspect_and_reported_once() {
    let (world, mut service, _) = ready().await;
    let forged = world.seal(5, &world.signed(6));
    for _ in 0..2 {
        let answer = verify(&mut service, forged.clone(), &[5; 32]).await;
        assert_eq!(answer.verdict, "suspect");
        assert!(
            answer.reason.contains("never intended"),
            "{}",
            answer.reason
        );
    }
    let filter = sealwarden_eventlog::Filter::Category("sighting".to_owned());
    let mut sightings = world.log().subscribe(filter, 0).await.unwrap();
    soon(sightings.next_commit()).await.unwrap().unwrap();
    // What is intended a moment later is compared with the newest events, not with an older view.
    world.intend(4).await;
    assert_eq!(
        verify(&mut service, world.seal(3, &world.signed(4)), &[3; 32])
            .await
            .verdict,
        "unwitnessed"
    );
    service.stop().await;
    assert_eq!(world.sighted().await, 1);
}

#[tokio::test]
async fn bad_requests_and_strangers_are_refused() {
    let (world, mut service, note) = ready().await;
    let request = VerifyRequest {
        seal: world.seal(1, &note).into(),
        digest: vec![1; 20].into(),
        anchors: Vec::new().into(),
    };
    let short = soon(service.client.verify(by(request.clone())))
        .await
        .unwrap_err();
    assert_eq!(short.code(), Code::InvalidArgument);
    assert!(short.message().contains("20 bytes"), "{}", short.message());
    assert_eq!(
        soon(service.client.verify(request))
            .await
            .unwrap_err()
            .code(),
        Code::Unauthenticated
    );
    let stranger = soon(service.client.get_trust(GetTrustRequest {}))
        .await
        .unwrap_err();
    assert_eq!(stranger.code(), Code::Unauthenticated);
    let stream = tokio_stream::iter(Vec::<VerifyRequest>::new());
    let stranger = soon(service.client.verify_stream(stream))
        .await
        .err()
        .unwrap();
    assert_eq!(stranger.code(), Code::Unauthenticated);
    let huge = VerifyRequest {
        seal: vec![b'x'; 5 << 20].into(),
        ..VerifyRequest::default()
    };
    assert_eq!(
        soon(service.client.verify(by(huge)))
            .await
            .unwrap_err()
            .code(),
        Code::OutOfRange
    );
    service.stop().await;
}

#[tokio::test]
async fn a_stream_is_answered_in_order() {
    let (world, mut service, note) = ready().await;
    let requests: Vec<VerifyRequest> = (0..60_u8)
        .map(|n| VerifyRequest {
            seal: world.seal(n % 3, &note).into(),
            digest: vec![1; 32].into(),
            anchors: Vec::new().into(),
        })
        .collect();
    let answers = soon(
        service
            .client
            .verify_stream(by(tokio_stream::iter(requests))),
    )
    .await
    .unwrap();
    let answers: Vec<VerifyResponse> =
        soon(answers.into_inner().map(Result::unwrap).collect()).await;
    assert_eq!(answers.len(), 60);
    for (n, answer) in (0..60_u64).zip(&answers) {
        assert_eq!(answer.index, n % 3);
        assert_eq!(
            answer.verdict,
            if n % 3 == 1 {
                "valid"
            } else {
                "document-mismatch"
            }
        );
    }
    service.stop().await;
}

#[tokio::test]
async fn without_a_bundle_nothing_is_verified() {
    let world = World::with_leaves(1).await;
    let mut service = world.start().await;
    let status = soon(service.client.verify(by(VerifyRequest::default())))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(
        soon(service.client.get_trust(by(GetTrustRequest {})))
            .await
            .unwrap_err()
            .code(),
        Code::Unavailable
    );
    service.stop().await;
}

async fn trust(service: &mut Service) -> (TrustBundle, u64) {
    let answer = soon(service.client.get_trust(by(GetTrustRequest {})))
        .await
        .unwrap()
        .into_inner();
    (TrustBundle::parse(&answer.bundle).unwrap(), answer.version)
}

#[tokio::test]
async fn suspensions_are_merged_into_the_bundle_and_make_seals_suspect() {
    let (world, mut service, note) = ready().await;
    let forged = suspend(&world, now_ms() - 5000, false).await;
    soon(service.node.board.reached(forged)).await;
    assert_eq!(
        trust(&mut service)
            .await
            .0
            .open(None)
            .unwrap()
            .suspensions()
            .len(),
        0
    );
    assert_eq!(
        verify(&mut service, world.seal(1, &note), &[1; 32])
            .await
            .verdict,
        "valid"
    );
    let good = suspend(&world, now_ms() - 5000, true).await;
    soon(service.node.board.reached(good)).await;
    assert_eq!(
        trust(&mut service)
            .await
            .0
            .open(None)
            .unwrap()
            .suspensions()
            .len(),
        1
    );
    let suspect = verify(&mut service, world.seal(1, &note), &[1; 32]).await;
    assert_eq!(suspect.verdict, "suspect");
    service.stop().await;
}

#[tokio::test]
async fn bundles_go_forward_only_and_only_with_good_signatures() {
    let (world, mut service, _) = ready().await;
    let (first, _) = trust(&mut service).await;
    let vkey = service.witness_vkey().await;
    let second = bundle(&world, Some(vkey.clone()), 2, Some(first.payload_digest()));
    publish(&world, &second, 2).await;
    let third = bundle(&world, Some(vkey.clone()), 3, Some(second.payload_digest()));
    let mut altered = third.to_bytes().unwrap();
    let place = altered.len() / 2;
    altered[place] ^= 1;
    let position = publish_bytes(&world, altered, 3).await;
    soon(service.node.board.reached(position)).await;
    // The last one in the log is no good: whatever was accepted before it stays.
    let (_, version) = trust(&mut service).await;
    assert!(version <= 2);
    let fourth = bundle(&world, Some(vkey), 4, Some(third.payload_digest()));
    let position = publish(&world, &fourth, 4).await;
    soon(service.node.board.reached(position)).await;
    assert_eq!(trust(&mut service).await.1, 4);
    let forked = bundle(&world, None, 5, Some(Hash([1; 32])));
    let position = publish(&world, &forked, 5).await;
    soon(service.node.board.reached(position)).await;
    assert_eq!(trust(&mut service).await.0, fourth);
    let position = publish(&world, &first, 1).await;
    soon(service.node.board.reached(position)).await;
    assert_eq!(trust(&mut service).await.0, fourth);
    service.stop().await;
}

#[tokio::test]
async fn the_last_bundle_serves_while_the_event_log_is_away() {
    let (world, mut service, note) = ready().await;
    assert_eq!(trust(&mut service).await.1, 1);
    world.log.set_down(true);
    let known = verify(&mut service, world.seal(1, &note), &[1; 32]).await;
    assert_eq!(known.verdict, "valid");
    let unknown = verify(&mut service, world.seal(1, &world.signed(6)), &[1; 32]).await;
    assert_eq!(unknown.verdict, "unwitnessed");
    assert!(
        unknown.reason.contains("cannot be consulted"),
        "{}",
        unknown.reason
    );
    service.stop().await;
    let mut service = world.start().await;
    let cached = verify(&mut service, world.seal(1, &note), &[1; 32]).await;
    assert_eq!(
        (cached.verdict.as_str(), cached.trust_version),
        ("valid", 1)
    );
    service.stop().await;
}

#[tokio::test]
async fn a_caller_needs_a_certificate_and_no_particular_role() {
    let (_world, mut service, _) = ready().await;
    let unnamed: Request<GetTrustRequest> = Request::new(GetTrustRequest {});
    assert!(soon(service.client.get_trust(unnamed)).await.is_err());
    assert!(
        soon(service.client.get_trust(by(GetTrustRequest {})))
            .await
            .is_ok()
    );
    service.stop().await;
}
