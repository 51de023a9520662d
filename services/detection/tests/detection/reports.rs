//! Reports from outside and classification by people.

use std::sync::Arc;

use crate::support::{World, by, soon};
use sealwarden_eventlog::faults::AppendFault;
use sealwarden_eventlog::{Faulty, Memory};
use sealwarden_pki::CallerRole;
use sealwarden_wire::event::v1::event::Kind;
use sealwarden_wire::incident::v1::{ClassifyRequest, ListRequest, ReportRequest};
use tonic::Code;

fn report() -> ReportRequest {
    ReportRequest {
        class: "key-compromise".to_owned(),
        log: "main".to_owned(),
        seen: "the key file was found on a laptop".to_owned(),
        expected: "the key never leaves its folder".to_owned(),
        request_id: "r-1".to_owned(),
        ..ReportRequest::default()
    }
}

fn person<T>(message: T) -> tonic::Request<T> {
    by(message, "mara", CallerRole::Operator)
}

#[tokio::test]
async fn a_persons_report_opens_an_unclassified_incident_without_hold() {
    let world = World::new().await;
    let mut service = world.start().await;
    let answer = soon(service.client.report(person(report())))
        .await
        .unwrap()
        .into_inner();
    assert!(!answer.proven);
    let again = soon(service.client.report(person(report())))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(again, answer);
    let listed = soon(service.client.list(person(ListRequest { open_only: true })))
        .await
        .unwrap();
    let incidents = listed.into_inner().incidents;
    assert_eq!(incidents.len(), 1);
    assert_eq!(
        (incidents[0].class.as_str(), incidents[0].stage.as_str()),
        ("", "detected")
    );
    assert_eq!(incidents[0].signals[0].reporter, "mara");
    service
        .node
        .board
        .wait_until(|i| i.incidents.contains_key(&answer.incident).then_some(()))
        .await;
    let (holds, requesters) = service.node.board.read(|i| {
        (
            i.logs["main"].holds.len(),
            i.incidents[&answer.incident].requesters(),
        )
    });
    assert_eq!((holds, requesters), (0, vec!["mara".to_owned()]));
    service.stop().await;
}

#[tokio::test]
async fn the_earliest_compromise_only_moves_to_earlier() {
    let world = World::new().await;
    let mut service = world.start().await;
    let incident = soon(service.client.report(person(report())))
        .await
        .unwrap()
        .into_inner()
        .incident;
    let classify = |since_ms: i64| {
        person(ClassifyRequest {
            incident: incident.clone(),
            class: "key-compromise".to_owned(),
            compromised_since_ms: since_ms,
            reason: "the laptop was lost then".to_owned(),
        })
    };
    let first = soon(service.client.classify(classify(1_700_000_000_000)))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (first.severity.as_str(), first.stage.as_str()),
        ("critical", "classified")
    );
    assert_eq!(first.compromised_since_ms, 1_700_000_000_000);
    let later = soon(service.client.classify(classify(1_700_000_000_001)))
        .await
        .unwrap_err();
    assert_eq!(later.code(), Code::PermissionDenied);
    assert!(
        later.message().contains("only be moved to an earlier time"),
        "{}",
        later.message()
    );
    let earlier = soon(service.client.classify(classify(1_600_000_000_000)))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(earlier.compromised_since_ms, 1_600_000_000_000);
    let kept = soon(service.client.classify(classify(0)))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(kept.compromised_since_ms, 1_600_000_000_000);
    let future = soon(service.client.classify(classify(i64::MAX)))
        .await
        .unwrap_err();
    assert_eq!(future.code(), Code::InvalidArgument);
    service.stop().await;
}

#[tokio::test]
async fn a_reported_checkpoint_proves_itself_or_not() {
    let world = World::new().await;
    world.intend(3, [7; 32]).await;
    let mut service = world.start().await;
    let with = |id: &str, checkpoint: String| {
        let report = ReportRequest {
            checkpoint: checkpoint.into(),
            request_id: id.to_owned(),
            ..report()
        };
        by(report, "monitor", CallerRole::Detector)
    };
    let own = soon(service.client.report(with("a", world.signed(3, [7; 32]))))
        .await
        .unwrap();
    assert!(!own.into_inner().proven);
    let rubbish = soon(service.client.report(with("b", "rubbish".to_owned())))
        .await
        .unwrap();
    assert!(!rubbish.into_inner().proven);
    let forged = soon(service.client.report(with("c", world.signed(4, [9; 32]))))
        .await
        .unwrap()
        .into_inner();
    assert!(forged.proven);
    service
        .incident(|incident| incident.proven() && incident.classified.is_some())
        .await;
    assert_eq!(service.node.board.read(|i| i.logs["main"].holds.len()), 1);
    // The witness sees the same checkpoint: it is the same signal.
    world.sight(world.signed(4, [9; 32])).await;
    soon(
        service
            .client
            .report(by(report(), "monitor", CallerRole::Detector)),
    )
    .await
    .unwrap();
    let signals = world.events(|kind| Some(kind.clone())).await;
    let foreign: Vec<String> = signals
        .into_iter()
        .filter_map(|kind| {
            if let Kind::SignalReported(e) = kind {
                Some(e)
            } else {
                None
            }
        })
        .filter(|signal| signal.detector == "foreign-checkpoint")
        .map(|signal| signal.signal)
        .collect();
    assert_eq!(foreign, [forged.signal]);
    service.stop().await;
}

