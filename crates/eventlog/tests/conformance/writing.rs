//! Statements about appending and reading.

use sealwarden_eventlog::{AppendError, EventLog, Head, MAX_PAYLOAD_BYTES, NewCommit, Recorded};

use crate::adapters::{Adapter, commit, grow, stream};

pub(crate) async fn commits_come_back_as_they_were_written(adapter: &mut impl Adapter) {
    let log = adapter.open().await;
    let names = [
        "log/main",
        "run/seal.example.com_1-a",
        "run/seal-example.com_1-a",
    ];
    let mut heads = [Head::EMPTY; 3];
    let mut written: Vec<Recorded> = Vec::new();
    for number in 0..30_u8 {
        let which = usize::from(number) % 3;
        let new = commit(number, &format!("payload {number}"));
        let stored = log
            .append(&stream(names[which]), heads[which], new.clone())
            .await
            .unwrap();
        assert_eq!((stored.commit_id, &stored.payload), (new.id, &new.payload));
        assert_eq!(stored.stream, stream(names[which]));
        assert_eq!(stored.prev_hash, heads[which].hash);
        assert_eq!(
            stored.hash,
            Recorded::chain_hash(&heads[which].hash, &stored.stream, new.id, &new.payload)
        );
        if let Some(last) = written.last() {
            assert!(stored.position > last.position);
            assert!(stored.recorded_at_ms >= last.recorded_at_ms);
        }
        assert!(stored.recorded_at_ms > 1_600_000_000_000);
        heads[which] = stored.head();
        written.push(stored);
    }
    assert_eq!(log.last_position().await.unwrap(), written[29].position);
    for (name, head) in names.iter().zip(heads) {
        let name = stream(name);
        let mine: Vec<_> = written
            .iter()
            .filter(|one| one.stream == name)
            .cloned()
            .collect();
        assert_eq!(log.head(&name).await.unwrap(), head);
        assert_eq!(log.read(&name, 0, 100).await.unwrap(), mine);
        assert_eq!(log.read(&name, 0, 4).await.unwrap(), mine[..4]);
        assert_eq!(
            log.read(&name, mine[3].position, 100).await.unwrap(),
            mine[4..]
        );
        assert_eq!(log.read(&name, mine[3].position, 0).await.unwrap(), []);
        assert_eq!(log.read(&name, head.position, 100).await.unwrap(), []);
    }
}

pub(crate) async fn an_empty_log_has_no_commits_and_no_head(adapter: &mut impl Adapter) {
    let log = adapter.open().await;
    assert_eq!(log.last_position().await.unwrap(), 0);
    assert_eq!(log.head(&stream("log/main")).await.unwrap(), Head::EMPTY);
    assert_eq!(log.read(&stream("log/main"), 0, 10).await.unwrap(), []);
    assert_eq!(log.read(&stream("log/main"), 7, 10).await.unwrap(), []);
}

pub(crate) async fn a_stale_head_is_a_conflict_and_nothing_is_stored(adapter: &mut impl Adapter) {
    let log = adapter.open().await;
    grow(&*log, "log/other", 2).await;
    let name = stream("log/main");
    let first = log
        .append(&name, Head::EMPTY, commit(1, "a"))
        .await
        .unwrap();
    let second = log
        .append(&name, first.head(), commit(2, "b"))
        .await
        .unwrap();
    let never = Head {
        position: second.position + 1_000,
        hash: [1; 32],
    };
    for stale in [Head::EMPTY, first.head(), never] {
        let answer = log.append(&name, stale, commit(3, "c")).await;
        assert_eq!(
            answer,
            Err(AppendError::Conflict {
                head: second.head()
            })
        );
    }
    let answer = log
        .append(&stream("log/new"), second.head(), commit(4, "d"))
        .await;
    assert_eq!(answer, Err(AppendError::Conflict { head: Head::EMPTY }));
    assert_eq!(log.read(&name, 0, 10).await.unwrap(), [first, second]);
    assert_eq!(log.read(&stream("log/new"), 0, 10).await.unwrap(), []);
}

