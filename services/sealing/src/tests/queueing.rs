//! What cannot be signed waits, durably, in order, and becomes exactly one seal.

use super::rig::{ORIGIN, Rig, World, called_by, soon};
use crate::config::Config;
use sealwarden_domain::log_control::Command;
use sealwarden_engine::Clock as _;
use sealwarden_keys::faults::Fault;
use sealwarden_pki::CallerRole;
use sealwarden_seal::record::Record;
use sealwarden_seal::seal::Seal;
use sealwarden_wire::event::v1::{DirectiveKind, HoldPlaced};
use sealwarden_wire::seal::v1::sealing_server::Sealing as _;
use sealwarden_wire::seal::v1::{
    GetTicketRequest, Priority, SealRequest, SealResponse, Stage, StatusRequest, TicketResponse,
    WatchTicketRequest,
};
use std::sync::atomic::Ordering;
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};

const SRE: [&str; 2] = ["security-lead", "on-call-sre"];
const OWNER: [&str; 2] = ["security-lead", "product-owner"];

fn request(number: u8) -> SealRequest {
    SealRequest {
        digest_algorithm: "sha-256".to_owned(),
        digest: vec![number; 32].into(),
        accept_queued: true,
        ..SealRequest::default()
    }
}

fn named(number: u8, id: &str) -> SealRequest {
    SealRequest {
        request_id: id.to_owned(),
        ..request(number)
    }
}

impl Rig {
    pub(super) async fn send(&self, request: SealRequest) -> Result<SealResponse, Status> {
        let request = called_by(CallerRole::Sealer, request);
        let answer = soon(self.grpc.seal(request)).await;
        answer.map(tonic::Response::into_inner)
    }

    async fn queued(&self, request: SealRequest) -> String {
        let answer = self.send(request).await.unwrap();
        assert_eq!(answer.stage(), Stage::Queued, "{answer:?}");
        assert!(answer.seal.is_empty() && answer.origin.is_empty());
        answer.ticket
    }

    async fn ticket(&self, ticket: &str) -> Result<TicketResponse, Status> {
        let ticket = ticket.to_owned();
        let request = called_by(CallerRole::Sealer, GetTicketRequest { ticket });
        let answer = self.grpc.get_ticket(request).await;
        answer.map(tonic::Response::into_inner)
    }

    /// Watches a ticket until it is sealed.
    async fn collected(&self, ticket: &str) -> (SealResponse, Seal) {
        let request = WatchTicketRequest {
            ticket: ticket.to_owned(),
            until: Stage::Sealed.into(),
        };
        let request = called_by(CallerRole::Sealer, request);
        let mut answers = self.grpc.watch_ticket(request).await.unwrap().into_inner();
        let sealed = soon(async {
            while let Some(answer) = answers.next().await {
                if let Some(seal) = answer.unwrap().seal {
                    return seal;
                }
            }
            panic!("the watch ended early");
        })
        .await;
        let seal = Seal::parse(&sealed.seal).unwrap();
        (sealed, seal)
    }

    async fn hold(&self, world: &World) {
        let now = world.clock.now().wall_ms;
        let origin = self.service.current().unwrap().origin.clone();
        self.command(Command::PlaceHold(HoldPlaced {
            incident: "I-7".to_owned(),
            signal: format!("S-{now}"),
            origin,
            reason: "a foreign checkpoint".to_owned(),
            placed_at_ms: now,
            expires_at_ms: now + 60_000,
        }))
        .await;
    }

    fn records(&self, origin: &str) -> Vec<Record> {
        let view = self.service.tree(origin).unwrap().reader.view().unwrap();
        let leaves = view.records(0..view.size()).unwrap();
        let decode = |leaf: sealwarden_seallog::Leaf| Record::decode(&leaf.record).unwrap();
        leaves.into_iter().map(decode).collect()
    }

    /// The first byte of each digest in a tree, in order.
    fn sealed_digests(&self, origin: &str) -> Vec<u8> {
        self.records(origin).iter().map(|it| it.digest[0]).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_log_hands_out_tickets_and_seals_them_in_order_when_the_hold_ends() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    rig.sealed(200).await;
    rig.hold(&world).await;
    let refused = rig.seal(1).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "no ticket was asked for");
    let mut tickets = Vec::new();
    for number in 1..=20 {
        tickets.push(rig.queued(request(number)).await);
    }
    let urgent = SealRequest {
        priority: Priority::Critical.into(),
        ..request(99)
    };
    let urgent = rig.queued(urgent).await;
    let waiting = rig.ticket(&tickets[4]).await.unwrap();
    assert_eq!(waiting.stage(), Stage::Queued);
    assert_eq!(waiting.position, 5, "four normal ones and the critical one");
    assert!(waiting.reason.contains("I-7"), "{waiting:?}");
    let status = called_by(CallerRole::Operator, StatusRequest {});
    let status = rig.grpc.status(status).await.unwrap().into_inner();
    assert_eq!((status.mode.as_str(), status.tickets), ("hold", 21));

