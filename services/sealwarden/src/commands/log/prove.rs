//! `log prove`: a seal proven anew from a log's or a mirror's tiles, against the newest checkpoint that has cosignatures and covers it,
//! else against the newest one.

use std::path::PathBuf;

use sealwarden_seal::merkle::verify_inclusion;
use sealwarden_seal::record::entry_leaf_hash;
use sealwarden_seal::seal::{MAX_SEAL_BYTES, Seal};
use sealwarden_seallog::{Leaf, LogReader, ProvenLeaf};
use serde_json::json;

use crate::cli::Cli;
use crate::commands::{Answer, trust};
use crate::failure::{Ending, Failure};
use crate::host::installation::write_public;
use crate::output;

use super::damaged;

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
}

pub(crate) fn run(cli: &Cli, args: &Prove) -> Answer {
    let limit = u64::try_from(MAX_SEAL_BYTES).unwrap_or(u64::MAX);
    let bytes = trust::read_limited(&args.seal, limit)?;
    let seal = Seal::parse(&bytes)
        .map_err(|error| Failure::usage(format!("{}: {error}", args.seal.display())))?;
    let reader = LogReader::open(&args.dir).map_err(|error| Failure::usage(error.to_string()))?;
    let view = reader.view().map_err(|error| damaged(&error))?;
    let origin = &reader.identity().origin;
    let witnessed = view
        .witnessed()
        .filter(|it| it.checkpoint.size > seal.index);
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
