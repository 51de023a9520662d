//! Reading a log: many readers at once beside the one writer, since files are replaced whole and tiles never change.

use crate::disk::read_if_there;
use crate::error::LogError;
use crate::identity::Identity;
use crate::leaf::{Leaf, ProvenLeaf};
use crate::private;
use crate::space::{self, ReserveError};
use crate::tiles::TileNodes;
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::merkle::{self, Hash, NodeReader};
use sealwarden_seal::note::Note;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

pub(crate) const CHECKPOINT: &str = "checkpoint";
pub(crate) const WITNESSED: &str = "witnessed";
/// How many records an iteration reads at once.
const CHUNK: u64 = 256;

/// A signed checkpoint of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// The signed note.
    pub note: Note,
    /// The note verbatim.
    pub text: Arc<str>,
}

impl SignedCheckpoint {
    /// Takes a note that one of the log's keys signed.
    pub(crate) fn verify(note: Note, identity: &Identity) -> Result<Self, String> {
        note.verify(&identity.vkeys())
            .map_err(|error| error.to_string())?;
        let checkpoint = Checkpoint::parse(note.text()).map_err(|error| error.to_string())?;
        if checkpoint.origin != identity.origin {
            return Err(format!(
                "it is of {}, not of {}",
                checkpoint.origin, identity.origin
            ));
        }
        let text = note.to_string().into();
        Ok(Self {
            checkpoint,
            note,
            text,
        })
    }

    fn read(path: &Path, identity: &Identity) -> Result<Option<Self>, LogError> {
        let Some(bytes) = read_if_there(path)? else {
            return Ok(None);
        };
        let note = Note::parse(&bytes).map_err(|error| error.to_string());
        let signed = note.and_then(|note| Self::verify(note, identity));
        signed.map(Some).map_err(|reason| LogError::Checkpoint {
            path: path.to_path_buf(),
            reason,
        })
    }
}

/// Opens views of a log's folder. Cheap to clone; needs no lock.
#[derive(Debug, Clone)]
pub struct LogReader {
    dir: PathBuf,
    /// Shared with the writer, which adds keys.
    identity: Arc<RwLock<Arc<Identity>>>,
}

impl LogReader {
    /// Reads which log the folder holds.
    pub fn open(dir: &Path) -> Result<Self, LogError> {
        Ok(Self::new(dir, Identity::read(dir)?))
    }

    pub(crate) fn new(dir: &Path, identity: Identity) -> Self {
        Self {
            dir: dir.to_path_buf(),
            identity: Arc::new(RwLock::new(Arc::new(identity))),
        }
    }

