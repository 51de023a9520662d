//! What the detection service knows: everything it decides from, folded from the event log alone.
//!
//! **Invariant:** the fold depends on nothing but the order of the log (no clock, no configuration), so a replay finds the same signals, and those that were counted
//! without being recorded stay so.

use std::collections::{BTreeMap, BTreeSet};

use sealwarden_domain::Fold as _;
use sealwarden_domain::certificates::Certificates;
use sealwarden_domain::communication::{Communication, RunFacts};
use sealwarden_domain::incident::Incident;
use sealwarden_domain::log_control::LogControl;
use sealwarden_eventlog::Head;
use sealwarden_wire::event::v1::{
    Commit, Envelope, Event, IncidentStage, SignalReported, event::Kind,
};

use crate::detectors::{
    Logs, archive_damage, audit_gap, foreign_checkpoint, key_outage, outage_ended, outage_subject,
    unexplained_key_use, vendor_outage, verdict_regression,
};
use crate::ids::{incident_id, incident_number};
use crate::timeline::Timelines;
use crate::watching::Watching;

/// How many signals of detectors, and how many of reporters, one incident takes in. More of the same subject are counted. Fixed, because a replay must decide the same.
pub(crate) const MAX_SIGNALS_PER_INCIDENT: u32 = 32;

/// A recorded signal.
#[derive(Clone, Debug)]
pub(crate) struct KnownSignal {
    /// As it was reported; without its evidence, which stays in the log.
    pub(crate) reported: SignalReported,
    /// Position of its record.
    pub(crate) position: u64,
    /// When it was recorded, Unix milliseconds.
    pub(crate) at_ms: i64,
    /// The incident that it joined.
    pub(crate) incident: Option<String>,
    /// Trace context of its record.
    pub(crate) traceparent: String,
}

/// What a detector concluded and nobody has recorded yet.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) signal: SignalReported,
    /// Id of the commit that it rests on.
    pub(crate) cause: String,
    pub(crate) traceparent: String,
}

/// How many findings a subject has had since its last incident was closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) accepted: u32,
    pub(crate) counted_only: u64,
}

/// The folded state.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) logs: BTreeMap<String, LogControl>,
    /// Where each log's stream was folded to.
    pub(crate) heads: BTreeMap<String, Head>,
    pub(crate) incidents: BTreeMap<String, Incident>,
    /// Those that are open.
    pub(crate) open: BTreeSet<String>,
    pub(crate) signals: BTreeMap<String, KnownSignal>,
    /// Signals that have not joined an incident.
    pub(crate) unjoined: BTreeSet<String>,
    /// Findings by signal id.
    pub(crate) findings: BTreeMap<String, Finding>,
    /// By subject.
    pub(crate) tallies: BTreeMap<String, Tally>,
    pub(crate) timelines: Timelines,
    /// Seal certificates.
    pub(crate) certificates: Certificates,
    /// Incidents of which something was folded since [`Self::touched`] was taken.
    pub(crate) touched: BTreeSet<String>,
    /// What was told, by incident.
    pub(crate) communications: BTreeMap<String, Communication>,
    /// What runs wait for.
    pub(crate) runs: BTreeMap<String, RunFacts>,
    /// Incidents that may have something to tell since [`Self::tidings`] was taken.
    pub(crate) tidings: BTreeSet<String>,
    /// Incidents of which something was recorded as told, likewise.
    pub(crate) recorded: BTreeSet<String>,
    /// The plan's detectors.
    pub(crate) watching: Watching,
    poisoned: BTreeMap<String, String>,
    /// Position of the last commit.
    pub(crate) position: u64,
}

impl State {
    /// Folds one commit and lets the detectors judge it.
    pub(crate) fn take_in(&mut self, commit: &Commit, head: Head) {
        let Some(envelope) = &commit.envelope else {
            return;
        };
        self.position = envelope.position;
        let (category, id) = envelope.stream.split_once('/').unwrap_or_default();
        if category == "log" {
            self.heads.insert(id.to_owned(), head);
        }
        if self.poisoned.contains_key(&envelope.stream) {
            return;
        }
        for event in &commit.events {
            if let Err(reason) = self.fold(category, id, envelope, event) {
                tracing::error!(stream = %envelope.stream, position = envelope.position, %reason, "a stream is set aside");
                self.poisoned.insert(envelope.stream.clone(), reason);
                return;
            }
            self.timelines.take_in(envelope, event, &self.logs);
            self.detect((category, id), envelope, event);
        }
    }

