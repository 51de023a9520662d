//! What root keys sign.

use super::{Roots, TrustError};
use crate::checkpoint::validate_origin;
use crate::merkle::Hash;
use crate::note::{VerifierKey, Vkey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The payload's `format`.
pub const FORMAT: &str = "sealwarden-trust/1";
const MAX_LOGS: usize = 1024;
const MAX_WITNESSES: usize = 64;
const MAX_NAME_BYTES: usize = 128;
/// A larger skew would let a witness's time say nothing.
const MAX_CLOCK_SKEW_S: u64 = 86_400;
/// The host under which drills name their logs, reserved by RFC 2606.
const DRILL_HOST: &str = "drill.invalid";

/// Is this the real thing or an exercise?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Real documents.
    Production,
    /// An exercise: its origins are under `drill.invalid`, its signatures have namespaces of their own.
    Drill,
}

impl Environment {
    /// `production` or `drill`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Drill => "drill",
        }
    }

    /// The SSHSIG namespace of root signatures.
    pub fn trust_namespace(self) -> &'static str {
        match self {
            Self::Production => "sealwarden-trust",
            Self::Drill => "sealwarden-trust-drill",
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        [Self::Production, Self::Drill]
            .into_iter()
            .find(|environment| environment.as_str() == text)
            .ok_or_else(|| format!("{text:?} is not an environment; production and drill are"))
    }
}

/// What a log is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogState {
    /// It grows.
    Active,
    /// It ended in good order.
    Retired,
    /// It was stopped at `frozen_at` after an incident.
    Frozen,
}

/// The last checkpoint of a log that still counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrozenAt {
    /// Its size.
    pub size: u64,
    /// Its root, in hexadecimal.
    pub root: Hash,
}

/// A log and the keys that may sign its checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogEntry {
    /// The log's identity.
    pub origin: String,
    /// Its keys, each named like the origin.
    pub vkeys: Vec<Vkey>,
    /// What it is doing.
    pub state: LogState,
    /// The earliest time at which a key of it may have been in other hands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compromised_since: Option<Timestamp>,
    /// Where a frozen log ends; required for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen_at: Option<FrozenAt>,
    /// The log that goes on in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor: Option<String>,
}

/// A witness whose cosignatures count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessEntry {
    /// What people call it.
    pub name: String,
    /// Its cosignature key.
    pub vkey: Vkey,
    /// Who runs it.
    pub operator: String,
    /// Is it run by the installation itself? Only other people's witnesses date a seal before a compromise.
    pub local: bool,
}

/// How many of the witnesses must have cosigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quorum {
    /// The number of distinct witnesses; 0 asks for none.
    pub count: u32,
}

/// Which logs, keys and witnesses count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payload {
    /// [`FORMAT`].
    pub format: String,
    /// The installation's name.
    pub installation: String,
    /// Production or drill.
    pub environment: Environment,
    /// Counts up from 1 with each payload.
    pub version: u64,
    /// When it was written.
    pub issued: Timestamp,
    /// From when on it turns `valid` into `suspect`.
    pub expires: Timestamp,
    /// SHA-256 of the previous version's payload text, in hexadecimal; none for version 1 alone.
    pub previous: Option<Hash>,
    /// The root keys.
    pub roots: Roots,
    /// The online key that may add suspensions (Ed25519).
    pub signing_key: Vkey,
    /// The logs.
    pub logs: Vec<LogEntry>,
    /// The witnesses.
    pub witnesses: Vec<WitnessEntry>,
    /// How many of them must have cosigned.
    pub quorum: Quorum,
    /// How far clocks may differ, in seconds.
    pub clock_skew_s: u64,
}

impl Payload {
    /// Reads and checks a payload's text.
    pub fn parse(text: &str) -> Result<Self, TrustError> {
        let payload: Self =
            serde_json::from_str(text).map_err(|error| TrustError::Payload(error.to_string()))?;
        payload.validate()?;
        Ok(payload)
    }

