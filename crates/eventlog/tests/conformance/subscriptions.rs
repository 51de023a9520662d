//! Statements about subscriptions.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use sealwarden_eventlog::{Delivery, EventLog, Filter, Head, NewCommit, Recorded, Subscription};
use tokio::time::timeout;

use crate::adapters::{Adapter, grow, stream};

/// Far more than any delivery needs; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn next(subscription: &mut Subscription) -> Delivery {
    let delivery = timeout(PATIENCE, subscription.next())
        .await
        .expect("no delivery came");
    delivery.expect("the subscription ended").unwrap()
}

/// The next `count` commits.
pub(crate) async fn commits(subscription: &mut Subscription, count: usize) -> Vec<Recorded> {
    let mut commits = Vec::new();
    while commits.len() < count {
        if let Delivery::Commit(commit) = next(subscription).await {
            commits.push(commit);
        }
    }
    commits
}

/// All commits up to the next news of having caught up, and the position of that.
async fn until_caught_up(subscription: &mut Subscription) -> (Vec<Recorded>, u64) {
    let mut commits = Vec::new();
    loop {
        match next(subscription).await {
            Delivery::Commit(commit) => commits.push(commit),
            Delivery::CaughtUp(position) => return (commits, position),
            Delivery::Damaged(damage) => panic!("{damage:?}"),
        }
    }
}

pub(crate) async fn stored_commits_come_first_and_new_ones_follow(adapter: &mut impl Adapter) {
    let log = adapter.open().await;
    grow(&*log, "log/main", 3).await;
    grow(&*log, "run/1", 2).await;
    let mut all = log.subscribe(Filter::All, 0).await.unwrap();
    let (stored, caught_up) = until_caught_up(&mut all).await;
    assert_eq!(stored.len(), 5);
    assert!(stored.is_sorted_by(|one, two| one.position < two.position));
    assert_eq!(caught_up, stored[4].position);
    assert_eq!(
        stored[..3],
        log.read(&stream("log/main"), 0, 10).await.unwrap()
    );

    for _ in 0..3 {
        let head = grow(&*log, "log/main", 1).await;
        let Delivery::Commit(commit) = next(&mut all).await else {
            panic!("caught up twice")
        };
        assert_eq!(commit.head(), head);
        assert_eq!(next(&mut all).await, Delivery::CaughtUp(head.position));
    }
    // Nothing more until something happens.
    assert_eq!(all.next().now_or_never(), None);
}

pub(crate) async fn filters_give_exactly_what_they_name(adapter: &mut impl Adapter) {
    let log = adapter.open().await;
    for name in [
        "log/main",
        "log-x/main",
        "run/main",
        "run/main.1",
        "log/main",
        "run/main",
    ] {
        grow(&*log, name, 2).await;
    }
    let cases = [
        (Filter::All, 12),
        (Filter::Category("log".to_owned()), 4),
        (Filter::Category("run".to_owned()), 6),
        (Filter::Category("lo".to_owned()), 0),
        (Filter::Stream(stream("run/main")), 4),
        (Filter::Stream(stream("run/main.1")), 2),
        (Filter::Stream(stream("run/other")), 0),
    ];
    let last = log.last_position().await.unwrap();
    for (filter, count) in cases {
        let mut subscription = log.subscribe(filter.clone(), 0).await.unwrap();
        let (commits, caught_up) = until_caught_up(&mut subscription).await;
        assert_eq!(commits.len(), count, "{filter:?}");
        assert!(commits.iter().all(|commit| filter.matches(&commit.stream)));
        assert_eq!(caught_up, last, "{filter:?}");
        if let Some(middle) = commits.get(1) {
            let mut rest = log.subscribe(filter, middle.position).await.unwrap();
            assert_eq!(until_caught_up(&mut rest).await.0, commits[2..]);
        }
    }
    // What does not match does not disturb.
    let mut runs = log
        .subscribe(Filter::Category("run".to_owned()), last)
        .await
        .unwrap();
    assert_eq!(next(&mut runs).await, Delivery::CaughtUp(last));
    grow(&*log, "log/main", 5).await;
    let head = grow(&*log, "run/9", 1).await;
    assert_eq!(commits(&mut runs, 1).await[0].head(), head);
}

