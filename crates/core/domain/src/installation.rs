//! The whole installation folded from all streams: what services look at to decide what to do next.
//!
//! **Invariant:** one stream that does not fold never stops the others; it is set aside with its reason and reported.

use std::collections::BTreeMap;

use sealwarden_wire::event::v1::{
    Commit, Envelope, Event, NodeEnrolled, RunEnded, RunStarted, ServiceAnnounced, SignalReported,
    SuspensionAdded, TrustPublished, event::Kind,
};

use crate::approval::RevokedKeys;
use crate::certificates::Certificates;
use crate::custody::Custody;
use crate::fold::{Fold, IllegalEvent};
use crate::incident::Incident;
use crate::lease::Lease;
use crate::log_control::LogControl;
use crate::retention::Retention;
use crate::roster::RosterLine;
use crate::vendor::Vendor;
use crate::verifier::Verifier;

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
    /// All suspensions that were ever added, in order; a newer bundle may list some of them.
    pub suspensions: Vec<SuspensionAdded>,
    /// Seal certificates.
    pub certificates: Certificates,
    /// Keys of people that count no more.
    pub revoked_keys: RevokedKeys,
    /// The rosters, one after another, and what is proposed.
    pub rosters: RosterLine,
}

/// A run, as far as the installation needs to know it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSummary {
    /// How it began, without the texts that it is pinned to.
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
    /// Leases of executors by name.
    pub executors: BTreeMap<String, Lease>,
    /// Runs by id.
    pub runs: BTreeMap<String, RunSummary>,
    /// What is erased of logs' private records, and what is held, by log.
    pub retention: BTreeMap<String, Retention>,
    /// Vendors whose services are used, by name.
    pub vendors: BTreeMap<String, Vendor>,
    /// Verifiers that others run, by name.
    pub verifiers: BTreeMap<String, Verifier>,
    /// Who was given evidence, by incident.
    pub custody: BTreeMap<String, Custody>,
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
            let nowhere = Envelope::default();
            return Err(IllegalEvent::new(
                &nowhere,
                "a commit without envelope names no stream",
            ));
        };
        self.position = envelope.position;
        if self.poisoned.contains_key(&envelope.stream) {
            return Ok(());
        }
        for event in &commit.events {
            if let Err(illegal) = self.apply(envelope, event) {
                let told = at_position(illegal.position, &illegal.reason);
                self.poisoned.insert(envelope.stream.clone(), told);
                return Err(illegal);
            }
        }
        Ok(())
    }

    /// Sets a stream aside because of a commit that cannot be read at all: what comes after it may mean something else without it.
    pub fn set_aside(&mut self, stream: &str, position: u64, reason: &str) {
        self.position = position;
        self.poisoned
            .entry(stream.to_owned())
            .or_insert_with(|| at_position(position, reason));
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
            "log" => self
                .logs
                .entry(id.to_owned())
                .or_default()
                .apply(envelope, event),
            "incident" => self.incident(envelope, id, event),
            "signal" => self.signal(envelope, id, event),
            "node" => self.node(envelope, id, event),
            "run" => self.run(envelope, id, event),
            "executor" => self
                .executors
                .entry(id.to_owned())
                .or_default()
                .apply(envelope, event),
            "trust" => self.trust(envelope, event),
            "keyuse" => expect(envelope, event, |kind| {
                matches!(kind, Kind::KeyUseObserved(_) | Kind::AuditGapObserved(_))
            }),
            "sighting" => expect(envelope, event, |kind| {
                matches!(kind, Kind::CheckpointSighted(_))
            }),
            "detect" => expect(envelope, event, |kind| {
                matches!(
                    kind,
                    Kind::DetectorsInstalled(_)
                        | Kind::TimeTicked(_)
                        | Kind::CanaryRun(_)
                        | Kind::ReleaseMarked(_)
                )
            }),
            "near" => expect(envelope, event, |kind| {
                matches!(kind, Kind::NearMissRecorded(_))
            }),
            "measure" => expect(envelope, event, |kind| {
                matches!(kind, Kind::MeasuresTaken(_))
            }),
            "archive" => expect(envelope, event, |kind| {
                matches!(
                    kind,
                    Kind::ArchiveExtended(_)
                        | Kind::RevalidationStarted(_)
                        | Kind::ArchiveDamageFound(_)
                        | Kind::RevalidationFinished(_)
                        | Kind::DocumentQuarantined(_)
                        | Kind::DocumentRestored(_)
                        | Kind::DocumentReleased(_)
                        | Kind::RestoreFailed(_)
                )
            }),
            "vendor" => self
                .vendors
                .entry(id.to_owned())
                .or_default()
                .apply(envelope, event),
            "verifier" => self
                .verifiers
                .entry(id.to_owned())
                .or_default()
                .apply(envelope, event),
            "communication" => expect(envelope, event, |kind| {
                matches!(
                    kind,
                    Kind::NoticePrepared(_)
                        | Kind::NoticeDecided(_)
                        | Kind::DeliveryStarted(_)
                        | Kind::DeliveryEnded(_)
                        | Kind::IncidentAcknowledged(_)
                )
            }),
            "custody" => self
                .custody
                .entry(id.to_owned())
                .or_default()
                .apply(envelope, event),
            "retention" => self
                .retention
                .entry(id.to_owned())
                .or_default()
                .apply(envelope, event),
            _ => Ok(()), // a category that a newer version writes
        }
    }
}

