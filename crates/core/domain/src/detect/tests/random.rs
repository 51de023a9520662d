//! Whatever happens, in whatever order: the same again, and no panic.

use proptest::prelude::*;
use sealwarden_wire::event::v1::{ReleaseMarked, event::Kind};

use super::{HOUR, SLOW, START, World};

const EVERYTHING: [(&str, &str); 8] = [
    SLOW,
    ("few", "kind: rate, measure: seals, window: 5m, below: 3"),
    (
        "odd",
        "kind: robust-z, measure: publish-ms, of: most, bucket: 1m, buckets: 8, score: 3, least: 10",
    ),
    (
        "shift",
        "kind: ewma, measure: seals, of: sum, bucket: 1m, buckets: 8, weight: 0.3, score: 2, least: 1",
    ),
    (
        "burn",
        "kind: burn-rate, all: verdicts, bad: negative-verdicts, objective: 99, windows: [{long: 1h, short: 5m, factor: 2}]",
    ),
    (
        "open",
        "kind: cross-check, each: intents, needs: settled-intents, within: 1m",
    ),
    (
        "canary",
        "kind: probe, failures: 2, slower: 5s, within: 10m",
    ),
    (
        "release",
        "kind: release, all: verdicts, bad: negative-verdicts, window: 30m, factor: 2, least: 1",
    ),
];

/// Does one of the things that may happen.
fn happen(world: &mut World, at_ms: i64, what: u8, size: u64) {
    match what % 6 {
        0 => world.intent(at_ms, size, size.saturating_add(3)),
        1 => world.published(at_ms, size),
        2 => world.verdicts(at_ms, size % 97, size % 13),
        3 => world.canary(at_ms, !size.is_multiple_of(3), size % 9_000),
        4 => world.event(
            "detect/releases",
            at_ms,
            Kind::ReleaseMarked(ReleaseMarked::default()),
        ),
        _ => world.measured(at_ms, &[("verdicts", size)]),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A replay, with looks in between and from a copy on the way, finds the same; no times or numbers make it panic.
    #[test]
    fn a_replay_finds_the_same_however_often_somebody_looks(
        happenings in proptest::collection::vec((0i64..400_000, any::<u8>(), any::<u64>()), 1..120),
        look in any::<bool>(),
    ) {
        let mut first = World::new(&EVERYTHING);
        let mut again = World::new(&EVERYTHING);
        let mut at_ms = START;
        for (n, (pause_ms, what, size)) in happenings.iter().enumerate() {
            let size = if n % 5 == 0 { *size } else { size % 50 };
            if look {
                again.pass(at_ms + pause_ms / 2);
            }
            at_ms += pause_ms;
            happen(&mut first, at_ms, *what, size);
            happen(&mut again, at_ms, *what, size);
            if n == happenings.len() / 2 {
                again = again.clone();
            }
        }
        first.pass(at_ms + HOUR);
        again.pass(at_ms + HOUR);
        prop_assert_eq!(&first.outcomes, &again.outcomes);
        prop_assert_eq!(first.detecting.watched(), again.detecting.watched());
    }

    /// Clocks that were set back, and far jumps, neither panic nor take long.
    #[test]
    fn any_times_do(times in proptest::collection::vec(any::<i64>(), 1..40)) {
        let mut world = World::new(&EVERYTHING);
        for (n, at_ms) in times.iter().enumerate() {
            let n = u64::try_from(n).unwrap();
            happen(&mut world, at_ms % (1 << 52), u8::try_from(n % 6).unwrap(), n);
        }
    }
}
