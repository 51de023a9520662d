//! The evidence log: a seal log of the installation's own. It seals manifests of bundles and heads of the event log. Several executors of an installation write it in turns:
//! whoever seals something opens it for that, under a lock beside it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use sealwarden_keys::private_files::FileLock;
use sealwarden_seal::note::Vkey;
use sealwarden_seal::record::{DigestAlgorithm, NONCE_BYTES, Record};
use sealwarden_seallog::{Leaf, LogError, SealLog};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::store::EvidenceError;
use crate::signer::Signer;

/// Policy in the records of manifests.
pub(super) const EVIDENCE: &str = "evidence";
/// Policy in the records of the event log's heads.
pub(super) const HEADS: &str = "heads";

/// What is sealed: a manifest, or heads.
pub(super) struct Subject {
    /// Its SHA-256.
    pub(super) digest: [u8; 32],
    /// [`EVIDENCE`] or [`HEADS`].
    pub(super) policy: &'static str,
    /// What it is.
    pub(super) words: String,
    /// What makes it one thing: a step's idempotency key, a number.
    pub(super) request_id: String,
    /// Now, Unix milliseconds.
    pub(super) now_ms: i64,
}

/// How long another executor may take to seal something.
const TURN: Duration = Duration::from_secs(10);

/// The log, opened for each use.
pub(super) struct EvidenceLog {
    dir: PathBuf,
    vkey: Vkey,
    signer: Arc<Signer>,
    log: Arc<Mutex<Slot>>,
}

/// The open log, and the lock of this life: work on a thread of its own may outlast the task that asked for it, and until it has ended no other life may begin.
struct Slot {
    log: Option<SealLog>,
    turn: Option<FileLock>,
    _life: Arc<FileLock>,
}

type Opened = OwnedMutexGuard<Slot>;

impl EvidenceLog {
    /// The log in a folder, with its verifier key.
    pub(super) fn new(dir: PathBuf, vkey: Vkey, signer: Arc<Signer>, life: Arc<FileLock>) -> Self {
        Self {
            dir,
            vkey,
            signer,
            log: Arc::new(Mutex::new(Slot {
                log: None,
                turn: None,
                _life: life,
            })),
        }
    }

    /// Its verifier key.
    pub(super) fn vkey(&self) -> &Vkey {
        &self.vkey
    }

    /// Seals a manifest, once: one that stands in the log already gets the seal of its place. Gives the seal file.
    pub(super) async fn seal(&self, subject: Subject) -> Result<String, EvidenceError> {
        let guard = self.ready().await?;
        let digest = subject.digest;
        let (guard, known) = blocking(move || find(guard, digest)).await??;
        match known {
            Some(text) => {
                close(guard);
                Ok(text)
            }
            None => self.append(guard, subject).await,
        }
    }

    /// Seals what was never sealed before, without looking for it. Gives the seal file.
    pub(super) async fn seal_new(&self, subject: Subject) -> Result<String, EvidenceError> {
        let guard = self.ready().await?;
        self.append(guard, subject).await
    }

    /// The open log. A batch that an earlier life left is signed first: its size gets no second root.
    async fn ready(&self) -> Result<Opened, EvidenceError> {
        let guard = Arc::clone(&self.log).lock_owned().await;
        let (dir, vkey) = (self.dir.clone(), self.vkey.clone());
        let guard = blocking(move || open(guard, &dir, &vkey)).await??;
        self.publish_staged(guard).await
    }

    async fn append(&self, guard: Opened, subject: Subject) -> Result<String, EvidenceError> {
        let (guard, index) = blocking(move || stage(guard, &subject)).await??;
        let guard = self.publish_staged(guard).await?;
        blocking(move || {
            let log = guard.log.as_ref().ok_or_else(closed)?;
            let text = log.view()?.seal_of(index)?.to_text();
            close(guard);
            Ok(text)
        })
        .await?
    }

    async fn publish_staged(&self, mut guard: Opened) -> Result<Opened, EvidenceError> {
        let Some(staged) = guard.log.as_ref().and_then(|log| log.staged().cloned()) else {
            return Ok(guard);
        };
        let note = self
            .signer
            .sign_as(&self.vkey, &staged.checkpoint_text)
            .await?;
        blocking(move || {
            if let Some(log) = guard.log.as_mut() {
                log.publish(&staged, &note)?;
            }
            Ok(guard)
        })
        .await?
    }
}

fn open(mut guard: Opened, dir: &Path, vkey: &Vkey) -> Result<Opened, EvidenceError> {
    // What an operation that failed left open is read anew.
    guard.log = None;
    guard.turn = None;
    super::folder::private_dirs(dir)?;
    let turn = dir.with_extension("turn");
    let turn = FileLock::take(&turn, TURN).map_err(|error| {
        EvidenceError::Log(format!(
            "another executor is sealing something in it: {error}"
        ))
    })?;
    guard.turn = Some(turn);
    guard.log = Some(SealLog::create(dir, vkey)?);
    Ok(guard)
}

/// Lets other executors have their turn. The log first: its own lock must be free when the turn is.
fn close(mut guard: Opened) {
    guard.log = None;
    guard.turn = None;
}

/// The seal of a manifest that stands in the log.
fn find(guard: Opened, digest: [u8; 32]) -> Result<(Opened, Option<String>), EvidenceError> {
    let Some(log) = guard.log.as_ref() else {
        return Ok((guard, None));
    };
    let view = log.view()?;
    let mut place = None;
    for leaf in view.iter() {
        let (index, leaf) = leaf?;
        if Record::decode(&leaf.record).is_ok_and(|record| record.digest == digest) {
            place = Some(index);
            break;
        }
    }
    let text = place
        .map(|index| view.seal_of(index).map(|seal| seal.to_text()))
        .transpose()?;
    Ok((guard, text))
}

/// Stages a leaf; gives its index.
fn stage(mut guard: Opened, subject: &Subject) -> Result<(Opened, u64), EvidenceError> {
    let mut nonce = [0; NONCE_BYTES];
    SystemRandom::new()
        .fill(&mut nonce)
        .map_err(|_| EvidenceError::Log("the system's random source failed".to_owned()))?;
    let record = Record {
        tenant: "sealwarden".to_owned(),
        policy: subject.policy.to_owned(),
        digest_algorithm: DigestAlgorithm::Sha256,
        digest: subject.digest,
        claimed_at_ms: subject.now_ms,
        subject: Some(subject.words.clone()),
        original: None,
        request_id: Some(subject.request_id.clone()),
    };
    let record = record
        .encode()
        .map_err(|error| EvidenceError::Log(error.to_string()))?;
    let log = guard.log.as_mut().ok_or_else(closed)?;
    let index = log.stage(vec![Leaf { nonce, record }])?.old_size;
    Ok((guard, index))
}

fn closed() -> EvidenceError {
    EvidenceError::Log("it is not open".to_owned())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, EvidenceError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| EvidenceError::Log(format!("the work was ended: {error}")))
}

impl From<LogError> for EvidenceError {
    fn from(error: LogError) -> Self {
        Self::Log(error.to_string())
    }
}
