//! The audit of a log's folder: the whole tree recomputed from its leaves, and every byte of every file compared with it.
//!
//! Three things speak of each leaf: the private record, the public entry and the hash in the level-0 tile. Two that agree
//! outvote the third, so the damaged file is named and the audit goes on with the good ones. All higher tiles follow from the
//! leaves, and the root that comes out is compared with the signed checkpoints and with whatever else the caller knows.
//!
//! **Invariants.** It changes nothing, takes no lock and may run beside the writer: it audits the size that was published when
//! it began. Memory does not grow with the log: one frontier, one tile a level, one window a private file.
//!
//! Not part of the log, and so not audited: `lock`, files being written (`….tmp`), what lies beyond the published size while
//! a staged batch or a newer checkpoint accounts for it, and the folders `heads`, where the owner of an evidence log keeps what is
//! sealed in it, and of a mirror `evidence` and `anchors`, with the trust bundle in `trust.json`, which have signatures of their own.
//!
//! A mirror has no private records: there tile and entry are compared with each other, and the hash above them tells which is
//! right.

mod damage;
mod erased;
mod files;
mod notes;
mod private;
mod tree;
mod window;

pub use damage::{Damage, DamageKind};

use crate::error::LogError;
use crate::identity::Identity;
use crate::mirror;
use damage::Findings;
use private::PrivateAudit;
use sealwarden_seal::merkle::Hash;
use sealwarden_seal::note::Vkey;
use std::ops::Range;
use std::path::Path;
use tree::TreeAudit;

/// A root that somebody else vouches for, such as a recorded intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownRoot {
    /// The tree's size.
    pub size: u64,
    /// The root over the first `size` leaves.
    pub root: Hash,
    /// Who says so; damage names it.
    pub source: String,
}

/// Leaves whose private records were erased, by the word of somebody outside the folder, such as an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasedPlaces {
    /// The leaves.
    pub leaves: Range<u64>,
    /// Whether the erasing was finished: until then each record may be there, gone, or half gone.
    pub is_finished: bool,
    /// Who says so; damage names it.
    pub source: String,
}

/// What the caller knows beside the folder. With nothing given, the folder is compared with itself and its own key.
#[derive(Debug, Clone, Default)]
pub struct CheckOptions {
    /// The keys that may sign the log's checkpoints, from a trust bundle. Empty: the key in `log.json` is believed.
    pub vkeys: Vec<Vkey>,
    /// The witnesses' keys. Empty: cosignatures are counted and not checked, and [`CheckReport::unchecked_cosignatures`] says so.
    pub witnesses: Vec<Vkey>,
    /// Roots to compare with. Those beyond the published size are left out.
    pub roots: Vec<KnownRoot>,
    /// Which private records are erased. All others must be there: zeros that nobody names are damage.
    pub erased: Vec<ErasedPlaces>,
}

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckReport {
    /// The log's origin; empty if `log.json` cannot be read.
    pub origin: String,
    /// The size that was audited: the published one when the audit began.
    pub size: u64,
    /// Whether it is a mirror: then there are no private records to compare, and the entries are the leaves.
    pub is_mirror: bool,
    /// The root that the leaves lead to.
    pub root: Hash,
    /// The size that carries cosignatures, if any does.
    pub witnessed_size: Option<u64>,
    /// Files that were compared.
    pub files: u64,
    /// Bytes that were compared.
    pub bytes: u64,
    /// Stored checkpoints and known roots that the tree was compared with.
    pub roots_compared: u64,
    /// Cosignatures that verified.
    pub cosignatures: u64,
    /// Cosignatures that nobody gave a key for.
    pub unchecked_cosignatures: u64,
    /// Leaves whose records are erased, as somebody outside the folder says.
    pub erased_leaves: u64,
    /// Leaves that are being erased, and are half gone.
    pub erasing_leaves: u64,
    /// Leaves of a staged batch that waits to be published.
    pub staged_leaves: u64,
    /// Files that belong to what is being written now, and were not audited.
    pub unpublished_files: u64,
    /// The damage, in the order in which it was found; at most [`MAX_DAMAGE`] of it.
    pub damage: Vec<Damage>,
    /// How much damage was found in all.
    pub damage_count: u64,
}

impl CheckReport {
    /// Is every byte as it must be?
    pub fn is_intact(&self) -> bool {
        self.damage_count == 0
    }
}

/// How many pieces of damage are described; the rest are counted.
pub const MAX_DAMAGE: usize = 100;

/// Audits a log's folder. `progress` is told how many leaves of how many are done. Damage is in the report; an error means that
/// the folder holds no log.
pub fn check(
    dir: &Path,
    options: &CheckOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<CheckReport, LogError> {
    let is_log = ["log.json", "checkpoint", "tile", "private"]
        .iter()
        .any(|name| dir.join(name).exists());
    if !is_log {
        // Says that there is no `log.json`, or why the folder cannot be read.
        return Err(Identity::read(dir).err().unwrap_or(LogError::Identity {
            dir: dir.to_path_buf(),
            reason: "it holds no log".to_owned(),
        }));
    }
    let mut findings = Findings::new(dir);
    let stored = notes::read(&mut findings, options);
    let is_mirror = mirror::is_mirror(dir);
    if is_mirror {
        notes::read_mark(&mut findings);
    }
    let records = (!is_mirror).then(|| PrivateAudit::new(stored.size, &options.erased));
    let mut tree = TreeAudit::new(stored.size, stored.known_roots(options), records);
    tree.run(&mut findings, progress);
    let root = tree.root();
    notes::compare(&mut findings, &stored, &tree);
    files::walk(&mut findings, stored.size);
    Ok(CheckReport {
        origin: stored.origin(),
        size: stored.size,
        is_mirror,
        root,
        witnessed_size: stored.witnessed_size(),
        files: findings.files,
        bytes: findings.bytes,
        roots_compared: tree.roots_compared(),
        cosignatures: stored.cosignatures,
        unchecked_cosignatures: stored.unchecked_cosignatures,
        erased_leaves: findings.erased,
        erasing_leaves: findings.erasing,
        staged_leaves: stored.staged_leaves(),
        unpublished_files: findings.unpublished,
        damage_count: findings.count,
        damage: findings.damage,
    })
}