    /// The text that root keys sign.
    pub fn to_json(&self) -> Result<String, TrustError> {
        self.validate()?;
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|error| TrustError::Payload(error.to_string()))?;
        text.push('\n');
        Ok(text)
    }

    /// Checks every rule that does not need the time.
    pub fn validate(&self) -> Result<(), TrustError> {
        rule(self.format == FORMAT, || {
            format!(
                "its format is {:?}, this program reads {FORMAT}",
                self.format
            )
        })?;
        check_name("installation", &self.installation)?;
        rule(self.version > 0, || "versions count from 1".to_owned())?;
        rule((self.version == 1) == self.previous.is_none(), || {
            format!(
                "version {} must name the payload before it, and only version 1 has none",
                self.version
            )
        })?;
        rule(self.issued < self.expires, || {
            format!(
                "it expires at {}, not after it was issued at {}",
                self.expires, self.issued
            )
        })?;
        rule(self.clock_skew_s <= MAX_CLOCK_SKEW_S, || {
            format!(
                "a clock skew of {} s is above {MAX_CLOCK_SKEW_S}",
                self.clock_skew_s
            )
        })?;
        self.roots.validate()?;
        rule(is_ed25519(&self.signing_key), || {
            format!(
                "the signing key {} is not an Ed25519 key (type 01)",
                self.signing_key
            )
        })?;
        self.validate_logs()?;
        self.validate_witnesses()
    }

    fn validate_logs(&self) -> Result<(), TrustError> {
        rule(self.logs.len() <= MAX_LOGS, || {
            format!("more than {MAX_LOGS} logs")
        })?;
        let mut origins = BTreeSet::new();
        for log in &self.logs {
            log.validate(self.environment)?;
            rule(origins.insert(&log.origin), || {
                format!("{} is listed twice", log.origin)
            })?;
            let signs = log
                .vkeys
                .iter()
                .any(|key| key.public_key() == self.signing_key.public_key());
            // Kept apart, so that whoever steals the online signing key cannot seal, nor the reverse.
            rule(!signs, || {
                format!("{} has the signing key among its sealing keys", log.origin)
            })?;
        }
        Ok(())
    }

    fn validate_witnesses(&self) -> Result<(), TrustError> {
        rule(self.witnesses.len() <= MAX_WITNESSES, || {
            format!("more than {MAX_WITNESSES} witnesses")
        })?;
        let (mut names, mut keys) = (BTreeSet::new(), BTreeSet::new());
        for witness in &self.witnesses {
            check_name("witness", &witness.name)?;
            check_name("operator", &witness.operator)?;
            rule(is_witness_key(&witness.vkey), || {
                format!(
                    "the key of witness {} is not a cosignature key (type 04)",
                    witness.name
                )
            })?;
            rule(names.insert(&witness.name), || {
                format!("witness {} is listed twice", witness.name)
            })?;
            // One key under two names would count as two witnesses.
            rule(keys.insert(witness.vkey.public_key()), || {
                format!("witness {} has the key of another one", witness.name)
            })?;
        }
        let usable = self
            .witnesses
            .iter()
            .filter(|it| it.vkey.is_supported())
            .count();
        let enough = usize::try_from(self.quorum.count).is_ok_and(|count| count <= usable);
        rule(enough, || {
            format!(
                "{usable} usable witnesses cannot meet a quorum of {}",
                self.quorum.count
            )
        })
    }
}

impl LogEntry {
    fn validate(&self, environment: Environment) -> Result<(), TrustError> {
        let origin = &self.origin;
        validate_origin(origin)?;
        let host = origin.split('/').next().unwrap_or_default();
        let drill = host == DRILL_HOST || host.ends_with(".drill.invalid");
        rule(drill == (environment == Environment::Drill), || {
            format!("{origin}: origins under {DRILL_HOST} belong to drills, and only they do")
        })?;
        rule(!self.vkeys.is_empty() && self.vkeys.len() <= 16, || {
            format!("{origin} must have 1 to 16 keys")
        })?;
        for (place, vkey) in self.vkeys.iter().enumerate() {
            let fits = is_ed25519(vkey) || !vkey.is_supported();
            rule(fits && vkey.name() == origin, || {
                format!("{vkey} is not a key of {origin}: it must have that name and type 01")
            })?;
            let earlier = self.vkeys.iter().take(place);
            rule(
                earlier.clone().all(|other| other.key_id() != vkey.key_id()),
                || format!("{origin} lists the key id {} twice", vkey.key_id()),
            )?;
        }
        rule(
            self.state != LogState::Frozen || self.frozen_at.is_some(),
            || format!("{origin} is frozen, but does not say where (frozen_at)"),
        )?;
        match &self.successor {
            Some(successor) => {
                validate_origin(successor)?;
                rule(successor != origin, || {
                    format!("{origin} cannot succeed itself")
                })
            }
            None => Ok(()),
        }
    }
}

fn is_ed25519(vkey: &Vkey) -> bool {
    match vkey.key() {
        VerifierKey::Ed25519(_) => true,
        VerifierKey::CosignatureV1(_) | VerifierKey::Unsupported { .. } => false,
    }
}

fn is_witness_key(vkey: &Vkey) -> bool {
    match vkey.key() {
        VerifierKey::CosignatureV1(_) | VerifierKey::Unsupported { .. } => true,
        VerifierKey::Ed25519(_) => false,
    }
}

fn check_name(field: &str, name: &str) -> Result<(), TrustError> {
    let good = !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && name.trim() == name
        && !name.chars().any(char::is_control);
    rule(good, || {
        format!(
            "the {field} {name:?} must have 1 to {MAX_NAME_BYTES} bytes without control characters or outer spaces"
        )
    })
}

fn rule(holds: bool, reason: impl FnOnce() -> String) -> Result<(), TrustError> {
    if holds {
        Ok(())
    } else {
        Err(TrustError::Payload(reason()))
    }
}
