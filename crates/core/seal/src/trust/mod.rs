//! Trust bundles: which logs, keys and witnesses count, signed by a threshold of offline root keys.
//!
//! The file is JSON in one canonical spelling (two-space indentation, fields in this order, a final newline):
//! `{"payload": "<JSON text>", "signatures": ["<armored SSHSIG>"…], "suspensions": ["<signed note>"…]}`.
//! Root keys sign the payload's bytes with `ssh-keygen -Y sign -n sealwarden-trust` (`sealwarden-trust-drill` for drills).
//! The online signing key can only add [`Suspension`]s; whatever does not verify makes the whole bundle invalid.

mod accept;
mod certificate;
mod payload;
mod quorum;
mod roots;
mod sshsig;
mod suspension;
mod verified;
mod witness;

pub use accept::{Seen, SeenSuspension, accept};
pub use certificate::{
    MAX_BINDING_BYTES, MAX_CERTIFICATE_BYTES, MAX_CERTIFICATES, Revocation, RevocationReason,
    SealCertificate, Tsa, pem_block,
};
pub use payload::{
    Environment, FORMAT, FORMAT_2, FORMAT_3, FORMAT_4, FrozenAt, LogEntry, LogState, Payload,
    SignatureType,
};
pub(crate) use quorum::is_token as is_policy_name;
pub use quorum::{
    Group, MAX_GROUPS, MAX_MEMBERS, NO_QUORUM, Quorum, QuorumTree, Threshold, Witnessing,
};
pub use roots::Roots;
pub use suspension::{RevokedKey, Suspension};
pub use verified::{SuspendedKey, TrustedLog, TrustedWitness, VerifiedBundle};
pub(crate) use witness::note_time;
pub use witness::{SignatureTimes, WitnessEntry};

#[cfg(test)]
pub(crate) use sshsig::verify as verify_sshsig;

use crate::encoding::excerpt;
use crate::merkle::Hash;
use crate::note::{Note, NoteError, VkeyError};
use serde::{Deserialize, Serialize};

/// No bundle file is larger, in bytes.
pub const MAX_BUNDLE_BYTES: usize = 4 * 1024 * 1024;
/// A bundle carries at most this many root signatures.
pub const MAX_ROOT_SIGNATURES: usize = 32;
/// A bundle carries at most this many suspensions.
pub const MAX_SUSPENSIONS: usize = 256;

/// A trust bundle cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// Not a bundle file.
    #[error("this is not a trust bundle: {0}; export it again")]
    Malformed(String),
    /// The file says the right things in another spelling.
    #[error(
        "the trust bundle is not in its canonical spelling at byte {0}; export it again instead of editing it"
    )]
    NotCanonical(usize),
    /// The payload breaks a rule.
    #[error("the trust bundle's payload is not allowed: {0}")]
    Payload(String),
    /// A log's or witness's key or name is wrong.
    #[error("the trust bundle's payload is not allowed: {0}")]
    Key(#[from] VkeyError),
    /// The set of root keys breaks a rule.
    #[error("the root keys are not allowed: {0}")]
    Roots(String),
    /// A signature that is malformed or does not verify.
    #[error("root signature {number} is bad: {reason}; sign the payload again")]
    BadSignature {
        /// Counted from 1, in the file's order.
        number: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Too few root keys signed.
    #[error(
        "{found} of the {whose} root keys signed, {threshold} must; collect the missing signatures"
    )]
    Threshold {
        /// "bundle's own", "trusted" or "seen".
        whose: &'static str,
        /// How many distinct keys signed.
        found: usize,
        /// How many must.
        threshold: u32,
    },
    /// A suspension that is malformed, forged or for another installation.
    #[error("suspension {number} is bad: {reason}; the whole bundle is refused, fetch it again")]
    BadSuspension {
        /// Counted from 1, in the file's order.
        number: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A bundle of another installation or environment.
    #[error(
        "the bundle is for {found}, this client trusts {expected}; use the right bundle or another data folder"
    )]
    OtherInstallation {
        /// What the bundle is for.
        found: String,
        /// What was seen before.
        expected: String,
    },
    /// A lower version than one seen before.
    #[error(
        "the bundle has version {found}, version {seen} was seen before; fetch the newest (an old one may be a replay)"
    )]
    RolledBack {
        /// The bundle's version.
        found: u64,
        /// The highest version seen.
        seen: u64,
    },
    /// Another payload than the one seen under the same version, or one that does not follow it.
    #[error(
        "version {version} of the bundle does not agree with the one seen before; ask the root key holders which is real"
    )]
    Forked {
        /// The bundle's version.
        version: u64,
    },
    /// Other root keys, which the seen ones did not sign for.
    #[error(
        "the bundle names other root keys, and the ones trusted so far did not sign it; ask their holders"
    )]
    RootsChanged,
    /// A suspension seen before is gone and no later payload explains it.
    #[error(
        "the suspension of {origin} seen before is missing; fetch the bundle again (it may have been stripped)"
    )]
    SuspensionDropped {
        /// The suspended log.
        origin: String,
    },
}

/// A bundle file, read but not verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustBundle {
    payload: String,
    signatures: Vec<String>,
    suspensions: Vec<String>,
}

impl TrustBundle {
    /// Starts a bundle around a payload; it still wants signatures.
    pub fn new(payload: &Payload) -> Result<Self, TrustError> {
        Ok(Self {
            payload: payload.to_json()?,
            signatures: Vec::new(),
            suspensions: Vec::new(),
        })
    }

