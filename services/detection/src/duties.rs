//! Duties to notify: when something has to be said of them, and what callers see and record.

use std::collections::{BTreeMap, BTreeSet};

use sealwarden_domain::incident::{Incident, time_text};
use sealwarden_domain::obligation::{self, Command, Facts, Standing, View};
use sealwarden_engine::{ExecuteError, Executed, Meta, Node, Stream};
use sealwarden_runbook::{Duty, Period, Regimes};
use sealwarden_wire::event::v1::{Event, event::Kind};
use sealwarden_wire::incident::v1 as api;

use crate::pending::Effect;
use crate::state::State;

/// Which incidents have to be looked at when. It is only a memory of what the state says, and can be lost.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    /// By incident: when it is looked at next, Unix milliseconds.
    wake_ms: BTreeMap<String, i64>,
}

impl Agenda {
    /// What has to be said now. `touched` are the incidents of which something was folded since the last call.
    pub(crate) fn due(
        &mut self,
        state: &State,
        touched: BTreeSet<String>,
        regimes: Option<&Regimes>,
        now_ms: i64,
    ) -> Vec<Effect> {
        let Some(regimes) = regimes else {
            return Vec::new();
        };
        let mut ids = touched;
        let over = self.wake_ms.iter().filter(|(_, at)| **at <= now_ms);
        ids.extend(over.map(|(id, _)| id.clone()));
        let mut effects = Vec::new();
        for id in ids {
            self.wake_ms.remove(&id);
            let Some((incident, facts)) = state
                .incidents
                .get(&id)
                .and_then(|incident| Some((incident, Facts::of(incident)?)))
            else {
                continue;
            };
            let said = obligation::pending(&incident.obligations, &facts, regimes, now_ms);
            let next = obligation::next_wake_ms(&incident.obligations, &facts, regimes, now_ms);
            if said.is_empty() {
                self.wake_ms.extend(next.map(|at| (id, at)));
                continue;
            }
            // It stays due until what was said is folded.
            self.wake_ms.insert(id.clone(), now_ms);
            let said: Vec<String> = said
                .iter()
                .filter_map(|e| sentence(e.kind.as_ref()?))
                .collect();
            effects.push(Effect::SayOfDuties {
                incident: id,
                said: said.join("; "),
            });
        }
        effects
    }

    /// When it wants to be asked again, Unix milliseconds.
    pub(crate) fn next_ms(&self) -> Option<i64> {
        self.wake_ms.values().min().copied()
    }
}

/// Writes down what has to be said of an incident's duties now.
pub(crate) async fn say(node: &Node, id: &str) -> Result<(), ExecuteError> {
    let Some(regimes) = node.plan.regimes() else {
        return Ok(());
    };
    let mut stream: Stream<Incident> = node.stream("incident", id).await?;
    let now_ms = node.clock.now().wall_ms;
    let executed = stream
        .execute(node.meta().correlated(id.to_owned()), |incident| {
            Ok(Facts::of(incident)
                .map(|facts| obligation::pending(&incident.obligations, &facts, regimes, now_ms))
                .unwrap_or_default())
        })
        .await?;
    for said in spoken(&executed.events) {
        tracing::warn!(incident = id, "{said}");
    }
    Ok(())
}

fn spoken(events: &[Event]) -> impl Iterator<Item = String> {
    events.iter().filter_map(|e| sentence(e.kind.as_ref()?))
}

/// Records a person's word about duties.
pub(crate) async fn record(
    node: &Node,
    regimes: &Regimes,
    meta: Meta,
    id: &str,
    command: Command,
) -> Result<Executed, ExecuteError> {
    let mut stream: Stream<Incident> = node.stream("incident", id).await?;
    let latest_ms = node.clock.now().wall_ms;
    stream
        .execute(meta, |incident| {
            obligation::decide(incident, regimes, command.clone(), latest_ms)
        })
        .await
}

/// The duties of an incident as callers see them; `None` if there is no such incident.
pub(crate) fn duties(
    state: &State,
    regimes: Option<&Regimes>,
    id: &str,
    now_ms: i64,
) -> Option<api::ObligationsResponse> {
    let incident = state.incidents.get(id)?;
    let facts = Facts::of(incident)?;
    let mut duties: Vec<api::Duty> = regimes
        .map(|regimes| {
            obligation::views(&incident.obligations, &facts, regimes, now_ms)
                .iter()
                .map(|view| duty(incident, view))
                .collect()
        })
        .unwrap_or_default();
    duties.sort_by_key(|duty| (rank(&duty.standing), duty.due_at_ms));
    Some(api::ObligationsResponse {
        incident: id.to_owned(),
        regimes_version: regimes.map_or(0, Regimes::version),
        duties,
        now_ms,
    })
}

