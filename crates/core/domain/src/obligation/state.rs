//! What people decided and what was said, folded.

use std::collections::BTreeMap;

use sealwarden_wire::event::v1::{
    DutyMet, DutyMissed, DutyWarned, RegimeClockStarted, RegimeDecided,
};

/// Duties of one incident, by regime.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Obligations {
    /// Regimes of which something is recorded.
    pub regimes: BTreeMap<String, RegimeState>,
}

/// What is recorded of one regime.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RegimeState {
    /// The latest decision whether it concerns the incident.
    pub decided: Option<RegimeDecided>,
    /// Clocks that people started, Unix milliseconds.
    pub clocks: BTreeMap<String, i64>,
    /// Duties that were met, in the order in which that was recorded.
    pub met: BTreeMap<String, Vec<Met>>,
    /// By duty: the deadline and the highest share of its time, in percent, of which was warned.
    pub warned: BTreeMap<String, (i64, u32)>,
    /// By duty: the deadline that was missed.
    pub missed: BTreeMap<String, i64>,
}

/// One time at which a duty was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Met {
    /// When they were told, Unix milliseconds.
    pub at_ms: i64,
    /// When it was due, Unix milliseconds; 0 if no clock of it ran.
    pub due_at_ms: i64,
    /// Where it can be found again.
    pub reference: String,
    /// Who says so.
    pub by: String,
}

impl Obligations {
    /// What is recorded of a regime.
    pub fn regime(&self, name: &str) -> Option<&RegimeState> {
        self.regimes.get(name)
    }

    fn entry(&mut self, name: &str) -> &mut RegimeState {
        self.regimes.entry(name.to_owned()).or_default()
    }

    pub(crate) fn decided(&mut self, e: &RegimeDecided) {
        self.entry(&e.regime).decided = Some(e.clone());
    }

    pub(crate) fn clock_started(&mut self, e: &RegimeClockStarted) {
        self.entry(&e.regime)
            .clocks
            .insert(e.clock.clone(), e.at_ms);
    }

    pub(crate) fn duty_met(&mut self, e: &DutyMet) {
        let met = Met {
            at_ms: e.at_ms,
            due_at_ms: e.due_at_ms,
            reference: e.reference.clone(),
            by: e.by.clone(),
        };
        self.entry(&e.regime)
            .met
            .entry(e.duty.clone())
            .or_default()
            .push(met);
    }

    pub(crate) fn duty_warned(&mut self, e: &DutyWarned) {
        self.entry(&e.regime)
            .warned
            .insert(e.duty.clone(), (e.due_at_ms, e.percent));
    }

    pub(crate) fn duty_missed(&mut self, e: &DutyMissed) {
        self.entry(&e.regime)
            .missed
            .insert(e.duty.clone(), e.due_at_ms);
    }
}

impl RegimeState {
    /// Whether a person said that the regime does not concern the incident.
    pub fn is_ruled_out(&self) -> bool {
        self.decided.as_ref().is_some_and(|d| !d.applies)
    }

    /// The first time at which a duty was met: what counts for being in time.
    pub fn first_met(&self, duty: &str) -> Option<&Met> {
        self.met.get(duty)?.iter().min_by_key(|met| met.at_ms)
    }

    /// The latest time at which a duty was met: what starts the clocks that follow it.
    pub fn latest_met_ms(&self, duty: &str) -> Option<i64> {
        self.met.get(duty)?.iter().map(|met| met.at_ms).max()
    }
}
