//! The writer: stage, publish, recover.
//!
//! A batch goes through these steps, and a crash may fall between any two of their operations:
//!
//! 1. [`SealLog::stage`]: the right edge is read and checked, the batch becomes durable in `staged`; a large one's leaves
//!    become durable in the private segment first, where they stay.
//! 2. The caller records its intent and signs `checkpoint_text`.
//! 3. [`SealLog::publish`]: tiles, bundles and private segments become durable, then `checkpoint` is replaced, then `staged`
//!    is removed. Only then may the caller answer.
//!
//! Whatever was interrupted is done again by the same call with the same batch: every file gets the same bytes. Files get their
//! names before they are synced, all in one go: until the checkpoint says so, nobody is told that they are there, and a name
//! whose contents a power cut took is written again when the batch is finished.

use crate::disk::{Access, Disk, parent, read_if_there, temporary};
use crate::edge::Edge;
use crate::error::LogError;
use crate::faults::{Faults, NoFaults};
use crate::identity::Identity;
use crate::leaf::MAX_RECORD_BYTES;
use crate::leaves::Leaves;
use crate::private::{self, Unsynced};
use crate::published::Published;
use crate::space::ReserveError;
use crate::staged::{MAX_BATCH_BYTES, MAX_BATCH_LEAVES, Staged, StagedFile};
use crate::view::{CHECKPOINT, LogReader, SignedCheckpoint, View, WITNESSED};
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::merkle::{Hash, empty_root};
use sealwarden_seal::note::{Note, Vkey};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) const STAGED: &str = "staged";
const LOCK: &str = "lock";

/// The caller's word on whether an intent stands in the event stream for the staged batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// It may stand there: the key may have been used, so the batch can only be published.
    PerhapsRecorded,
    /// The stream was read and holds none.
    NotRecorded,
}

/// The one writer of a log's folder.
#[derive(Debug)]
pub struct SealLog {
    dir: PathBuf,
    origin: String,
    disk: Disk,
    reader: LogReader,
    published: Option<SignedCheckpoint>,
    witnessed: Option<SignedCheckpoint>,
    staged: Option<Staged>,
    /// Something may lie behind the last leaf of the private segments.
    untidy: bool,
    /// Held as long as the writer lives.
    _lock: File,
}

impl SealLog {
    /// Begins a log whose checkpoints `vkey` signs (the key is named like the origin). A folder that already holds this very
    /// log is opened.
    pub fn create(dir: &Path, vkey: &Vkey) -> Result<Self, LogError> {
        Self::create_with(dir, vkey, Arc::new(NoFaults))
    }

    /// Opens a log and finds out where it was: [`SealLog::staged`] says whether a batch waits.
    pub fn open(dir: &Path) -> Result<Self, LogError> {
        Self::open_with(dir, Arc::new(NoFaults))
    }

    /// [`SealLog::create`] with faults, for tests.
    pub fn create_with(dir: &Path, vkey: &Vkey, faults: Arc<dyn Faults>) -> Result<Self, LogError> {
        let mut disk = Disk::new(faults);
        Identity::of(vkey).establish(&mut disk, dir)?;
        Self::recover(dir, disk)
    }

    /// [`SealLog::open`] with faults, for tests.
    pub fn open_with(dir: &Path, faults: Arc<dyn Faults>) -> Result<Self, LogError> {
        Self::recover(dir, Disk::new(faults))
    }

    fn recover(dir: &Path, mut disk: Disk) -> Result<Self, LogError> {
        let reader = LogReader::new(dir, Identity::read(dir)?);
        let lock = lock(dir)?;
        disk.open(dir)?;
        let view = reader.view()?;
        let mut log = Self {
            dir: dir.to_path_buf(),
            origin: reader.identity().origin.clone(),
            disk,
            reader,
            published: view.published().cloned(),
            witnessed: view.witnessed().cloned(),
            staged: None,
            untidy: true,
            _lock: lock,
        };
        log.read_staged()?;
        log.check_not_rolled_back()?;
        Ok(log)
    }

