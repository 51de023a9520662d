//! Records that are erased: by people's orders, by schedule, after a crash; and what keeps them.

use super::rig::{ORIGIN, Rig, World, called_by, soon};
use crate::config::Config;
use crate::retention::grpc::Grpc;
use crate::retention::{Jurisdiction, RetentionSettings};
use crate::tenants::TenantLimits;
use sealwarden_domain::incident;
use sealwarden_domain::retention::{Command, Order, Retention, decide};
use sealwarden_engine::{Meta, Stream};
use sealwarden_pki::CallerRole;
use sealwarden_wire::event::v1::{ErasedRange, IncidentStage, Reporter, SignalReported};
use sealwarden_wire::seal::v1::erasure_server::Erasure as _;
use sealwarden_wire::seal::v1::sealing_server::Sealing as _;
use sealwarden_wire::seal::v1::{
    ErasurePlan, ErasureRequest, ExportSealsRequest, GetSealRequest, ListHoldsRequest,
    ReleaseHoldRequest, SealRequest, SealResponse, SetHoldRequest,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};

const DAY_MS: u32 = 86_400_000;

fn request(tenant: &str, number: u8, subject: &str) -> SealRequest {
    SealRequest {
        digest_algorithm: "sha-256".to_owned(),
        digest: vec![number; 32].into(),
        tenant: tenant.to_owned(),
        subject: subject.to_owned(),
        request_id: format!("request {number}"),
        ..SealRequest::default()
    }
}

fn of_subject(tenant: &str, subject: &str) -> ErasureRequest {
    ErasureRequest {
        tenant: tenant.to_owned(),
        subject: subject.to_owned(),
        reason: "case 7".to_owned(),
        ..ErasureRequest::default()
    }
}

impl Rig {
    fn eraser(&self) -> Grpc {
        Grpc(Arc::clone(&self.service))
    }

    pub(super) async fn erase(&self, mut request: ErasureRequest) -> Result<ErasurePlan, Status> {
        let eraser = self.eraser();
        let plan = eraser.plan_erasure(called_by(CallerRole::Operator, request.clone()));
        request.expected = soon(plan).await?.into_inner().leaves;
        let erased = soon(eraser.erase(called_by(CallerRole::Operator, request))).await?;
        Ok(erased.into_inner())
    }

    async fn get(&self, index: u64) -> Result<SealResponse, Status> {
        let request = GetSealRequest {
            origin: ORIGIN.to_owned(),
            index,
            follow: true,
        };
        let request = called_by(CallerRole::Operator, request);
        let answer = self.grpc.get_seal(request).await;
        answer.map(tonic::Response::into_inner)
    }

    /// Which leaves of the first origin are erased, once so many are.
    async fn erased(&self, count: usize) -> Vec<u64> {
        let look = self.node.board.wait_until(|installation| {
            let retention = installation.retention.get("main")?;
            retention.unfinished().next().is_none().then_some(())?;
            let erased: Vec<_> = (0..20)
                .filter(|index| retention.of(ORIGIN, *index).is_some())
                .collect();
            (erased.len() >= count).then_some(erased)
        });
        soon(look).await
    }

