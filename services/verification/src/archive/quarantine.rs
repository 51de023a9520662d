//! Quarantine: the document and its seal are read-only where the store has such a thing, a marker says so everywhere, and the event log knows.

use sealwarden_archive::{Marker, ObjectName, StoreError};
use sealwarden_domain::archive::{Command, MAX_QUARANTINED};
use sealwarden_engine::ExecuteError;
use sealwarden_wire::event::v1::DocumentQuarantined;

use super::open::Archive;

/// Why an object could not be quarantined or released.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QuarantineError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The event log.
    #[error(transparent)]
    Log(#[from] ExecuteError),
}

/// Quarantines objects; answers whether the store could make them read-only. What is quarantined already is made sure of.
pub(crate) async fn put(
    archive: &Archive,
    names: &[ObjectName],
    reason: &str,
    by: &str,
) -> Result<bool, QuarantineError> {
    let mut read_only = false;
    for some in names.chunks(MAX_QUARANTINED) {
        for name in some {
            match mark(archive, name, reason, by).await {
                Ok(protected) => read_only = protected,
                // A store that is read-only, or will not have this one changed: what the event log says counts all the same.
                Err(error @ StoreError::Unwritable { .. }) => {
                    tracing::warn!(object = %name, %error, "a quarantined object is not marked in the store");
                }
                Err(error) => return Err(error.into()),
            }
        }
        let quarantined = DocumentQuarantined {
            archive: archive.config.name.clone(),
            objects: some.iter().map(ToString::to_string).collect(),
            reason: reason.to_owned(),
            by: by.to_owned(),
        };
        archive
            .execute("", Command::Quarantine(quarantined))
            .await?;
    }
    Ok(read_only)
}

/// Puts the marker and makes the object read-only; answers whether the store has such a thing.
async fn mark(
    archive: &Archive,
    name: &ObjectName,
    reason: &str,
    by: &str,
) -> Result<bool, StoreError> {
    if archive.store.size(&name.marker()).await?.is_none() {
        let (reason, by) = (reason.to_owned(), by.to_owned());
        let marker = Marker::new(name.clone(), reason, by, archive.now_ms());
        archive.store.put(&name.marker(), marker.to_bytes()).await?;
    }
    archive.store.protect(name, true).await
}

/// Takes marker and protection away; the event that ends the quarantine follows, so that a crash between leaves it quarantined.
pub(crate) async fn lift(archive: &Archive, name: &ObjectName) -> Result<(), StoreError> {
    archive.store.protect(name, false).await?;
    archive.store.delete(&name.marker()).await
}

/// Why an object is quarantined, if it is: the event log's word, or a marker that somebody put there.
pub(crate) async fn reason(
    archive: &Archive,
    name: &ObjectName,
) -> Result<Option<String>, StoreError> {
    let known = archive.state(|state| {
        let quarantine = state.quarantined.get(name.as_str())?;
        Some(format!(
            "quarantined by {}: {}",
            quarantine.by, quarantine.reason
        ))
    });
    if known.is_some() {
        return Ok(known);
    }
    let marker = archive.store.size(&name.marker()).await?;
    Ok(marker.map(|_| format!("the marker {} stands in the archive", name.marker())))
}
