//! What a client remembers of the bundles it saw, so that nobody can take it back in time.

use super::{Environment, Roots, Suspension, TrustError, VerifiedBundle};
use crate::merkle::Hash;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The newest bundle seen; clients store it (as JSON) beside their data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// The installation.
    pub installation: String,
    /// Its environment.
    pub environment: Environment,
    /// The highest version seen.
    pub version: u64,
    /// SHA-256 of that version's payload.
    pub payload_digest: Hash,
    /// The root keys trusted from now on.
    pub roots: Roots,
    /// The suspensions seen, by origin: the one with the earliest `from` of each.
    #[serde(default)]
    pub suspensions: BTreeMap<String, SeenSuspension>,
    /// The suspensions of single keys seen, by verifier key. They are never lifted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<String, SeenSuspension>,
}

/// A suspension that was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeenSuspension {
    /// The earliest possible compromise that it states.
    pub from: Timestamp,
    /// When it was signed.
    pub issued: Timestamp,
}

impl Seen {
    /// The digest of the trusted root keys, to be compared by people.
    pub fn roots_digest(&self) -> Result<Hash, TrustError> {
        self.roots.digest()
    }
}

/// Compares a verified bundle with what was seen before, and gives what to remember from now on. With `seen` empty this is
/// trust on first use.
///
/// A lower version, another payload of the same version, a next version that does not follow the seen payload, a
/// suspension that is gone without a later payload, and other roots that a threshold of the seen ones did not sign for are
/// all refused.
pub fn accept(seen: Option<&Seen>, bundle: &VerifiedBundle) -> Result<Seen, TrustError> {
    let Some(seen) = seen else {
        return Ok(remember(bundle));
    };
    let payload = bundle.payload();
    if (&seen.installation, seen.environment) != (&payload.installation, payload.environment) {
        let name =
            |name: &str, environment: Environment| format!("{name} ({})", environment.as_str());
        return Err(TrustError::OtherInstallation {
            found: name(&payload.installation, payload.environment),
            expected: name(&seen.installation, seen.environment),
        });
    }
    if payload.version < seen.version {
        return Err(TrustError::RolledBack {
            found: payload.version,
            seen: seen.version,
        });
    }
    let same = payload.version == seen.version;
    let next = payload.version - 1 == seen.version;
    let forked = (same && bundle.payload_digest() != seen.payload_digest)
        || (next && payload.previous != Some(seen.payload_digest));
    if forked {
        return Err(TrustError::Forked {
            version: payload.version,
        });
    }
    // The bundle's own roots have verified; others than the seen ones count only if the seen ones signed for them.
    if bundle.roots_digest() != seen.roots_digest()?
        && seen.roots.require(bundle.signers(), "seen").is_err()
    {
        return Err(TrustError::RootsChanged);
    }
    check_suspensions(seen, bundle)?;
    let mut remembered = remember(bundle);
    if same {
        keep_earliest(&mut remembered.suspensions, &seen.suspensions);
    }
    keep_earliest(&mut remembered.keys, &seen.keys);
    Ok(remembered)
}

/// A suspension may go only where a payload that the roots signed after it says otherwise.
fn check_suspensions(seen: &Seen, bundle: &VerifiedBundle) -> Result<(), TrustError> {
    for (origin, suspension) in &seen.suspensions {
        let still = bundle
            .log(origin)
            .and_then(|log| log.compromised_since)
            .is_some_and(|since| since <= suspension.from);
        if !still && bundle.payload().issued <= suspension.issued {
            return Err(TrustError::SuspensionDropped {
                origin: origin.clone(),
            });
        }
    }
    for (vkey, suspension) in &seen.keys {
        let of_key = |it: &&Suspension| {
            it.key
                .as_ref()
                .is_some_and(|key| key.vkey.to_string() == *vkey)
        };
        let still = bundle
            .suspensions()
            .iter()
            .filter(of_key)
            .any(|it| it.from <= suspension.from);
        let mut logs = bundle.payload().logs.iter();
        let is_listed = logs.any(|log| log.vkeys.iter().any(|known| known.to_string() == *vkey));
        // A key that is not listed any more vouches for nothing.
        if is_listed && !still {
            return Err(TrustError::SuspensionDropped {
                origin: vkey.clone(),
            });
        }
    }
    Ok(())
}

fn remember(bundle: &VerifiedBundle) -> Seen {
    let payload = bundle.payload();
    let (mut suspensions, mut keys) = (BTreeMap::new(), BTreeMap::new());
    for it in bundle.suspensions() {
        let seen = SeenSuspension {
            from: it.from,
            issued: it.issued,
        };
        match &it.key {
            None => keep_earliest(
                &mut suspensions,
                &BTreeMap::from([(it.origin.clone(), seen)]),
            ),
            Some(key) => keep_earliest(&mut keys, &BTreeMap::from([(key.vkey.to_string(), seen)])),
        }
    }
    Seen {
        installation: payload.installation.clone(),
        environment: payload.environment,
        version: payload.version,
        payload_digest: bundle.payload_digest(),
        roots: payload.roots.clone(),
        suspensions,
        keys,
    }
}

fn keep_earliest(
    kept: &mut BTreeMap<String, SeenSuspension>,
    others: &BTreeMap<String, SeenSuspension>,
) {
    for (origin, other) in others {
        let entry = kept.entry(origin.clone()).or_insert(*other);
        if other.from < entry.from {
            *entry = *other;
        }
    }
}
