//! The witnesses that the current trust bundle asks for.

use sealwarden_engine::Board;
use sealwarden_seal::note::Note;
use sealwarden_seal::trust::{TrustBundle, Witnessing};
use std::sync::{Arc, Mutex, PoisonError};

/// Which witnesses count, and which of them must have cosigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Required {
    /// The bundle's version.
    pub(crate) version: u64,
    /// The witnesses, and which of them must have cosigned.
    pub(crate) witnessing: Witnessing,
}

impl Required {
    /// Whether enough different witnesses cosigned the note. Bad cosignatures make it a bad note.
    pub(crate) fn met_by(&self, note: &Note) -> bool {
        self.witnessing.is_met_by(note)
    }
}

/// Reads the bundle once for each version.
#[derive(Debug, Default)]
pub(crate) struct Witnesses(Mutex<Option<Arc<Required>>>);

impl Witnesses {
    /// What the published bundle requires; `None` while there is none, or it does not verify.
    pub(crate) fn required(&self, board: &Board) -> Option<Arc<Required>> {
        let version = board.read(|it| it.trust.published.as_ref().map(|bundle| bundle.version))?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(required) = known
            .as_ref()
            .filter(|required| required.version == version)
        {
            return Some(Arc::clone(required));
        }
        let bytes = board.read(|it| it.trust.published.as_ref().map(|it| it.bundle.clone()))?;
        match TrustBundle::parse(&bytes).and_then(|bundle| bundle.open(None)) {
            Ok(bundle) => {
                let witnessing = bundle.payload().witnessing();
                let required = Arc::new(Required {
                    version,
                    witnessing,
                });
                known.replace(Arc::clone(&required));
                Some(required)
            }
            Err(error) => {
                tracing::warn!(version, %error, "the trust bundle in the event log is not usable");
                None
            }
        }
    }
}
