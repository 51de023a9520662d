//! Settings of the verification service.

use std::time::Duration;

use std::collections::BTreeMap;

use sealwarden_seal::note::{VerifierKey, Vkey};
use serde::{Deserialize, Serialize};

use crate::archive::{ArchiveConfig, check};
use crate::vendors::{self, VendorConfig};
use crate::verifiers::{self, VerifierConfig};

/// No witness serves more keys of other installations.
const MAX_GUESTS: usize = 1024;

/// Settings of the verification service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How many verifications, and how many requests to the witness, are worked on at once, 1 to 4096. More are answered with "busy".
    pub concurrency: usize,
    /// How long to wait for the newest events before a checkpoint without intent is judged, milliseconds, 50 to 30000.
    pub refresh_ms: u64,
    /// How many refused checkpoints of one origin are kept and reported, 1 to 4096. More are only counted: the first one proves it all.
    pub max_sightings_per_origin: usize,
    /// How long ago a directive may have been issued, milliseconds, 60000 to 604800000: a witness that was away still freezes.
    pub directive_max_age_ms: i64,
    /// Logs of other installations that this witness cosigns for: their verifier keys (C2SP vkeys, named like their origins). Of these it checks consistency only.
    pub witness_for: Vec<String>,
    /// Whether the witness also has an ML-DSA-44 key of the node's key provider, and cosigns with both. A key that was made once goes on to sign: a trust bundle may
    /// require it.
    pub post_quantum: bool,
    /// How far in the future a directive may have been issued, milliseconds, 0 to 3600000: clocks differ.
    pub clock_skew_ms: i64,
    /// The archives that this node writes and looks at again; another node must not name the same ones.
    pub archives: Vec<ArchiveConfig>,
    /// Verifiers that others run, to which archived documents are put.
    pub verifiers: Vec<VerifierConfig>,
    /// Vendors whose services this installation uses, and how they are probed.
    pub vendors: Vec<VendorConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            concurrency: 256,
            refresh_ms: 2_000,
            max_sightings_per_origin: 256,
            directive_max_age_ms: 24 * 3_600_000,
            witness_for: Vec::new(),
            post_quantum: false,
            clock_skew_ms: 60_000,
            archives: Vec::new(),
            verifiers: Vec::new(),
            vendors: Vec::new(),
        }
    }
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A number is out of bounds.
    #[error("verification.{field} is {found}; use {bounds}")]
    Bounds {
        /// The setting.
        field: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        bounds: &'static str,
    },
    /// An archive cannot be worked with.
    #[error("verification.archives[{at}]: {problem}")]
    Archive {
        /// Which one, counted from 0.
        at: usize,
        /// Why, and what to do.
        problem: String,
    },
    /// A verifier cannot be asked.
    #[error("verification.verifiers[{at}]: {problem}")]
    Verifier {
        /// Which one, counted from 0.
        at: usize,
        /// Why, and what to do.
        problem: String,
    },
    /// A vendor cannot be probed.
    #[error("verification.vendors[{at}]: {problem}")]
    Vendor {
        /// Which one, counted from 0.
        at: usize,
        /// Why, and what to do.
        problem: String,
    },
}

impl Config {
    /// Checks the bounds.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let size = |value: usize| i128::try_from(value).unwrap_or(i128::MAX);
        let checks: [(
            &'static str,
            i128,
            std::ops::RangeInclusive<i128>,
            &'static str,
        ); 5] = [
            ("concurrency", size(self.concurrency), 1..=4096, "1 to 4096"),
            (
                "refresh_ms",
                i128::from(self.refresh_ms),
                50..=30_000,
                "50 to 30000",
            ),
            (
                "max_sightings_per_origin",
                size(self.max_sightings_per_origin),
                1..=4096,
                "1 to 4096",
            ),
            (
                "directive_max_age_ms",
                i128::from(self.directive_max_age_ms),
                60_000..=604_800_000,
                "60000 to 604800000",
            ),
            (
                "clock_skew_ms",
                i128::from(self.clock_skew_ms),
                0..=3_600_000,
                "0 to 3600000",
            ),
        ];
        for (field, found, range, bounds) in checks {
            if !range.contains(&found) {
                return Err(ConfigError::Bounds {
                    field,
                    found: found.to_string(),
                    bounds,
                });
            }
        }
        self.guests()?;
        check(&self.archives).map_err(|(at, problem)| ConfigError::Archive { at, problem })?;
        let archives = self.archives.iter().map(|it| it.name.as_str()).collect();
        verifiers::check(&self.verifiers, &archives)
            .map_err(|(at, problem)| ConfigError::Verifier { at, problem })?;
        vendors::check(&self.vendors).map_err(|(at, problem)| ConfigError::Vendor { at, problem })
    }

    /// The keys of other installations' logs, by origin.
    pub(crate) fn guests(&self) -> Result<BTreeMap<String, Vec<Vkey>>, ConfigError> {
        let mut guests: BTreeMap<String, Vec<Vkey>> = BTreeMap::new();
        for text in &self.witness_for {
            let wrong = || ConfigError::Bounds {
                field: "witness_for",
                found: format!("{text:?}"),
                bounds: "verifier keys of logs (name+hash+key, type 01 or 06)",
            };
            let vkey: Vkey = text.parse().map_err(|_| wrong())?;
            if matches!(vkey.key(), VerifierKey::CosignatureV1(_)) {
                return Err(wrong());
            }
            guests.entry(vkey.name().to_owned()).or_default().push(vkey);
        }
        if self.witness_for.len() > MAX_GUESTS {
            return Err(ConfigError::Bounds {
                field: "witness_for",
                found: format!("{} keys", self.witness_for.len()),
                bounds: "at most 1024",
            });
        }
        Ok(guests)
    }

    pub(crate) fn refresh(&self) -> Duration {
        Duration::from_millis(self.refresh_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_bounds_and_bad_settings_are_named() {
        assert_eq!(Config::default().validate(), Ok(()));
        let error = Config {
            concurrency: 0,
            ..Config::default()
        }
        .validate()
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "verification.concurrency is 0; use 1 to 4096"
        );
        assert!(
            Config {
                clock_skew_ms: -1,
                ..Config::default()
            }
            .validate()
            .is_err()
        );
    }
}
