//! Settings of the detection service.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use sealwarden_channels::{ChannelSettings, WrongSetting};
use sealwarden_domain::communication::Retry;
use serde::{Deserialize, Serialize};

use crate::outside::{BadSource, OutsideSource};

/// Settings of the detection service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long a report waits until its signal has joined an incident, milliseconds, 100 to 60000.
    pub report_wait_ms: u64,
    /// How far in the future a reported time may lie, milliseconds, at most 3600000: clocks differ.
    pub clock_skew_ms: i64,
    /// How many days before a log's seal certificate, or its binding, ends there is a signal, 0 to 3650; 0: never.
    pub certificate_warn_days: u32,
    /// Addresses of the plan's channels, by their names.
    pub channels: BTreeMap<String, ChannelSettings>,
    /// How people are told.
    pub telling: Telling,
    /// Who may report over HTTP, by name; without any there is no such way in.
    pub outside: BTreeMap<String, OutsideSource>,
}

/// How often and how fast people are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telling {
    /// Attempts of each delivery, 1 to 20.
    pub attempts: u32,
    /// The pause after the first attempt, milliseconds, 10 to 3600000; each further one doubles it, and is up to a half longer by chance.
    pub first_pause_ms: i64,
    /// The longest pause, milliseconds, up to 86400000.
    pub last_pause_ms: i64,
    /// The pause between two messages on one channel, milliseconds, at most 60000. What comes due meanwhile is told together.
    pub gap_ms: u64,
    /// How long an incident may go on changing before it is told, milliseconds, at most 10000: what happens at once is one message.
    pub settle_ms: u64,
}

impl Default for Telling {
    fn default() -> Self {
        Self {
            attempts: 8,
            first_pause_ms: 2000,
            last_pause_ms: 300_000,
            gap_ms: 1000,
            settle_ms: 300,
        }
    }
}

impl Telling {
    fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |name, value: String, bounds| Err(ConfigError::Telling(name, value, bounds));
        if !(1..=20).contains(&self.attempts) {
            return wrong("attempts", self.attempts.to_string(), "1 to 20");
        }
        if !(10..=3_600_000).contains(&self.first_pause_ms) {
            let value = self.first_pause_ms.to_string();
            return wrong("first_pause_ms", value, "10 to 3600000");
        }
        if !(self.first_pause_ms..=86_400_000).contains(&self.last_pause_ms) {
            let value = self.last_pause_ms.to_string();
            return wrong("last_pause_ms", value, "first_pause_ms to 86400000");
        }
        if self.gap_ms > 60_000 {
            return wrong("gap_ms", self.gap_ms.to_string(), "0 to 60000");
        }
        if self.settle_ms > 10_000 {
            return wrong("settle_ms", self.settle_ms.to_string(), "0 to 10000");
        }
        Ok(())
    }

    pub(crate) fn retry(&self) -> Retry {
        Retry {
            attempts: self.attempts,
            first_ms: self.first_pause_ms,
            last_ms: self.last_pause_ms,
        }
    }

    pub(crate) fn settle_ms(&self) -> i64 {
        i64::try_from(self.settle_ms).unwrap_or(i64::MAX)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            report_wait_ms: 10_000,
            clock_skew_ms: 60_000,
            certificate_warn_days: 30,
            channels: BTreeMap::new(),
            telling: Telling::default(),
            outside: BTreeMap::new(),
        }
    }
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The wait is out of bounds.
    #[error("detection.report_wait_ms is {0}; use 100 to 60000")]
    ReportWait(u64),
    /// The skew is out of bounds.
    #[error("detection.clock_skew_ms is {0}; use 0 to 3600000")]
    ClockSkew(i64),
    /// The warning is out of bounds.
    #[error("detection.certificate_warn_days is {0}; use 0 (never) to 3650")]
    CertificateWarn(u32),
    /// How people are told is out of bounds.
    #[error("detection.telling.{0} is {1}; use {2}")]
    Telling(&'static str, String, &'static str),
    /// An outside source cannot be used.
    #[error(transparent)]
    Outside(#[from] BadSource),
    /// A channel's address cannot be used.
    #[error("detection.channels.{0}: {1}")]
    Channel(String, WrongSetting),
}

impl Config {
    /// Checks the bounds.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !(100..=60_000).contains(&self.report_wait_ms) {
            return Err(ConfigError::ReportWait(self.report_wait_ms));
        }
        if !(0..=3_600_000).contains(&self.clock_skew_ms) {
            return Err(ConfigError::ClockSkew(self.clock_skew_ms));
        }
        if self.certificate_warn_days > 3650 {
            return Err(ConfigError::CertificateWarn(self.certificate_warn_days));
        }
        self.telling.validate()?;
        crate::outside::validate(&self.outside)?;
        for (name, channel) in &self.channels {
            let wrong = |error| ConfigError::Channel(name.clone(), error);
            channel.validate().map_err(wrong)?;
        }
        Ok(())
    }

    /// How long before the end of a seal certificate, milliseconds; none: never.
    pub(crate) fn certificate_warn_ms(&self) -> Option<i64> {
        let days = i64::from(self.certificate_warn_days);
        (days > 0).then(|| days.saturating_mul(24 * 3_600_000))
    }

    /// Makes the paths in it absolute.
    pub fn resolve_paths(&mut self, folder: &Path) {
        for channel in self.channels.values_mut() {
            channel.resolve_paths(folder);
        }
        for source in self.outside.values_mut() {
            source.token_file = folder.join(&source.token_file);
        }
    }

    pub(crate) fn report_wait(&self) -> Duration {
        Duration::from_millis(self.report_wait_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_bounds_and_bad_settings_are_named() {
        assert_eq!(Config::default().validate(), Ok(()));
        let bad = Config {
            report_wait_ms: 1,
            ..Config::default()
        };
        assert_eq!(bad.validate(), Err(ConfigError::ReportWait(1)));
        let bad = Config {
            clock_skew_ms: -1,
            ..Config::default()
        };
        assert_eq!(bad.validate(), Err(ConfigError::ClockSkew(-1)));
        let bad = Config {
            certificate_warn_days: 3651,
            ..Config::default()
        };
        assert_eq!(bad.validate(), Err(ConfigError::CertificateWarn(3651)));
        let telling = |change: fn(&mut Telling)| {
            let mut config = Config::default();
            change(&mut config.telling);
            config.validate().unwrap_err().to_string()
        };
        assert!(telling(|it| it.attempts = 0).contains("telling.attempts is 0; use 1 to 20"));
        assert!(telling(|it| it.last_pause_ms = 1).contains("telling.last_pause_ms is 1"));
        assert!(telling(|it| it.gap_ms = 60_001).contains("telling.gap_ms"));
        assert!(telling(|it| it.settle_ms = 10_001).contains("telling.settle_ms"));
    }
}
