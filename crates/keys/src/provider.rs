//! The port: what a key provider does for the rest of the product.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    algorithm::{Algorithm, PublicKey, Signature},
    attestation::Attestation,
    error::KeyError,
    health::Health,
    id::KeyId,
};

/// What a key is for. A key keeps its purpose for life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Signs the checkpoints of a seal log.
    Sealing,
    /// Signs evidence, trust bundles and notices of the installation.
    Signing,
    /// Signs the acknowledgements of a node.
    Node,
    /// Cosigns other parties' checkpoints.
    Witness,
}

impl Purpose {
    /// The word used in files and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sealing => "sealing",
            Self::Signing => "signing",
            Self::Node => "node",
            Self::Witness => "witness",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a key stands in its life. It moves downwards in this list, and up only by [`KeyProvider::restore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Signs.
    Active,
    /// Still there, and does not sign unless it is restored.
    Disabled,
    /// The private part is gone; the public part stays for verification.
    Destroyed,
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Destroyed => "destroyed",
        })
    }
}

/// The public description of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its name within the provider.
    pub id: KeyId,
    /// What it is for.
    pub purpose: Purpose,
    /// Its public key, which says its algorithm.
    pub public_key: PublicKey,
    /// Where it stands in its life.
    pub state: KeyState,
    /// When it was made, in Unix milliseconds.
    pub created_at_ms: i64,
    /// The name of the provider that keeps it.
    pub provider: String,
    /// What that provider says of the key's origin.
    pub attestation: Attestation,
}

impl KeyInfo {
    /// Its signature algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.public_key.algorithm()
    }

    /// The public key of an Ed25519 key.
    pub fn ed25519(&self) -> Result<[u8; 32], KeyError> {
        match &self.public_key {
            PublicKey::Ed25519(bytes) => Ok(*bytes),
            PublicKey::MlDsa44(_) => Err(KeyError::WrongAlgorithm {
                id: self.id.clone(),
                expected: Algorithm::Ed25519,
                actual: self.algorithm(),
            }),
        }
    }
}

/// A key to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateKey {
    /// Its name.
    pub id: KeyId,
    /// What it is for.
    pub purpose: Purpose,
    /// Its signature algorithm.
    pub algorithm: Algorithm,
    /// Which of [`KeyProvider::sealing_providers`] makes it; `None` leaves it to the provider asked: the first of them for a
    /// sealing key.
    pub provider: Option<String>,
}

impl CreateKey {
    /// An Ed25519 key, wherever keys of its purpose are made.
    pub fn ed25519(id: &KeyId, purpose: Purpose) -> Self {
        Self {
            id: id.clone(),
            purpose,
            algorithm: Algorithm::Ed25519,
            provider: None,
        }
    }

    /// Refuses what the provider `name`, which makes keys of `algorithms` only, cannot make.
    pub(crate) fn fits(&self, name: &str, algorithms: &[Algorithm]) -> Result<(), KeyError> {
        if let Some(asked) = &self.provider {
            known(name, asked)?;
        }
        if algorithms.contains(&self.algorithm) {
            return Ok(());
        }
        Err(KeyError::Unsupported {
            provider: name.to_owned(),
            algorithm: self.algorithm,
        })
    }
}

/// What a provider can prove, so that reports claim no more than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Disabling a key here stops every copy of it, because no copy can exist outside.
    pub can_disable: bool,
    /// The audit is kept by somebody else than the process that uses the key.
    pub keeps_audit: bool,
    /// The provider can attest that a key was made inside it and cannot leave.
    pub attests_origin: bool,
}

/// What disabling or destroying a key achieved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DisableOutcome {
    /// No use of the key is possible any more.
    Disabled,
    /// This provider refuses the key from now on, but a copy of it would go on working.
    LocalOnly {
        /// Why more cannot be claimed, for a report.
        reason: String,
    },
}

/// One use of a key as the provider's audit recorded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// The key used.
    pub key: KeyId,
    /// What for.
    pub purpose: Purpose,
    /// SHA-256 of the message signed. Where the audit keeps only a keyed digest, and none of the messages signed through this
    /// provider has it, this is that digest: it is the SHA-256 of no message anybody intended.
    pub message_sha256: [u8; 32],
    /// When, in Unix milliseconds, by the clock of the process that used it.
    pub at_ms: i64,
}

/// One complete line of a provider's audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditLine {
    /// Pass this to [`KeyProvider::audit_after`] to go on after this line.
    pub cursor: u64,
    /// The line without its line end; invalid UTF-8 replaced, over-long lines cut.
    pub line: String,
    /// What the line says, or why it cannot be understood (a torn write, or somebody else's hand).
    pub entry: Result<AuditEntry, String>,
}

/// A use of a key as this process knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditUse {
    /// The key used.
    pub key: KeyId,
    /// What for.
    pub purpose: Purpose,
    /// SHA-256 of the message signed, as in [`AuditEntry::message_sha256`].
    #[serde(with = "hex::serde")]
    pub message_sha256: [u8; 32],
    /// When, in Unix milliseconds.
    pub at_ms: i64,
}

/// What is wrong with an audit that somebody else keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditGapKind {
    /// The audit has grown since a use, and does not show it: lines are missing.
    UseNotShown,
    /// The audit has not grown since the provider was used: it is switched off, or another file than the one read here.
    Silent,
    /// The server says that it has no such audit.
    Off,
    /// The file was emptied in place and goes on, as after logrotate's `copytruncate`: what was written between copying and cutting is lost.
    Truncated,
    /// The file still begins where it did, and is not what was read before.
    Rewritten,
    /// Another file has the audit's name, and it holds older lines: it was not rotated.
    Replaced,
    /// The file that was read is nowhere to be found, so nobody can say whether all of it was read.
    Lost,
}

/// What a provider's audit should show by now and does not, or what was done to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditGap {
    /// The provider whose audit it is.
    pub provider: String,
    /// What is wrong.
    pub kind: AuditGapKind,
    /// When it began or was noticed, in Unix milliseconds. With provider, kind and first use it tells one gap from another, so it stays the same
    /// as long as the gap does, also after a restart.
    pub since_ms: i64,
    /// Uses that the audit does not show: of many the first 64.
    pub uses: Vec<AuditUse>,
    /// How many they are in all; 0 where only the audit's own silence or damage was seen.
    pub count: usize,
    /// Which file it is, and its lines that matter, for a person to look at.
    pub evidence: String,
}

impl AuditGap {
    /// The same gap, with its provider under another name.
    pub(crate) fn in_provider(self, name: &str) -> Self {
        Self {
            provider: name.to_owned(),
            ..self
        }
    }
}

/// A keeper of private keys.
///
/// Implementations are safe to share between tasks and to use from several processes at once. Dropping a future of
/// [`KeyProvider::sign`] does not undo the use: it may finish and appear in the audit, and its signature is lost.
#[async_trait]
pub trait KeyProvider: Send + Sync + 'static {
    /// The provider's name in configurations and reports, such as `software`.
    fn name(&self) -> &str;

    /// What this provider can prove.
    fn capabilities(&self) -> Capabilities;

    /// Makes a new key. An existing id, in whatever state, is [`KeyError::AlreadyExists`]; an algorithm or a provider that is not
    /// to be had here is [`KeyError::Unsupported`] or [`KeyError::NoSuchProvider`].
    async fn create(&self, key: &CreateKey) -> Result<KeyInfo, KeyError>;

    /// Describes a key, in whatever state.
    async fn info(&self, id: &KeyId) -> Result<KeyInfo, KeyError>;

    /// Describes every key, sorted by id.
    async fn list(&self) -> Result<Vec<KeyInfo>, KeyError>;

    /// Signs `message` with key `id`, which must be an active key for `purpose`. The use stands durably in the
    /// audit before the signature is made.
    async fn sign(
        &self,
        id: &KeyId,
        purpose: Purpose,
        message: &[u8],
    ) -> Result<Signature, KeyError>;

    /// Makes this provider refuse the key from now on, durably. Repeating it changes nothing.
    async fn disable(&self, id: &KeyId) -> Result<DisableOutcome, KeyError>;

    /// Erases the private part of the key and keeps the public one. Repeating it changes nothing.
    async fn destroy(&self, id: &KeyId) -> Result<DisableOutcome, KeyError>;

    /// Takes [`Self::disable`] back, durably: the key signs again. Repeating it changes nothing. A destroyed key is
    /// [`KeyError::Refused`]. Providers do as they are told; who may order it is decided elsewhere.
    async fn restore(&self, id: &KeyId) -> Result<KeyInfo, KeyError>;

    /// At most `limit` complete lines of the audit after `cursor` (0: from the beginning), in order. A cursor that
    /// the audit no longer reaches is [`KeyError::Corrupt`]: somebody has shortened it.
    async fn audit_after(&self, cursor: u64, limit: usize) -> Result<Vec<AuditLine>, KeyError>;

    /// What an audit kept by somebody else should show of uses older than the patience given, and does not; and what was done to that audit. A gap
    /// is told again until it is over or newer ones take its place. A provider that writes its audit itself has none.
    async fn audit_gaps(&self, _patience: Duration) -> Result<Vec<AuditGap>, KeyError> {
        Ok(Vec::new())
    }

    /// The providers that sealing keys can be made in, in order of preference.
    fn sealing_providers(&self) -> Vec<String> {
        vec![self.name().to_owned()]
    }

    /// What one of [`Self::sealing_providers`] can prove.
    fn capabilities_of(&self, provider: &str) -> Result<Capabilities, KeyError> {
        known(self.name(), provider).map(|()| self.capabilities())
    }

    /// How one of [`Self::sealing_providers`] is doing. Answers at once, from what calls and probes have shown.
    fn health(&self, provider: &str) -> Result<Health, KeyError> {
        known(self.name(), provider).map(|()| Health::unwatched())
    }

    /// Asks one of [`Self::sealing_providers`] whether it could sign now, without using a sealing key.
    async fn probe(&self, provider: &str) -> Result<(), KeyError> {
        known(self.name(), provider)
    }
}

/// What restoring a destroyed key is answered.
pub(crate) fn is_destroyed(id: &KeyId) -> KeyError {
    KeyError::Refused {
        id: id.clone(),
        reason: "it is destroyed, and that cannot be taken back".to_owned(),
    }
}

/// Refuses a provider's name other than the one there is.
pub(crate) fn known(name: &str, asked: &str) -> Result<(), KeyError> {
    if name == asked {
        return Ok(());
    }
    Err(KeyError::NoSuchProvider {
        asked: asked.to_owned(),
        known: name.to_owned(),
    })
}

/// As [`KeyProvider::sign`], but answers [`KeyError::Timeout`] when `deadline` passes first. The signature of a use
/// that finishes later is never released.
pub async fn sign_within<P: KeyProvider + ?Sized>(
    provider: &P,
    id: &KeyId,
    purpose: Purpose,
    message: &[u8],
    deadline: Duration,
) -> Result<Signature, KeyError> {
    tokio::time::timeout(deadline, provider.sign(id, purpose, message))
        .await
        .unwrap_or_else(|_elapsed| {
            Err(KeyError::Timeout {
                id: id.clone(),
                deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
            })
        })
}
