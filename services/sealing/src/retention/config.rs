//! Settings: how long records are kept, and who may say otherwise.

use crate::config::Config;
use crate::tenants::TenantLimits;
use anyhow::{Context as _, ensure};
use jiff::{Span, Timestamp, Unit, tz::TimeZone};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// A tenant's word against what its jurisdiction says.
const NEVER: &str = "never";
const MAX_YEARS: f64 = 200.0;

/// How long records are kept. By default nothing is erased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionSettings {
    /// Periods by jurisdiction, which tenants name.
    pub jurisdictions: BTreeMap<String, Jurisdiction>,
    /// Names of the callers (in their certificates) that may erase, set holds and release them; empty: every operator.
    pub officers: Vec<String>,
    /// How often it is looked for records whose time is over, seconds.
    pub every_s: u64,
    /// How many leaves the schedule erases a second at most.
    pub per_second: u32,
}

impl Default for RetentionSettings {
    fn default() -> Self {
        Self {
            jurisdictions: BTreeMap::new(),
            officers: Vec::new(),
            every_s: 3_600,
            per_second: 1_000,
        }
    }
}

/// What holds in one jurisdiction. Periods are calendar spans in UTC, such as `90 days` or `10 years`; empty: none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Jurisdiction {
    /// After this long since it was sealed a record is erased by itself.
    pub retention: String,
    /// Before this long since it was sealed a record is erased by nobody.
    pub keep_at_least: String,
}

impl RetentionSettings {
    pub(crate) fn validate(&self, config: &Config) -> anyhow::Result<()> {
        ensure!(
            (1..=31 * 86_400).contains(&self.every_s),
            "retention.every_s {} is not from 1 to 2678400",
            self.every_s
        );
        ensure!(
            (1..=1_000_000).contains(&self.per_second),
            "retention.per_second {} is not from 1 to 1000000",
            self.per_second
        );
        for (name, jurisdiction) in &self.jurisdictions {
            let at = |field| format!("retention.jurisdictions.{name}.{field}");
            let erase = period(&jurisdiction.retention).with_context(|| at("retention"))?;
            let keep = period(&jurisdiction.keep_at_least).with_context(|| at("keep_at_least"))?;
            if let (Some(erase), Some(keep)) = (erase, keep) {
                let now_ms = Timestamp::UNIX_EPOCH.as_millisecond();
                ensure!(
                    before(now_ms, &erase) <= before(now_ms, &keep),
                    "retention.jurisdictions.{name}: retention ({}) is shorter than keep_at_least ({})",
                    jurisdiction.retention,
                    jurisdiction.keep_at_least
                );
            }
        }
        let default = ("tenant_defaults", &config.tenant_defaults);
        let tenants = config.tenants.iter().map(|(name, it)| (name.as_str(), it));
        for (name, tenant) in tenants.chain([default]) {
            let wanted = &tenant.jurisdiction;
            ensure!(
                wanted.is_empty() || self.jurisdictions.contains_key(wanted),
                "tenants.{name}: jurisdiction {wanted:?} is none of `retention.jurisdictions`"
            );
            if tenant.retention != NEVER {
                period(&tenant.retention).with_context(|| format!("tenants.{name}.retention"))?;
            }
        }
        Ok(())
    }

    pub(crate) fn every(&self) -> Duration {
        Duration::from_secs(self.every_s)
    }

    /// After how long a tenant's records are erased by themselves, and why.
    pub(crate) fn of(&self, tenant: &TenantLimits) -> Option<(Span, String)> {
        let jurisdiction = self.jurisdictions.get(&tenant.jurisdiction);
        let (text, whence) = match (tenant.retention.as_str(), jurisdiction) {
            (NEVER, _) | ("", None) => return None,
            ("", Some(it)) => {
                let whence = format!(" (jurisdiction {})", tenant.jurisdiction);
                (it.retention.as_str(), whence)
            }
            (text, _) => (text, String::new()),
        };
        let span = period(text).ok().flatten()?;
        Some((span, format!("retention {text}{whence}")))
    }

    /// How long a tenant's records have to be kept, and as the settings write it.
    pub(crate) fn least(&self, tenant: &TenantLimits) -> Option<(Span, &str)> {
        let jurisdiction = self.jurisdictions.get(&tenant.jurisdiction)?;
        let span = period(&jurisdiction.keep_at_least).ok().flatten()?;
        Some((span, &jurisdiction.keep_at_least))
    }
}

