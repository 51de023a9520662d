use sealwarden_runbook::Detectors;
use sealwarden_wire::event::v1::{
    CanaryRun, CheckpointPublished, CheckpointSighted, Envelope, IntentRecorded, Measured,
    MeasuresTaken, OriginOpened, PermitReleased, PermitRequested, ReleaseMarked, SignatureWithheld,
    event::Kind,
};

use super::*;

const ORIGIN: &str = "seal.example.com/main/1";
const SECOND: i64 = 1_000;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 3_600_000;
/// A round time, so that slots and buckets begin with it.
const START: i64 = 1_800_000_000_000;

fn detectors(rules: &[(&str, &str)]) -> Detectors {
    let head = "title: x, owner: on-call-sre, class: kms-outage";
    let rules = rules
        .iter()
        .map(|(name, rule)| format!("  {name}: {{{head}, {rule}}}"));
    let rules: Vec<String> = rules.collect();
    let text = format!("version: 1\ndetectors:\n{}\n", rules.join("\n"));
    Detectors::parse("detectors.yaml", &text).unwrap()
}

/// A log of events under detectors.
#[derive(Clone)]
struct World {
    sensor: Sensor,
    detecting: Detecting,
    position: u64,
    outcomes: Vec<Outcome>,
}

impl World {
    fn new(rules: &[(&str, &str)]) -> Self {
        let mut detecting = Detecting::default();
        detecting.install(&detectors(rules));
        let mut world = Self {
            sensor: Sensor::default(),
            detecting,
            position: 0,
            outcomes: Vec::new(),
        };
        world.event(
            "log/main",
            START,
            Kind::OriginOpened(OriginOpened {
                origin: ORIGIN.to_owned(),
                ..OriginOpened::default()
            }),
        );
        world
    }

    fn event(&mut self, stream: &str, at_ms: i64, kind: impl Into<Option<Kind>>) {
        let kind = kind.into().unwrap();
        self.position += 1;
        let envelope = Envelope {
            position: self.position,
            recorded_at_ms: at_ms,
            ..Envelope::default()
        };
        let (detecting, outcomes) = (&mut self.detecting, &mut self.outcomes);
        detecting.pass(at_ms, outcomes);
        let of = stream.split_once('/').unwrap();
        let position = self.position;
        self.sensor.take_in(of, &envelope, &kind, &mut |taken| {
            detecting.take_in(taken, position, outcomes);
        });
    }

    fn intent(&mut self, at_ms: i64, old_size: u64, size: u64) {
        let intent = IntentRecorded {
            origin: ORIGIN.to_owned(),
            old_size,
            size,
            ..IntentRecorded::default()
        };
        self.event("log/main", at_ms, Kind::IntentRecorded(intent));
    }

    fn published(&mut self, at_ms: i64, size: u64) {
        let published = CheckpointPublished {
            origin: ORIGIN.to_owned(),
            size,
            ..CheckpointPublished::default()
        };
        self.event("log/main", at_ms, Kind::CheckpointPublished(published));
    }

    /// A batch that takes so long.
    fn batch(&mut self, at_ms: i64, size: u64, took_ms: i64) {
        self.intent(at_ms, size - 1, size);
        self.published(at_ms + took_ms, size);
    }

    fn measured(&mut self, at_ms: i64, measures: &[(&str, u64)]) {
        let measures = measures.iter().map(|(measure, count)| Measured {
            measure: (*measure).to_owned(),
            name: "verification-1".to_owned(),
            count: *count,
            sum: i64::try_from(*count).unwrap_or(i64::MAX),
            most: 1,
            last: 1,
        });
        let taken = MeasuresTaken {
            node: "verification-1".to_owned(),
            measures: measures.collect(),
            ..MeasuresTaken::default()
        };
        self.event("measure/verification-1", at_ms, Kind::MeasuresTaken(taken));
    }

    fn verdicts(&mut self, at_ms: i64, all: u64, bad: u64) {
        self.measured(at_ms, &[("verdicts", all), ("negative-verdicts", bad)]);
    }

