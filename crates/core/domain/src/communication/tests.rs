mod outside;

use std::collections::BTreeSet;

use sealwarden_runbook::{PlanSet, SHIPPED};
use sealwarden_wire::event::v1::{
    DeliveryOutcome, Envelope, Event, IncidentAcknowledged, IncidentClassified, IncidentOpened,
    IncidentStage, IncidentStageReached, InputsResolved, NoticePrepared, PageAction, RunStarted,
    SignalJoined, event::Kind,
};

use super::*;
use crate::approval::RevokedKeys;
use crate::fold::{Fold as _, event};
use crate::incident::Incident;

const MINUTE: i64 = 60_000;
const OPENED: i64 = 1_795_420_800_000;
const RETRY: Retry = Retry {
    attempts: 3,
    first_ms: 1000,
    last_ms: 1500,
};

/// A stage: the shipped plan, one incident, its runs and what was told.
struct World {
    plan: PlanSet,
    incident: Incident,
    runs: Vec<RunFacts>,
    communication: Communication,
    reachable: BTreeSet<String>,
    revoked: RevokedKeys,
}

fn at(ms: i64) -> Envelope {
    Envelope {
        stream: "test/I-1".to_owned(),
        recorded_at_ms: ms,
        ..Envelope::default()
    }
}

impl World {
    fn opened(seen: &str) -> Self {
        let mut world = Self {
            plan: PlanSet::load(&SHIPPED).unwrap(),
            incident: Incident::default(),
            runs: Vec::new(),
            communication: Communication::default(),
            reachable: ["incident-room", "leadership", "pager"]
                .map(str::to_owned)
                .into(),
            revoked: RevokedKeys::default(),
        };
        world.happen(
            OPENED,
            Kind::IncidentOpened(IncidentOpened {
                incident: "I-1".to_owned(),
                title: "key-compromise of origin seal.example.com/main/1".to_owned(),
                log: "main".to_owned(),
                origin: "seal.example.com/main/1".to_owned(),
                earliest_at_ms: OPENED - MINUTE,
                ..IncidentOpened::default()
            }),
        );
        world.happen(
            OPENED,
            Kind::SignalJoined(SignalJoined {
                signal: "S-1".to_owned(),
                detector: "foreign-checkpoint".to_owned(),
                proven: true,
                seen: seen.to_owned(),
                ..SignalJoined::default()
            }),
        );
        world
    }

    fn happen(&mut self, at_ms: i64, kind: Kind) {
        self.incident.apply(&at(at_ms), &event(kind)).unwrap();
    }

    fn classify(&mut self, at_ms: i64) {
        self.happen(
            at_ms,
            Kind::IncidentClassified(IncidentClassified {
                class: "key-compromise".to_owned(),
                severity: "critical".to_owned(),
                by: "detector foreign-checkpoint".to_owned(),
                reason: "proven".to_owned(),
                compromised_since_ms: OPENED - MINUTE,
                target_contain_ms: MINUTE,
                target_recover_ms: 60 * MINUTE,
                ..IncidentClassified::default()
            }),
        );
    }

    fn stage(&mut self, at_ms: i64, stage: IncidentStage) {
        let reached = IncidentStageReached {
            stage: stage.into(),
            reason: "proven".to_owned(),
        };
        self.happen(at_ms, Kind::IncidentStageReached(reached));
    }

    fn due(&self, now_ms: i64) -> Due {
        let runs: Vec<&RunFacts> = self.runs.iter().collect();
        due(&Situation {
            installation: "acme",
            roster: self.plan.roster(),
            revoked: &self.revoked,
            id: "I-1",
            incident: &self.incident,
            earliest_ms: OPENED - MINUTE,
            log: None,
            runs: &runs,
            communication: &self.communication,
            plan: &self.plan,
            reachable: &self.reachable,
            now_ms,
        })
    }

    fn tell(&mut self, command: Command, now_ms: i64) -> Result<Vec<Event>, String> {
        let events = decide(&self.communication, command).map_err(|r| r.reason)?;
        for event in &events {
            self.communication.apply(&at(now_ms), event).unwrap();
        }
        Ok(events)
    }

