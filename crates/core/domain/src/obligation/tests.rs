use sealwarden_runbook::Regimes;
use sealwarden_wire::event::v1::{
    DutyMet, Envelope, Event, IncidentClassified, IncidentOpened, IncidentStage,
    IncidentStageReached, RegimeClockStarted, RegimeDecided, event::Kind,
};

use super::*;
use crate::fold::{Fold as _, RejectionCode, event};
use crate::incident::Incident;

const HOUR: i64 = 3_600_000;
/// Monday 2026-11-23, 08:00 UTC.
const OPENED: i64 = 1_795_420_800_000;
const NOW: i64 = OPENED + HOUR;

fn regimes() -> Regimes {
    Regimes::parse(
        "regimes.yaml",
        include_str!("../../../../../runbooks/regimes.yaml"),
    )
    .unwrap()
}

fn at(ms: i64) -> Envelope {
    Envelope {
        stream: "incident/I-1".to_owned(),
        recorded_at_ms: ms,
        ..Envelope::default()
    }
}

fn opened() -> Incident {
    let mut incident = Incident::default();
    let opened = IncidentOpened {
        incident: "I-1".to_owned(),
        ..IncidentOpened::default()
    };
    incident
        .apply(&at(OPENED), &event(Kind::IncidentOpened(opened)))
        .unwrap();
    incident
}

fn classified(class: &str, severity: &str) -> Incident {
    let mut incident = opened();
    let classified = IncidentClassified {
        class: class.to_owned(),
        severity: severity.to_owned(),
        ..IncidentClassified::default()
    };
    let stage = IncidentStageReached {
        stage: IncidentStage::Classified.into(),
        reason: String::new(),
    };
    for kind in [
        Kind::IncidentClassified(classified),
        Kind::IncidentStageReached(stage),
    ] {
        incident.apply(&at(OPENED + 60_000), &event(kind)).unwrap();
    }
    incident
}

fn tell(incident: &mut Incident, command: Command, now_ms: i64) -> Result<usize, RejectionCode> {
    let events = decide(incident, &regimes(), command, now_ms).map_err(|r| r.code)?;
    for event in &events {
        incident.apply(&at(now_ms), event).unwrap();
    }
    Ok(events.len())
}

fn met(regime: &str, duty: &str, at_ms: i64) -> Command {
    Command::Meet(DutyMet {
        regime: regime.to_owned(),
        duty: duty.to_owned(),
        at_ms,
        reference: format!("{regime} {duty} {at_ms}"),
        due_at_ms: 0,
        by: "person leila.haddad".to_owned(),
    })
}

fn decided(regime: &str, applies: bool) -> Command {
    Command::Decide(RegimeDecided {
        regime: regime.to_owned(),
        applies,
        reason: "counsel looked at it".to_owned(),
        by: "person leila.haddad".to_owned(),
    })
}

fn material(at_ms: i64) -> Command {
    Command::StartClock(RegimeClockStarted {
        regime: "sec-8k".to_owned(),
        clock: "material".to_owned(),
        at_ms,
        reason: "the board decided".to_owned(),
        by: "person leila.haddad".to_owned(),
    })
}

fn standing(incident: &Incident, regime: &str, duty: &str, now_ms: i64) -> Standing {
    let regimes = regimes();
    let facts = Facts::of(incident).unwrap();
    views(&incident.obligations, &facts, &regimes, now_ms)
        .iter()
        .find(|view| view.regime.name == regime && view.duty.name == duty)
        .unwrap_or_else(|| panic!("{regime}/{duty} is not shown"))
        .standing
}

fn due_ms(standing: Standing) -> i64 {
    match standing {
        Standing::Running(due) | Standing::Missed(due) => due.at_ms,
        other @ (Standing::RuledOut | Standing::Waiting | Standing::Met { .. }) => {
            panic!("{other:?} has no deadline")
        }
    }
}

/// Lets the machine say what it has to say at a time, and folds it.
fn speak(incident: &mut Incident, now_ms: i64) -> Vec<Event> {
    let facts = Facts::of(incident).unwrap();
    let said = pending(&incident.obligations, &facts, &regimes(), now_ms);
    for event in &said {
        incident.apply(&at(now_ms), event).unwrap();
    }
    said
}

