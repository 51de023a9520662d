//! Commands to an archive.

use sealwarden_wire::event::v1::{
    ArchiveDamage, ArchiveDamageFound, ArchiveExtended, DocumentQuarantined, DocumentReleased,
    DocumentRestored, Event, RestoreFailed, RevalidationFinished, RevalidationStarted, event::Kind,
};

use super::state::Archive;
use super::{MAX_DAMAGE, MAX_QUARANTINED};
use crate::fold::{Rejection, RejectionCode, event};

/// A command to an archive.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// A page of the inventory is durable in the stores.
    Extend(ArchiveExtended),
    /// A revalidation begins.
    Start {
        /// The archive.
        archive: String,
        /// Who asked.
        by: String,
        /// Whose work it is.
        node: String,
        /// When, Unix milliseconds.
        at_ms: i64,
    },
    /// A revalidation found damage.
    Find(ArchiveDamageFound),
    /// A revalidation ended.
    Finish(RevalidationFinished),
    /// Objects are not to be used.
    Quarantine(DocumentQuarantined),
    /// An object is whole again, and released.
    Restore(DocumentRestored),
    /// An object may be used again.
    Release(DocumentReleased),
    /// No intact original was found.
    Fail(RestoreFailed),
}

/// Decides a command. No events means that it is already so.
pub fn decide(archive: &Archive, command: Command) -> Result<Vec<Event>, Rejection> {
    match command {
        Command::Extend(e) => extend(archive, e),
        Command::Start {
            archive: name,
            by,
            node,
            at_ms,
        } => start(archive, name, by, node, at_ms),
        Command::Find(e) => find(archive, e),
        Command::Finish(e) => finish(archive, e),
        Command::Quarantine(e) => quarantine(archive, e),
        Command::Restore(e) => {
            let reason = format!(
                "document from {}, seal from {}",
                e.document_from, e.seal_from
            );
            let released = DocumentReleased {
                archive: e.archive.clone(),
                object: e.object.clone(),
                reason,
                by: e.by.clone(),
            };
            Ok(vec![
                event(Kind::DocumentRestored(e)),
                event(Kind::DocumentReleased(released)),
            ])
        }
        Command::Release(e) => {
            let bad = archive.quarantined.contains_key(&e.object)
                || archive.damaged.contains_key(&e.object);
            Ok(if bad {
                vec![event(Kind::DocumentReleased(e))]
            } else {
                Vec::new()
            })
        }
        Command::Fail(e) => Ok(vec![event(Kind::RestoreFailed(e))]),
    }
}

fn extend(archive: &Archive, e: ArchiveExtended) -> Result<Vec<Event>, Rejection> {
    let next = u64::try_from(archive.pages.len())
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    if e.page != next || e.page_sha256.len() != 32 {
        let reason = format!(
            "page {} of the inventory of {} cannot be the next one, which is {next}; does another node write this archive?",
            e.page, e.archive
        );
        return Err(Rejection::new(RejectionCode::NotNow, reason));
    }
    Ok(vec![event(Kind::ArchiveExtended(e))])
}

fn start(
    archive: &Archive,
    name: String,
    by: String,
    node: String,
    at_ms: i64,
) -> Result<Vec<Event>, Rejection> {
    if let Some(running) = archive.running() {
        let reason = format!(
            "revalidation {} is under way on {}",
            running.job, running.node
        );
        return Err(Rejection::new(RejectionCode::NotNow, reason));
    }
    let started = RevalidationStarted {
        job: format!("{name}-{}", archive.jobs.saturating_add(1)),
        archive: name,
        pages: u64::try_from(archive.pages.len()).unwrap_or(u64::MAX),
        by,
        node,
        started_at_ms: at_ms,
    };
    Ok(vec![event(Kind::RevalidationStarted(started))])
}

fn under_way(archive: &Archive, job: &str) -> Result<(), Rejection> {
    if archive.running().is_some_and(|running| running.job == job) {
        return Ok(());
    }
    let reason = format!("revalidation {job} is not under way");
    Err(Rejection::new(RejectionCode::NotNow, reason))
}

fn find(archive: &Archive, mut e: ArchiveDamageFound) -> Result<Vec<Event>, Rejection> {
    under_way(archive, &e.job)?;
    if e.damage.len() > MAX_DAMAGE {
        let reason = format!(
            "{} damages in one event; {MAX_DAMAGE} are the most",
            e.damage.len()
        );
        return Err(Rejection::new(RejectionCode::Invalid, reason));
    }
    e.damage
        .retain(|damage: &ArchiveDamage| !archive.has(damage));
    Ok(if e.damage.is_empty() {
        Vec::new()
    } else {
        vec![event(Kind::ArchiveDamageFound(e))]
    })
}

fn finish(archive: &Archive, e: RevalidationFinished) -> Result<Vec<Event>, Rejection> {
    let ended = archive
        .job
        .as_ref()
        .is_some_and(|job| job.started.job == e.job && job.finished.is_some());
    if ended {
        return Ok(Vec::new());
    }
    under_way(archive, &e.job)?;
    Ok(vec![event(Kind::RevalidationFinished(e))])
}

fn quarantine(archive: &Archive, mut e: DocumentQuarantined) -> Result<Vec<Event>, Rejection> {
    if e.objects.len() > MAX_QUARANTINED {
        let reason = format!(
            "{} objects in one event; {MAX_QUARANTINED} are the most",
            e.objects.len()
        );
        return Err(Rejection::new(RejectionCode::Invalid, reason));
    }
    e.objects
        .retain(|object| !archive.quarantined.contains_key(object));
    Ok(if e.objects.is_empty() {
        Vec::new()
    } else {
        vec![event(Kind::DocumentQuarantined(e))]
    })
}
