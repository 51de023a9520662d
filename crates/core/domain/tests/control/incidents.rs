//! The life of an incident.

use sealwarden_domain::fold::event;
use sealwarden_domain::incident::{Command, Incident, decide};
use sealwarden_domain::{Fold, IllegalEvent, RejectionCode};
use sealwarden_wire::event::v1::{
    Event, EvidenceSealed, IncidentClassified, IncidentHandedOver, IncidentOpened, IncidentStage,
    IncidentStageReached, NodeEnrolled, Reporter, RunLinked, SignalJoined, SignalReported,
    event::Kind,
};

use crate::support::envelope;

#[derive(Clone, Default)]
struct Life {
    state: Incident,
    written: u64,
}

impl Life {
    fn opened() -> Self {
        let mut life = Self::default();
        let events = life.done(Command::Open {
            incident: "I-1".to_owned(),
            signal: signal("S-1"),
        });
        assert_eq!(events.len(), 3);
        life
    }

    fn done(&mut self, command: Command) -> Vec<Event> {
        let events = decide(&self.state, command).unwrap();
        for event in &events {
            self.write(event).unwrap();
        }
        events
    }

    fn refusal(&self, command: Command) -> RejectionCode {
        decide(&self.state, command).unwrap_err().code
    }

    fn write(&mut self, event: &Event) -> Result<(), IllegalEvent> {
        self.written += 1;
        self.state
            .apply(&envelope("incident/I-1", self.written), event)
    }

    fn reach(&mut self, stage: IncidentStage) -> usize {
        self.done(Command::Reach {
            stage,
            reason: String::new(),
        })
        .len()
    }
}

fn signal(id: &str) -> SignalReported {
    SignalReported {
        signal: id.to_owned(),
        class: "key-compromise".to_owned(),
        subject: "origin x".to_owned(),
        reporter: Some(Reporter {
            person: true,
            name: format!("reporter of {id}"),
        }),
        earliest_at_ms: 500,
        ..SignalReported::default()
    }
}

fn classified(severity: &str, since_ms: i64, by: &str) -> IncidentClassified {
    IncidentClassified {
        class: "key-compromise".to_owned(),
        severity: severity.to_owned(),
        compromised_since_ms: since_ms,
        by: by.to_owned(),
        ..IncidentClassified::default()
    }
}

#[test]
fn the_second_of_two_first_signals_joins() {
    let mut life = Life::opened();
    let late = Command::Open {
        incident: "I-1".to_owned(),
        signal: signal("S-2"),
    };
    assert_eq!(life.done(late.clone()).len(), 1);
    assert_eq!(life.done(late.clone()), []);
    assert_eq!(life.done(Command::Join(signal("S-1"))), []);
    assert_eq!(life.state.signals.len(), 2);
    assert_eq!(
        life.state.requesters(),
        ["reporter of S-1", "reporter of S-2"]
    );

    life.reach(IncidentStage::Closed);
    assert_eq!(life.done(late), [], "it has joined already");
    assert_eq!(
        life.refusal(Command::Join(signal("S-3"))),
        RejectionCode::NotNow
    );
}

#[test]
fn nothing_begins_before_the_opening() {
    let life = Life::default();
    let commands = [
        Command::Join(signal("S-1")),
        Command::Classify(classified("high", 0, "plan")),
        Command::Reach {
            stage: IncidentStage::Contained,
            reason: String::new(),
        },
        Command::LinkRun(RunLinked::default()),
        Command::AddEvidence(EvidenceSealed::default()),
    ];
    for command in commands {
        assert_eq!(life.refusal(command), RejectionCode::NotNow);
    }
    let joined = event(Kind::SignalJoined(SignalJoined::default()));
    assert!(life.clone().write(&joined).is_err());
}

#[test]
fn a_classification_is_changed_by_what_it_says() {
    let mut life = Life::opened();
    assert_eq!(
        life.done(Command::Classify(classified("high", 500, "plan")))
            .len(),
        2
    );
    assert_eq!(
        life.done(Command::Classify(classified("high", 500, "person ann"))),
        []
    );
    assert_eq!(
        life.done(Command::Classify(classified("critical", 0, "person ann")))
            .len(),
        1
    );
    assert_eq!(
        life.done(Command::Classify(classified("critical", 400, "person bob")))
            .len(),
        1
    );
    let known = life.state.classified.clone().unwrap();
    assert_eq!(
        (known.severity.as_str(), known.compromised_since_ms),
        ("critical", 400)
    );
    let people = life.state.requesters();
    assert!(
        people.contains(&"ann".to_owned()) && people.contains(&"bob".to_owned()),
        "{people:?}"
    );
}

