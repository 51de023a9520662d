//! `log.json`: which log a folder holds, and the keys that may sign it. Its first key never changes; further ones are added.

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
    /// The key that it was begun with.
    pub vkey: Vkey,
    /// Further keys that sign its checkpoints, or may: standby keys, and those of planned rotations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<Vkey>,
}

const FILE: &str = "log.json";

impl Identity {
    /// The log that `vkey` signs for.
    pub fn of(vkey: &Vkey) -> Self {
        Self {
            origin: vkey.name().to_owned(),
            vkey: vkey.clone(),
            further: Vec::new(),
        }
    }

    /// Every key that may sign its checkpoints.
    pub fn vkeys(&self) -> Vec<Vkey> {
        std::iter::once(&self.vkey)
            .chain(&self.further)
            .cloned()
            .collect()
    }

    /// Writes that these keys may sign, too; those that are there stay. Answers whether there was news.
    pub(crate) fn extend(
        &mut self,
        disk: &mut Disk,
        dir: &Path,
        vkeys: &[Vkey],
    ) -> Result<bool, LogError> {
        let mut extended = self.clone();
        for vkey in vkeys {
            if vkey.name() != self.origin {
                return Err(refused(dir, format!("{vkey} is no key of {}", self.origin)));
            }
            if *vkey != self.vkey && !extended.further.contains(vkey) {
                extended.further.push(vkey.clone());
            }
        }
        if extended == *self {
            return Ok(false);
        }
        extended.write(disk, dir)?;
        *self = extended;
        Ok(true)
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
        if !identity.is_consistent() {
            return Err(refused(
                dir,
                format!("{FILE} names another origin than its keys"),
            ));
        }
        Ok(Some(identity))
    }

    /// Makes the folder and writes the file, or checks that the one there says the same.
    pub(crate) fn establish(&self, disk: &mut Disk, dir: &Path) -> Result<(), LogError> {
        if let Some(found) = Self::find(dir)? {
            let reason = || format!("it holds {} with the key {}", found.origin, found.vkey);
            return if found.origin == self.origin && found.vkey == self.vkey {
                Ok(())
            } else {
                Err(refused(dir, reason()))
            };
        }
        let base = dir
            .ancestors()
            .skip(1)
            .map(|above| {
                if above.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    above
                }
            })
            .find(|above| above.is_dir())
            .unwrap_or(parent(dir));
        disk.create_dirs(base, dir, Access::Public)?;
        self.write(disk, dir)?;
        disk.sync_all(&[], std::iter::empty().collect())
    }

    fn write(&self, disk: &mut Disk, dir: &Path) -> Result<(), LogError> {
        let json = serde_json::to_vec_pretty(self)
            .map_err(|error| refused(dir, format!("{FILE} cannot be written: {error}")))?;
        disk.replace(&dir.join(FILE), &json, Access::Public)
    }

    /// Whether all its keys are named like its origin.
    pub(crate) fn is_consistent(&self) -> bool {
        let mut keys = std::iter::once(&self.vkey).chain(&self.further);
        keys.all(|it| it.name() == self.origin)
    }
}

fn refused(dir: &Path, reason: String) -> LogError {
    LogError::Identity {
        dir: dir.to_path_buf(),
        reason,
    }
}
