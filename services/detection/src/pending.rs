//! What is left to do, derived from the folded state: nothing is remembered elsewhere, so a crash at any point loses nothing.

use sealwarden_domain::incident::Incident;
use sealwarden_domain::log_control::{DirectiveState, LogControl};
use sealwarden_runbook::{Class, Plan};
use sealwarden_wire::event::v1::{
    DetectorsInstalled, DirectiveKind, HoldPlaced, IncidentClassified, NearMissRecorded,
    SignalReported,
};

use crate::state::{KnownSignal, State};

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    /// Stop signing at once.
    PlaceHold {
        /// The log.
        log: String,
        /// The hold.
        hold: HoldPlaced,
        /// Trace context of the signal's record.
        traceparent: String,
    },
    /// Write a finding down as a signal.
    RecordSignal {
        /// The signal.
        signal: Box<SignalReported>,
        /// Id of the commit that it rests on.
        cause: String,
        /// Trace context of that commit.
        traceparent: String,
    },
    /// Let a signal join its subject's open incident, or open the next one.
    JoinIncident {
        /// The signal.
        signal: Box<SignalReported>,
        /// Trace context of its record.
        traceparent: String,
    },
    /// Classify an incident from the plan, or move its earliest possible compromise to earlier.
    Classify {
        /// The incident.
        incident: String,
        /// The classification.
        classified: Box<IncidentClassified>,
        /// Trace context of the signal that it rests on.
        traceparent: String,
    },
    /// Warn that a duty to notify is due soon, or say that its time ran out.
    SayOfDuties {
        /// The incident.
        incident: String,
        /// What has to be said, one text each.
        said: String,
    },
    /// Let the plan's detectors be in force.
    InstallDetectors(Box<DetectorsInstalled>),
    /// Write a near miss down.
    RecordNearMiss(Box<NearMissRecorded>),
    /// Record that time went by since the event at this position.
    Tick(u64),
}

impl Effect {
    /// Trace context of what led to it; empty where there was none.
    pub(crate) fn traceparent(&self) -> &str {
        match self {
            Self::PlaceHold { traceparent, .. }
            | Self::RecordSignal { traceparent, .. }
            | Self::JoinIncident { traceparent, .. }
            | Self::Classify { traceparent, .. } => traceparent,
            Self::SayOfDuties { .. }
            | Self::InstallDetectors(_)
            | Self::RecordNearMiss(_)
            | Self::Tick(_) => "",
        }
    }

    /// What makes two effects the same.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::PlaceHold { hold, .. } => format!("hold {}", hold.signal),
            Self::RecordSignal { signal, .. } => format!("record {}", signal.signal),
            Self::JoinIncident { signal, .. } => format!("join {}", signal.signal),
            Self::Classify {
                incident,
                classified,
                ..
            } => {
                format!(
                    "classify {incident} {} {}",
                    classified.class, classified.compromised_since_ms
                )
            }
            Self::SayOfDuties { incident, said } => format!("duties of {incident}: {said}"),
            Self::InstallDetectors(installed) => format!("install {}", installed.sha256),
            Self::RecordNearMiss(miss) => format!("near {}", miss.near_miss),
            Self::Tick(position) => format!("tick {position}"),
        }
    }
}

/// All effects, holds first: they bound the damage.
pub(crate) fn pending(state: &State, plan: &Plan, now_ms: i64) -> Vec<Effect> {
    let mut effects = holds(state, plan, now_ms);
    // In the order of the log, so that the first thing seen opens the incident.
    let mut findings: Vec<_> = state.findings.values().collect();
    findings.sort_by_key(|finding| finding.signal.events.first().copied());
    effects.extend(findings.into_iter().map(|finding| Effect::RecordSignal {
        signal: Box::new(finding.signal.clone()),
        cause: finding.cause.clone(),
        traceparent: finding.traceparent.clone(),
    }));
    let mut joining: Vec<_> = unjoined(state).collect();
    joining.sort_by_key(|signal| signal.position);
    effects.extend(joining.into_iter().map(|signal| Effect::JoinIncident {
        signal: Box::new(signal.reported.clone()),
        traceparent: signal.traceparent.clone(),
    }));
    let open = state.open_incidents();
    effects.extend(open.filter_map(|(id, incident)| classification(state, plan, id, incident)));
    effects
}

fn unjoined(state: &State) -> impl Iterator<Item = &KnownSignal> {
    state.unjoined.iter().filter_map(|id| state.signals.get(id))
}