fn duties_of(said: &[Event], regime: &str) -> Vec<String> {
    said.iter()
        .filter_map(|event| match &event.kind {
            Some(Kind::DutyWarned(e)) if e.regime == regime => {
                Some(format!("{} {}", e.duty, e.percent))
            }
            Some(Kind::DutyMissed(e)) if e.regime == regime => Some(format!("{} missed", e.duty)),
            _ => None,
        })
        .collect()
}

#[test]
fn the_earliest_of_several_limits_counts() {
    // DORA: four hours after classification, and 24 hours after awareness at most.
    let early = classified("key-compromise", "critical");
    let due = due_ms(standing(&early, "dora", "initial", NOW));
    assert_eq!(due, OPENED + 60_000 + 4 * HOUR);
    let never = opened();
    assert_eq!(
        due_ms(standing(&never, "dora", "initial", NOW)),
        OPENED + 24 * HOUR
    );
}

#[test]
fn an_incident_that_nobody_classified_runs_every_clock() {
    let incident = opened();
    assert!(matches!(
        standing(&incident, "gdpr", "authority", NOW),
        Standing::Running(_)
    ));
    // Low severity concerns only regimes that say so.
    let small = classified("key-compromise", "low");
    let facts = Facts::of(&small).unwrap();
    let regimes = regimes();
    let names: Vec<&str> = views(&small.obligations, &facts, &regimes, NOW)
        .iter()
        .map(|view| view.regime.name.as_str())
        .collect();
    assert!(names.contains(&"gdpr") && !names.contains(&"nis2"));
}

#[test]
fn warnings_come_once_each_and_then_the_miss() {
    let mut incident = classified("key-compromise", "critical");
    let mut said = Vec::new();
    for hours in [1, 11, 12, 13, 18, 19, 22, 23, 24, 25, 40] {
        said.extend(speak(&mut incident, OPENED + hours * HOUR + 1));
        // Saying it again says nothing.
        assert!(speak(&mut incident, OPENED + hours * HOUR + 1).is_empty());
    }
    assert_eq!(
        duties_of(&said, "eidas-19a"),
        [
            "notification 50",
            "notification 75",
            "notification 90",
            "notification missed"
        ]
    );
    // Whoever was away for a day hears of the miss only.
    let mut late = classified("key-compromise", "critical");
    let said = speak(&mut late, OPENED + 30 * HOUR);
    assert_eq!(duties_of(&said, "eidas-19a"), ["notification missed"]);
}

#[test]
fn the_next_time_to_look_is_the_next_thing_to_say() {
    let mut incident = classified("key-compromise", "critical");
    let regimes = regimes();
    let mut now = NOW;
    for _ in 0..200 {
        speak(&mut incident, now);
        let facts = Facts::of(&incident).unwrap();
        let Some(next) = next_wake_ms(&incident.obligations, &facts, &regimes, now) else {
            return;
        };
        assert!(next > now);
        assert!(pending(&incident.obligations, &facts, &regimes, next - 1).is_empty());
        assert!(!pending(&incident.obligations, &facts, &regimes, next).is_empty());
        now = next;
    }
    panic!("it never ends");
}

#[test]
fn what_was_told_starts_the_clocks_that_follow() {
    let mut incident = classified("key-compromise", "critical");
    assert_eq!(
        standing(&incident, "dora", "intermediate", NOW),
        Standing::Waiting
    );
    let told = OPENED + 2 * HOUR;
    assert_eq!(
        tell(&mut incident, met("dora", "initial", told), told),
        Ok(1)
    );
    assert_eq!(
        standing(&incident, "dora", "initial", told),
        Standing::Met {
            at_ms: told,
            late: false
        }
    );
    assert_eq!(
        due_ms(standing(&incident, "dora", "intermediate", told)),
        told + 72 * HOUR
    );
    // A second intermediate report moves the final one, not whether the first was in time.
    let (first, second) = (told + HOUR, told + 100 * HOUR);
    tell(&mut incident, met("dora", "intermediate", first), second).unwrap();
    let before = due_ms(standing(&incident, "dora", "final", second));
    tell(&mut incident, met("dora", "intermediate", second), second).unwrap();
    assert!(due_ms(standing(&incident, "dora", "final", second)) > before);
    assert_eq!(
        standing(&incident, "dora", "intermediate", second),
        Standing::Met {
            at_ms: first,
            late: false
        }
    );
}