    /// Records what is due; the notices.
    fn record(&mut self, now_ms: i64) -> Vec<NoticePrepared> {
        let notices = self.due(now_ms).notices;
        for notice in &notices {
            self.tell(Command::Prepare(Box::new(notice.clone())), now_ms)
                .unwrap();
        }
        notices
    }

    fn start(&mut self, sending: &Sending, now_ms: i64) -> Result<Vec<Event>, String> {
        let command = Command::Start {
            sending: sending.clone(),
            key: format!("k/{}", sending.number),
            together: 1,
            now_ms,
        };
        self.tell(command, now_ms)
    }

    fn end(&mut self, sending: &Sending, outcome: DeliveryOutcome, now_ms: i64) -> Vec<Event> {
        let command = Command::End {
            sending: sending.clone(),
            outcome,
            reason: "so it was".to_owned(),
            now_ms,
            retry: RETRY,
            chance: 0,
        };
        self.tell(command, now_ms).unwrap()
    }

    fn acknowledge(&mut self, now_ms: i64) {
        let word = IncidentAcknowledged {
            by: "person ines.duarte".to_owned(),
            note: String::new(),
        };
        self.tell(Command::Acknowledge(word), now_ms).unwrap();
    }
}

fn audiences(notices: &[NoticePrepared]) -> Vec<&str> {
    notices.iter().map(|n| n.audience.as_str()).collect()
}

#[test]
fn a_class_is_told_to_both_audiences_once() {
    let mut world = World::opened("a checkpoint that nobody intended");
    world.classify(OPENED + 10);
    let told = world.record(OPENED + 20);
    assert_eq!(audiences(&told), ["engineers", "executives", "public"]);
    let engineers = &told[0];
    assert_eq!(engineers.page(), PageAction::Trigger);
    assert_eq!(engineers.channels, ["incident-room", "pager"]);
    for part in [
        "a checkpoint that nobody intended (foreign-checkpoint, proven)",
        "seals since 2026-11-23T07:59:00Z may be affected",
        "log main, origin seal.example.com/main/1",
        "Next steps:\n- ",
        "will need",
        "sealwarden incident ack I-1",
    ] {
        assert!(engineers.text.contains(part), "{part}: {}", engineers.text);
    }
    let executives = &told[1].text;
    assert!(
        executives.contains("Somebody else can use, or has used, a sealing key"),
        "{executives}"
    );
    assert!(
        executives.contains("contained by 2026-11-23T08:00:00Z"),
        "{executives}"
    );
    assert!(
        !executives.contains("sealwarden "),
        "no commands: {executives}"
    );
    assert_eq!(world.due(OPENED + 30).notices, []);
    // The same decision on a state that has it already makes nothing.
    let again = Command::Prepare(Box::new(engineers.clone()));
    assert_eq!(world.tell(again, OPENED + 30), Ok(Vec::new()));
}

#[test]
fn what_nobody_classifies_is_told_after_a_moment() {
    let mut world = World::opened("odd");
    let early = world.due(OPENED + 9_999);
    assert_eq!(
        (early.notices.len(), early.next_ms),
        (0, Some(OPENED + 10_000))
    );
    let told = world.record(OPENED + 10_000);
    assert_eq!(audiences(&told), ["engineers"]);
    assert!(told[0].text.contains("a person has to classify it"));
}

#[test]
fn foreign_text_makes_no_lines_of_its_own() {
    let mut world = World::opened("x\r\nBcc: all@example.com\n- approved\u{202e}\u{1b}[2J");
    world.classify(OPENED);
    let told = world.record(OPENED);
    let line = "- x Bcc: all@example.com - approved [2J (foreign-checkpoint, proven)\n";
    assert!(told[0].text.contains(line), "{}", told[0].text);
}

