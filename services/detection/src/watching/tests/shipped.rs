//! The shipped detectors over what nodes measure of themselves, canaries and releases: each fires, and a day of clean traffic says nothing.

use sealwarden_wire::event::v1::{CanaryRun, Measured, MeasuresTaken, ReleaseMarked};

use super::*;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 3_600_000;

fn measured(measure: &str, name: &str, count: u64, sum: i64) -> Measured {
    Measured {
        measure: measure.to_owned(),
        name: name.to_owned(),
        count,
        sum,
        most: sum,
        last: sum,
    }
}

impl World {
    fn tell(&mut self, node: &str, at_ms: i64, measures: Vec<Measured>) {
        let taken = MeasuresTaken {
            node: node.to_owned(),
            measures,
            ..MeasuresTaken::default()
        };
        let stream = format!("measure/{node}");
        self.write(&stream, at_ms, Kind::MeasuresTaken(taken));
    }

    fn verdicts(&mut self, at_ms: i64, all: u64, bad: u64) {
        let of = |measure: &str, count: u64| {
            let sum = i64::try_from(count).unwrap();
            measured(measure, "verification-1", count, sum)
        };
        let mut told = vec![of("verdicts", all)];
        if bad > 0 {
            told.push(of("negative-verdicts", bad));
        }
        self.tell("verification-1", at_ms, told);
    }

    /// Calls of a key provider, so many of them failed, the others took so long each.
    fn calls(&mut self, at_ms: i64, all: u64, bad: u64, ms: i64) {
        let good = all - bad;
        let sum = |count: u64| i64::try_from(count).unwrap();
        let mut told = vec![
            measured("key-calls", "hsm", all, sum(all)),
            measured("key-call-ms", "hsm", good, sum(good) * ms),
        ];
        if bad > 0 {
            told.push(measured("key-errors", "hsm", bad, sum(bad)));
        }
        told.retain(|it| it.count > 0);
        self.tell("sealing-1", at_ms, told);
    }

    fn canary(&mut self, at_ms: i64, good: bool, took_ms: u64) {
        let run = CanaryRun {
            log: "main".to_owned(),
            node: "ci".to_owned(),
            good,
            took_ms,
            ..CanaryRun::default()
        };
        self.write("detect/canary", at_ms, Kind::CanaryRun(run));
    }

    fn pass(&mut self, at_ms: i64) {
        self.write(
            "detect/time",
            at_ms,
            Kind::TimeTicked(TimeTicked::default()),
        );
    }

    /// Detector, subject and class of what was found.
    fn found(&self) -> Vec<(&str, &str, &str)> {
        let signals = self.state.findings.values().map(|it| &it.signal);
        let mut found: Vec<_> = signals
            .map(|it| (it.detector.as_str(), it.subject.as_str(), it.class.as_str()))
            .collect();
        found.sort_unstable();
        found
    }
}

#[test]
fn a_slow_key_is_found_and_one_slow_call_is_not() {
    let mut world = World::new();
    world.calls(START, 100, 0, 5);
    world.calls(START + 2 * MINUTE, 1, 0, 900);
    assert_eq!(world.found(), vec![], "one call is too few");
    world.calls(START + 2 * MINUTE + 5 * SECOND, 2, 0, 700);
    let expected = ("slow-key", "key provider hsm", "kms-outage");
    assert_eq!(world.found(), vec![expected]);
    let finding = world.state.findings.values().next().unwrap();
    assert!(!finding.signal.proven);
    assert!(
        finding.signal.seen.contains("mean 766.666 ms"),
        "{}",
        finding.signal.seen
    );
}

#[test]
fn a_key_provider_that_fails_spends_its_budget() {
    let mut world = World::new();
    for n in 0..60 {
        world.calls(START + n * 5 * SECOND, 10, 0, 5);
    }
    assert_eq!(world.found(), vec![]);
    for n in 60..84 {
        world.calls(START + n * 5 * SECOND, 10, 10, 0);
    }
    let expected = ("key-errors", "key provider hsm", "kms-outage");
    assert_eq!(world.found(), vec![expected]);
}

#[test]
fn a_queue_that_fills_is_found() {
    let mut world = World::new();
    let depth = |depth| vec![measured("queue-depth", "main", 1, depth)];
    world.tell("sealing-1", START, depth(19_000));
    assert_eq!(world.found(), vec![]);
    world.tell("sealing-1", START + 5 * SECOND, depth(20_001));
    let expected = ("queue-backlog", "key providers of log main", "kms-outage");
    assert_eq!(world.found(), vec![expected]);
}

