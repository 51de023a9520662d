//! Incidents: signals that belong together, classified, with clocks.
//!
//! **Invariants:** signals of one subject join its one open incident; the earliest possible compromise only ever moves to earlier; stages only go forward.

use std::collections::{BTreeMap, BTreeSet};

use sealwarden_wire::event::v1::{
    Envelope, Event, EvidenceSealed, IncidentClassified, IncidentHandedOver, IncidentOpened,
    IncidentStage, IncidentStageReached, OutsideCounted, RunLinked, SignalJoined, SignalReported,
    SignalResolved, event::Kind,
};

use crate::fold::{Fold, IllegalEvent, Rejection, RejectionCode, event};
use crate::learning::Learning;
use crate::obligation::Obligations;

/// A signal as an incident knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinedSignal {
    /// The signal's joining event.
    pub joined: SignalJoined,
    /// When it joined, Unix milliseconds.
    pub at_ms: i64,
}

/// Whose an incident is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Their name in the roster.
    pub person: String,
    /// Who gave it to them.
    pub by: String,
    /// Since when, Unix milliseconds.
    pub since_ms: i64,
}

/// Folded state of `incident/<id>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Incident {
    /// How it began; `None` before the first event.
    pub opened: Option<IncidentOpened>,
    /// When it was opened, Unix milliseconds.
    pub opened_at_ms: i64,
    /// Signals by id.
    pub signals: BTreeMap<String, JoinedSignal>,
    /// Latest classification.
    pub classified: Option<IncidentClassified>,
    /// People who ever classified it.
    pub classifiers: BTreeSet<String>,
    /// Stages with the time they were first reached, Unix milliseconds.
    pub stages: Vec<(IncidentStage, i64, String)>,
    /// Runs.
    pub runs: Vec<RunLinked>,
    /// Sealed evidence.
    pub evidence: Vec<EvidenceSealed>,
    /// Duties to notify.
    pub obligations: Obligations,
    /// Postmortems and action items.
    pub learning: Learning,
    /// Alerts of outside sources that were counted only.
    pub counted: u64,
    /// Signals that their reporters say are over, with the time, Unix milliseconds.
    pub resolved: BTreeMap<String, i64>,
    /// Whose it is; `None` before the first hand-over.
    pub owner: Option<Owner>,
}

/// A command to an incident.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// The first signal of a subject opens it.
    Open {
        /// Incident's id.
        incident: String,
        /// The signal.
        signal: SignalReported,
    },
    /// A further signal of the subject joins.
    Join(SignalReported),
    /// Class, severity and times from the plan.
    Classify(IncidentClassified),
    /// The next stage of its life.
    Reach {
        /// Stage.
        stage: IncidentStage,
        /// Why.
        reason: String,
    },
    /// A run was started for it.
    LinkRun(RunLinked),
    /// A bundle of evidence was sealed.
    AddEvidence(EvidenceSealed),
    /// More came of an outside source than the incident takes in.
    Count(OutsideCounted),
    /// A signal's reporter says that it is over.
    Resolve(SignalResolved),
    /// It is another person's from now on.
    HandOver(IncidentHandedOver),
}

impl Incident {
    /// Its present stage; `None` before it is opened.
    pub fn stage(&self) -> Option<IncidentStage> {
        self.stages
            .iter()
            .map(|(stage, ..)| *stage)
            .max_by_key(|stage| i32::from(*stage))
    }

    /// Whether it is opened and not closed.
    pub fn is_open(&self) -> bool {
        self.opened.is_some() && self.stage() != Some(IncidentStage::Closed)
    }

    /// When a stage was reached, Unix milliseconds.
    pub fn reached_at(&self, stage: IncidentStage) -> Option<i64> {
        self.stages
            .iter()
            .find(|(s, ..)| *s == stage)
            .map(|(_, at, _)| *at)
    }

    /// Whether one of its signals proves itself.
    pub fn proven(&self) -> bool {
        self.signals.values().any(|s| s.joined.proven)
    }

