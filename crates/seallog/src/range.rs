//! One proof for many neighbouring leaves.

use crate::error::LogError;
use crate::tiles::TileNodes;
use crate::view::View;
use sealwarden_seal::merkle::BatchProof;
use std::ops::Range;
use std::sync::Arc;

/// Neighbouring leaves with their one proof against a signed checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenRange {
    /// The hashes outside the range; it says the first leaf and the tree's size.
    pub proof: BatchProof,
    /// The signed checkpoint verbatim.
    pub note: Arc<str>,
    /// Whether `note` is the checkpoint that carries cosignatures.
    pub witnessed: bool,
}

impl View {
    /// The proof of a range of leaves, against the witnessed checkpoint where that covers all of it, else against the
    /// published one. The tiles are read as they lie: who gets the proof compares it with the signed root.
    pub fn prove_range(&self, range: Range<u64>) -> Result<ProvenRange, LogError> {
        let covers = |size: u64| size >= range.end;
        let witnessed = self
            .witnessed()
            .filter(|signed| covers(signed.checkpoint.size));
        let signed = witnessed.or(self.published());
        let signed = signed.filter(|signed| covers(signed.checkpoint.size));
        let Some(signed) = signed else {
            return Err(LogError::NoLeaf {
                index: range.end.saturating_sub(1),
                size: self.size(),
            });
        };
        let nodes = TileNodes::new(self.dir(), signed.checkpoint.size);
        let proof = BatchProof::make(&nodes, range, signed.checkpoint.size);
        let proof = proof.map_err(|error| nodes.explain_range(&error))?;
        Ok(ProvenRange {
            proof,
            note: signed.text.clone(),
            witnessed: witnessed.is_some(),
        })
    }
}
