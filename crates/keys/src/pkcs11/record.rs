//! What the provider itself knows of its keys: one JSON file a key, with nothing secret in it.
//!
//! The random `CKA_ID` is chosen and stored before the token makes the key, so a crash in between leaves a record that
//! the next try completes, and never a key that nobody knows.

use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use super::protocol::{KeyClaims, KeyObject, TokenFacts};
use crate::{
    algorithm::{Algorithm, PublicKey},
    attestation::StoredAttestation,
    error::KeyError,
    id::KeyId,
    private_files::{self, PRIVATE_FILE},
    provider::{KeyInfo, KeyState, Purpose},
};

/// Ending of key records.
const RECORD: &str = ".key.json";
/// A record is well below this.
const MAX_BYTES: u64 = 16 * 1024;

/// The format of the attestation: the claims of the module as JSON, signed by nobody.
const CLAIMS: &str = "pkcs11-module-claims-v1";
/// The format of the attestation where the token holds a certificate for the key: X.509, DER. Whoever believes it checks its path to the vendor.
const CERTIFICATE: &str = "x509";

/// Where a key's making stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Life {
    /// The token may or may not have made it yet.
    Creating,
    /// The token does no more than what this state allows.
    #[serde(untagged)]
    Made(KeyState),
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    version: u8,
    id: KeyId,
    purpose: Purpose,
    algorithm: Algorithm,
    state: Life,
    created_at_ms: i64,
    token: TokenFacts,
    object: KeyObject,
    /// Zero until the key is made.
    #[serde(with = "hex::serde")]
    public_key: [u8; 32],
    /// What the token said of the key when it was made.
    attestation: StoredAttestation,
}

impl Record {
    /// The record of a key that the token is about to make.
    pub(super) fn new(
        id: &KeyId,
        purpose: Purpose,
        token: &TokenFacts,
        created_at_ms: i64,
    ) -> Result<Self, KeyError> {
        let mut cka_id = [0; 16];
        SystemRandom::new()
            .fill(&mut cka_id)
            .map_err(|_| KeyError::Unavailable {
                reason: "the operating system gave no random bytes".to_owned(),
            })?;
        Ok(Self {
            version: 1,
            id: id.clone(),
            purpose,
            algorithm: Algorithm::Ed25519,
            state: Life::Creating,
            created_at_ms,
            token: token.clone(),
            object: KeyObject {
                cka_id,
                label: format!("sealwarden {purpose} {id}"),
            },
            public_key: [0; 32],
            attestation: StoredAttestation::None,
        })
    }

    /// Reads the record of `id`.
    pub(super) fn load(dir: &Path, id: &KeyId) -> Result<Self, KeyError> {
        let path = path(dir, id);
        let bytes = match private_files::read_private(&path, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => {
                return Err(KeyError::NotFound { id: id.clone() });
            }
            Err(error) => return Err(error.into()),
        };
        let corrupt = |reason: String| KeyError::Corrupt {
            what: path.display().to_string(),
            reason,
        };
        let record: Self =
            serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
        if record.version != 1 {
            return Err(corrupt("its version is not 1".to_owned()));
        }
        if record.id != *id {
            return Err(corrupt(format!("it describes key {}", record.id)));
        }
        Ok(record)
    }

    /// Stores a new record; false if the name is taken.
    pub(super) fn create(&self, dir: &Path) -> Result<bool, KeyError> {
        let created = private_files::create(&path(dir, &self.id), &self.to_json()?, PRIVATE_FILE)?;
        Ok(created)
    }

    /// Stores this state of the record.
    pub(super) fn replace(&self, dir: &Path) -> Result<(), KeyError> {
        private_files::replace(&path(dir, &self.id), &self.to_json()?, PRIVATE_FILE)?;
        Ok(())
    }