    fn read_staged(&mut self) -> Result<(), LogError> {
        let path = self.dir.join(STAGED);
        let Some(bytes) = read_if_there(&path)? else {
            return Ok(());
        };
        let damaged = |reason: String| LogError::StagedDamaged {
            path: path.clone(),
            reason,
        };
        let staged = StagedFile::decode(&bytes, self.origin())
            .map_err(|reason| damaged(reason.to_owned()))?;
        if staged.old_size == self.size() {
            let leaves = match staged.leaves {
                Some(leaves) => leaves,
                None => private::read(&self.dir, staged.old_size..staged.size)
                    .map_err(|error| damaged(format!("its leaves cannot be read: {error}")))?
                    .into(),
            };
            let found = self.grow(leaves)?;
            if found.root != staged.root {
                return Err(damaged(format!(
                    "it says root {}, its leaves give {}",
                    staged.root, found.root
                )));
            }
            self.staged = Some(found);
            return Ok(());
        }
        if staged.size == self.size() && staged.root == self.root() {
            // The process died after the checkpoint was renamed: only the cleaning up is left.
            self.disk.sync_dir(&self.dir)?;
            return self.disk.remove(&path);
        }
        let (old, new, size) = (staged.old_size, staged.size, self.size());
        Err(damaged(format!(
            "it grows the log from {old} to {new}, the checkpoint says {size}"
        )))
    }

    /// Removes what lies behind the last leaf, before other leaves are written there. Opening a log removes nothing: its
    /// checkpoint may be one that somebody put back. Until then the staged batch, under its name or its temporary one,
    /// accounts for those bytes.
    fn tidy(&mut self) -> Result<(), LogError> {
        if self.untidy && self.staged.is_none() {
            let size = self.size();
            private::trim(&mut self.disk, &self.dir, size)?;
            self.disk.remove(&temporary(&self.dir.join(STAGED)))?;
            self.untidy = false;
        }
        Ok(())
    }

    /// A log without a checkpoint is a new one; tiles beside it mean that the checkpoint was lost. Beginning anew would give
    /// sizes a second root.
    fn check_not_rolled_back(&self) -> Result<(), LogError> {
        let is_new = self.published.is_none() && self.staged.is_none();
        if is_new && (self.dir.join("tile").exists() || self.witnessed.is_some()) {
            let reason = "it is gone, and the log's tiles are there".to_owned();
            return Err(LogError::Checkpoint {
                path: self.dir.join(CHECKPOINT),
                reason,
            });
        }
        let witnessed = self
            .witnessed
            .as_ref()
            .map_or(0, |signed| signed.checkpoint.size);
        if witnessed > self.size() {
            let size = self.size();
            let reason = format!("it has size {size}, and a witness cosigned size {witnessed}");
            return Err(LogError::Checkpoint {
                path: self.dir.join(CHECKPOINT),
                reason,
            });
        }
        Ok(())
    }

    /// The log's origin.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Lets these keys sign checkpoints, too, from the next one on and for all readers; durable when it returns. They are named like the origin.
    pub fn trust_keys(&mut self, vkeys: &[Vkey]) -> Result<(), LogError> {
        self.disk.check()?;
        let mut identity = (*self.reader.identity()).clone();
        if identity.extend(&mut self.disk, &self.dir, vkeys)? {
            self.reader.learn(identity);
        }
        Ok(())
    }

    /// The published size.
    pub fn size(&self) -> u64 {
        self.published
            .as_ref()
            .map_or(0, |signed| signed.checkpoint.size)
    }

    /// The published root.
    pub fn root(&self) -> Hash {
        self.published
            .as_ref()
            .map_or_else(empty_root, |signed| signed.checkpoint.root)
    }

    /// The published checkpoint; none before the first batch.
    pub fn checkpoint_note(&self) -> Option<&SignedCheckpoint> {
        self.published.as_ref()
    }

    /// The batch that waits for its signature.
    pub fn staged(&self) -> Option<&Staged> {
        self.staged.as_ref()
    }

    /// A reader for other threads.
    pub fn reader(&self) -> LogReader {
        self.reader.clone()
    }

    /// The log as it stands, for reading.
    pub fn view(&self) -> Result<View, LogError> {
        self.reader.view()
    }

    /// Checks that `bytes`, all that was accepted and is not yet published, fit on the disk.
    pub fn reserve(&self, bytes: u64) -> Result<(), ReserveError> {
        self.reader.reserve(bytes)
    }