#[test]
fn being_told_late_is_said() {
    let mut incident = classified("key-compromise", "critical");
    let told = OPENED + 30 * HOUR;
    speak(&mut incident, told);
    assert_eq!(
        tell(&mut incident, met("nis2", "early-warning", told), told),
        Ok(1)
    );
    assert_eq!(
        standing(&incident, "nis2", "early-warning", told),
        Standing::Met {
            at_ms: told,
            late: true
        }
    );
    // Twice is once.
    assert_eq!(
        tell(&mut incident, met("nis2", "early-warning", told), told),
        Ok(0)
    );
}

#[test]
fn a_regime_that_is_ruled_out_is_silent_until_it_applies_again() {
    let mut incident = classified("key-compromise", "critical");
    assert_eq!(tell(&mut incident, decided("nis2", false), NOW), Ok(1));
    assert_eq!(tell(&mut incident, decided("nis2", false), NOW), Ok(0));
    assert_eq!(
        standing(&incident, "nis2", "early-warning", NOW),
        Standing::RuledOut
    );
    let later = OPENED + 30 * HOUR;
    assert!(duties_of(&speak(&mut incident, later), "nis2").is_empty());
    assert_eq!(
        tell(&mut incident, met("nis2", "early-warning", later), later),
        Err(RejectionCode::NotNow)
    );
    assert_eq!(tell(&mut incident, decided("nis2", true), later), Ok(1));
    // The clocks never stopped.
    assert_eq!(
        duties_of(&speak(&mut incident, later), "nis2"),
        ["early-warning missed", "notification missed"]
    );
    tell(&mut incident, met("nis2", "early-warning", later), later).unwrap();
    assert_eq!(
        tell(&mut incident, decided("nis2", false), later),
        Err(RejectionCode::Refused)
    );
}

#[test]
fn materiality_is_a_persons_word_and_only_moves_to_earlier() {
    let mut incident = classified("key-compromise", "critical");
    assert_eq!(
        standing(&incident, "sec-8k", "filing", NOW),
        Standing::Waiting
    );
    assert_eq!(tell(&mut incident, material(NOW), NOW), Ok(1));
    // Monday, and Thursday is a holiday: the fourth working day is the next Monday.
    let due = due_ms(standing(&incident, "sec-8k", "filing", NOW));
    assert_eq!(crate::incident::time_text(due), "2026-11-30T22:29:59.999Z");
    assert_eq!(
        tell(&mut incident, material(NOW + 1), NOW + 1),
        Err(RejectionCode::Refused)
    );
    assert_eq!(tell(&mut incident, material(NOW - 1), NOW), Ok(1));
}

#[test]
fn bad_commands_are_refused_with_their_reason() {
    let mut incident = classified("key-compromise", "critical");
    for (command, code) in [
        (met("nis3", "early-warning", NOW), RejectionCode::NotFound),
        (met("nis2", "late-warning", NOW), RejectionCode::NotFound),
        (
            met("nis2", "early-warning", NOW + 1),
            RejectionCode::Invalid,
        ),
        (
            met("nis2", "early-warning", OPENED - 1),
            RejectionCode::Invalid,
        ),
        (
            met("nis2", "early-warning", i64::MIN),
            RejectionCode::Invalid,
        ),
        (decided("nis3", true), RejectionCode::NotFound),
    ] {
        assert_eq!(
            tell(&mut incident, command.clone(), NOW),
            Err(code),
            "{command:?}"
        );
    }
    let Command::Decide(mut silent) = decided("nis2", false) else {
        unreachable!()
    };
    silent.reason = "  ".to_owned();
    assert_eq!(
        tell(&mut incident, Command::Decide(silent), NOW),
        Err(RejectionCode::Invalid)
    );
    let Command::StartClock(mut wrong) = material(NOW) else {
        unreachable!()
    };
    wrong.regime = "nis2".to_owned();
    assert_eq!(
        tell(&mut incident, Command::StartClock(wrong), NOW),
        Err(RejectionCode::Invalid)
    );
    let nothing = Incident::default();
    assert_eq!(
        decide(&nothing, &regimes(), decided("nis2", true), NOW)
            .unwrap_err()
            .code,
        RejectionCode::NotFound
    );
}
