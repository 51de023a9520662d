//! More than one key for an origin: failing over and back, planned rotation, isolation of all of them.

use super::outside::{bundle, record};
use super::pair::{HSM, SPARE};
use super::rig::{ORIGIN, Rig, World, called_by, soon};
use crate::config::Config;
use sealwarden_domain::log_control::{Origin, SignerLife, SignerState};
use sealwarden_keys::faults::Fault;
use sealwarden_keys::{KeyId, KeyState};
use sealwarden_pki::CallerRole;
use sealwarden_seal::merkle::Hash;
use sealwarden_seal::note::Vkey;
use sealwarden_seal::seal::Seal;
use sealwarden_seal::trust::LogEntry;
use sealwarden_wire::event::v1::{
    ActivationReason, DirectiveKind, Event, TrustPublished, event::Kind,
};
use sealwarden_wire::seal::v1::sealing_server::Sealing as _;
use sealwarden_wire::seal::v1::{
    FailBackRequest, KeyChangeResponse, Priority, RotateKeyRequest, SealRequest, Stage,
    StatusRequest,
};
use std::time::Duration;
use tonic::{Code, Status};

const FIRST: &str = "main-1";
const SECOND: &str = "main-1-b";

/// Both keys are there and in a published bundle.
async fn pair(world: &World) -> Rig {
    pair_with(world, Rig::config()).await
}

async fn pair_with(world: &World, config: Config) -> Rig {
    with_both(Rig::start_pair(world, config).await).await
}

async fn with_both(rig: Rig) -> Rig {
    rig.until(|log| log.current()?.signer(SECOND).map(drop))
        .await;
    rig.publish_trust(1).await;
    rig.ready().await;
    rig
}

impl Rig {
    /// Publishes a trust bundle that lists every key of the log line, as the control authority does.
    pub(super) async fn publish_trust(&self, version: u64) {
        let logs = self.node.board.read(|installation| {
            let origins = installation.logs["main"].origins.iter();
            let entry = |it: &Origin| LogEntry::active(&it.origin, it.vkeys());
            origins.map(entry).collect()
        });
        let published = TrustPublished {
            version,
            digest: String::new(),
            bundle: bundle(version, logs, Vec::new(), 0).into(),
            reason: format!("version {version}"),
        };
        record(self, "trust", "acme", Kind::TrustPublished(published)).await;
    }
}

async fn origin(rig: &Rig) -> Origin {
    rig.until(|log| log.origin(ORIGIN).cloned()).await
}

fn vkey(origin: &Origin, key: &str) -> Vkey {
    origin.signer(key).unwrap().vkey.parse().unwrap()
}

/// The ids of the origin's keys that signed the seal's checkpoint.
fn signed_by(origin: &Origin, seal: &Seal) -> Vec<String> {
    let signers = origin.signers.iter().filter(|it| {
        let vkey: Vkey = it.vkey.parse().unwrap();
        seal.note.verify(&[vkey]).is_ok()
    });
    signers.map(|it| it.key_id.clone()).collect()
}

async fn fail_back(rig: &Rig, provider: &str) -> Result<KeyChangeResponse, Status> {
    let request = FailBackRequest {
        log: String::new(),
        provider: provider.to_owned(),
        why: "the HSM was repaired".to_owned(),
    };
    let answer = rig.grpc.fail_back(called_by(CallerRole::Operator, request));
    soon(answer).await.map(tonic::Response::into_inner)
}