pub(crate) async fn a_category_that_cannot_exist_matches_nothing(adapter: &mut impl Adapter) {
    let log = adapter.open().await;
    grow(&*log, "log/main", 2).await;
    for category in ["", "*", ">", "log.main", "log/main", "LOG"] {
        let filter = Filter::Category(category.to_owned());
        let mut subscription = log.subscribe(filter, 0).await.unwrap();
        let (commits, _) = until_caught_up(&mut subscription).await;
        assert_eq!(commits, [], "{category}");
    }
}

pub(crate) async fn a_subscription_resumes_after_the_adapter_was_opened_again(
    adapter: &mut impl Adapter,
) {
    let log = adapter.open().await;
    grow(&*log, "log/main", 20).await;
    let mut first = log.subscribe(Filter::All, 0).await.unwrap();
    let mut seen = commits(&mut first, 7).await;
    drop(first);
    drop(log);

    let log = adapter.open().await;
    let mut second = log.subscribe(Filter::All, seen[6].position).await.unwrap();
    grow(&*log, "log/main", 5).await;
    seen.extend(commits(&mut second, 18).await);
    assert_eq!(seen, log.read(&stream("log/main"), 0, 100).await.unwrap());
}

pub(crate) async fn a_slow_subscriber_misses_nothing(adapter: &mut impl Adapter) {
    let log = adapter.open().await;
    let mut slow = log.subscribe(Filter::All, 0).await.unwrap();
    assert_eq!(next(&mut slow).await, Delivery::CaughtUp(0));
    let mut writers = Vec::new();
    for writer in 0..8 {
        let log = Arc::clone(&log);
        writers.push(tokio::spawn(async move {
            grow(&*log, &format!("run/{writer}"), 400).await;
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let (seen, caught_up) = until_caught_up(&mut slow).await;
    assert_eq!(seen.len(), 3_200);
    assert!(seen.is_sorted_by(|one, two| one.position < two.position));
    assert_eq!(caught_up, log.last_position().await.unwrap());
}

pub(crate) async fn a_subscriber_beside_busy_writers_sees_each_commit_once_in_order(
    adapter: &mut impl Adapter,
) {
    let log = adapter.open().await;
    let mut all = log.subscribe(Filter::All, 0).await.unwrap();
    let mut one = log
        .subscribe(Filter::Stream(stream("run/3")), 0)
        .await
        .unwrap();
    let mut writers = Vec::new();
    for writer in 0..8 {
        let log = Arc::clone(&log);
        writers.push(tokio::spawn(async move {
            let name = stream(&format!("run/{writer}"));
            let mut head = Head::EMPTY;
            for number in 0..100_u8 {
                let new = NewCommit::new(vec![number]);
                head = log.append(&name, head, new).await.unwrap().head();
            }
        }));
    }
    let (seen, seen_one) = tokio::join!(commits(&mut all, 800), commits(&mut one, 100));
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(seen.is_sorted_by(|one, two| one.position < two.position));
    for writer in 0..8 {
        let name = stream(&format!("run/{writer}"));
        let mine: Vec<_> = seen
            .iter()
            .filter(|seen| seen.stream == name)
            .cloned()
            .collect();
        assert_eq!(mine, log.read(&name, 0, 1_000).await.unwrap());
    }
    assert_eq!(
        seen_one,
        log.read(&stream("run/3"), 0, 1_000).await.unwrap()
    );
}

pub(crate) async fn giving_up_waiting_loses_nothing(adapter: &mut impl Adapter) {
    let log = adapter.open().await;
    let writer = {
        let log = Arc::clone(&log);
        tokio::spawn(async move { grow(&*log, "log/main", 100).await })
    };
    let mut all = log.subscribe(Filter::All, 0).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 100 {
        // Polled once and dropped, again and again, as a `select!` does.
        match all.next().now_or_never() {
            Some(Some(Ok(Delivery::Commit(commit)))) => seen.push(commit),
            Some(Some(Ok(Delivery::CaughtUp(_)))) | None => tokio::task::yield_now().await,
            Some(other) => panic!("{other:?}"),
        }
    }
    writer.await.unwrap();
    assert_eq!(seen, log.read(&stream("log/main"), 0, 1_000).await.unwrap());
}

pub(crate) async fn a_subscription_ends_with_its_log(adapter: &mut impl Adapter) {
    let log = adapter.open().await;
    grow(&*log, "log/main", 1).await;
    let mut all = log.subscribe(Filter::All, 0).await.unwrap();
    until_caught_up(&mut all).await;
    let closes = adapter.closes();
    drop(log);
    if closes {
        assert_eq!(timeout(PATIENCE, all.next()).await, Ok(None));
    }
}
