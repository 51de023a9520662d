//! The verifier keys that the published trust bundle lists: only those are used, so whoever has the bundle can verify.

use sealwarden_engine::Board;
use sealwarden_seal::trust::TrustBundle;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Verifier keys of a bundle's logs, as text.
type Keys = Arc<BTreeSet<String>>;

/// Reads the bundle once for each version.
#[derive(Debug, Default)]
pub(crate) struct Listed(Mutex<Option<(u64, Keys)>>);

impl Listed {
    /// The keys of all logs in the published bundle; none while there is no bundle, or it does not verify.
    pub(crate) fn keys(&self, board: &Board) -> Keys {
        let published = board.read(|it| {
            let published = it.trust.published.as_ref();
            published.map(|it| (it.version, it.bundle.clone()))
        });
        let Some((version, bytes)) = published else {
            return Keys::default();
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, keys)) = known.as_ref().filter(|(known, _)| *known == version) {
            return Arc::clone(keys);
        }
        let opened = TrustBundle::parse(&bytes).and_then(|bundle| bundle.open(None));
        let keys: Keys = match opened {
            Ok(bundle) => {
                let logs = bundle.payload().logs.iter();
                let keys = logs.flat_map(|log| log.vkeys.iter().map(ToString::to_string));
                Arc::new(keys.collect())
            }
            Err(error) => {
                tracing::warn!(version, %error, "the trust bundle in the event log is not usable");
                Keys::default()
            }
        };
        known.replace((version, Arc::clone(&keys)));
        keys
    }
}
