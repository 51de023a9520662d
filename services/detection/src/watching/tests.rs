use sealwarden_domain::fold::event;
use sealwarden_eventlog::Head;
use sealwarden_runbook::{PlanSet, SHIPPED};
use sealwarden_wire::event::v1::{
    CheckpointPublished, Commit, IntentRecorded, OriginOpened, PermitRequested, TimeTicked,
};

use super::*;
use crate::state::State;

const ORIGIN: &str = "seal.example.com/main/1";
const START: i64 = 1_800_000_000_000;

/// A state with the shipped detectors, and everything that was written to it.
struct World {
    state: State,
    plan: PlanSet,
    commits: Vec<Commit>,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            state: State::default(),
            plan: PlanSet::load(&SHIPPED).unwrap(),
            commits: Vec::new(),
        };
        let detectors = world.plan.detectors().unwrap();
        let installed = DetectorsInstalled {
            version: detectors.version(),
            sha256: detectors.digest_hex(),
            text: detectors.text().to_owned(),
            node: "detection-1".to_owned(),
        };
        world.write(
            "detect/detectors",
            START,
            Kind::DetectorsInstalled(installed),
        );
        let opened = OriginOpened {
            origin: ORIGIN.to_owned(),
            node: "sealing-1".to_owned(),
            ..OriginOpened::default()
        };
        world.write("log/main", START, Kind::OriginOpened(opened));
        world
    }

    fn write(&mut self, stream: &str, at_ms: i64, kind: Kind) {
        let envelope = Envelope {
            stream: stream.to_owned(),
            position: u64::try_from(self.commits.len()).unwrap() + 1,
            recorded_at_ms: at_ms,
            ..Envelope::default()
        };
        let commit = Commit {
            envelope: Some(envelope),
            events: vec![event(kind)],
        };
        self.state.take_in(&commit, Head::EMPTY);
        self.commits.push(commit);
    }

    fn batch(&mut self, at_ms: i64, size: u64, took_ms: i64) {
        let intent = IntentRecorded {
            origin: ORIGIN.to_owned(),
            old_size: size - 1,
            size,
            root: vec![1; 32].into(),
            message_sha256: vec![u8::try_from(size).unwrap(); 32].into(),
            node: "sealing-1".to_owned(),
            ..IntentRecorded::default()
        };
        self.write("log/main", at_ms, Kind::IntentRecorded(intent));
        let published = CheckpointPublished {
            origin: ORIGIN.to_owned(),
            size,
            root: vec![1; 32].into(),
            node: "sealing-1".to_owned(),
        };
        self.write(
            "log/main",
            at_ms + took_ms,
            Kind::CheckpointPublished(published),
        );
    }

    fn due(&self, now_ms: i64) -> Vec<Effect> {
        self.state.watching.due(&self.plan, now_ms)
    }
}

#[test]
fn slow_publishing_is_a_finding_about_the_key_providers_that_proves_nothing() {
    let mut world = World::new();
    for n in 1..=3 {
        world.batch(START + i64::try_from(n).unwrap() * 6_000, n, 5_000);
    }
    let finding = world.state.findings.values().next().unwrap();
    let signal = &finding.signal;
    assert_eq!(signal.detector, "slow-publishing");
    assert_eq!(signal.subject, "key providers of log main");
    assert!(!signal.proven && signal.origin.is_empty());
    assert_eq!(signal.reading.as_ref().unwrap().value_milli, 5_000_000);
    assert_eq!(signal.events, vec![4, 6, 8]);
    // A replay finds the same under the same id, and once it is recorded it is none any more.
    let mut again = State::default();
    for commit in &world.commits {
        again.take_in(commit, Head::EMPTY);
    }
    assert_eq!(again.findings.keys().next(), Some(&signal.signal));
    let (id, signal) = (signal.signal.clone(), signal.clone());
    world.write(
        &format!("signal/{id}"),
        START + 30_000,
        Kind::SignalReported(signal),
    );
    assert!(world.state.findings.is_empty());
}

#[test]
fn what_came_near_is_recorded_once() {
    let mut world = World::new();
    for n in 1..=3 {
        world.batch(START + i64::try_from(n).unwrap() * 6_000, n, 1_900);
    }
    world.write(
        "detect/time",
        START + 120_000,
        Kind::TimeTicked(TimeTicked::default()),
    );
    let miss = world.due(START + 120_000).into_iter().find_map(|effect| {
        if let Effect::RecordNearMiss(miss) = effect {
            Some(*miss)
        } else {
            None
        }
    });
    let miss = miss.unwrap();
    assert!(miss.near_miss.starts_with("N-"), "{}", miss.near_miss);
    let stream = format!("near/{}", miss.near_miss);
    // In another's stream it counts for nothing.
    world.write(
        "near/N-1",
        START + 120_001,
        Kind::NearMissRecorded(miss.clone()),
    );
    assert_eq!(world.state.watching.all_misses().count(), 0);
    world.write(&stream, START + 120_002, Kind::NearMissRecorded(miss));
    assert_eq!(world.state.watching.all_misses().count(), 1);
    let near = |effect: &Effect| matches!(effect, Effect::RecordNearMiss(_));
    assert!(!world.due(START + 120_003).iter().any(near));
}

#[test]
fn time_is_recorded_only_when_silence_has_to_be_judged() {
    let mut world = World::new();
    let ticks = |world: &World, now_ms: i64| {
        world
            .due(now_ms)
            .iter()
            .any(|it| matches!(it, Effect::Tick(_)))
    };
    assert!(!ticks(&world, START + 86_400_000), "nobody is silent yet");
    let request = PermitRequested {
        node: "sealing-1".to_owned(),
        request_id: "r".to_owned(),
        origin: ORIGIN.to_owned(),
    };
    world.write("log/main", START + 1_000, Kind::PermitRequested(request));
    assert!(!ticks(&world, START + 120_000));
    assert!(ticks(&world, START + 121_001));
    world.write(
        "detect/time",
        START + 121_001,
        Kind::TimeTicked(TimeTicked::default()),
    );
    let finding = world.state.findings.values().next().unwrap();
    assert_eq!(finding.signal.detector, "silent-node");
    assert_eq!(
        finding.signal.seen,
        "No permit-requests of node sealing-1 for 2m."
    );
    assert!(!ticks(&world, START + 86_400_000), "it is told");
}

#[test]
fn a_changed_file_is_installed_and_an_unreadable_one_changes_nothing() {
    let mut world = World::new();
    let installs = |world: &World| {
        world
            .due(START)
            .iter()
            .any(|it| matches!(it, Effect::InstallDetectors(_)))
    };
    assert!(!installs(&world));
    let before = world.state.watching.in_force().count();
    let bad = DetectorsInstalled {
        version: 9,
        sha256: "00".to_owned(),
        text: "version: x".to_owned(),
        node: String::new(),
    };
    world.write(
        "detect/detectors",
        START,
        Kind::DetectorsInstalled(bad.clone()),
    );
    assert_eq!(world.state.watching.in_force().count(), before);
    let none = DetectorsInstalled {
        text: "version: 9\ndetectors: {}\n".to_owned(),
        ..bad
    };
    // Only in its own stream.
    world.write("detect/time", START, Kind::DetectorsInstalled(none.clone()));
    assert_eq!(world.state.watching.in_force().count(), before);
    world.write("detect/detectors", START, Kind::DetectorsInstalled(none));
    assert_eq!(world.state.watching.in_force().count(), 0);
    assert!(installs(&world), "the plan's own file is in force again");
}

mod shipped;
