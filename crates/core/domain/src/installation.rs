//! The whole installation folded from all streams: what services look at to decide what to do next.
//!
//! **Invariant:** one stream that does not fold never stops the others; it is set aside with its reason and reported.

use std::collections::BTreeMap;

use sealwarden_wire::event::v1::{
    Commit, Envelope, Event, NodeEnrolled, RunEnded, RunStarted, ServiceAnnounced, SignalReported, SuspensionAdded,
    TrustPublished, event::Kind,
};

use crate::fold::{Fold, IllegalEvent};
use crate::incident::Incident;
use crate::log_control::LogControl;

/// A node and how to reach it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// Its enrolment.
    pub enrolled: Option<NodeEnrolled>,
    /// Its latest announcement.
    pub announced: Option<ServiceAnnounced>,
}

/// The trust bundle as the log has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trust {
    /// Latest published bundle.
    pub published: Option<TrustPublished>,
    /// Suspensions added since, in order.
    pub suspensions: Vec<SuspensionAdded>,
}

/// A run, as far as the installation needs to know it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSummary {
    /// How it began.
    pub started: RunStarted,
    /// How it ended.
    pub ended: Option<RunEnded>,
}

/// Everything, by stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Installation {
    /// Logs by name.
    pub logs: BTreeMap<String, LogControl>,
    /// Incidents by id.
    pub incidents: BTreeMap<String, Incident>,
    /// Signals by id.
    pub signals: BTreeMap<String, SignalReported>,
    /// Nodes by name.
    pub nodes: BTreeMap<String, Node>,
    /// Runs by id.
    pub runs: BTreeMap<String, RunSummary>,
    /// Trust.
    pub trust: Trust,
    /// Streams that do not fold, with the reason.
    pub poisoned: BTreeMap<String, String>,
    /// Position of the last commit that was folded.
    pub position: u64,
}

impl Installation {
    /// Folds one commit. A stream that fails is set aside and named in the answer, once.
    pub fn fold(&mut self, commit: &Commit) -> Result<(), IllegalEvent> {
        let Some(envelope) = &commit.envelope else {
            return Ok(());
        };
        self.position = envelope.position;
        if self.poisoned.contains_key(&envelope.stream) {
            return Ok(());
        }
        for event in &commit.events {
            if let Err(illegal) = self.apply(envelope, event) {
                self.poisoned.insert(envelope.stream.clone(), illegal.reason.clone());
                return Err(illegal);
            }
        }
        Ok(())
    }

    /// The log that an origin belongs to.
    pub fn log_of(&self, origin: &str) -> Option<(&str, &LogControl)> {
        self.logs
            .iter()
            .find(|(_, log)| log.origin(origin).is_some())
            .map(|(name, log)| (name.as_str(), log))
    }

    /// Incidents that are open, oldest first.
    pub fn open_incidents(&self) -> impl Iterator<Item = (&String, &Incident)> {
        self.incidents.iter().filter(|(_, i)| i.is_open())
    }
}

impl Fold for Installation {
    fn apply(&mut self, envelope: &Envelope, event: &Event) -> Result<(), IllegalEvent> {
        let (category, id) = envelope
            .stream
            .split_once('/')
            .ok_or_else(|| IllegalEvent::new(envelope, "a stream without category"))?;
        match category {
            "log" => self.logs.entry(id.to_owned()).or_default().apply(envelope, event),
            "incident" => self.incidents.entry(id.to_owned()).or_default().apply(envelope, event),
            _ => {
                self.rest(id, event);
                Ok(())
            }
        }
    }
}

impl Installation {
    #[expect(clippy::wildcard_enum_match_arm, reason = "other streams have folds of their own")]
    fn rest(&mut self, id: &str, event: &Event) {
        match &event.kind {
            Some(Kind::NodeEnrolled(e)) => {
                self.nodes.entry(id.to_owned()).or_default().enrolled = Some(e.clone());
            }
            Some(Kind::ServiceAnnounced(e)) => {
                self.nodes.entry(id.to_owned()).or_default().announced = Some(e.clone());
            }
            Some(Kind::TrustPublished(e)) => {
                self.trust.published = Some(e.clone());
            }
            Some(Kind::SuspensionAdded(e)) => self.trust.suspensions.push(e.clone()),
            Some(Kind::SignalReported(e)) => {
                self.signals.insert(id.to_owned(), e.clone());
            }
            Some(Kind::RunStarted(e)) => {
                let summary = RunSummary { started: e.clone(), ended: None };
                self.runs.insert(id.to_owned(), summary);
            }
            Some(Kind::RunEnded(e)) => {
                if let Some(run) = self.runs.get_mut(id) {
                    run.ended = Some(e.clone());
                }
            }
            _ => {}
        }
    }
}
