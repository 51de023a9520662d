//! Records that are erased: gone for good, in places that somebody vouches for, and nothing else of the log is touched.

use super::crash::{Lost, Strike, copy};
use super::{grown, leaves, publish};
use crate::check::{CheckOptions, CheckReport, DamageKind, ErasedPlaces, check};
use crate::faults::Fault;
use crate::{LogError, LogReader, SealLog};
use std::fs;
use std::ops::Range;
use std::path::Path;

const SIZE: u64 = 600;
/// One leaf, neighbours over a tile's border, and the last one.
const PLACES: [Range<u64>; 3] = [3..4, 250..260, 599..600];

fn audit(dir: &Path, erased: &[Range<u64>], is_finished: bool) -> CheckReport {
    let erased = erased.iter().map(|leaves| ErasedPlaces {
        leaves: leaves.clone(),
        is_finished,
        source: "erasure E-1".to_owned(),
    });
    let options = CheckOptions {
        erased: erased.collect(),
        ..CheckOptions::default()
    };
    check(dir, &options, &mut |_, _| {}).unwrap()
}

fn is_named(index: u64) -> bool {
    PLACES.iter().any(|place| place.contains(&index))
}

/// Where these leaves stood are zeros, and nowhere is what they said.
fn assert_gone(dir: &Path) {
    let records = fs::read(dir.join("private/0000000000.records")).unwrap();
    let holds = |bytes: &[u8]| records.windows(bytes.len()).any(|it| it == bytes);
    // What leaf 3 says is the beginning of what others say.
    for index in PLACES.into_iter().skip(1).flatten() {
        let subject = format!("document {index}");
        assert!(!holds(subject.as_bytes()), "subject of leaf {index}");
    }
    let view = LogReader::open(dir).unwrap().view().unwrap();
    for index in PLACES.into_iter().flatten() {
        let found = view.record(index);
        assert!(matches!(found, Err(LogError::Erased { .. })), "{found:?}");
    }
    assert!(view.record(252 - 3).is_ok() && view.record(4).is_ok());
}

#[test]
fn erased_leaves_are_gone_and_all_others_prove_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = grown(dir.path(), &[7, 300, SIZE]);
    let before = log.view().unwrap().seals(0..SIZE).unwrap();
    assert_eq!(log.reader().erase(&PLACES).unwrap(), 12);
    assert_gone(dir.path());
    let view = log.view().unwrap();
    for seal in &before {
        let now = view.seal_of(seal.index);
        if is_named(seal.index) {
            let erased = matches!(now, Err(LogError::Erased { index }) if index == seal.index);
            assert!(erased, "leaf {}: {now:?}", seal.index);
            // What others hold still proves itself: its path leads to the root that is published.
            let proof = view.inclusion_proof(seal.index, SIZE).unwrap();
            assert_eq!(proof, seal.proof);
        } else {
            assert_eq!(&now.unwrap(), seal);
        }
    }
    let each = view.each_record(0..SIZE).unwrap();
    let erased = (0..).zip(&each).filter(|(_, it)| it.is_err());
    assert!(erased.clone().all(|(index, _)| is_named(index)));
    assert_eq!(erased.count(), 12);
    assert!(matches!(
        view.records(0..SIZE),
        Err(LogError::Erased { index: 3 })
    ));
    // The log goes on, and a writer that starts anew does, too.
    let staged = log.stage(leaves(SIZE, SIZE + 5)).unwrap();
    publish(&mut log, &staged);
    drop(log);
    let mut log = SealLog::open(dir.path()).unwrap();
    let staged = log.stage(leaves(SIZE + 5, SIZE + 6)).unwrap();
    publish(&mut log, &staged);
    let report = audit(dir.path(), &PLACES, true);
    assert!(report.is_intact(), "{:#?}", report.damage);
    assert_eq!((report.erased_leaves, report.erasing_leaves), (12, 0));
}

