//! The provider's folder: which token it belongs to, the records of its keys, and its audit.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use ring::digest;
use serde::{Deserialize, Serialize};

use super::{
    NAME,
    desk::BeforeUse,
    protocol::TokenFacts,
    record::{self, Record},
};
use crate::{
    audit::AuditLog,
    error::KeyError,
    id::KeyId,
    private_files::{self, FileError, FileLock, PRIVATE_FILE},
    provider::{AuditEntry, KeyInfo, KeyState, Purpose, is_destroyed},
};

/// How long a writer waits for another process's write.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// `token.json` is well below this.
const MAX_TOKEN_FILE: u64 = 16 * 1024;

/// The provider's own files.
pub(super) struct Folder {
    pub(super) dir: PathBuf,
    pub(super) audit: AuditLog,
}

/// The content of `token.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
    version: u8,
    token: TokenFacts,
}

impl Folder {
    /// Opens the folder, made on first use; it may belong to the token of this label only.
    pub(super) fn open(dir: PathBuf, label: &str) -> Result<(Self, Option<TokenFacts>), KeyError> {
        private_files::private_dir(&dir)?;
        let _lock = lock(&dir)?;
        private_files::remove_leftovers(&dir)?;
        let known = read_token(&dir)?;
        if let Some(known) = known.as_ref().filter(|known| known.label != label) {
            return Err(KeyError::Unsafe {
                reason: format!(
                    "the keys described in {} are in the token {:?}, not in {label:?}: name that token, or use another data folder",
                    dir.display(),
                    known.label
                ),
            });
        }
        let is_new = known.is_none() && record::names(&dir)?.is_empty();
        let audit = AuditLog::open(&dir, is_new)?;
        Ok((Self { dir, audit }, known))
    }

    /// Serialises the writers of records.
    pub(super) fn lock(&self) -> Result<FileLock, FileError> {
        lock(&self.dir)
    }

    /// Stores which token the folder belongs to.
    pub(super) fn remember(
        &self,
        token: TokenFacts,
        known: Option<&TokenFacts>,
    ) -> Result<(), KeyError> {
        if let Some(known) = known {
            tracing::warn!(
                label = token.label,
                before = known.serial,
                now = token.serial,
                "another token has the label that the keys were made under"
            );
        }
        let content = serde_json::to_vec_pretty(&TokenFile { version: 1, token }).map_err(|e| {
            KeyError::Unavailable {
                reason: format!("token.json could not be made: {e}"),
            }
        })?;
        let _lock = self.lock()?;
        private_files::replace(&token_path(&self.dir), &content, PRIVATE_FILE)?;
        Ok(())
    }

    /// The record that a creation goes on with, new or left over, and the lock that keeps others from doing the same. That is
    /// not the lock of the records: a slow token must not delay a disablement.
    pub(super) fn begin(
        &self,
        id: &KeyId,
        purpose: Purpose,
        token: &TokenFacts,
    ) -> Result<(FileLock, Record), KeyError> {
        let creating = FileLock::take(&self.dir.join("create.lock"), LOCK_PATIENCE)?;
        let exists = || KeyError::AlreadyExists { id: id.clone() };
        match Record::load(&self.dir, id) {
            Ok(left) if left.is_unmade() && left.purpose() == purpose => Ok((creating, left)),
            Ok(_) => Err(exists()),
            Err(KeyError::NotFound { .. }) => {
                let now_ms = Timestamp::now().as_millisecond();
                let record = Record::new(id, purpose, token, now_ms)?;
                let _lock = self.lock()?;
                if record.create(&self.dir)? {
                    Ok((creating, record))
                } else {
                    Err(exists())
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Describes every made key.
    pub(super) fn list(&self) -> Result<Vec<KeyInfo>, KeyError> {
        let mut keys = Vec::new();
        for id in record::names(&self.dir)? {
            let record = Record::load(&self.dir, &id)?;
            if !record.is_unmade() {
                keys.push(record.info(NAME)?);
            }
        }
        Ok(keys)
    }

    /// Moves a made key down to `state`; one that is there or further down stays.
    pub(super) fn lower(&self, id: &KeyId, state: KeyState) -> Result<Record, KeyError> {
        let _lock = self.lock()?;
        let record = Record::load(&self.dir, id)?;
        let Some(now) = record.state() else {
            return Err(KeyError::NotFound { id: id.clone() });
        };
        if rank(now) >= rank(state) {
            return Ok(record);
        }
        self.change(record, state)
    }

    /// Lets a disabled key sign again.
    pub(super) fn restore(&self, id: &KeyId) -> Result<Record, KeyError> {
        let _lock = self.lock()?;
        let record = Record::load(&self.dir, id)?;
        match record.state() {
            None => Err(KeyError::NotFound { id: id.clone() }),
            Some(KeyState::Active) => Ok(record),
            Some(KeyState::Disabled) => self.change(record, KeyState::Active),
            Some(KeyState::Destroyed) => Err(is_destroyed(id)),
        }
    }

    /// Stores a record in another state. The caller holds the lock.
    fn change(&self, record: Record, state: KeyState) -> Result<Record, KeyError> {
        let record = record.in_state(state);
        record.replace(&self.dir)?;
        tracing::warn!(key = %record.id(), %state, "key state changed");
        Ok(record)
    }

    /// Records a use durably, and looks at the key's state once more after that took its time.
    pub(super) fn recorder(
        self: &Arc<Self>,
        id: &KeyId,
        purpose: Purpose,
        message: &[u8],
    ) -> BeforeUse {
        let mut message_sha256 = [0; 32];
        message_sha256.copy_from_slice(digest::digest(&digest::SHA256, message).as_ref());
        let (folder, key) = (Arc::clone(self), id.clone());
        Arc::new(move || {
            Record::load(&folder.dir, &key)?.usable_for(purpose)?;
            folder.audit.append(&AuditEntry {
                key: key.clone(),
                purpose,
                message_sha256,
                at_ms: Timestamp::now().as_millisecond(),
            })?;
            Record::load(&folder.dir, &key)?.usable_for(purpose)
        })
    }
}

fn lock(dir: &Path) -> Result<FileLock, FileError> {
    FileLock::take(&dir.join("lock"), LOCK_PATIENCE)
}

fn token_path(dir: &Path) -> PathBuf {
    dir.join("token.json")
}

fn read_token(dir: &Path) -> Result<Option<TokenFacts>, KeyError> {
    let path = token_path(dir);
    let corrupt = |reason: String| KeyError::Corrupt {
        what: path.display().to_string(),
        reason,
    };
    let bytes = match private_files::read_private(&path, MAX_TOKEN_FILE) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let file: TokenFile = serde_json::from_slice(&bytes).map_err(|e| corrupt(e.to_string()))?;
    if file.version == 1 {
        Ok(Some(file.token))
    } else {
        Err(corrupt("its version is not 1".to_owned()))
    }
}

fn rank(state: KeyState) -> u8 {
    match state {
        KeyState::Active => 0,
        KeyState::Disabled => 1,
        KeyState::Destroyed => 2,
    }
}