#[tokio::test]
async fn strangers_and_wrong_roles_are_refused() {
    let world = World::new().await;
    let mut service = world.start().await;
    let nobody = soon(service.client.report(report())).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unauthenticated);
    let sealer = soon(
        service
            .client
            .report(by(report(), "app", CallerRole::Sealer)),
    )
    .await
    .unwrap_err();
    assert_eq!(sealer.code(), Code::PermissionDenied);
    let classify = by(ClassifyRequest::default(), "monitor", CallerRole::Detector);
    assert_eq!(
        soon(service.client.classify(classify))
            .await
            .unwrap_err()
            .code(),
        Code::PermissionDenied
    );
    let list = by(ListRequest::default(), "app", CallerRole::Verifier);
    assert_eq!(
        soon(service.client.list(list)).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    service.stop().await;
}

#[tokio::test]
async fn bad_reports_are_refused_by_field() {
    let world = World::new().await;
    let mut service = world.start().await;
    let bad = [
        (
            ReportRequest {
                class: "weather".to_owned(),
                ..report()
            },
            "class is \"weather\"; use one of certificate-expiring, data-integrity, key-compromise, ",
        ),
        (
            ReportRequest {
                log: "other".to_owned(),
                ..report()
            },
            "log is \"other\"",
        ),
        (
            ReportRequest {
                origin: "other/1".to_owned(),
                ..report()
            },
            "origin is \"other/1\"",
        ),
        (
            ReportRequest {
                seen: " ".to_owned(),
                ..report()
            },
            "seen is empty",
        ),
        (
            ReportRequest {
                seen: "x".repeat(3000),
                ..report()
            },
            "seen has 3000 bytes",
        ),
        (
            ReportRequest {
                expected: "a\nb".to_owned(),
                ..report()
            },
            "expected has 3 bytes",
        ),
        (
            ReportRequest {
                earliest_at_ms: -1,
                ..report()
            },
            "earliest_at_ms is -1",
        ),
        (
            ReportRequest {
                earliest_at_ms: i64::MAX,
                ..report()
            },
            "earliest_at_ms is",
        ),
        (
            ReportRequest {
                checkpoint: vec![b'x'; 70_000].into(),
                ..report()
            },
            "checkpoint has 70000 bytes",
        ),
    ];
    for (request, reason) in bad {
        let status = soon(service.client.report(person(request)))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(reason), "{}", status.message());
    }
    let unknown = ClassifyRequest {
        incident: "I-nothing-1".to_owned(),
        class: "key-compromise".to_owned(),
        ..ClassifyRequest::default()
    };
    assert_eq!(
        soon(service.client.classify(person(unknown)))
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );
    service.stop().await;
}

#[tokio::test]
async fn one_incident_takes_in_a_bounded_number_of_reports() {
    let world = World::new().await;
    let mut service = world.start().await;
    let nth = |n: u32| {
        person(ReportRequest {
            request_id: format!("r-{n}"),
            ..report()
        })
    };
    for n in 0..64 {
        soon(service.client.report(nth(n))).await.unwrap();
    }
    let full = soon(service.client.report(nth(64))).await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted);
    assert!(
        soon(service.client.report(nth(3))).await.is_ok(),
        "a known report is answered"
    );
    service.stop().await;
}

#[tokio::test]
async fn lost_and_stored_appends_without_answer_change_nothing() {
    let faulty = Arc::new(Faulty::new(Memory::new()));
    let world = World::on(faulty.clone()).await;
    let service = world.start().await;
    faulty.script_appends([
        AppendFault::Pass, // the sighting
        AppendFault::Lost,
        AppendFault::StoredUnknown,
        AppendFault::Pass,
        AppendFault::Unavailable,
        AppendFault::StoredUnknown,
        AppendFault::Lost,
    ]);
    world.sight(world.signed(4, [9; 32])).await;
    service
        .incident(|incident| incident.classified.is_some())
        .await;
    assert_eq!(faulty.appends_left(), 0);
    let ours = |kind: &Kind| {
        let written = matches!(
            kind,
            Kind::SignalReported(_)
                | Kind::HoldPlaced(_)
                | Kind::IncidentOpened(_)
                | Kind::IncidentClassified(_)
        );
        written.then_some(())
    };
    let kinds = world.events(ours).await;
    assert_eq!(kinds.len(), 4);
    service.stop().await;
}
