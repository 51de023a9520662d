//! The fold of `archive/<name>`.

use std::collections::{BTreeMap, BTreeSet};

use sealwarden_wire::event::v1::{
    ArchiveDamage, Envelope, Event, RevalidationFinished, RevalidationStarted, event::Kind,
};

use crate::fold::{Fold, IllegalEvent};

/// A revalidation.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// How it began.
    pub started: RevalidationStarted,
    /// How it ended.
    pub finished: Option<RevalidationFinished>,
}

/// Why an object is quarantined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantine {
    /// Why.
    pub reason: String,
    /// Who did it.
    pub by: String,
    /// Since when, Unix milliseconds.
    pub since_ms: i64,
}

/// Folded state of `archive/<name>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Archive {
    /// SHA-256 of each page of the inventory, the first one first.
    pub pages: Vec<[u8; 32]>,
    /// When the first page was recorded, Unix milliseconds.
    pub created_at_ms: i64,
    /// How many revalidations were started.
    pub jobs: u64,
    /// The last one.
    pub job: Option<Job>,
    /// Objects with damage: its classes, each with the revalidation that found it.
    pub damaged: BTreeMap<String, BTreeMap<String, String>>,
    /// Quarantined objects.
    pub quarantined: BTreeMap<String, Quarantine>,
    /// Damaged objects of which the last try to restore them found no intact original.
    pub lost: BTreeSet<String>,
}

impl Archive {
    /// The revalidation that is under way.
    pub fn running(&self) -> Option<&RevalidationStarted> {
        self.job
            .as_ref()
            .filter(|job| job.finished.is_none())
            .map(|job| &job.started)
    }

    /// Whether an object's damage is known from somewhere else than this revalidation.
    pub fn knows(&self, object: &str, class: &str, job: &str) -> bool {
        self.damaged
            .get(object)
            .and_then(|classes| classes.get(class))
            .is_some_and(|found_by| found_by != job)
    }

    /// Whether damage stands in the state at all.
    pub(super) fn has(&self, damage: &ArchiveDamage) -> bool {
        self.damaged
            .get(&damage.object)
            .is_some_and(|classes| classes.contains_key(&damage.class))
    }

    fn started(
        &mut self,
        envelope: &Envelope,
        e: &RevalidationStarted,
    ) -> Result<(), IllegalEvent> {
        if let Some(running) = self.running() {
            let reason = format!(
                "revalidation {} begins while {} is under way",
                e.job, running.job
            );
            return Err(IllegalEvent::new(envelope, reason));
        }
        self.jobs += 1;
        self.job = Some(Job {
            started: e.clone(),
            finished: None,
        });
        // What is not quarantined is looked at with fresh eyes: if it is still so, it is said again, to an incident that may be another one.
        let quarantined = &self.quarantined;
        self.damaged
            .retain(|object, _| quarantined.contains_key(object));
        Ok(())
    }

    fn finished(
        &mut self,
        envelope: &Envelope,
        e: &RevalidationFinished,
    ) -> Result<(), IllegalEvent> {
        match &mut self.job {
            Some(job) if job.finished.is_none() && job.started.job == e.job => {
                job.finished = Some(e.clone());
                Ok(())
            }
            Some(_) | None => {
                let reason = format!("revalidation {} ends and is not under way", e.job);
                Err(IllegalEvent::new(envelope, reason))
            }
        }
    }
}

impl Fold for Archive {
    fn apply(&mut self, envelope: &Envelope, event: &Event) -> Result<(), IllegalEvent> {
        let Some(kind) = &event.kind else {
            return Ok(()); // written by a newer version: not known to this one
        };
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "every other event is illegal in an archive's stream"
        )]
        match kind {
            Kind::ArchiveExtended(e) => {
                let next = u64::try_from(self.pages.len())
                    .unwrap_or(u64::MAX)
                    .saturating_add(1);
                let digest = <[u8; 32]>::try_from(&e.page_sha256[..]).ok();
                match digest {
                    Some(digest) if e.page == next => {
                        if self.pages.is_empty() {
                            self.created_at_ms = envelope.recorded_at_ms;
                        }
                        self.pages.push(digest);
                    }
                    _ => {
                        let reason = format!(
                            "page {} with a digest of {} bytes; page {next} with 32 is expected",
                            e.page,
                            e.page_sha256.len()
                        );
                        return Err(IllegalEvent::new(envelope, reason));
                    }
                }
            }
            Kind::RevalidationStarted(e) => self.started(envelope, e)?,
            Kind::ArchiveDamageFound(e) => {
                for damage in &e.damage {
                    let classes = self.damaged.entry(damage.object.clone()).or_default();
                    classes.insert(damage.class.clone(), e.job.clone());
                }
            }
            Kind::RevalidationFinished(e) => self.finished(envelope, e)?,
            Kind::DocumentQuarantined(e) => {
                for object in &e.objects {
                    let quarantine = Quarantine {
                        reason: e.reason.clone(),
                        by: e.by.clone(),
                        since_ms: envelope.recorded_at_ms,
                    };
                    self.quarantined.entry(object.clone()).or_insert(quarantine);
                }
            }
            Kind::DocumentReleased(e) => {
                self.quarantined.remove(&e.object);
                self.damaged.remove(&e.object);
                self.lost.remove(&e.object);
            }
            Kind::RestoreFailed(e) => {
                self.lost.insert(e.object.clone());
            }
            Kind::DocumentRestored(_) => {}
            _ => {
                return Err(IllegalEvent::new(
                    envelope,
                    "an event of another stream in an archive's stream",
                ));
            }
        }
        Ok(())
    }
}