    fn to_json(&self) -> Result<Vec<u8>, KeyError> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|error| KeyError::Unavailable {
            reason: format!("a key record could not be made: {error}"),
        })?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The key as the token finds it.
    pub(super) fn object(&self) -> &KeyObject {
        &self.object
    }

    /// Its name.
    pub(super) fn id(&self) -> &KeyId {
        &self.id
    }

    /// The raw public key.
    pub(super) fn public_key(&self) -> &[u8; 32] {
        &self.public_key
    }

    /// The purpose it has for life.
    pub(super) fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Whether the token has not been heard to have made it.
    pub(super) fn is_unmade(&self) -> bool {
        self.state == Life::Creating
    }

    /// The same key, made, with what the token says of it.
    pub(super) fn made(self, public_key: [u8; 32], claims: &KeyClaims) -> Result<Self, KeyError> {
        let bytes = serde_json::to_vec(claims).map_err(|error| KeyError::Unavailable {
            reason: format!("what the token says of the key could not be kept: {error}"),
        })?;
        Ok(Self {
            state: Life::Made(KeyState::Active),
            public_key,
            attestation: StoredAttestation::Document {
                format: CLAIMS.to_owned(),
                bytes,
            },
            ..self
        })
    }

    /// Whether a certificate vouches for it.
    pub(super) fn is_vouched(&self) -> bool {
        matches!(&self.attestation, StoredAttestation::Document { format, .. } if format == CERTIFICATE)
    }

    /// The same key with a certificate that vouches for it, which says more than the module's word.
    pub(super) fn vouched(self, certificate: Vec<u8>) -> Self {
        Self {
            attestation: StoredAttestation::Document {
                format: CERTIFICATE.to_owned(),
                bytes: certificate,
            },
            ..self
        }
    }

    /// The same key in another state of its life.
    pub(super) fn in_state(self, state: KeyState) -> Self {
        Self {
            state: Life::Made(state),
            ..self
        }
    }

    /// Its state; `None` until it is made.
    pub(super) fn state(&self) -> Option<KeyState> {
        match self.state {
            Life::Creating => None,
            Life::Made(state) => Some(state),
        }
    }

    /// The public description of a made key.
    pub(super) fn info(&self, provider: &str) -> Result<KeyInfo, KeyError> {
        let state = self.state().ok_or_else(|| KeyError::NotFound {
            id: self.id.clone(),
        })?;
        Ok(KeyInfo {
            id: self.id.clone(),
            purpose: self.purpose,
            public_key: PublicKey::Ed25519(self.public_key),
            state,
            created_at_ms: self.created_at_ms,
            provider: provider.to_owned(),
            attestation: self.attestation.clone().into(),
        })
    }

    /// Refuses a key that is not active, or is for another purpose.
    pub(super) fn usable_for(&self, expected: Purpose) -> Result<(), KeyError> {
        if self.purpose != expected {
            return Err(KeyError::WrongPurpose {
                id: self.id.clone(),
                expected,
                actual: self.purpose,
            });
        }
        match self.state() {
            None => Err(KeyError::NotFound {
                id: self.id.clone(),
            }),
            Some(KeyState::Active) => Ok(()),
            Some(state @ (KeyState::Disabled | KeyState::Destroyed)) => Err(KeyError::Refused {
                id: self.id.clone(),
                reason: format!("it is {state}; create a new key and use that"),
            }),
        }
    }
}

/// The ids of the records in `dir`, sorted.
pub(super) fn names(dir: &Path) -> Result<Vec<KeyId>, KeyError> {
    let unreadable = |error: std::io::Error| KeyError::Unavailable {
        reason: format!("cannot list {}: {error}", dir.display()),
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        if let Some(id) = name.to_str().and_then(|name| name.strip_suffix(RECORD)) {
            names.push(KeyId::new(id).map_err(|error| KeyError::Corrupt {
                what: dir.join(&name).display().to_string(),
                reason: error.to_string(),
            })?);
        }
    }
    names.sort();
    Ok(names)
}

fn path(dir: &Path, id: &KeyId) -> PathBuf {
    dir.join(format!("{id}{RECORD}"))
}
