//! What root keys sign.

use super::certificate::MAX_CERTIFICATES;
use super::{Quorum, Roots, SealCertificate, TrustError, Tsa, WitnessEntry, Witnessing};
use crate::checkpoint::validate_origin;
use crate::merkle::Hash;
use crate::note::{VerifierKey, Vkey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The payload's `format` where it has none of the fields of [`FORMAT_2`].
pub const FORMAT: &str = "sealwarden-trust/1";
/// The format of payloads that may also have: of a log `required`, `certificates`, `opened` and `resealable`; of a
/// witness `other_vkeys`
/// and `url`; a quorum of groups; and `tsas`. A program that reads only [`FORMAT`] refuses them rather than passing over a rule.
pub const FORMAT_2: &str = "sealwarden-trust/2";
/// The format of payloads that may also have, of a seal certificate, `binding`.
pub const FORMAT_3: &str = "sealwarden-trust/3";
/// The format of payloads that may also have, of a witness, `required`.
pub const FORMAT_4: &str = "sealwarden-trust/4";
const MAX_TSAS: usize = 32;
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

/// A type of signature that a log's checkpoints can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SignatureType {
    /// Ed25519 over the note's text, type 0x01.
    #[serde(rename = "ed25519")]
    Ed25519,
    /// ML-DSA-44 over C2SP's `subtree/v1` message, type 0x06.
    #[serde(rename = "ml-dsa-44")]
    MlDsa44,
}

impl SignatureType {
    /// `ed25519` or `ml-dsa-44`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::MlDsa44 => "ml-dsa-44",
        }
    }

    /// The type of a log's key; `None` for keys that no log can have.
    pub fn of(key: &Vkey) -> Option<Self> {
        match key.key() {
            VerifierKey::Ed25519(_) => Some(Self::Ed25519),
            VerifierKey::MlDsa44(_) => Some(Self::MlDsa44),
            VerifierKey::CosignatureV1(_) => None,
        }
    }

    /// The type of a witness's key; `None` for keys that no witness can have.
    pub fn of_witness(key: &Vkey) -> Option<Self> {
        match key.key() {
            VerifierKey::CosignatureV1(_) => Some(Self::Ed25519),
            VerifierKey::MlDsa44(_) => Some(Self::MlDsa44),
            VerifierKey::Ed25519(_) => None,
        }
    }
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
    /// The types of which each a signature of the log must stand on a checkpoint, in their order. Where none is named, one
    /// signature of any of its keys is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<SignatureType>,
    /// Its seal certificates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<SealCertificate>,
    /// When the log was opened: a time before that, less the clock skew, dates nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened: Option<Timestamp>,
    /// How many leaves of a frozen log, from its first, its successors may have sealed again: those that the log intended
    /// before the compromise. More than `frozen_at` has where nobody outside dated the last of them. Where it is not named, it is
    /// what `frozen_at` has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resealable: Option<u64>,
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
    /// Which of them must have cosigned.
    pub quorum: Quorum,
    /// How far clocks may differ, in seconds.
    pub clock_skew_s: u64,
    /// The time-stamping authorities whose time counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tsas: Vec<Tsa>,
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
        self.validate_format()?;
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
        self.validate_witnesses()?;
        self.validate_tsas()
    }

    /// The same payload in the lowest format that can say it.
    #[must_use]
    pub fn in_lowest_format(self) -> Self {
        let format = if self.has_fourth_format() {
            FORMAT_4
        } else if self.has_third_format() {
            FORMAT_3
        } else if self.has_second_format() {
            FORMAT_2
        } else {
            FORMAT
        };
        Self {
            format: format.to_owned(),
            ..self
        }
    }

    fn has_second_format(&self) -> bool {
        let tree = match self.quorum {
            Quorum::Tree(_) => true,
            Quorum::Count(_) => false,
        };
        tree || !self.tsas.is_empty()
            || self.logs.iter().any(LogEntry::has_second_format)
            || self.witnesses.iter().any(WitnessEntry::has_second_format)
    }

    fn has_third_format(&self) -> bool {
        let mut certificates = self.logs.iter().flat_map(|log| &log.certificates);
        certificates.any(|it| it.binding.is_some())
    }

    fn has_fourth_format(&self) -> bool {
        self.witnesses.iter().any(|it| !it.required.is_empty())
    }

    fn validate_format(&self) -> Result<(), TrustError> {
        let formats = [FORMAT, FORMAT_2, FORMAT_3, FORMAT_4];
        let known = formats.iter().position(|known| *known == self.format);
        let Some(known) = known else {
            return Err(TrustError::Payload(format!(
                "its format is {:?}, this program reads {}",
                self.format,
                formats.join(", ")
            )));
        };
        let beyond = |place: usize, has: bool| {
            rule(known >= place || !has, || {
                let wanted = formats.get(place).copied().unwrap_or_default();
                format!(
                    "it has fields that {} does not have; its format must be {wanted}",
                    self.format
                )
            })
        };
        beyond(1, self.has_second_format())?;
        beyond(2, self.has_third_format())?;
        beyond(3, self.has_fourth_format())
    }

    fn validate_tsas(&self) -> Result<(), TrustError> {
        rule(self.tsas.len() <= MAX_TSAS, || {
            format!("more than {MAX_TSAS} time-stamping authorities")
        })?;
        let mut names = BTreeSet::new();
        for tsa in &self.tsas {
            tsa.validate()?;
            rule(names.insert(&tsa.name), || {
                format!("the time-stamping authority {} is listed twice", tsa.name)
            })?;
        }
        Ok(())
    }

    /// The witnesses and the quorum over them.
    pub fn witnessing(&self) -> Witnessing {
        Witnessing {
            witnesses: self.witnesses.clone(),
            quorum: self.quorum.clone(),
        }
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
            witness.validate()?;
            rule(names.insert(witness.name.as_str()), || {
                format!("witness {} is listed twice", witness.name)
            })?;
            for vkey in witness.keys() {
                // One key under two names would count as two witnesses.
                rule(keys.insert(vkey.public_key()), || {
                    format!("witness {} has a key that is listed before", witness.name)
                })?;
            }
        }
        self.quorum.validate(&names)
    }
}