/// Reads a period; none where nothing is said.
fn period(text: &str) -> anyhow::Result<Option<Span>> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong =
        || format!("{text:?} is no period: write whole days or years, as `90 days` or `10 years`");
    let span: Span = text.parse().with_context(wrong)?;
    let dates = Span::new()
        .years(span.get_years())
        .months(span.get_months())
        .weeks(span.get_weeks())
        .days(span.get_days());
    ensure!(span.fieldwise() == dates.fieldwise(), wrong());
    let epoch = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    let years = span.total((Unit::Year, &epoch)).with_context(wrong)?;
    ensure!(years > 0.0, wrong());
    ensure!(
        years <= MAX_YEARS,
        "{text:?} is longer than {MAX_YEARS} years"
    );
    Ok(Some(span))
}

/// The moment this long before `now_ms`, Unix milliseconds; the beginning of time where that cannot be said.
pub(crate) fn before(now_ms: i64, period: &Span) -> i64 {
    let now = Timestamp::from_millisecond(now_ms).ok();
    let then = now.and_then(|now| now.to_zoned(TimeZone::UTC).checked_sub(*period).ok());
    then.map_or(i64::MIN, |then| then.timestamp().as_millisecond())
}

/// The moment this long after `then_ms`, Unix milliseconds.
pub(crate) fn after(then_ms: i64, period: &Span) -> i64 {
    let then = Timestamp::from_millisecond(then_ms).ok();
    let later = then.and_then(|then| then.to_zoned(TimeZone::UTC).checked_add(*period).ok());
    later.map_or(i64::MAX, |later| later.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn periods_follow_the_calendar() {
        let years = period("10 years").unwrap().unwrap();
        let now = ms("2026-02-28T12:00:00Z");
        assert_eq!(before(now, &years), ms("2016-02-28T12:00:00Z"));
        let days = period("90 days").unwrap().unwrap();
        assert_eq!(before(now, &days), ms("2025-11-30T12:00:00Z"));
        assert_eq!(
            after(ms("2016-02-29T00:00:00Z"), &years),
            ms("2026-02-28T00:00:00Z")
        );
    }

    #[test]
    fn what_is_no_period_of_whole_days_is_refused() {
        for text in [
            "ten years",
            "10",
            "-1 days",
            "0 days",
            "36 hours",
            "1000 years",
            "1 day 2h",
        ] {
            assert!(period(text).is_err(), "{text}");
        }
        assert_eq!(period("").unwrap().map(|_| ()), None);
    }

    #[test]
    fn a_tenant_overrides_its_jurisdiction_and_mistakes_are_named() {
        let mut config = Config::default();
        let eu = Jurisdiction {
            retention: "10 years".to_owned(),
            keep_at_least: "6 years".to_owned(),
        };
        config.retention.jurisdictions.insert("eu".to_owned(), eu);
        let tenant = |retention: &str| TenantLimits {
            jurisdiction: "eu".to_owned(),
            retention: retention.to_owned(),
            ..TenantLimits::default()
        };
        let said = |retention| config.retention.of(&tenant(retention)).map(|it| it.1);
        assert_eq!(said("").unwrap(), "retention 10 years (jurisdiction eu)");
        assert_eq!(said("30 years").unwrap(), "retention 30 years");
        assert_eq!(said("never"), None);
        assert!(config.retention.of(&TenantLimits::default()).is_none());
        config.validate().unwrap();
        let mut wrong = config.clone();
        wrong.tenants.insert("acme".to_owned(), tenant("soon"));
        let error = format!("{:#}", wrong.validate().unwrap_err());
        assert!(error.contains("tenants.acme.retention"), "{error}");
        let mut wrong = config.clone();
        let mut lost = tenant("");
        lost.jurisdiction = "mars".to_owned();
        wrong.tenants.insert("acme".to_owned(), lost);
        assert!(format!("{:#}", wrong.validate().unwrap_err()).contains("mars"));
        let mut wrong = config.clone();
        let short = &mut wrong.retention.jurisdictions;
        short.get_mut("eu").unwrap().retention = "1 year".to_owned();
        assert!(format!("{:#}", wrong.validate().unwrap_err()).contains("shorter"));
    }
}