fn holds(state: &State, plan: &Plan, now_ms: i64) -> Vec<Effect> {
    let joined = state
        .open_incidents()
        .flat_map(|(_, incident)| state.signals_of(incident));
    let hold_ms = millis(plan.hold());
    let mut effects: Vec<Effect> = Vec::new();
    for signal in unjoined(state)
        .chain(joined)
        .filter(|signal| signal.reported.proven)
    {
        let reported = &signal.reported;
        let already = |effect: &Effect| matches!(effect, Effect::PlaceHold { hold, .. } if hold.origin == reported.origin);
        let Some(log) = state.logs.get(&reported.log) else {
            continue;
        };
        if !needs_hold(log, signal, hold_ms, now_ms) || effects.iter().any(already) {
            continue;
        }
        let incident = signal
            .incident
            .clone()
            .unwrap_or_else(|| state.incident_for(&reported.subject));
        let hold = HoldPlaced {
            incident,
            signal: reported.signal.clone(),
            origin: reported.origin.clone(),
            reason: format!("{}: {}", reported.detector, reported.seen),
            placed_at_ms: now_ms,
            expires_at_ms: now_ms.saturating_add(hold_ms),
        };
        effects.push(Effect::PlaceHold {
            log: reported.log.clone(),
            hold,
            traceparent: signal.traceparent.clone(),
        });
    }
    effects
}

/// A signal starts one hold, unless something else stops or stopped the origin at its time. A hold that would have run out by now is not made up for: a restart must
/// not prolong what the plan bounds.
fn needs_hold(log: &LogControl, signal: &KnownSignal, hold_ms: i64, now_ms: i64) -> bool {
    let reported = &signal.reported;
    let signs = log
        .current()
        .is_some_and(|o| o.origin == reported.origin && o.isolation.is_none());
    let held = log.holds.iter().any(|hold| {
        hold.origin == reported.origin
            && (hold.signal == reported.signal
                || hold.expires_at_ms > signal.at_ms
                    && !lifted_between(log, hold.position, signal.position))
    });
    let lifted_since = lifted_after(log, signal.position);
    signs && !held && !lifted_since && signal.at_ms.saturating_add(hold_ms) > now_ms
}

fn lifts(log: &LogControl) -> impl Iterator<Item = u64> {
    let open = log
        .directives
        .values()
        .filter(|d| d.kind() == DirectiveKind::Open && obeyed_by_a_writer(log, d));
    open.map(|directive| directive.position)
}

/// Only the word of a node that writes the log counts: it judged the approvals.
fn obeyed_by_a_writer(log: &LogControl, directive: &DirectiveState) -> bool {
    log.origins
        .iter()
        .any(|origin| directive.acks.contains_key(&origin.node))
}

fn lifted_after(log: &LogControl, position: u64) -> bool {
    lifts(log).any(|lifted| lifted > position)
}

/// Whether the hold had been lifted when the signal came.
fn lifted_between(log: &LogControl, hold: u64, signal: u64) -> bool {
    lifts(log).any(|lifted| lifted > hold && lifted < signal)
}

fn classification(state: &State, plan: &Plan, id: &str, incident: &Incident) -> Option<Effect> {
    let proven: Vec<&KnownSignal> = state
        .signals_of(incident)
        .filter(|signal| signal.reported.proven)
        .collect();
    // Only proof moves the time: a mistaken report must not make everything sealed look forged.
    let first = proven
        .iter()
        .min_by_key(|signal| signal.reported.earliest_at_ms)?;
    let reported = &first.reported;
    let since_ms = reported.earliest_at_ms;
    let reason = match &incident.classified {
        None => format!("proven: {}", reported.seen),
        Some(known) => {
            let earlier = known.compromised_since_ms == 0 || since_ms < known.compromised_since_ms;
            if known.class != reported.class || since_ms <= 0 || !earlier {
                return None;
            }
            format!("something earlier was seen: {}", reported.seen)
        }
    };
    let class = plan.class(&reported.class)?;
    let by = format!("detector {}", reported.detector);
    let classified = Box::new(classify(class, since_ms, by, reason));
    Some(Effect::Classify {
        incident: id.to_owned(),
        classified,
        traceparent: first.traceparent.clone(),
    })
}

/// A classification with what the plan says of the class.
pub(crate) fn classify(
    class: &Class,
    since_ms: i64,
    by: String,
    reason: String,
) -> IncidentClassified {
    IncidentClassified {
        class: class.name.clone(),
        severity: class.severity.as_str().to_owned(),
        compromised_since_ms: since_ms,
        by,
        reason,
        runbook: class.runbook.clone(),
        target_detect_ms: millis(class.targets.detect),
        target_contain_ms: millis(class.targets.contain),
        target_recover_ms: millis(class.targets.recover),
    }
}

fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