    fn canary(&mut self, at_ms: i64, good: bool, took_ms: u64) {
        let run = CanaryRun {
            log: "main".to_owned(),
            good,
            took_ms,
            ..CanaryRun::default()
        };
        self.event("detect/canary", at_ms, Kind::CanaryRun(run));
    }

    fn pass(&mut self, at_ms: i64) {
        self.detecting.pass(at_ms, &mut self.outcomes);
    }

    /// What was concluded since this was last asked, and what came near: detector and sentence.
    fn told(&mut self) -> (Vec<Conclusion>, Vec<String>) {
        let (mut concluded, mut near) = (Vec::new(), Vec::new());
        for outcome in std::mem::take(&mut self.outcomes) {
            match outcome {
                Outcome::Concluded(it) => concluded.push(*it),
                Outcome::NearMiss(it) => near.push(it.seen),
            }
        }
        (concluded, near)
    }
}

const SLOW: (&str, &str) = (
    "slow",
    "kind: threshold, measure: publish-ms, of: mean, window: 1m, above: 2000, samples: 3, about: \"key providers of log {name}\"",
);

#[test]
fn a_threshold_concludes_once_says_why_and_again_only_after_it_was_well() {
    let mut world = World::new(&[SLOW]);
    for n in 1..=2 {
        world.batch(START + i64::try_from(n).unwrap() * 5 * SECOND, n, 4_000);
    }
    assert_eq!(world.told(), (vec![], vec![]), "two values are too few");
    world.batch(START + 15 * SECOND, 3, 4_000);
    world.batch(START + 20 * SECOND, 4, 4_000);
    let (concluded, _) = world.told();
    assert_eq!(concluded.len(), 1);
    let it = &concluded[0];
    assert_eq!(
        it.seen,
        "publish-ms of log main: mean 4000 ms over 1m, from 3 values."
    );
    assert_eq!(it.expected, "At most 2000 ms.");
    assert_eq!(
        (&*it.subject, &*it.log),
        ("key providers of log main", "main")
    );
    assert_eq!(
        (it.reading.value_milli, it.reading.limit_milli),
        (4_000_000, 2_000_000)
    );
    assert_eq!(it.reading.to_ms, START + 19 * SECOND);
    // Positions: the origin is 1, each batch an intent and its publication.
    assert_eq!(it.events, vec![3, 5, 7]);
    // Well for longer than an hour, then slow again.
    for n in 5..10 {
        world.batch(START + HOUR + i64::try_from(n).unwrap() * MINUTE, n, 10);
    }
    assert_eq!(world.told(), (vec![], vec![]));
    for n in 10..14 {
        world.batch(
            START + 2 * HOUR + i64::try_from(n).unwrap() * 5 * SECOND,
            n,
            3_000,
        );
    }
    assert_eq!(world.told().0.len(), 1);
}

#[test]
fn what_came_near_and_went_away_is_told_once_in_a_while() {
    let mut world = World::new(&[SLOW]);
    let mut size = 0;
    for round in 0..3 {
        for n in 0..4 {
            size += 1;
            world.batch(START + round * 5 * MINUTE + n * 5 * SECOND, size, 1_800);
        }
    }
    world.pass(START + 20 * MINUTE);
    let (concluded, near) = world.told();
    assert_eq!(concluded, vec![]);
    assert_eq!(near.len(), 1, "three came near within `again`: one is told");
    assert!(near[0].contains("mean 1800 ms"), "{}", near[0]);
    for n in 0..4 {
        size += 1;
        world.batch(START + 2 * HOUR + n * 5 * SECOND, size, 1_900);
    }
    world.pass(START + 3 * HOUR);
    let Some(Outcome::NearMiss(it)) = world.outcomes.pop() else {
        panic!("no near miss")
    };
    assert_eq!(it.further, 2, "those that were counted only");
    assert_eq!(it.reading.unwrap().percent, 95);
}