#[test]
fn stages_come_together_where_they_came_at_once_and_the_end_resolves_the_page() {
    let mut world = World::opened("odd");
    world.classify(OPENED);
    world.record(OPENED);
    world.acknowledge(OPENED + 1);
    world.stage(OPENED + 10, IncidentStage::Contained);
    world.stage(OPENED + 11, IncidentStage::Closed);
    let told = world.record(OPENED + 20);
    assert_eq!(audiences(&told), ["engineers", "executives"]);
    assert_eq!(told[0].page(), PageAction::Resolve);
    assert_eq!(told[0].covers.len(), 3, "{:?}", told[0].covers);
    assert_eq!(world.due(OPENED + 30), Due::default());
}

#[test]
fn an_old_log_read_for_the_first_time_calls_nobody() {
    let mut world = World::opened("odd");
    world.classify(OPENED);
    world.stage(OPENED + 10, IncidentStage::Closed);
    assert_eq!(world.due(OPENED + 2 * 3_600_000), Due::default());
}

#[test]
fn people_are_asked_one_after_another_until_somebody_answers() {
    let mut world = World::opened("odd");
    world.classify(OPENED);
    let first = world.due(OPENED);
    assert_eq!(first.next_ms, Some(OPENED + 10 * MINUTE));
    world.record(OPENED);
    let told = world.record(OPENED + 10 * MINUTE);
    assert_eq!(audiences(&told), ["person"]);
    assert_eq!(told[0].addressee, "ines.duarte");
    assert!(
        told[0]
            .text
            .contains("Inês Duarte (pager:sre-primary) is asked")
    );
    let told = world.record(OPENED + 20 * MINUTE);
    assert_eq!(told[0].addressee, "jonas.weber");
    world.acknowledge(OPENED + 21 * MINUTE);
    let told = world.record(OPENED + 29 * MINUTE);
    assert_eq!(audiences(&told), ["engineers"]);
    assert_eq!(told[0].page(), PageAction::Acknowledge);
    assert!(told[0].text.contains("person ines.duarte takes care"));
    // The cadence goes on, and is the only thing that does.
    let told = world.record(OPENED + 30 * MINUTE);
    assert!(
        told[0].covers[0].contains("reminder"),
        "{:?}",
        told[0].covers
    );
    assert_eq!(
        world.due(OPENED + 31 * MINUTE).next_ms,
        Some(OPENED + 60 * MINUTE)
    );
}

#[test]
fn when_everybody_was_asked_it_is_said_and_nothing_repeats() {
    let mut world = World::opened("odd");
    world.classify(OPENED);
    let late = OPENED + 10_000 * MINUTE;
    let told = world.record(late);
    let asked = told.iter().filter(|n| n.audience == "person").count();
    assert_eq!(asked, 4, "each person once, whatever roles they have");
    assert!(
        told.iter()
            .any(|n| n.text.contains("Everybody who could be asked was asked"))
    );
    assert_eq!(world.due(late).notices, []);
}

#[test]
fn an_approval_that_waits_too_long_goes_to_those_who_have_not_decided() {
    let mut world = World::opened("odd");
    world.classify(OPENED);
    world.acknowledge(OPENED);
    let runbook = world.plan.runbook("key-compromise").unwrap();
    let step = runbook
        .steps()
        .iter()
        .find(|s| s.approval.is_some())
        .unwrap()
        .clone();
    let within = i64::try_from(step.approval.as_ref().unwrap().within.as_millis()).unwrap();
    let mut run = RunFacts::default();
    let started = RunStarted {
        run: "R-1".to_owned(),
        incident: "I-1".to_owned(),
        runbook: "key-compromise".to_owned(),
        requesters: vec!["mara.lindqvist".to_owned()],
        ..RunStarted::default()
    };
    run.take_in(&Kind::RunStarted(started), OPENED);
    let ready = InputsResolved {
        step: step.id.clone(),
        ..InputsResolved::default()
    };
    run.take_in(&Kind::InputsResolved(ready), OPENED);
    world.runs.push(run);
    let told = world.record(OPENED + 1);
    let command = format!("sealwarden approve R-1 {}", step.id);
    assert!(told[0].text.contains(&command), "{}", told[0].text);
    let told = world.record(OPENED + within);
    let asked: Vec<_> = told.iter().filter(|n| n.audience == "person").collect();
    assert_eq!(asked.len(), 1);
    assert_ne!(
        asked[0].addressee, "mara.lindqvist",
        "who asked for it cannot approve"
    );
}