    /// People who reported signals of it or classified it: they cannot approve its steps.
    pub fn requesters(&self) -> Vec<String> {
        let people: BTreeSet<String> = self
            .signals
            .values()
            .filter(|s| s.joined.reporter_is_person)
            .map(|s| s.joined.reporter.clone())
            .chain(
                self.opened
                    .iter()
                    .flat_map(|o| o.requesters.iter().cloned()),
            )
            .chain(self.classifiers.iter().cloned())
            .collect();
        people.into_iter().collect()
    }
}

/// Decides a command. No events means that it is already so.
pub fn decide(incident: &Incident, command: Command) -> Result<Vec<Event>, Rejection> {
    match command {
        Command::Open {
            incident: id,
            signal,
        } => open(incident, id, signal),
        Command::Join(signal) => join(incident, signal),
        Command::Classify(c) => classify(incident, c),
        Command::Reach { stage, reason } => reach(incident, stage, reason),
        Command::LinkRun(link) => {
            require_open(incident)?;
            let known = incident.runs.iter().any(|r| r.run == link.run);
            Ok(if known {
                Vec::new()
            } else {
                vec![event(Kind::RunLinked(link))]
            })
        }
        Command::Count(counted) => {
            require_open(incident)?;
            Ok(vec![event(Kind::OutsideCounted(counted))])
        }
        Command::Resolve(resolved) => {
            if !incident.signals.contains_key(&resolved.signal) {
                let reason = format!("the incident has no signal {}", resolved.signal);
                return Err(Rejection::new(RejectionCode::NotFound, reason));
            }
            let known = incident.resolved.contains_key(&resolved.signal);
            Ok(if known {
                Vec::new()
            } else {
                vec![event(Kind::SignalResolved(resolved))]
            })
        }
        Command::HandOver(handed) => {
            require_open(incident)?;
            let is_theirs = |owner: &Owner| owner.person == handed.to;
            Ok(if incident.owner.as_ref().is_some_and(is_theirs) {
                Vec::new()
            } else {
                vec![event(Kind::IncidentHandedOver(handed))]
            })
        }
        Command::AddEvidence(e) => {
            // Evidence may be sealed after the closing, never of nothing.
            if incident.opened.is_none() {
                return Err(not_open());
            }
            let known = incident
                .evidence
                .iter()
                .any(|k| k.manifest_sha256 == e.manifest_sha256);
            Ok(if known {
                Vec::new()
            } else {
                vec![event(Kind::EvidenceSealed(e))]
            })
        }
    }
}

fn joined(signal: SignalReported) -> SignalJoined {
    let reporter = signal.reporter.unwrap_or_default();
    SignalJoined {
        signal: signal.signal,
        detector: signal.detector,
        proven: signal.proven,
        seen: signal.seen,
        expected: signal.expected,
        reporter: reporter.name,
        reporter_is_person: reporter.person,
    }
}

fn open(state: &Incident, id: String, signal: SignalReported) -> Result<Vec<Event>, Rejection> {
    if state.opened.is_some() {
        return join(state, signal); // another signal of the subject was first
    }
    let reporter = signal.reporter.clone().unwrap_or_default();
    let opened = IncidentOpened {
        incident: id,
        subject: signal.subject.clone(),
        log: signal.log.clone(),
        origin: signal.origin.clone(),
        signal: signal.signal.clone(),
        key: signal.key.clone(),
        title: format!("{} of {}", signal.class, signal.subject),
        earliest_at_ms: signal.earliest_at_ms,
        requesters: if reporter.person {
            vec![reporter.name]
        } else {
            Vec::new()
        },
    };
    let stage = IncidentStageReached {
        stage: IncidentStage::Detected.into(),
        reason: signal.seen.clone(),
    };
    Ok(vec![
        event(Kind::IncidentOpened(opened)),
        event(Kind::SignalJoined(joined(signal))),
        event(Kind::IncidentStageReached(stage)),
    ])
}