pub(crate) async fn a_head_with_another_hash_is_a_conflict(adapter: &mut impl Adapter) {
    let log = adapter.open().await;
    let name = stream("log/main");
    let first = log
        .append(&name, Head::EMPTY, commit(1, "a"))
        .await
        .unwrap();
    let other = Head {
        hash: [9; 32],
        ..first.head()
    };
    let answer = log.append(&name, other, commit(2, "b")).await;
    assert_eq!(answer, Err(AppendError::Conflict { head: first.head() }));
    let empty = Head {
        hash: [9; 32],
        ..Head::EMPTY
    };
    let answer = log.append(&stream("log/new"), empty, commit(2, "b")).await;
    assert_eq!(answer, Err(AppendError::Conflict { head: Head::EMPTY }));
}

/// Appends until each of `count` commits is stored, counting the conflicts.
async fn race(log: &dyn EventLog, who: u8, count: u8) -> (Vec<Recorded>, usize) {
    let name = stream("log/main");
    let (mut won, mut lost) = (Vec::new(), 0);
    let mut head = Head::EMPTY;
    for number in 0..count {
        let new = NewCommit::new(vec![who, number]);
        loop {
            match log.append(&name, head, new.clone()).await {
                Ok(stored) => {
                    assert_eq!(stored.prev_hash, head.hash);
                    head = stored.head();
                    won.push(stored);
                    break;
                }
                Err(AppendError::Conflict { head: other }) => {
                    assert!(other.position > head.position);
                    (head, lost) = (other, lost + 1);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
    (won, lost)
}

pub(crate) async fn of_two_racing_writers_exactly_one_wins_each_position(
    adapter: &mut impl Adapter,
) {
    let log = adapter.open().await;
    let ((one, _), (two, _)) = tokio::join!(race(&*log, 1, 100), race(&*log, 2, 100));
    let mut all = [one, two].concat();
    all.sort_by_key(|stored| stored.position);
    all.dedup_by_key(|stored| stored.position);
    assert_eq!(all.len(), 200);
    assert_eq!(log.read(&stream("log/main"), 0, 1_000).await.unwrap(), all);
}

pub(crate) async fn a_repeated_commit_is_stored_once(adapter: &mut impl Adapter) {
    let log = adapter.open().await;
    let name = stream("log/main");
    let first = log
        .append(&name, Head::EMPTY, commit(1, "a"))
        .await
        .unwrap();
    let again = log
        .append(&name, Head::EMPTY, commit(1, "a"))
        .await
        .unwrap();
    assert_eq!(again, first);
    // A caller who read the commit before repeating it expects the head it made.
    let again = log
        .append(&name, first.head(), commit(1, "a"))
        .await
        .unwrap();
    assert_eq!(again, first);
    assert_eq!(log.read(&name, 0, 10).await.unwrap(), [first]);
}

pub(crate) async fn a_repeated_commit_is_stored_once_whatever_followed(adapter: &mut impl Adapter) {
    let log = adapter.open().await;
    let name = stream("log/main");
    let before = grow(&*log, "log/main", 3).await;
    let first = log.append(&name, before, commit(1, "a")).await.unwrap();
    let middle = grow(&*log, "log/main", 20).await;
    grow(&*log, "log/other", 20).await;
    let last = grow(&*log, "log/main", 20).await;
    for expected in [before, first.head(), middle, last] {
        let again = log.append(&name, expected, commit(1, "a")).await;
        assert_eq!(again.as_ref(), Ok(&first));
    }
    drop(log);
    let log = adapter.open().await;
    for expected in [before, first.head(), middle, last] {
        let again = log.append(&name, expected, commit(1, "a")).await;
        assert_eq!(again.as_ref(), Ok(&first));
    }
    assert_eq!(log.read(&name, 0, 100).await.unwrap().len(), 44);
    assert_eq!(log.head(&name).await.unwrap(), last);
}

pub(crate) async fn a_commit_that_lost_may_be_stored_later(adapter: &mut impl Adapter) {
    let log = adapter.open().await;
    let name = stream("log/main");
    let head = grow(&*log, "log/main", 1).await;
    let answer = log.append(&name, Head::EMPTY, commit(1, "a")).await;
    assert_eq!(answer, Err(AppendError::Conflict { head }));
    let stored = log
        .append(&name, head, commit(1, "a, decided anew"))
        .await
        .unwrap();
    assert_eq!(stored.payload, "a, decided anew");
    assert_eq!(log.head(&name).await.unwrap(), stored.head());
}

pub(crate) async fn the_first_payload_of_a_commit_id_stands(adapter: &mut impl Adapter) {
    let log = adapter.open().await;
    let name = stream("log/main");
    let first = log
        .append(&name, Head::EMPTY, commit(1, "first"))
        .await
        .unwrap();
    for expected in [Head::EMPTY, first.head()] {
        assert_eq!(
            log.append(&name, expected, commit(1, "second"))
                .await
                .as_ref(),
            Ok(&first)
        );
    }
    assert_eq!(log.read(&name, 0, 10).await.unwrap(), [first]);
}

pub(crate) async fn the_same_id_on_another_stream_is_another_commit(adapter: &mut impl Adapter) {
    let log = adapter.open().await;
    let (one, two) = (stream("run/a.b"), stream("run/a-b"));
    let first = log.append(&one, Head::EMPTY, commit(1, "x")).await.unwrap();
    let second = log.append(&two, Head::EMPTY, commit(1, "x")).await.unwrap();
    assert_ne!((first.position, first.hash), (second.position, second.hash));
    assert_eq!(log.read(&one, 0, 10).await.unwrap(), [first]);
    assert_eq!(log.read(&two, 0, 10).await.unwrap(), [second]);
}

pub(crate) async fn many_writers_at_once_on_one_id_store_it_once(adapter: &mut impl Adapter) {
    let log = adapter.open().await;
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let log = std::sync::Arc::clone(&log);
            tokio::spawn(async move {
                log.append(&stream("log/main"), Head::EMPTY, commit(1, "x"))
                    .await
            })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap().unwrap());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(
        log.read(&stream("log/main"), 0, 10).await.unwrap(),
        answers[..1]
    );
}

pub(crate) async fn a_payload_of_the_greatest_size_is_stored_and_a_greater_one_refused(
    adapter: &mut impl Adapter,
) {
    let log = adapter.open().await;
    let name = stream(&format!("{}/{}", "a".repeat(32), "b.".repeat(64)));
    let largest = NewCommit::new(vec![7; MAX_PAYLOAD_BYTES]);
    let mut head = Head::EMPTY;
    for _ in 0..12 {
        let payload = largest.payload.clone();
        head = log
            .append(&name, head, NewCommit::new(payload))
            .await
            .unwrap()
            .head();
    }
    let too_large = NewCommit::new(vec![7; MAX_PAYLOAD_BYTES + 1]);
    assert_eq!(
        log.append(&name, head, too_large).await,
        Err(AppendError::TooLarge {
            bytes: MAX_PAYLOAD_BYTES + 1,
            limit: MAX_PAYLOAD_BYTES
        })
    );
    let stored = log.read(&name, 0, 100).await.unwrap();
    assert_eq!(stored.len(), 12);
    assert!(stored.iter().all(|one| one.payload == largest.payload));
}

pub(crate) async fn what_was_stored_outlives_the_adapter(adapter: &mut impl Adapter) {
    let log = adapter.open().await;
    let head = grow(&*log, "log/main", 5).await;
    let stored = log.read(&stream("log/main"), 0, 10).await.unwrap();
    drop(log);
    let log = adapter.open().await;
    assert_eq!(log.head(&stream("log/main")).await.unwrap(), head);
    assert_eq!(log.last_position().await.unwrap(), head.position);
    assert_eq!(log.read(&stream("log/main"), 0, 10).await.unwrap(), stored);
    let next = log
        .append(&stream("log/main"), head, commit(1, "next"))
        .await
        .unwrap();
    assert!(next.position > head.position);
    assert!(next.recorded_at_ms >= stored[4].recorded_at_ms);
}
