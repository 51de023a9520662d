//! A bundle whose signatures hold, arranged for quick look-ups.

use super::{
    FrozenAt, LogEntry, Payload, RevocationReason, SealCertificate, SignatureType, Suspension,
    TrustError, WitnessEntry,
};
use crate::merkle::Hash;
use crate::note::Vkey;
use jiff::Timestamp;
use ssh_key::public::KeyData;
use std::collections::BTreeMap;

/// A log as the bundle and its suspensions describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedLog {
    /// The bundle's entry.
    pub entry: LogEntry,
    /// The earliest possible compromise that the entry or a suspension states.
    pub compromised_since: Option<Timestamp>,
    /// The suspensions' incident, where a suspension states that earliest time.
    pub incident: Option<String>,
    /// Since when and why a seal certificate of it is revoked, the earliest where there are several. A superseded one
    /// beside one that is not revoked says nothing.
    pub certificate_revoked: Option<(Timestamp, RevocationReason)>,
    /// Keys of it that a suspension takes out, each once, with the earliest time and end that one states.
    pub suspended_keys: Vec<SuspendedKey>,
    /// The log's keys and then all witnesses' keys: what a checkpoint is verified against.
    pub(crate) note_keys: Vec<Vkey>,
}

/// A key that does not vouch for its log by itself any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuspendedKey {
    /// Its place in the entry's `vkeys`.
    pub place: usize,
    /// Since when somebody else may have used it.
    pub since: Timestamp,
    /// The last checkpoint that it may have signed as the log's.
    pub end: FrozenAt,
    /// The suspension's incident.
    pub incident: String,
}

impl TrustedLog {
    /// The suspended key without which these good signatures of the log's keys (places in the entry's `vkeys`) would not do, the earliest suspended where there
    /// are several; `None` if keys that are not suspended signed, one of each required type.
    pub fn relies_on(&self, key_places: &[usize]) -> Option<&SuspendedKey> {
        let suspended = |place: &usize| self.suspended_keys.iter().find(|it| it.place == *place);
        let free: Vec<usize> = key_places
            .iter()
            .copied()
            .filter(|place| suspended(place).is_none())
            .collect();
        if !free.is_empty() && self.missing_type(&free).is_none() {
            return None;
        }
        let relied = key_places.iter().filter_map(suspended);
        relied.min_by_key(|it| it.since)
    }

    /// The first type of signature that the bundle requires and that none of these signatures of the log's keys has. The
    /// places are those in the entry's `vkeys`; others are passed over.
    pub fn missing_type(&self, key_places: &[usize]) -> Option<SignatureType> {
        let signed = |wanted: &SignatureType| {
            key_places
                .iter()
                .filter_map(|place| self.entry.vkeys.get(*place))
                .any(|key| SignatureType::of(key) == Some(*wanted))
        };
        let mut required = self.entry.required.iter().copied();
        required.find(|wanted| !signed(wanted))
    }
}

/// A witness and its keys.
pub type TrustedWitness = WitnessEntry;

/// A verified bundle; only [`super::TrustBundle::open`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedBundle {
    payload: Payload,
    payload_digest: Hash,
    roots_digest: Hash,
    signers: Vec<KeyData>,
    suspensions: Vec<Suspension>,
    logs: BTreeMap<String, TrustedLog>,
    /// For each witness key, in the order of `note_keys`, the place of its witness.
    witness_places: Vec<usize>,
    /// The verifier's own limit on the bundle's age, in seconds.
    max_age_s: Option<u64>,
}

impl VerifiedBundle {
    pub(super) fn new(
        payload: Payload,
        payload_digest: Hash,
        signers: Vec<KeyData>,
        suspensions: Vec<Suspension>,
    ) -> Result<Self, TrustError> {
        let logs = payload.logs.iter().map(|entry| {
            let log = trusted_log(entry, &payload.witnesses, &suspensions);
            (entry.origin.clone(), log)
        });
        let witness_places = payload
            .witnesses
            .iter()
            .enumerate()
            .flat_map(|(place, witness)| witness.keys().map(move |_| place))
            .collect();
        Ok(Self {
            logs: logs.collect(),
            witness_places,
            max_age_s: None,
            roots_digest: payload.roots.digest()?,
            payload,
            payload_digest,
            signers,
            suspensions,
        })
    }