/// Each category has its own events. An event server that lets a service write one category lets it write nothing that counts in another.
impl Installation {
    fn incident(
        &mut self,
        envelope: &Envelope,
        id: &str,
        event: &Event,
    ) -> Result<(), IllegalEvent> {
        if let Some(Kind::IncidentOpened(e)) = &event.kind {
            same(envelope, id, &e.incident)?;
        }
        self.incidents
            .entry(id.to_owned())
            .or_default()
            .apply(envelope, event)
    }

    fn signal(&mut self, envelope: &Envelope, id: &str, event: &Event) -> Result<(), IllegalEvent> {
        let Some(Kind::SignalReported(e)) = &event.kind else {
            return foreign(envelope, event);
        };
        same(envelope, id, &e.signal)?;
        if self.signals.contains_key(id) {
            return Err(IllegalEvent::new(envelope, "a signal is reported twice"));
        }
        self.signals.insert(id.to_owned(), e.clone());
        Ok(())
    }

    fn node(&mut self, envelope: &Envelope, id: &str, event: &Event) -> Result<(), IllegalEvent> {
        match &event.kind {
            Some(Kind::NodeEnrolled(e)) => {
                same(envelope, id, &e.node)?;
                self.nodes.entry(id.to_owned()).or_default().enrolled = Some(e.clone());
            }
            Some(Kind::ServiceAnnounced(e)) => {
                same(envelope, id, &e.node)?;
                self.nodes.entry(id.to_owned()).or_default().announced = Some(e.clone());
            }
            _ => return foreign(envelope, event),
        }
        Ok(())
    }

    fn run(&mut self, envelope: &Envelope, id: &str, event: &Event) -> Result<(), IllegalEvent> {
        match &event.kind {
            Some(Kind::RunStarted(e)) => {
                same(envelope, id, &e.run)?;
                if self.runs.contains_key(id) {
                    return Err(IllegalEvent::new(envelope, "a run is started twice"));
                }
                // The texts lie in the run's own stream; here they would be kept for every run there ever was.
                let started = RunStarted {
                    runbook_text: String::new(),
                    roster_text: String::new(),
                    plan_text: String::new(),
                    ..e.clone()
                };
                let summary = RunSummary {
                    started,
                    ended: None,
                };
                self.runs.insert(id.to_owned(), summary);
            }
            Some(Kind::RunEnded(e)) => {
                let run = self.runs.get_mut(id).ok_or_else(|| {
                    IllegalEvent::new(envelope, "a run ends that was never started")
                })?;
                run.ended.get_or_insert_with(|| e.clone());
            }
            Some(
                Kind::InputsResolved(_)
                | Kind::ConditionEvaluated(_)
                | Kind::ApprovalRecorded(_)
                | Kind::ApprovalRefused(_)
                | Kind::ApproverKeyRevoked(_)
                | Kind::StepStarted(_)
                | Kind::StepProgressed(_)
                | Kind::StepTaken(_)
                | Kind::StepEnded(_)
                | Kind::StepUnknown(_)
                | Kind::RunPaused(_)
                | Kind::RunResumed(_)
                | Kind::RunAborted(_)
                | Kind::StepRetried(_)
                | Kind::StepSkipped(_)
                | Kind::StepOverridden(_)
                | Kind::OverrideReviewed(_)
                | Kind::EvidenceGiven(_),
            ) => {}
            _ => return foreign(envelope, event),
        }
        Ok(())
    }

    fn trust(&mut self, envelope: &Envelope, event: &Event) -> Result<(), IllegalEvent> {
        self.trust.rosters.apply(envelope, event)?;
        match &event.kind {
            Some(Kind::TrustPublished(e)) => {
                let known = self.trust.published.as_ref().map_or(0, |p| p.version);
                if e.version <= known {
                    let reason = format!("trust version {} follows {known}", e.version);
                    return Err(IllegalEvent::new(envelope, reason));
                }
                self.trust.published = Some(e.clone());
            }
            Some(Kind::ApproverKeyRevoked(e)) => self.trust.revoked_keys.add(e),
            Some(
                Kind::RosterAdopted(_)
                | Kind::RosterProposed(_)
                | Kind::RosterDecided(_)
                | Kind::RosterChanged(_)
                | Kind::PersonAway(_),
            ) => {} // taken in above
            Some(Kind::SuspensionAdded(e)) => self.trust.suspensions.push(e.clone()),
            Some(kind) if self.trust.certificates.apply(envelope, kind)? => {}
            _ => return foreign(envelope, event),
        }
        Ok(())
    }
}

fn at_position(position: u64, reason: &str) -> String {
    format!("position {position}: {reason}")
}

fn same(envelope: &Envelope, id: &str, named: &str) -> Result<(), IllegalEvent> {
    if id == named {
        Ok(())
    } else {
        Err(IllegalEvent::new(
            envelope,
            format!("an event of {named:?} in the stream of {id:?}"),
        ))
    }
}

fn expect(
    envelope: &Envelope,
    event: &Event,
    known: fn(&Kind) -> bool,
) -> Result<(), IllegalEvent> {
    if event.kind.as_ref().is_some_and(known) {
        Ok(())
    } else {
        foreign(envelope, event)
    }
}

/// An event that does not belong here. One of unknown kind was written by a newer version and is passed over.
fn foreign(envelope: &Envelope, event: &Event) -> Result<(), IllegalEvent> {
    if event.kind.is_none() {
        return Ok(());
    }
    let reason = format!("an event of another stream in {}", envelope.stream);
    Err(IllegalEvent::new(envelope, reason))
}
