//! Anchors as evidence of time: a time-stamping authority's word that a signed checkpoint existed.

use super::checked::CheckedNote;
use crate::note::Note;
use crate::trust::VerifiedBundle;

/// An anchor whose timestamp was verified against a time-stamping authority that the verifier trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedAnchor {
    /// The latest moment, in Unix milliseconds, at which the checkpoint existed: the authority's time plus its accuracy.
    pub time_ms: i64,
    /// The authority's name.
    pub tsa: String,
    /// The checkpoint note that was stamped, verbatim with its signatures.
    pub checkpoint: String,
}

/// The anchors that date one seal's checkpoint.
#[derive(Debug, Default)]
pub(super) struct Dated<'a> {
    anchors: Vec<&'a VerifiedAnchor>,
}

impl<'a> Dated<'a> {
    /// Keeps the anchors over the same checkpoint, signed by its log. The log's signature must stand in what was stamped:
    /// a text alone can be stamped by anybody who foresees it.
    pub(super) fn by(anchors: &'a [VerifiedAnchor], note: &str, bundle: &VerifiedBundle) -> Self {
        if anchors.is_empty() {
            return Self::default();
        }
        let Ok(sealed) = Note::parse(note.as_bytes()) else {
            return Self::default();
        };
        let same = |anchor: &&VerifiedAnchor| {
            Note::parse(anchor.checkpoint.as_bytes()).is_ok_and(|it| it.text() == sealed.text())
                && CheckedNote::check(&anchor.checkpoint, bundle).is_good()
        };
        Self {
            anchors: anchors.iter().filter(same).collect(),
        }
    }

    /// The earliest anchor from `earliest_ms` to `latest_ms`, both included.
    pub(super) fn between(&self, earliest_ms: i64, latest_ms: i64) -> Option<&'a VerifiedAnchor> {
        self.anchors
            .iter()
            .copied()
            .filter(|anchor| (earliest_ms..=latest_ms).contains(&anchor.time_ms))
            .min_by_key(|anchor| anchor.time_ms)
    }
}
