//! Commands and folds about records.

use std::collections::BTreeSet;

use sealwarden_wire::event::v1::{
    Envelope, ErasedRange, ErasureFinished, Event, LegalHoldReleased, LegalHoldSet, event::Kind,
};

use super::{Command, MAX_RANGES, Order, Retention, decide};
use crate::fold::{Fold as _, Rejection, RejectionCode, event};

const A: &str = "seal.example.com/main/1";
const B: &str = "seal.example.com/main/2";

fn envelope() -> Envelope {
    Envelope {
        stream: "retention/main".to_owned(),
        ..Envelope::default()
    }
}

fn run(state: &mut Retention, command: Command) -> Result<Vec<Event>, Rejection> {
    let events = decide(state, command)?;
    for event in &events {
        state.apply(&envelope(), event).unwrap();
    }
    Ok(events)
}

fn order(places: &[(&str, u64, u64)]) -> Order {
    let places = places.iter().map(|(origin, first, count)| ErasedRange {
        origin: (*origin).to_owned(),
        first: *first,
        count: *count,
    });
    Order {
        log: "main".to_owned(),
        tenant: "acme".to_owned(),
        criterion: "subject".to_owned(),
        reason: "asked for".to_owned(),
        by: "person ada".to_owned(),
        places: places.collect(),
        seen: BTreeSet::new(),
        node: "sealing-1".to_owned(),
        at_ms: 5,
    }
}

fn erase(state: &mut Retention, places: &[(&str, u64, u64)]) -> Result<Vec<Event>, Rejection> {
    run(state, Command::Erase(order(places)))
}

fn hold() -> Command {
    Command::Hold {
        log: "main".to_owned(),
        hold: LegalHoldSet {
            tenant: "acme".to_owned(),
            scope: "tenant".to_owned(),
            ..LegalHoldSet::default()
        },
    }
}

fn release(hold: &str) -> Command {
    Command::Release(LegalHoldReleased {
        hold: hold.to_owned(),
        ..LegalHoldReleased::default()
    })
}

fn code(outcome: Result<Vec<Event>, Rejection>) -> RejectionCode {
    outcome.unwrap_err().code
}

#[test]
fn places_are_named_by_the_order_that_erased_them() {
    let mut state = Retention::default();
    erase(&mut state, &[(A, 3, 1), (A, 10, 5), (B, 0, 2)]).unwrap();
    erase(&mut state, &[(A, 4, 6)]).unwrap();
    let of = |origin, index| {
        let found = state.of(origin, index)?;
        Some(found.ordered.erasure.as_str())
    };
    assert_eq!(of(A, 2), None);
    assert_eq!(of(A, 3), Some("E-main-1"));
    assert_eq!(of(A, 4), Some("E-main-2"));
    assert_eq!(of(A, 9), Some("E-main-2"));
    assert_eq!(of(A, 14), Some("E-main-1"));
    assert_eq!(of(A, 15), None);
    assert_eq!(of(B, 1), Some("E-main-1"));
    assert_eq!(of(B, 2), None);
    assert_eq!(of("seal.example.com/main/0", 0), None);
    assert_eq!(state.unfinished().count(), 2);
}

#[test]
fn a_place_is_ordered_once_and_finished_once() {
    let mut state = Retention::default();
    erase(&mut state, &[(A, 3, 4)]).unwrap();
    for places in [(A, 6, 1), (A, 0, 4), (A, 4, 1)] {
        assert_eq!(code(erase(&mut state, &[places])), RejectionCode::NotNow);
    }
    let finish = |erasure: &str| {
        Command::Finish(ErasureFinished {
            erasure: erasure.to_owned(),
            finished_at_ms: 9,
        })
    };
    assert_eq!(run(&mut state, finish("E-main-1")).unwrap().len(), 1);
    assert_eq!(run(&mut state, finish("E-main-1")).unwrap(), Vec::new());
    assert_eq!(
        code(run(&mut state, finish("E-main-2"))),
        RejectionCode::NotFound
    );
    assert_eq!(state.erasures()[0].finished_at_ms, Some(9));
}

#[test]
fn orders_that_make_no_sense_are_refused() {
    let mut state = Retention::default();
    let many: Vec<_> = (0..=MAX_RANGES)
        .map(|n| (A, 2 * u64::try_from(n).unwrap(), 1))
        .collect();
    let bad: [&[(&str, u64, u64)]; 5] = [
        &[],
        &[(A, 1, 0)],
        &[(A, u64::MAX, 2)],
        &[(A, 5, 3), (A, 7, 1)],
        &many,
    ];
    for places in bad {
        assert_eq!(code(erase(&mut state, places)), RejectionCode::Invalid);
    }
    assert_eq!(state, Retention::default());
}

#[test]
fn nothing_is_erased_past_a_hold_that_was_not_looked_at() {
    let mut state = Retention::default();
    run(&mut state, hold()).unwrap();
    assert_eq!(code(erase(&mut state, &[(A, 1, 1)])), RejectionCode::NotNow);
    let mut seen = order(&[(A, 1, 1)]);
    seen.seen.insert("H-main-1".to_owned());
    run(&mut state, Command::Erase(seen)).unwrap();
    run(&mut state, release("H-main-1")).unwrap();
    assert_eq!(state.holds().count(), 0);
    erase(&mut state, &[(A, 2, 1)]).unwrap();
    assert_eq!(
        code(run(&mut state, release("H-main-1"))),
        RejectionCode::NotNow
    );
    assert_eq!(
        code(run(&mut state, release("H-main-9"))),
        RejectionCode::NotFound
    );
    run(&mut state, hold()).unwrap();
    assert!(state.hold("H-main-2").is_some(), "ids are not used again");
}

#[test]
fn events_that_no_decider_wrote_are_reported() {
    let mut good = Retention::default();
    let ordered = erase(&mut good, &[(A, 3, 2)]).unwrap().remove(0);
    let Some(Kind::ErasureOrdered(ordered)) = ordered.kind else {
        panic!("an order");
    };
    let mut wrong_count = ordered.clone();
    wrong_count.leaves = 7;
    wrong_count.erasure = "E-main-2".to_owned();
    let mut overlapping = ordered.clone();
    overlapping.erasure = "E-main-2".to_owned();
    let released = LegalHoldReleased::default();
    for kind in [
        Kind::ErasureOrdered(ordered),
        Kind::ErasureOrdered(wrong_count),
        Kind::ErasureOrdered(overlapping),
        Kind::ErasureFinished(ErasureFinished::default()),
        Kind::LegalHoldReleased(released),
        Kind::RunEnded(sealwarden_wire::event::v1::RunEnded::default()),
    ] {
        let mut state = good.clone();
        assert!(state.apply(&envelope(), &event(kind)).is_err());
    }
}
