//! One request's way: known already, into the next batch, or into the durable queue.

use crate::queue::{Entry, Place, Ticket};
use crate::request::{self, Checked, hex};
use crate::seals::{log_status, newest_at, origin_of, response, witnessed};
use crate::service::Service;
use crate::stop::Failure;
use crate::tree::Tree;
use crate::writer::{Job, Made};
use sealwarden_seal::record::Record;
use sealwarden_seallog::{Leaf, ProvenLeaf, ReserveError};
use sealwarden_wire::seal::v1::{SealRequest, SealResponse, Stage};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

/// What one leaf takes on the disk beside its record, staged copy included: entry, hashes, places.
const LEAF_BYTES: u64 = 256;

/// Seals one request, or lets it wait under a ticket.
pub(crate) async fn accept(
    service: &Arc<Service>,
    caller: &str,
    request: SealRequest,
) -> Result<SealResponse, Status> {
    let now_ms = service.node.clock.now().wall_ms;
    let checked = request::check(&service.config, caller, request, now_ms)?;
    let (digest, until_witnessed) = (checked.digest, checked.until_witnessed);
    let made = match known(service, &checked)? {
        Some(made) => Ok(made),
        None => make(service, checked).await,
    };
    match made.map_err(|failure| failure.to_status(now_ms))? {
        Made::Queued(ticket) => Ok(queued(ticket)),
        Made::At(place) => {
            let (tree, seal) = newest_at(service, place).await?;
            require_digest(&seal.leaf, &digest)?;
            answer(service, &tree, seal, until_witnessed).await
        }
        Made::Sealed(published, index) => {
            let seal = published.seal(index).map_err(|error| log_status(&error))?;
            let absent = || Status::internal("the seal names no tree of this node");
            let origin = origin_of(&seal).ok_or_else(absent)?;
            let tree = service.tree(&origin).ok_or_else(absent)?;
            answer(service, &tree, seal, until_witnessed).await
        }
    }
}

async fn answer(
    service: &Service,
    tree: &Arc<Tree>,
    seal: ProvenLeaf,
    until_witnessed: bool,
) -> Result<SealResponse, Status> {
    if until_witnessed {
        return witnessed(service, tree, seal).await;
    }
    Ok(response(service, tree, &seal))
}

fn queued(ticket: Ticket) -> SealResponse {
    SealResponse {
        stage: Stage::Queued.into(),
        ticket: ticket.to_string(),
        ..SealResponse::default()
    }
}

/// What this very request became before.
fn known(service: &Service, checked: &Checked) -> Result<Option<Made>, Status> {
    let Some(key) = &checked.key else {
        return Ok(None);
    };
    if let Some(place) = service.requests.of(key) {
        return Ok(Some(Made::At(place)));
    }
    let Some((ticket, leaf)) = service.tickets.of_request(key) else {
        return Ok(None);
    };
    require_digest(&leaf, &checked.digest)?;
    if checked.accept_queued {
        return Ok(Some(Made::Queued(ticket)));
    }
    Err(Failure::Waits.to_status(0))
}

/// A request id stands for one document.
fn require_digest(leaf: &Leaf, digest: &[u8; 32]) -> Result<(), Status> {
    let Ok(record) = Record::decode(&leaf.record) else {
        return Err(Status::data_loss(
            "the record that was sealed under this request_id cannot be read: see `sealwarden log check`",
        ));
    };
    if record.digest == *digest {
        return Ok(());
    }
    Err(Status::already_exists(format!(
        "this request_id was used for digest {}, and now comes with {}: a new request needs an id of its own",
        hex(&record.digest),
        hex(digest)
    )))
}

