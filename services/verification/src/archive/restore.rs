//! Restoring: an intact original is found, put in its place, read back and verified against the leaf it was stored as; only then is the object released.

use std::sync::Arc;

use sealwarden_archive::{
    DamageClass, Document, Entry, Found, Inventory, Measured, Meter, ObjectName, SealFile,
};
use sealwarden_domain::archive::Command;
use sealwarden_engine::Role;
use sealwarden_seal::seal::MAX_SEAL_BYTES;
use sealwarden_wire::archive::v1::RestoredObject;
use sealwarden_wire::event::v1::{DocumentReleased, DocumentRestored, RestoreFailed};
use sealwarden_wire::seal::v1::GetSealRequest;
use sealwarden_wire::seal::v1::sealing_client::SealingClient;
use tonic::Status;

use super::examine::{Looked, Trouble, judge, look};
use super::open::Archive;
use super::quarantine;

/// An original that was found, and where.
struct Original {
    /// Key of the backup's version; `None` if the archive's own bytes are intact.
    version: Option<String>,
    /// The seal if it is not the archive's own.
    seal: Option<Vec<u8>>,
    seal_from: &'static str,
}

/// Why there is no original.
struct NotFound {
    reason: String,
    versions: u64,
}

enum Failure {
    /// Nothing can be said now.
    Away(String),
    NotFound(NotFound),
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Self::Away(trouble.to_string())
    }
}

impl From<sealwarden_archive::StoreError> for Failure {
    fn from(error: sealwarden_archive::StoreError) -> Self {
        Self::Away(error.to_string())
    }
}

/// Restores one object, or says why not.
pub(crate) async fn restore(
    archive: &Archive,
    name: &ObjectName,
    by: &str,
) -> Result<RestoredObject, Status> {
    let _busy = archive.reserve(name).ok_or_else(|| {
        Status::aborted(format!(
            "{name} is being stored or restored by another call; try again"
        ))
    })?;
    let _mending = archive.mending.lock().await;
    match attempt(archive, name, by).await {
        Ok(done) => Ok(done),
        Err(Failure::Away(reason)) => Err(Status::unavailable(format!(
            "{name} cannot be restored now: {reason}"
        ))),
        Err(Failure::NotFound(why)) => not_restored(archive, name, why, by).await,
    }
}

async fn attempt(
    archive: &Archive,
    name: &ObjectName,
    by: &str,
) -> Result<RestoredObject, Failure> {
    let inventory = archive.inventory();
    let Some(entry) = inventory.get(name).cloned() else {
        let reason = "the inventory does not list it, so that nothing says what it should be; move it away by hand".to_owned();
        return Err(Failure::NotFound(NotFound {
            reason,
            versions: 0,
        }));
    };
    let meter = Arc::new(Meter::new(None));
    let looked = look_at(archive, &inventory, &entry, &meter).await?;
    if looked.examined.damage.is_empty() {
        return release(archive, name, by).await;
    }
    let original = find(archive, &inventory, &looked, &meter).await?;
    put_in_place(archive, &entry, &original, &meter).await?;
    let again = look_at(archive, &inventory, &entry, &meter).await?;
    if let Some(damage) = again.examined.damage.first() {
        let reason = format!(
            "what was put in its place is not good when it is read back: {}: {}",
            damage.class.as_str(),
            damage.detail
        );
        return Err(Failure::NotFound(NotFound {
            reason,
            versions: 0,
        }));
    }
    let document_from = original.version.unwrap_or_else(|| "archive".to_owned());
    let restored = DocumentRestored {
        archive: archive.config.name.clone(),
        object: name.to_string(),
        document_from: document_from.clone(),
        seal_from: original.seal_from.to_owned(),
        sha256: entry.sha256.to_vec().into(),
        origin: entry.origin.clone(),
        index: entry.index,
        by: by.to_owned(),
    };
    quarantine::lift(archive, name).await?;
    let recorded = archive.execute("", Command::Restore(restored)).await;
    recorded.map_err(|e| Failure::Away(e.to_string()))?;
    Ok(RestoredObject {
        object: name.to_string(),
        outcome: "restored".to_owned(),
        reason: again
            .examined
            .verdict
            .map(|(_, reason)| reason)
            .unwrap_or_default(),
        document_from,
        seal_from: original.seal_from.to_owned(),
        total: 0,
    })
}

