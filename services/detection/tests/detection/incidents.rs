//! From events in the log to incidents, and nothing twice.

use crate::support::{ORIGIN, Service, World, by, soon};
use sealwarden_domain::incident::Incident;
use sealwarden_pki::CallerRole;
use sealwarden_wire::event::v1::{
    IncidentStage, IncidentStageReached, SignalReported, event::Kind,
};
use sealwarden_wire::incident::v1::{ListRequest, ReportRequest, ShowRequest};

/// How often the service wrote each thing down.
async fn written(world: &World) -> [usize; 5] {
    let kinds = world.events(|kind| Some(kind.clone())).await;
    let count = |wanted: fn(&Kind) -> bool| kinds.iter().filter(|kind| wanted(kind)).count();
    [
        count(|kind| matches!(kind, Kind::SignalReported(_))),
        count(|kind| matches!(kind, Kind::HoldPlaced(_))),
        count(|kind| matches!(kind, Kind::IncidentOpened(_))),
        count(|kind| matches!(kind, Kind::SignalJoined(_))),
        count(|kind| matches!(kind, Kind::IncidentClassified(_))),
    ]
}

/// A report about nothing else: when it is answered, everything before it has been dealt with.
async fn flush(service: &mut Service, id: &str) {
    let report = ReportRequest {
        class: "key-compromise".to_owned(),
        seen: "marker".to_owned(),
        request_id: id.to_owned(),
        ..ReportRequest::default()
    };
    soon(
        service
            .client
            .report(by(report, "probe", CallerRole::Detector)),
    )
    .await
    .unwrap();
}

fn complete(incident: &Incident) -> bool {
    incident.signals.len() == 2 && incident.classified.is_some()
}

#[tokio::test]
async fn two_signals_of_one_subject_make_one_incident_with_a_hold() {
    let world = World::new().await;
    let service = world.start().await;
    world.intend(3, [7; 32]).await;
    world.sight(world.signed(4, [9; 32])).await;
    world.key_use(&[5; 32], "{\"use\":1}").await;
    let (id, incident) = service.incident(complete).await;
    assert!(id.starts_with("I-") && id.ends_with("-1"), "{id}");
    assert!(incident.proven());
    let classified = incident.classified.clone().unwrap();
    assert_eq!(
        (classified.class.as_str(), classified.severity.as_str()),
        ("key-compromise", "critical")
    );
    assert_eq!(classified.runbook, "key-compromise");
    assert_eq!(classified.target_contain_ms, 60_000);
    assert_eq!(
        classified.compromised_since_ms,
        incident.opened.as_ref().unwrap().earliest_at_ms
    );
    let hold = service.node.board.read(|i| i.logs["main"].holds.clone());
    assert_eq!(hold.len(), 1);
    assert_eq!(
        (hold[0].incident.as_str(), hold[0].origin.as_str()),
        (id.as_str(), ORIGIN)
    );
    service.stop().await;
}

#[tokio::test]
async fn signing_is_held_before_the_incident_is_opened() {
    let world = World::new().await;
    let service = world.start().await;
    world.sight(world.signed(4, [9; 32])).await;
    service
        .incident(|incident| incident.classified.is_some())
        .await;
    let name = |kind: &Kind| {
        let names = [
            ("signal", matches!(kind, Kind::SignalReported(_))),
            ("hold", matches!(kind, Kind::HoldPlaced(_))),
            ("incident", matches!(kind, Kind::IncidentOpened(_))),
            ("classified", matches!(kind, Kind::IncidentClassified(_))),
        ];
        names.into_iter().find(|(_, is)| *is).map(|(name, _)| name)
    };
    let order = world.events(name).await;
    assert_eq!(order, ["signal", "hold", "incident", "classified"]);
    service.stop().await;
}

#[tokio::test]
async fn a_restart_replays_the_log_and_creates_nothing_new() {
    let world = World::new().await;
    let mut service = world.start().await;
    world.sight(world.signed(4, [9; 32])).await;
    world.key_use(&[5; 32], "{\"use\":1}").await;
    world.sight(world.signed(4, [9; 32])).await;
    service.incident(complete).await;
    flush(&mut service, "first").await;
    service.stop().await;
    let before = written(&world).await;
    assert_eq!(before, [3, 1, 2, 3, 1]);
    let mut service = world.start().await;
    flush(&mut service, "second").await;
    service.stop().await;
    // The second marker is a signal of the first marker's subject, and all that is new.
    assert_eq!(written(&world).await, [4, 1, 2, 4, 1]);
}

#[tokio::test]
async fn what_happened_while_the_service_was_down_is_found_when_it_starts() {
    let world = World::new().await;
    world.intend(3, [7; 32]).await;
    world.sight(world.signed(3, [9; 32])).await;
    let service = world.start().await;
    let (_, incident) = service
        .incident(|incident| incident.classified.is_some())
        .await;
    assert!(incident.proven());
    service.stop().await;
}

#[tokio::test]
async fn honest_uses_and_checkpoints_are_no_incident() {
    let world = World::new().await;
    let mut service = world.start().await;
    let message = world.intend(3, [7; 32]).await;
    world.key_use(&message, "{\"use\":1}").await;
    world.sight(world.signed(3, [7; 32])).await;
    flush(&mut service, "marker").await;
    assert_eq!(written(&world).await, [1, 0, 1, 1, 0]);
    service.stop().await;
}

