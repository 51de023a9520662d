//! A detector as the plan says it.

use std::collections::{BTreeMap, BTreeSet};

use super::measure::Measure;
use crate::finding::Place;
use crate::names::Role;

/// The detectors that are code: each judges single events and needs no numbers. The plan says who owns them.
pub const BUILT_IN: [&str; 11] = [
    "foreign-checkpoint",
    "unexplained-key-use",
    "key-use-not-shown",
    "silent-audit",
    "archive-damage",
    "key-failover",
    "key-pressure",
    "certificate-expiring",
    "event-heads",
    "verdict-regression",
    "vendor-outage",
];

/// The kinds of detectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DetectorKind {
    /// Code: an event that proves itself.
    Proven,
    /// An aggregate of a measure over a window crosses a limit.
    Threshold,
    /// So much, or so little, in a window.
    Rate,
    /// Far from the median of the buckets before, in median absolute deviations.
    RobustZ,
    /// Far from an exponentially weighted mean, in weighted mean deviations.
    Ewma,
    /// An error budget is spent too fast, over a long and a short window at once.
    BurnRate,
    /// Nothing came for so long.
    Absence,
    /// Each of one measure has one of another, in time.
    CrossCheck,
    /// A canary failed, was slow, or did not run.
    Probe,
    /// More errors after a release than before it.
    Release,
}

impl DetectorKind {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Proven,
        Self::Threshold,
        Self::Rate,
        Self::RobustZ,
        Self::Ewma,
        Self::BurnRate,
        Self::Absence,
        Self::CrossCheck,
        Self::Probe,
        Self::Release,
    ];

    /// The word in `detectors.yaml`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Threshold => "threshold",
            Self::Rate => "rate",
            Self::RobustZ => "robust-z",
            Self::Ewma => "ewma",
            Self::BurnRate => "burn-rate",
            Self::Absence => "absence",
            Self::CrossCheck => "cross-check",
            Self::Probe => "probe",
            Self::Release => "release",
        }
    }

    /// What it is, in a line.
    pub fn summary(self) -> &'static str {
        match self {
            Self::Proven => "Built in: an event that proves itself; only its owner is said here",
            Self::Threshold => "An aggregate of a measure over a window is above or below a limit",
            Self::Rate => "The sum of a measure over a window is above or below a limit",
            Self::RobustZ => {
                "A bucket lies far from the median of those before, in median absolute deviations"
            }
            Self::Ewma => {
                "A bucket lies far from the exponentially weighted mean, in weighted mean deviations"
            }
            Self::BurnRate => {
                "The error budget is spent too fast, over a long and a short window at once"
            }
            Self::Absence => "What came before has not come for so long",
            Self::CrossCheck => "Each of one measure has one of another within a time",
            Self::Probe => "The canary failed several times in a row, was slow, or did not run",
            Self::Release => "The share of errors after a release marker is higher than before",
        }
    }
}

/// How the values of a window become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// The last one.
    Last,
    /// All together.
    Sum,
    /// How many.
    Count,
    /// Their mean.
    Mean,
    /// The largest.
    Most,
}

impl Aggregate {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Last, Self::Sum, Self::Count, Self::Mean, Self::Most];

    /// The word in `detectors.yaml`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Sum => "sum",
            Self::Count => "count",
            Self::Mean => "mean",
            Self::Most => "most",
        }
    }
}

/// A limit, in thousandths of the measure's unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// More is a signal.
    Above(i64),
    /// Less is a signal.
    Below(i64),
}

/// Which baseline an anomaly is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnomalyMethod {
    /// Median and median absolute deviation: a few wild buckets do not move it.
    RobustZ,
    /// Exponentially weighted mean and mean absolute deviation; the newest bucket weighs so many thousandths.
    Ewma {
        /// 1 to 1000.
        weight: i64,
    },
}

/// A pair of windows of a burn rate. Both must burn at `factor`: the long one says that it matters, the short one that it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BurnWindow {
    /// The long window, milliseconds.
    pub long_ms: i64,
    /// The short window, milliseconds.
    pub short_ms: i64,
    /// How many times faster than the budget allows, thousandths.
    pub factor: i64,
}

