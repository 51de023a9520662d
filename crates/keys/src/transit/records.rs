//! What this machine remembers of each key: purpose, public key and how far down its life it is.
//!
//! The server forgets a deleted key wholly and would make another one under the same name. The record pins the public key,
//! keeps it after destruction, and keeps a disabled key refused here even if somebody restores it on the server.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    algorithm::{PublicKey, hex_key},
    attestation::StoredAttestation,
    error::KeyError,
    id::KeyId,
    private_files::{self, PRIVATE_FILE},
    provider::{KeyInfo, KeyState, Purpose},
};

/// Records are shorter than this, in bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// One key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) id: KeyId,
    pub(super) purpose: Purpose,
    #[serde(with = "hex_key")]
    pub(super) public_key: PublicKey,
    pub(super) created_at_ms: i64,
    pub(super) state: KeyState,
    /// The server's own description of the key when it was first seen here.
    #[serde(default = "no_attestation")]
    pub(super) attestation: StoredAttestation,
}

fn no_attestation() -> StoredAttestation {
    StoredAttestation::None
}

impl Record {
    pub(super) fn of(info: &KeyInfo) -> Self {
        Self {
            id: info.id.clone(),
            purpose: info.purpose,
            public_key: info.public_key.clone(),
            created_at_ms: info.created_at_ms,
            state: info.state,
            attestation: info.attestation.clone().into(),
        }
    }

    pub(super) fn info(&self, provider: &str) -> KeyInfo {
        KeyInfo {
            id: self.id.clone(),
            purpose: self.purpose,
            public_key: self.public_key.clone(),
            state: self.state,
            created_at_ms: self.created_at_ms,
            provider: provider.to_owned(),
            attestation: self.attestation.clone().into(),
        }
    }
}

/// The further of two states.
pub(super) fn lower(a: KeyState, b: KeyState) -> KeyState {
    match (a, b) {
        (KeyState::Destroyed, _) | (_, KeyState::Destroyed) => KeyState::Destroyed,
        (KeyState::Disabled, _) | (_, KeyState::Disabled) => KeyState::Disabled,
        (KeyState::Active, KeyState::Active) => KeyState::Active,
    }
}

/// The folder of records. Its functions block their thread.
#[derive(Clone)]
pub(super) struct Records(PathBuf);

impl Records {
    pub(super) fn open(state_dir: &Path) -> Result<Self, KeyError> {
        let dir = state_dir.join("keys");
        private_files::private_dir(&dir)?;
        Ok(Self(dir))
    }

    pub(super) fn get(&self, id: &KeyId) -> Result<Option<Record>, KeyError> {
        let path = self.path(id);
        let bytes = match private_files::read_private(&path, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let corrupt = |reason: String| KeyError::Corrupt {
            what: path.display().to_string(),
            reason,
        };
        let record: Record =
            serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
        if record.id == *id {
            Ok(Some(record))
        } else {
            Err(corrupt(format!("it holds key {}", record.id)))
        }
    }

    pub(super) fn put(&self, record: &Record) -> Result<(), KeyError> {
        let content = serde_json::to_vec_pretty(record).map_err(|error| KeyError::Unavailable {
            reason: format!("cannot write the record of key {}: {error}", record.id),
        })?;
        Ok(private_files::replace(
            &self.path(&record.id),
            &content,
            PRIVATE_FILE,
        )?)
    }

    /// The ids of all records.
    pub(super) fn ids(&self) -> Result<Vec<KeyId>, KeyError> {
        let unavailable = |error: std::io::Error| KeyError::Unavailable {
            reason: format!("cannot list {}: {error}", self.0.display()),
        };
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(&self.0).map_err(unavailable)? {
            let name = entry.map_err(unavailable)?.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".json"));
            ids.extend(id.and_then(|id| KeyId::new(id).ok()));
        }
        Ok(ids)
    }

    fn path(&self, id: &KeyId) -> PathBuf {
        self.0.join(format!("{id}.json"))
    }
}
