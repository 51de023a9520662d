//! One revalidation, from where its cursor stands to its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use sealwarden_archive::{
    Damage, DamageClass, Entry, Inventory, InventoryError, MAX_PAGE_BYTES, Meter, NO_PAGE,
    ObjectName, Page, StoreError, page_key,
};
use sealwarden_wire::archive::v1::Progress;
use sealwarden_wire::event::v1::RevalidationStarted;

use super::cursor::{Cursor, Finding, Phase};
use super::examine::{Trouble, look};
use super::open::Archive;
use super::{record, report};

/// Objects of a group, and bytes from which on it takes in no more.
const GROUP_OBJECTS: usize = 32;
const GROUP_BYTES: u64 = 32 * 1024 * 1024;
/// How often the cursor is written while nothing is found.
const SAVE_EVERY: Duration = Duration::from_millis(500);
/// How long to wait when the store, the trust bundle or the event log is away: at first, and at most.
const AWAY_FIRST: Duration = Duration::from_millis(500);
const AWAY_LAST: Duration = Duration::from_secs(30);
/// Most objects that are named as unexpected.
const MAX_UNEXPECTED: usize = 10_000;

/// How a revalidation ended in this life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It is over.
    Finished,
    /// The process ends; the next one goes on.
    Shutdown,
}

struct Job<'a> {
    archive: &'a Archive,
    started: &'a RevalidationStarted,
    /// The inventory as of this life's beginning; what was stored after the revalidation began was read back when it was stored, and is passed over.
    inventory: Arc<Inventory>,
    cursor: Cursor,
    saved: Instant,
    total: u64,
    total_bytes: u64,
}

/// Works until the revalidation has ended or the process shall end.
pub(crate) async fn run(archive: &Archive, started: &RevalidationStarted) -> anyhow::Result<End> {
    let (dir, name) = (archive.dir.clone(), started.job.clone());
    let cursor = tokio::task::spawn_blocking(move || Cursor::load(&dir, &name)).await??;
    let inventory = archive.inventory();
    let (mut total, mut total_bytes) = (0_u64, 0_u64);
    for entry in inventory.after(None).filter(|entry| of_job(entry, started)) {
        total += 1;
        total_bytes = total_bytes.saturating_add(entry.size);
    }
    archive.wish.send_if_modified(|wish| {
        let paused = std::mem::replace(&mut wish.paused, cursor.paused);
        paused != cursor.paused
    });
    let mut job = Job {
        archive,
        started,
        inventory,
        cursor,
        saved: Instant::now(),
        total,
        total_bytes,
    };
    if job.cursor.checked > 0 {
        tracing::info!(archive = %archive.config.name, job = %started.job, checked = job.cursor.checked, of = total, "the revalidation goes on");
    }
    job.work().await
}

fn of_job(entry: &Entry, started: &RevalidationStarted) -> bool {
    entry.stored_at_ms <= started.started_at_ms
}

