//! Regimes and their duties, as `regimes.yaml` says them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::civil::Date;

use super::calendar::Calendar;
use super::period::Period;
use crate::digest::hex;
use crate::finding::Place;
use crate::plan::IncidentSeverity;

/// `regimes.yaml`: calendars, and the regimes under which the organisation stands.
#[derive(Clone, Debug)]
pub struct Regimes {
    pub(crate) version: u32,
    pub(crate) calendars: BTreeMap<String, Calendar>,
    pub(crate) by_name: BTreeMap<String, Regime>,
    pub(crate) digest: [u8; 32],
}

/// A law, regulation or contract that asks to tell somebody.
#[derive(Clone, Debug)]
pub struct Regime {
    /// Its name, such as `nis2`.
    pub name: String,
    /// Its title with article, as people cite it.
    pub title: String,
    /// Where the text stands.
    pub source: String,
    /// The day on which the source was read.
    pub as_of: Date,
    /// Whether what stands here was checked against the source.
    pub checked: bool,
    /// Which incidents it may concern.
    pub trigger: RegimeTrigger,
    /// The name of the calendar by which its days run.
    pub calendar: String,
    /// Its duties by name, each after those whose being met starts its clock.
    pub duties: Vec<Duty>,
    /// Where it stands in the file.
    pub place: Place,
}

/// Which incidents a regime may concern. Whether one does is decided by people; until they say no, its clocks run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegimeTrigger {
    /// What must be so, in the law's words.
    pub says: String,
    /// The plan's classes that it may concern; empty is all of them.
    pub classes: BTreeSet<String>,
    /// The least severity that it may concern.
    pub severity: IncidentSeverity,
}

/// Something that a regime asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duty {
    /// Its name inside the regime, such as `early-warning`.
    pub name: String,
    /// What is to be told, in a line.
    pub title: String,
    /// Who is told.
    pub told: Vec<String>,
    /// When it is due; the earliest of them counts.
    pub limits: Vec<Limit>,
}

/// A period that runs from an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What starts it.
    pub clock: Clock,
    /// How long it runs.
    pub within: Period,
}

/// What starts a period.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clock {
    /// Somebody became aware of it: the incident was opened.
    Aware,
    /// The incident was classified for the first time.
    Classified,
    /// A person determined that it is material.
    Material,
    /// The fix is there: the incident was revalidated.
    Fixed,
    /// Another duty of the same regime was met.
    Met(String),
}

impl Clock {
    /// Reads `aware`, `classified`, `material`, `fixed` or `met <duty>`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "aware" => Some(Self::Aware),
            "classified" => Some(Self::Classified),
            "material" => Some(Self::Material),
            "fixed" => Some(Self::Fixed),
            other => other
                .strip_prefix("met ")
                .filter(|duty| crate::names::is_name(duty))
                .map(|duty| Self::Met(duty.to_owned())),
        }
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aware => f.write_str("aware"),
            Self::Classified => f.write_str("classified"),
            Self::Material => f.write_str("material"),
            Self::Fixed => f.write_str("fixed"),
            Self::Met(duty) => write!(f, "met {duty}"),
        }
    }
}

impl Regimes {
    /// The data's version, from 1.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The regimes, by name.
    pub fn regimes(&self) -> &BTreeMap<String, Regime> {
        &self.by_name
    }

    /// The regime of this name.
    pub fn regime(&self, name: &str) -> Option<&Regime> {
        self.by_name.get(name)
    }

    /// The calendars, by name.
    pub fn calendars(&self) -> &BTreeMap<String, Calendar> {
        &self.calendars
    }

    /// The calendar by which a regime's days run.
    pub fn calendar_of(&self, regime: &Regime) -> Option<&Calendar> {
        self.calendars.get(&regime.calendar)
    }

    /// The regimes that may concern an incident of this class and severity.
    pub fn concerned<'a>(
        &'a self,
        class: &'a str,
        severity: IncidentSeverity,
    ) -> impl Iterator<Item = &'a Regime> {
        self.by_name
            .values()
            .filter(move |regime| regime.trigger.concerns(class, severity))
    }

    /// SHA-256 of the bytes of `regimes.yaml`, in hexadecimal.
    pub fn digest_hex(&self) -> String {
        hex(&self.digest)
    }
}

impl RegimeTrigger {
    /// Whether it may concern an incident of this class and severity.
    pub fn concerns(&self, class: &str, severity: IncidentSeverity) -> bool {
        // The worst severity comes first.
        severity <= self.severity && (self.classes.is_empty() || self.classes.contains(class))
    }
}
