//! Sentences about archives.

use std::collections::BTreeMap;

use sealwarden_wire::event::v1::{ArchiveDamage, event::Kind};

/// How many objects a sentence names.
const NAMED: usize = 3;

/// An event of an archive in a sentence.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "events of other streams have their sentences elsewhere"
)]
pub(crate) fn sentence(kind: &Kind) -> Option<String> {
    Some(match kind {
        Kind::RevalidationStarted(e) => format!("revalidation {} begins ({})", e.job, e.by),
        Kind::ArchiveDamageFound(e) => {
            format!(
                "revalidation {} found damage: {}",
                e.job,
                damages(&e.damage)
            )
        }
        Kind::RevalidationFinished(e) => format!(
            "revalidation {} {}: {} objects checked, {} damaged, {} of them new",
            e.job, e.outcome, e.checked, e.damaged, e.new_damage
        ),
        Kind::DocumentQuarantined(e) => {
            let objects: Vec<&str> = e.objects.iter().map(String::as_str).collect();
            format!("quarantined: {} ({})", some_of(&objects), e.reason)
        }
        Kind::DocumentRestored(e) => format!(
            "{} restored: document from {}, seal from {}; verified as leaf {} of {}",
            e.object, e.document_from, e.seal_from, e.index, e.origin
        ),
        Kind::DocumentReleased(e) => format!("{} released: {}", e.object, e.reason),
        Kind::RestoreFailed(e) => format!("{} could not be restored: {}", e.object, e.reason),
        _ => return None,
    })
}

/// How much damage of which class, and where.
pub(crate) fn damages(damage: &[ArchiveDamage]) -> String {
    let mut by_class: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for one in damage {
        by_class.entry(&one.class).or_default().push(&one.object);
    }
    let parts: Vec<String> = by_class
        .into_iter()
        .map(|(class, objects)| format!("{} {class} ({})", objects.len(), some_of(&objects)))
        .collect();
    parts.join(", ")
}

fn some_of(objects: &[&str]) -> String {
    let named: Vec<&str> = objects.iter().take(NAMED).copied().collect();
    let more = objects.len() - named.len();
    if more == 0 {
        return named.join(", ");
    }
    format!("{} and {more} more", named.join(", "))
}
