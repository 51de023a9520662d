//! The verifier keys that the published trust bundle lists: only those are used, so whoever has the bundle can verify.

use sealwarden_engine::Board;
use sealwarden_seal::note::Vkey;
use sealwarden_seal::trust::TrustBundle;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Verifier keys of a bundle's logs, as text.
type Keys = Arc<BTreeSet<String>>;

/// What a bundle says of keys.
#[derive(Clone, Debug, Default)]
struct Said {
    version: u64,
    keys: Keys,
    /// The installation's signing key.
    signing: Option<Vkey>,
}

/// Reads the bundle once for each version.
#[derive(Debug, Default)]
pub(crate) struct Listed(Mutex<Option<Said>>);

impl Listed {
    /// The keys of all logs in the published bundle; none while there is no bundle, or it does not verify.
    pub(crate) fn keys(&self, board: &Board) -> Keys {
        self.said(board).keys
    }

    /// The installation's signing key by the published bundle.
    pub(crate) fn signing(&self, board: &Board) -> Option<Vkey> {
        self.said(board).signing
    }

    fn said(&self, board: &Board) -> Said {
        let published = board.read(|it| {
            let published = it.trust.published.as_ref();
            published.map(|it| (it.version, it.bundle.clone()))
        });
        let Some((version, bytes)) = published else {
            return Said::default();
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(said) = known.as_ref().filter(|said| said.version == version) {
            return said.clone();
        }
        let opened = TrustBundle::parse(&bytes).and_then(|bundle| bundle.open(None));
        let said = match opened {
            Ok(bundle) => {
                let logs = bundle.payload().logs.iter();
                let keys = logs.flat_map(|log| log.vkeys.iter().map(ToString::to_string));
                Said {
                    version,
                    keys: Arc::new(keys.collect()),
                    signing: Some(bundle.payload().signing_key.clone()),
                }
            }
            Err(error) => {
                tracing::warn!(version, %error, "the trust bundle in the event log is not usable");
                Said {
                    version,
                    ..Said::default()
                }
            }
        };
        known.replace(said.clone());
        said
    }
}