fn activations(events: &[Event]) -> Vec<(Vec<String>, ActivationReason, String)> {
    let activated = events.iter().filter_map(|event| match &event.kind {
        Some(Kind::SignersActivated(e)) => Some((e.active.clone(), e.reason(), e.by.clone())),
        _ => None,
    });
    activated.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_has_a_key_in_each_provider_and_the_preferred_one_signs() {
    let world = World::new();
    let rig = pair(&world).await;
    let seal = rig.sealed(1).await;
    let origin = origin(&rig).await;
    let of = |key: &str| {
        let signer = origin.signer(key).unwrap();
        (signer.provider.as_str(), signer.state)
    };
    assert_eq!(of(FIRST), (HSM, SignerState::Active));
    assert_eq!(of(SECOND), (SPARE, SignerState::Standby));
    assert_eq!(signed_by(&origin, &seal), [FIRST]);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_does_not_sign_is_replaced_within_the_call_and_under_the_same_intent() {
    let world = World::new();
    let rig = pair(&world).await;
    rig.sealed(1).await;
    rig.fault.set(Fault::Fail("the HSM is gone".to_owned()));
    let seal = rig.sealed(2).await;
    let origin = origin(&rig).await;
    assert_eq!(signed_by(&origin, &seal), [SECOND]);
    assert_eq!(origin.signing_keys(), [SECOND]);
    assert_eq!(
        origin.intents.message_sha256(2).unwrap(),
        Hash::of(seal.note.text().as_bytes()).0
    );
    assert_eq!(origin.intents.len(), 2, "no second root, no second intent");
    let next = rig.sealed(3).await;
    assert_eq!(
        (next.index, signed_by(&origin, &next)),
        (2, vec![SECOND.to_owned()])
    );
    let events = world.events("log", "main").await;
    let failover = (
        vec![SECOND.to_owned()],
        ActivationReason::Failover,
        "sealing-1".to_owned(),
    );
    assert_eq!(
        activations(&events),
        [failover],
        "once, and nobody went back"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_hangs_costs_its_deadline_and_no_seal() {
    let world = World::new();
    let rig = pair(&world).await;
    rig.sealed(1).await;
    rig.fault.set(Fault::Hang);
    let began = std::time::Instant::now();
    let seal = rig.sealed(2).await;
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(signed_by(&origin(&rig).await, &seal), [SECOND]);
    rig.fault.set(Fault::None);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_key_that_no_bundle_lists_signs_nothing() {
    let world = World::new();
    let rig = Rig::start_pair(&world, Rig::config()).await;
    rig.until(|log| log.current()?.signer(SECOND).map(drop))
        .await;
    rig.ready().await;
    rig.fault.set(Fault::Fail("the HSM is gone".to_owned()));
    let status = rig.seal(1).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(origin(&rig).await.signing_keys(), [FIRST]);
    // The batch is finished as soon as verifiers can know the key.
    rig.publish_trust(1).await;
    rig.until(|log| (log.current()?.published_size == 1).then_some(()))
        .await;
    assert_eq!(origin(&rig).await.signing_keys(), [SECOND]);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_back_is_a_persons_decision_and_needs_a_provider_that_answers() {
    let world = World::new();
    let rig = pair(&world).await;
    rig.fault.set(Fault::Fail("the HSM is gone".to_owned()));
    rig.sealed(1).await;
    let refused = fail_back(&rig, "").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("probe"), "{refused}");
    let unknown = fail_back(&rig, "cloud").await.unwrap_err();
    assert_eq!(unknown.code(), Code::InvalidArgument);
    let sealer = called_by(CallerRole::Sealer, FailBackRequest::default());
    let denied = rig.grpc.fail_back(sealer).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);

    rig.fault.set(Fault::None);
    let still = rig.sealed(2).await;
    assert_eq!(
        signed_by(&origin(&rig).await, &still),
        [SECOND],
        "never by itself"
    );
    let changed = fail_back(&rig, "").await.unwrap();
    assert_eq!(changed.active, [FIRST]);
    let seal = rig.sealed(3).await;
    assert_eq!(signed_by(&origin(&rig).await, &seal), [FIRST]);
    let events = world.events("log", "main").await;
    let last = activations(&events).pop().unwrap();
    assert_eq!(
        last,
        (
            vec![FIRST.to_owned()],
            ActivationReason::Failback,
            "ada".to_owned()
        )
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_was_failed_back_to_stays() {
    let world = World::new();
    let rig = with_both(Rig::start_set(&world, Rig::config()).await).await;
    rig.sealed(1).await;
    rig.fault.set(Fault::Hang);
    rig.sealed(2).await;
    assert!(!rig.service.is_asked(HSM), "its breaker is open");
    let refused = fail_back(&rig, "").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "it still hangs");

    // The call that hung is answered now, and fails, as all that is left over does.
    rig.fault.set(Fault::None);
    fail_back(&rig, "").await.unwrap();
    assert!(
        rig.service.is_asked(HSM),
        "calls go to it from the next batch on"
    );
    for number in 3..7 {
        let seal = rig.sealed(number).await;
        assert_eq!(signed_by(&origin(&rig).await, &seal), [FIRST], "{number}");
    }
    let activated = activations(&world.events("log", "main").await);
    let reasons: Vec<_> = activated.into_iter().map(|it| it.1).collect();
    assert_eq!(
        reasons,
        [ActivationReason::Failover, ActivationReason::Failback]
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_key_signed_is_read_again_after_a_crash() {
    let world = World::new();
    let rig = pair(&world).await;
    rig.sealed(1).await;
    rig.fault.set(Fault::Fail("the HSM is gone".to_owned()));
    rig.sealed(2).await;
    rig.crash().await;
    let rig = Rig::start_pair(&world, Rig::config()).await;
    rig.ready().await;
    let seal = rig.sealed(3).await;
    assert_eq!(
        (seal.index, signed_by(&origin(&rig).await, &seal)),
        (2, vec![SECOND.to_owned()])
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_rotation_overlaps_and_then_retires_the_old_key() {
    let world = World::new();
    let config = Config {
        rotation_overlap_hours: 1,
        ..Rig::config()
    };
    let rig = pair_with(&world, config).await;
    let old = rig.sealed(1).await;
    let rotate = || {
        let request = RotateKeyRequest {
            log: "main".to_owned(),
            why: "yearly".to_owned(),
        };
        rig.grpc
            .rotate_key(called_by(CallerRole::Operator, request))
    };
    let answer = soon(rotate()).await.unwrap().into_inner();
    assert!(answer.text.contains("main-1-a2"), "{}", answer.text);
    // Asking again while it waits makes no second key.
    soon(rotate()).await.unwrap();
    let unlisted = rig.sealed(2).await;
    assert_eq!(
        signed_by(&origin(&rig).await, &unlisted),
        [FIRST],
        "no bundle lists the new one"
    );
    rig.publish_trust(2).await;
    rig.until(|log| (log.current()?.signing().count() == 2).then_some(()))
        .await;
    let both = rig.sealed(3).await;
    let now = origin(&rig).await;
    assert_eq!(signed_by(&now, &both), [FIRST, "main-1-a2"]);
    assert_eq!(now.signer(FIRST).unwrap().state, SignerState::Overlapping);
    assert_eq!(now.signers.len(), 3);
    // A minute more: the event log's own clock runs on with each commit. The permit after so long is a new one, and asking for it is an event.
    world.clock.advance_ms(3_660_000);
    rig.ready().await;
    rig.until(|log| {
        let old = log.current()?.signer(FIRST)?;
        (old.state == SignerState::Retired).then_some(())
    })
    .await;
    let seal = rig.sealed(4).await;
    let now = origin(&rig).await;
    assert_eq!(signed_by(&now, &seal), ["main-1-a2"]);
    assert_eq!(signed_by(&now, &old), [FIRST], "old seals stay valid");
    assert_eq!(vkey(&now, FIRST).name(), ORIGIN);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_in_the_middle_of_a_planned_rotation_does_not_end_the_overlap() {
    let world = World::new();
    let config = Config {
        rotation_overlap_hours: 1,
        ..Rig::config()
    };
    let rig = pair_with(&world, config).await;
    rig.sealed(1).await;
    let request = RotateKeyRequest {
        log: "main".to_owned(),
        why: "yearly".to_owned(),
    };
    let rotate = rig
        .grpc
        .rotate_key(called_by(CallerRole::Operator, request));
    soon(rotate).await.unwrap();
    rig.publish_trust(2).await;
    rig.until(|log| (log.current()?.signing().count() == 2).then_some(()))
        .await;
    rig.fault.set(Fault::Fail("the HSM is gone".to_owned()));
    let stood_in = rig.sealed(2).await;
    assert_eq!(signed_by(&origin(&rig).await, &stood_in), [SECOND]);
    rig.fault.set(Fault::None);
    let changed = fail_back(&rig, "").await.unwrap();
    assert_eq!(
        (changed.active, changed.overlapping),
        (vec!["main-1-a2".to_owned()], vec![FIRST.to_owned()])
    );
    let seal = rig.sealed(3).await;
    assert_eq!(
        signed_by(&origin(&rig).await, &seal),
        [FIRST, "main-1-a2"],
        "a bundle from before the rotation knows the first one only"
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_used_often_enough_is_rotated_by_itself() {
    let world = World::new();
    let config = Config {
        rotate_after_uses: 2,
        rotation_overlap_hours: 0,
        ..Rig::config()
    };
    let rig = pair_with(&world, config).await;
    rig.sealed(1).await;
    rig.sealed(2).await;
    rig.until(|log| log.current()?.signer("main-1-a2").map(drop))
        .await;
    // The event log's own clock runs on with each commit, the node's does not.
    world.clock.advance_ms(1_000);
    rig.publish_trust(2).await;
    rig.until(|log| {
        let old = log.current()?.signer(FIRST)?;
        (old.state == SignerState::Retired).then_some(())
    })
    .await;
    let seal = rig.sealed(3).await;
    assert_eq!(signed_by(&origin(&rig).await, &seal), ["main-1-a2"]);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_isolation_disables_every_key_of_the_origin() {
    let world = World::new();
    let rig = pair(&world).await;
    rig.sealed(1).await;
    let inputs = [
        ("log", "main"),
        ("origin", ORIGIN),
        ("compromised-since", "2023-11-14T22:13:20Z"),
    ];
    let approvers = ["security-lead", "on-call-sre"];
    let order = world.order(DirectiveKind::IsolateKey, "isolate", &inputs, &approvers);
    let note = rig.issue(order).await.unwrap();
    assert!(
        note.contains("main-1 (hsm)") && note.contains("main-1-b (spare)"),
        "{note}"
    );
    for key in [FIRST, SECOND] {
        let info = rig.node.keys.info(&KeyId::new(key).unwrap()).await.unwrap();
        assert_eq!(info.state, KeyState::Disabled, "{key}");
    }
    let origin = origin(&rig).await;
    assert!(
        origin
            .signers
            .iter()
            .all(|it| it.life == SignerLife::Isolated)
    );
    assert!(origin.signing_keys().is_empty());
    assert!(rig.seal(2).await.is_err());
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_list_says_who_signs_and_what_each_key_is() {
    let world = World::new();
    let config = Config {
        rotate_after_days: 90,
        rotate_after_uses: 1_000,
        ..Rig::config()
    };
    let rig = pair_with(&world, config).await;
    rig.sealed(1).await;
    let asked = called_by(CallerRole::Operator, StatusRequest {});
    let status = rig.grpc.status(asked).await.unwrap().into_inner();
    let of = |key: &str| status.keys.iter().find(|it| it.key_id == key).unwrap();
    let (first, second) = (of(FIRST), of(SECOND));
    assert_eq!(
        (first.duty.as_str(), first.uses, first.rotation_uses_left),
        ("active", 1, 999)
    );
    assert_eq!(
        (second.duty.as_str(), second.uses, second.listed),
        ("standby", 0, true)
    );
    assert_eq!(
        (first.algorithm.as_str(), first.attestation.as_str()),
        ("ed25519", "none")
    );
    let added = origin(&rig).await.signer(FIRST).unwrap().added_at_ms;
    let due = added + 90 * 24 * 3_600_000;
    assert_eq!(
        (first.rotation_due_at_ms, second.rotation_due_at_ms),
        (due, 0)
    );
    let providers: Vec<_> = status
        .providers
        .iter()
        .map(|it| it.provider.as_str())
        .collect();
    assert_eq!(providers, [HSM, SPARE]);
    rig.stop().await;
}

/// Calls of the only provider take longer than the setting.
fn impatient() -> Config {
    Config {
        slow_key_ms: 100,
        ..Rig::config()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_key_without_stand_in_seals_what_is_critical_and_queues_the_rest_until_it_is_well() {
    let world = World::new();
    let rig = Rig::start_with(&world, impatient()).await;
    rig.ready().await;
    rig.fault.set(Fault::Delay(Duration::from_millis(200)));
    for number in 0..3 {
        rig.sealed(number).await;
    }
    let reason = rig
        .until(|log| log.pressure.get("sealing-1").map(|it| it.reason.clone()))
        .await;
    assert!(reason.contains("key provider slow: software"), "{reason}");
    let asked = called_by(CallerRole::Operator, StatusRequest {});
    let status = rig.grpc.status(asked).await.unwrap().into_inner();
    assert_eq!(status.mode, "queue-noncritical");
    assert!(
        status.reason.contains("key provider slow"),
        "{}",
        status.reason
    );

    let refused = rig.seal(9).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    let request = |number: u8, priority: Priority| SealRequest {
        digest_algorithm: "sha-256".to_owned(),
        digest: vec![number; 32].into(),
        accept_queued: true,
        priority: priority.into(),
        ..SealRequest::default()
    };
    let send = |number, priority| {
        let request = called_by(CallerRole::Sealer, request(number, priority));
        async { soon(rig.grpc.seal(request)).await.unwrap().into_inner() }
    };
    assert_eq!(send(10, Priority::Normal).await.stage(), Stage::Queued);
    assert_eq!(send(11, Priority::Critical).await.stage(), Stage::Sealed);
    assert_eq!(rig.service.tickets.waiting().0, 1);

    rig.fault.set(Fault::None);
    rig.until(|log| log.pressure.is_empty().then_some(())).await;
    rig.until(|log| (log.current()?.published_size == 5).then_some(()))
        .await;
    assert_eq!(rig.service.tickets.waiting().0, 0, "everything drained");
    rig.stop().await;
}