    /// Makes a batch durable and says what is to be signed.
    pub fn stage(&mut self, leaves: impl Into<Leaves>) -> Result<Staged, LogError> {
        self.disk.check()?;
        if let Some(Staged { old_size, size, .. }) = self.staged {
            return Err(LogError::AlreadyStaged { old_size, size });
        }
        let leaves = leaves.into();
        check_batch(&leaves)?;
        self.tidy()?;
        let staged = self.grow(leaves)?;
        let bytes = staged.encode(self.origin())?;
        let path = self.dir.join(STAGED);
        if staged.is_whole() {
            self.disk.replace(&path, &bytes, Access::Owner)?;
        } else {
            // An audit that runs beside sees by it what the bytes behind the last leaf are.
            self.disk.write_temporary(&path, &bytes, Access::Owner)?;
            self.untidy = true;
            let mut unsynced = Unsynced::default();
            self.write_private(&staged, &mut unsynced)?;
            unsynced.files.push(temporary(&path));
            self.disk.sync_all(&unsynced.files, unsynced.dirs)?;
            self.disk.commit_temporary(&path)?;
            self.disk.sync_dir(&self.dir)?;
        }
        self.staged = Some(staged.clone());
        Ok(staged)
    }

    /// The right edge as it is on the disk, checked, and what it becomes with `leaves`.
    fn grow(&self, leaves: Leaves) -> Result<Staged, LogError> {
        let edge = Edge::read(&self.dir, self.size(), self.root())?;
        Staged::new(self.origin(), edge, leaves)
    }

    fn write_private(&mut self, staged: &Staged, unsynced: &mut Unsynced) -> Result<(), LogError> {
        let first = staged.old_size;
        private::write(&mut self.disk, &self.dir, first, staged.leaves(), unsynced)
    }

    /// Throws the staged batch away. Only a batch whose intent was never recorded may go: after an intent the key may have
    /// been used, and this size must not get a second root.
    pub fn discard_staged(&mut self, intent: Intent) -> Result<(), LogError> {
        self.disk.check()?;
        let Some(staged) = &self.staged else {
            return Ok(());
        };
        match intent {
            Intent::PerhapsRecorded => Err(LogError::IntentRecorded { size: staged.size }),
            Intent::NotRecorded => {
                self.disk.withdraw(&self.dir.join(STAGED))?;
                self.disk.sync_dir(&self.dir)?;
                self.staged = None;
                self.untidy = true;
                self.tidy()
            }
        }
    }

    /// Publishes the staged batch under its signed checkpoint. After an error that is not [`LogError::Poisoned`] it may be
    /// called again; a batch that is already published is recognised and answered.
    pub fn publish(&mut self, staged: &Staged, note: &Note) -> Result<Published, LogError> {
        // A publication that may always be released is never withheld.
        self.publish_if(staged, note, || true)?
            .ok_or(LogError::NotStaged { size: staged.size })
    }

    /// As [`Self::publish`], but asks `may_release` when tiles and checkpoint are durable and only the checkpoint's new name is missing: writing takes time, and a
    /// process may be suspended in the middle of it. `None` if the answer was no; the batch stays staged, and nothing but unsigned tiles is to be seen of it.
    pub fn publish_if(
        &mut self,
        staged: &Staged,
        note: &Note,
        may_release: impl FnOnce() -> bool,
    ) -> Result<Option<Published>, LogError> {
        self.disk.check()?;
        let signed = self.check_note(staged, note)?;
        let text = Arc::clone(&signed.text);
        let is_published = staged.size == self.size() && staged.root == self.root();
        if !is_published {
            if self.staged.as_ref() != Some(staged) {
                return Err(LogError::NotStaged { size: staged.size });
            }
            let path = self.dir.join(CHECKPOINT);
            self.write_tiles(staged, &path, &text)?;
            if !may_release() {
                return Ok(None);
            }
            self.disk.commit_temporary(&path)?;
            self.disk.sync_dir(&self.dir)?;
            self.published = Some(signed);
            self.staged = None;
        }
        if self.staged.is_none() {
            self.disk.remove(&self.dir.join(STAGED))?;
        }
        Ok(Some(Published::new(staged.clone(), text)))
    }

