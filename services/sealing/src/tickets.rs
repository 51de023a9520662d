//! Tickets from the outside: what became of them, and what a restart finds of them in the trees.

use crate::config::Config;
use crate::queue::{Look, Place, Queue, Ticket};
use crate::seals::{newest_at, response};
use crate::service::Service;
use crate::stages;
use anyhow::{Context as _, bail};
use sealwarden_engine::Node;
use sealwarden_wire::seal::v1::{Stage, TicketResponse};
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::Status;

/// Leaves read at once when tickets are looked for.
const CHUNK: u64 = 1_024;

/// Opens the log line's durable queue.
pub(crate) async fn open(node: &Arc<Node>, config: &Config) -> anyhow::Result<Queue> {
    let dir = node.data.join("queue").join(&config.log);
    let limits = config.queue_limits();
    let opened = tokio::task::spawn_blocking(move || Queue::open(&dir, limits));
    let queue = opened.await.context("the queue's thread ended")?;
    queue.context("opening the durable queue")
}

/// Settles the tickets whose leaves an earlier life published without saying so in the queue's file.
pub(crate) async fn settle_published(service: &Arc<Service>) -> anyhow::Result<()> {
    let Some(earliest) = service.tickets.earliest() else {
        return Ok(());
    };
    require_trees(service, earliest).await?;
    let own = Arc::clone(service);
    let found = tokio::task::spawn_blocking(move || find(&own, earliest));
    let found = found.await.context("the log's thread ended")??;
    let (tickets, settled) = (service.tickets.waiting().0, found.len());
    service.tickets.settle(found).await;
    tracing::info!(tickets, settled, "tickets waited in the durable queue");
    Ok(())
}

/// Without a tree that can hold their leaves nobody knows which tickets are sealed.
async fn require_trees(service: &Service, earliest: Place) -> anyhow::Result<()> {
    let control = service.control.lock().await;
    for origin in &control.state().origins {
        let number = crate::tree::number_of(&origin.origin)?;
        let missing = service.tree(&origin.origin).is_none();
        if origin.node == service.node.name && number >= earliest.tree && missing {
            bail!(
                "tickets wait that may be sealed in {}, which cannot be read: restore its folder",
                origin.origin
            );
        }
    }
    Ok(())
}

fn find(service: &Service, earliest: Place) -> anyhow::Result<Vec<(Ticket, Place)>> {
    let mut found = Vec::new();
    for tree in service.trees() {
        if tree.number < earliest.tree {
            continue;
        }
        let view = tree.reader.view()?;
        let mut start = if tree.number == earliest.tree {
            earliest.index
        } else {
            0
        };
        while start < view.size() {
            let end = view.size().min(start + CHUNK);
            let leaves = service.records.read(&tree, &view, start..end);
            let leaves =
                leaves.with_context(|| format!("looking for tickets in {}", tree.origin))?;
            let leaves = (start..end).zip(leaves);
            for (index, leaf) in leaves.filter_map(|(index, leaf)| Some((index, leaf?))) {
                let tree = tree.number;
                let ticket = service.tickets.of_nonce(&leaf.nonce);
                found.extend(ticket.map(|ticket| (ticket, Place { tree, index })));
            }
            start = end;
        }
    }
    Ok(found)
}

/// Reads a ticket from a request.
pub(crate) fn parse(text: &str) -> Result<Ticket, Status> {
    Ticket::parse(text).ok_or_else(|| {
        let start: String = text.chars().take(40).collect();
        Status::invalid_argument(format!(
            "ticket {start:?} must be `T-` and 32 hexadecimal digits"
        ))
    })
}

/// What became of a ticket.
pub(crate) async fn answer(service: &Service, ticket: Ticket) -> Result<TicketResponse, Status> {
    let unknown = || match service.records.known().withdrawal_of(&ticket.0) {
        Some(withdrawn) => Status::failed_precondition(format!(
            "ticket {ticket} was withdrawn before it was sealed, by {} ({}, {})",
            withdrawn.by, withdrawn.withdrawal, withdrawn.reason
        )),
        None => Status::not_found(format!("this node knows no ticket {ticket}")),
    };
    match service.tickets.look(ticket).ok_or_else(unknown)? {
        Look::Waiting { priority, before } => {
            let stuck = service.stuck.borrow().clone();
            let waits_for = stuck.or_else(|| service.admits(priority).err());
            Ok(TicketResponse {
                ticket: ticket.to_string(),
                stage: Stage::Queued.into(),
                position: before,
                reason: waits_for.map(|it| it.to_string()).unwrap_or_default(),
                seal: None,
            })
        }
        Look::Settled(place) => {
            let (tree, seal) = newest_at(service, place).await?;
            let seal = response(service, &tree, &seal);
            Ok(TicketResponse {
                ticket: ticket.to_string(),
                stage: seal.stage,
                position: 0,
                reason: String::new(),
                seal: Some(seal),
            })
        }
    }
}

/// Sends what becomes of a ticket until it has reached a stage, the reader went away, or the process ends.
pub(crate) async fn watch(
    service: Arc<Service>,
    ticket: Ticket,
    until: Stage,
    to: mpsc::Sender<Result<TicketResponse, Status>>,
) {
    let mut changes = service.tickets.changes();
    let mut published = service.published.subscribe();
    let mut board = service.node.board.changes();
    let mut last: Option<TicketResponse> = None;
    let mut waited = None;
    loop {
        changes.mark_unchanged();
        published.mark_unchanged();
        board.mark_unchanged();
        let answer = answer(&service, ticket).await;
        let (failed, stage) = match &answer {
            Ok(answer) => (false, answer.stage()),
            Err(_) => (true, Stage::Unspecified),
        };
        let same = matches!((&answer, &last), (Ok(now), Some(before)) if now == before);
        last = answer.as_ref().ok().cloned();
        if !same && to.send(answer).await.is_err() {
            return;
        }
        if failed || stages::reaches(stage, until) {
            return;
        }
        let sealed = last.as_ref().and_then(|answer| answer.seal.as_ref());
        let sealed = sealed.map(|seal| (seal.origin.clone(), seal.index));
        let sealed = sealed.filter(|_| until != Stage::Sealed);
        // Once its witnesses were waited for, only the trust bundle can change the stage.
        let waits = sealed != waited;
        tokio::select! {
            () = to.closed() => return,
            () = service.node.shutdown.cancelled() => return,
            _ = changes.changed() => {}
            _ = published.changed() => {}
            // The mode and the trust bundle are in it.
            _ = board.changed() => {}
            () = covered(&service, sealed.clone()), if waits => waited = sealed,
            () = anchors_change(&service, sealed.as_ref()) => {}
        }
    }
}

/// Waits until a witnessed checkpoint covers a sealed place; for ever where there is none.
async fn covered(service: &Service, place: Option<(String, u64)>) {
    let found = place.and_then(|(origin, index)| Some((service.tree(&origin)?, index)));
    let Some((tree, index)) = found else {
        return std::future::pending().await;
    };
    let mut size = tree.witnessed.subscribe();
    if size.wait_for(|size| *size > index).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits until something more of a sealed place's tree is anchored; for ever where there is none.
async fn anchors_change(service: &Service, place: Option<&(String, u64)>) {
    match place.and_then(|(origin, _)| service.tree(origin)) {
        Some(tree) => stages::anchored_more(&tree).await,
        None => std::future::pending().await,
    }
}
