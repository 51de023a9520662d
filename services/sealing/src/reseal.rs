//! Sealing again, in a new origin, what was sealed before a compromise. Each new leaf names its original, which is also how
//! an interrupted re-sealing knows what is done.

use crate::affected::{Coverage, coverage};
use crate::batch;
use crate::enforce::{Obstacle, input};
use crate::request::new_nonce;
use crate::service::Service;
use crate::stop::Failure;
use crate::tree::Tree;
use crate::writer::note_successors;
use anyhow::{Context as _, anyhow};
use sealwarden_domain::log_control::LogControl;
use sealwarden_seal::record::{Original, Record};
use sealwarden_seallog::{Leaf, Published};
use sealwarden_wire::event::v1::{Directive, DirectiveKind};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Leaves of one batch: small enough that an order to stop never waits long.
const BATCH: u64 = 1024;
/// Pause before a batch that could not be signed is tried again.
const AGAIN: Duration = Duration::from_millis(100);

/// Carries out a re-seal directive; answers the lines for its acknowledgement.
pub(crate) async fn reseal(
    service: &Arc<Service>,
    directive: &Directive,
) -> Result<BTreeMap<String, String>, Obstacle> {
    let work = Work::of(service, directive).await?;
    work.finish_staged().await?;
    let Coverage { total, covered } = work.coverage().await?;
    let mut done = work.done().await?;
    let mut skipped = Skipped::default();
    for start in (0..covered).step_by(usize::try_from(BATCH).unwrap_or(1)) {
        let end = covered.min(start + BATCH);
        let (leaves, originals, here) = work.next_batch(start..end, &done).await?;
        skipped.erased += here.erased;
        skipped.damaged += here.damaged;
        if !leaves.is_empty() {
            work.seal(leaves).await?;
            done.extend(originals);
        }
    }
    let lost = skipped.erased + skipped.damaged;
    let reported = total - covered + lost;
    Ok(BTreeMap::from([
        ("origin".to_owned(), work.from.origin.clone()),
        ("into".to_owned(), work.into.origin.clone()),
        ("resealed".to_owned(), (covered - lost).to_string()),
        ("erased".to_owned(), skipped.erased.to_string()),
        ("reported".to_owned(), reported.to_string()),
    ]))
}

type Place = (String, u64);

/// Records of covered leaves that are not there to be sealed again.
#[derive(Clone, Copy, Debug, Default)]
struct Skipped {
    /// By somebody's order.
    erased: u64,
    damaged: u64,
}

struct Work<'a> {
    service: &'a Arc<Service>,
    epoch: u64,
    from: Arc<Tree>,
    into: Arc<Tree>,
    since_ms: i64,
}

impl<'a> Work<'a> {
    async fn of(service: &'a Arc<Service>, directive: &Directive) -> Result<Self, Obstacle> {
        let refused = |reason: String| Err(Obstacle::Refused(reason));
        let (from, into) = (input(directive, "origin")?, input(directive, "into")?);
        let since = input(directive, "compromised-since")?;
        let Ok(since) = since.parse::<jiff::Timestamp>() else {
            return refused(format!(
                "{since:?} is not a time; write it as RFC 3339 has it"
            ));
        };
        let control = service.control.lock().await;
        let log = control.state();
        if log.current().is_none_or(|current| current.origin != into) {
            return refused(format!("{into} is not the log's current origin"));
        }
        if log
            .origin(from)
            .is_none_or(|origin| origin.isolation.is_none())
        {
            return refused(format!("{from} is not isolated, so it can still grow"));
        }
        match (service.tree(from), service.tree(into)) {
            (Some(from), Some(into)) => Ok(Self {
                service,
                epoch: directive.epoch,
                from,
                into,
                since_ms: since.as_millisecond(),
            }),
            (None, _) => refused(format!("this node does not have the tree of {from}")),
            (_, None) => refused(format!("this node does not have the tree of {into}")),
        }
    }

    async fn coverage(&self) -> anyhow::Result<Coverage> {
        let origin = self
            .service
            .control
            .lock()
            .await
            .state()
            .origin(&self.from.origin)
            .cloned();
        let origin = origin.context("the origin is gone from the log's stream")?;
        let (reader, since_ms) = (self.from.reader.clone(), self.since_ms);
        let task = tokio::task::spawn_blocking(move || coverage(&origin, &reader, since_ms));
        Ok(task.await??)
    }

    /// The originals that the new tree already holds.
    async fn done(&self) -> anyhow::Result<BTreeSet<Place>> {
        let (service, tree) = (Arc::clone(self.service), Arc::clone(&self.into));
        let task = tokio::task::spawn_blocking(move || {
            let mut done = BTreeSet::new();
            let view = tree.reader.view()?;
            for start in (0..view.size()).step_by(usize::try_from(BATCH).unwrap_or(1)) {
                let range = start..view.size().min(start + BATCH);
                let leaves = service.records.read(&tree, &view, range)?;
                for leaf in leaves.into_iter().flatten() {
                    let original = Record::decode(&leaf.record)?.original;
                    done.extend(original.map(|original| (original.origin, original.index)));
                }
            }
            anyhow::Ok(done)
        });
        task.await?
    }

