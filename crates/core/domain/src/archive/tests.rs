//! Commands and folds of an archive.

use sealwarden_wire::event::v1::{
    ArchiveDamage, ArchiveDamageFound, ArchiveExtended, DocumentQuarantined, DocumentReleased,
    Envelope, Event, RevalidationFinished, event::Kind,
};

use super::{Archive, Command, MAX_DAMAGE, MAX_QUARANTINED, decide};
use crate::fold::{Fold as _, Rejection, RejectionCode, event};

fn envelope() -> Envelope {
    Envelope {
        stream: "archive/main".to_owned(),
        recorded_at_ms: 7,
        ..Envelope::default()
    }
}

fn run(archive: &mut Archive, command: Command) -> Result<Vec<Event>, Rejection> {
    let events = decide(archive, command)?;
    for event in &events {
        archive.apply(&envelope(), event).unwrap();
    }
    Ok(events)
}

fn start() -> Command {
    Command::Start {
        archive: "main".to_owned(),
        by: "schedule".to_owned(),
        node: "verification-1".to_owned(),
        at_ms: 5,
    }
}

fn found(job: &str, objects: &[&str]) -> Command {
    let damage = objects.iter().map(|object| ArchiveDamage {
        object: (*object).to_owned(),
        class: "missing".to_owned(),
        ..ArchiveDamage::default()
    });
    Command::Find(ArchiveDamageFound {
        archive: "main".to_owned(),
        job: job.to_owned(),
        damage: damage.collect(),
        found_at_ms: 6,
    })
}

fn finish(job: &str) -> Command {
    Command::Finish(RevalidationFinished {
        job: job.to_owned(),
        ..RevalidationFinished::default()
    })
}

fn quarantine(objects: &[&str]) -> Command {
    Command::Quarantine(DocumentQuarantined {
        objects: objects.iter().map(|o| (*o).to_owned()).collect(),
        ..DocumentQuarantined::default()
    })
}

fn page(number: u64, digest: &[u8]) -> ArchiveExtended {
    ArchiveExtended {
        page: number,
        page_sha256: digest.to_vec().into(),
        ..ArchiveExtended::default()
    }
}

#[test]
fn pages_are_counted_without_gaps() {
    let mut archive = Archive::default();
    assert!(run(&mut archive, Command::Extend(page(2, &[1; 32]))).is_err());
    assert!(run(&mut archive, Command::Extend(page(1, &[1; 31]))).is_err());
    run(&mut archive, Command::Extend(page(1, &[1; 32]))).unwrap();
    run(&mut archive, Command::Extend(page(2, &[2; 32]))).unwrap();
    assert_eq!(archive.pages, [[1; 32], [2; 32]]);
    let illegal = event(Kind::ArchiveExtended(page(9, &[3; 32])));
    assert!(archive.apply(&envelope(), &illegal).is_err());
}

#[test]
fn one_revalidation_is_under_way_at_a_time_and_ends_once() {
    let mut archive = Archive::default();
    assert!(run(&mut archive, finish("main-1")).is_err());
    run(&mut archive, start()).unwrap();
    assert_eq!(archive.running().unwrap().job, "main-1");
    let refused = run(&mut archive, start()).unwrap_err();
    assert_eq!(refused.code, RejectionCode::NotNow);
    assert!(refused.reason.contains("main-1"), "{}", refused.reason);
    assert!(run(&mut archive, finish("main-2")).is_err());
    run(&mut archive, finish("main-1")).unwrap();
    assert_eq!(run(&mut archive, finish("main-1")).unwrap(), []);
    run(&mut archive, start()).unwrap();
    assert_eq!(archive.running().unwrap().job, "main-2");
}

#[test]
fn known_damage_is_said_once_and_what_is_not_quarantined_is_said_again_by_the_next_revalidation() {
    let mut archive = Archive::default();
    assert!(run(&mut archive, found("main-1", &["a"])).is_err());
    run(&mut archive, start()).unwrap();
    assert_eq!(
        run(&mut archive, found("main-1", &["a", "b"]))
            .unwrap()
            .len(),
        1
    );
    assert_eq!(run(&mut archive, found("main-1", &["b", "a"])).unwrap(), []);
    assert!(!archive.knows("a", "missing", "main-1"));
    run(&mut archive, quarantine(&["a"])).unwrap();
    run(&mut archive, finish("main-1")).unwrap();
    run(&mut archive, start()).unwrap();
    assert!(archive.knows("a", "missing", "main-2"));
    let again = run(&mut archive, found("main-2", &["a", "b"])).unwrap();
    let Some(Kind::ArchiveDamageFound(again)) = &again[0].kind else {
        panic!("{again:?}");
    };
    assert_eq!(again.damage.len(), 1);
    assert_eq!(again.damage[0].object, "b");
}

#[test]
fn a_release_ends_quarantine_and_damage() {
    let mut archive = Archive::default();
    run(&mut archive, quarantine(&["a", "b"])).unwrap();
    assert_eq!(run(&mut archive, quarantine(&["a"])).unwrap(), []);
    let release = Command::Release(DocumentReleased {
        object: "a".to_owned(),
        ..DocumentReleased::default()
    });
    assert_eq!(run(&mut archive, release.clone()).unwrap().len(), 1);
    assert_eq!(run(&mut archive, release).unwrap(), []);
    assert_eq!(archive.quarantined.keys().collect::<Vec<_>>(), ["b"]);
}

#[test]
fn events_are_bounded() {
    let mut archive = Archive::default();
    run(&mut archive, start()).unwrap();
    let objects: Vec<String> = (0..=MAX_QUARANTINED).map(|n| n.to_string()).collect();
    let objects: Vec<&str> = objects.iter().map(String::as_str).collect();
    assert!(run(&mut archive, quarantine(&objects)).is_err());
    assert!(run(&mut archive, found("main-1", &objects[..=MAX_DAMAGE])).is_err());
}

#[test]
fn events_of_other_streams_are_illegal_and_unknown_ones_are_passed_over() {
    let mut archive = Archive::default();
    let foreign = event(Kind::SuspensionAdded(
        sealwarden_wire::event::v1::SuspensionAdded::default(),
    ));
    assert!(archive.apply(&envelope(), &foreign).is_err());
    assert!(archive.apply(&envelope(), &Event { kind: None }).is_ok());
    let before = archive.clone();
    let started = |job: &str| {
        event(Kind::RevalidationStarted(
            sealwarden_wire::event::v1::RevalidationStarted {
                job: job.to_owned(),
                ..Default::default()
            },
        ))
    };
    archive.apply(&envelope(), &started("main-1")).unwrap();
    assert!(archive.apply(&envelope(), &started("main-2")).is_err());
    assert_ne!(archive, before);
}
