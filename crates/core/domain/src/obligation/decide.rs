//! Commands about duties to notify.

use sealwarden_runbook::{Regime, Regimes};
use sealwarden_wire::event::v1::{DutyMet, Event, RegimeClockStarted, RegimeDecided, event::Kind};

use super::due::{Facts, Standing, views};
use super::state::RegimeState;
use crate::fold::{Rejection, RejectionCode, event};
use crate::incident::{Incident, time_text};

/// A command about duties.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// A person says whether a regime concerns the incident.
    Decide(RegimeDecided),
    /// A person says when a regime's own clock started.
    StartClock(RegimeClockStarted),
    /// A person says that somebody was told. `due_at_ms` is filled in here. The same reference twice is one.
    Meet(DutyMet),
}

/// Decides a command. No events means that it is already so. `latest_ms` is the latest time that is not in the future, Unix milliseconds.
pub fn decide(
    incident: &Incident,
    regimes: &Regimes,
    command: Command,
    latest_ms: i64,
) -> Result<Vec<Event>, Rejection> {
    let Some(facts) = Facts::of(incident) else {
        return Err(Rejection::new(
            RejectionCode::NotFound,
            "there is no such incident",
        ));
    };
    match command {
        Command::Decide(e) => decide_regime(incident, regimes, e),
        Command::StartClock(e) => start_clock(incident, regimes, e, latest_ms),
        Command::Meet(e) => meet(incident, regimes, &facts, e, latest_ms),
    }
}

fn known<'r>(regimes: &'r Regimes, name: &str) -> Result<&'r Regime, Rejection> {
    regimes.regime(name).ok_or_else(|| {
        let names: Vec<&str> = regimes.regimes().keys().map(String::as_str).collect();
        Rejection::new(
            RejectionCode::NotFound,
            format!(
                "the plan has no regime {name:?}; it has {}",
                names.join(", ")
            ),
        )
    })
}

fn reasoned(reason: &str) -> Result<(), Rejection> {
    if reason.trim().is_empty() {
        return Err(Rejection::new(
            RejectionCode::Invalid,
            "say why: an auditor will ask",
        ));
    }
    Ok(())
}

fn state_of<'i>(incident: &'i Incident, regime: &str) -> Option<&'i RegimeState> {
    incident.obligations.regime(regime)
}

fn decide_regime(
    incident: &Incident,
    regimes: &Regimes,
    e: RegimeDecided,
) -> Result<Vec<Event>, Rejection> {
    known(regimes, &e.regime)?;
    reasoned(&e.reason)?;
    let state = state_of(incident, &e.regime);
    let same = state
        .and_then(|s| s.decided.as_ref())
        .is_some_and(|d| d.applies == e.applies);
    if same {
        return Ok(Vec::new());
    }
    let told = state.is_some_and(|s| !s.met.is_empty());
    if told && !e.applies {
        let reason = format!(
            "duties of {} were met in this incident, so it concerned it",
            e.regime
        );
        return Err(Rejection::new(RejectionCode::Refused, reason));
    }
    Ok(vec![event(Kind::RegimeDecided(e))])
}

fn start_clock(
    incident: &Incident,
    regimes: &Regimes,
    e: RegimeClockStarted,
    latest_ms: i64,
) -> Result<Vec<Event>, Rejection> {
    let regime = known(regimes, &e.regime)?;
    reasoned(&e.reason)?;
    let uses = regime
        .duties
        .iter()
        .flat_map(|duty| &duty.limits)
        .any(|limit| limit.clock.to_string() == e.clock);
    if e.clock != "material" || !uses {
        let reason = format!(
            "no duty of {} waits for the clock {:?}; people start the clock `material` only, the others start by events",
            e.regime, e.clock
        );
        return Err(Rejection::new(RejectionCode::Invalid, reason));
    }
    past("the determination", e.at_ms, latest_ms)?;
    let known_ms = state_of(incident, &e.regime).and_then(|s| s.clocks.get(&e.clock).copied());
    match known_ms {
        Some(known_ms) if known_ms == e.at_ms => Ok(Vec::new()),
        Some(known_ms) if e.at_ms > known_ms => Err(Rejection::new(
            RejectionCode::Refused,
            format!(
                "the clock `{}` of {} started at {}; it can only be moved to an earlier time",
                e.clock,
                e.regime,
                time_text(known_ms)
            ),
        )),
        _ => Ok(vec![event(Kind::RegimeClockStarted(e))]),
    }
}

fn meet(
    incident: &Incident,
    regimes: &Regimes,
    facts: &Facts,
    mut e: DutyMet,
    latest_ms: i64,
) -> Result<Vec<Event>, Rejection> {
    let regime = known(regimes, &e.regime)?;
    if !regime.duties.iter().any(|duty| duty.name == e.duty) {
        let names: Vec<&str> = regime.duties.iter().map(|d| d.name.as_str()).collect();
        let reason = format!(
            "{} has no duty {:?}; it has {}",
            e.regime,
            e.duty,
            names.join(", ")
        );
        return Err(Rejection::new(RejectionCode::NotFound, reason));
    }
    if e.reference.trim().is_empty() {
        return Err(Rejection::new(
            RejectionCode::Invalid,
            "say where it can be found again: the authority's number, a letter, a mail",
        ));
    }
    past("the notification", e.at_ms, latest_ms)?;
    if e.at_ms < facts.aware_ms {
        let reason = format!(
            "somebody was told at {}, before the incident was opened at {}",
            time_text(e.at_ms),
            time_text(facts.aware_ms)
        );
        return Err(Rejection::new(RejectionCode::Invalid, reason));
    }
    let state = state_of(incident, &e.regime);
    if state.is_some_and(RegimeState::is_ruled_out) {
        let reason = format!(
            "{} was ruled out for this incident; say that it applies first",
            e.regime
        );
        return Err(Rejection::new(RejectionCode::NotNow, reason));
    }
    let known = state
        .and_then(|s| s.met.get(&e.duty))
        .is_some_and(|met| met.iter().any(|m| m.reference == e.reference));
    if known {
        return Ok(Vec::new());
    }
    e.due_at_ms = due_ms(incident, regimes, facts, &e);
    Ok(vec![event(Kind::DutyMet(e))])
}

/// When the duty was due, as its first meeting or its clocks say; 0 if none of them runs.
fn due_ms(incident: &Incident, regimes: &Regimes, facts: &Facts, e: &DutyMet) -> i64 {
    let first = state_of(incident, &e.regime).and_then(|s| s.first_met(&e.duty));
    if let Some(met) = first {
        return met.due_at_ms;
    }
    views(&incident.obligations, facts, regimes, e.at_ms)
        .iter()
        .find(|view| view.regime.name == e.regime && view.duty.name == e.duty)
        .map_or(0, |view| match view.standing {
            Standing::Running(due) | Standing::Missed(due) => due.at_ms,
            Standing::RuledOut | Standing::Waiting | Standing::Met { .. } => 0,
        })
}

fn past(what: &str, at_ms: i64, latest_ms: i64) -> Result<(), Rejection> {
    if at_ms <= 0 || at_ms > latest_ms {
        let reason = format!(
            "{what} is at {} ({at_ms} ms of Unix time), which is not in the past",
            time_text(at_ms)
        );
        return Err(Rejection::new(RejectionCode::Invalid, reason));
    }
    Ok(())
}
