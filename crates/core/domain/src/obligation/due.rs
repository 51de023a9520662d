//! What is due when, and what has to be said of it now.

use sealwarden_runbook::{Calendar, Clock, Due, Duty, IncidentSeverity, Period, Regime, Regimes};
use sealwarden_wire::event::v1::{DutyMissed, DutyWarned, Event, IncidentStage, event::Kind};

use super::state::{Obligations, RegimeState};
use crate::fold::event;
use crate::incident::Incident;

/// The shares of a duty's time, in percent, after which somebody is warned.
pub const WARN_AT_PERCENT: [u32; 3] = [50, 75, 90];

/// What a warning of a duty says that is due at once.
const AT_ONCE_PERCENT: u32 = 100;

/// What an incident's own events say about the clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// When we became aware, Unix milliseconds.
    pub aware_ms: i64,
    /// When it was first classified.
    pub classified_ms: Option<i64>,
    /// When it was revalidated.
    pub fixed_ms: Option<i64>,
    /// Class and severity, once they are known.
    pub class: Option<(String, IncidentSeverity)>,
}

/// Where a duty stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A person said that the regime does not concern the incident.
    RuledOut,
    /// None of its clocks has started.
    Waiting,
    /// A clock runs. It is over when `due` is in the past.
    Running(Due),
    /// They were told.
    Met {
        /// When, Unix milliseconds.
        at_ms: i64,
        /// Whether that was after it was due.
        late: bool,
    },
    /// The time ran out.
    Missed(Due),
}

/// One duty as people see it.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// Its regime.
    pub regime: &'a Regime,
    /// The duty.
    pub duty: &'a Duty,
    /// Where it stands.
    pub standing: Standing,
    /// When its deciding clock started, Unix milliseconds; and by which limit it is due.
    pub started: Option<(i64, Clock, Period)>,
}

impl Facts {
    /// What an incident says. `None` before it is opened.
    pub fn of(incident: &Incident) -> Option<Self> {
        incident.opened.as_ref()?;
        let class = incident.classified.as_ref().and_then(|c| {
            let severity = IncidentSeverity::ALL
                .into_iter()
                .find(|known| known.as_str() == c.severity)?;
            Some((c.class.clone(), severity))
        });
        Some(Self {
            aware_ms: incident.opened_at_ms,
            classified_ms: incident.reached_at(IncidentStage::Classified),
            fixed_ms: incident
                .reached_at(IncidentStage::Revalidated)
                .or_else(|| incident.reached_at(IncidentStage::Closed)),
            class,
        })
    }

    /// Whether a regime may concern the incident. Before somebody classified it, each may.
    fn may_concern(&self, regime: &Regime) -> bool {
        match &self.class {
            None => true,
            Some((class, severity)) => regime.trigger.concerns(class, *severity),
        }
    }

    fn started_ms(&self, clock: &Clock, state: &RegimeState) -> Option<i64> {
        match clock {
            Clock::Aware => Some(self.aware_ms),
            Clock::Classified => self.classified_ms,
            Clock::Fixed => self.fixed_ms,
            Clock::Material => state.clocks.get("material").copied(),
            Clock::Met(duty) => state.latest_met_ms(duty),
        }
    }
}

/// The duties of an incident: of every regime that may concern it, or of which a person said something.
pub fn views<'a>(
    obligations: &Obligations,
    facts: &Facts,
    regimes: &'a Regimes,
    now_ms: i64,
) -> Vec<View<'a>> {
    let nothing = RegimeState::default();
    let mut views = Vec::new();
    for regime in regimes.regimes().values() {
        let state = obligations.regime(&regime.name);
        if state.is_none() && !facts.may_concern(regime) {
            continue;
        }
        let state = state.unwrap_or(&nothing);
        let Some(calendar) = regimes.calendar_of(regime) else {
            continue; // the reader refuses a regime whose calendar is not there
        };
        views.extend(
            regime
                .duties
                .iter()
                .map(|duty| view(regime, duty, state, facts, calendar, now_ms)),
        );
    }
    views
}

