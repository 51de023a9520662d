//! What only the embedded log promises: durable before answered, poisoned after a failed sync,
//! one process a folder, damage noticed.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::*;
use crate::subscription::Delivery;

/// Counts syncs, and fails from a given one on.
struct Counted {
    files: SledFiles,
    syncs: Arc<AtomicUsize>,
    fail_from: usize,
}

impl Durable for Counted {
    fn sync(&mut self) -> io::Result<()> {
        if self.syncs.fetch_add(1, Ordering::SeqCst) + 1 >= self.fail_from {
            return Err(io::Error::other("scripted: the disk is gone"));
        }
        self.files.sync()
    }
}

struct Bench {
    log: Embedded,
    syncs: Arc<AtomicUsize>,
    stages: Arc<Mutex<Vec<Stage>>>,
    free: Arc<AtomicU64>,
}

async fn bench(dir: &Path, fail_from: usize) -> Bench {
    let (syncs, stages) = (
        Arc::<AtomicUsize>::default(),
        Arc::<Mutex<Vec<Stage>>>::default(),
    );
    let free = Arc::new(AtomicU64::new(1 << 40));
    let room = Arc::clone(&free);
    let (counter, seen, dir) = (Arc::clone(&syncs), Arc::clone(&stages), dir.to_owned());
    let log = blocking_open(move || {
        let store = Store::open(&dir)?;
        let files = SledFiles::open(&dir).unwrap();
        let durable = Counted {
            files,
            syncs: counter,
            fail_from,
        };
        let observe = move |stage| seen.lock().unwrap().push(stage);
        let free = move || Ok(room.load(Ordering::SeqCst));
        Embedded::start(store, Box::new(durable), Box::new(free), Box::new(observe))
    })
    .await
    .unwrap();
    Bench {
        log,
        syncs,
        stages,
        free,
    }
}

fn stream() -> StreamName {
    StreamName::new("log", "main").unwrap()
}