#[test]
fn erasing_twice_changes_nothing_and_no_leaf_that_is_not_there_is_erased() {
    let dir = tempfile::tempdir().unwrap();
    let log = grown(dir.path(), &[SIZE]);
    let reader = log.reader();
    reader.erase(&PLACES).unwrap();
    let records = fs::read(dir.path().join("private/0000000000.records")).unwrap();
    reader.erase(&PLACES).unwrap();
    let again = fs::read(dir.path().join("private/0000000000.records")).unwrap();
    assert_eq!(records, again);
    let refused = reader.erase(&[0..1, SIZE - 1..SIZE + 1]).unwrap_err();
    assert!(matches!(refused, LogError::NoLeaf { .. }), "{refused}");
    assert_eq!(reader.erase(&[5..5, 7..7]).unwrap(), 0);
}

#[test]
fn places_that_nobody_names_are_damage_and_so_are_records_that_should_be_gone() {
    let dir = tempfile::tempdir().unwrap();
    let log = grown(dir.path(), &[SIZE]);
    log.reader().erase(&PLACES).unwrap();
    let report = audit(dir.path(), &PLACES[..2], true);
    assert_eq!(report.damage_count, 1, "{:#?}", report.damage);
    assert_eq!(report.damage[0].kind, DamageKind::Changed);
    assert!(
        report.damage[0].found.contains("no event names this place"),
        "{:#?}",
        report.damage
    );
    assert!(report.damage[0].expected.contains("leaf 599"));
    let report = audit(dir.path(), &[3..4, 100..102, 250..260, 599..600], true);
    assert_eq!(report.damage_count, 2, "{:#?}", report.damage);
    assert!(
        report.damage[0].expected.contains("erasure E-1 erased it"),
        "{:#?}",
        report.damage
    );
    // Not finished: each may be there, gone, or half gone.
    let report = audit(dir.path(), &[3..4, 100..102, 250..260, 599..600], false);
    assert!(report.is_intact(), "{:#?}", report.damage);
    assert_eq!(report.erased_leaves, 12);
}

#[test]
fn a_changed_tile_is_still_blamed_where_records_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let log = grown(dir.path(), &[SIZE]);
    log.reader().erase(&PLACES).unwrap();
    let tile = dir.path().join("tile/0/000");
    let good = fs::read(&tile).unwrap();
    let mut bytes = good.clone();
    bytes[3 * 32 + 5] ^= 1;
    fs::write(&tile, &bytes).unwrap();
    let report = audit(dir.path(), &PLACES, true);
    assert!(
        report
            .damage
            .iter()
            .all(|it| it.path == Path::new("tile/0/000")),
        "{:#?}",
        report.damage
    );
    assert_eq!(report.damage_count, 1);
}

/// Erases under a fault at each operation, then again as a new process does.
fn cut_everywhere(fault: Fault, lost: Lost) {
    let before = tempfile::tempdir().unwrap();
    drop(grown(before.path(), &[7, SIZE]));
    for at in 0.. {
        let dir = tempfile::tempdir().unwrap();
        copy(before.path(), dir.path());
        let strike = Strike::new(at, fault);
        let reader = LogReader::open(dir.path()).unwrap();
        let outcome = reader.erase_with(&PLACES, strike.clone());
        if !strike.struck() {
            outcome.unwrap();
            assert!(at > 3);
            return;
        }
        outcome.unwrap_err();
        strike.cut_power(lost);
        let report = audit(dir.path(), &PLACES, false);
        assert!(
            report.is_intact(),
            "{fault:?} at {at}: {:#?}",
            report.damage
        );
        let reader = LogReader::open(dir.path()).unwrap();
        reader.erase(&PLACES).unwrap();
        assert_gone(dir.path());
        let report = audit(dir.path(), &PLACES, true);
        assert!(
            report.is_intact(),
            "{fault:?} at {at}: {:#?}",
            report.damage
        );
    }
}

#[test]
fn an_erasing_that_is_cut_at_any_operation_is_finished_by_doing_it_again() {
    cut_everywhere(Fault::Crash, Lost::Nothing);
    cut_everywhere(Fault::Tear, Lost::Nothing);
    cut_everywhere(Fault::Crash, Lost::Everything);
    cut_everywhere(Fault::Tear, Lost::Half(1));
    cut_everywhere(Fault::Fail, Lost::Nothing);
}