fn view<'a>(
    regime: &'a Regime,
    duty: &'a Duty,
    state: &RegimeState,
    facts: &Facts,
    calendar: &Calendar,
    now_ms: i64,
) -> View<'a> {
    let deciding = deciding_limit(duty, state, facts, calendar);
    let started = deciding
        .as_ref()
        .map(|(started_ms, clock, period, _)| (*started_ms, clock.clone(), *period));
    let standing = if state.is_ruled_out() {
        Standing::RuledOut
    } else if let Some(met) = state.first_met(&duty.name) {
        Standing::Met {
            at_ms: met.at_ms,
            late: met.due_at_ms != 0 && met.at_ms > met.due_at_ms,
        }
    } else {
        match deciding {
            None => Standing::Waiting,
            // "At once" has no instant at which it would be too late; it stays open until somebody says it was done.
            Some((_, _, period, due)) if period != Period::AtOnce && due.at_ms < now_ms => {
                Standing::Missed(due)
            }
            Some((_, _, _, due)) => Standing::Running(due),
        }
    };
    View {
        regime,
        duty,
        standing,
        started,
    }
}

/// The limit that is due first among those whose clocks have started.
fn deciding_limit(
    duty: &Duty,
    state: &RegimeState,
    facts: &Facts,
    calendar: &Calendar,
) -> Option<(i64, Clock, Period, Due)> {
    duty.limits
        .iter()
        .filter_map(|limit| {
            let started_ms = facts.started_ms(&limit.clock, state)?;
            // A time that no calendar has is further away than anybody's duty.
            let due = limit.within.due(started_ms, calendar).ok()?;
            Some((started_ms, limit.clock.clone(), limit.within, due))
        })
        .min_by_key(|(_, _, _, due)| due.at_ms)
}

/// What has to be recorded now: warnings, and deadlines that went by. Nothing is said twice of one deadline.
pub fn pending(
    obligations: &Obligations,
    facts: &Facts,
    regimes: &Regimes,
    now_ms: i64,
) -> Vec<Event> {
    views(obligations, facts, regimes, now_ms)
        .iter()
        .filter_map(|view| to_say(obligations, view, now_ms))
        .collect()
}

fn to_say(obligations: &Obligations, view: &View<'_>, now_ms: i64) -> Option<Event> {
    let state = obligations.regime(&view.regime.name);
    let regime = view.regime.name.clone();
    let duty = view.duty.name.clone();
    match view.standing {
        Standing::RuledOut | Standing::Waiting | Standing::Met { .. } => None,
        Standing::Missed(due) => {
            let said = state.and_then(|s| s.missed.get(&duty)) == Some(&due.at_ms);
            (!said).then(|| {
                event(Kind::DutyMissed(DutyMissed {
                    regime,
                    duty,
                    due_at_ms: due.at_ms,
                }))
            })
        }
        Standing::Running(due) => {
            let (started_ms, _, period) = view.started.as_ref()?;
            let reached = if *period == Period::AtOnce {
                AT_ONCE_PERCENT
            } else {
                WARN_AT_PERCENT
                    .into_iter()
                    .rev()
                    .find(|percent| now_ms >= warn_at_ms(*started_ms, due.at_ms, *percent))?
            };
            let said = state
                .and_then(|s| s.warned.get(&duty))
                .filter(|(due_at_ms, _)| *due_at_ms == due.at_ms)
                .map_or(0, |(_, percent)| *percent);
            (reached > said).then(|| {
                event(Kind::DutyWarned(DutyWarned {
                    regime,
                    duty,
                    due_at_ms: due.at_ms,
                    percent: reached,
                }))
            })
        }
    }
}

/// When a share of the time between a clock's start and the deadline has gone by, Unix milliseconds.
fn warn_at_ms(started_ms: i64, due_ms: i64, percent: u32) -> i64 {
    let whole = i128::from(due_ms) - i128::from(started_ms);
    let part = whole * i128::from(percent) / 100;
    i64::try_from(i128::from(started_ms) + part).unwrap_or(due_ms)
}

/// The next time after `now_ms` at which [`pending`] may have something new to say, Unix milliseconds.
pub fn next_wake_ms(
    obligations: &Obligations,
    facts: &Facts,
    regimes: &Regimes,
    now_ms: i64,
) -> Option<i64> {
    views(obligations, facts, regimes, now_ms)
        .iter()
        .filter_map(|view| match (view.standing, &view.started) {
            (Standing::Running(due), Some((started_ms, ..))) => WARN_AT_PERCENT
                .into_iter()
                .map(|percent| warn_at_ms(*started_ms, due.at_ms, percent))
                .chain([due.at_ms.saturating_add(1)])
                .filter(|at| *at > now_ms)
                .min(),
            _ => None,
        })
        .min()
}
