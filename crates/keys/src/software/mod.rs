//! Keys as files of one folder, sealed under a guard.
//!
//! ```text
//! <dir>/guard-check.json   which guard opens this folder (no secret)
//! <dir>/<id>.key.json      one file a key: public part in the clear, seed sealed with AES-256-GCM
//! <dir>/audit.log          one JSON line a use, durable before the signature is made
//! <dir>/lock               serialises the writers of key files
//! ```
//!
//! Several processes may use one folder. Nothing private is kept between uses but the folder's wrapping key: every
//! use reads the key file, so a disabled key is refused at once by all of them. A use does not take the lock:
//! a stopped process must not be able to delay a disablement.

mod guard;
mod keyfile;
mod seed;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use ring::{
    digest,
    rand::{SecureRandom, SystemRandom},
};
use zeroize::Zeroizing;

pub use self::guard::Guard;
use self::{guard::WrappingKey, keyfile::KeyFile};
use crate::{
    algorithm::{Algorithm, Signature},
    audit::AuditLog,
    blocking::blocking,
    error::KeyError,
    id::KeyId,
    private_files::{self, FileError, FileLock},
    provider::{
        AuditEntry, AuditLine, Capabilities, CreateKey, DisableOutcome, KeyInfo, KeyProvider,
        KeyState, Purpose, is_destroyed, known,
    },
};

/// The provider's name in reports.
const NAME: &str = "software";
/// Ending of key files.
const KEY_FILE: &str = ".key.json";
/// How long a writer waits for another process's write.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
/// What a report must say about a disabled software key.
const COPIES: &str = "a software key is a file: this provider refuses it from now on, but a copy made before would go on signing";

/// Where the software provider keeps its keys and what opens them.
#[derive(Clone, Debug)]
pub struct SoftwareConfig {
    /// The folder, made with mode 0700 on first use.
    pub dir: PathBuf,
    /// What the key files are sealed under.
    pub guard: Guard,
}

/// Keys as sealed files; see the module's description.
pub struct SoftwareProvider {
    folder: Arc<Folder>,
}

struct Folder {
    dir: PathBuf,
    wrapping: WrappingKey,
    audit: AuditLog,
}

impl SoftwareProvider {
    /// Opens the folder of keys, making it on first use. Deriving the wrapping key from a passphrase takes about a
    /// fifth of a second.
    pub async fn open(config: SoftwareConfig) -> Result<Self, KeyError> {
        blocking(move || Folder::open(config))
            .await
            .map(|folder| Self {
                folder: Arc::new(folder),
            })
    }

    async fn with_folder<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> Result<T, KeyError> + Send + 'static,
    ) -> Result<T, KeyError> {
        let folder = Arc::clone(&self.folder);
        blocking(move || work(&folder)).await
    }
}

#[async_trait]
impl KeyProvider for SoftwareProvider {
    fn name(&self) -> &str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            can_disable: false,
            keeps_audit: false,
            attests_origin: false,
        }
    }

    async fn create(&self, key: &CreateKey) -> Result<KeyInfo, KeyError> {
        key.fits(NAME, &[Algorithm::Ed25519, Algorithm::MlDsa44])?;
        let key = key.clone();
        self.with_folder(move |folder| folder.create(&key)).await
    }

    async fn info(&self, id: &KeyId) -> Result<KeyInfo, KeyError> {
        let id = id.clone();
        self.with_folder(move |folder| folder.load(&id).map(|file| file.info(&id, NAME)))
            .await
    }

    async fn list(&self) -> Result<Vec<KeyInfo>, KeyError> {
        self.with_folder(Folder::list).await
    }

    async fn sign(
        &self,
        id: &KeyId,
        purpose: Purpose,
        message: &[u8],
    ) -> Result<Signature, KeyError> {
        let id = id.clone();
        let message = message.to_vec();
        self.with_folder(move |folder| folder.sign(&id, purpose, &message))
            .await
    }

    async fn disable(&self, id: &KeyId) -> Result<DisableOutcome, KeyError> {
        let id = id.clone();
        self.with_folder(move |folder| folder.lower(&id, KeyState::Disabled))
            .await
    }

    async fn destroy(&self, id: &KeyId) -> Result<DisableOutcome, KeyError> {
        let id = id.clone();
        self.with_folder(move |folder| folder.lower(&id, KeyState::Destroyed))
            .await
    }

    async fn restore(&self, id: &KeyId) -> Result<KeyInfo, KeyError> {
        let id = id.clone();
        self.with_folder(move |folder| folder.restore(&id)).await
    }

    async fn audit_after(&self, cursor: u64, limit: usize) -> Result<Vec<AuditLine>, KeyError> {
        self.with_folder(move |folder| folder.audit.read_after(cursor, limit))
            .await
    }

    /// Whether folder and audit are there.
    async fn probe(&self, provider: &str) -> Result<(), KeyError> {
        known(NAME, provider)?;
        self.with_folder(|folder| {
            key_names(&folder.dir)?;
            folder.audit.check()
        })
        .await
    }
}

