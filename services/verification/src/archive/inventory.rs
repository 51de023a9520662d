//! Writing the inventory: what was stored meanwhile becomes one page, durable in both stores before the event log counts it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sealwarden_archive::{Entry, MAX_PAGE_ENTRIES, NO_PAGE, Page, page_key};
use sealwarden_domain::archive::Command;
use sealwarden_engine::ExecuteError;
use sealwarden_wire::event::v1::ArchiveExtended;
use tokio::sync::{mpsc, oneshot};

use super::open::Archive;

/// How often a page is tried before its callers are told, and the pause between.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);

/// A document that is durable and wants to be listed; answered with its page.
pub(crate) struct Addition {
    pub(crate) entry: Entry,
    pub(crate) listed: oneshot::Sender<Result<u64, String>>,
}

/// Lists what comes until shutdown.
pub(crate) async fn write(
    archive: Arc<Archive>,
    mut additions: mpsc::Receiver<Addition>,
) -> anyhow::Result<()> {
    let shutdown = archive.node.shutdown.clone();
    let mut batch = Vec::new();
    loop {
        let count = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            count = additions.recv_many(&mut batch, MAX_PAGE_ENTRIES) => count,
        };
        if count == 0 {
            return Ok(());
        }
        let entries: Vec<Entry> = batch
            .iter()
            .map(|addition| addition.entry.clone())
            .collect();
        let listed = add(&archive, entries).await.map_err(|e| format!("{e:#}"));
        for addition in batch.drain(..) {
            // A caller that went away asks again.
            drop(addition.listed.send(listed.clone()));
        }
    }
}

async fn add(archive: &Archive, entries: Vec<Entry>) -> anyhow::Result<u64> {
    let mut tried = 0;
    loop {
        match add_once(archive, entries.clone()).await {
            Ok(page) => return Ok(page),
            Err(error) => {
                tried += 1;
                if tried >= TRIES {
                    return Err(error);
                }
                tracing::warn!(archive = %archive.config.name, error = %format!("{error:#}"), "a page of the inventory is tried again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// A page that was written and not counted is written over: nobody was told of it.
async fn add_once(archive: &Archive, entries: Vec<Entry>) -> anyhow::Result<u64> {
    let (number, previous) = archive.state(|state| {
        let pages = u64::try_from(state.pages.len()).unwrap_or(u64::MAX);
        (
            pages.saturating_add(1),
            state.pages.last().copied().unwrap_or(NO_PAGE),
        )
    });
    let count = u64::try_from(entries.len()).unwrap_or(u64::MAX);
    let page = Page::new(&archive.config.name, number, previous, entries);
    let (bytes, digest) = page.to_bytes()?;
    let key = page_key(number);
    archive.versions.store().put(&key, bytes.clone()).await?;
    archive.store.put(&key, bytes).await?;
    let extended = ArchiveExtended {
        archive: archive.config.name.clone(),
        page: number,
        page_sha256: digest.to_vec().into(),
        entries: count,
        node: archive.node.name.clone(),
    };
    match archive.execute("", Command::Extend(extended)).await {
        Ok(_) => {}
        Err(ExecuteError::Unknown(reason))
            if archive.state(|state| state.pages.last() == Some(&digest)) =>
        {
            tracing::debug!(%reason, "the page was counted all the same");
        }
        Err(error) => return Err(error).context("counting a page of the inventory"),
    }
    archive.take_in(page);
    Ok(number)
}