    fn fold(
        &mut self,
        category: &str,
        id: &str,
        envelope: &Envelope,
        event: &Event,
    ) -> Result<(), String> {
        match category {
            "log" => {
                let log = self.logs.entry(id.to_owned()).or_default();
                log.apply(envelope, event).map_err(|illegal| illegal.reason)
            }
            "incident" => {
                let incident = self.incidents.entry(id.to_owned()).or_default();
                incident
                    .apply(envelope, event)
                    .map_err(|illegal| illegal.reason)?;
                self.touched.insert(id.to_owned());
                self.tidings.insert(id.to_owned());
                self.follow_incident(id, event);
                Ok(())
            }
            "communication" => {
                let told = self.communications.entry(id.to_owned()).or_default();
                told.apply(envelope, event)
                    .map_err(|illegal| illegal.reason)?;
                self.recorded.insert(id.to_owned());
                Ok(())
            }
            "run" => {
                if let Some(kind) = &event.kind {
                    let run = self.runs.entry(id.to_owned()).or_default();
                    run.take_in(kind, envelope.recorded_at_ms);
                    self.tidings.insert(run.incident.clone());
                }
                Ok(())
            }
            "signal" => self.take_in_signal(id, envelope, event),
            "trust" => {
                let Some(kind) = &event.kind else {
                    return Ok(());
                };
                let taken = self.certificates.apply(envelope, kind);
                taken.map(drop).map_err(|illegal| illegal.reason)
            }
            _ => Ok(()),
        }
    }

    fn take_in_signal(
        &mut self,
        id: &str,
        envelope: &Envelope,
        event: &Event,
    ) -> Result<(), String> {
        let Some(Kind::SignalReported(reported)) = &event.kind else {
            return Err("an event of another stream in a signal's stream".to_owned());
        };
        if reported.signal != id {
            return Err(format!("it holds the signal {}", reported.signal));
        }
        self.findings.remove(&reported.signal);
        if self.signals.contains_key(&reported.signal) {
            return Ok(());
        }
        let known = KnownSignal {
            reported: SignalReported {
                evidence: Vec::new().into(),
                ..reported.clone()
            },
            position: envelope.position,
            at_ms: envelope.recorded_at_ms,
            incident: None,
            traceparent: envelope.traceparent.clone(),
        };
        self.signals.insert(reported.signal.clone(), known);
        self.unjoined.insert(reported.signal.clone());
        Ok(())
    }

    fn follow_incident(&mut self, id: &str, event: &Event) {
        match &event.kind {
            Some(Kind::IncidentOpened(_)) => {
                self.open.insert(id.to_owned());
            }
            Some(Kind::SignalJoined(joined)) => {
                self.unjoined.remove(&joined.signal);
                if let Some(signal) = self.signals.get_mut(&joined.signal) {
                    signal.incident = Some(id.to_owned());
                }
            }
            Some(Kind::IncidentStageReached(reached))
                if reached.stage() == IncidentStage::Closed =>
            {
                self.open.remove(id);
                let subject = self
                    .incidents
                    .get(id)
                    .and_then(|i| i.opened.as_ref())
                    .map(|o| o.subject.clone());
                if let Some(subject) = subject {
                    self.tallies.remove(&subject);
                }
            }
            Some(_) | None => {}
        }
    }