    /// Which log it is.
    pub fn identity(&self) -> Arc<Identity> {
        let identity = self.identity.read();
        Arc::clone(&identity.unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn learn(&self, identity: Identity) {
        let known = self.identity.write();
        *known.unwrap_or_else(PoisonError::into_inner) = Arc::new(identity);
    }

    /// The folder: `checkpoint` and everything under `tile/` may be served as they are, nothing else may.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Checks that `bytes`, all that was accepted and is not yet published, fit on the disk.
    pub fn reserve(&self, bytes: u64) -> Result<(), ReserveError> {
        space::reserve(&self.dir, bytes)
    }

    /// A checkpoint of this log that was kept elsewhere, its signature checked; else what is wrong with it.
    pub fn signed(&self, note: Note) -> Result<SignedCheckpoint, String> {
        SignedCheckpoint::verify(note, &self.identity())
    }

    /// The log as it stands now, signatures checked.
    pub fn view(&self) -> Result<View, LogError> {
        // The witnessed one first: read the other way round it could be newer than the published one.
        let identity = self.identity();
        let witnessed = SignedCheckpoint::read(&self.dir.join(WITNESSED), &identity)?;
        let published = SignedCheckpoint::read(&self.dir.join(CHECKPOINT), &identity)?;
        Ok(View {
            dir: self.dir.clone(),
            published,
            witnessed,
        })
    }
}

/// A log at one moment.
#[derive(Debug, Clone)]
pub struct View {
    dir: PathBuf,
    published: Option<SignedCheckpoint>,
    witnessed: Option<SignedCheckpoint>,
}

impl View {
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The published checkpoint; none before the first batch.
    pub fn published(&self) -> Option<&SignedCheckpoint> {
        self.published.as_ref()
    }

    /// The latest checkpoint that carries cosignatures.
    pub fn witnessed(&self) -> Option<&SignedCheckpoint> {
        self.witnessed.as_ref()
    }

    /// The published size.
    pub fn size(&self) -> u64 {
        self.published
            .as_ref()
            .map_or(0, |signed| signed.checkpoint.size)
    }

    /// One leaf with its proof; see [`View::seals`].
    pub fn seal_of(&self, index: u64) -> Result<ProvenLeaf, LogError> {
        let end = index.checked_add(1).ok_or(LogError::NoLeaf {
            index,
            size: self.size(),
        })?;
        let mut seals = self.seals(index..end)?;
        seals.pop().ok_or(LogError::NoLeaf {
            index,
            size: self.size(),
        })
    }

    /// Leaves with their proofs, each against the witnessed checkpoint where that covers it, else against the published
    /// one. Every proof and every record is checked before it is handed out.
    pub fn seals(&self, range: Range<u64>) -> Result<Vec<ProvenLeaf>, LogError> {
        let witnessed = self
            .witnessed
            .as_ref()
            .map_or(0, |signed| signed.checkpoint.size);
        let border = witnessed.clamp(range.start, range.end.max(range.start));
        let mut seals = Vec::new();
        if let Some(signed) = &self.witnessed {
            self.prove(signed, true, range.start..border, &mut seals)?;
        }
        match &self.published {
            Some(signed) => self.prove(signed, false, border..range.end, &mut seals)?,
            None if border < range.end => {
                return Err(LogError::NoLeaf {
                    index: border,
                    size: 0,
                });
            }
            None => {}
        }
        Ok(seals)
    }

    /// One leaf with its proof against an earlier checkpoint of this log, which must cover it.
    pub fn seal_under(
        &self,
        signed: &SignedCheckpoint,
        index: u64,
    ) -> Result<ProvenLeaf, LogError> {
        let size = signed.checkpoint.size;
        let none = LogError::NoLeaf { index, size };
        if index >= size {
            return Err(none);
        }
        let mut seals = Vec::new();
        self.prove(signed, true, index..index + 1, &mut seals)?;
        seals.pop().ok_or(none)
    }

    fn prove(
        &self,
        signed: &SignedCheckpoint,
        witnessed: bool,
        range: Range<u64>,
        seals: &mut Vec<ProvenLeaf>,
    ) -> Result<(), LogError> {
        if range.is_empty() {
            // Its end may lie beyond the log, which the call for the other checkpoint says.
            return Ok(());
        }
        let Checkpoint { size, root, .. } = signed.checkpoint;
        let nodes = TileNodes::new(&self.dir, size);
        for (index, leaf) in range.clone().zip(self.private(range)?) {
            let proof = merkle::inclusion_proof(&nodes, index, size)
                .map_err(|error| nodes.explain(&error))?;
            check_leaf(&nodes, index, &leaf)?;
            merkle::verify_inclusion(&leaf.hash(), index, size, &proof, &root)
                .map_err(|error| nodes.explain(&error))?;
            seals.push(ProvenLeaf {
                leaf,
                index,
                proof,
                note: signed.text.clone(),
                witnessed,
            });
        }
        Ok(())
    }

    /// A leaf's nonce and record, checked against the tree's leaf hash.
    pub fn record(&self, index: u64) -> Result<Leaf, LogError> {
        let end = index.checked_add(1).ok_or(LogError::NoLeaf {
            index,
            size: self.size(),
        })?;
        let mut leaves = self.records(index..end)?;
        leaves.pop().ok_or(LogError::NoLeaf {
            index,
            size: self.size(),
        })
    }

    /// The leaves of a range, checked against the tree's leaf hashes. One that is erased or damaged is an error.
    pub fn records(&self, range: Range<u64>) -> Result<Vec<Leaf>, LogError> {
        self.each_record(range)?.into_iter().collect()
    }

    /// The leaves of a range, each checked by itself against the tree's leaf hash: [`LogError::Erased`] where there are zeros,
    /// [`LogError::RecordDamaged`] where there is something else. The outer error says that none can be read.
    pub fn each_record(&self, range: Range<u64>) -> Result<Vec<Result<Leaf, LogError>>, LogError> {
        let leaves = self.private(range.clone())?;
        let nodes = TileNodes::new(&self.dir, self.size());
        let checked = range.zip(leaves).map(|(index, leaf)| {
            check_leaf(&nodes, index, &leaf)?;
            Ok(leaf)
        });
        Ok(checked.collect())
    }

    /// All leaves in order, read a few hundred at a time. The first error ends it; an erased leaf is one.
    pub fn iter(&self) -> impl Iterator<Item = Result<(u64, Leaf), LogError>> + '_ {
        let mut failed = false;
        let chunks = (0..self.size())
            .step_by(CHUNK.try_into().unwrap_or(1))
            .map(move |start| {
                let end = self.size().min(start + CHUNK);
                self.records(start..end)
                    .map(|leaves| (start..end).zip(leaves).collect::<Vec<_>>())
            });
        chunks
            .take_while(move |chunk| !std::mem::replace(&mut failed, chunk.is_err()))
            .flat_map(|chunk| match chunk {
                Ok(leaves) => leaves.into_iter().map(Ok).collect::<Vec<_>>(),
                Err(error) => vec![Err(error)],
            })
    }

    /// The root over the first `size` leaves.
    pub fn root_at(&self, size: u64) -> Result<Hash, LogError> {
        self.require(size)?;
        let nodes = TileNodes::new(&self.dir, self.size());
        merkle::tree_root(&nodes, size).map_err(|error| nodes.explain(&error))
    }

    /// The inclusion proof of leaf `index` in the tree of the first `size` leaves, for whoever has the leaf: a mirror has no
    /// records.
    pub fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<Hash>, LogError> {
        self.require(size)?;
        if index >= size {
            return Err(LogError::NoLeaf { index, size });
        }
        let nodes = TileNodes::new(&self.dir, self.size());
        merkle::inclusion_proof(&nodes, index, size).map_err(|error| nodes.explain(&error))
    }

    /// The proof that the first `new_size` leaves extend the first `old_size`, as a witness asks for it.
    pub fn consistency_proof(&self, old_size: u64, new_size: u64) -> Result<Vec<Hash>, LogError> {
        self.require(new_size)?;
        let nodes = TileNodes::new(&self.dir, self.size());
        merkle::consistency_proof(&nodes, old_size, new_size).map_err(|error| nodes.explain(&error))
    }

    fn private(&self, range: Range<u64>) -> Result<Vec<Leaf>, LogError> {
        self.require(range.end)?;
        private::read(&self.dir, range)
    }

    fn require(&self, size: u64) -> Result<(), LogError> {
        if size > self.size() {
            return Err(LogError::NoLeaf {
                index: size - 1,
                size: self.size(),
            });
        }
        Ok(())
    }
}

fn check_leaf(nodes: &TileNodes<'_>, index: u64, leaf: &Leaf) -> Result<(), LogError> {
    if leaf.is_erased() {
        return Err(LogError::Erased { index });
    }
    let hash = nodes
        .node(0, index)
        .map_err(|error| nodes.explain(&error.into()))?;
    if hash == leaf.hash() {
        return Ok(());
    }
    let reason = "it does not have the hash that stands in the tree".to_owned();
    Err(LogError::RecordDamaged { index, reason })
}
