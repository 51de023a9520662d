//! Whether a source still shows the history that was mirrored, and what is kept if it does not.

use super::fetched::{Source, SourceNodes};
use super::{EVIDENCE, MirrorError};
use crate::disk::{Access, Disk};
use crate::tiles::TileNodes;
use crate::view::{LogReader, View};
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::merkle::{self, Hash};
use sealwarden_seal::note::Note;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// A checkpoint and its signed note.
type Signed<'a> = (&'a Checkpoint, &'a [u8]);

/// The files of a kept proof.
const OURS: &str = "mirrored-checkpoint";
const THEIRS: &str = "offered-checkpoint";
const DIFFERENCE: &str = "difference";
/// No proof of consistency has more hashes than twice the bits of a size.
const MAX_HASHES: usize = 128;
/// Largest file of a kept proof, bytes.
const MAX_BYTES: u64 = 64 << 10;

fn name(before: u64, offered: u64, note: &[u8]) -> String {
    format!(
        "fork-{before}-{offered}-{}",
        &Hash::of(note).to_string()[..16]
    )
}

/// What the proof says in words and hashes. `size` leaves have one root here and another one there; the hashes lead from that one to the offered root.
fn difference(origin: &str, size: u64, mirrored: &Hash, other: &Hash, proof: &[Hash]) -> String {
    let mut text = format!(
        "sealwarden fork v1\norigin {origin}\nsize {size}\nmirrored root {mirrored}\noffered root {other}\n"
    );
    for hash in proof {
        // Writing to a String does not fail.
        let _ = writeln!(text, "consistency {hash}");
    }
    text
}

/// A kept proof that holds: the log signed two histories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// Leaves whose root differs.
    pub size: u64,
    /// Their root in the mirror.
    pub mirrored: Hash,
    /// Their root as it was offered.
    pub offered: Hash,
}

/// What is wrong with a kept proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct BadFork {
    /// The file, below the mirror's folder.
    pub file: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// Checks a proof that a mirror keeps in `evidence/NAME`: both checkpoints are signed by the log, the mirrored one is of this tree, and the offered one is not.
pub fn check_fork(reader: &LogReader, view: &View, folder: &str) -> Result<Fork, BadFork> {
    let at = |file: &str| Path::new(EVIDENCE).join(folder).join(file);
    let bad = |file: &str, reason: String| BadFork {
        file: at(file),
        reason,
    };
    let read = |file: &str| {
        let mut bytes = Vec::new();
        let opened = File::open(reader.dir().join(at(file)));
        let read = opened.and_then(|it| it.take(MAX_BYTES).read_to_end(&mut bytes));
        read.map(|_| bytes)
            .map_err(|error| bad(file, error.to_string()))
    };
    let signed = |file: &str, bytes: &[u8]| {
        let note = Note::parse(bytes).map_err(|error| bad(file, error.to_string()))?;
        let signed = reader.signed(note).map_err(|reason| bad(file, reason))?;
        Ok(signed.checkpoint)
    };
    let (ours, theirs, text) = (read(OURS)?, read(THEIRS)?, read(DIFFERENCE)?);
    let (before, offered) = (signed(OURS, &ours)?, signed(THEIRS, &theirs)?);
    let root_at = |size| {
        let root = view.root_at(size);
        root.map_err(|error| bad(OURS, error.to_string()))
    };
    let root = root_at(before.size)?;
    if root != before.root {
        let reason = format!("its root is {}, and the tree has {root}", before.root);
        return Err(bad(OURS, reason));
    }
    if name(before.size, offered.size, &theirs) != folder {
        let reason = format!("it is not the one that {folder} is named after");
        return Err(bad(THEIRS, reason));
    }
    let size = before.size.min(offered.size);
    let mirrored = root_at(size)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let (other, proof) = differing(&text).ok_or_else(|| {
        let reason = "it names no offered root, or hashes that are none".to_owned();
        bad(DIFFERENCE, reason)
    })?;
    if text != difference(&before.origin, size, &mirrored, &other, &proof) {
        let reason = "it says something else than the checkpoints beside it".to_owned();
        return Err(bad(DIFFERENCE, reason));
    }
    merkle::verify_consistency(size, &other, offered.size, &offered.root, &proof)
        .map_err(|error| bad(DIFFERENCE, error.to_string()))?;
    if other == mirrored {
        let reason = "the offered tree has the same beginning: it proves nothing".to_owned();
        return Err(bad(DIFFERENCE, reason));
    }
    Ok(Fork {
        size,
        mirrored,
        offered: other,
    })
}

