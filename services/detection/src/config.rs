//! Settings of the detection service.

use std::time::Duration;

use serde::{Deserialize, Serialize};

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
}

impl Default for Config {
    fn default() -> Self {
        Self {
            report_wait_ms: 10_000,
            clock_skew_ms: 60_000,
            certificate_warn_days: 30,
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
        Ok(())
    }

    /// How long before the end of a seal certificate, milliseconds; none: never.
    pub(crate) fn certificate_warn_ms(&self) -> Option<i64> {
        let days = i64::from(self.certificate_warn_days);
        (days > 0).then(|| days.saturating_mul(24 * 3_600_000))
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
    }
}