    let waits = rig.collected(&tickets[19]);
    let end = async { world.clock.advance_ms(60_000) };
    let ((_, last), ()) = tokio::join!(waits, end);
    assert_eq!(last.record.digest, [20; 32]);
    let order: Vec<u8> = [200, 99].into_iter().chain(1..=20).collect();
    assert_eq!(rig.sealed_digests(ORIGIN), order);
    let answer = rig.ticket(&urgent).await.unwrap();
    assert_eq!(
        (answer.stage(), answer.seal.unwrap().index),
        (Stage::Sealed, 1)
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_survive_a_crash_and_none_is_sealed_twice() {
    let world = World::new();
    let mut rig = Rig::open(&world).await;
    let mut tickets = Vec::new();
    for round in 0..4_u8 {
        rig.hold(&world).await;
        for number in 0..10 {
            tickets.push(rig.queued(request(round * 10 + number)).await);
        }
        // Half of the rounds crash while the queue drains.
        if round % 2 == 1 {
            world.clock.advance_ms(60_000);
            rig.collected(tickets.last().unwrap()).await;
        }
        rig.crash().await;
        world.clock.advance_ms(60_000);
        rig = Rig::open(&world).await;
    }
    for (number, ticket) in (0_u8..).zip(&tickets) {
        let (_, seal) = rig.collected(ticket).await;
        assert_eq!(seal.record.digest, [number; 32]);
    }
    let all: Vec<u8> = (0..40).collect();
    assert_eq!(rig.sealed_digests(ORIGIN), all);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_was_sealed_but_not_settled_on_the_disk_is_found_in_the_tree() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    rig.sealed(50).await;
    rig.hold(&world).await;
    let ticket = rig.queued(request(1)).await;
    let path = world.dir.path().join("node/queue/main/queue");
    let before = std::fs::read(&path).unwrap();
    world.clock.advance_ms(60_000);
    let (first, _) = rig.collected(&ticket).await;
    rig.crash().await;
    // A power loss takes what was not synced yet.
    std::fs::write(&path, before).unwrap();
    let rig = Rig::open(&world).await;
    let (again, _) = rig.collected(&ticket).await;
    assert_eq!((again.origin, again.index), (first.origin, first.index));
    assert_eq!(rig.sealed(2).await.index, 2);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_fails_sends_requests_into_the_queue_and_each_becomes_one_seal() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    rig.fault.set(Fault::Fail("the module is away".to_owned()));
    // The first one is staged when the key fails; those after it find the way blocked.
    let staged = rig.queued(named(1, "one")).await;
    let second = rig.queued(request(2)).await;
    let unknown = rig.seal(3).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unavailable);
    let again = rig.queued(named(1, "one")).await;
    assert_eq!(again, staged, "the same request has one ticket");
    rig.fault.set(Fault::None);
    assert_eq!(rig.collected(&staged).await.1.record.digest, [1; 32]);
    assert_eq!(rig.collected(&second).await.1.record.digest, [2; 32]);
    let again = rig.send(named(1, "one")).await.unwrap();
    assert_eq!((again.stage(), again.index), (Stage::Sealed, 0));
    assert_eq!(rig.sealed_digests(ORIGIN), [1, 2]);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staged_request_that_was_queued_is_one_seal_after_a_crash_too() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    rig.fault.set(Fault::Fail("the module is away".to_owned()));
    let ticket = rig.queued(request(1)).await;
    rig.crash().await;
    let rig = Rig::open(&world).await;
    assert_eq!(rig.collected(&ticket).await.0.index, 0);
    assert_eq!(rig.sealed(2).await.index, 1);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_mode_stops_signing_for_all_and_opening_drains() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    let inputs = [("log", "main"), ("mode", "queue")];
    let order = world.order(DirectiveKind::Queue, "divert", &inputs, &SRE);
    rig.issue(order).await.unwrap();
    let critical = SealRequest {
        priority: Priority::Critical.into(),
        ..request(1)
    };
    let ticket = rig.queued(critical).await;
    let refused = rig.seal(2).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("I-1"), "{refused}");
    let status = called_by(CallerRole::Operator, StatusRequest {});
    let status = rig.grpc.status(status).await.unwrap().into_inner();
    assert_eq!(status.mode, "queue");
    let order = world.order(DirectiveKind::Open, "resume", &[("log", "main")], &SRE);
    rig.issue(order).await.unwrap();
    assert_eq!(rig.collected(&ticket).await.0.index, 0);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_noncritical_mode_diverts_what_can_wait_and_seals_the_rest() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    rig.hold(&world).await;
    let waiting_critical = SealRequest {
        priority: Priority::Critical.into(),
        ..request(1)
    };
    let waiting_critical = rig.queued(waiting_critical).await;
    let inputs = [("log", "main"), ("mode", "queue-noncritical")];
    let approvers = ["on-call-sre", "product-owner"];
    let order = world.order(
        DirectiveKind::QueueNoncritical,
        "divert",
        &inputs,
        &approvers,
    );
    rig.issue(order).await.unwrap();
    assert!(rig.service.ready().is_err(), "it lifts no hold");
    world.clock.advance_ms(60_000);
    assert_eq!(rig.collected(&waiting_critical).await.0.index, 0);