fn require_open(state: &Incident) -> Result<(), Rejection> {
    if state.is_open() {
        Ok(())
    } else {
        Err(not_open())
    }
}

fn not_open() -> Rejection {
    Rejection::new(RejectionCode::NotNow, "the incident is not open")
}

fn join(state: &Incident, signal: SignalReported) -> Result<Vec<Event>, Rejection> {
    if state.signals.contains_key(&signal.signal) {
        return Ok(Vec::new());
    }
    require_open(state)?;
    Ok(vec![event(Kind::SignalJoined(joined(signal)))])
}

fn classify(state: &Incident, mut c: IncidentClassified) -> Result<Vec<Event>, Rejection> {
    require_open(state)?;
    if let Some(known) = &state.classified {
        if c.compromised_since_ms == 0 {
            c.compromised_since_ms = known.compromised_since_ms;
        }
        if moves_later(known.compromised_since_ms, c.compromised_since_ms) {
            return Err(Rejection::new(
                RejectionCode::Refused,
                format!(
                    "the earliest possible compromise is set to {}; it can only be moved to an earlier time",
                    time_text(known.compromised_since_ms)
                ),
            ));
        }
        if said(known) == said(&c) {
            return Ok(Vec::new());
        }
    }
    let reason = format!("{} ({}), by {}", c.class, c.severity, c.by);
    let mut events = vec![event(Kind::IncidentClassified(c))];
    if state
        .stage()
        .is_none_or(|now| i32::from(now) < i32::from(IncidentStage::Classified))
    {
        let stage = IncidentStageReached {
            stage: IncidentStage::Classified.into(),
            reason,
        };
        events.push(event(Kind::IncidentStageReached(stage)));
    }
    Ok(events)
}

/// What a classification says, apart from who says it and why.
fn said(c: &IncidentClassified) -> (&str, &str, &str, i64) {
    (&c.class, &c.severity, &c.runbook, c.compromised_since_ms)
}

/// Whether a new earliest possible compromise comes after the known one or forgets it; 0 is "none".
fn moves_later(known_ms: i64, new_ms: i64) -> bool {
    known_ms != 0 && (new_ms == 0 || new_ms > known_ms)
}

fn reach(state: &Incident, stage: IncidentStage, reason: String) -> Result<Vec<Event>, Rejection> {
    if stage == IncidentStage::Unspecified {
        return Err(Rejection::new(
            RejectionCode::Invalid,
            "an unspecified stage is none",
        ));
    }
    if state.reached_at(stage).is_some() {
        return Ok(Vec::new());
    }
    require_open(state)?;
    let behind = state
        .stage()
        .is_some_and(|now| i32::from(now) > i32::from(stage));
    if behind {
        return Ok(Vec::new()); // stages only go forward
    }
    let reached = IncidentStageReached {
        stage: stage.into(),
        reason,
    };
    Ok(vec![event(Kind::IncidentStageReached(reached))])
}

/// Unix milliseconds as RFC 3339 in UTC; empty for 0 or a time that does not exist.
pub fn time_text(ms: i64) -> String {
    if ms == 0 {
        return String::new();
    }
    jiff::Timestamp::from_millisecond(ms)
        .map(|t| t.to_string())
        .unwrap_or_default()
}

/// A stage's name as people write it.
pub fn stage_name(stage: IncidentStage) -> &'static str {
    match stage {
        IncidentStage::Unspecified => "unspecified",
        IncidentStage::Detected => "detected",
        IncidentStage::Classified => "classified",
        IncidentStage::Contained => "contained",
        IncidentStage::Recovering => "recovering",
        IncidentStage::Revalidated => "revalidated",
        IncidentStage::Closed => "closed",
    }
}

