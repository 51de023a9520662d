//! The offline root keys and their threshold.

use super::{TrustError, sshsig};
use crate::merkle::Hash;
use serde::{Deserialize, Serialize};
use ssh_key::public::KeyData;
use ssh_key::{HashAlg, PublicKey};
use std::collections::BTreeSet;

/// No set of roots is larger.
const MAX_ROOT_KEYS: usize = 32;

/// Root keys, of which a threshold must sign each bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roots {
    /// How many distinct keys must sign.
    pub threshold: u32,
    /// OpenSSH public key lines: ssh-ed25519, sk-ssh-ed25519@openssh.com or ecdsa-sha2-nistp256.
    pub keys: Vec<String>,
}

impl Roots {
    /// Checks the rules: 1 to 32 distinct keys of known algorithms, and a threshold that they can meet.
    pub fn validate(&self) -> Result<(), TrustError> {
        self.parsed().map(|_| ())
    }

    /// SHA-256 over the threshold and the keys' sorted fingerprints: comments and order do not matter. This is what
    /// people compare by another way when they first trust an installation.
    pub fn digest(&self) -> Result<Hash, TrustError> {
        let mut text = format!("sealwarden/roots/v1\n{}\n", self.threshold);
        for fingerprint in fingerprints(&self.parsed()?) {
            text.push_str(&fingerprint);
            text.push('\n');
        }
        Ok(Hash::of(text.as_bytes()))
    }

    fn parsed(&self) -> Result<Vec<KeyData>, TrustError> {
        if self.keys.is_empty() || self.keys.len() > MAX_ROOT_KEYS {
            let reason = format!(
                "{} keys are listed, list 1 to {MAX_ROOT_KEYS}",
                self.keys.len()
            );
            return Err(TrustError::Roots(reason));
        }
        let mut keys = Vec::new();
        for (place, line) in self.keys.iter().enumerate() {
            let bad = |reason: String| TrustError::Roots(format!("key {}: {reason}", place + 1));
            let key = PublicKey::from_openssh(line).map_err(|error| bad(error.to_string()))?;
            sshsig::check_algorithm(key.key_data()).map_err(bad)?;
            if keys.contains(key.key_data()) {
                return Err(bad("it is listed twice".to_owned()));
            }
            keys.push(key.key_data().clone());
        }
        let enough = usize::try_from(self.threshold).is_ok_and(|it| it <= keys.len());
        if self.threshold == 0 || !enough {
            let reason = format!(
                "{} keys cannot meet a threshold of {}",
                keys.len(),
                self.threshold
            );
            return Err(TrustError::Roots(reason));
        }
        Ok(keys)
    }

    /// Requires that a threshold of distinct root keys is among the signers, whose signatures verified.
    pub(super) fn require(
        &self,
        signers: &[KeyData],
        whose: &'static str,
    ) -> Result<(), TrustError> {
        let found = self
            .parsed()?
            .iter()
            .filter(|key| signers.contains(key))
            .count();
        if usize::try_from(self.threshold).is_ok_and(|threshold| found >= threshold) {
            return Ok(());
        }
        Err(TrustError::Threshold {
            whose,
            found,
            threshold: self.threshold,
        })
    }
}

fn fingerprints(keys: &[KeyData]) -> BTreeSet<String> {
    keys.iter()
        .map(|key| key.fingerprint(HashAlg::Sha256).to_string())
        .collect()
}
