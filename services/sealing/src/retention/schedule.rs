//! Records whose time is over: looked for at an interval, erased at a bounded rate.
//!
//! Nothing of it is kept but what events say: a restart looks again from the first leaf on, and finds what is not erased yet.

use super::config::{after, before};
use super::find::{Found, Times, each, origins};
use super::holds::{At, Holds};
use super::perform::{finish_all, perform};
use super::trees;
use crate::config::Config;
use crate::service::Service;
use crate::tree::Tree;
use anyhow::Context as _;
use jiff::Span;
use sealwarden_domain::log_control::Origin;
use sealwarden_domain::retention::{MAX_RANGES, Order, Retention};
use sealwarden_wire::event::v1::ErasedRange;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// What was looked at of a tree, so that it is not looked at again before something can be due.
#[derive(Clone, Copy, Debug)]
struct Looked {
    /// Leaves before this one.
    until: u64,
    /// When the first of them that stays may go, Unix milliseconds.
    next_due_ms: i64,
}

/// What was looked at of all trees.
type Progress = HashMap<String, Looked>;

/// What is due, by tenant.
struct Due {
    tenant: String,
    criterion: String,
    found: Found,
}

/// Erases what is due until shutdown.
pub(crate) async fn keep(service: &Arc<Service>) -> anyhow::Result<()> {
    let shutdown = &service.node.shutdown;
    if !any(&service.config) {
        shutdown.cancelled().await;
        return Ok(());
    }
    let mut progress = Progress::new();
    loop {
        if let Err(error) = round(service, &mut progress).await {
            let error = format!("{error:#}");
            tracing::warn!(error, "erasing what is due waits");
            progress.clear();
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(service.config.retention.every()) => {}
        }
    }
}

/// Whether anything is ever due.
fn any(config: &Config) -> bool {
    let mut tenants = config.tenants.values().chain([&config.tenant_defaults]);
    tenants.any(|it| config.retention.of(it).is_some())
}

/// One look at all trees.
async fn round(service: &Arc<Service>, progress: &mut Progress) -> anyhow::Result<()> {
    let _erasing = service.records.erasing.lock().await;
    finish_all(service).await?;
    let known = service.records.newest().await?;
    let origins = origins(service).await;
    let (own, mut looked) = (Arc::clone(service), progress.clone());
    let seen = Holds::seen(&known);
    let due = tokio::task::spawn_blocking(move || {
        let mut due = BTreeMap::new();
        for tree in trees(&own) {
            look(&own, (&tree, &known, &origins), &mut looked, &mut due)?;
        }
        anyhow::Ok((due, looked))
    });
    let (due, looked) = due.await.context("the log's thread ended")??;
    *progress = looked;
    for Due {
        tenant,
        criterion,
        found,
    } in due.into_values()
    {
        for places in portions(&found.places, service.config.retention.per_second.into()) {
            let leaves: u64 = places.iter().map(|it| it.count).sum();
            let order = Order {
                log: service.config.log.clone(),
                tenant: tenant.clone(),
                criterion: criterion.clone(),
                reason: "the time that the settings keep it is over".to_owned(),
                by: "schedule".to_owned(),
                places,
                seen: seen.clone(),
                node: service.node.name.clone(),
                at_ms: service.node.clock.now().wall_ms,
            };
            let erasure = perform(service, service.node.meta(), order).await?;
            tracing::info!(erasure, tenant, leaves, criterion, "records were due");
            tokio::select! {
                () = service.node.shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
    }
    Ok(())
}

/// Looks for what is due in a tree. What a hold covers is looked at again the next time. Blocks its thread.
fn look(
    service: &Service,
    (tree, known, origins): (&Arc<Tree>, &Retention, &[Origin]),
    progress: &mut Progress,
    due: &mut BTreeMap<String, Due>,
) -> anyhow::Result<()> {
    let now_ms = service.node.clock.now().wall_ms;
    let view = tree.reader.view()?;
    let mut looked = progress
        .get(&tree.origin)
        .copied()
        .filter(|it| it.next_due_ms > now_ms)
        .unwrap_or(Looked {
            until: 0,
            next_due_ms: i64::MAX,
        });
    if looked.until >= view.size() {
        progress.insert(tree.origin.clone(), looked);
        return Ok(());
    }
    let times = Times::of(origins);
    let mut holds = Holds::of(service, known, None);
    let mut periods: HashMap<String, Option<(Span, String)>> = HashMap::new();
    let (config, secret) = (&service.config, &service.records.secret);
    let mut unreadable = 0;
    each(
        (tree, &view, known),
        looked.until..view.size(),
        &mut unreadable,
        |index, record| {
            let period = periods
                .entry(record.tenant.clone())
                .or_insert_with(|| config.retention.of(config.limits_of(&record.tenant)));
            let Some((period, criterion)) = period else {
                return;
            };
            let sealed_at_ms = times.sealed_at_ms(&tree.origin, index, &record);
            if sealed_at_ms > before(now_ms, period) {
                looked.next_due_ms = looked.next_due_ms.min(after(sealed_at_ms, period));
                return;
            }
            let at = At {
                origin: &tree.origin,
                record: &record,
                sealed_at_ms,
            };
            if holds.cover(secret, &at) {
                looked.next_due_ms = now_ms;
                return;
            }
            let of_tenant = due.entry(record.tenant.clone()).or_insert_with(|| Due {
                tenant: record.tenant.clone(),
                criterion: criterion.clone(),
                found: Found::default(),
            });
            of_tenant.found.add(&tree.origin, index);
        },
    )?;
    if unreadable > 0 {
        tracing::warn!(
            origin = tree.origin,
            unreadable,
            "records are damaged, so nobody can say whether they are due: `sealwarden log check` names them"
        );
    }
    looked.until = view.size();
    progress.insert(tree.origin.clone(), looked);
    Ok(())
}

/// Divides places into orders of at most so many leaves.
fn portions(places: &[ErasedRange], most: u64) -> Vec<Vec<ErasedRange>> {
    let mut portions = Vec::new();
    let (mut portion, mut leaves) = (Vec::new(), 0);
    for place in places {
        let (mut first, mut left) = (place.first, place.count);
        while left > 0 {
            let count = left.min(most - leaves);
            portion.push(ErasedRange {
                origin: place.origin.clone(),
                first,
                count,
            });
            (first, left, leaves) = (first + count, left - count, leaves + count);
            if leaves == most || portion.len() == MAX_RANGES {
                portions.push(std::mem::take(&mut portion));
                leaves = 0;
            }
        }
    }
    if !portion.is_empty() {
        portions.push(portion);
    }
    portions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_have_at_most_a_seconds_worth_of_leaves_and_lose_none() {
        let place = |first, count| ErasedRange {
            origin: "a.example/1".to_owned(),
            first,
            count,
        };
        let portions = portions(&[place(0, 25), place(30, 1), place(40, 4)], 10);
        let told: Vec<Vec<_>> = portions
            .iter()
            .map(|it| it.iter().map(|it| (it.first, it.count)).collect())
            .collect();
        assert_eq!(
            told,
            [
                vec![(0, 10)],
                vec![(10, 10)],
                vec![(20, 5), (30, 1), (40, 4)]
            ]
        );
    }
}