impl Fold for Incident {
    fn apply(&mut self, envelope: &Envelope, event: &Event) -> Result<(), IllegalEvent> {
        let at_ms = envelope.recorded_at_ms;
        let Some(kind) = &event.kind else {
            return Ok(()); // written by a newer version: not known to this one
        };
        if self.opened.is_none() && !matches!(kind, Kind::IncidentOpened(_)) {
            return Err(IllegalEvent::new(
                envelope,
                "an incident begins with its opening",
            ));
        }
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "every other event is illegal in an incident's stream"
        )]
        match kind {
            Kind::IncidentOpened(e) => {
                if self.opened.is_some() {
                    return Err(IllegalEvent::new(envelope, "an incident is opened twice"));
                }
                self.opened = Some(e.clone());
                self.opened_at_ms = at_ms;
            }
            Kind::SignalJoined(e) => {
                if self.signals.contains_key(&e.signal) {
                    let reason = format!("signal {} joins twice", e.signal);
                    return Err(IllegalEvent::new(envelope, reason));
                }
                self.signals.insert(
                    e.signal.clone(),
                    JoinedSignal {
                        joined: e.clone(),
                        at_ms,
                    },
                );
            }
            Kind::IncidentClassified(e) => self.classified(envelope, e)?,
            Kind::IncidentStageReached(e) => self.reached(envelope, e)?,
            Kind::RunLinked(e) => {
                if !self.runs.iter().any(|known| known.run == e.run) {
                    self.runs.push(e.clone());
                }
            }
            Kind::EvidenceSealed(e) => self.evidence.push(e.clone()),
            Kind::OutsideCounted(e) => self.counted = self.counted.saturating_add(e.further),
            Kind::SignalResolved(e) => {
                self.resolved.entry(e.signal.clone()).or_insert(at_ms);
            }
            Kind::IncidentHandedOver(e) => {
                self.owner = Some(Owner {
                    person: e.to.clone(),
                    by: e.by.clone(),
                    since_ms: at_ms,
                });
            }
            Kind::RegimeDecided(e) => self.obligations.decided(e),
            Kind::RegimeClockStarted(e) => self.obligations.clock_started(e),
            Kind::DutyMet(e) => self.obligations.duty_met(e),
            Kind::DutyWarned(e) => self.obligations.duty_warned(e),
            Kind::DutyMissed(e) => self.obligations.duty_missed(e),
            Kind::PostmortemRecorded(_)
            | Kind::PostmortemApproved(_)
            | Kind::ActionItemAdded(_)
            | Kind::ActionItemMoved(_)
            | Kind::ActionItemDone(_)
            | Kind::ActionItemChecked(_)
            | Kind::ActionItemDropped(_) => self
                .learning
                .apply(kind, at_ms)
                .map_err(|reason| IllegalEvent::new(envelope, reason))?,
            _ => {
                return Err(IllegalEvent::new(
                    envelope,
                    "an event of another stream in an incident's stream",
                ));
            }
        }
        Ok(())
    }
}

impl Incident {
    fn classified(
        &mut self,
        envelope: &Envelope,
        e: &IncidentClassified,
    ) -> Result<(), IllegalEvent> {
        let known_ms = self
            .classified
            .as_ref()
            .map_or(0, |c| c.compromised_since_ms);
        if moves_later(known_ms, e.compromised_since_ms) {
            let reason = format!(
                "the earliest possible compromise moves from {known_ms} to {}",
                e.compromised_since_ms
            );
            return Err(IllegalEvent::new(envelope, reason));
        }
        if let Some(person) = e.by.strip_prefix("person ") {
            self.classifiers.insert(person.to_owned());
        }
        self.classified = Some(e.clone());
        Ok(())
    }

    fn reached(
        &mut self,
        envelope: &Envelope,
        e: &IncidentStageReached,
    ) -> Result<(), IllegalEvent> {
        let stage = e.stage();
        if stage == IncidentStage::Unspecified {
            return Ok(()); // a stage of a newer version: not known to this one
        }
        if self
            .stage()
            .is_some_and(|now| i32::from(now) >= i32::from(stage))
        {
            let reason = format!("stage {} is reached after a later one", stage_name(stage));
            return Err(IllegalEvent::new(envelope, reason));
        }
        self.stages
            .push((stage, envelope.recorded_at_ms, e.reason.clone()));
        Ok(())
    }
}
