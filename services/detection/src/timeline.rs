//! The story of each incident, gathered from all streams as they are folded.
//!
//! An event belongs to an incident by what it says itself (incident, run, directive, signal), else by its envelope's correlation.

use std::collections::BTreeMap;

use sealwarden_domain::log_control::LogControl;
use sealwarden_wire::event::v1::{Actor, Envelope, Event, IncidentStage, actor, event::Kind};
use sealwarden_wire::incident::v1::TimelineEntry;

use crate::words::words;

/// The most entries of one incident; more are counted.
const MAX_ENTRIES: usize = 4096;
/// The longest text of an entry, in characters.
const MAX_TEXT: usize = 700;

/// Entries, and how many more there were.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timeline {
    pub(crate) entries: Vec<TimelineEntry>,
    pub(crate) left_out: u64,
}

/// All timelines.
#[derive(Debug, Default)]
pub(crate) struct Timelines {
    incidents: BTreeMap<String, Timeline>,
    /// Of signals that have not joined an incident.
    signals: BTreeMap<String, Vec<TimelineEntry>>,
    /// Which incident a run works on.
    runs: BTreeMap<String, String>,
    /// The open incident of an archive, a vendor or a verifier, by its stream.
    watched: BTreeMap<String, String>,
}

/// What an event is part of.
enum Part {
    Incident(String),
    Signal(String),
}

impl Timelines {
    /// Adds an event to the stories that it is part of.
    pub(crate) fn take_in(
        &mut self,
        envelope: &Envelope,
        event: &Event,
        logs: &BTreeMap<String, LogControl>,
    ) {
        let Some(kind) = &event.kind else { return };
        let (_, id) = envelope.stream.split_once('/').unwrap_or_default();
        if let Kind::RunStarted(started) = kind {
            self.runs.insert(id.to_owned(), started.incident.clone());
        }
        if let Kind::IncidentOpened(opened) = kind
            && let Some((what @ ("archive" | "vendor" | "verifier"), name)) =
                opened.subject.split_once(' ')
        {
            self.watched.insert(format!("{what}/{name}"), id.to_owned());
        }
        if let Kind::IncidentStageReached(reached) = kind
            && reached.stage() == IncidentStage::Closed
        {
            self.watched.retain(|_, incident| incident != id);
        }
        if let Kind::SignalJoined(joined) = kind {
            for entry in self.signals.remove(&joined.signal).unwrap_or_default() {
                self.add(id, entry);
            }
        }
        let Some(part) = self.part(envelope, id, kind, logs) else {
            return;
        };
        let Some(text) = words(kind, id, logs) else {
            return;
        };
        let entry = entry(envelope, &text);
        match part {
            Part::Incident(incident) => self.add(&incident, entry),
            Part::Signal(signal) => self.signals.entry(signal).or_default().push(entry),
        }
    }

    /// Keeps an event that a detector's finding rests on, unless it stands in an open incident's story already.
    pub(crate) fn found(&mut self, signal: &str, envelope: &Envelope, event: &Event) {
        if self.watched.contains_key(&envelope.stream) {
            return;
        }
        let text = match &event.kind {
            Some(Kind::CheckpointSighted(e)) => {
                format!(
                    "a signed checkpoint of {} that does not fit was seen ({}): {}",
                    e.origin, e.source, e.reason
                )
            }
            Some(Kind::KeyUseObserved(e)) => {
                format!(
                    "key {} of the {} provider was used at {}: {}",
                    e.key_id, e.provider, e.node, e.line
                )
            }
            Some(Kind::AuditGapObserved(e)) => format!(
                "{} notices that {}",
                e.node,
                crate::detectors::audit_gap_words(e)
            ),
            Some(Kind::VerdictsCompared(e)) => crate::detectors::verdicts_words(e),
            Some(Kind::VendorProbed(e)) => format!(
                "vendor {} failed {} probes: {}",
                e.vendor, e.probes, e.reason
            ),
            Some(kind) => match crate::archive_words::sentence(kind) {
                Some(text) => text,
                None => return,
            },
            None => return,
        };
        self.signals
            .entry(signal.to_owned())
            .or_default()
            .push(entry(envelope, &text));
    }

    /// The story of an incident, in the order of the log.
    pub(crate) fn of(&self, incident: &str) -> Timeline {
        let mut timeline = self.incidents.get(incident).cloned().unwrap_or_default();
        timeline.entries.sort_by_key(|entry| entry.position);
        timeline
    }

    fn add(&mut self, incident: &str, entry: TimelineEntry) {
        let timeline = self.incidents.entry(incident.to_owned()).or_default();
        if timeline.entries.len() < MAX_ENTRIES {
            timeline.entries.push(entry);
        } else {
            timeline.left_out += 1;
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "events that name no incident belong to one by correlation or not at all"
    )]
    fn part(
        &self,
        envelope: &Envelope,
        id: &str,
        kind: &Kind,
        logs: &BTreeMap<String, LogControl>,
    ) -> Option<Part> {
        let directive = |epoch: u64| {
            let state = logs.get(id)?.directives.get(&epoch)?;
            Some(state.directive.incident.clone())
        };
        let incident = match kind {
            Kind::SignalReported(e) => return Some(Part::Signal(e.signal.clone())),
            Kind::CheckpointSighted(_) | Kind::KeyUseObserved(_) | Kind::AuditGapObserved(_) => {
                None
            }
            Kind::HoldPlaced(e) => Some(e.incident.clone()),
            Kind::DirectiveIssued(e) => e.directive.as_ref().map(|d| d.incident.clone()),
            Kind::DirectiveAcknowledged(e) => directive(e.epoch),
            Kind::DirectiveRefused(e) => directive(e.epoch),
            Kind::Fenced(e) => directive(e.epoch),
            Kind::Isolated(e) => directive(e.epoch),
            Kind::OriginOpened(e) => directive(e.epoch),
            Kind::KeyLifeChanged(e) => directive(e.epoch),
            Kind::SuspensionAdded(e) => Some(e.incident.clone()),
            _ => self.by_stream(envelope, id),
        };
        incident
            .filter(|incident| !incident.is_empty())
            .map(Part::Incident)
    }

    fn by_stream(&self, envelope: &Envelope, id: &str) -> Option<String> {
        match envelope
            .stream
            .split_once('/')
            .map(|(category, _)| category)
        {
            Some("incident") => Some(id.to_owned()),
            Some("run") => self.runs.get(id).cloned(),
            Some("archive" | "vendor" | "verifier") => self.watched.get(&envelope.stream).cloned(),
            _ => {
                let correlation = &envelope.correlation;
                let known = self.incidents.contains_key(correlation);
                if known {
                    Some(correlation.clone())
                } else {
                    self.runs.get(correlation).cloned()
                }
            }
        }
    }
}

fn entry(envelope: &Envelope, text: &str) -> TimelineEntry {
    let mut short: String = text.chars().take(MAX_TEXT).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    TimelineEntry {
        at_ms: envelope.recorded_at_ms,
        actor: envelope.actor.as_ref().map(actor_words).unwrap_or_default(),
        text: short,
        stream: envelope.stream.clone(),
        position: envelope.position,
    }
}

fn actor_words(actor: &Actor) -> String {
    let kind = match actor.kind() {
        actor::Kind::Unspecified => return actor.name.clone(),
        actor::Kind::Person => "person",
        actor::Kind::Node => "node",
        actor::Kind::Detector => "detector",
    };
    format!("{kind} {}", actor.name)
}
