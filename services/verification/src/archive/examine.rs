//! Looking at a group of objects: reading, judging, and what the log intended.

use std::sync::Arc;
use std::time::Duration;

use sealwarden_archive::{
    Damage, DamageClass, Entry, Examined, Examiner, Found, Inventory, Meter, ObjectName, StoreError,
};

use super::open::Archive;

/// How often an object that the store did not give is asked for again, and the first pause before it; each further one is twice as long.
const INSIST: usize = 4;
const INSIST_FIRST: Duration = Duration::from_millis(500);
/// So many objects of a group may be at fault themselves when the store does not give them.
const FEW: usize = 2;

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
            | StoreError::TooLarge { .. }
            | StoreError::Away { .. }
            | StoreError::Elsewhere { .. } => Self::Away(error.to_string()),
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
    let mut observed = archive.store.observe(entries, meter).await?;
    if observed.iter().any(|(_, found)| found.is_doubtful()) {
        // One object that is missing or cannot be read is damage; a store that is not there, or is another one, is not.
        archive.documents.check(&archive.store).await?;
        observed = insist(archive, observed, meter).await?;
    }
    judge(archive, inventory, observed).await
}

/// Asks again for what the store did not give. What it goes on not to give, although it gives everything else, cannot be read; if it is more than a few, it is the store.
async fn insist(
    archive: &Archive,
    mut observed: Vec<(Entry, Found)>,
    meter: &Arc<Meter>,
) -> Result<Vec<(Entry, Found)>, Trouble> {
    let mut pause = INSIST_FIRST;
    for _ in 0..INSIST {
        let (silent, mut known): (Vec<_>, Vec<_>) = observed
            .into_iter()
            .partition(|(_, found)| found.is_unanswered());
        if silent.is_empty() {
            return Ok(known);
        }
        if !meter.nap(pause).await {
            return Err(Trouble::Stopped);
        }
        pause *= 2;
        let entries = silent.into_iter().map(|(entry, _)| entry).collect();
        known.extend(archive.store.observe(entries, meter).await?);
        archive.documents.check(&archive.store).await?;
        observed = known;
    }
    let silent = observed.iter().filter(|(_, found)| found.is_unanswered());
    if silent.count() > FEW {
        let place = archive.store.place();
        return Err(Trouble::Away(format!(
            "{place} answers, and gives none of several objects"
        )));
    }
    let settled = observed
        .into_iter()
        .map(|(entry, found)| (entry, found.settled()));
    Ok(settled.collect())
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
