//! The plan's detectors over what is recorded: which are in force, what they conclude, what came near, and when time itself has to be recorded.

use std::collections::{BTreeMap, VecDeque};

use sealwarden_domain::detect::{Conclusion, Detecting, Outcome, Sensor, Watched};
use sealwarden_runbook::{Detector, Detectors, PlanSet};
use sealwarden_wire::event::v1::{
    DetectorsInstalled, Envelope, NearMissRecorded, Reporter, SignalReported, event::Kind,
};

use crate::ids::signal_id;
use crate::pending::Effect;

/// How many near misses are kept for `signal explain`, the newest; all are in the event log.
const MAX_KEPT: usize = 1024;
/// How many near misses wait to be recorded; what comes beyond that is counted with the next of its kind at best.
const MAX_WAITING: usize = 256;
/// Time is recorded at most this often, milliseconds: most of the time other events tell it.
const TICK_MS: i64 = 5_000;

/// A near miss that is on record.
#[derive(Clone, Debug)]
pub(crate) struct KnownMiss {
    pub(crate) miss: NearMissRecorded,
    pub(crate) position: u64,
    pub(crate) at_ms: i64,
}

/// What the detectors of the plan know. A fold: nothing but the log's order and times counts.
#[derive(Default)]
pub(crate) struct Watching {
    sensor: Sensor,
    detecting: Detecting,
    /// SHA-256 (hex) and version of the file in force.
    installed: Option<(String, u32)>,
    /// Near misses that nobody has recorded yet, by id.
    waiting: BTreeMap<String, NearMissRecorded>,
    misses: VecDeque<KnownMiss>,
    /// Time of the newest event, Unix milliseconds.
    now_ms: i64,
    position: u64,
}

impl Watching {
    /// Takes in an event; gives the signals that follow from it and from the time that went by.
    pub(crate) fn take_in(
        &mut self,
        stream: (&str, &str),
        envelope: &Envelope,
        kind: &Kind,
    ) -> Vec<SignalReported> {
        let mut outcomes = Vec::new();
        self.now_ms = self.now_ms.max(envelope.recorded_at_ms);
        self.position = envelope.position;
        self.detecting.pass(envelope.recorded_at_ms, &mut outcomes);
        match (stream, kind) {
            (("detect", "detectors"), Kind::DetectorsInstalled(installed)) => {
                self.install(installed);
            }
            (("near", id), Kind::NearMissRecorded(miss)) if miss.near_miss == id => {
                self.recorded(miss, envelope);
            }
            (_, kind) => {
                let (detecting, position) = (&mut self.detecting, envelope.position);
                self.sensor.take_in(stream, envelope, kind, &mut |taken| {
                    detecting.take_in(taken, position, &mut outcomes);
                });
            }
        }
        let mut signals = Vec::new();
        for outcome in outcomes {
            match outcome {
                Outcome::Concluded(it) => signals.push(signal(*it)),
                Outcome::NearMiss(miss) => self.near(*miss),
            }
        }
        signals
    }

    /// What was installed is read as it stands there. A file that this version cannot read leaves what was in force.
    fn install(&mut self, installed: &DetectorsInstalled) {
        match Detectors::parse("detectors.yaml", &installed.text) {
            Ok(detectors) => {
                self.detecting.install(&detectors);
                self.installed = Some((installed.sha256.clone(), installed.version));
            }
            Err(findings) => {
                let reason = findings.first().map(ToString::to_string);
                tracing::error!(sha256 = %installed.sha256, reason = reason.unwrap_or_default(), "installed detectors cannot be read; those before stay in force");
            }
        }
    }

    fn near(&mut self, mut miss: NearMissRecorded) {
        let at_ms = miss.reading.as_ref().map_or(0, |it| it.to_ms);
        let parts = [miss.subject.as_bytes(), &at_ms.to_be_bytes()];
        miss.near_miss = signal_id(&miss.detector, &parts).replacen('S', "N", 1);
        if self.waiting.len() < MAX_WAITING {
            self.waiting.insert(miss.near_miss.clone(), miss);
        }
    }

    fn recorded(&mut self, miss: &NearMissRecorded, envelope: &Envelope) {
        self.waiting.remove(&miss.near_miss);
        if self.misses.len() >= MAX_KEPT {
            self.misses.pop_front();
        }
        self.misses.push_back(KnownMiss {
            miss: miss.clone(),
            position: envelope.position,
            at_ms: envelope.recorded_at_ms,
        });
    }

    /// What has to be recorded: the plan's detectors, near misses, and that time went by.
    pub(crate) fn due(&self, plan: &PlanSet, now_ms: i64) -> Vec<Effect> {
        let mut effects = Vec::new();
        if let Some(detectors) = plan.detectors() {
            let sha256 = detectors.digest_hex();
            let in_force = self.installed.as_ref().is_some_and(|it| it.0 == sha256);
            if !in_force {
                let installed = DetectorsInstalled {
                    version: detectors.version(),
                    sha256,
                    text: detectors.text().to_owned(),
                    node: String::new(),
                };
                effects.push(Effect::InstallDetectors(Box::new(installed)));
            }
        }
        let misses = self.waiting.values().cloned();
        effects.extend(misses.map(|miss| Effect::RecordNearMiss(Box::new(miss))));
        if self.tick_ms().is_some_and(|at_ms| at_ms <= now_ms) {
            effects.push(Effect::Tick(self.position));
        }
        effects
    }

    /// When time has to be recorded if nothing else is, Unix milliseconds.
    pub(crate) fn tick_ms(&self) -> Option<i64> {
        let due_ms = self.detecting.next_due_ms()?;
        Some(due_ms.max(self.now_ms.saturating_add(TICK_MS)))
    }

    /// Near misses of a detector about a subject, oldest first.
    pub(crate) fn misses<'a>(
        &'a self,
        detector: &'a str,
        subject: &'a str,
    ) -> impl Iterator<Item = &'a KnownMiss> {
        let of = move |it: &&KnownMiss| it.miss.detector == detector && it.miss.subject == subject;
        self.misses.iter().filter(of)
    }

    /// All near misses that are kept, oldest first.
    pub(crate) fn all_misses(&self) -> impl Iterator<Item = &KnownMiss> {
        self.misses.iter()
    }

    /// SHA-256 (hex) and version of the file in force.
    pub(crate) fn installed(&self) -> Option<(&str, u32)> {
        self.installed
            .as_ref()
            .map(|(sha256, version)| (sha256.as_str(), *version))
    }

    /// The detectors in force, each with how many values found no room.
    pub(crate) fn in_force(&self) -> impl Iterator<Item = (&Detector, u64)> {
        self.detecting.in_force()
    }

    /// What they see now.
    pub(crate) fn watched(&self) -> Vec<Watched> {
        self.detecting.watched()
    }
}

/// A conclusion as a signal. It rests on many events and on numbers that people chose, so it proves nothing and stops nothing.
pub(crate) fn signal(it: Conclusion) -> SignalReported {
    let parts = [it.subject.as_bytes(), &it.at_ms.to_be_bytes()];
    let earliest_at_ms = it.reading.from_ms.max(0);
    SignalReported {
        signal: signal_id(&it.detector, &parts),
        class: it.class,
        subject: it.subject,
        log: it.log,
        origin: String::new(),
        proven: false,
        seen: it.seen,
        expected: it.expected,
        events: it.events,
        evidence: Vec::new().into(),
        earliest_at_ms,
        reporter: Some(Reporter {
            person: false,
            name: it.detector.clone(),
        }),
        key: String::new(),
        reading: Some(it.reading),
        detector: it.detector,
    }
}

#[cfg(test)]
mod tests;
