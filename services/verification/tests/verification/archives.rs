//! When revalidations begin by themselves.

use sealwarden_archive::{NO_PAGE, Page, page_key};
use sealwarden_engine::decode;
use sealwarden_eventlog::{EventLog as _, Filter};
use sealwarden_verification::{ArchiveConfig, Config};
use sealwarden_wire::event::v1::{
    ArchiveExtended, RevalidationFinished, RevalidationStarted, event::Kind,
};

use crate::support::{World, now_ms, soon};

const HOUR_MS: i64 = 3_600_000;

/// An archive with one page, whose last revalidation began so long ago; a revalidation is due each 24 hours.
async fn archived(world: &World, began_ms_ago: i64) -> Config {
    let at = |name: &str| world.dir.path().join(name).display().to_string();
    let config = ArchiveConfig {
        name: "main".to_owned(),
        url: at("archive"),
        backup: at("backup"),
        every_h: 24,
        jitter_min: 0,
        ..ArchiveConfig::default()
    };
    let (bytes, digest) = Page::new("main", 1, NO_PAGE, Vec::new())
        .to_bytes()
        .unwrap();
    for store in [&config.url, &config.backup] {
        let path = std::path::Path::new(store).join(page_key(1));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &bytes).unwrap();
    }
    let extended = ArchiveExtended {
        archive: "main".to_owned(),
        page: 1,
        page_sha256: digest.to_vec().into(),
        ..ArchiveExtended::default()
    };
    let started = RevalidationStarted {
        archive: "main".to_owned(),
        job: "main-1".to_owned(),
        pages: 1,
        by: "schedule".to_owned(),
        node: "verification-1".to_owned(),
        started_at_ms: now_ms() - began_ms_ago,
    };
    let finished = RevalidationFinished {
        archive: "main".to_owned(),
        job: "main-1".to_owned(),
        outcome: "completed".to_owned(),
        ..RevalidationFinished::default()
    };
    for kind in [
        Kind::ArchiveExtended(extended),
        Kind::RevalidationStarted(started),
        Kind::RevalidationFinished(finished),
    ] {
        world.write("archive", "main", kind).await;
    }
    Config {
        archives: vec![config],
        ..Config::default()
    }
}

fn is_job(kind: &Kind, wanted: &str) -> bool {
    matches!(kind, Kind::RevalidationStarted(e) if e.job == wanted && e.by == "schedule")
}

#[tokio::test]
async fn a_revalidation_that_was_missed_while_the_service_was_down_begins_when_it_is_back() {
    let world = World::with_leaves(1).await;
    let config = archived(&world, 25 * HOUR_MS).await;
    let mut commits = world.log.subscribe(Filter::All, 0).await.unwrap();
    let service = world.try_start(config).await.unwrap();
    let (mut started, mut ended) = (0, 0);
    while ended == 0 {
        let recorded = soon(commits.next_commit()).await.unwrap().unwrap();
        let events = decode(&recorded).unwrap().events;
        for kind in events.iter().filter_map(|e| e.kind.as_ref()) {
            started += usize::from(is_job(kind, "main-2"));
            ended += usize::from(
                matches!(kind, Kind::RevalidationFinished(e) if e.job == "main-2" && e.outcome == "completed"),
            );
        }
    }
    assert_eq!(started, 1);
    service.stop().await;
    let events = world.events().await;
    assert!(
        !events.iter().any(|kind| is_job(kind, "main-3")),
        "one that was missed begins once"
    );
}

#[tokio::test]
async fn before_its_time_none_begins() {
    let world = World::with_leaves(1).await;
    let config = archived(&world, 23 * HOUR_MS).await;
    let identity = world.dir.path().join("archive/archive.json");
    let service = world.try_start(config).await.unwrap();
    // The archive is open once it has said which one it is; then the schedule has been looked at, or is before the service ends.
    soon(async {
        while !identity.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    service.stop().await;
    let events = world.events().await;
    assert!(!events.iter().any(|kind| is_job(kind, "main-2")));
}
