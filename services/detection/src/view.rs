//! Incidents as callers see them.

use sealwarden_domain::incident::{Incident, stage_name};
use sealwarden_wire::event::v1::IncidentStage;
use sealwarden_wire::incident::v1::{self as api, TimelineEntry};

use crate::state::State;

/// An incident without its timeline, for lists.
pub(crate) fn summary(state: &State, id: &str, incident: &Incident) -> api::Incident {
    let opened = incident.opened.clone().unwrap_or_default();
    let classified = incident.classified.clone().unwrap_or_default();
    let earliest_at_ms = earliest(state, incident);
    let owner = incident.owner.as_ref();
    api::Incident {
        incident: id.to_owned(),
        title: opened.title,
        subject: opened.subject,
        log: opened.log,
        origin: opened.origin,
        class: classified.class.clone(),
        severity: classified.severity.clone(),
        stage: incident.stage().map_or("", stage_name).to_owned(),
        opened_at_ms: incident.opened_at_ms,
        earliest_at_ms,
        compromised_since_ms: classified.compromised_since_ms,
        runs: incident.runs.iter().map(|run| run.run.clone()).collect(),
        signals: signals(state, incident),
        timeline: Vec::new(),
        targets: targets(state, id, incident, earliest_at_ms),
        evidence: incident.evidence.iter().map(|e| e.bundle.clone()).collect(),
        owner: owner.map(|it| it.person.clone()).unwrap_or_default(),
        owner_since_ms: owner.map_or(0, |it| it.since_ms),
    }
}

/// An incident with its timeline.
pub(crate) fn details(state: &State, id: &str) -> Option<api::Incident> {
    let incident = state
        .incidents
        .get(id)
        .filter(|incident| incident.opened.is_some())?;
    let mut view = summary(state, id, incident);
    let timeline = state.timelines.of(id);
    let last = timeline.entries.last().map_or(0, |entry| entry.position);
    view.timeline = timeline.entries;
    let mut remark = |text: String| {
        let actor = "detection".to_owned();
        view.timeline.push(TimelineEntry {
            at_ms: 0,
            actor,
            text,
            stream: String::new(),
            position: last,
        });
    };
    if timeline.left_out > 0 {
        remark(format!(
            "{} further events are not shown here; they are in the event log",
            timeline.left_out
        ));
    }
    let counted = state
        .tallies
        .get(&view.subject)
        .map_or(0, |tally| tally.counted_only);
    if counted > 0 && incident.is_open() {
        remark(format!(
            "{counted} further findings on this subject were counted and not recorded one by one"
        ));
    }
    Some(view)
}

fn signals(state: &State, incident: &Incident) -> Vec<api::Signal> {
    let mut joined: Vec<_> = incident.signals.values().collect();
    joined.sort_by_key(|signal| {
        state
            .signals
            .get(&signal.joined.signal)
            .map_or(u64::MAX, |known| known.position)
    });
    let view = |signal: &sealwarden_domain::incident::JoinedSignal| {
        let joined = &signal.joined;
        api::Signal {
            signal: joined.signal.clone(),
            detector: joined.detector.clone(),
            proven: joined.proven,
            seen: joined.seen.clone(),
            expected: joined.expected.clone(),
            reporter: joined.reporter.clone(),
        }
    };
    joined.into_iter().map(view).collect()
}

/// The earliest thing that any of its signals saw, Unix milliseconds.
pub(crate) fn earliest(state: &State, incident: &Incident) -> i64 {
    let opened = incident
        .opened
        .as_ref()
        .map_or(0, |opened| opened.earliest_at_ms);
    let seen = state
        .signals_of(incident)
        .map(|signal| signal.reported.earliest_at_ms);
    seen.chain([opened])
        .filter(|at| *at > 0)
        .min()
        .unwrap_or(incident.opened_at_ms)
}

/// Times from the first bad event, against the plan's.
fn targets(state: &State, id: &str, incident: &Incident, earliest_at_ms: i64) -> Vec<api::Target> {
    let Some(classified) = incident.classified.clone() else {
        return Vec::new(); // targets come with the class
    };
    let held = state
        .logs
        .values()
        .flat_map(|log| &log.holds)
        .filter(|hold| hold.incident == id)
        .filter_map(|hold| state.signals.get(&hold.signal))
        .map(|signal| signal.at_ms)
        .min();
    let detected = held.map_or(incident.opened_at_ms, |at| at.min(incident.opened_at_ms));
    let after = |at: Option<i64>| at.map_or(-1, |at| at.saturating_sub(earliest_at_ms).max(0));
    let target = |name: &str, target_ms: i64, at: Option<i64>| api::Target {
        name: name.to_owned(),
        target_ms,
        actual_ms: after(at),
    };
    vec![
        target("detect", classified.target_detect_ms, Some(detected)),
        target(
            "contain",
            classified.target_contain_ms,
            contained(state, id, incident),
        ),
        target(
            "recover",
            classified.target_recover_ms,
            incident.reached_at(IncidentStage::Closed),
        ),
    ]
}

/// When containment was proven: the stage, or the isolation that it rests on if that is known earlier.
fn contained(state: &State, id: &str, incident: &Incident) -> Option<i64> {
    let isolated = state
        .logs
        .values()
        .flat_map(|log| log.directives.values())
        .filter(|directive| directive.directive.incident == id)
        .filter_map(|directive| directive.isolated_at_ms);
    isolated
        .chain(incident.reached_at(IncidentStage::Contained))
        .min()
}