    /// Reads a bundle file strictly; nothing is verified.
    pub fn parse(bytes: &[u8]) -> Result<Self, TrustError> {
        if bytes.len() > MAX_BUNDLE_BYTES {
            let reason = format!("it has {} bytes of {MAX_BUNDLE_BYTES} allowed", bytes.len());
            return Err(TrustError::Malformed(reason));
        }
        let bundle: Self = serde_json::from_slice(bytes)
            .map_err(|error| TrustError::Malformed(error.to_string()))?;
        bundle.check_limits()?;
        let canonical = bundle.to_bytes()?;
        if canonical != bytes {
            let same = canonical
                .iter()
                .zip(bytes)
                .take_while(|(a, b)| a == b)
                .count();
            return Err(TrustError::NotCanonical(same));
        }
        Ok(bundle)
    }

    fn check_limits(&self) -> Result<(), TrustError> {
        if self.signatures.len() > MAX_ROOT_SIGNATURES {
            let reason = format!("it has more than {MAX_ROOT_SIGNATURES} signatures");
            return Err(TrustError::Malformed(reason));
        }
        if self.suspensions.len() > MAX_SUSPENSIONS {
            let reason = format!("it has more than {MAX_SUSPENSIONS} suspensions");
            return Err(TrustError::Malformed(reason));
        }
        Ok(())
    }

    /// The file's bytes in their canonical spelling.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TrustError> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| TrustError::Malformed(error.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The payload's text: exactly what root keys sign.
    pub fn payload_text(&self) -> &str {
        &self.payload
    }

    /// SHA-256 of the payload's text.
    pub fn payload_digest(&self) -> Hash {
        Hash::of(self.payload.as_bytes())
    }

    /// The namespace that root signatures over this payload must have.
    pub fn namespace(&self) -> Result<&'static str, TrustError> {
        Ok(Payload::parse(&self.payload)?.environment.trust_namespace())
    }

    /// Adds an armored SSHSIG, as `ssh-keygen -Y sign` writes it.
    pub fn add_signature(&mut self, armored: &str) -> Result<(), TrustError> {
        let number = self.signatures.len() + 1;
        let armored = format!("{}\n", armored.trim());
        sshsig::decode(&armored).map_err(|reason| TrustError::BadSignature { number, reason })?;
        if !self.signatures.contains(&armored) {
            self.signatures.push(armored);
        }
        self.check_limits()
    }

    /// Adds a suspension: a note with [`Suspension::to_text`], signed by the bundle's signing key.
    pub fn add_suspension(&mut self, note: &Note) -> Result<(), TrustError> {
        let text = note.to_string();
        if !self.suspensions.contains(&text) {
            self.suspensions.push(text);
        }
        self.check_limits()
    }

    /// Verifies the bundle: payload rules, a threshold of its own root keys, each suspension; and, where `anchors` are
    /// given, a threshold of those too. Without anchors this is trust on first use: compare the roots' digest by another
    /// way.
    pub fn open(&self, anchors: Option<&Roots>) -> Result<VerifiedBundle, TrustError> {
        self.check_limits()?;
        let payload = Payload::parse(&self.payload)?;
        let namespace = payload.environment.trust_namespace();
        let signers = self.verified_signers(namespace)?;
        payload.roots.require(&signers, "bundle's own")?;
        if let Some(anchors) = anchors {
            anchors.require(&signers, "trusted")?;
        }
        let suspensions = self.verified_suspensions(&payload)?;
        VerifiedBundle::new(payload, self.payload_digest(), signers, suspensions)
    }

    /// Every signature must verify under the key it names; whether that key counts is decided by [`Roots::require`].
    fn verified_signers(
        &self,
        namespace: &str,
    ) -> Result<Vec<ssh_key::public::KeyData>, TrustError> {
        let mut signers = Vec::new();
        for (place, armored) in self.signatures.iter().enumerate() {
            let signer =
                sshsig::verify(armored, namespace, self.payload.as_bytes()).map_err(|reason| {
                    TrustError::BadSignature {
                        number: place + 1,
                        reason,
                    }
                })?;
            signers.push(signer);
        }
        Ok(signers)
    }

    fn verified_suspensions(&self, payload: &Payload) -> Result<Vec<Suspension>, TrustError> {
        let mut suspensions = Vec::new();
        for (place, text) in self.suspensions.iter().enumerate() {
            let bad = |reason: String| TrustError::BadSuspension {
                number: place + 1,
                reason,
            };
            let note = Note::parse(text.as_bytes()).map_err(|error| bad(error.to_string()))?;
            check_suspension_signature(&note, payload).map_err(|error| bad(error.to_string()))?;
            let suspension = Suspension::parse(note.text()).map_err(bad)?;
            suspension.check_against(payload).map_err(bad)?;
            suspensions.push(suspension);
        }
        Ok(suspensions)
    }
}

/// Exactly one signature, by the signing key: a second one of an unknown key could be altered unnoticed.
fn check_suspension_signature(note: &Note, payload: &Payload) -> Result<(), NoteError> {
    if let [_, second, ..] = note.signatures() {
        return Err(NoteError::NoTrustedSignature(excerpt(second.name())));
    }
    note.verify(std::slice::from_ref(&payload.signing_key))
        .map(|_| ())
}