async fn make(service: &Service, checked: Checked) -> Result<Made, Failure> {
    let boot_ms = service.node.clock.now().boot_ms;
    let tenants = &service.tenants;
    let _on_its_way = tenants.take(&service.config, &checked.tenant, 1, boot_ms)?;
    let stuck = service
        .stuck
        .borrow()
        .clone()
        .filter(|_| checked.accept_queued);
    let admitted = match stuck {
        Some(stuck) => Err(stuck),
        None => service.admits(checked.priority),
    };
    match admitted {
        Ok(tree) => next_batch(service, &tree, checked).await,
        Err(failure) if checked.accept_queued && failure.lets_wait() => {
            let entry = entry(service, &checked);
            let tickets = wait(service, vec![entry]).await?;
            let ticket = tickets.first().copied();
            ticket.map(Made::Queued).ok_or(failure)
        }
        Err(failure) => Err(failure),
    }
}

fn entry(service: &Service, checked: &Checked) -> Entry {
    Entry {
        priority: checked.priority,
        leaf: checked.leaf.clone(),
        key: checked.key,
        since: since(service),
    }
}

/// Before this place there is no leaf of a request that comes now. What the board knows may lag, so it is a lower bound.
pub(crate) fn since(service: &Service) -> Place {
    let known = service.on_board(|log| {
        let current = log.current()?;
        let tree = crate::tree::number_of(&current.origin).ok()?;
        let index = current.published_size;
        Some(Place { tree, index })
    });
    known.flatten().unwrap_or(Place { tree: 0, index: 0 })
}

/// Lets requests wait in the durable queue, in their order. There is room on the disk for the queue and for their leaves.
pub(crate) async fn wait(service: &Service, entries: Vec<Entry>) -> Result<Vec<Ticket>, Failure> {
    let leaves = entries.iter().map(|entry| room_of(&entry.leaf));
    let (_, waiting) = service.tickets.waiting();
    let bytes = leaves
        .fold(0, u64::saturating_add)
        .saturating_mul(2)
        .saturating_add(waiting.saturating_mul(2))
        .saturating_add(service.pending_bytes.load(Ordering::Relaxed));
    if let Some(tree) = service.current() {
        tree.reader.reserve(bytes).map_err(no_room)?;
    }
    let outcome = service.tickets.accept(entries).await;
    outcome.map_err(|error| {
        if let crate::queue::QueueError::Broken(reason) = &error {
            // Only a fresh process can know what is on the disk.
            return service.stop_for_good(&format!("the durable queue: {reason}"), true);
        }
        Failure::from(error)
    })
}

fn room_of(leaf: &Leaf) -> u64 {
    room_for(1, leaf.record.len())
}

/// What leaves with records of so many bytes in all take on the disk.
pub(crate) fn room_for(leaves: usize, bytes: usize) -> u64 {
    let wide = |number| u64::try_from(number).unwrap_or(u64::MAX);
    let places = wide(leaves).saturating_mul(LEAF_BYTES);
    wide(bytes).saturating_mul(2).saturating_add(places)
}

pub(crate) fn no_room(error: ReserveError) -> Failure {
    match error {
        ReserveError::NoSpace(no_space) => Failure::NoSpace(no_space.to_string()),
        ReserveError::Log(error) => Failure::Away(error.to_string()),
    }
}

/// Lets a leaf wait for the next batch, and waits for it. Room in memory and on the disk is taken before it is accepted.
async fn next_batch(service: &Service, tree: &Tree, checked: Checked) -> Result<Made, Failure> {
    let bytes = room_of(&checked.leaf);
    let full = || Failure::QueueFull {
        waiting: service.config.queue,
    };
    let place = service.queue.try_reserve().map_err(|error| match error {
        mpsc::error::TrySendError::Full(()) => full(),
        mpsc::error::TrySendError::Closed(()) => Failure::ShuttingDown,
    })?;
    let pending = service
        .pending_bytes
        .fetch_add(bytes, Ordering::Relaxed)
        .saturating_add(bytes);
    if let Err(error) = tree.reader.reserve(pending) {
        service.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
        return Err(no_room(error));
    }
    let (answer, answered) = oneshot::channel();
    place.send(Job {
        leaf: checked.leaf,
        key: checked.key,
        may_wait: checked.accept_queued.then_some(checked.priority),
        bytes,
        span: tracing::Span::current(),
        answer,
    });
    answered.await.unwrap_or(Err(Failure::ShuttingDown))
}