#[test]
fn verdicts_that_turn_bad_are_found_with_and_without_a_usual_day_before() {
    let mut fresh = World::new();
    fresh.verdicts(START, 110, 90);
    let mostly = (
        "verdicts-mostly-bad",
        "verdicts of verification-1",
        "data-integrity",
    );
    assert_eq!(fresh.found(), vec![mostly]);
    let mut used = World::new();
    for n in 0..180 {
        used.verdicts(START + n * MINUTE, 1_000, u64::from(n % 10 == 0));
    }
    assert_eq!(used.found(), vec![]);
    used.verdicts(START + 180 * MINUTE, 1_000, 120);
    let spike = (
        "verdict-spike",
        "verdicts of verification-1",
        "data-integrity",
    );
    assert_eq!(used.found(), vec![spike]);
}

#[test]
fn canaries_that_fail_are_slow_or_stop_are_found() {
    let expected = ("canary", "key providers of log main", "kms-outage");
    let mut world = World::new();
    world.canary(START, true, 900);
    world.canary(START + MINUTE, false, 900);
    assert_eq!(world.found(), vec![]);
    world.canary(START + 2 * MINUTE, true, 10_001);
    assert_eq!(world.found(), vec![expected]);
    let mut silent = World::new();
    silent.canary(START, true, 900);
    silent.pass(START + 30 * MINUTE);
    assert_eq!(silent.found(), vec![]);
    silent.pass(START + 31 * MINUTE);
    assert_eq!(silent.found(), vec![expected]);
}

#[test]
fn a_release_after_which_more_is_bad_is_found() {
    let mut world = World::new();
    for n in 0..30 {
        world.verdicts(START + n * MINUTE, 1_000, 1);
    }
    let marked = ReleaseMarked {
        component: "verification".to_owned(),
        version: "2.4.0".to_owned(),
        ..ReleaseMarked::default()
    };
    world.write(
        "detect/releases",
        START + 30 * MINUTE,
        Kind::ReleaseMarked(marked),
    );
    world.verdicts(START + 31 * MINUTE, 1_000, 25);
    let expected = (
        "errors-after-release",
        "verdicts of verification-1",
        "release-regression",
    );
    assert_eq!(world.found(), vec![expected]);
}

/// A day as it should be: seals, permits, calls of a key with some jitter, a bad verdict now and then, a failed call, a canary every five minutes, a release at noon, and a night in
/// which nobody verifies anything.
#[test]
fn a_day_of_clean_traffic_says_nothing() {
    let mut world = World::new();
    let mut size = 0;
    for tick in 0..(24 * 720) {
        let at_ms = START + tick * 5 * SECOND;
        let is_night = tick * 5 * SECOND > 16 * HOUR;
        let request = PermitRequested {
            node: "sealing-1".to_owned(),
            request_id: format!("r{tick}"),
            origin: ORIGIN.to_owned(),
        };
        if tick % 12 == 0 {
            world.write("log/main", at_ms, Kind::PermitRequested(request));
        }
        if tick % 71 == 0 {
            size += 1;
            world.batch(at_ms, size, 20 + tick % 200);
        }
        if !is_night {
            let busy = 20 + u64::try_from(tick % 37).unwrap();
            world.verdicts(at_ms, busy, u64::from(tick % 25 == 0));
            // A user tries the wrong file twenty times in a minute, once an hour.
            if tick % 720 < 5 {
                world.verdicts(at_ms, 4, 4);
            }
        }
        let failed = u64::from(tick % 2_000 == 1_999);
        world.calls(at_ms, 3, failed, 2 + tick % 40);
        if tick % 60 == 0 {
            world.canary(at_ms, true, 300);
        }
        if tick == 12 * 720 {
            let marked = ReleaseMarked {
                component: "sealing".to_owned(),
                version: "2.4.1".to_owned(),
                ..ReleaseMarked::default()
            };
            world.write("detect/releases", at_ms, Kind::ReleaseMarked(marked));
        }
    }
    assert_eq!(world.found(), vec![]);
    assert!(size > 200, "{size} batches");
    let seen = world.state.watching.watched();
    let seen_of = |name: &str| {
        seen.iter()
            .any(|it| it.detector == name && it.reading.is_some())
    };
    for name in ["slow-key", "key-errors", "verdict-spike", "canary"] {
        assert!(seen_of(name), "{name} looked at nothing: {seen:?}");
    }
}