    /// What detectors know.
    pub(crate) fn known_logs(&self) -> Logs<'_> {
        Logs {
            logs: &self.logs,
            poisoned: &self.poisoned,
        }
    }

    /// Each category has its own events: who may write one kind of stream writes nothing that counts in another.
    fn detect(&mut self, (category, id): (&str, &str), envelope: &Envelope, event: &Event) {
        if let ("log", Some(kind)) = (category, &event.kind) {
            self.withdraw(id, kind);
        }
        let logs = self.known_logs();
        let signal = match (category, &event.kind) {
            ("sighting", Some(Kind::CheckpointSighted(sighted))) => {
                foreign_checkpoint(logs, envelope, sighted)
            }
            ("keyuse", Some(Kind::KeyUseObserved(used))) => {
                unexplained_key_use(logs, envelope, used)
            }
            ("keyuse", Some(Kind::AuditGapObserved(gap))) => audit_gap(logs, envelope, gap),
            ("archive", Some(kind)) => archive_damage(envelope, kind),
            ("vendor", Some(Kind::VendorProbed(probed))) => vendor_outage(envelope, probed),
            ("verifier", Some(Kind::VerdictsCompared(compared))) => {
                verdict_regression(envelope, compared)
            }
            ("log", Some(kind)) => key_outage(id, envelope, kind),
            _ => None,
        };
        if let Some(signal) = signal {
            self.found(signal, envelope, event);
        }
        let Some(kind) = &event.kind else { return };
        for signal in self.watching.take_in((category, id), envelope, kind) {
            self.found(signal, envelope, event);
        }
    }

    fn found(&mut self, signal: SignalReported, envelope: &Envelope, event: &Event) {
        if self.signals.contains_key(&signal.signal) || self.findings.contains_key(&signal.signal) {
            return;
        }
        if !self.accept(&signal) {
            return;
        }
        self.timelines.found(&signal.signal, envelope, event);
        let finding = Finding {
            cause: envelope.id.clone(),
            traceparent: envelope.traceparent.clone(),
            signal,
        };
        self.findings.insert(finding.signal.signal.clone(), finding);
    }

    /// Drops what was found of an outage that is over and that nobody has recorded: an old log read for the first time calls nobody.
    fn withdraw(&mut self, log: &str, kind: &Kind) {
        let Some(detector) = outage_ended(kind) else {
            return;
        };
        let subject = outage_subject(log);
        let before = self.findings.len();
        self.findings.retain(|_, finding| {
            finding.signal.detector != detector || finding.signal.subject != subject
        });
        let dropped = u32::try_from(before - self.findings.len()).unwrap_or(u32::MAX);
        if let Some(tally) = self.tallies.get_mut(&subject) {
            tally.accepted = tally.accepted.saturating_sub(dropped);
        }
    }

    /// Whether a finding becomes a signal, or is only counted: enough is known already, or its origin is isolated with nothing left to decide.
    fn accept(&mut self, signal: &SignalReported) -> bool {
        let settled = signal.detector == crate::detectors::FOREIGN_CHECKPOINT
            && self.is_isolated(signal)
            && self.open_incident(&signal.subject).is_none();
        let tally = self.tallies.entry(signal.subject.clone()).or_default();
        if settled || tally.accepted >= MAX_SIGNALS_PER_INCIDENT {
            tally.counted_only += 1;
            // A flood must not flood the log of messages either.
            if tally.counted_only.is_power_of_two() {
                tracing::warn!(subject = %signal.subject, further = tally.counted_only, "further findings are counted and not recorded");
            }
            return false;
        }
        tally.accepted += 1;
        true
    }

    /// Whether the isolation of the signal's origin was proven: what its key signs now deceives no verifier.
    fn is_isolated(&self, signal: &SignalReported) -> bool {
        let isolation = self.logs.get(&signal.log).and_then(|log| {
            let epoch = log.origin(&signal.origin)?.isolation?;
            log.directives.get(&epoch)?.isolated_at_ms
        });
        isolation.is_some()
    }

    /// The subject's open incident.
    pub(crate) fn open_incident(&self, subject: &str) -> Option<&str> {
        let of_subject = |incident: &Incident| {
            incident
                .opened
                .as_ref()
                .is_some_and(|o| o.subject == subject)
        };
        self.open_incidents()
            .find(|(_, incident)| of_subject(incident))
            .map(|(id, _)| id.as_str())
    }

    /// The subject's open incident, or the id of the next one.
    pub(crate) fn incident_for(&self, subject: &str) -> String {
        if let Some(open) = self.open_incident(subject) {
            return open.to_owned();
        }
        let last = self
            .of_subject(subject)
            .filter_map(|(id, _)| incident_number(id))
            .max();
        incident_id(subject, last.unwrap_or(0).saturating_add(1))
    }

    fn of_subject<'a, 'b>(
        &'a self,
        subject: &'b str,
    ) -> impl Iterator<Item = (&'a str, &'a Incident)> + use<'a, 'b> {
        self.incidents
            .iter()
            .filter(move |(_, i)| i.opened.as_ref().is_some_and(|o| o.subject == subject))
            .map(|(id, incident)| (id.as_str(), incident))
    }

    /// The open incidents.
    pub(crate) fn open_incidents(&self) -> impl Iterator<Item = (&String, &Incident)> {
        self.open
            .iter()
            .filter_map(|id| self.incidents.get_key_value(id))
    }

    /// The signals of an incident that are recorded.
    pub(crate) fn signals_of<'a>(
        &'a self,
        incident: &'a Incident,
    ) -> impl Iterator<Item = &'a KnownSignal> {
        incident
            .signals
            .keys()
            .filter_map(|id| self.signals.get(id))
    }
}