impl Job<'_> {
    async fn work(&mut self) -> anyhow::Result<End> {
        let mut wait = AWAY_FIRST;
        let mut wishes = self.archive.wish.subscribe();
        let shutdown = self.archive.node.shutdown.clone();
        loop {
            let wish = *wishes.borrow_and_update();
            if shutdown.is_cancelled() {
                self.save(Vec::new()).await?;
                return Ok(End::Shutdown);
            }
            if wish.cancelled {
                break;
            }
            if wish.paused != self.cursor.paused {
                self.cursor.paused = wish.paused;
                self.save(Vec::new()).await?;
            }
            if wish.paused {
                self.publish("paused", "");
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    _changed = wishes.changed() => {}
                }
                continue;
            }
            self.publish("running", "");
            let meter = Arc::new(Meter::new(Some(self.archive.config.rate_limit_bytes_per_s)));
            let leg = {
                let mut leg = std::pin::pin!(self.leg(&meter));
                tokio::select! {
                    leg = &mut leg => leg,
                    () = async { tokio::select! { () = shutdown.cancelled() => {}, _changed = wishes.changed() => {} } } => {
                        meter.stop();
                        leg.await
                    }
                }
            };
            match leg {
                Ok(()) => break,
                Err(Trouble::Stopped) => {}
                Err(Trouble::Away(reason)) => {
                    tracing::warn!(archive = %self.archive.config.name, job = %self.started.job, %reason, "the revalidation waits");
                    self.publish("running", &reason);
                    self.save(Vec::new()).await?;
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        _changed = wishes.changed() => {}
                        () = tokio::time::sleep(wait) => wait = (wait * 2).min(AWAY_LAST),
                    }
                }
            }
        }
        let cancelled = self.archive.wish.borrow().cancelled && self.cursor.phase != Phase::Report;
        self.finish(if cancelled { "cancelled" } else { "completed" })
            .await?;
        Ok(End::Finished)
    }

    /// The phases that are left, in order.
    async fn leg(&mut self, meter: &Arc<Meter>) -> Result<(), Trouble> {
        if self.cursor.phase == Phase::Inventory {
            let damage = self.pages(meter).await?;
            let findings =
                record::tell(self.archive, &self.started.job, damage, &self.inventory).await?;
            self.cursor.phase = Phase::Documents;
            self.note(findings).await?;
        }
        if self.cursor.phase == Phase::Documents {
            self.documents(meter).await?;
            self.cursor.phase = Phase::Unexpected;
            self.note(Vec::new()).await?;
        }
        if self.cursor.phase == Phase::Unexpected {
            let damage = self.unexpected(meter).await?;
            let findings =
                record::tell(self.archive, &self.started.job, damage, &self.inventory).await?;
            self.cursor.phase = Phase::Report;
            self.note(findings).await?;
        }
        Ok(())
    }

    /// Compares each page with what the event log recorded; one that is not it is written again from the backup.
    async fn pages(&self, meter: &Meter) -> Result<Vec<Damage>, Trouble> {
        let archive = self.archive;
        archive.documents.check(&archive.store).await?;
        let limit = usize::try_from(self.started.pages).unwrap_or(usize::MAX);
        let digests: Vec<[u8; 32]> =
            archive.state(|state| state.pages.iter().copied().take(limit).collect());
        let mut damage = Vec::new();
        let mut previous = NO_PAGE;
        for (number, digest) in (1_u64..).zip(digests) {
            if meter.is_stopped() {
                return Err(Trouble::Stopped);
            }
            let key = page_key(number);
            let problem = match archive.store.get(&key, MAX_PAGE_BYTES).await {
                Ok(bytes) => self
                    .parse(&bytes, number, digest, previous)
                    .err()
                    .map(|e| e.to_string()),
                Err(e) if e.is_not_found() => {
                    archive.documents.check(&archive.store).await?;
                    Some("it is missing".to_owned())
                }
                Err(e @ (StoreError::Away { .. } | StoreError::Stopped)) => return Err(e.into()),
                Err(
                    e @ (StoreError::NotFound { .. }
                    | StoreError::Unreadable { .. }
                    | StoreError::Unwritable { .. }
                    | StoreError::Unlisted { .. }
                    | StoreError::TooLarge { .. }
                    | StoreError::Elsewhere { .. }),
                ) => Some(e.to_string()),
            };
            if let Some(problem) = problem {
                let repaired = self.repair_page(number, digest, previous).await;
                damage.push(Damage::plain(
                    &key,
                    DamageClass::InventoryDamaged,
                    format!("{problem}; {repaired}"),
                ));
            }
            previous = digest;
        }
        Ok(damage)
    }

    fn parse(
        &self,
        bytes: &[u8],
        number: u64,
        digest: [u8; 32],
        previous: [u8; 32],
    ) -> Result<Page, InventoryError> {
        Page::parse(bytes, &self.archive.config.name, number, digest, previous)
    }

    async fn repair_page(&self, number: u64, digest: [u8; 32], previous: [u8; 32]) -> String {
        let key = page_key(number);
        let kept = match self
            .archive
            .versions
            .store()
            .get(&key, MAX_PAGE_BYTES)
            .await
        {
            Ok(kept) => kept,
            Err(error) => {
                return format!(
                    "the backup has none either ({error}): what it listed is not known"
                );
            }
        };
        if let Err(error) = self.parse(&kept, number, digest, previous) {
            return format!("the backup's is damaged, too ({error}): what it listed is not known");
        }
        match self.archive.store.put(&key, kept).await {
            Ok(()) => "it was written again from the backup".to_owned(),
            Err(error) => format!("the backup's is intact and could not be written back: {error}"),
        }
    }

    async fn documents(&mut self, meter: &Arc<Meter>) -> Result<(), Trouble> {
        let groups = Groups {
            inventory: Arc::clone(&self.inventory),
            after: self.cursor.after.clone(),
            until_ms: self.started.started_at_ms,
        };
        let (archive, inventory) = (self.archive, Arc::clone(&self.inventory));
        let looks = stream::iter(groups).map(|group| {
            let inventory = Arc::clone(&inventory);
            async move {
                let count = u64::try_from(group.len()).unwrap_or(u64::MAX);
                let last = group.last().map(|entry| entry.name.clone());
                let bytes: u64 = group.iter().map(|entry| entry.size).sum();
                let looked = look(archive, &inventory, group, meter).await?;
                let suspects: Vec<Entry> = looked
                    .into_iter()
                    .filter(|one| !one.examined.damage.is_empty())
                    .map(|one| one.entry)
                    .collect();
                Ok::<_, Trouble>((last, count, bytes, suspects))
            }
        });
        let mut looks = std::pin::pin!(looks.buffered(archive.config.parallelism));
        while let Some(look) = looks.next().await {
            let (last, count, bytes, suspects) = look?;
            let findings = record::objects(archive, &self.started.job, suspects, meter).await?;
            self.cursor.after = last;
            self.cursor.checked += count;
            self.cursor.bytes += bytes;
            self.note(findings).await?;
        }
        Ok(())
    }

    /// What stands among the documents and is not listed, by name. What is being stored is listed in a moment.
    async fn unexpected(&self, meter: &Meter) -> Result<Vec<Damage>, Trouble> {
        let mut listed = self.archive.store.list("documents")?;
        let mut found: BTreeMap<String, Option<String>> = BTreeMap::new();
        let mut more = 0_u64;
        while let Some(object) = listed.next().await {
            if meter.is_stopped() {
                return Err(Trouble::Stopped);
            }
            let object = object?;
            let key = object.key.strip_prefix("documents/").unwrap_or(&object.key);
            if object.closed.is_none() && self.is_expected(key) {
                continue;
            }
            if found.len() < MAX_UNEXPECTED {
                found.insert(key.to_owned(), object.closed);
            } else {
                more += 1;
            }
        }
        let mut damage: Vec<Damage> = found
            .iter()
            .map(|(key, closed)| match closed {
                None => Damage::plain(key, DamageClass::Unexpected, "the inventory does not list it: it was put there without a seal, or storing it broke off"),
                Some(reason) => Damage::plain(key, DamageClass::Unreadable, format!("what lies in this folder cannot be listed: {reason}")),
            })
            .collect();
        if more > 0 {
            damage.push(Damage::plain(
                "documents",
                DamageClass::Unexpected,
                format!("{more} further objects are not listed"),
            ));
        }
        Ok(damage)
    }

    fn is_expected(&self, key: &str) -> bool {
        let document = key
            .strip_suffix(".seal.anchors")
            .or_else(|| key.strip_suffix(".seal"))
            .unwrap_or(key);
        let Ok(name) = ObjectName::new(document) else {
            return false;
        };
        // Busy first: a name stops being busy only after it is listed.
        self.archive.is_busy(&name) || self.archive.inventory().get(&name).is_some()
    }

    /// Counts findings and makes them and the cursor durable; a cursor without findings need not be written every time.
    async fn note(&mut self, findings: Vec<Finding>) -> Result<(), Trouble> {
        let away = |e: anyhow::Error| Trouble::Away(format!("{e:#}"));
        let lines = self.cursor.count(&findings).map_err(away)?;
        if !lines.is_empty() || self.saved.elapsed() >= SAVE_EVERY {
            self.save(lines).await.map_err(away)?;
        }
        self.publish("running", "");
        Ok(())
    }

    async fn save(&mut self, lines: Vec<u8>) -> anyhow::Result<()> {
        let (dir, mut cursor) = (self.archive.dir.clone(), self.cursor.clone());
        let saved = tokio::task::spawn_blocking(move || cursor.save(&dir, &lines).map(|()| cursor));
        self.cursor = saved.await??;
        self.saved = Instant::now();
        Ok(())
    }

    fn publish(&self, state: &str, waiting: &str) {
        let cursor = &self.cursor;
        self.archive.progress.send_replace(Progress {
            archive: self.archive.config.name.clone(),
            job: self.started.job.clone(),
            state: state.to_owned(),
            phase: cursor.phase.as_str().to_owned(),
            checked: cursor.checked,
            total: self.total,
            bytes: cursor.bytes,
            total_bytes: self.total_bytes,
            damaged: cursor.damaged,
            new_damage: cursor.new_damage,
            started_at_ms: self.started.started_at_ms,
            finished_at_ms: 0,
            by_class: cursor.by_class.clone(),
            waiting: waiting.to_owned(),
        });
    }

    /// The report is durable before the event log hears of the end, and the cursor goes last.
    async fn finish(&mut self, outcome: &str) -> anyhow::Result<()> {
        self.save(Vec::new()).await?;
        let written = report::write(self.archive, self.started, &self.cursor, outcome).await?;
        self.publish(outcome, "");
        let finished = written.finished;
        let mut wait = AWAY_FIRST;
        while let Err(error) = self
            .archive
            .execute(
                &self.started.job,
                sealwarden_domain::archive::Command::Finish(finished.clone()),
            )
            .await
        {
            tracing::warn!(archive = %self.archive.config.name, %error, "the end of a revalidation waits to be recorded");
            tokio::select! {
                () = self.archive.node.shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(AWAY_LAST),
            }
        }
        self.archive.wish.send_replace(super::open::Wish::default());
        self.archive
            .progress
            .send_modify(|progress| progress.finished_at_ms = finished.finished_at_ms);
        let dir = self.archive.dir.clone();
        tokio::task::spawn_blocking(move || Cursor::remove(&dir)).await?
    }
}

/// Groups of objects by name, made as they are needed.
struct Groups {
    inventory: Arc<Inventory>,
    after: Option<ObjectName>,
    until_ms: i64,
}

impl Iterator for Groups {
    type Item = Vec<Entry>;

    fn next(&mut self) -> Option<Vec<Entry>> {
        let mut group = Vec::new();
        let mut bytes = 0_u64;
        for entry in self.inventory.after(self.after.as_ref()) {
            if entry.stored_at_ms > self.until_ms {
                continue;
            }
            bytes = bytes.saturating_add(entry.size);
            group.push(entry.clone());
            if group.len() >= GROUP_OBJECTS || bytes >= GROUP_BYTES {
                break;
            }
        }
        self.after = group.last().map(|entry| entry.name.clone());
        (!group.is_empty()).then_some(group)
    }
}