async fn look_at(
    archive: &Archive,
    inventory: &Arc<Inventory>,
    entry: &Entry,
    meter: &Arc<Meter>,
) -> Result<Looked, Failure> {
    let looked = look(archive, inventory, vec![entry.clone()], meter)
        .await?
        .pop();
    looked.ok_or_else(|| Failure::Away("nothing was looked at".to_owned()))
}

async fn release(
    archive: &Archive,
    name: &ObjectName,
    by: &str,
) -> Result<RestoredObject, Failure> {
    quarantine::lift(archive, name).await?;
    let reason = "document and seal are what was stored".to_owned();
    let released = DocumentReleased {
        archive: archive.config.name.clone(),
        object: name.to_string(),
        reason: reason.clone(),
        by: by.to_owned(),
    };
    let recorded = archive.execute("", Command::Release(released)).await;
    recorded.map_err(|e| Failure::Away(e.to_string()))?;
    Ok(RestoredObject {
        object: name.to_string(),
        outcome: "released".to_owned(),
        reason,
        document_from: "archive".to_owned(),
        seal_from: "archive".to_owned(),
        total: 0,
    })
}

async fn find(
    archive: &Archive,
    inventory: &Arc<Inventory>,
    looked: &Looked,
    meter: &Arc<Meter>,
) -> Result<Original, Failure> {
    let entry = &looked.entry;
    let (version, tried) = if looked.found.document == expected(entry) {
        (None, 0)
    } else {
        let (version, tried) = archive.versions.intact(entry, meter).await?;
        let Some(version) = version else {
            // A backup that is not there holds nothing, either.
            archive.backup.check(archive.versions.store()).await?;
            let reason = match tried {
                0 => "the backup store holds no version of it".to_owned(),
                tried => format!(
                    "none of the {tried} versions in the backup store has the bytes that were sealed"
                ),
            };
            return Err(Failure::NotFound(NotFound {
                reason,
                versions: tried,
            }));
        };
        (Some(version.key), tried)
    };
    let own_seal_is_good = !looked
        .examined
        .damage
        .iter()
        .any(|damage| is_of_seal(damage.class, looked));
    if own_seal_is_good {
        return Ok(Original {
            version,
            seal: None,
            seal_from: "archive",
        });
    }
    let (seal, seal_from) = seal(archive, inventory, entry).await?.ok_or_else(|| {
        let reason =
            "neither the backup store nor the sealing service has a seal that holds for it"
                .to_owned();
        Failure::NotFound(NotFound {
            reason,
            versions: tried,
        })
    })?;
    Ok(Original {
        version,
        seal: Some(seal),
        seal_from,
    })
}

fn is_of_seal(class: DamageClass, looked: &Looked) -> bool {
    match class {
        DamageClass::SealMissing
        | DamageClass::SealDamaged
        | DamageClass::SealOfAnotherDocument
        | DamageClass::SealNotValid => true,
        DamageClass::Unreadable => matches!(looked.found.seal, SealFile::Unreadable(_)),
        DamageClass::BytesChanged
        | DamageClass::Truncated
        | DamageClass::Missing
        | DamageClass::DocumentSwapped
        | DamageClass::Unexpected
        | DamageClass::InventoryDamaged => false,
    }
}

fn expected(entry: &Entry) -> Document {
    Document::Present(Measured {
        size: entry.size,
        sha256: entry.sha256,
    })
}

/// A seal that holds: from the backup, newest first, else made anew by the sealing service from the leaf.
async fn seal(
    archive: &Archive,
    inventory: &Arc<Inventory>,
    entry: &Entry,
) -> Result<Option<(Vec<u8>, &'static str)>, Failure> {
    for version in archive.versions.of(&entry.name).await? {
        if let Ok(seal) = archive.versions.seal(&version).await
            && holds(archive, inventory, entry, &seal).await?
        {
            return Ok(Some((seal, "backup")));
        }
    }
    let Some(seal) = fetch(archive, entry).await else {
        return Ok(None);
    };
    Ok(holds(archive, inventory, entry, &seal)
        .await?
        .then_some((seal, "sealing service")))
}