    let normal = rig.queued(request(2)).await;
    let refused = rig.seal(3).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("queue-noncritical"), "{refused}");
    let critical = SealRequest {
        priority: Priority::Critical.into(),
        accept_queued: false,
        ..request(4)
    };
    assert_eq!(rig.send(critical).await.unwrap().index, 1);
    let waiting = rig.ticket(&normal).await.unwrap();
    assert_eq!(waiting.stage(), Stage::Queued);
    assert!(waiting.reason.contains("queue-noncritical"), "{waiting:?}");
    let order = world.order(DirectiveKind::Open, "resume", &[("log", "main")], &SRE);
    rig.issue(order).await.unwrap();
    assert_eq!(rig.collected(&normal).await.0.index, 2);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_mode_takes_no_tickets_and_keeps_those_it_has_waiting() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    rig.hold(&world).await;
    let ticket = rig.queued(request(1)).await;
    let order = world.order(
        DirectiveKind::ReadOnly,
        "read-only",
        &[("log", "main")],
        &SRE,
    );
    rig.issue(order).await.unwrap();
    world.clock.advance_ms(60_000);
    let refused = rig.send(request(2)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let waiting = rig.ticket(&ticket).await.unwrap();
    assert_eq!(waiting.stage(), Stage::Queued);
    assert!(waiting.reason.contains("read-only"), "{waiting:?}");
    let order = world.order(DirectiveKind::Open, "resume", &[("log", "main")], &SRE);
    rig.issue(order).await.unwrap();
    assert_eq!(rig.collected(&ticket).await.0.index, 0);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rotation_the_queue_drains_into_the_new_origin() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    rig.sealed(1).await;
    // One is staged in the old tree and intended there; one only waits.
    rig.fault.set(Fault::Fail("the module is away".to_owned()));
    let staged = rig.queued(request(2)).await;
    rig.hold(&world).await;
    let waiting = rig.queued(request(3)).await;
    rig.fault.set(Fault::None);
    let inputs = [("log", "main"), ("origin", ORIGIN)];
    let order = world.order(DirectiveKind::RotateOrigin, "rotate", &inputs, &OWNER);
    rig.issue(order).await.unwrap();
    rig.ready().await;
    for (ticket, index) in [(&staged, 0), (&waiting, 1)] {
        let (sealed, _) = rig.collected(ticket).await;
        assert_eq!(
            (sealed.origin.as_str(), sealed.index),
            ("drill.invalid/main/2", index)
        );
    }
    assert_eq!(rig.sealed_digests(ORIGIN), [1]);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_gives_the_same_seal_and_an_id_stands_for_one_document() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    let first = rig.send(named(1, "invoice-1")).await.unwrap();
    let again = rig.send(named(1, "invoice-1")).await.unwrap();
    assert_eq!(again.seal, first.seal);
    let other = SealRequest {
        tenant: "acme".to_owned(),
        ..named(1, "invoice-1")
    };
    assert_eq!(rig.send(other).await.unwrap().index, 1);
    let misused = rig.send(named(2, "invoice-1")).await.unwrap_err();
    assert_eq!(misused.code(), Code::AlreadyExists);
    for digest in ["01".repeat(32), "02".repeat(32)] {
        assert!(misused.message().contains(&digest), "{misused}");
    }
    let at_once = (0..20).map(|_| rig.send(named(3, "invoice-3")));
    let mut indexes = Vec::new();
    for answer in futures(at_once).await {
        indexes.push(answer.unwrap().index);
    }
    assert_eq!(indexes, [2; 20]);
    rig.crash().await;
    let rig = Rig::open(&world).await;
    assert_eq!(rig.send(named(1, "invoice-1")).await.unwrap().index, 0);
    assert_eq!(rig.send(named(3, "invoice-3")).await.unwrap().index, 2);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_known_over_a_rotation_and_for_as_many_leaves_as_the_settings_say() {
    let world = World::new();
    let config = Config {
        request_window: 5,
        ..Rig::config()
    };
    let rig = Rig::start_with(&world, config.clone()).await;
    rig.ready().await;
    let first = rig.send(named(1, "invoice-1")).await.unwrap();
    let inputs = [("log", "main"), ("origin", ORIGIN)];
    let order = world.order(DirectiveKind::RotateOrigin, "rotate", &inputs, &OWNER);
    rig.issue(order).await.unwrap();
    rig.ready().await;
    for number in 2..6 {
        rig.sealed(number).await;
    }
    for _ in 0..2 {
        let again = rig.send(named(1, "invoice-1")).await.unwrap();
        assert_eq!((again.origin.as_str(), again.index), (ORIGIN, 0));
    }
    assert_eq!(first.origin, ORIGIN);
    rig.stop().await;
    let rig = Rig::start_with(&world, config).await;
    rig.ready().await;
    let again = rig.send(named(1, "invoice-1")).await.unwrap();
    assert_eq!(
        (again.origin.as_str(), again.index),
        (ORIGIN, 0),
        "found again at the start"
    );
    // Five more leaves are the window: the sixth from the end is a new request.
    rig.sealed(6).await;
    let anew = rig.send(named(1, "invoice-1")).await.unwrap();
    assert_eq!(
        (anew.origin.as_str(), anew.index),
        ("drill.invalid/main/2", 5)
    );
    rig.stop().await;
}

async fn futures<F: Future<Output = T>, T>(all: impl Iterator<Item = F>) -> Vec<T> {
    let mut all: Vec<_> = all.map(|it| (Box::pin(it), None)).collect();
    std::future::poll_fn(|context| {
        for (future, done) in &mut all {
            if done.is_none()
                && let std::task::Poll::Ready(output) = future.as_mut().poll(context)
            {
                *done = Some(output);
            }
        }
        if all.iter().all(|(_, done)| done.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    all.into_iter().filter_map(|(_, done)| done).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_and_a_full_disk_refuse_before_anything_is_accepted() {
    let world = World::new();
    let config = Config {
        queue_tickets: 2,
        tickets_kept: 2,
        ..Rig::config()
    };
    let rig = Rig::start_with(&world, config).await;
    rig.ready().await;
    rig.hold(&world).await;
    let first = rig.queued(request(1)).await;
    let second = rig.queued(request(2)).await;
    let full = rig.send(request(3)).await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted);
    assert!(full.message().contains("2 requests"), "{full}");

    let pending = &rig.service.pending_bytes;
    let before = pending.fetch_add(1 << 62, Ordering::Relaxed);
    let no_space = rig.send(request(4)).await.unwrap_err();
    assert_eq!(no_space.code(), Code::ResourceExhausted);
    assert!(no_space.message().contains("free some space"), "{no_space}");
    world.clock.advance_ms(60_000);
    rig.ready().await;
    let no_space = rig.send(request(5)).await.unwrap_err();
    assert_eq!(no_space.code(), Code::ResourceExhausted);
    pending.store(before, Ordering::Relaxed);

    rig.collected(&first).await;
    rig.collected(&second).await;
    rig.send(request(6)).await.unwrap();
    assert_eq!(rig.sealed_digests(ORIGIN), [1, 2, 6]);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_asked_for_by_its_name() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    let malformed = rig.ticket("7").await.unwrap_err();
    assert_eq!(malformed.code(), Code::InvalidArgument);
    let unknown = rig
        .ticket(&format!("T-{}", "0".repeat(32)))
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_in_mid_load_loses_and_doubles_nothing() {
    let world = World::new();
    let rig = Rig::open(&world).await;
    let clients = futures((0..200_u8).map(|number| {
        let rig = &rig;
        async move {
            let answer = rig.send(request(number)).await.unwrap();
            match answer.stage() {
                Stage::Queued => rig.collected(&answer.ticket).await.1,
                Stage::Unspecified | Stage::Sealed | Stage::Witnessed | Stage::Anchored => {
                    Seal::parse(&answer.seal).unwrap()
                }
            }
        }
    }));
    let holds = async {
        for _ in 0..3 {
            rig.hold(&world).await;
            tokio::task::yield_now().await;
            world.clock.advance_ms(60_000);
        }
    };
    let (seals, ()) = tokio::join!(clients, holds);
    for (number, seal) in (0..200_u8).zip(&seals) {
        assert_eq!(seal.record.digest, [number; 32]);
    }
    let mut digests = rig.sealed_digests(ORIGIN);
    digests.sort_unstable();
    assert_eq!(digests, (0..200).collect::<Vec<u8>>());
    rig.stop().await;
}