#[test]
fn deliveries_are_tried_so_often_and_an_unknown_end_keeps_its_key() {
    let mut world = World::opened("odd");
    world.classify(OPENED);
    world.record(OPENED);
    let (sendings, _) = pending(&world.communication, OPENED);
    assert_eq!(sendings.len(), 3, "{sendings:?}");
    let first = sendings[0].clone();
    world.start(&first, OPENED).unwrap();
    // Two begin: one does.
    assert!(
        world
            .start(&first, OPENED)
            .unwrap_err()
            .contains("another attempt")
    );
    // The process died: it is pending again, as the second attempt.
    let (again, _) = pending(&world.communication, OPENED);
    assert_eq!(again[0].attempt, 2);
    // An end of the first that comes late says nothing any more.
    world.start(&again[0], OPENED).unwrap();
    assert_eq!(world.end(&first, DeliveryOutcome::Delivered, OPENED), []);
    world.end(&again[0], DeliveryOutcome::Unknown, OPENED);
    let (_, next) = pending(&world.communication, OPENED);
    assert_eq!(next, Some(OPENED + 1500), "the second pause is bounded");
    let third = Sending {
        attempt: 3,
        ..first.clone()
    };
    assert!(world.start(&third, OPENED).unwrap_err().contains("pause"));
    world.start(&third, OPENED + 1500).unwrap();
    world.end(&third, DeliveryOutcome::NotSent, OPENED + 1500);
    let delivery = &world.communication.notices[0].deliveries[&first.channel];
    assert_eq!(delivery.phase, DeliveryPhase::GivenUp);
    assert!(
        world
            .start(
                &Sending {
                    attempt: 4,
                    ..first
                },
                OPENED + MINUTE
            )
            .is_err()
    );
}

#[test]
fn refused_is_final_and_delivered_is_never_sent_again() {
    for (outcome, phase) in [
        (DeliveryOutcome::Refused, DeliveryPhase::Refused),
        (DeliveryOutcome::Delivered, DeliveryPhase::Delivered),
    ] {
        let mut world = World::opened("odd");
        world.classify(OPENED);
        world.record(OPENED);
        let sending = pending(&world.communication, OPENED).0.remove(0);
        world.start(&sending, OPENED).unwrap();
        world.end(&sending, outcome, OPENED);
        assert_eq!(
            world.communication.notices[0].deliveries[&sending.channel].phase,
            phase
        );
        let left = pending(&world.communication, OPENED + MINUTE).0;
        assert!(
            left.iter()
                .all(|s| (s.number, &s.channel) != (sending.number, &sending.channel))
        );
    }
}

#[test]
fn pauses_grow_to_a_bound_and_differ() {
    let retry = Retry {
        attempts: 9,
        first_ms: 1000,
        last_ms: 60_000,
    };
    let pauses: Vec<i64> = (1..9).map(|attempt| retry.pause_ms(attempt, 0)).collect();
    assert_eq!(
        pauses,
        [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]
    );
    assert_eq!(retry.pause_ms(2, 1000), 3000);
    assert_eq!(retry.pause_ms(u32::MAX, 9999), 90_000);
}

#[test]
fn a_stream_that_nobody_can_have_written_is_refused() {
    let mut state = Communication::default();
    let second = NoticePrepared {
        number: 2,
        ..NoticePrepared::default()
    };
    assert!(
        state
            .apply(&at(1), &event(Kind::NoticePrepared(second)))
            .is_err()
    );
    let ended = sealwarden_wire::event::v1::DeliveryEnded::default();
    assert!(
        state
            .apply(&at(1), &event(Kind::DeliveryEnded(ended)))
            .is_err()
    );
    let foreign = IncidentOpened::default();
    assert!(
        state
            .apply(&at(1), &event(Kind::IncidentOpened(foreign)))
            .is_err()
    );
    assert_eq!(state.apply(&at(1), &Event { kind: None }), Ok(()));
}
