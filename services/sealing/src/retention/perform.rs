//! An order, from its event to the last byte.
//!
//! 1. The event names the places, decided on the newest state: no hold came that was not looked at.
//! 2. The durable queue's file is written anew without what is settled. Before the records: a ticket whose leaf is recognised by its nonce must be known as
//!    settled before the nonce is gone, or it would be sealed again.
//! 3. Nonces and records are overwritten and synced.
//! 4. The index of requests forgets them.
//! 5. The event that it is done.
//!
//! After a crash steps 2 to 5 are done again, before the node serves.

use crate::queue::{Look, QueueError, Ticket};
use crate::service::Service;
use crate::tree::with_writer;
use anyhow::{Context as _, anyhow};
use sealwarden_domain::retention::{Command, MAX_TICKETS, Order};
use sealwarden_engine::{ExecuteError, Meta};
use sealwarden_seallog::Leaf;
use sealwarden_wire::event::v1::{
    ErasedRange, ErasureFinished, ErasureOrdered, TicketsWithdrawn, event::Kind,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// Why an order was not given, or not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// It was not recorded.
    #[error(transparent)]
    Order(#[from] ExecuteError),
    /// It is recorded and will be carried out; something was in the way.
    #[error("{erasure} is recorded, and not carried out yet: {error:#}")]
    Later {
        /// The order.
        erasure: String,
        /// What was in the way.
        error: anyhow::Error,
    },
}

/// Gives an order and carries it out; answers its id. The caller holds `erasing`.
pub(super) async fn perform(
    service: &Arc<Service>,
    meta: Meta,
    order: Order,
) -> Result<String, Trouble> {
    let records = &service.records;
    let executed = records.execute(meta, &Command::Erase(order)).await?;
    let ordered = executed
        .events
        .into_iter()
        .find_map(|event| match event.kind {
            Some(Kind::ErasureOrdered(ordered)) => Some(ordered),
            _ => None,
        });
    let Some(ordered) = ordered else {
        return Err(ExecuteError::Broken("an order without an event".to_owned()).into());
    };
    let erasure = ordered.erasure.clone();
    carry_out(service, &ordered)
        .await
        .map_err(|error| Trouble::Later {
            erasure: erasure.clone(),
            error,
        })?;
    Ok(erasure)
}

/// Takes waiting requests out of the durable queue. The event names their tickets before the first byte is gone; a request that stands in a batch is left alone,
/// for it may be signed already. Answers the withdrawals, and how many requests are in a batch.
pub(super) async fn withdraw(
    service: &Arc<Service>,
    meta: &Meta,
    template: &TicketsWithdrawn,
    seen: &BTreeSet<String>,
    fits: impl Fn(&Leaf) -> bool + Send + Sync,
) -> Result<(Vec<String>, u64), Trouble> {
    // While it is held no batch is made.
    let _batching = service.batching.lock().await;
    let mut staged = BTreeSet::new();
    for tree in super::trees(service) {
        let known = with_writer(&tree, |log| Ok(log.staged().cloned())).await;
        if let Ok(Ok(Some(batch))) = known {
            staged.extend(batch.leaves().iter().map(|leaf| *leaf.nonce));
        }
    }
    let mut being_sealed = 0;
    let tickets = service.tickets.that_fit(|leaf| {
        let fitting = fits(leaf);
        let in_batch = fitting && staged.contains(&leaf.nonce);
        being_sealed += u64::from(in_batch);
        fitting && !in_batch
    });
    let mut withdrawals = Vec::new();
    for tickets in tickets.chunks(MAX_TICKETS) {
        let withdrawn = TicketsWithdrawn {
            tickets: tickets.iter().map(|it| it.0.to_vec().into()).collect(),
            ..template.clone()
        };
        let command = Command::Withdraw {
            log: service.config.log.clone(),
            withdrawn,
            seen: seen.clone(),
        };
        let executed = service.records.execute(meta.clone(), &command).await?;
        withdrawals.extend(
            executed
                .events
                .into_iter()
                .filter_map(|event| match event.kind {
                    Some(Kind::TicketsWithdrawn(e)) => Some(e.withdrawal),
                    _ => None,
                }),
        );
        take_out(service, tickets)
            .await
            .map_err(|error| Trouble::Later {
                erasure: withdrawals.join(", "),
                error,
            })?;
    }
    Ok((withdrawals, being_sealed))
}

async fn take_out(service: &Arc<Service>, tickets: &[Ticket]) -> anyhow::Result<()> {
    match service.tickets.withdraw(tickets).await {
        Ok(_) => Ok(()),
        Err(QueueError::Broken(reason)) => Err(anyhow!(
            service.stop_for_good(&format!("the durable queue: {reason}"), true)
        )),
        Err(error) => Err(anyhow!(error)),
    }
}

/// Carries out what an earlier life was ordered to erase.
pub(crate) async fn resume(service: &Arc<Service>) -> anyhow::Result<()> {
    let known = service.records.known();
    let left: Vec<_> = known
        .withdrawn()
        .map(|id| Ticket(*id))
        .filter(|ticket| matches!(service.tickets.look(*ticket), Some(Look::Waiting { .. })))
        .collect();
    if !left.is_empty() {
        let _batching = service.batching.lock().await;
        take_out(service, &left)
            .await
            .context("withdrawing tickets")?;
    }
    for erasure in known.unfinished() {
        let ordered = &erasure.ordered;
        carry_out(service, ordered)
            .await
            .with_context(|| format!("finishing {}", ordered.erasure))?;
    }
    Ok(())
}

/// Carries out again what could not be carried out while this node serves. The caller holds `erasing`.
pub(super) async fn finish_all(service: &Arc<Service>) -> anyhow::Result<()> {
    resume(service).await
}

async fn carry_out(service: &Arc<Service>, ordered: &ErasureOrdered) -> anyhow::Result<()> {
    if let Err(error) = service.tickets.purge().await {
        return Err(if let QueueError::Broken(reason) = &error {
            anyhow!(service.stop_for_good(&format!("the durable queue: {reason}"), true))
        } else {
            anyhow!(error)
        });
    }
    let mut by_origin: BTreeMap<&str, Vec<Range<u64>>> = BTreeMap::new();
    for ErasedRange {
        origin,
        first,
        count,
    } in &ordered.places
    {
        let place = *first..first.saturating_add(*count);
        by_origin.entry(origin).or_default().push(place);
    }
    for (origin, places) in by_origin {
        let tree = service
            .tree(origin)
            .with_context(|| format!("this node has no tree of {origin}: restore its folder"))?;
        let (reader, ranges) = (tree.reader.clone(), places.clone());
        let erased = tokio::task::spawn_blocking(move || reader.erase(&ranges)).await?;
        if let Err(error) = erased {
            // After a failed write or sync only a fresh process knows what is on the disk.
            return Err(anyhow!(service.stop_for_good(&error.to_string(), true)));
        }
        service.requests.forget(tree.number, &places);
    }
    let finished = ErasureFinished {
        erasure: ordered.erasure.clone(),
        finished_at_ms: service.node.clock.now().wall_ms,
    };
    let meta = service.node.meta();
    service
        .records
        .execute(meta, &Command::Finish(finished))
        .await?;
    tracing::info!(
        erasure = ordered.erasure,
        leaves = ordered.leaves,
        "records are erased"
    );
    Ok(())
}
