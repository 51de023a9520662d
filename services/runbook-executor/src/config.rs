//! The settings of the role.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::webhooks::{MAX_WEBHOOKS, Webhook};

/// Settings of the runbook executor. Unknown fields are refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How long a permit to use a sealing key lasts, milliseconds. The longest that an unreachable node can delay containment is this, plus the two below.
    pub permit_lifetime_ms: u64,
    /// The longest that a key call may take after its permit was checked, milliseconds.
    pub key_deadline_ms: u64,
    /// How far a node's `CLOCK_BOOTTIME` may drift from ours over a permit's life, milliseconds.
    pub drift_ms: u64,
    /// Where several executors share runs: how long one may act after it last said that it is there, milliseconds. One that says nothing is taken over from after this and
    /// `drift_ms`.
    pub lease_ms: u64,
    /// OpenSSH private key file (not encrypted) of the local trust root. Without it this role publishes no trust bundles.
    pub root_key: Option<PathBuf>,
    /// How long a trust bundle is valid, days.
    pub trust_valid_days: u32,
    /// How far the clocks of witnesses and verifiers may differ, seconds; goes into the trust bundle.
    pub clock_skew_s: u64,
    /// Other operators' witnesses and the quorum over them: a file in C2SP's tlog-policy format. Its `log` lines are not used.
    pub witness_policy: Option<PathBuf>,
    /// Who runs the witnesses of the policy, by the names that they have there; a witness that is not listed is its own operator.
    pub witness_operators: BTreeMap<String, String>,
    /// The time-stamping authorities whose time counts; `sealing.anchors.tsas` if empty.
    pub tsas: Vec<TsaRoots>,
    /// Folder of evidence bundles; `evidence` in the role's own folder if absent.
    pub evidence_dir: Option<PathBuf>,
    /// Folder of the evidence log; `evidence-log` in the role's own folder if absent. The event log's heads are kept in `heads` below it.
    pub evidence_log_dir: Option<PathBuf>,
    /// Folder of seal certificates with their keys; the installation's own if absent.
    pub seal_certificates: Option<PathBuf>,
    /// Whether the binding of a log to its seal certificate is renewed by itself when the log gets another key, where the certificate's key lies in that folder.
    pub renew_bindings: bool,
    /// How often the event log's heads are sealed in the evidence log if they changed, milliseconds. What is rewritten sooner after it was written goes unseen.
    pub heads_interval_ms: u64,
    /// How many steps of all runs may execute at once.
    pub max_running_steps: usize,
    /// What the actions `call-webhook` and `call-webhook-destructive` may call, by the names that runbooks use; at most 100.
    pub webhooks: BTreeMap<String, Webhook>,
}

/// A time-stamping authority that the trust bundle names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TsaRoots {
    /// What people call it.
    pub name: String,
    /// PEM file with the authorities above its certificate.
    pub roots: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            permit_lifetime_ms: 5_000,
            key_deadline_ms: 2_000,
            drift_ms: 250,
            lease_ms: 5_000,
            root_key: None,
            trust_valid_days: 30,
            clock_skew_s: 300,
            witness_policy: None,
            witness_operators: BTreeMap::new(),
            tsas: Vec::new(),
            evidence_dir: None,
            evidence_log_dir: None,
            seal_certificates: None,
            renew_bindings: true,
            heads_interval_ms: 60_000,
            max_running_steps: 64,
            webhooks: BTreeMap::new(),
        }
    }
}

/// A setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the setting {name} is {value}; {remedy}")]
pub struct ConfigError {
    /// The setting.
    pub name: String,
    /// Its value.
    pub value: String,
    /// What to write instead.
    pub remedy: &'static str,
}

impl Config {
    /// Checks every limit.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check(
            "permit_lifetime_ms",
            self.permit_lifetime_ms,
            (100..=600_000).contains(&self.permit_lifetime_ms),
            "use 100 to 600000",
        )?;
        check(
            "key_deadline_ms",
            self.key_deadline_ms,
            (10..=600_000).contains(&self.key_deadline_ms),
            "use 10 to 600000",
        )?;
        check(
            "drift_ms",
            self.drift_ms,
            self.drift_ms <= 60_000,
            "use at most 60000",
        )?;
        check(
            "lease_ms",
            self.lease_ms,
            (1_000..=60_000).contains(&self.lease_ms),
            "use 1000 to 60000",
        )?;
        check(
            "trust_valid_days",
            self.trust_valid_days.into(),
            (1..=3650).contains(&self.trust_valid_days),
            "use 1 to 3650",
        )?;
        check(
            "clock_skew_s",
            self.clock_skew_s,
            self.clock_skew_s <= 86_400,
            "use at most 86400",
        )?;
        check(
            "heads_interval_ms",
            self.heads_interval_ms,
            (10..=86_400_000).contains(&self.heads_interval_ms),
            "use 10 to 86400000",
        )?;
        let places = u64::try_from(self.max_running_steps).unwrap_or(u64::MAX);
        check(
            "max_running_steps",
            places,
            (1..=10_000).contains(&places),
            "use 1 to 10000",
        )?;
        let webhooks = u64::try_from(self.webhooks.len()).unwrap_or(u64::MAX);
        check(
            "webhooks",
            webhooks,
            self.webhooks.len() <= MAX_WEBHOOKS,
            "name at most 100",
        )?;
        self.webhooks
            .iter()
            .try_for_each(|(name, webhook)| webhook.validate(name))
    }
}

fn check(
    name: &'static str,
    value: u64,
    fits: bool,
    remedy: &'static str,
) -> Result<(), ConfigError> {
    if fits {
        Ok(())
    } else {
        Err(ConfigError {
            name: name.to_owned(),
            value: value.to_string(),
            remedy,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_wrong_settings_are_named() {
        assert_eq!(Config::default().validate(), Ok(()));
        let error = Config {
            permit_lifetime_ms: 1,
            ..Config::default()
        }
        .validate()
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the setting permit_lifetime_ms is 1; use 100 to 600000"
        );
        assert!(serde_json::from_str::<Config>(r#"{"permit_lifetime": 5}"#).is_err());
    }
}
