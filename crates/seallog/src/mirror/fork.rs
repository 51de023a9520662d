//! Whether a source still shows the history that was mirrored, and what is kept if it does not.

use super::fetched::{Source, SourceNodes};
use super::{EVIDENCE, MirrorError};
use crate::disk::{Access, Disk};
use crate::tiles::TileNodes;
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::merkle::{self, Hash};
use std::fmt::Write as _;
use std::path::Path;

/// A checkpoint and its signed note.
type Signed<'a> = (&'a Checkpoint, &'a [u8]);

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
    let name = format!(
        "fork-{}-{}-{}",
        before.size,
        offered.size,
        &Hash::of(new).to_string()[..16]
    );
    let folder = dir.join(EVIDENCE).join(name);
    disk.create_dirs(dir, &folder, Access::Public)?;
    let mut text = format!(
        "sealwarden fork v1\norigin {}\nsize {size}\nmirrored root {mirrored}\noffered root {other}\n",
        before.origin
    );
    for hash in proof {
        // Writing to a String does not fail.
        let _ = writeln!(text, "consistency {hash}");
    }
    for (file, bytes) in [
        ("mirrored-checkpoint", old),
        ("offered-checkpoint", new),
        ("difference", text.as_bytes()),
    ] {
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
