//! Looking at a group of objects: reading, judging, and what the log intended.

use std::sync::Arc;

use sealwarden_archive::{
    Damage, DamageClass, Document, Entry, Examined, Examiner, Found, Inventory, Meter, ObjectName,
    SealFile, StoreError, page_key,
};

use super::open::Archive;

/// Why a group was not looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// Somebody asked to stop.
    #[error("it was stopped")]
    Stopped,
    /// Nothing is known about the objects: the store, the trust bundle or the event log is away.
    #[error("{0}")]
    Away(String),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Stopped => Self::Stopped,
            StoreError::NotFound { .. }
            | StoreError::Unreadable { .. }
            | StoreError::Unwritable { .. }
            | StoreError::Unlisted { .. }
            | StoreError::TooLarge { .. } => Self::Away(error.to_string()),
        }
    }
}

/// One object that was looked at.
pub(crate) struct Looked {
    pub(crate) entry: Entry,
    pub(crate) found: Found,
    pub(crate) examined: Examined,
}

/// Looks at objects of the inventory.
pub(crate) async fn look(
    archive: &Archive,
    inventory: &Arc<Inventory>,
    entries: Vec<Entry>,
    meter: &Arc<Meter>,
) -> Result<Vec<Looked>, Trouble> {
    let observed = archive.store.observe(entries, meter).await?;
    if observed.iter().any(|(_, found)| is_unreadable(found)) {
        // One object that cannot be read is damage; a store that cannot be reached is not.
        let store = archive.store.size(&page_key(1)).await;
        store.map_err(|e| Trouble::Away(e.to_string()))?;
    }
    judge(archive, inventory, observed).await
}

fn is_unreadable(found: &Found) -> bool {
    matches!(found.document, Document::Unreadable(_))
        || matches!(found.seal, SealFile::Unreadable(_))
}

/// Judges what was read under the present trust bundle.
pub(crate) async fn judge(
    archive: &Archive,
    inventory: &Arc<Inventory>,
    observed: Vec<(Entry, Found)>,
) -> Result<Vec<Looked>, Trouble> {
    let away = || Trouble::Away("no trust bundle was published yet".to_owned());
    let trust = archive.verifying.trust.current().await.ok_or_else(away)?;
    let (inventory, now_ms) = (Arc::clone(inventory), archive.now_ms());
    let judged = tokio::task::spawn_blocking(move || {
        let mut examiner = Examiner::new(&trust.bundle, &inventory, now_ms);
        let looked: Vec<Looked> = observed
            .into_iter()
            .map(|(entry, found)| Looked {
                examined: examiner.examine(&entry, &found),
                entry,
                found,
            })
            .collect();
        (looked, examiner.notes())
    });
    let (mut looked, notes) = judged.await.map_err(|e| Trouble::Away(e.to_string()))?;
    for (number, note) in notes.into_iter().enumerate() {
        let Some(reason) = archive.verifying.foreign(&note).await else {
            continue;
        };
        for one in looked
            .iter_mut()
            .filter(|one| one.examined.note == Some(number))
        {
            let mut damage = Damage::plain(
                one.entry.name.as_str(),
                DamageClass::SealNotValid,
                format!("suspect: {reason}"),
            );
            damage.expected_size = one.entry.size;
            one.examined.damage.push(damage);
        }
    }
    Ok(looked)
}

/// Looks at one object as it is now.
pub(crate) async fn one(archive: &Archive, name: &ObjectName) -> Result<Option<Looked>, Trouble> {
    let inventory = archive.inventory();
    let Some(entry) = inventory.get(name).cloned() else {
        return Ok(None);
    };
    let meter = Arc::new(Meter::new(None));
    Ok(look(archive, &inventory, vec![entry], &meter).await?.pop())
}