    /// The same bundle, for a verifier that wants it to have been issued so many seconds ago at most: an older one turns
    /// `valid` into `suspect`, as an expired one does, since a later compromise would not be known.
    #[must_use]
    pub fn with_max_age_s(self, max_age_s: u64) -> Self {
        Self {
            max_age_s: Some(max_age_s),
            ..self
        }
    }

    pub(crate) fn max_age_s(&self) -> Option<u64> {
        self.max_age_s
    }

    /// What the root keys signed.
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// SHA-256 of the payload's text; the next version names it as `previous`.
    pub fn payload_digest(&self) -> Hash {
        self.payload_digest
    }

    /// The digest of the bundle's own root keys, to be compared by people.
    pub fn roots_digest(&self) -> Hash {
        self.roots_digest
    }

    /// The suspensions, all of them verified.
    pub fn suspensions(&self) -> &[Suspension] {
        &self.suspensions
    }

    /// The log with this origin.
    pub fn log(&self, origin: &str) -> Option<&TrustedLog> {
        self.logs.get(origin)
    }

    /// All logs by origin.
    pub fn logs(&self) -> &BTreeMap<String, TrustedLog> {
        &self.logs
    }

    /// The witnesses, in the bundle's order.
    pub fn witnesses(&self) -> &[TrustedWitness] {
        &self.payload.witnesses
    }

    /// The witness whose key stands at this place among all witnesses' keys.
    pub(crate) fn witness_of_key(&self, place: usize) -> Option<usize> {
        self.witness_places.get(place).copied()
    }

    pub(super) fn signers(&self) -> &[KeyData] {
        &self.signers
    }
}

fn trusted_log(
    entry: &LogEntry,
    witnesses: &[WitnessEntry],
    suspensions: &[Suspension],
) -> TrustedLog {
    let mut log = TrustedLog {
        entry: entry.clone(),
        compromised_since: entry.compromised_since,
        incident: None,
        certificate_revoked: revoked(&entry.certificates),
        suspended_keys: suspended_keys(entry, suspensions),
        note_keys: entry.vkeys.clone(),
    };
    log.note_keys
        .extend(witnesses.iter().flat_map(WitnessEntry::keys).cloned());
    // Suspensions only add: the earliest time wins, whoever states it.
    let of_log = |it: &&Suspension| it.origin == entry.origin && it.key.is_none();
    for suspension in suspensions.iter().filter(of_log) {
        if log
            .compromised_since
            .is_none_or(|since| suspension.from < since)
        {
            log.compromised_since = Some(suspension.from);
            log.incident = Some(suspension.incident.clone());
        }
    }
    log
}

/// Suspensions only add: of one key the earliest time and the earliest end count.
fn suspended_keys(entry: &LogEntry, suspensions: &[Suspension]) -> Vec<SuspendedKey> {
    let mut keys: Vec<SuspendedKey> = Vec::new();
    for suspension in suspensions.iter().filter(|it| it.origin == entry.origin) {
        let Some(key) = &suspension.key else {
            continue;
        };
        let Some(place) = entry.vkeys.iter().position(|vkey| *vkey == key.vkey) else {
            continue;
        };
        match keys.iter_mut().find(|it| it.place == place) {
            Some(known) => {
                if suspension.from < known.since {
                    known.since = suspension.from;
                    known.incident.clone_from(&suspension.incident);
                }
                if key.end.size < known.end.size {
                    known.end = key.end;
                }
            }
            None => keys.push(SuspendedKey {
                place,
                since: suspension.from,
                end: key.end,
                incident: suspension.incident.clone(),
            }),
        }
    }
    keys
}

fn revoked(certificates: &[SealCertificate]) -> Option<(Timestamp, RevocationReason)> {
    let replaced = certificates.iter().any(|it| it.revoked.is_none());
    certificates
        .iter()
        .filter_map(|it| it.revoked.as_ref())
        .filter(|it| !(replaced && it.reason == RevocationReason::Superseded))
        .map(|it| (it.at, it.reason))
        .min_by_key(|(at, _)| *at)
}
