//! The queue over a real file: what survives, in which order, within which bounds.

use super::file::QueueFile;
use super::frame::Body;
use super::*;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

const LIMITS: Limits = Limits {
    tickets: 100,
    bytes: 1 << 20,
    kept: 100,
};

fn entry(number: u8, priority: Priority) -> Entry {
    Entry {
        priority,
        leaf: Leaf {
            nonce: [number; 16],
            record: vec![number; 40],
        },
        key: (number > 100).then_some(RequestKey([number; 16])),
        since: Place { tree: 1, index: 5 },
    }
}

fn normal(number: u8) -> Entry {
    entry(number, Priority::Normal)
}

async fn accept(queue: &Queue, entry: Entry) -> Ticket {
    queue.accept(vec![entry]).await.unwrap()[0]
}

fn drawn(queue: &Queue) -> Vec<u8> {
    let drawn = queue.draw(usize::MAX, Priority::Normal);
    drawn.iter().map(|it| it.leaf.nonce[0]).collect()
}

#[tokio::test]
async fn tickets_are_drawn_in_their_order_critical_ones_first_and_so_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::open(dir.path(), LIMITS).unwrap();
    for number in [1, 2] {
        accept(&queue, normal(number)).await;
    }
    accept(&queue, entry(3, Priority::Critical)).await;
    let last = accept(&queue, normal(4)).await;
    accept(&queue, entry(5, Priority::Critical)).await;
    assert_eq!(drawn(&queue), [3, 5, 1, 2, 4]);
    assert_eq!(queue.draw(9, Priority::Critical).len(), 2);
    let Some(Look::Waiting { before, .. }) = queue.look(last) else {
        panic!("{:?}", queue.look(last));
    };
    assert_eq!(before, 4);
    drop(queue);
    let queue = Queue::open(dir.path(), LIMITS).unwrap();
    assert_eq!(drawn(&queue), [3, 5, 1, 2, 4]);
    assert_eq!(queue.earliest(), Some(Place { tree: 1, index: 5 }));
}

#[tokio::test]
async fn a_settled_ticket_keeps_its_place_and_is_drawn_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::open(dir.path(), LIMITS).unwrap();
    let ticket = accept(&queue, normal(1)).await;
    let place = Place { tree: 2, index: 7 };
    queue.settle(vec![(ticket, place)]).await;
    assert_eq!(queue.look(ticket), Some(Look::Settled(place)));
    assert!(drawn(&queue).is_empty());
    // What is written later is durable with everything before it.
    accept(&queue, normal(2)).await;
    drop(queue);
    let queue = Queue::open(dir.path(), LIMITS).unwrap();
    assert_eq!(queue.look(ticket), Some(Look::Settled(place)));
    assert_eq!(drawn(&queue), [2]);
    assert_eq!(Ticket::parse(&ticket.to_string()), Some(ticket));
    assert_eq!(Ticket::parse("T-1"), None);
}

#[tokio::test]
async fn a_request_has_one_ticket_while_it_waits() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::open(dir.path(), LIMITS).unwrap();
    let twice = queue.accept(vec![normal(101), normal(101)]).await.unwrap();
    assert_eq!(twice[0], twice[1]);
    assert_eq!(accept(&queue, normal(101)).await, twice[0]);
    assert_eq!(queue.waiting().0, 1);
    let known = queue.of_request(&RequestKey([101; 16])).unwrap();
    assert_eq!((known.0, known.1.nonce), (twice[0], [101; 16]));
}

#[tokio::test]
async fn what_is_over_the_bounds_is_refused_before_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        tickets: 2,
        ..LIMITS
    };
    let queue = Queue::open(dir.path(), limits).unwrap();
    let first = accept(&queue, normal(1)).await;
    let over = queue.accept(vec![normal(2), normal(3)]).await.unwrap_err();
    assert!(
        matches!(over, QueueError::Full { tickets: 1, .. }),
        "{over}"
    );
    accept(&queue, normal(4)).await;
    queue.accept(vec![normal(5)]).await.unwrap_err();
    queue
        .settle(vec![(first, Place { tree: 1, index: 0 })])
        .await;
    accept(&queue, normal(6)).await;
    assert_eq!(drawn(&queue), [4, 6]);

    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        bytes: 700,
        ..LIMITS
    };
    let queue = Queue::open(dir.path(), limits).unwrap();
    accept(&queue, normal(1)).await;
    accept(&queue, normal(2)).await;
    let over = queue.accept(vec![normal(3)]).await.unwrap_err();
    assert!(
        matches!(over, QueueError::Full { bytes: 592, .. }),
        "{over}"
    );
}