    /// Records an order as the node does, and does nothing of it.
    async fn only_order(&self, places: &[(u64, u64)]) {
        let mut stream: Stream<Retention> = self.node.stream("retention", "main").await.unwrap();
        let places = places.iter().map(|(first, count)| ErasedRange {
            origin: ORIGIN.to_owned(),
            first: *first,
            count: *count,
        });
        let order = Order {
            log: "main".to_owned(),
            tenant: "acme".to_owned(),
            criterion: "all".to_owned(),
            reason: "test".to_owned(),
            by: "person ada".to_owned(),
            places: places.collect(),
            seen: BTreeSet::new(),
            node: "sealing-1".to_owned(),
            at_ms: 1,
        };
        stream
            .execute(Meta::person("ada"), |state| {
                decide(state, Command::Erase(order.clone()))
            })
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_record_is_not_one_that_never_was_and_its_request_is_forgotten() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    for (number, subject) in [(1, "ada"), (2, "bob"), (3, "ada")] {
        rig.send(request("acme", number, subject)).await.unwrap();
    }
    rig.send(request("other", 4, "ada")).await.unwrap();
    let erased = rig.erase(of_subject("acme", "ada")).await.unwrap();
    assert_eq!((erased.leaves, erased.ranges), (2, 2));
    assert_eq!(erased.erasures, ["E-main-1"]);
    for index in [0, 2] {
        let gone = rig.get(index).await.unwrap_err();
        assert_eq!(gone.code(), Code::FailedPrecondition);
        assert!(
            gone.message().contains("was erased on 2023-11-14"),
            "{gone}"
        );
        assert!(gone.message().contains("erasure E-main-1"), "{gone}");
        assert_eq!(gone.metadata().get("erasure").unwrap(), "E-main-1");
    }
    rig.get(1).await.unwrap();
    rig.get(3).await.unwrap();
    assert_eq!(rig.get(9).await.unwrap_err().code(), Code::NotFound);
    let all = ExportSealsRequest {
        origin: ORIGIN.to_owned(),
    };
    let all = rig.grpc.export_seals(called_by(CallerRole::Operator, all));
    let exported: Vec<_> = all.await.unwrap().into_inner().collect().await;
    let exported: Vec<_> = exported.into_iter().map(|it| it.unwrap().index).collect();
    assert_eq!(exported, [1, 3]);

    // The same request id brings the same seal, but for what is gone: that is a new request.
    let same = rig.send(request("acme", 2, "bob")).await.unwrap();
    assert_eq!(same.index, 1);
    let anew = rig.send(request("acme", 1, "ada")).await.unwrap();
    assert_eq!(anew.index, 4);
    rig.stop().await;
    let rig = Rig::open(&world).await;
    let anew = rig.send(request("acme", 1, "ada")).await.unwrap();
    assert_eq!(anew.index, 4, "the index is rebuilt beside erased records");
    assert_eq!(rig.send(request("acme", 3, "ada")).await.unwrap().index, 5);
    // Events say where, and never what.
    let events = format!("{:?}", world.events("retention", "main").await);
    assert!(!events.contains("request 1"), "{events}");
    assert_eq!(events.matches("ada").count(), 1, "who asked: {events}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_ordered_before_a_crash_is_gone_before_the_node_serves_again() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    for number in 0..5 {
        rig.send(request("acme", number, "ada")).await.unwrap();
    }
    rig.only_order(&[(0, 2), (3, 1)]).await;
    // A torn record: the crash came in the middle of the overwriting.
    let path = rig
        .service
        .tree(ORIGIN)
        .unwrap()
        .reader
        .dir()
        .join("private/0000000000.records");
    rig.crash().await;
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[..40].fill(0);
    std::fs::write(&path, bytes).unwrap();
    let rig = Rig::open(&world).await;
    assert_eq!(rig.erased(3).await, [0, 1, 3]);
    assert!(rig.get(3).await.is_err());
    rig.get(2).await.unwrap();
    rig.get(4).await.unwrap();
    let left = std::fs::read(&path).unwrap();
    let subjects = left.windows(3).filter(|it| it == b"ada").count();
    assert_eq!(subjects, 2);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queued_request_that_was_sealed_and_erased_is_not_sealed_again() {
    let world = World::new();
    let rig = Rig::start(&world).await;
    rig.lifetime_ms.send_replace(0);
    world.clock.advance_ms(5_000);
    let queued = SealRequest {
        accept_queued: true,
        ..request("acme", 1, "waiting ada")
    };
    let ticket = rig.send(queued.clone()).await.unwrap().ticket;
    assert!(!ticket.is_empty(), "there is no permit, so it waits");
    rig.lifetime_ms.send_replace(5_000);
    rig.ready().await;
    let mut changes = rig.service.tickets.changes();
    while rig.service.tickets.waiting().0 > 0 {
        soon(changes.changed()).await.unwrap();
    }
    assert_eq!(
        rig.erase(of_subject("acme", "waiting ada"))
            .await
            .unwrap()
            .leaves,
        1
    );
    let queue = rig.node.data.join("queue/main/queue");
    let held = std::fs::read(&queue).unwrap();
    assert!(!held.windows(11).any(|it| it == b"waiting ada"));
    rig.crash().await;
    let rig = Rig::open(&world).await;
    assert_eq!(rig.service.tickets.waiting().0, 0);
    let ticket = sealwarden_wire::seal::v1::GetTicketRequest { ticket };
    let asked = rig
        .grpc
        .get_ticket(called_by(CallerRole::Sealer, ticket))
        .await;
    let gone = asked.unwrap_err();
    assert!(gone.message().contains("was erased on"), "{gone}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_of_people_and_open_incidents_keep_records_and_are_named() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    for (number, subject) in [(1, "ada"), (2, "bob")] {
        rig.send(request("acme", number, subject)).await.unwrap();
    }
    let eraser = rig.eraser();
    let hold = SetHoldRequest {
        tenant: "acme".to_owned(),
        subject: "bob".to_owned(),
        reason: "case 12".to_owned(),
        ..SetHoldRequest::default()
    };
    let set = eraser
        .set_hold(called_by(CallerRole::Sealer, hold.clone()))
        .await;
    assert_eq!(set.unwrap_err().code(), Code::PermissionDenied);
    let set = eraser.set_hold(called_by(CallerRole::Operator, hold)).await;
    assert_eq!(set.unwrap().into_inner().hold, "H-main-1");
    let all = ErasureRequest {
        tenant: "acme".to_owned(),
        all: true,
        reason: "left".to_owned(),
        ..ErasureRequest::default()
    };
    let refused = rig.erase(all.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(
        refused.message().contains("hold H-main-1 (case 12"),
        "{refused}"
    );
    assert!(
        refused.message().contains("covers 1 of the 2 leaves"),
        "{refused}"
    );
    rig.erase(of_subject("acme", "ada")).await.unwrap();
    let release = ReleaseHoldRequest {
        hold: "H-main-1".to_owned(),
        reason: "closed".to_owned(),
        ..ReleaseHoldRequest::default()
    };
    let released = eraser
        .release_hold(called_by(CallerRole::Operator, release))
        .await;
    assert_eq!(released.unwrap().into_inner().scope, "subject");

    // An open incident keeps what it is about.
    let mut opened: Stream<incident::Incident> = rig.node.stream("incident", "I-1").await.unwrap();
    let signal = SignalReported {
        signal: "S-1".to_owned(),
        subject: format!("origin {ORIGIN}"),
        origin: ORIGIN.to_owned(),
        log: "main".to_owned(),
        reporter: Some(Reporter::default()),
        ..SignalReported::default()
    };
    let open = incident::Command::Open {
        incident: "I-1".to_owned(),
        signal,
    };
    let done = opened
        .execute(Meta::node("detection-1"), |it| {
            incident::decide(it, open.clone())
        })
        .await
        .unwrap();
    soon(rig.node.board.reached(done.position)).await;
    let refused = rig.erase(all.clone()).await.unwrap_err();
    assert!(
        refused.message().contains("hold I-1 (open incident about"),
        "{refused}"
    );
    let holds = eraser.list_holds(called_by(CallerRole::Operator, ListHoldsRequest::default()));
    let holds = holds.await.unwrap().into_inner().holds;
    assert_eq!(holds.len(), 1);
    for stage in [
        IncidentStage::Classified,
        IncidentStage::Contained,
        IncidentStage::Recovering,
        IncidentStage::Revalidated,
        IncidentStage::Closed,
    ] {
        let reach = incident::Command::Reach {
            stage,
            reason: "test".to_owned(),
        };
        let done = opened
            .execute(Meta::node("detection-1"), |it| {
                incident::decide(it, reach.clone())
            })
            .await
            .unwrap();
        soon(rig.node.board.reached(done.position)).await;
    }
    assert_eq!(rig.erase(all).await.unwrap().leaves, 1);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_shown_is_what_is_erased() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    rig.send(request("acme", 1, "ada")).await.unwrap();
    let mut request_one = of_subject("acme", "ada");
    request_one.expected = 1;
    rig.send(request("acme", 2, "ada")).await.unwrap();
    let eraser = rig.eraser();
    let refused = eraser
        .erase(called_by(CallerRole::Operator, request_one.clone()))
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::Aborted);
    let mut told = request_one.clone();
    told.reason = "ADA asked".to_owned();
    let refused = eraser.erase(called_by(CallerRole::Operator, told)).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    let refused = eraser
        .erase(called_by(CallerRole::Sealer, request_one))
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    rig.get(0).await.unwrap();
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_whose_time_is_over_go_by_themselves_but_for_those_that_are_held() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    for (tenant, number) in [
        ("short", 1),
        ("held", 2),
        ("kept", 3),
        ("short", 4),
        ("plain", 5),
    ] {
        rig.send(request(tenant, number, "ada")).await.unwrap();
    }
    rig.stop().await;
    let jurisdiction = |retention: &str| Jurisdiction {
        retention: retention.to_owned(),
        ..Jurisdiction::default()
    };
    let tenant = |jurisdiction: &str, legal_hold: &str| TenantLimits {
        jurisdiction: jurisdiction.to_owned(),
        legal_hold: legal_hold.to_owned(),
        ..TenantLimits::default()
    };
    let config = Config {
        retention: RetentionSettings {
            jurisdictions: [
                ("eu".to_owned(), jurisdiction("30 days")),
                ("de".to_owned(), jurisdiction("10 years")),
            ]
            .into(),
            every_s: 1,
            per_second: 1,
            ..RetentionSettings::default()
        },
        tenants: [
            ("short".to_owned(), tenant("eu", "")),
            ("held".to_owned(), tenant("eu", "case 77")),
            ("kept".to_owned(), tenant("de", "")),
        ]
        .into(),
        ..Rig::config()
    };
    for _ in 0..29 {
        world.clock.advance_ms(DAY_MS);
    }
    let rig = Rig::start_with(&world, config).await;
    rig.ready().await;
    // A minute before its time nothing is due; what the first round found tells it when to look again.
    rig.get(0).await.unwrap();
    for _ in 0..2 {
        world.clock.advance_ms(DAY_MS);
    }
    assert_eq!(rig.erased(2).await, [0, 3]);
    rig.get(1).await.unwrap();
    rig.get(2).await.unwrap();
    rig.get(4).await.unwrap();
    let known = rig.service.records.known();
    let first = &known.erasures()[0].ordered;
    assert_eq!(
        (first.by.as_str(), first.leaves),
        ("schedule", 1),
        "at most one a second"
    );
    assert_eq!(first.criterion, "retention 30 days (jurisdiction eu)");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_are_withdrawn_unless_a_hold_covers_them() {
    let world = World::new();
    let rig = Rig::start(&world).await;
    rig.lifetime_ms.send_replace(0);
    world.clock.advance_ms(5_000);
    let queued = |number, subject| SealRequest {
        accept_queued: true,
        ..request("acme", number, subject)
    };
    let ticket = rig.send(queued(1, "waiting ada")).await.unwrap().ticket;
    let other = rig.send(queued(2, "waiting bob")).await.unwrap().ticket;
    assert!(
        !ticket.is_empty() && !other.is_empty(),
        "there is no permit"
    );
    // A time fits nothing that is not sealed.
    let timed = ErasureRequest {
        before_ms: i64::MAX,
        ..of_subject("acme", "waiting ada")
    };
    assert_eq!(rig.erase(timed).await.unwrap().waiting, 0);
    let eraser = rig.eraser();
    let hold = SetHoldRequest {
        tenant: "acme".to_owned(),
        subject: "waiting ada".to_owned(),
        reason: "case 12".to_owned(),
        ..SetHoldRequest::default()
    };
    let set = eraser.set_hold(called_by(CallerRole::Operator, hold)).await;
    let hold = set.unwrap().into_inner().hold;
    let held = rig.erase(of_subject("acme", "waiting ada")).await;
    assert_eq!(held.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(rig.service.tickets.waiting().0, 2, "a hold keeps it");
    let release = ReleaseHoldRequest {
        hold,
        reason: "closed".to_owned(),
        ..ReleaseHoldRequest::default()
    };
    let released = eraser.release_hold(called_by(CallerRole::Operator, release));
    released.await.unwrap();
    drop(eraser);

    let plan = rig.erase(of_subject("acme", "waiting ada")).await.unwrap();
    assert_eq!((plan.leaves, plan.waiting, plan.being_sealed), (0, 1, 0));
    assert_eq!(plan.withdrawals, ["W-main-1"]);
    let queue = rig.node.data.join("queue/main/queue");
    let is_in = |text: &[u8]| {
        let held = std::fs::read(&queue).unwrap();
        held.windows(text.len()).any(|it| it == text)
    };
    assert!(!is_in(b"waiting ada") && is_in(b"waiting bob"));
    rig.crash().await;
    let rig = Rig::open(&world).await;
    let mut changes = rig.service.tickets.changes();
    while rig.service.tickets.waiting().0 > 0 {
        soon(changes.changed()).await.unwrap();
    }
    let ask = |ticket: String| {
        let ticket = sealwarden_wire::seal::v1::GetTicketRequest { ticket };
        rig.grpc.get_ticket(called_by(CallerRole::Sealer, ticket))
    };
    let gone = ask(ticket).await.unwrap_err();
    assert_eq!(gone.code(), Code::FailedPrecondition);
    assert!(gone.message().contains("W-main-1"), "{gone}");
    let sealed = ask(other).await.unwrap().into_inner();
    assert_eq!(
        sealed.seal.unwrap().index,
        0,
        "only the other one was sealed"
    );
    rig.stop().await;
}