    /// The leaves to seal for a range of the old tree, their originals, and how many records are erased or cannot be read.
    async fn next_batch(
        &self,
        range: std::ops::Range<u64>,
        done: &BTreeSet<Place>,
    ) -> anyhow::Result<(Vec<Leaf>, Vec<Place>, Skipped)> {
        let (service, tree) = (Arc::clone(self.service), Arc::clone(&self.from));
        let first = range.start;
        let old = tokio::task::spawn_blocking(move || {
            let view = tree.reader.view()?;
            service.records.read(&tree, &view, range)
        });
        let old = old.await??;
        let (mut leaves, mut originals, mut unreadable) =
            (Vec::new(), Vec::new(), Skipped::default());
        for (index, leaf) in (first..).zip(old) {
            let Some(leaf) = leaf else {
                unreadable.erased += 1;
                continue;
            };
            let Ok(mut record) = Record::decode(&leaf.record) else {
                tracing::warn!(
                    origin = self.from.origin,
                    index,
                    "a record is not readable and is reported"
                );
                unreadable.damaged += 1;
                continue;
            };
            // A record that was sealed again before keeps naming where it was first.
            let here = Original {
                origin: self.from.origin.clone(),
                index,
            };
            let original = record.original.take().unwrap_or(here);
            let place = (original.origin.clone(), original.index);
            if done.contains(&place) {
                continue;
            }
            record.original = Some(original);
            leaves.push(Leaf {
                nonce: new_nonce()?,
                record: record.encode()?,
            });
            originals.push(place);
        }
        Ok((leaves, originals, unreadable))
    }

    /// A batch that an interrupted re-sealing staged goes first.
    async fn finish_staged(&self) -> Result<(), Obstacle> {
        loop {
            let outcome = {
                let _batching = self.service.batching.lock().await;
                match batch::on_writer(self.service, &self.into, |log| Ok(log.staged().cloned()))
                    .await
                {
                    Ok(None) => return Ok(()),
                    Ok(Some(staged)) => self.noted(
                        batch::finish(self.service, &self.into, staged, Some(self.epoch)).await,
                    ),
                    Err(failure) => Err(failure),
                }
            };
            if self.settle(outcome).await? {
                return Ok(());
            }
        }
    }

    async fn seal(&self, leaves: Vec<Leaf>) -> Result<(), Obstacle> {
        loop {
            let outcome = {
                let _batching = self.service.batching.lock().await;
                let (service, leaves) = (self.service, leaves.clone());
                self.noted(batch::seal(service, &self.into, leaves.into(), Some(self.epoch)).await)
            };
            let unknown = matches!(outcome, Err(Failure::Unknown(_)));
            if self.settle(outcome).await? {
                return Ok(());
            }
            if unknown {
                // The batch is staged: it is finished, not made again.
                return Box::pin(self.finish_staged()).await;
            }
        }
    }

    /// Notes what was published, while nothing else can be.
    fn noted(&self, outcome: Result<Published, Failure>) -> Result<Published, Failure> {
        if let Ok(published) = &outcome {
            note_successors(self.service, &self.into, published);
        }
        outcome
    }

    /// Whether the batch is published; if not, waits a little, unless the directive must be given up.
    async fn settle(&self, outcome: Result<Published, Failure>) -> Result<bool, Obstacle> {
        let Err(failure) = outcome else {
            return Ok(true);
        };
        let name = &self.service.node.name;
        if let Some(newer) = self
            .service
            .on_board(|log| newer_stop(log, name, self.epoch))
            .flatten()
        {
            let reason = format!("directive {newer} stops signing, so this one is not finished");
            return Err(Obstacle::Refused(reason));
        }
        if matches!(failure, Failure::Broken(_)) || self.service.node.shutdown.is_cancelled() {
            return Err(Obstacle::Later(anyhow!(failure)));
        }
        tracing::debug!(%failure, "re-sealing waits");
        tokio::select! {
            () = self.service.node.shutdown.cancelled() => {}
            () = tokio::time::sleep(AGAIN) => {}
        }
        Ok(false)
    }
}

/// A newer order to stop that waits behind this one.
pub(crate) fn newer_stop(log: &LogControl, node: &str, epoch: u64) -> Option<u64> {
    log.unanswered(node)
        .filter(|state| {
            matches!(
                state.kind(),
                DirectiveKind::IsolateKey | DirectiveKind::ReadOnly | DirectiveKind::Queue
            )
        })
        .map(|state| state.directive.epoch)
        .find(|newer| *newer > epoch)
}
