//! How long incidents took, by class and month.
//!
//! Times are means over the incidents that reached the point, in whole milliseconds:
//! *detect* (MTTD), *contain* (MTTC) and *recover* (MTTR) count from the first bad event, like the plan's targets; *acknowledge* (MTTA) counts from the
//! opening of the incident to the first thing that a person did about it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// What counts of one incident. Times are spans in milliseconds; `None` where the point is not reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Case {
    /// Its id.
    pub incident: String,
    /// Its class; empty while nobody has classified it.
    pub class: String,
    /// When it was opened, Unix milliseconds: its month.
    pub opened_at_ms: i64,
    /// From the first bad event to the opening or the hold.
    pub detect_ms: Option<i64>,
    /// From the opening to the first thing that a person did.
    pub acknowledge_ms: Option<i64>,
    /// From the first bad event to proven containment.
    pub contain_ms: Option<i64>,
    /// From the first bad event to the closing.
    pub recover_ms: Option<i64>,
    /// Targets of the plan: how many were met of those that are decided.
    pub targets: Share,
    /// Seals that the incident affected and that verify again, of all that it affected.
    pub revalidated: Share,
    /// Seals or documents of which the validation after recovery said that they do not verify.
    pub failures: u64,
    /// Its action items.
    pub items: ItemCount,
}

/// So many of so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// So many.
    pub of: u64,
    /// Of so many.
    pub all: u64,
}

impl Share {
    /// In percent, rounded down; `None` of nothing.
    pub fn percent(self) -> Option<u64> {
        self.of.saturating_mul(100).checked_div(self.all)
    }

    fn add(&mut self, other: Self) {
        self.of = self.of.saturating_add(other.of);
        self.all = self.all.saturating_add(other.all);
    }
}

/// Action items, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ItemCount {
    /// Done and looked at by somebody else, of all that were not dropped.
    pub checked: Share,
    /// Not done by their date.
    pub overdue: u64,
}

/// A mean over incidents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    sum_ms: i64,
    /// How many incidents it is the mean of.
    pub count: u32,
}

impl Time {
    fn add(&mut self, ms: Option<i64>) {
        if let Some(ms) = ms {
            self.sum_ms = self.sum_ms.saturating_add(ms.max(0));
            self.count = self.count.saturating_add(1);
        }
    }

    /// The mean in milliseconds; `None` if no incident reached the point.
    pub fn mean_ms(self) -> Option<i64> {
        self.sum_ms.checked_div(i64::from(self.count))
    }
}

/// The incidents of one class in one month.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// `2026-11`, in UTC.
    pub month: String,
    /// The class; `unclassified` where nobody said.
    pub class: String,
    /// How many incidents.
    pub incidents: u32,
    /// How many of them are not closed.
    pub open: u32,
    /// Mean time to detect.
    pub detect: Time,
    /// Mean time to acknowledge.
    pub acknowledge: Time,
    /// Mean time to contain.
    pub contain: Time,
    /// Mean time to recover.
    pub recover: Time,
    /// Targets met of those that are decided.
    pub targets: Share,
    /// Affected seals that verify again, of all affected ones.
    pub revalidated: Share,
    /// What did not verify after recovery.
    pub failures: u64,
    /// Action items.
    pub items: ItemCount,
}

impl Row {
    fn add(&mut self, case: &Case) {
        self.incidents = self.incidents.saturating_add(1);
        self.open = self
            .open
            .saturating_add(u32::from(case.recover_ms.is_none()));
        self.detect.add(case.detect_ms);
        self.acknowledge.add(case.acknowledge_ms);
        self.contain.add(case.contain_ms);
        self.recover.add(case.recover_ms);
        self.targets.add(case.targets);
        self.revalidated.add(case.revalidated);
        self.failures = self.failures.saturating_add(case.failures);
        self.items.checked.add(case.items.checked);
        self.items.overdue = self.items.overdue.saturating_add(case.items.overdue);
    }
}

/// One row a month and class, in this order.
pub fn rows(cases: &[Case]) -> Vec<Row> {
    let mut rows: BTreeMap<(String, String), Row> = BTreeMap::new();
    for case in cases {
        let month = month(case.opened_at_ms);
        let class = if case.class.is_empty() {
            "unclassified".to_owned()
        } else {
            case.class.clone()
        };
        let row = rows
            .entry((month.clone(), class.clone()))
            .or_insert_with(|| Row {
                month,
                class,
                ..Row::default()
            });
        row.add(case);
    }
    rows.into_values().collect()
}

fn month(at_ms: i64) -> String {
    Timestamp::from_millisecond(at_ms).map_or_else(
        |_| "unknown".to_owned(),
        |at| {
            at.to_zoned(TimeZone::UTC)
                .date()
                .strftime("%Y-%m")
                .to_string()
        },
    )
}
