//! `Explain` and `Detectors`: why there is a signal, and what the plan's detectors see.

use std::collections::BTreeMap;

use sealwarden_engine::{Node, decode};
use sealwarden_eventlog::{Delivery, Filter};
use sealwarden_runbook::BUILT_IN;
use sealwarden_wire::event::v1::Commit;
use sealwarden_wire::incident::v1 as api;
use tonic::Status;

use crate::state::State;
use crate::watching::KnownMiss;
use crate::words::words;

/// How many near misses are shown, the newest.
const MAX_MISSES: usize = 50;
/// How many events are read for one explanation.
const MAX_EVENTS: usize = 16;

/// Why there is a signal, or a near miss; `None` for an id that nobody knows.
pub(crate) fn explanation(state: &State, id: &str) -> Option<api::Explanation> {
    if let Some(known) = state.signals.get(id) {
        let it = &known.reported;
        let (title, owner) = title_and_owner(state, &it.detector);
        return Some(api::Explanation {
            id: id.to_owned(),
            concluded: true,
            detector: it.detector.clone(),
            title,
            owner,
            class: it.class.clone(),
            subject: it.subject.clone(),
            seen: it.seen.clone(),
            expected: it.expected.clone(),
            proven: it.proven,
            reading: it.reading.clone(),
            events: positions(&it.events),
            incident: known.incident.clone().unwrap_or_default(),
            recorded_at_ms: known.at_ms,
            position: known.position,
            near_misses: newest(state.watching.misses(&it.detector, &it.subject)),
            reporter: it.reporter.clone(),
        });
    }
    let known = state
        .watching
        .all_misses()
        .find(|it| it.miss.near_miss == id)?;
    let it = &known.miss;
    let (title, owner) = title_and_owner(state, &it.detector);
    Some(api::Explanation {
        id: id.to_owned(),
        concluded: false,
        detector: it.detector.clone(),
        title,
        owner,
        class: String::new(),
        subject: it.subject.clone(),
        seen: it.seen.clone(),
        expected: it.expected.clone(),
        proven: false,
        reading: it.reading.clone(),
        events: positions(&it.events),
        incident: String::new(),
        recorded_at_ms: known.at_ms,
        position: known.position,
        near_misses: newest(state.watching.misses(&it.detector, &it.subject)),
        reporter: None,
    })
}

fn title_and_owner(state: &State, name: &str) -> (String, String) {
    let found = state.watching.in_force().find(|(it, _)| it.name == name);
    found.map_or_else(Default::default, |(it, _)| {
        (it.title.clone(), it.owner.as_str().to_owned())
    })
}

fn positions(events: &[u64]) -> Vec<api::ExplainedEvent> {
    let at = |position: &u64| api::ExplainedEvent {
        position: *position,
        ..api::ExplainedEvent::default()
    };
    events.iter().take(MAX_EVENTS).map(at).collect()
}

fn newest<'a>(misses: impl Iterator<Item = &'a KnownMiss>) -> Vec<api::NearMiss> {
    let mut all: Vec<api::NearMiss> = misses.map(near_miss).collect();
    let first = all.len().saturating_sub(MAX_MISSES);
    all.split_off(first)
}

fn near_miss(known: &KnownMiss) -> api::NearMiss {
    let it = &known.miss;
    api::NearMiss {
        near_miss: it.near_miss.clone(),
        detector: it.detector.clone(),
        subject: it.subject.clone(),
        seen: it.seen.clone(),
        expected: it.expected.clone(),
        percent: it.reading.as_ref().map_or(0, |it| it.percent),
        further: it.further,
        at_ms: known.at_ms,
    }
}

/// Fills in what stands at the positions of an explanation's events. What cannot be read any more stays a position.
pub(crate) async fn fill_in(node: &Node, explanation: &mut api::Explanation) -> Result<(), Status> {
    for event in &mut explanation.events {
        let Some(before) = event.position.checked_sub(1) else {
            continue;
        };
        let subscription = node.log.subscribe(Filter::All, before).await;
        let mut subscription = subscription.map_err(|e| Status::unavailable(e.to_string()))?;
        let Some(Ok(Delivery::Commit(recorded))) = subscription.next().await else {
            continue;
        };
        if recorded.position != event.position {
            continue;
        }
        if let Ok(commit) = decode(&recorded) {
            event.stream = recorded.stream.to_string();
            event.at_ms = recorded.recorded_at_ms;
            event.text = text_of(&commit);
        }
    }
    Ok(())
}

/// The events of a commit in words; those that are no story by the name of their kind.
fn text_of(commit: &Commit) -> String {
    let none = BTreeMap::new();
    let texts = commit.events.iter().filter_map(|event| {
        let kind = event.kind.as_ref()?;
        let told = words(kind, "", &none);
        Some(told.unwrap_or_else(|| {
            let debug = format!("{kind:?}");
            debug.split('(').next().unwrap_or_default().to_owned()
        }))
    });
    texts.collect::<Vec<_>>().join("; ")
}

/// The detectors in force and what they see.
pub(crate) fn detectors(state: &State) -> api::DetectorsResponse {
    let watched = state.watching.watched();
    let in_force = state
        .watching
        .in_force()
        .map(|(it, unseen)| api::DetectorView {
            name: it.name.clone(),
            kind: it.kind.as_str().to_owned(),
            class: it.class.clone(),
            owner: it.owner.as_str().to_owned(),
            title: it.title.clone(),
            unseen,
            watched: watched
                .iter()
                .filter(|watched| watched.detector == it.name)
                .map(|watched| api::WatchedView {
                    name: watched.name.clone(),
                    phase: watched.phase.to_owned(),
                    reading: watched.reading.clone(),
                })
                .collect(),
            signals: signals_of(state, &it.name),
        });
    let mut detectors: Vec<api::DetectorView> = in_force.collect();
    let listed: Vec<String> = detectors.iter().map(|it| it.name.clone()).collect();
    // Built-in ones are in force whether the plan lists them or not.
    let unlisted = BUILT_IN
        .iter()
        .filter(|name| !listed.iter().any(|it| it == *name));
    detectors.extend(unlisted.map(|name| api::DetectorView {
        name: (*name).to_owned(),
        kind: "proven".to_owned(),
        signals: signals_of(state, name),
        ..api::DetectorView::default()
    }));
    let (sha256, version) = state.watching.installed().unwrap_or_default();
    api::DetectorsResponse {
        detectors,
        version,
        sha256: sha256.to_owned(),
        near_misses: newest(state.watching.all_misses()),
    }
}

fn signals_of(state: &State, detector: &str) -> u64 {
    let signals = state.signals.values();
    let count = signals
        .filter(|it| it.reported.detector == detector)
        .count();
    u64::try_from(count).unwrap_or(u64::MAX)
}