#[test]
fn a_rate_may_be_too_high_or_too_low() {
    let mut world = World::new(&[
        (
            "many",
            "kind: rate, measure: signatures-withheld, window: 10m, above: 2",
        ),
        ("few", "kind: rate, measure: seals, window: 10m, below: 5"),
    ]);
    for n in 0..3 {
        let withheld = SignatureWithheld::default();
        let at_ms = START + n * MINUTE;
        world.event("log/main", at_ms, Kind::SignatureWithheld(withheld));
    }
    let (concluded, _) = world.told();
    assert_eq!(
        concluded[0].seen,
        "signatures-withheld of log main: sum 3 signatures over 10m, from 3 values."
    );
    // Ten seals at once, then none: after ten minutes there are too few.
    world.intent(START + 3 * MINUTE, 0, 10);
    world.pass(START + 12 * MINUTE);
    assert_eq!(world.told().0, vec![]);
    world.pass(START + 15 * MINUTE);
    let (concluded, _) = world.told();
    assert_eq!((&*concluded[0].detector, concluded.len()), ("few", 1));
    assert!(concluded[0].reading.below);
}

#[test]
fn an_anomaly_is_far_from_what_was_and_a_shift_becomes_the_rule() {
    for method in ["kind: robust-z", "kind: ewma, weight: 0.2"] {
        let rule = format!(
            "{method}, measure: publish-ms, of: mean, bucket: 1m, buckets: 20, score: 6, least: 100"
        );
        let mut world = World::new(&[("odd", &rule)]);
        let mut size = 0;
        let mut minute = |world: &mut World, n: i64, took_ms: i64| {
            size += 1;
            world.batch(START + n * MINUTE, size, took_ms);
        };
        for n in 0..20 {
            minute(&mut world, n, 50 + n % 7);
        }
        assert_eq!(world.told().0, vec![], "{method}");
        minute(&mut world, 20, 900);
        minute(&mut world, 21, 50);
        let (concluded, _) = world.told();
        assert_eq!(concluded.len(), 1, "{method}");
        assert!(
            concluded[0].seen.contains("mean 900 ms in 1m, and 5"),
            "{}",
            concluded[0].seen
        );
        // The new level is told once, not each minute.
        for n in 22..200 {
            minute(&mut world, n, 900 + n % 7);
        }
        assert!(world.told().0.len() <= 2, "{method}");
        minute(&mut world, 200, 900);
        assert_eq!(world.detecting.watched()[0].phase, "quiet", "{method}");
    }
}

#[test]
fn an_error_budget_burns_only_if_both_windows_do() {
    let rule = "kind: burn-rate, all: verdicts, bad: negative-verdicts, objective: 99, windows: [{long: 1h, short: 5m, factor: 10}]";
    let mut world = World::new(&[("burn", rule)]);
    // A short burst long ago: the long window burns, the short one does not.
    world.verdicts(START, 100, 50);
    world.told();
    for n in 1..6 {
        world.verdicts(START + n * 10 * MINUTE, 10, 0);
    }
    assert_eq!(world.told().0, vec![]);
    let mut world = World::new(&[("burn", rule)]);
    for n in 0..30 {
        world.verdicts(START + n * MINUTE, 100, 0);
    }
    world.verdicts(START + 30 * MINUTE, 100, 90);
    assert_eq!(world.told().0, vec![], "the long window holds");
    for n in 31..40 {
        world.verdicts(START + n * MINUTE, 100, 90);
    }
    let (concluded, _) = world.told();
    assert_eq!(concluded.len(), 1);
    assert!(
        concluded[0]
            .seen
            .starts_with("negative-verdicts of node verification-1 spend the error budget 10."),
        "{}",
        concluded[0].seen
    );
}

