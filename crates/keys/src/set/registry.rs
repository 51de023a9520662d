//! Which provider keeps which sealing key: what is known of each, also while its provider is away.
//!
//! `sealing-keys.json`, replaced as a whole. It is the set's memory and no authority: a provider judges its keys itself at every
//! use.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{
    algorithm::{PublicKey, hex_key},
    attestation::StoredAttestation,
    blocking::blocking,
    error::KeyError,
    id::KeyId,
    private_files::{self, PRIVATE_FILE},
    provider::{KeyInfo, KeyState, Purpose},
};

/// The file is shorter, in bytes: thousands of keys.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u8,
    keys: Vec<Stored>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    id: KeyId,
    purpose: Purpose,
    #[serde(with = "hex_key")]
    public_key: PublicKey,
    state: KeyState,
    created_at_ms: i64,
    provider: String,
    attestation: StoredAttestation,
}

impl From<&KeyInfo> for Stored {
    fn from(info: &KeyInfo) -> Self {
        Self {
            id: info.id.clone(),
            purpose: info.purpose,
            public_key: info.public_key.clone(),
            state: info.state,
            created_at_ms: info.created_at_ms,
            provider: info.provider.clone(),
            attestation: info.attestation.clone().into(),
        }
    }
}

impl From<Stored> for KeyInfo {
    fn from(stored: Stored) -> Self {
        Self {
            id: stored.id,
            purpose: stored.purpose,
            public_key: stored.public_key,
            state: stored.state,
            created_at_ms: stored.created_at_ms,
            provider: stored.provider,
            attestation: stored.attestation.into(),
        }
    }
}

/// The known sealing keys.
pub(super) struct Registry {
    path: PathBuf,
    /// The providers there are. A key of any other one is remembered, and free to turn up in one of these.
    configured: Arc<[String]>,
    keys: Arc<Mutex<BTreeMap<KeyId, KeyInfo>>>,
}

impl Registry {
    pub(super) async fn open(dir: &Path, configured: Vec<String>) -> Result<Self, KeyError> {
        let path = dir.join("sealing-keys.json");
        let at = path.clone();
        let keys = blocking(move || read(&at)).await?;
        Ok(Self {
            path,
            configured: configured.into(),
            keys: Arc::new(Mutex::new(keys)),
        })
    }

    pub(super) fn get(&self, id: &KeyId) -> Option<KeyInfo> {
        let keys = held(&self.keys);
        let known = keys.get(id)?;
        self.configured
            .contains(&known.provider)
            .then(|| known.clone())
    }

    /// The keys of one provider.
    pub(super) fn of(&self, provider: &str) -> Vec<KeyInfo> {
        let keys = held(&self.keys);
        keys.values()
            .filter(|info| info.provider == provider)
            .cloned()
            .collect()
    }

    /// Remembers a key, unless that contradicts what is known of the others: one key never has two names or two providers,
    /// so that it never has two purposes.
    pub(super) async fn put(&self, info: &KeyInfo) -> Result<(), KeyError> {
        let (path, keys, info) = (self.path.clone(), Arc::clone(&self.keys), info.clone());
        let configured = Arc::clone(&self.configured);
        blocking(move || {
            let mut keys = held(&keys);
            if keys.get(&info.id) == Some(&info) {
                return Ok(());
            }
            contradiction(keys.values(), &info, Some(&configured))?;
            let mut changed = keys.clone();
            changed.insert(info.id.clone(), info);
            write(&path, changed.values())?;
            *keys = changed;
            Ok(())
        })
        .await
    }
}

/// Refuses `info` if one of `keys` is the same key in another role, or another key of the same name. A key may move to another
/// provider's name only if its own is not `configured` any more.
pub(super) fn contradiction<'a>(
    keys: impl IntoIterator<Item = &'a KeyInfo>,
    info: &KeyInfo,
    configured: Option<&[String]>,
) -> Result<(), KeyError> {
    let refused = |reason: String| {
        Err(KeyError::Refused {
            id: info.id.clone(),
            reason,
        })
    };
    for known in keys {
        let moved = known.provider != info.provider
            && configured.is_none_or(|names| names.contains(&known.provider));
        if known.id == info.id && (moved || known.public_key != info.public_key) {
            return refused(format!(
                "a {} key of this name is in the {} provider already: remove one of them from the settings, or choose another name",
                known.purpose, known.provider
            ));
        }
        let same_role = known.id == info.id && known.purpose == info.purpose;
        if known.public_key == info.public_key && !same_role {
            return refused(format!(
                "it is the same key as the {} key {} of the {} provider, and a key has one name and one purpose: make a new key, and find out who put this one there",
                known.purpose, known.id, known.provider
            ));
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<BTreeMap<KeyId, KeyInfo>, KeyError> {
    let corrupt = |reason: String| KeyError::Corrupt {
        what: path.display().to_string(),
        reason,
    };
    let bytes = match private_files::read_private(path, MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    let content: Content =
        serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
    if content.version != 1 {
        return Err(corrupt("its version is not 1".to_owned()));
    }
    let infos = content.keys.into_iter().map(KeyInfo::from);
    Ok(infos.map(|info| (info.id.clone(), info)).collect())
}

fn write<'a>(path: &Path, keys: impl Iterator<Item = &'a KeyInfo>) -> Result<(), KeyError> {
    let content = Content {
        version: 1,
        keys: keys.map(Stored::from).collect(),
    };
    let bytes = serde_json::to_vec_pretty(&content).map_err(|error| KeyError::Unavailable {
        reason: format!("the list of sealing keys could not be written: {error}"),
    })?;
    Ok(private_files::replace(path, &bytes, PRIVATE_FILE)?)
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