#[tokio::test]
async fn a_power_loss_at_any_byte_keeps_every_ticket_that_was_handed_out() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::open(dir.path(), LIMITS).unwrap();
    let path = dir.path().join("queue");
    let mut durable = vec![(0, 0)];
    for number in 1..6 {
        accept(&queue, normal(number)).await;
        let length = std::fs::metadata(&path).unwrap().len();
        durable.push((usize::try_from(length).unwrap(), number));
    }
    drop(queue);
    let bytes = std::fs::read(&path).unwrap();
    for cut in (0..=bytes.len()).step_by(7) {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let queue = Queue::open(dir.path(), LIMITS).unwrap();
        let handed_out = durable
            .iter()
            .rfind(|(length, _)| *length <= cut)
            .unwrap()
            .1;
        assert_eq!(drawn(&queue), (1..=handed_out).collect::<Vec<_>>());
        // The torn rest does not hurt what comes after it.
        accept(&queue, normal(50)).await;
        drop(queue);
        let queue = Queue::open(dir.path(), LIMITS).unwrap();
        assert_eq!(drawn(&queue).len(), usize::from(handed_out) + 1);
    }
}

#[tokio::test]
async fn a_changed_byte_before_the_last_group_is_found_and_not_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::open(dir.path(), LIMITS).unwrap();
    let path = dir.path().join("queue");
    accept(&queue, normal(1)).await;
    accept(&queue, normal(2)).await;
    let synced = usize::try_from(std::fs::metadata(&path).unwrap().len()).unwrap();
    accept(&queue, normal(3)).await;
    drop(queue);
    let bytes = std::fs::read(&path).unwrap();
    for at in 0..synced {
        let mut changed = bytes.clone();
        changed[at] ^= 0x20;
        std::fs::write(&path, &changed).unwrap();
        let error = Queue::open(dir.path(), LIMITS).unwrap_err();
        let QueueDamage::Damaged { offset, .. } = error else {
            panic!("{error}");
        };
        let frame = if at < synced / 2 { 0 } else { synced / 2 };
        assert_eq!(usize::try_from(offset).unwrap(), frame, "byte {at}");
    }
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let (file, state) = QueueFile::open(dir.path(), 10).unwrap();
    let failing = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&failing);
    let file = file.with_sync(Box::new(move |file| {
        if fails.load(Ordering::Relaxed) {
            return Err(io::Error::other("the disk is gone"));
        }
        file.sync_data()
    }));
    let queue = Queue::start(file, state, LIMITS);
    accept(&queue, normal(1)).await;
    failing.store(true, Ordering::Relaxed);
    let broken = queue.accept(vec![normal(2)]).await.unwrap_err();
    assert!(matches!(broken, QueueError::Broken(_)), "{broken}");
    failing.store(false, Ordering::Relaxed);
    queue.accept(vec![normal(3)]).await.unwrap_err();
    assert_eq!(queue.waiting(), (1, 296));
}

#[test]
fn a_file_that_is_written_anew_says_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (mut file, mut state) = QueueFile::open(dir.path(), 10).unwrap();
    let place = Place { tree: 1, index: 9 };
    for number in 1..=30 {
        let ticket = Ticket([number; 16]);
        let priority = if number % 3 == 0 {
            Priority::Critical
        } else {
            Priority::Normal
        };
        let mut body = Body::default();
        body.accepted(ticket, &entry(number, priority));
        state.add(ticket, entry(number, priority));
        if number <= 20 {
            body.settled(ticket, place);
            state.settle(ticket, place);
        }
        file.append(&body).unwrap();
    }
    file.rewrite(&state).unwrap();
    let mut body = Body::default();
    body.accepted(Ticket([99; 16]), &normal(99));
    file.append(&body).unwrap();
    state.add(Ticket([99; 16]), normal(99));
    drop(file);
    let (_, read) = QueueFile::open(dir.path(), 10).unwrap();
    assert_eq!(
        read.draw(99, Priority::Normal),
        state.draw(99, Priority::Normal)
    );
    assert_eq!(read.look(Ticket([10; 16])), None, "only the last are kept");
    assert_eq!(read.look(Ticket([11; 16])), Some(Look::Settled(place)));
    assert_eq!(read.live(), 21);
}