    fn check_note(&self, staged: &Staged, note: &Note) -> Result<SignedCheckpoint, LogError> {
        if note.text() != staged.checkpoint_text {
            let reason = "its text is not the staged batch's".to_owned();
            return Err(LogError::Note { reason });
        }
        SignedCheckpoint::verify(note.clone(), &self.reader.identity())
            .map_err(|reason| LogError::Note { reason })
    }

    /// Makes tiles, bundles, private segments and the checkpoint's contents durable. All files are written before the first is
    /// synced, so that the disk can take them together.
    fn write_tiles(
        &mut self,
        staged: &Staged,
        checkpoint: &Path,
        text: &str,
    ) -> Result<(), LogError> {
        // What the batch was staged on must still be there: a checkpoint vouches for the old tiles too.
        Edge::read(&self.dir, self.size(), self.root())?;
        let batch = &staged.batch;
        let mut unsynced = Unsynced::default();
        for (tile, bytes) in batch.edge.tiles(&batch.growth, &batch.bundled) {
            let path = self.dir.join(tile.to_string());
            let folder = parent(&path);
            self.disk.create_dirs(&self.dir, folder, Access::Public)?;
            // No checkpoint vouches for it yet, so nobody reads it by this name.
            self.disk.write(&path, &bytes, Access::Public)?;
            unsynced.dirs.insert(folder.to_path_buf());
            unsynced.files.push(path);
        }
        if staged.is_whole() {
            self.write_private(staged, &mut unsynced)?;
        }
        self.disk
            .write_temporary(checkpoint, text.as_bytes(), Access::Public)?;
        unsynced.files.push(temporary(checkpoint));
        self.disk.sync_all(&unsynced.files, unsynced.dirs)?;
        // What was written is read again before a checkpoint vouches for it.
        Edge::read(&self.dir, staged.size, staged.root).map(drop)
    }

    /// Keeps the cosignatures of `note`, one of this log's checkpoints, whose cosignatures the caller has verified. Answers
    /// whether it was taken: an older one than what is there is not.
    pub fn attach_cosignatures(&mut self, note: &Note) -> Result<bool, LogError> {
        self.disk.check()?;
        let refused = |reason: String| LogError::Note { reason };
        let offered = SignedCheckpoint::verify(note.clone(), &self.reader.identity());
        let mut signed = offered.map_err(refused)?;
        let Checkpoint { size, root, .. } = signed.checkpoint;
        if size > self.size() || self.view()?.root_at(size)? != root {
            return Err(refused("it is not a checkpoint of this tree".to_owned()));
        }
        if let Some(known) = &self.witnessed {
            if known.checkpoint.size > size {
                return Ok(false);
            }
            if known.checkpoint.size == size {
                let mut merged = known.note.clone();
                for line in note.signatures() {
                    merged
                        .push(line.clone())
                        .map_err(|error| refused(error.to_string()))?;
                }
                signed.text = merged.to_string().into();
                signed.note = merged;
            }
        }
        let path = self.dir.join(WITNESSED);
        self.disk
            .replace(&path, signed.text.as_bytes(), Access::Public)?;
        self.witnessed = Some(signed);
        Ok(true)
    }
}

fn check_batch(leaves: &Leaves) -> Result<(), LogError> {
    let too_long = leaves
        .iter()
        .map(|leaf| leaf.record.len())
        .find(|bytes| *bytes > MAX_RECORD_BYTES);
    if let Some(bytes) = too_long {
        return Err(LogError::RecordTooLong { bytes });
    }
    let (bytes, leaves) = (leaves.parts().0.len(), leaves.len());
    if leaves == 0 || leaves > MAX_BATCH_LEAVES || bytes > MAX_BATCH_BYTES {
        let (max_leaves, max_bytes) = (MAX_BATCH_LEAVES, MAX_BATCH_BYTES);
        return Err(LogError::BatchSize {
            leaves,
            bytes,
            max_leaves,
            max_bytes,
        });
    }
    Ok(())
}

pub(crate) fn lock(dir: &Path) -> Result<File, LogError> {
    let path = dir.join(LOCK);
    let failed = |source| LogError::Io {
        action: "lock",
        path: path.clone(),
        source,
    };
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LogError::Locked {
            dir: dir.to_path_buf(),
        }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}
