//! The evidence snapshot that stands before an order: what a node asks of it before it obeys.

use sealwarden_seal::merkle::verify_inclusion;
use sealwarden_seal::note::Vkey;
use sealwarden_seal::record::entry_leaf_hash;
use sealwarden_seal::seal::Seal;
use sealwarden_wire::event::v1::{Directive, EvidenceSealed};

/// What the sealed record of every snapshot of a run begins with; the step follows.
fn words(incident: &str, run: &str) -> String {
    format!("evidence of incident {incident}, run {run}, step ")
}

/// The subject of the record that seals the snapshot of a step.
pub fn snapshot_subject(incident: &str, run: &str, step: &str) -> String {
    words(incident, run) + step
}

/// Whether the directive's run has a completed evidence snapshot: one whose manifest stands in the evidence log, by a proof that `signing`, the
/// installation's signing key, signed. The error names what is missing, in words for a refusal.
pub fn verify_snapshot(
    directive: &Directive,
    known: &[EvidenceSealed],
    signing: &Vkey,
) -> Result<(), String> {
    let mut last = "none is recorded in the incident's stream".to_owned();
    for evidence in known.iter().filter(|it| it.run == directive.run) {
        match sealed(directive, evidence, signing) {
            Ok(()) => return Ok(()),
            Err(reason) => last = format!("{}: {reason}", evidence.bundle),
        }
    }
    Err(format!(
        "run {} has no completed evidence snapshot that this node can verify ({last}); the order is obeyed after one",
        directive.run
    ))
}

fn sealed(directive: &Directive, evidence: &EvidenceSealed, signing: &Vkey) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let seal = Seal::parse(evidence.seal.as_bytes()).map_err(|error| text(&error))?;
    if hex::encode(seal.record.digest) != evidence.manifest_sha256 {
        return Err("its seal is of another manifest".to_owned());
    }
    let of_run = words(&directive.incident, &directive.run);
    let subject = seal.record.subject.as_deref().unwrap_or_default();
    if !subject.starts_with(&of_run) {
        return Err(format!("it is {subject:?}"));
    }
    let checkpoint = seal.checkpoint().map_err(|error| text(&error))?;
    let log = Vkey::new(&checkpoint.origin, signing.key().clone()).map_err(|error| text(&error))?;
    seal.note
        .verify(std::slice::from_ref(&log))
        .map_err(|error| text(&error))?;
    let record = seal.record.encode().map_err(|error| text(&error))?;
    verify_inclusion(
        &entry_leaf_hash(&seal.nonce, &record),
        seal.index,
        checkpoint.size,
        &seal.proof,
        &checkpoint.root,
    )
    .map_err(|error| text(&error))
}