#[test]
fn silence_is_concluded_from_recorded_time_and_not_after_a_clean_end() {
    let mut world = World::new(&[(
        "silent",
        "kind: absence, measure: permit-requests, within: 2m",
    )]);
    let request = |world: &mut World, node: &str, at_ms| {
        let request = PermitRequested {
            node: node.to_owned(),
            ..PermitRequested::default()
        };
        world.event("log/main", at_ms, Kind::PermitRequested(request));
    };
    request(&mut world, "sealing-1", START);
    request(&mut world, "sealing-2", START);
    request(&mut world, "sealing-1", START + 110 * SECOND);
    let (concluded, near) = world.told();
    assert_eq!((concluded, near.len()), (vec![], 1), "nearly two minutes");
    let released = PermitReleased {
        node: "sealing-1".to_owned(),
        ..PermitReleased::default()
    };
    world.event(
        "log/main",
        START + 115 * SECOND,
        Kind::PermitReleased(released),
    );
    assert_eq!(world.detecting.next_due_ms(), Some(START + 2 * MINUTE + 1));
    world.pass(START + HOUR);
    let (concluded, _) = world.told();
    assert_eq!(concluded.len(), 1, "only the one that gave nothing back");
    assert_eq!(concluded[0].subject, "node sealing-2");
    assert_eq!(
        concluded[0].at_ms,
        START + 2 * MINUTE + 1,
        "as of then, whoever looks when"
    );
}

#[test]
fn each_intent_comes_to_an_end_in_time() {
    let rule = "kind: cross-check, each: intents, needs: settled-intents, within: 1m";
    let mut world = World::new(&[("open", rule)]);
    for size in 1..50 {
        let at_ms = START + i64::try_from(size).unwrap() * SECOND;
        world.intent(at_ms, size - 1, size);
        // The same batch again is no second one, and one checkpoint may settle several.
        world.intent(at_ms + 1, size - 1, size);
        if size % 7 == 0 {
            world.published(at_ms + 500, size);
        }
    }
    world.pass(START + 100 * SECOND);
    assert_eq!(world.told().0, vec![]);
    world.intent(START + 200 * SECOND, 49, 50);
    world.intent(START + 201 * SECOND, 50, 51);
    world.pass(START + 300 * SECOND);
    let (concluded, _) = world.told();
    assert_eq!(concluded.len(), 1);
    assert!(
        concluded[0]
            .seen
            .contains("intents of log main have none of the settled-intents"),
        "{}",
        concluded[0].seen
    );
    world.published(START + 301 * SECOND, 51);
    assert_eq!(world.detecting.watched()[0].phase, "quiet");
}

#[test]
fn a_probe_fails_in_a_row_or_is_slow_or_silent() {
    let mut world = World::new(&[(
        "canary",
        "kind: probe, failures: 2, slower: 5s, within: 10m, again: 1m",
    )]);
    world.canary(START, false, 10);
    world.canary(START + MINUTE, true, 10);
    world.canary(START + 2 * MINUTE, true, 6_000);
    assert_eq!(world.told().0, vec![]);
    world.canary(START + 3 * MINUTE, false, 10);
    let (concluded, _) = world.told();
    assert_eq!(
        concluded[0].seen,
        "2 canaries of log main in a row were not sealed and verified in time."
    );
    world.canary(START + 4 * MINUTE, true, 10);
    world.pass(START + 3 * HOUR);
    let (concluded, _) = world.told();
    assert_eq!(concluded[0].seen, "No canary of log main ran for 10m.");
}

