//! What the next trust bundle says, from what the event log says. Pure.

use jiff::Timestamp;
use sealwarden_domain::installation::Installation;
use sealwarden_domain::log_control::{LogControl, Origin, Signer};
use sealwarden_seal::merkle::{Hash, empty_root};
use sealwarden_seal::note::{Vkey, VkeyError};
use sealwarden_seal::trust::{
    Environment, FORMAT, FrozenAt, LogEntry, LogState, Payload, Quorum, Roots, SignatureType, Tsa,
    WitnessEntry,
};
use std::collections::BTreeMap;

use super::certificates;
use super::cut::Cut;

/// What the event log does not know.
pub(super) struct Terms<'a> {
    /// The installation's name.
    pub(super) installation: &'a str,
    /// Production or drill.
    pub(super) environment: Environment,
    /// Version and digest of the payload before.
    pub(super) previous: Option<(u64, Hash)>,
    /// When it is issued.
    pub(super) issued: Timestamp,
    /// When it expires.
    pub(super) expires: Timestamp,
    /// Root keys.
    pub(super) roots: Roots,
    /// The signing key.
    pub(super) signing_key: Vkey,
    /// Witnesses.
    pub(super) witnesses: Vec<WitnessEntry>,
    /// Which of the witnesses must have cosigned.
    pub(super) quorum: Quorum,
    /// The time-stamping authorities whose time counts.
    pub(super) tsas: Vec<Tsa>,
    /// Where compromised logs end by the word of somebody outside; the event log's time decides for the others.
    pub(super) cuts: BTreeMap<String, Cut>,
    /// Allowed difference of clocks, seconds.
    pub(super) clock_skew_s: u64,
}

/// The payload of the next version.
pub(super) fn next(installation: &Installation, terms: Terms<'_>) -> Result<Payload, VkeyError> {
    let mut logs = Vec::new();
    for log in installation.logs.values() {
        for origin in &log.origins {
            let mut entry = entry(log, origin)?;
            entry.certificates = certificates::of_origin(installation, &origin.origin);
            if let (Some(end), Some(cut)) = (&mut entry.frozen_at, terms.cuts.get(&origin.origin)) {
                *end = cut.end;
            }
            logs.push(entry);
        }
    }
    Ok(Payload {
        format: FORMAT.to_owned(),
        installation: terms.installation.to_owned(),
        environment: terms.environment,
        version: terms.previous.map_or(1, |(version, _)| version + 1),
        issued: terms.issued,
        expires: terms.expires,
        previous: terms.previous.map(|(_, digest)| digest),
        roots: terms.roots,
        signing_key: terms.signing_key,
        logs,
        quorum: terms.quorum,
        witnesses: terms.witnesses,
        clock_skew_s: terms.clock_skew_s,
        tsas: terms.tsas,
    }
    .in_lowest_format())
}

fn entry(log: &LogControl, origin: &Origin) -> Result<LogEntry, VkeyError> {
    let successor = log
        .origins
        .iter()
        .find(|other| other.predecessor == origin.origin)
        .map(|o| o.origin.clone());
    let compromised_since = origin
        .compromised_since_ms
        .and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let state = if origin.isolation.is_some() {
        LogState::Frozen
    } else if successor.is_some() {
        LogState::Retired
    } else {
        LogState::Active
    };
    // Every key that signed or may: failing over, and checking what a retired key signed, need no new trust.
    let vkeys: Vec<Vkey> = origin
        .signers
        .iter()
        .map(|signer| signer.vkey.parse())
        .collect::<Result<_, _>>()?;
    let frozen = state == LogState::Frozen;
    Ok(LogEntry {
        required: required(origin),
        opened: Timestamp::from_millisecond(origin.opened_at_ms).ok(),
        resealable: frozen.then(|| intended_before(origin)),
        state,
        compromised_since,
        frozen_at: frozen.then(|| frozen_at(origin)),
        successor,
        ..LogEntry::active(&origin.origin, vkeys)
    })
}

/// Both types of an origin whose ML-DSA-44 key was there before its first intent: its writer intends nothing before that key signs, too, so each of the origin's
/// checkpoints has both signatures.
fn required(origin: &Origin) -> Vec<SignatureType> {
    let first_ms = origin.intents.first().map(|(_, intent)| intent.at_ms);
    let from_the_first = |signer: &Signer| {
        signer.algorithm == SignatureType::MlDsa44.as_str()
            && first_ms.is_none_or(|first_ms| signer.added_at_ms <= first_ms)
    };
    if origin.signers.iter().any(from_the_first) {
        vec![SignatureType::Ed25519, SignatureType::MlDsa44]
    } else {
        Vec::new()
    }
}

