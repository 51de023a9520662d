use sealwarden_domain::fold::event;
use sealwarden_eventlog::Head;
use sealwarden_runbook::{PlanSet, SHIPPED};
use sealwarden_wire::event::v1::{
    Commit, Directive, DirectiveAcknowledged, DirectiveIssued, Envelope, IncidentOpened,
    IncidentStage, IncidentStageReached, KeyUseObserved, OriginOpened, Reporter, event::Kind,
};

use super::*;

const ORIGIN: &str = "seal.example.com/main/1";
const HOLD_MS: i64 = 15 * 60 * 1000;

/// A state that a test writes by hand; the n-th commit is recorded at n seconds.
struct World {
    state: State,
    plan: PlanSet,
    position: u64,
}

impl World {
    fn new() -> Self {
        let plan = PlanSet::load(&SHIPPED).unwrap();
        let mut world = Self {
            state: State::default(),
            plan,
            position: 0,
        };
        world.open(1, 0);
        world
    }

    fn open(&mut self, n: u32, epoch: u64) {
        let opened = OriginOpened {
            origin: format!("seal.example.com/main/{n}"),
            node: "sealing-1".to_owned(),
            epoch,
            ..OriginOpened::default()
        };
        self.write("log/main", Kind::OriginOpened(opened));
    }

    fn write(&mut self, stream: &str, kind: Kind) -> i64 {
        self.position += 1;
        let at_ms = i64::try_from(self.position).unwrap() * 1000;
        let envelope = Envelope {
            stream: stream.to_owned(),
            position: self.position,
            recorded_at_ms: at_ms,
            ..Envelope::default()
        };
        let commit = Commit {
            envelope: Some(envelope),
            events: vec![event(kind)],
        };
        self.state.take_in(&commit, Head::EMPTY);
        at_ms
    }

    fn signal(&mut self, id: &str) -> i64 {
        let signal = SignalReported {
            key: String::new(),
            signal: id.to_owned(),
            detector: "foreign-checkpoint".to_owned(),
            class: "key-compromise".to_owned(),
            subject: format!("origin {ORIGIN}"),
            log: "main".to_owned(),
            origin: ORIGIN.to_owned(),
            proven: true,
            earliest_at_ms: 500,
            reporter: Some(Reporter::default()),
            ..SignalReported::default()
        };
        self.write(&format!("signal/{id}"), Kind::SignalReported(signal))
    }

    fn directive(&mut self, epoch: u64, kind: DirectiveKind, inputs: &str) {
        let directive = Directive {
            epoch,
            kind: kind.into(),
            inputs: inputs.to_owned(),
            ..Directive::default()
        };
        self.write(
            "log/main",
            Kind::DirectiveIssued(DirectiveIssued {
                directive: Some(directive),
            }),
        );
    }

    fn acknowledged(&mut self, epoch: u64) {
        let ack = DirectiveAcknowledged {
            epoch,
            node: "sealing-1".to_owned(),
            note: String::new(),
        };
        self.write("log/main", Kind::DirectiveAcknowledged(ack));
    }

    fn hold(&self, now_ms: i64) -> Option<HoldPlaced> {
        pending(&self.state, self.plan.plan(), now_ms)
            .into_iter()
            .find_map(|effect| match effect {
                Effect::PlaceHold { hold, .. } => Some(hold),
                Effect::RecordSignal { .. }
                | Effect::JoinIncident { .. }
                | Effect::Classify { .. }
                | Effect::SayOfDuties { .. }
                | Effect::InstallDetectors(_)
                | Effect::RecordNearMiss(_)
                | Effect::Tick(_) => None,
            })
    }
}

#[test]
fn a_proven_signal_holds_first_of_all_for_as_long_as_the_plan_says() {
    let mut world = World::new();
    let at_ms = world.signal("S-1");
    let effects = pending(&world.state, world.plan.plan(), at_ms);
    assert!(
        matches!(effects[0], Effect::PlaceHold { .. }),
        "{effects:?}"
    );
    assert!(matches!(effects[1], Effect::JoinIncident { .. }));
    assert_eq!(world.hold(at_ms).unwrap().expires_at_ms, at_ms + HOLD_MS);
}

#[test]
fn one_hold_for_signals_that_come_while_it_lasts() {
    let mut world = World::new();
    let at_ms = world.signal("S-1");
    let hold = world.hold(at_ms).unwrap();
    world.write("log/main", Kind::HoldPlaced(hold));
    let at_ms = world.signal("S-2");
    assert_eq!(world.hold(at_ms), None);
}

#[test]
fn a_hold_that_ran_out_is_not_placed_again_for_its_signal() {
    let mut world = World::new();
    let at_ms = world.signal("S-1");
    assert!(world.hold(at_ms + HOLD_MS - 1).is_some());
    assert_eq!(
        world.hold(at_ms + HOLD_MS),
        None,
        "a restart does not make up for it"
    );
}

#[test]
fn what_people_lifted_stays_lifted_until_something_new_is_seen() {
    let mut world = World::new();
    let at_ms = world.signal("S-1");
    let hold = world.hold(at_ms).unwrap();
    world.write("log/main", Kind::HoldPlaced(hold));
    let during = world.signal("S-2");
    world.directive(1, DirectiveKind::Open, "");
    world.acknowledged(1);
    assert_eq!(world.hold(during + 10), None);
    let after = world.signal("S-3");
    assert_eq!(world.hold(after).unwrap().signal, "S-3");
}

#[test]
fn a_key_that_is_isolated_or_replaced_is_not_held() {
    let mut world = World::new();
    world.directive(
        1,
        DirectiveKind::IsolateKey,
        &format!("action: isolate-key\norigin: {ORIGIN}\n"),
    );
    let at_ms = world.signal("S-1");
    assert_eq!(world.hold(at_ms), None);
    let mut world = World::new();
    world.directive(1, DirectiveKind::RotateOrigin, "");
    world.open(2, 1);
    let at_ms = world.signal("S-1");
    assert_eq!(world.hold(at_ms), None);
}

#[test]
fn incidents_of_a_subject_are_numbered() {
    let mut world = World::new();
    let subject = format!("origin {ORIGIN}");
    let first = world.state.incident_for(&subject);
    assert!(first.ends_with("-1"), "{first}");
    let opened = IncidentOpened {
        incident: first.clone(),
        subject: subject.clone(),
        ..IncidentOpened::default()
    };
    world.write(&format!("incident/{first}"), Kind::IncidentOpened(opened));
    assert_eq!(world.state.incident_for(&subject), first);
    let closed = IncidentStageReached {
        stage: IncidentStage::Closed.into(),
        reason: String::new(),
    };
    world.write(
        &format!("incident/{first}"),
        Kind::IncidentStageReached(closed),
    );
    assert!(world.state.incident_for(&subject).ends_with("-2"));
}

#[test]
fn events_count_in_their_own_streams_only() {
    let mut world = World::new();
    let used = KeyUseObserved {
        log: "main".to_owned(),
        ..KeyUseObserved::default()
    };
    world.write("sighting/aa", Kind::KeyUseObserved(used.clone()));
    assert!(world.state.findings.is_empty());
    world.write("keyuse/sealing-1", Kind::KeyUseObserved(used));
    assert_eq!(world.state.findings.len(), 1);
    let borrowed = SignalReported {
        key: String::new(),
        signal: "S-2".to_owned(),
        ..SignalReported::default()
    };
    world.write("signal/S-1", Kind::SignalReported(borrowed));
    assert!(world.state.signals.is_empty());
}
