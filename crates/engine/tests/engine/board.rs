//! The live fold of everything.

use std::sync::Arc;

use sealwarden_domain::fold::event;
use sealwarden_engine::{Board, Meta, Stream, StreamName};
use sealwarden_eventlog::{Faulty, Memory};
use sealwarden_wire::event::v1::{Event, SuspensionAdded, TrustPublished, event::Kind};

use crate::support::{faulty, load, name, port, put, soon, word};

/// A fold that takes everything.
struct Anything;

impl sealwarden_domain::Fold for Anything {
    fn apply(
        &mut self,
        _: &sealwarden_wire::event::v1::Envelope,
        _: &Event,
    ) -> Result<(), sealwarden_domain::IllegalEvent> {
        Ok(())
    }
}

/// Writes a suspension, each of which is folded into a list: a missing or repeated one shows.
async fn suspend(log: &Arc<Faulty<Memory>>, number: i64) -> u64 {
    let trust = StreamName::new("trust", "t").unwrap();
    let shared = port(log);
    let mut stream = Stream::load(shared, trust, Anything).await.unwrap();
    let added = SuspensionAdded {
        vkey: String::new(),
        from_ms: number,
        ..SuspensionAdded::default()
    };
    let events = vec![event(Kind::SuspensionAdded(added))];
    stream
        .execute(Meta::node("a"), |_| Ok(events.clone()))
        .await
        .unwrap()
        .position
}

fn suspensions(board: &Board) -> Vec<i64> {
    board.read(|i| i.trust.suspensions.iter().map(|s| s.from_ms).collect())
}

fn follow(log: &Arc<Faulty<Memory>>) -> Arc<Board> {
    Board::follow(port(log)).0
}

#[tokio::test]
async fn it_catches_up_with_what_was_stored_and_goes_on() {
    let log = faulty();
    for number in 0..10 {
        suspend(&log, number).await;
    }
    let board = follow(&log);
    soon(board.caught_up()).await;
    assert_eq!(suspensions(&board), (0..10).collect::<Vec<_>>());
    let changes = board.changes();
    let position = suspend(&log, 10).await;
    soon(board.reached(position)).await;
    assert_eq!(*changes.borrow(), position);
    assert_eq!(suspensions(&board).len(), 11);
    assert_eq!(board.read(|i| i.position), position);
}

#[tokio::test]
async fn an_empty_log_is_caught_up_with() {
    soon(follow(&faulty()).caught_up()).await;
}

#[tokio::test]
async fn waiting_sees_what_is_there_and_what_comes() {
    let log = faulty();
    let board = follow(&log);
    let waiting = {
        let board = Arc::clone(&board);
        tokio::spawn(async move {
            board
                .wait_until(|i| i.nodes.get("a")?.announced.clone().map(|a| a.role))
                .await
        })
    };
    load(&log, "a")
        .await
        .execute(Meta::node("a"), |_| Ok(vec![word("sealing")]))
        .await
        .unwrap();
    assert_eq!(soon(waiting).await.unwrap(), "sealing");
    let again = board.wait_until(|i| i.nodes.get("a")?.announced.clone());
    assert_eq!(soon(again).await.role, "sealing");
}

#[tokio::test]
async fn an_interrupted_subscription_misses_and_repeats_nothing() {
    let log = faulty();
    for number in 0..6 {
        suspend(&log, number).await;
    }
    // Cut before the first commit, in the middle of what is stored, and in what is written live.
    log.cut_subscriptions_after(0);
    log.cut_subscriptions_after(3);
    log.cut_subscriptions_after(5);
    let board = follow(&log);
    let mut last = 0;
    for number in 6..12 {
        last = suspend(&log, number).await;
    }
    soon(board.reached(last)).await;
    assert_eq!(suspensions(&board), (0..12).collect::<Vec<_>>());
}

#[tokio::test]
async fn it_follows_as_soon_as_the_log_is_back() {
    let log = faulty();
    let position = suspend(&log, 1).await;
    log.set_down(true);
    let board = follow(&log);
    assert_eq!(board.read(|i| i.position), 0);
    log.set_down(false);
    soon(board.reached(position)).await;
    assert_eq!(suspensions(&board), [1]);
}

#[tokio::test]
async fn a_poisoned_stream_is_set_aside_and_the_others_go_on() {
    let log = faulty();
    let shared = port(&log);
    // One stream holds bytes of nobody, one an event of another category; both go on being written.
    put(&log, &name("broken"), vec![0xff; 9]).await;
    let foreign = StreamName::new("node", "foreign").unwrap();
    let mut stream = Stream::load(shared, foreign, Anything).await.unwrap();
    for version in 1..3 {
        let published = TrustPublished {
            version,
            ..TrustPublished::default()
        };
        let events = vec![event(Kind::TrustPublished(published))];
        stream
            .execute(Meta::node("a"), |_| Ok(events.clone()))
            .await
            .unwrap();
    }
    load(&log, "a")
        .await
        .execute(Meta::node("a"), |_| Ok(vec![word("sealing")]))
        .await
        .unwrap();
    let position = suspend(&log, 1).await;

    let board = follow(&log);
    soon(board.reached(position)).await;
    board.read(|i| {
        let poisoned: Vec<&str> = i.poisoned.keys().map(String::as_str).collect();
        assert_eq!(poisoned, ["node/broken", "node/foreign"]);
        assert!(i.trust.published.is_none());
        assert!(i.nodes["a"].announced.is_some());
    });
    assert_eq!(suspensions(&board), [1]);
}
