//! `log prove`: a seal proven anew from a log's or a mirror's tiles, against the newest checkpoint that has cosignatures and covers it,
//! else against the newest one.

use std::path::{Path, PathBuf};

use sealwarden_anchors::file::{Anchor, Anchors, MAX_FILE_BYTES};
use sealwarden_seal::merkle::verify_inclusion;
use sealwarden_seal::record::entry_leaf_hash;
use sealwarden_seal::seal::{MAX_SEAL_BYTES, Seal};
use sealwarden_seallog::{Leaf, LogReader, ProvenLeaf, SignedCheckpoint, View};
use serde_json::json;

use crate::cli::Cli;
use crate::commands::{Answer, trust};
use crate::failure::{Ending, Failure};
use crate::host::installation::write_public;
use crate::output;

use super::{damaged, published};

/// Arguments of `log prove`.
#[derive(Debug, clap::Args)]
pub(crate) struct Prove {
    /// A log's or a mirror's folder
    dir: PathBuf,
    /// The seal to prove anew
    #[arg(long, value_name = "FILE")]
    seal: PathBuf,
    /// Where the new seal goes
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Prove it against the earliest checkpoint that has anchors and covers it, and write them beside the new seal
    #[arg(long)]
    anchored: bool,
}

pub(crate) fn run(cli: &Cli, args: &Prove) -> Answer {
    let limit = u64::try_from(MAX_SEAL_BYTES).unwrap_or(u64::MAX);
    let bytes = trust::read_limited(&args.seal, limit)?;
    let seal = Seal::parse(&bytes)
        .map_err(|error| Failure::usage(format!("{}: {error}", args.seal.display())))?;
    let reader = LogReader::open(&args.dir).map_err(|error| Failure::usage(error.to_string()))?;
    let view = reader.view().map_err(|error| damaged(&error))?;
    let origin = &reader.identity().origin;
    let anchored = if args.anchored {
        Some(anchored(&args.dir, &reader, &view, seal.index)?)
    } else {
        None
    };
    let witnessed = match &anchored {
        Some((signed, _)) => Some(signed),
        None => view
            .witnessed()
            .filter(|it| it.checkpoint.size > seal.index),
    };
    let signed = witnessed.or(view.published()).filter(|_| {
        seal.checkpoint()
            .is_ok_and(|checkpoint| checkpoint.origin == *origin)
    });
    let Some(signed) = signed else {
        return Err(Failure::refused(format!(
            "{} holds {origin}, and the seal is of another log",
            args.dir.display()
        )));
    };
    let record = seal.record.encode().map_err(anyhow::Error::from)?;
    let leaf = entry_leaf_hash(&seal.nonce, &record);
    let (size, root) = (signed.checkpoint.size, signed.checkpoint.root);
    let proof = view
        .inclusion_proof(seal.index, size)
        .map_err(|error| damaged(&error))?;
    verify_inclusion(&leaf, seal.index, size, &proof, &root).map_err(|error| {
        Failure::refused(format!(
            "the log does not hold this seal's record as leaf {}: {error}",
            seal.index
        ))
    })?;
    let proven = ProvenLeaf {
        leaf: Leaf {
            nonce: seal.nonce,
            record,
        },
        index: seal.index,
        proof,
        note: signed.text.clone(),
        witnessed: witnessed.is_some(),
    };
    write_public(&args.out, proven.to_text().as_bytes())?;
    if let Some((_, anchors)) = &anchored {
        let beside = PathBuf::from(format!("{}.anchors", args.out.display()));
        write_public(&beside, anchors.to_text().as_bytes())?;
    }
    if cli.json {
        output::json(
            &json!({ "out": args.out, "origin": origin, "index": seal.index, "size": size, "root": root.to_string() }),
        );
    } else {
        output::line(&format!(
            "{}: leaf {} of {origin}, proven in the tree of {size} leaves",
            args.out.display(),
            seal.index
        ));
    }
    Ok(Ending::Good)
}

/// The earliest anchored checkpoint that covers a leaf, with cosignatures if any such has some: the note with the most signatures, and all of its anchors.
fn anchored(
    dir: &Path,
    reader: &LogReader,
    view: &View,
    index: u64,
) -> Result<(SignedCheckpoint, Anchors), Failure> {
    let none = || {
        Failure::refused(format!(
            "{} has no anchors of a checkpoint that covers leaf {index}; mirror it again later, or prove without --anchored",
            dir.display()
        ))
    };
    let folder = published::folder(dir).ok_or_else(none)?;
    let mut bare = None;
    for name in published::names(&folder).map_err(anyhow::Error::from)? {
        let covers = |size: u64| size > index && size <= view.size();
        if !published::size_of(&name).is_some_and(covers) {
            continue;
        }
        let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
        let path = folder.join(&name);
        let bytes = trust::read_limited(&path, limit)?;
        let wrong = |reason: String| Failure::refused(format!("{}: {reason}", path.display()));
        let anchors = Anchors::parse(&bytes).map_err(|error| wrong(error.to_string()))?;
        let fullest = anchors.all().iter().map(Anchor::note);
        let Some(note) = fullest.max_by_key(|note| note.signatures().len()) else {
            continue;
        };
        let signed = reader.signed(note.clone()).map_err(wrong)?;
        if signed.note.signatures().len() > 1 {
            return Ok((signed, anchors));
        }
        bare.get_or_insert((signed, anchors));
    }
    bare.ok_or_else(none)
}