#[tokio::test]
async fn a_malformed_audit_line_waits_for_a_person() {
    let world = World::new().await;
    let mut service = world.start().await;
    world.key_use(&[], "{torn").await;
    let (_, incident) = service.incident(|incident| incident.opened.is_some()).await;
    flush(&mut service, "marker").await;
    assert!(!incident.proven());
    assert_eq!(written(&world).await, [2, 0, 2, 2, 0]);
    service.stop().await;
}

#[tokio::test]
async fn a_proven_signal_of_a_class_that_the_plan_does_not_know_waits_for_a_person_to_classify_it()
{
    let world = World::new().await;
    let mut service = world.start().await;
    let signal = SignalReported {
        key: String::new(),
        signal: "S-0badcafe0001".to_owned(),
        detector: "event-heads".to_owned(),
        class: "nobody-planned-for-this".to_owned(),
        subject: "event log test".to_owned(),
        proven: true,
        seen: "another commit at position 5 of log/main".to_owned(),
        expected: "the commit that was sealed".to_owned(),
        earliest_at_ms: 1_700_000_000_000,
        ..SignalReported::default()
    };
    world
        .write("signal", "S-0badcafe0001", Kind::SignalReported(signal))
        .await;
    let (id, incident) = service.incident(Incident::proven).await;
    flush(&mut service, "marker").await;
    assert!(incident.classified.is_none());
    assert_eq!(
        incident.opened.unwrap().title,
        "nobody-planned-for-this of event log test"
    );
    assert_eq!(written(&world).await, [2, 0, 2, 2, 0], "no hold, no class");
    let listed = ListRequest { open_only: true };
    let listed = soon(service.client.list(by(listed, "ada", CallerRole::Operator))).await;
    let listed = listed.unwrap().into_inner().incidents;
    let shown = listed.iter().find(|it| it.incident == id).unwrap();
    assert_eq!(
        (shown.class.as_str(), shown.stage.as_str()),
        ("", "detected")
    );
    service.stop().await;
}

#[tokio::test]
async fn a_flood_of_sightings_makes_one_incident_of_bounded_size() {
    let world = World::new().await;
    let mut service = world.start().await;
    for size in 1..=100 {
        world.sight(world.signed(size, [9; 32])).await;
    }
    let (id, _) = service
        .incident(|i| i.signals.len() == 32 && i.classified.is_some())
        .await;
    flush(&mut service, "first").await;
    assert_eq!(written(&world).await, [33, 1, 2, 33, 1]);
    let shown = soon(service.client.show(by(
        ShowRequest {
            incident: id.clone(),
        },
        "ada",
        CallerRole::Operator,
    )));
    let timeline = shown.await.unwrap().into_inner().timeline;
    assert!(
        timeline
            .last()
            .unwrap()
            .text
            .contains("68 further findings")
    );
    // Closing the incident does not make the counted ones come up after a restart.
    let closed = IncidentStageReached {
        stage: IncidentStage::Closed.into(),
        reason: "over".to_owned(),
    };
    world
        .write("incident", &id, Kind::IncidentStageReached(closed))
        .await;
    service.stop().await;
    let mut service = world.start().await;
    flush(&mut service, "second").await;
    assert_eq!(written(&world).await, [34, 1, 2, 34, 1]);
    // But something new does.
    world.sight(world.signed(500, [9; 32])).await;
    service
        .incident(|i| i.opened.is_some() && i.is_open() && i.proven())
        .await;
    service.stop().await;
}

#[tokio::test]
async fn the_timeline_tells_the_story_and_targets_count_from_the_first_bad_event() {
    let world = World::new().await;
    let mut service = world.start().await;
    world.sight(world.signed(4, [9; 32])).await;
    let (id, _) = service
        .incident(|incident| incident.classified.is_some())
        .await;
    flush(&mut service, "marker").await;
    let show = by(ShowRequest { incident: id }, "ada", CallerRole::Operator);
    let shown = soon(service.client.show(show)).await.unwrap().into_inner();
    let texts: Vec<&str> = shown
        .timeline
        .iter()
        .map(|entry| entry.text.as_str())
        .collect();
    let expected = [
        "a signed checkpoint of",
        "foreign-checkpoint reports key-compromise, with proof",
        "signing with seal.example.com/main/1 is held until",
        "incident opened",
        "signal S-",
        "detected:",
        "classified as key-compromise (critical)",
        "classified:",
        "duty gdpr/controllers is due at once",
        "duty gdpr/persons is due at once",
        "duty pci/acquirer is due at once",
    ];
    assert_eq!(texts.len(), expected.len(), "{texts:#?}");
    for (text, start) in texts.iter().zip(expected) {
        assert!(
            text.starts_with(start),
            "{text:?} does not start with {start:?}"
        );
    }
    let names: Vec<&str> = shown
        .targets
        .iter()
        .map(|target| target.name.as_str())
        .collect();
    assert_eq!(names, ["detect", "contain", "recover"]);
    assert_eq!(shown.targets[0].target_ms, 5_000);
    assert!((0..5_000).contains(&shown.targets[0].actual_ms));
    assert_eq!(
        (shown.targets[1].actual_ms, shown.targets[2].actual_ms),
        (-1, -1)
    );
    service.stop().await;
}
