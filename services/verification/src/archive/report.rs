//! The report of a revalidation: one JSON document, kept in this node's folder, its SHA-256 in the event log.

use std::path::PathBuf;

use anyhow::Context as _;
use sealwarden_domain::incident::time_text;
use sealwarden_keys::private_files::{self, PUBLIC_FILE};
use sealwarden_seal::merkle::Hash;
use sealwarden_wire::event::v1::{RevalidationFinished, RevalidationStarted};
use serde_json::json;

use super::cursor::Cursor;
use super::open::Archive;

/// Name and version of the report's form. README describes it; fields are only added under a version.
pub(crate) const FORMAT: &str = "sealwarden-archive-report/v1";

/// A report that is durable.
pub(crate) struct Written {
    pub(crate) finished: RevalidationFinished,
}

/// Where a revalidation's report lies.
pub(crate) fn path(archive: &Archive, job: &str) -> PathBuf {
    archive.dir.join("reports").join(format!("{job}.json"))
}

/// Writes the report of what the cursor counts.
pub(crate) async fn write(
    archive: &Archive,
    started: &RevalidationStarted,
    cursor: &Cursor,
    outcome: &str,
) -> anyhow::Result<Written> {
    let finished_at_ms = archive.now_ms();
    let trust_version = archive
        .verifying
        .trust
        .current()
        .await
        .map(|trust| trust.version());
    let (dir, counted) = (archive.dir.clone(), cursor.clone());
    let findings = tokio::task::spawn_blocking(move || counted.findings(&dir)).await??;
    let report = json!({
        "format": FORMAT,
        "archive": archive.config.name,
        "place": archive.store.place(),
        "job": started.job,
        "node": started.node,
        "by": started.by,
        "outcome": outcome,
        "started_at": time_text(started.started_at_ms),
        "finished_at": time_text(finished_at_ms),
        "inventory_pages": started.pages,
        "trust_version": trust_version,
        "checked": cursor.checked,
        "bytes": cursor.bytes,
        "damaged": cursor.damaged,
        "new_damage": cursor.new_damage,
        "by_class": cursor.by_class,
        "damage": findings,
    });
    let bytes = serde_json::to_vec_pretty(&report)?;
    let digest = Hash::of(&bytes);
    let target = path(archive, &started.job);
    tokio::task::spawn_blocking(move || private_files::replace(&target, &bytes, PUBLIC_FILE))
        .await?
        .context("writing the report")?;
    let by_class = cursor
        .by_class
        .iter()
        .map(|(class, count)| (class.clone(), count.to_string()));
    Ok(Written {
        finished: RevalidationFinished {
            archive: archive.config.name.clone(),
            job: started.job.clone(),
            outcome: outcome.to_owned(),
            checked: cursor.checked,
            bytes: cursor.bytes,
            damaged: cursor.damaged,
            new_damage: cursor.new_damage,
            by_class: by_class.collect(),
            report_sha256: digest.0.to_vec().into(),
            finished_at_ms,
        },
    })
}