/// Whether a seal holds for the document as it was stored.
async fn holds(
    archive: &Archive,
    inventory: &Arc<Inventory>,
    entry: &Entry,
    seal: &[u8],
) -> Result<bool, Failure> {
    if seal.len() > MAX_SEAL_BYTES {
        return Ok(false);
    }
    let found = Found {
        document: expected(entry),
        seal: SealFile::Present(seal.to_vec()),
    };
    let judged = judge(archive, inventory, vec![(entry.clone(), found)]).await?;
    Ok(judged.iter().all(|one| one.examined.damage.is_empty()))
}

async fn fetch(archive: &Archive, entry: &Entry) -> Option<Vec<u8>> {
    let request = GetSealRequest {
        origin: entry.origin.clone(),
        index: entry.index,
        follow: true,
    };
    let channel = archive.node.channel(Role::Sealing);
    let channel = channel
        .inspect_err(|error| tracing::warn!(%error, "no seal can be fetched"))
        .ok()?;
    let answer = SealingClient::new(channel).get_seal(request).await;
    let answer = answer
        .inspect_err(
            |error| tracing::warn!(object = %entry.name, %error, "the sealing service has no seal"),
        )
        .ok()?;
    Some(answer.into_inner().seal.to_vec())
}

async fn put_in_place(
    archive: &Archive,
    entry: &Entry,
    original: &Original,
    meter: &Arc<Meter>,
) -> Result<(), Failure> {
    for moved in archive.store.clear(entry, archive.now_ms()).await? {
        tracing::warn!(object = %entry.name, moved = %moved.display(), "what stood where the document belongs is no file, or far too large, and was moved aside");
    }
    // What stood there is evidence. That it cannot be read or kept must not keep the original from its place.
    let kept = archive
        .versions
        .keep_damaged(&archive.store, entry, archive.now_ms(), meter)
        .await;
    if let Err(error) = kept {
        tracing::warn!(object = %entry.name, %error, "the damaged bytes could not be kept");
    }
    if let Some(version) = &original.version {
        let copied = archive
            .store
            .copy_from(
                archive.versions.store(),
                version,
                &entry.name.document(),
                meter,
            )
            .await?;
        if Document::Present(copied) != expected(entry) {
            return Err(Failure::Away(
                "the backup's version changed while it was copied".to_owned(),
            ));
        }
    }
    if let Some(seal) = &original.seal {
        archive.store.put(&entry.name.seal(), seal.clone()).await?;
    }
    Ok(())
}

/// It stays, or is put, in quarantine, and everybody is told.
async fn not_restored(
    archive: &Archive,
    name: &ObjectName,
    why: NotFound,
    by: &str,
) -> Result<RestoredObject, Status> {
    let unavailable = |e: &dyn std::fmt::Display| Status::unavailable(e.to_string());
    // A whole document whose seal has a negative verdict is no reason to keep people from it.
    let only_judged = archive.state(|state| {
        let classes = state.damaged.get(name.as_str());
        classes.is_some_and(|classes| {
            classes
                .keys()
                .all(|class| class == DamageClass::SealNotValid.as_str())
        })
    });
    if !only_judged && archive.inventory().get(name).is_some() {
        let put = quarantine::put(archive, std::slice::from_ref(name), &why.reason, by).await;
        put.map_err(|e| unavailable(&e))?;
    }
    let failed = RestoreFailed {
        archive: archive.config.name.clone(),
        object: name.to_string(),
        reason: why.reason.clone(),
        versions: why.versions,
        by: by.to_owned(),
        at_ms: archive.now_ms(),
    };
    archive
        .execute("", Command::Fail(failed))
        .await
        .map_err(|e| unavailable(&e))?;
    Ok(RestoredObject {
        object: name.to_string(),
        outcome: "not-restored".to_owned(),
        reason: why.reason,
        document_from: String::new(),
        seal_from: String::new(),
        total: 0,
    })
}
