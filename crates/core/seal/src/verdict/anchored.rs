//! Anchors as evidence of time: a time-stamping authority's word that a signed checkpoint existed.

use super::checked::CheckedNote;
use super::doubt;
use crate::checkpoint::Checkpoint;
use crate::merkle::{Hash, verify_consistency};
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
    /// The consistency proof from the seal's checkpoint to a later one that was stamped; empty where it is the seal's own.
    pub proof: Vec<Hash>,
}

impl VerifiedAnchor {
    /// The size of the checkpoint that was stamped, if it is `sealed` or is proven to extend it: what it dates, `sealed` is not younger than.
    pub fn size_over(&self, sealed: &Note) -> Option<u64> {
        let stamped = Note::parse(self.checkpoint.as_bytes()).ok()?;
        let later = Checkpoint::parse(stamped.text()).ok()?;
        if stamped.text() == sealed.text() {
            return Some(later.size);
        }
        let own = Checkpoint::parse(sealed.text()).ok()?;
        if own.origin != later.origin || own.size == 0 || own.size >= later.size {
            return None;
        }
        verify_consistency(own.size, &own.root, later.size, &later.root, &self.proof)
            .is_ok()
            .then_some(later.size)
    }
}

/// An anchor that dates a seal's checkpoint.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dating<'a> {
    pub(super) anchor: &'a VerifiedAnchor,
    /// The size of the later checkpoint that was stamped; none where it is the seal's own.
    pub(super) later: Option<u64>,
}

/// The anchors that date one seal's checkpoint.
#[derive(Debug, Default)]
pub(super) struct Dated<'a> {
    anchors: Vec<Dating<'a>>,
}

impl<'a> Dated<'a> {
    /// Keeps the anchors over the same checkpoint, or over a later one that is proven to contain it, signed by its log. The log's signature must
    /// stand in what was stamped: a text alone can be stamped by anybody who foresees it. A later checkpoint beyond the end of a frozen log, or of a
    /// revoked key, dates nothing: what extends the good history there is somebody else's.
    pub(super) fn by(anchors: &'a [VerifiedAnchor], note: &str, bundle: &VerifiedBundle) -> Self {
        if anchors.is_empty() {
            return Self::default();
        }
        let Ok(sealed) = Note::parse(note.as_bytes()) else {
            return Self::default();
        };
        let dating = |anchor: &'a VerifiedAnchor| {
            let size = anchor.size_over(&sealed)?;
            let own = Checkpoint::parse(sealed.text()).ok()?;
            let later = (own.size != size).then_some(size);
            let counts = match CheckedNote::check(&anchor.checkpoint, bundle) {
                CheckedNote::Good(good) => later.is_none() || doubt::within_frozen(&good).is_ok(),
                CheckedNote::Malformed(_)
                | CheckedNote::UnknownLog(_)
                | CheckedNote::BadSignature(..) => false,
            };
            counts.then_some(Dating { anchor, later })
        };
        Self {
            anchors: anchors.iter().filter_map(dating).collect(),
        }
    }

    /// The earliest anchor from `earliest_ms` to `latest_ms`, both included.
    pub(super) fn between(&self, earliest_ms: i64, latest_ms: i64) -> Option<Dating<'a>> {
        self.anchors
            .iter()
            .copied()
            .filter(|it| (earliest_ms..=latest_ms).contains(&it.anchor.time_ms))
            .min_by_key(|it| it.anchor.time_ms)
    }
}