/// The offered root and the hashes behind it.
fn differing(text: &str) -> Option<(Hash, Vec<Hash>)> {
    let root = text.lines().find_map(|it| it.strip_prefix("offered root "));
    let hashes = text
        .lines()
        .filter_map(|it| it.strip_prefix("consistency "))
        .take(MAX_HASHES)
        .map(|it| Hash::from_hex(it).ok());
    Some((Hash::from_hex(root?).ok()?, hashes.collect::<Option<_>>()?))
}

/// Refuses a source whose tree does not extend the mirrored one, nor is a part of it.
pub(super) fn refuse(
    dir: &Path,
    disk: &mut Disk,
    source: &Source<'_>,
    (before, old): (&Checkpoint, &Vec<u8>),
    (offered, new): (&Checkpoint, &Vec<u8>),
) -> Result<(), MirrorError> {
    let signed = ((before, old.as_slice()), (offered, new.as_slice()));
    if offered.size <= before.size {
        // All of it is here.
        let nodes = TileNodes::new(dir, before.size);
        let mirrored = merkle::tree_root(&nodes, offered.size);
        let mirrored = mirrored.map_err(|error| nodes.explain(&error))?;
        if mirrored == offered.root {
            return Ok(());
        }
        return Err(keep(
            dir,
            disk,
            signed,
            (offered.size, offered.root, mirrored),
            &[],
        )?);
    }
    let nodes = SourceNodes::new(source, offered.size);
    let tampered = |nodes: &SourceNodes<'_>, reason: String| {
        nodes.failure.take().unwrap_or(MirrorError::Tampered {
            path: "tile".to_owned(),
            reason,
        })
    };
    let proof = merkle::consistency_proof(&nodes, before.size, offered.size)
        .map_err(|error| tampered(&nodes, error.to_string()))?;
    let extends = |root: &Hash| {
        merkle::verify_consistency(before.size, root, offered.size, &offered.root, &proof)
    };
    let Err(error) = extends(&before.root) else {
        return Ok(());
    };
    let other = merkle::tree_root(&nodes, before.size)
        .map_err(|error| tampered(&nodes, error.to_string()))?;
    if extends(&other).is_err() {
        // The tiles do not even lead to the source's own root: that is no second history, but bad tiles.
        return Err(tampered(&nodes, error.to_string()));
    }
    Err(keep(
        dir,
        disk,
        signed,
        (before.size, other, before.root),
        &proof,
    )?)
}

/// Keeps both checkpoints, and the proof that the offered tree has another beginning.
fn keep(
    dir: &Path,
    disk: &mut Disk,
    ((before, old), (offered, new)): (Signed<'_>, Signed<'_>),
    (size, other, mirrored): (u64, Hash, Hash),
    proof: &[Hash],
) -> Result<MirrorError, MirrorError> {
    let folder = dir
        .join(EVIDENCE)
        .join(name(before.size, offered.size, new));
    disk.create_dirs(dir, &folder, Access::Public)?;
    let text = difference(&before.origin, size, &mirrored, &other, proof);
    for (file, bytes) in [(OURS, old), (THEIRS, new), (DIFFERENCE, text.as_bytes())] {
        disk.replace(&folder.join(file), bytes, Access::Public)?;
    }
    disk.sync_all(&[], std::iter::empty().collect())?;
    Ok(MirrorError::Forked {
        size,
        offered: other,
        mirrored,
        evidence: folder,
    })
}