#[test]
fn errors_after_a_release_are_compared_with_those_before() {
    let rule =
        "kind: release, all: verdicts, bad: negative-verdicts, window: 30m, factor: 5, least: 10";
    let release = |world: &mut World, at_ms| {
        let marked = ReleaseMarked {
            component: "sealing".to_owned(),
            version: "2.4.0".to_owned(),
            ..ReleaseMarked::default()
        };
        world.event("detect/releases", at_ms, Kind::ReleaseMarked(marked));
    };
    for (after, expected) in [(1, 0), (20, 1)] {
        let mut world = World::new(&[("release", rule)]);
        for n in 0..20 {
            world.verdicts(START + n * MINUTE, 100, 1);
        }
        release(&mut world, START + 20 * MINUTE);
        for n in 21..26 {
            world.verdicts(START + n * MINUTE, 100, after);
        }
        let (concluded, _) = world.told();
        assert_eq!(concluded.len(), expected);
        if let Some(it) = concluded.first() {
            assert!(it.seen.starts_with("Since sealing 2.4.0 the share of negative-verdicts in verdicts of node verification-1 is"), "{}", it.seen);
        }
    }
    // The same errors without a release, or long after it, are not a release's.
    let mut world = World::new(&[("release", rule)]);
    world.verdicts(START, 1000, 1);
    release(&mut world, START + MINUTE);
    world.verdicts(START + HOUR, 100, 90);
    assert_eq!(world.told().0, vec![]);
}

#[test]
fn nobodys_word_counts_for_what_follows_from_events_and_strangers_count_for_nothing() {
    let mut world = World::new(&[
        ("seals", "kind: rate, measure: seals, window: 1m, above: 0"),
        (
            "refusals",
            "kind: rate, measure: witness-refusals, window: 1m, above: 0",
        ),
        (
            "verdicts",
            "kind: rate, measure: verdicts, window: 1m, above: 0",
        ),
    ]);
    world.measured(START, &[("seals", 1_000), ("nonsense", 5)]);
    // A node speaks in its own stream only.
    let taken = MeasuresTaken {
        node: "verification-2".to_owned(),
        measures: vec![Measured {
            measure: "verdicts".to_owned(),
            count: 1,
            sum: 1,
            ..Measured::default()
        }],
        ..MeasuresTaken::default()
    };
    world.event(
        "measure/verification-1",
        START,
        Kind::MeasuresTaken(taken.clone()),
    );
    world.event("run/x", START, Kind::MeasuresTaken(taken));
    let sighted = CheckpointSighted {
        origin: "seal.example.com/nobody/1".to_owned(),
        source: "witness".to_owned(),
        ..CheckpointSighted::default()
    };
    world.event("sighting/x", START, Kind::CheckpointSighted(sighted));
    assert_eq!(world.told().0, vec![]);
}

#[test]
fn memory_is_bounded_and_what_found_no_room_is_counted() {
    let mut world = World::new(&[(
        "silent",
        "kind: absence, measure: permit-requests, within: 1h",
    )]);
    for n in 0..2 * MAX_SERIES {
        let request = PermitRequested {
            node: format!("node-{n}"),
            ..PermitRequested::default()
        };
        world.event("log/main", START, Kind::PermitRequested(request));
    }
    assert_eq!(world.detecting.watched().len(), MAX_SERIES);
    let unseen: Vec<u64> = world
        .detecting
        .in_force()
        .map(|(_, unseen)| unseen)
        .collect();
    assert_eq!(unseen, vec![u64::try_from(MAX_SERIES).unwrap()]);
    world.pass(START + 100 * HOUR);
    assert_eq!(world.told().0.len(), MAX_SERIES);
}

#[test]
fn a_detector_that_says_the_same_goes_on_and_a_changed_one_begins_anew() {
    let mut world = World::new(&[SLOW]);
    for n in 1..=2 {
        world.batch(START + i64::try_from(n).unwrap() * SECOND, n, 4_000);
    }
    let mut changed = world.clone();
    let other = (
        "other",
        "kind: rate, measure: seals, window: 1m, above: 1000",
    );
    world.detecting.install(&detectors(&[other, SLOW]));
    world.batch(START + 3 * SECOND, 3, 4_000);
    assert_eq!(world.told().0.len(), 1);
    let stricter = (SLOW.0, SLOW.1.replace("2000", "1999"));
    changed
        .detecting
        .install(&detectors(&[(stricter.0, &stricter.1)]));
    changed.batch(START + 3 * SECOND, 3, 4_000);
    assert_eq!(changed.told().0, vec![]);
}

mod random;
mod told;
