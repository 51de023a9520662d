//! What the witness must never forget, in one file that is replaced atomically.
//!
//! ```json
//! {"format": "sealwarden-witness/1", "vkey": "<vkey>", "origins": {"<origin>": {"size": 3, "root": "<hex>", "frozen": "<why>"}}}
//! ```
//! A witness that lost it could cosign two histories, so its absence beside an existing key stops the start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sealwarden_keys::private_files::{self, FileError, PUBLIC_FILE};
use sealwarden_seal::merkle::{Hash, HashError};
use sealwarden_seal::witness::{OriginState, WitnessState};
use serde::{Deserialize, Serialize};

const FORMAT: &str = "sealwarden-witness/1";
/// The file's name in the node's folder.
const FILE: &str = "witness.json";
/// The file is no larger, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not what was written.
    #[error(
        "the witness's state {path} is damaged: {reason}; restore the newest copy, or retire this witness"
    )]
    Damaged { path: String, reason: String },
    /// The key is there and the state is not.
    #[error(
        "the witness's key {key} exists, but its state {path} is gone: a witness that lost what it cosigned must not go on. Restore the newest copy of the file, or \
         destroy the key, give the node another name, and publish a trust bundle with the new witness"
    )]
    Lost { key: String, path: String },
    /// Another key's state.
    #[error(
        "the witness's state {path} belongs to the key {found}, not to {expected}; restore the key or its state"
    )]
    OtherKey {
        path: String,
        found: String,
        expected: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vkey: Option<String>,
    origins: BTreeMap<String, StoredOrigin>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredOrigin {
    size: u64,
    root: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    frozen: Option<String>,
}

/// The state and its file.
#[derive(Clone, Debug)]
pub(crate) struct WitnessStore {
    path: PathBuf,
    vkey: Option<String>,
    state: WitnessState,
}

impl WitnessStore {
    /// Reads the state in `dir`, or begins one; then `key_exists` must be false. Blocks its thread.
    pub(crate) fn open(dir: &Path, key: &str, key_exists: bool) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        match private_files::read_public(&path, MAX_BYTES) {
            Ok(bytes) => Self::read(path, &bytes),
            Err(error) if !error.is_not_found() => Err(error.into()),
            Err(_) if key_exists => Err(StoreError::Lost {
                key: key.to_owned(),
                path: path.display().to_string(),
            }),
            Err(_) => {
                std::fs::create_dir_all(dir).map_err(|error| StoreError::Damaged {
                    path: dir.display().to_string(),
                    reason: error.to_string(),
                })?;
                let store = Self {
                    path,
                    vkey: None,
                    state: WitnessState::default(),
                };
                store.write(&store.state)?;
                Ok(store)
            }
        }
    }

    fn read(path: PathBuf, bytes: &[u8]) -> Result<Self, StoreError> {
        let damaged = |reason: String| StoreError::Damaged {
            path: path.display().to_string(),
            reason,
        };
        let stored: Stored = serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
        if stored.format != FORMAT {
            return Err(damaged(format!(
                "its format is {:?}, not {FORMAT:?}",
                stored.format
            )));
        }
        let read = |stored: StoredOrigin| {
            let root = Hash::from_hex(&stored.root)?;
            Ok(OriginState {
                size: stored.size,
                root,
                frozen: stored.frozen,
            })
        };
        let origins = stored
            .origins
            .into_iter()
            .map(|(origin, state)| Ok((origin, read(state)?)));
        let origins: Result<BTreeMap<_, _>, HashError> = origins.collect();
        let state = WitnessState {
            origins: origins.map_err(|e| damaged(e.to_string()))?,
        };
        Ok(Self {
            path,
            vkey: stored.vkey,
            state,
        })
    }

    /// Binds the state to the witness's key. Blocks its thread.
    pub(crate) fn bind(&mut self, vkey: &str) -> Result<(), StoreError> {
        match &self.vkey {
            Some(found) if found != vkey => Err(StoreError::OtherKey {
                path: self.path.display().to_string(),
                found: found.clone(),
                expected: vkey.to_owned(),
            }),
            Some(_) => Ok(()),
            None => {
                self.vkey = Some(vkey.to_owned());
                self.write(&self.state)
            }
        }
    }

    /// What the witness knows.
    pub(crate) fn state(&self) -> &WitnessState {
        &self.state
    }

    /// Sets an origin's state, durably first. Blocks its thread.
    pub(crate) fn set(&mut self, origin: &str, new: OriginState) -> Result<(), StoreError> {
        let mut state = self.state.clone();
        state.origins.insert(origin.to_owned(), new);
        self.write(&state)?;
        self.state = state;
        Ok(())
    }

    fn write(&self, state: &WitnessState) -> Result<(), StoreError> {
        let origins = state.origins.iter().map(|(origin, state)| {
            let stored = StoredOrigin {
                size: state.size,
                root: state.root.to_string(),
                frozen: state.frozen.clone(),
            };
            (origin.clone(), stored)
        });
        let stored = Stored {
            format: FORMAT.to_owned(),
            vkey: self.vkey.clone(),
            origins: origins.collect(),
        };
        let mut bytes =
            serde_json::to_vec_pretty(&stored).map_err(|error| StoreError::Damaged {
                path: self.path.display().to_string(),
                reason: error.to_string(),
            })?;
        bytes.push(b'\n');
        private_files::replace(&self.path, &bytes, PUBLIC_FILE)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(size: u64) -> OriginState {
        OriginState {
            size,
            root: Hash([7; 32]),
            frozen: None,
        }
    }

    #[test]
    fn what_was_set_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = WitnessStore::open(dir.path(), "w", false).unwrap();
        store.bind("w+0+a").unwrap();
        store.set("a/1", state(3)).unwrap();
        let frozen = OriginState {
            frozen: Some("incident".to_owned()),
            ..state(4)
        };
        store.set("b/1", frozen.clone()).unwrap();
        let again = WitnessStore::open(dir.path(), "w", true).unwrap();
        assert_eq!(again.state().origins["a/1"], state(3));
        assert_eq!(again.state().origins["b/1"], frozen);
    }

    #[test]
    fn a_witness_that_lost_its_state_does_not_start() {
        let dir = tempfile::tempdir().unwrap();
        let error = WitnessStore::open(dir.path(), "w", true).unwrap_err();
        assert!(matches!(error, StoreError::Lost { .. }), "{error}");
    }

    #[test]
    fn damage_and_another_keys_state_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = WitnessStore::open(dir.path(), "w", false).unwrap();
        store.bind("w+0+a").unwrap();
        assert!(matches!(
            store.bind("w+0+b"),
            Err(StoreError::OtherKey { .. })
        ));
        let path = dir.path().join(FILE);
        for bad in ["", "{}", "{\"format\":\"other\",\"origins\":{}}"] {
            std::fs::write(&path, bad).unwrap();
            let error = WitnessStore::open(dir.path(), "w", true).unwrap_err();
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        }
    }
}