impl Folder {
    fn open(config: SoftwareConfig) -> Result<Self, KeyError> {
        let SoftwareConfig { dir, guard } = config;
        private_files::private_dir(&dir)?;
        let _lock = lock(&dir)?;
        private_files::remove_leftovers(&dir)?;
        let is_new = !guard::check_exists(&dir);
        if is_new && !key_names(&dir)?.is_empty() {
            return Err(guard::check_is_missing(&dir));
        }
        let audit = AuditLog::open(&dir, is_new)?;
        let wrapping = guard::open(&dir, &guard)?;
        Ok(Self {
            dir,
            wrapping,
            audit,
        })
    }

    fn path(&self, id: &KeyId) -> PathBuf {
        self.dir.join(format!("{id}{KEY_FILE}"))
    }

    fn load(&self, id: &KeyId) -> Result<KeyFile, KeyError> {
        let path = self.path(id);
        match private_files::read_private(&path, keyfile::MAX_BYTES) {
            Ok(bytes) => KeyFile::parse(&path, &bytes, id, &self.wrapping),
            Err(error) if error.is_not_found() => Err(KeyError::NotFound { id: id.clone() }),
            Err(error) => Err(error.into()),
        }
    }

    fn create(&self, key: &CreateKey) -> Result<KeyInfo, KeyError> {
        let (id, purpose, algorithm) = (&key.id, key.purpose, key.algorithm);
        let mut seed = Zeroizing::new([0_u8; seed::SEED]);
        SystemRandom::new()
            .fill(seed.as_mut())
            .map_err(|_| no_randomness())?;
        let now_ms = Timestamp::now().as_millisecond();
        let file = KeyFile::new(id, purpose, now_ms, algorithm, &seed, &self.wrapping)?;
        let _lock = lock(&self.dir)?;
        let path = self.path(id);
        if private_files::create(&path, &file.to_json()?, private_files::PRIVATE_FILE)? {
            tracing::info!(key = %id, %purpose, %algorithm, "key created");
            Ok(file.info(id, NAME))
        } else {
            Err(KeyError::AlreadyExists { id: id.clone() })
        }
    }

    fn list(&self) -> Result<Vec<KeyInfo>, KeyError> {
        key_names(&self.dir)?
            .into_iter()
            .map(|id| self.load(&id).map(|file| file.info(&id, NAME)))
            .collect()
    }

    fn sign(&self, id: &KeyId, purpose: Purpose, message: &[u8]) -> Result<Signature, KeyError> {
        // Refused uses leave no audit line: the audit lists what may have been signed.
        self.load(id)?.usable_for(id, purpose)?;
        let hash = digest::digest(&digest::SHA256, message);
        let mut message_sha256 = [0_u8; 32];
        message_sha256.copy_from_slice(hash.as_ref());
        self.audit.append(&AuditEntry {
            key: id.clone(),
            purpose,
            message_sha256,
            at_ms: Timestamp::now().as_millisecond(),
        })?;
        // The sync took its time, and the key may have been disabled meanwhile: what counts is its state now.
        let file = self.load(id)?;
        file.usable_for(id, purpose)?;
        file.sign(&self.path(id), message, &self.wrapping)
    }

    /// Moves a key down its life, to `state`; a key that is there or further down stays.
    fn lower(&self, id: &KeyId, state: KeyState) -> Result<DisableOutcome, KeyError> {
        let _lock = lock(&self.dir)?;
        let file = self.load(id)?;
        if !file.is_at_or_below(state) {
            self.change(&file, id, state)?;
        }
        Ok(DisableOutcome::LocalOnly {
            reason: COPIES.to_owned(),
        })
    }

    /// Lets a disabled key sign again.
    fn restore(&self, id: &KeyId) -> Result<KeyInfo, KeyError> {
        let _lock = lock(&self.dir)?;
        let file = self.load(id)?;
        match file.info(id, NAME).state {
            KeyState::Active => Ok(file.info(id, NAME)),
            KeyState::Disabled => self
                .change(&file, id, KeyState::Active)
                .map(|file| file.info(id, NAME)),
            KeyState::Destroyed => Err(is_destroyed(id)),
        }
    }

    /// Stores the key in another state and overwrites the file before it. The caller holds the lock.
    fn change(&self, file: &KeyFile, id: &KeyId, state: KeyState) -> Result<KeyFile, KeyError> {
        let path = self.path(id);
        let changed = file.in_state(&path, id, state, &self.wrapping)?;
        private_files::replace_and_scrub(&path, &changed.to_json()?, private_files::PRIVATE_FILE)?;
        tracing::warn!(key = %id, %state, "key state changed");
        Ok(changed)
    }
}

fn lock(dir: &Path) -> Result<FileLock, FileError> {
    FileLock::take(&dir.join("lock"), LOCK_PATIENCE)
}

fn no_randomness() -> KeyError {
    KeyError::Unavailable {
        reason: "the operating system gave no random bytes".to_owned(),
    }
}

/// The ids of the key files in `dir`, sorted.
fn key_names(dir: &Path) -> Result<Vec<KeyId>, KeyError> {
    let unreadable = |error: std::io::Error| KeyError::Unavailable {
        reason: format!("cannot list {}: {error}", dir.display()),
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        if let Some(id) = name.to_str().and_then(|name| name.strip_suffix(KEY_FILE)) {
            names.push(KeyId::new(id).map_err(|error| KeyError::Corrupt {
                what: dir.join(&name).display().to_string(),
                reason: error.to_string(),
            })?);
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests;
