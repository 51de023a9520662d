//! `log.json`: which log a folder holds. Written once.

use crate::disk::{Access, Disk, parent, read_if_there};
use crate::error::LogError;
use sealwarden_seal::note::Vkey;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What [`crate::SealLog::create`] writes into the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The log's origin, which is also its key's name.
    pub origin: String,
    /// The key that signs its checkpoints.
    pub vkey: Vkey,
}

const FILE: &str = "log.json";

impl Identity {
    /// The log that `vkey` signs for.
    pub fn of(vkey: &Vkey) -> Self {
        Self {
            origin: vkey.name().to_owned(),
            vkey: vkey.clone(),
        }
    }

    /// Reads which log a folder holds.
    pub fn read(dir: &Path) -> Result<Self, LogError> {
        let identity = Self::find(dir)?;
        identity.ok_or_else(|| refused(dir, format!("it holds no {FILE}; create the log first")))
    }

    pub(crate) fn find(dir: &Path) -> Result<Option<Self>, LogError> {
        let Some(bytes) = read_if_there(&dir.join(FILE))? else {
            return Ok(None);
        };
        let identity: Self = serde_json::from_slice(&bytes)
            .map_err(|error| refused(dir, format!("{FILE} is damaged: {error}")))?;
        if identity.origin != identity.vkey.name() {
            return Err(refused(
                dir,
                format!("{FILE} names another origin than its key"),
            ));
        }
        Ok(Some(identity))
    }

    /// Makes the folder and writes the file, or checks that the one there says the same.
    pub(crate) fn establish(&self, disk: &mut Disk, dir: &Path) -> Result<(), LogError> {
        if let Some(found) = Self::find(dir)? {
            let reason = || format!("it holds {} with the key {}", found.origin, found.vkey);
            return if found == *self {
                Ok(())
            } else {
                Err(refused(dir, reason()))
            };
        }
        let base = dir
            .ancestors()
            .skip(1)
            .find(|above| above.is_dir())
            .unwrap_or(parent(dir));
        disk.create_dirs(base, dir, Access::Public)?;
        let json = serde_json::to_vec_pretty(self)
            .map_err(|error| refused(dir, format!("{FILE} cannot be written: {error}")))?;
        disk.replace(&dir.join(FILE), &json, Access::Public)?;
        disk.sync_all(&[], std::iter::empty().collect())
    }
}

fn refused(dir: &Path, reason: String) -> LogError {
    LogError::Identity {
        dir: dir.to_path_buf(),
        reason,
    }
}