impl LogEntry {
    /// A growing log with nothing said about it but its keys.
    pub fn active(origin: &str, vkeys: Vec<Vkey>) -> Self {
        Self {
            origin: origin.to_owned(),
            vkeys,
            state: LogState::Active,
            compromised_since: None,
            frozen_at: None,
            successor: None,
            required: Vec::new(),
            certificates: Vec::new(),
            opened: None,
            resealable: None,
        }
    }

    fn has_second_format(&self) -> bool {
        !self.required.is_empty()
            || !self.certificates.is_empty()
            || self.opened.is_some()
            || self.resealable.is_some()
    }

    fn validate_certificates(&self) -> Result<(), TrustError> {
        rule(self.certificates.len() <= MAX_CERTIFICATES, || {
            format!(
                "{} has more than {MAX_CERTIFICATES} certificates",
                self.origin
            )
        })?;
        for (place, certificate) in self.certificates.iter().enumerate() {
            certificate.validate(&self.origin)?;
            let mut earlier = self.certificates.iter().take(place);
            rule(earlier.all(|other| other.pem != certificate.pem), || {
                format!("{} lists a certificate twice", self.origin)
            })?;
        }
        Ok(())
    }

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
            rule(
                SignatureType::of(vkey).is_some() && vkey.name() == origin,
                || {
                    format!(
                        "{vkey} is not a key of {origin}: it must have that name and type 01 or 06"
                    )
                },
            )?;
            let earlier = self.vkeys.iter().take(place);
            rule(
                earlier.clone().all(|other| other.key_id() != vkey.key_id()),
                || format!("{origin} lists the key id {} twice", vkey.key_id()),
            )?;
        }
        let types = self.vkeys.iter().filter_map(SignatureType::of);
        check_required(origin, &self.required, &types.collect())?;
        self.validate_certificates()?;
        let frozen = self.frozen_at.map(|end| end.size);
        let fits = self
            .resealable
            .is_none_or(|count| frozen.is_some_and(|size| size <= count));
        rule(fits, || {
            format!("{origin}: resealable must be at least the size in frozen_at")
        })?;
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
        VerifierKey::CosignatureV1(_) | VerifierKey::MlDsa44(_) => false,
    }
}

/// Each required type is named once, in their order. One without a key of it could never be met.
pub(super) fn check_required(
    owner: &str,
    required: &[SignatureType],
    keys: &BTreeSet<SignatureType>,
) -> Result<(), TrustError> {
    for (place, wanted) in required.iter().enumerate() {
        rule(keys.contains(wanted), || {
            let name = wanted.as_str();
            format!("{owner} requires {name} and has no key of that type")
        })?;
        let next = required.get(place + 1);
        rule(next.is_none_or(|next| next > wanted), || {
            format!("{owner} must list its required types once each, ed25519 before ml-dsa-44")
        })?;
    }
    Ok(())
}

pub(super) fn check_name(field: &str, name: &str) -> Result<(), TrustError> {
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

pub(super) fn rule(holds: bool, reason: impl FnOnce() -> String) -> Result<(), TrustError> {
    if holds {
        Ok(())
    } else {
        Err(TrustError::Payload(reason()))
    }
}