#[test]
fn the_earliest_compromise_moves_only_to_earlier() {
    let mut life = Life::opened();
    life.done(Command::Classify(classified("high", 500, "plan")));
    let later = Command::Classify(classified("high", 501, "plan"));
    assert_eq!(life.refusal(later), RejectionCode::Refused);
    for forged in [501, 0, i64::MAX] {
        let event = event(Kind::IncidentClassified(classified("high", forged, "plan")));
        assert!(life.clone().write(&event).is_err(), "{forged}");
    }
    life.done(Command::Classify(classified("high", 499, "plan")));
    assert_eq!(life.state.classified.unwrap().compromised_since_ms, 499);
}

#[test]
fn stages_only_go_forward() {
    let mut life = Life::opened();
    assert_eq!(life.reach(IncidentStage::Contained), 1);
    assert_eq!(life.reach(IncidentStage::Contained), 0);
    assert_eq!(life.reach(IncidentStage::Classified), 0);
    let events = life.done(Command::Classify(classified("high", 0, "plan")));
    assert_eq!(events.len(), 1, "the stage is behind");
    let unspecified = Command::Reach {
        stage: IncidentStage::Unspecified,
        reason: String::new(),
    };
    assert_eq!(life.refusal(unspecified), RejectionCode::Invalid);
    for stage in [IncidentStage::Detected, IncidentStage::Contained] {
        let reached = IncidentStageReached {
            stage: stage.into(),
            reason: String::new(),
        };
        assert!(
            life.clone()
                .write(&event(Kind::IncidentStageReached(reached)))
                .is_err()
        );
    }
    let newer = IncidentStageReached {
        stage: 77,
        reason: String::new(),
    };
    life.write(&event(Kind::IncidentStageReached(newer)))
        .unwrap();
    assert_eq!(life.state.stage(), Some(IncidentStage::Contained));
    life.reach(IncidentStage::Closed);
    assert!(!life.state.is_open());
}

#[test]
fn runs_and_evidence_are_listed_once() {
    let mut life = Life::opened();
    let run = RunLinked {
        run: "R-1".to_owned(),
        runbook: "key-compromise".to_owned(),
    };
    let evidence = EvidenceSealed {
        manifest_sha256: "ab".to_owned(),
        ..EvidenceSealed::default()
    };
    for times in [1, 0] {
        assert_eq!(life.done(Command::LinkRun(run.clone())).len(), times);
        assert_eq!(
            life.done(Command::AddEvidence(evidence.clone())).len(),
            times
        );
    }
    life.reach(IncidentStage::Closed);
    let late = EvidenceSealed {
        manifest_sha256: "cd".to_owned(),
        ..EvidenceSealed::default()
    };
    assert_eq!(
        life.done(Command::AddEvidence(late)).len(),
        1,
        "also after the closing"
    );
}

#[test]
fn what_does_not_belong_is_illegal() {
    let life = Life::opened();
    let illegal = [
        Kind::IncidentOpened(IncidentOpened::default()),
        Kind::SignalJoined(SignalJoined {
            signal: "S-1".to_owned(),
            ..SignalJoined::default()
        }),
        Kind::NodeEnrolled(NodeEnrolled::default()),
    ];
    for kind in illegal {
        assert!(life.clone().write(&event(kind)).is_err());
    }
}

#[test]
fn an_open_incident_is_one_persons_and_then_anothers() {
    let hand = |to: &str| {
        Command::HandOver(IncidentHandedOver {
            to: to.to_owned(),
            by: "ines".to_owned(),
            note: "the token is slow".to_owned(),
        })
    };
    assert_eq!(Life::default().refusal(hand("bo")), RejectionCode::NotNow);
    let mut life = Life::opened();
    assert_eq!(life.state.owner, None);
    assert_eq!(life.done(hand("ines")).len(), 1);
    assert_eq!(life.done(hand("ines")), [], "it is theirs already");
    assert_eq!(life.done(hand("bo")).len(), 1);
    let owner = life.state.owner.clone().unwrap();
    assert_eq!((owner.person.as_str(), owner.by.as_str()), ("bo", "ines"));
    assert!(owner.since_ms > 0);
    assert_eq!(life.done(hand("ines")).len(), 1, "and back again");
    life.reach(IncidentStage::Closed);
    assert_eq!(life.refusal(hand("bo")), RejectionCode::NotNow);
    assert_eq!(
        life.state.owner.map(|it| it.person),
        Some("ines".to_owned())
    );
}
