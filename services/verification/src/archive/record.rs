//! Damage that a revalidation saw: looked at once more, compared with a backup, told, quarantined.

use std::collections::BTreeSet;
use std::sync::Arc;

use sealwarden_archive::{Damage, DamageClass, Entry, Inventory, Meter, ObjectName};
use sealwarden_domain::archive::{Command, MAX_DAMAGE};
use sealwarden_engine::ExecuteError;
use sealwarden_wire::event::v1::{ArchiveDamage, ArchiveDamageFound};

use super::cursor::Finding;
use super::examine::{Trouble, look};
use super::open::Archive;
use super::quarantine::{self, QuarantineError};

impl From<ExecuteError> for Trouble {
    fn from(error: ExecuteError) -> Self {
        Self::Away(error.to_string())
    }
}

impl From<QuarantineError> for Trouble {
    fn from(error: QuarantineError) -> Self {
        Self::Away(error.to_string())
    }
}

/// Damage of listed objects: confirmed while nobody mends them, then told and quarantined.
pub(crate) async fn objects(
    archive: &Archive,
    job: &str,
    suspects: Vec<Entry>,
    meter: &Arc<Meter>,
) -> Result<Vec<Finding>, Trouble> {
    if suspects.is_empty() {
        return Ok(Vec::new());
    }
    let _mending = archive.mending.lock().await;
    let inventory = archive.inventory();
    let present: Vec<Entry> = suspects
        .iter()
        .filter(|entry| !archive.is_busy(&entry.name))
        .filter_map(|entry| inventory.get(&entry.name).cloned())
        .collect();
    let looked = look(archive, &inventory, present, meter).await?;
    let mut damage = Vec::new();
    for one in looked {
        for mut found in one.examined.damage {
            compare(archive, &one.entry, &mut found, meter).await?;
            damage.push(found);
        }
    }
    tell(archive, job, damage, &inventory).await
}

/// Says where the bytes begin to differ from an intact version, if there is one.
async fn compare(
    archive: &Archive,
    entry: &Entry,
    damage: &mut Damage,
    meter: &Arc<Meter>,
) -> Result<(), Trouble> {
    if !matches!(
        damage.class,
        DamageClass::BytesChanged | DamageClass::Truncated | DamageClass::DocumentSwapped
    ) {
        return Ok(());
    }
    // That there is no backup, or that it cannot be reached, leaves the offset unknown; the damage is told all the same.
    let Ok((Some(version), _)) = archive.versions.intact(entry, meter).await else {
        return Ok(());
    };
    let key = entry.name.document();
    let difference = archive
        .store
        .first_difference(&key, archive.versions.store(), &version.key, meter)
        .await;
    let Ok(Some(offset)) = difference else {
        return if meter.is_stopped() {
            Err(Trouble::Stopped)
        } else {
            Ok(())
        };
    };
    damage.first_difference = Some(offset);
    if damage.class == DamageClass::Truncated && damage.found_size.is_some_and(|size| offset < size)
    {
        damage.class = DamageClass::BytesChanged;
        damage.detail = format!("{}, and they differ from byte {offset} on", damage.detail);
    } else if damage.class != DamageClass::Truncated {
        damage.detail = format!(
            "{}; the first difference is at byte {offset}",
            damage.detail
        );
    }
    Ok(())
}

/// Tells the event log and quarantines; in this order, so that a crash between is repaired by telling again.
pub(crate) async fn tell(
    archive: &Archive,
    job: &str,
    damage: Vec<Damage>,
    inventory: &Inventory,
) -> Result<Vec<Finding>, Trouble> {
    let known: Vec<bool> = archive.state(|state| {
        let known = |one: &Damage| state.knows(&one.object, one.class.as_str(), job);
        damage.iter().map(known).collect()
    });
    for some in damage.chunks(MAX_DAMAGE) {
        let found = ArchiveDamageFound {
            archive: archive.config.name.clone(),
            job: job.to_owned(),
            damage: some.iter().map(event_of).collect(),
            found_at_ms: archive.now_ms(),
        };
        archive.execute(job, Command::Find(found)).await?;
    }
    let bad: BTreeSet<ObjectName> = damage
        .iter()
        .filter(|one| archive.config.quarantine && one.class.quarantines())
        .filter_map(Damage::name)
        .filter(|name| inventory.get(name).is_some())
        .collect();
    let names: Vec<ObjectName> = bad.into_iter().collect();
    if !names.is_empty() {
        quarantine::put(
            archive,
            &names,
            &format!("damage found by revalidation {job}"),
            &format!("revalidation {job}"),
        )
        .await?;
    }
    let findings = damage
        .into_iter()
        .zip(known)
        .map(|(damage, known)| Finding {
            quarantined: archive.state(|state| state.quarantined.contains_key(&damage.object)),
            damage,
            known,
        });
    Ok(findings.collect())
}

fn event_of(damage: &Damage) -> ArchiveDamage {
    ArchiveDamage {
        object: damage.object.clone(),
        class: damage.class.as_str().to_owned(),
        detail: damage.detail.chars().take(512).collect(),
        expected_sha256: bytes(&damage.expected_sha256).into(),
        found_sha256: bytes(&damage.found_sha256).into(),
        expected_size: damage.expected_size,
        found_size: damage.found_size.unwrap_or_default(),
        first_difference: damage
            .first_difference
            .map_or(0, |offset| offset.saturating_add(1)),
    }
}

/// Hex that this program wrote as bytes; nothing for none.
fn bytes(hex: &str) -> Vec<u8> {
    sealwarden_archive::from_hex(hex)
}