/// How many leaves stand in what the log intended before the earliest possible compromise: these are sealed again, dated by somebody outside or not.
fn intended_before(origin: &Origin) -> u64 {
    let since = origin.compromised_since_ms.unwrap_or(i64::MAX);
    let mut newest_first = origin.intents.iter().rev();
    newest_first
        .find(|(size, intent)| *size <= origin.published_size && intent.at_ms < since)
        .map_or(0, |(size, _)| size)
}

fn frozen_at(origin: &Origin) -> FrozenAt {
    ended_before(origin, origin.compromised_since_ms.unwrap_or(i64::MAX))
}

/// The last published size whose intent was recorded before a time, Unix milliseconds. The empty tree if there is none.
pub(super) fn ended_before(origin: &Origin, since: i64) -> FrozenAt {
    origin
        .intents
        .iter()
        .rev()
        .find(|(size, intent)| *size <= origin.published_size && intent.at_ms < since)
        .map_or(
            FrozenAt {
                size: 0,
                root: empty_root(),
            },
            |(size, intent)| FrozenAt {
                size,
                root: Hash(intent.root),
            },
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealwarden_domain::log_control::{Intent, Intents, SignerLife, SignerState};
    use std::collections::BTreeMap;

    fn origin(name: &str, predecessor: &str) -> Origin {
        Origin {
            origin: name.to_owned(),
            vkey: Vkey::ed25519(name, [7; 32]).unwrap().to_string(),
            key_id: "main-1".to_owned(),
            provider: "software".to_owned(),
            provider_can_disable: false,
            node: "sealing-1".to_owned(),
            predecessor: predecessor.to_owned(),
            opened_at_ms: 0,
            signers: Vec::new(),
            intents: Intents::default(),
            published_size: 0,
            dated: BTreeMap::new(),
            isolation: None,
            compromised_since_ms: None,
        }
    }

    fn intent(at_ms: i64, root: u8) -> Intent {
        Intent {
            root: [root; 32],
            at_ms,
            position: 1,
        }
    }

    #[test]
    fn both_types_are_required_only_where_every_checkpoint_has_both() {
        let name = "x.example/main/1";
        let signer = |added_at_ms| Signer {
            added_by: String::new(),
            vkey: Vkey::ml_dsa_44(name, [7; 1312]).unwrap().to_string(),
            key_id: "main-1-pq".to_owned(),
            provider: "software".to_owned(),
            algorithm: "ml-dsa-44".to_owned(),
            provider_can_disable: false,
            attestation: "none".to_owned(),
            added_at_ms,
            activated_at_ms: None,
            uses: 0,
            state: SignerState::Active,
            life: SignerLife::Usable,
            life_epoch: 0,
            revoked_since_ms: None,
        };
        let is_required = |signer: Option<Signer>, first_ms: Option<i64>| {
            let mut origin = origin(name, "");
            origin.signers = signer.into_iter().collect();
            if let Some(at_ms) = first_ms {
                origin.intents.insert(1, [0; 32], intent(at_ms, 1));
            }
            !required(&origin).is_empty()
        };
        assert!(!is_required(None, Some(9)));
        assert!(is_required(Some(signer(5)), None));
        assert!(is_required(Some(signer(5)), Some(5)));
        assert!(
            !is_required(Some(signer(5)), Some(4)),
            "older seals have one type"
        );
    }

    #[test]
    fn an_isolated_origin_is_frozen_before_the_compromise_and_names_its_successor() {
        let mut old = origin("x.example/main/1", "");
        old.isolation = Some(1);
        old.compromised_since_ms = Some(200);
        for (size, at_ms, root) in [(3, 100, 3), (5, 199, 5), (9, 200, 9)] {
            old.intents.insert(size, [0; 32], intent(at_ms, root));
        }
        old.published_size = 9;
        let mut log = LogControl::default();
        log.origins
            .extend([old.clone(), origin("x.example/main/2", "x.example/main/1")]);
        let frozen = entry(&log, &old).unwrap();
        assert_eq!(frozen.state, LogState::Frozen);
        assert_eq!(
            frozen.frozen_at,
            Some(FrozenAt {
                size: 5,
                root: Hash([5; 32])
            })
        );
        assert_eq!(frozen.successor.as_deref(), Some("x.example/main/2"));
        assert_eq!(
            entry(&log, &log.origins[1]).unwrap().state,
            LogState::Active
        );

        old.published_size = 4;
        assert_eq!(
            frozen_at(&old).size,
            3,
            "what was not published does not count"
        );
        old.compromised_since_ms = Some(50);
        assert_eq!(
            frozen_at(&old),
            FrozenAt {
                size: 0,
                root: empty_root()
            }
        );
    }
}
