//! Which leaves of an origin a compromise touches.
//!
//! A leaf is covered if an intent that was recorded before the compromise names a tree that holds it, and our own tiles
//! recompute to that intent's root: then our writer sealed it, before anybody else could.

use sealwarden_domain::log_control::Origin;
use sealwarden_seallog::{LogError, LogReader};

/// The leaves of an origin, divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Coverage {
    /// All leaves.
    pub(crate) total: u64,
    /// Leaves 0 up to here are covered.
    pub(crate) covered: u64,
}

impl Coverage {
    /// Leaves that nothing proves.
    pub(crate) fn reported(&self) -> u64 {
        self.total - self.covered
    }
}

/// Divides the leaves of `origin` at a time in Unix milliseconds. Blocks its thread.
pub(crate) fn coverage(
    origin: &Origin,
    reader: &LogReader,
    since_ms: i64,
) -> Result<Coverage, LogError> {
    let view = reader.view()?;
    let total = view.size();
    let before = origin
        .intents
        .iter()
        .rev()
        .filter(|(_, intent)| intent.at_ms < since_ms);
    for (size, intent) in before.filter(|(size, _)| *size <= total) {
        if view.root_at(size)?.0 == intent.root {
            return Ok(Coverage {
                total,
                covered: size,
            });
        }
    }
    Ok(Coverage { total, covered: 0 })
}