/// The raw database, once the closing log has let go of it.
fn raw(dir: &Path) -> sled::Db {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match sled::Config::new().path(dir).segment_size(4 << 20).open() {
            Ok(db) => return db,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_commit_is_answered_only_after_the_sync_that_follows_its_flush() {
    let dir = tempfile::tempdir().unwrap();
    let Bench {
        log, syncs, stages, ..
    } = bench(dir.path(), usize::MAX).await;
    let at_open = syncs.load(Ordering::SeqCst);
    let mut head = Head::EMPTY;
    for count in 1..=3 {
        head = log
            .append(&stream(), head, NewCommit::new("x"))
            .await
            .unwrap()
            .head();
        assert_eq!(syncs.load(Ordering::SeqCst), at_open + count);
    }
    drop(log);
    let group = [
        Stage::Written,
        Stage::Flushed,
        Stage::Synced,
        Stage::Answered,
    ];
    // The last `Answered` may still be on its way when its caller already has the answer.
    assert!(
        [group, group, group]
            .concat()
            .starts_with(&stages.lock().unwrap())
    );
    assert!(stages.lock().unwrap().len() >= 11);
}

#[tokio::test]
async fn a_full_disk_refuses_appends_before_anything_is_written_and_they_go_on_when_there_is_room()
{
    let dir = tempfile::tempdir().unwrap();
    let Bench {
        log, syncs, free, ..
    } = bench(dir.path(), usize::MAX).await;
    let first = log
        .append(&stream(), Head::EMPTY, NewCommit::new("x"))
        .await
        .unwrap();
    let before = syncs.load(Ordering::SeqCst);
    free.store(1 << 20, Ordering::SeqCst);
    let second = NewCommit::new("y");
    let error = log
        .append(&stream(), first.head(), second.clone())
        .await
        .unwrap_err();
    let AppendError::Unavailable { reason } = error else {
        panic!("{error}");
    };
    assert!(reason.contains("1048576 bytes free"), "{reason}");
    assert_eq!(syncs.load(Ordering::SeqCst), before);
    assert_eq!(log.last_position().await.unwrap(), first.position);
    free.store(1 << 40, Ordering::SeqCst);
    let stored = log.append(&stream(), first.head(), second).await.unwrap();
    assert_eq!(stored.position, first.position + 1);
}

#[tokio::test]
async fn concurrent_commits_share_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let Bench { log, syncs, .. } = bench(dir.path(), usize::MAX).await;
    let log = Arc::new(log);
    let mut tasks = Vec::new();
    for id in 0..512 {
        let log = Arc::clone(&log);
        let stream = StreamName::new("run", id.to_string()).unwrap();
        tasks.push(tokio::spawn(async move {
            log.append(&stream, Head::EMPTY, NewCommit::new("x"))
                .await
                .unwrap()
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert!(
        syncs.load(Ordering::SeqCst) < 256,
        "{} syncs",
        syncs.load(Ordering::SeqCst)
    );
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_or_shown_any_more() {
    let dir = tempfile::tempdir().unwrap();
    // The first sync belongs to opening, the second to the first commit.
    let Bench { log, .. } = bench(dir.path(), 3).await;
    let first = log
        .append(&stream(), Head::EMPTY, NewCommit::new("a"))
        .await
        .unwrap();
    let mut all = log.subscribe(Filter::All, 0).await.unwrap();
    let failed = log
        .append(&stream(), first.head(), NewCommit::new("b"))
        .await;
    assert!(
        matches!(&failed, Err(AppendError::Unknown { reason }) if reason.contains("disk is gone"))
    );
    for expected in [Head::EMPTY, first.head()] {
        let later = log.append(&stream(), expected, NewCommit::new("c")).await;
        assert!(
            matches!(&later, Err(AppendError::Unavailable { reason }) if reason.contains("disk is gone")),
            "{later:?}"
        );
    }
    assert_eq!(
        log.read(&stream(), 0, 10).await.unwrap(),
        std::slice::from_ref(&first)
    );
    assert_eq!(log.head(&stream()).await.unwrap(), first.head());
    assert_eq!(log.last_position().await.unwrap(), first.position);
    assert_eq!(all.next().await, Some(Ok(Delivery::Commit(first.clone()))));
    assert_eq!(
        all.next().await,
        Some(Ok(Delivery::CaughtUp(first.position)))
    );
}

#[tokio::test]
async fn a_second_holder_of_the_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = Embedded::open(dir.path()).await.unwrap();
    assert!(matches!(
        Embedded::open(dir.path()).await,
        Err(OpenError::Locked { .. })
    ));
    drop(log);
    assert!(Embedded::open(dir.path()).await.is_ok());
}

#[tokio::test]
async fn a_flipped_byte_is_noticed_by_every_way_of_reading() {
    let dir = tempfile::tempdir().unwrap();
    let log = Embedded::open(dir.path()).await.unwrap();
    let first = log
        .append(&stream(), Head::EMPTY, NewCommit::new("one"))
        .await
        .unwrap();
    let second = log
        .append(&stream(), first.head(), NewCommit::new("two"))
        .await
        .unwrap();
    let third = log
        .append(&stream(), second.head(), NewCommit::new("three"))
        .await
        .unwrap();
    drop(log);
    {
        let db = raw(dir.path());
        let key = layout::commit_key(second.position);
        let mut value = db.get(&key).unwrap().unwrap().to_vec();
        *value.last_mut().unwrap() ^= 1;
        db.insert(key, value).unwrap();
        db.flush().unwrap();
    }
    let log = Embedded::open(dir.path()).await.unwrap();
    assert!(matches!(
        log.read(&stream(), 0, 10).await,
        Err(ReadError::Corrupt { .. })
    ));
    assert_eq!(
        log.read(&stream(), second.position, 10).await.unwrap(),
        [third]
    );
    for filter in [
        Filter::All,
        Filter::Category("log".to_owned()),
        Filter::Stream(stream()),
    ] {
        let mut subscription = log.subscribe(filter, 0).await.unwrap();
        assert!(matches!(
            subscription.next().await,
            Some(Err(ReadError::Corrupt { .. }))
        ));
        assert_eq!(subscription.next().await, None);
    }
}

#[tokio::test]
async fn a_commit_cut_out_of_its_stream_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let log = Embedded::open(dir.path()).await.unwrap();
    let mut head = Head::EMPTY;
    for payload in ["one", "two", "three"] {
        head = log
            .append(&stream(), head, NewCommit::new(payload))
            .await
            .unwrap()
            .head();
    }
    drop(log);
    {
        let db = raw(dir.path());
        db.remove(layout::index_key(&stream(), 2)).unwrap();
        db.remove(layout::commit_key(2)).unwrap();
        db.flush().unwrap();
    }
    let log = Embedded::open(dir.path()).await.unwrap();
    assert!(matches!(
        log.read(&stream(), 0, 10).await,
        Err(ReadError::Corrupt { .. })
    ));
}

#[tokio::test]
async fn payloads_of_every_size_come_back_and_no_page_becomes_a_blob() {
    let dir = tempfile::tempdir().unwrap();
    let log = Embedded::open(dir.path()).await.unwrap();
    let mut head = Head::EMPTY;
    let sizes = [
        0,
        1,
        16_383,
        16_384,
        16_385,
        400_000,
        crate::MAX_PAYLOAD_BYTES,
    ];
    for size in sizes
        .into_iter()
        .chain(std::iter::repeat_n(crate::MAX_PAYLOAD_BYTES, 24))
    {
        let payload: Vec<u8> = (0..size)
            .map(|at| u8::try_from(at % 251).unwrap())
            .collect();
        head = log
            .append(&stream(), head, NewCommit::new(payload))
            .await
            .unwrap()
            .head();
    }
    drop(log);
    let log = Embedded::open(dir.path()).await.unwrap();
    let stored = log.read(&stream(), 0, 7).await.unwrap();
    assert_eq!(
        stored
            .iter()
            .map(|commit| commit.payload.len())
            .collect::<Vec<_>>(),
        sizes
    );
    assert_eq!(log.head(&stream()).await.unwrap(), head);
    assert_eq!(
        std::fs::read_dir(dir.path().join("blobs")).unwrap().count(),
        0
    );
}
