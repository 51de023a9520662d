//! What nodes tell of themselves: sums over a few seconds, in which nothing bad is worth something, too.

use super::*;

const SPIKE: (&str, &str) = (
    "spike",
    "kind: robust-z, measure: negative-verdicts, of: sum, bucket: 5m, buckets: 48, score: 10, least: 100",
);
const ERRORS: (&str, &str) = (
    "errors",
    "kind: burn-rate, all: key-calls, bad: key-errors, objective: 99, samples: 20, windows: [{long: 1h, short: 5m, factor: 14.4}]",
);

/// Two hours and a half of verdicts of which none was bad.
fn with_a_baseline() -> World {
    let mut world = World::new(&[SPIKE]);
    for n in 0..150 {
        world.measured(START + n * MINUTE, &[("verdicts", 50)]);
    }
    assert_eq!(world.told().0, vec![]);
    world
}

#[test]
fn a_spike_is_seen_after_hours_in_which_nothing_was_bad() {
    for (bad, expected) in [(60, 0), (150, 1)] {
        let mut world = with_a_baseline();
        world.verdicts(START + 150 * MINUTE, 200, bad / 2);
        world.verdicts(START + 151 * MINUTE, 200, bad / 2);
        let (concluded, _) = world.told();
        assert_eq!(concluded.len(), expected, "{bad}: {concluded:?}");
        if let Some(it) = concluded.first() {
            assert_eq!(it.reading.value_milli, 150_000);
            assert_eq!(it.events.len(), 2, "only what was bad is named");
        }
    }
}

#[test]
fn without_a_baseline_nobody_knows_what_is_usual() {
    let mut world = World::new(&[SPIKE]);
    world.verdicts(START, 1_000, 900);
    assert_eq!(world.told().0, vec![]);
}

#[test]
fn a_baseline_learns_that_there_was_none_where_nobody_looked() {
    let mut world = World::new(&[SPIKE]);
    // A night without a verdict.
    world.measured(START, &[("verdicts", 50)]);
    world.verdicts(START + 4 * HOUR, 200, 150);
    assert_eq!(world.told().0.len(), 1);
}

#[test]
fn calls_that_did_not_fail_are_no_errors_and_keep_the_budget() {
    for (bad, expected) in [(0, 0), (1, 0), (5, 1)] {
        let mut world = World::new(&[ERRORS]);
        for n in 0..60 {
            let mut told = vec![("key-calls", 20)];
            if bad > 0 {
                told.push(("key-errors", bad));
            }
            world.measured(START + n * MINUTE, &told);
        }
        let (concluded, _) = world.told();
        assert_eq!(concluded.len(), expected, "{bad} of 20: {concluded:?}");
    }
}