/// When a detector concludes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// In code.
    Proven,
    /// Threshold and rate.
    Window {
        /// What.
        measure: Measure,
        /// How the window becomes one value.
        of: Aggregate,
        /// The window, milliseconds.
        window_ms: i64,
        /// The limit.
        limit: Bound,
        /// How many values the window must have.
        samples: u64,
    },
    /// Robust z-score and EWMA.
    Anomaly {
        /// What.
        measure: Measure,
        /// How a bucket becomes one value.
        of: Aggregate,
        /// The baseline.
        method: AnomalyMethod,
        /// A bucket's length, milliseconds.
        bucket_ms: i64,
        /// How many buckets are the baseline; nothing is concluded before half of them are there.
        buckets: u32,
        /// How many deviations, thousandths.
        score: i64,
        /// The least distance from the baseline that matters, thousandths of the unit.
        least: i64,
    },
    /// Multi-window burn rate.
    BurnRate {
        /// Everything.
        all: Measure,
        /// What of it was bad.
        bad: Measure,
        /// The share that may be bad, millionths.
        budget_ppm: i64,
        /// The pairs of windows; one of them is enough.
        windows: Vec<BurnWindow>,
        /// How many of `all` the long window must have.
        samples: u64,
    },
    /// Silence.
    Absence {
        /// What.
        measure: Measure,
        /// For how long, milliseconds.
        within_ms: i64,
    },
    /// Each has its other.
    CrossCheck {
        /// Each of these …
        each: Measure,
        /// … has one of these …
        needs: Measure,
        /// … within so many milliseconds …
        within_ms: i64,
        /// … but for so many.
        allowed: i64,
    },
    /// The canary.
    Probe {
        /// So many failures in a row.
        failures: u32,
        /// A canary that takes longer counts as failed, milliseconds.
        slower_ms: i64,
        /// For so long no canary ran, milliseconds.
        within_ms: i64,
    },
    /// After a release.
    Release {
        /// Everything.
        all: Measure,
        /// What of it was bad.
        bad: Measure,
        /// How long before and after the marker is compared, milliseconds.
        window_ms: i64,
        /// How many times the share before, thousandths.
        factor: i64,
        /// At least so many bad ones after it.
        least: i64,
    },
}

impl Rule {
    /// The measures that it looks at.
    pub fn measures(&self) -> Vec<Measure> {
        match self {
            Self::Proven => Vec::new(),
            Self::Window { measure, .. }
            | Self::Anomaly { measure, .. }
            | Self::Absence { measure, .. } => vec![*measure],
            Self::BurnRate { all, bad, .. } | Self::Release { all, bad, .. } => vec![*all, *bad],
            Self::CrossCheck { each, needs, .. } => vec![*each, *needs],
            Self::Probe { .. } => vec![
                Measure::Canaries,
                Measure::CanaryFailures,
                Measure::CanaryMs,
            ],
        }
    }
}

/// One detector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detector {
    /// Its name.
    pub name: String,
    /// What it says, in a line.
    pub title: String,
    /// The role that keeps it.
    pub owner: Role,
    /// Its kind.
    pub kind: DetectorKind,
    /// The class of its signals; empty for built-in ones, which know theirs.
    pub class: String,
    /// What its signals are about, with `{name}` for the log, node …; empty: the measure's own words, such as `log main`.
    pub about: String,
    /// Which logs, nodes …; empty: all.
    pub only: BTreeSet<String>,
    /// From how many percent of the limit on it is a near miss; 0: never.
    pub near: u32,
    /// For how long it says nothing more of the same after a signal, milliseconds.
    pub again_ms: i64,
    /// When it concludes.
    pub rule: Rule,
    /// Where it stands.
    pub place: Place,
}

impl Detector {
    /// Whether both say the same, wherever they stand in the file.
    pub fn same(&self, other: &Self) -> bool {
        let placed = Self {
            place: other.place,
            ..self.clone()
        };
        placed == *other
    }
}

/// What an outside source's labels mean: the first rule that matches says class and subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutsideRule {
    /// Labels that an alert must have; `*`: with any value.
    pub labels: BTreeMap<String, String>,
    /// The class of its signals.
    pub class: String,
    /// What they are about, with `{label}` for a label's value; empty: the source.
    pub about: String,
    /// Where it stands.
    pub place: Place,
}

impl OutsideRule {
    /// Whether an alert with these labels is meant.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(name, wanted)| {
            let value = labels.get(name);
            value.is_some_and(|value| wanted == "*" || wanted == value)
        })
    }

    /// What an alert with these labels is about.
    pub fn about(&self, labels: &BTreeMap<String, String>) -> String {
        // In one pass: braces in a value stand for themselves.
        let mut about = String::new();
        let mut rest = self.about.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            about.push_str(before);
            rest = after;
            if let Some((name, after)) = after.split_once('}') {
                about.push_str(labels.get(name).map_or("-", String::as_str));
                rest = after;
            } else {
                about.push('{');
            }
        }
        about.push_str(rest);
        about
    }
}

/// `detectors.yaml`.
#[derive(Clone, Debug)]
pub struct Detectors {
    pub(crate) version: u32,
    pub(crate) by_name: BTreeMap<String, Detector>,
    pub(crate) outside: Vec<OutsideRule>,
    pub(crate) text: String,
    pub(crate) digest: [u8; 32],
}

impl Detectors {
    /// The file's version, from 1.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The detectors, by name.
    pub fn detectors(&self) -> &BTreeMap<String, Detector> {
        &self.by_name
    }

    /// The detector of this name.
    pub fn detector(&self, name: &str) -> Option<&Detector> {
        self.by_name.get(name)
    }

    /// What labels of outside sources mean, in the order of the file.
    pub fn outside(&self) -> &[OutsideRule] {
        &self.outside
    }

    /// The file as it was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of the file, in hexadecimal.
    pub fn digest_hex(&self) -> String {
        crate::digest::hex(&self.digest)
    }
}

/// Thousandths as people write them: `14.4`, `2000`, `-0.5`.
pub fn show_thousandths(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let (whole, rest) = (value.unsigned_abs() / 1000, value.unsigned_abs() % 1000);
    if rest == 0 {
        return format!("{sign}{whole}");
    }
    let rest = format!("{rest:03}");
    format!("{sign}{whole}.{}", rest.trim_end_matches('0'))
}