/// What needs a person first comes first.
fn rank(standing: &str) -> u8 {
    match standing {
        "overdue" => 0,
        "due now" => 1,
        "running" => 2,
        "waiting" => 3,
        "met" | "met late" => 4,
        _ => 5,
    }
}

fn duty(incident: &Incident, view: &View<'_>) -> api::Duty {
    let recorded = incident.obligations.regime(&view.regime.name);
    let ruling = recorded.and_then(|r| r.decided.as_ref());
    let met = recorded.and_then(|r| r.first_met(&view.duty.name));
    let (due_at_ms, beyond_calendar) = match view.standing {
        Standing::Running(due) | Standing::Missed(due) => (due.at_ms, due.beyond_calendar),
        Standing::Met { .. } => (met.map_or(0, |met| met.due_at_ms), false),
        Standing::RuledOut | Standing::Waiting => (0, false),
    };
    let (started_at_ms, clock, within) = view
        .started
        .as_ref()
        .map(|(at, clock, within)| (*at, clock.to_string(), within.to_string()))
        .unwrap_or_default();
    let (by, reason) = match (met, ruling) {
        (Some(met), _) => (met.by.clone(), String::new()),
        (None, Some(ruling)) => (ruling.by.clone(), ruling.reason.clone()),
        (None, None) => (String::new(), String::new()),
    };
    api::Duty {
        regime: view.regime.name.clone(),
        regime_title: view.regime.title.clone(),
        source: view.regime.source.clone(),
        as_of: view.regime.as_of.to_string(),
        checked: view.regime.checked,
        says: view.regime.trigger.says.clone(),
        duty: view.duty.name.clone(),
        title: view.duty.title.clone(),
        told: view.duty.told.clone(),
        standing: word(view).to_owned(),
        clock,
        within,
        started_at_ms,
        due_at_ms,
        beyond_calendar,
        met_at_ms: met.map_or(0, |met| met.at_ms),
        reference: met.map(|met| met.reference.clone()).unwrap_or_default(),
        by,
        reason,
        waits_for: waits_for(view.standing, view.duty),
    }
}

fn waits_for(standing: Standing, duty: &Duty) -> Vec<String> {
    if standing != Standing::Waiting {
        return Vec::new();
    }
    duty.limits.iter().map(|l| l.clock.to_string()).collect()
}

fn word(view: &View<'_>) -> &'static str {
    match view.standing {
        Standing::RuledOut => "ruled out",
        Standing::Waiting => "waiting",
        Standing::Running(_) if at_once(view) => "due now",
        Standing::Running(_) => "running",
        Standing::Met { late: false, .. } => "met",
        Standing::Met { late: true, .. } => "met late",
        Standing::Missed(_) => "overdue",
    }
}

fn at_once(view: &View<'_>) -> bool {
    matches!(view.started, Some((_, _, Period::AtOnce)))
}

/// The sentence for an event about duties; `None` for others.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "`words` names every event and sends only those of duties here"
)]
pub(crate) fn sentence(kind: &Kind) -> Option<String> {
    Some(match kind {
        Kind::RegimeDecided(e) => {
            let word = if e.applies {
                "concerns"
            } else {
                "does not concern"
            };
            format!("{} {word} this incident: {} ({})", e.regime, e.reason, e.by)
        }
        Kind::RegimeClockStarted(e) => format!(
            "the clock `{}` of {} started at {}: {} ({})",
            e.clock,
            e.regime,
            time_text(e.at_ms),
            e.reason,
            e.by
        ),
        Kind::DutyMet(e) => {
            let late = if e.due_at_ms != 0 && e.at_ms > e.due_at_ms {
                format!(", LATE: it was due at {}", time_text(e.due_at_ms))
            } else {
                String::new()
            };
            format!(
                "duty {}/{} was met at {}{late}: {} ({})",
                e.regime,
                e.duty,
                time_text(e.at_ms),
                e.reference,
                e.by
            )
        }
        Kind::DutyWarned(e) if e.percent == 100 => {
            format!("duty {}/{} is due at once", e.regime, e.duty)
        }
        Kind::DutyWarned(e) => format!(
            "duty {}/{} is due at {}: {} % of the time has gone by",
            e.regime,
            e.duty,
            time_text(e.due_at_ms),
            e.percent
        ),
        Kind::DutyMissed(e) => format!(
            "duty {}/{} was due at {} and nobody recorded that it was met",
            e.regime,
            e.duty,
            time_text(e.due_at_ms)
        ),
        _ => return None,
    })
}
