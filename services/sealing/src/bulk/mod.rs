//! Bulk streams: chunks of digests in, one answer a chunk out, in their order.
//!
//! One task reads, one answers. A chunk stays one thing all the way: one message, one entry for the writer, one range of
//! neighbouring leaves, one proof. What waits is bounded three times: the digests of a stream (its client is then held back by
//! flow control), the digests of all streams, and the answers that a slow client has not taken.

mod answer;
mod chunk;

use self::answer::Answers;
use self::chunk::{Header, Prepared};
use crate::accept::{no_room, room_for};
use crate::service::Service;
use crate::stop::Failure;
use crate::tenants::InFlight;
use crate::writer::{Chunk, Placed};
use sealwarden_wire::seal::v1::seal_stream_request::Message;
use sealwarden_wire::seal::v1::{SealStreamRequest, SealStreamResponse};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

/// Answers that wait for their client.
const ANSWERS: usize = 2;
/// Chunks of one stream that wait for their seals, however small they are.
const UNANSWERED_CHUNKS: usize = 128;

/// A chunk on its way, or why there is no more of them.
enum Pending {
    Sent(Box<Sent>),
    Refused(Status),
}

/// A chunk that the writer has.
struct Sent {
    prepared: Prepared,
    placed: Where,
    /// Its place among what its stream may have unanswered.
    _room: OwnedSemaphorePermit,
    /// Its place among what its tenant may have unanswered.
    _on_its_way: Option<InFlight>,
}

/// Where a chunk's leaves are, or will be.
enum Where {
    Known(Placed),
    Waits(oneshot::Receiver<Result<Placed, Failure>>),
}

/// Serves one stream.
pub(crate) fn open(
    service: &Arc<Service>,
    caller: String,
    requests: impl Stream<Item = Result<SealStreamRequest, Status>> + Send + Unpin + 'static,
) -> ReceiverStream<Result<SealStreamResponse, Status>> {
    let (out, answers) = mpsc::channel(ANSWERS);
    let (pending, waiting) = mpsc::channel(UNANSWERED_CHUNKS);
    let own = Arc::clone(service);
    tokio::spawn(async move { read(&own, &caller, requests, &pending).await });
    let own = Arc::clone(service);
    tokio::spawn(async move { Answers::new(&own, out).send_all(waiting).await });
    ReceiverStream::new(answers)
}

async fn read(
    service: &Service,
    caller: &str,
    requests: impl Stream<Item = Result<SealStreamRequest, Status>> + Unpin,
    pending: &mpsc::Sender<Pending>,
) {
    let outcome = tokio::select! {
        () = pending.closed() => Ok(()),
        () = service.node.shutdown.cancelled() => Err(Failure::ShuttingDown.to_status(0)),
        outcome = read_all(service, caller, requests, pending) => outcome,
    };
    if let Err(status) = outcome {
        // A client that went away does not need the reason.
        drop(pending.send(Pending::Refused(status)).await);
    }
}

async fn read_all(
    service: &Service,
    caller: &str,
    mut requests: impl Stream<Item = Result<SealStreamRequest, Status>> + Unpin,
    pending: &mpsc::Sender<Pending>,
) -> Result<(), Status> {
    let Some(Message::Header(header)) = next(&mut requests).await? else {
        return Err(Status::invalid_argument(
            "the stream does not begin with its header: send it first",
        ));
    };
    let mut header = Header::check(header)?;
    let unanswered = Arc::new(Semaphore::new(service.config.bulk_unanswered));
    while let Some(message) = next(&mut requests).await? {
        let Message::Chunk(chunk) = message else {
            return Err(Status::invalid_argument(
                "a second header came: a stream has one, and another tenant another stream",
            ));
        };
        let now_ms = service.node.clock.now().wall_ms;
        let prepared = header.prepare(&service.config, caller, chunk, now_ms)?;
        let room = Arc::clone(&unanswered)
            .acquire_many_owned(prepared.count)
            .await
            .map_err(|_| Failure::ShuttingDown.to_status(now_ms))?;
        let (prepared, placed, on_its_way) = hand_over(service, &header, prepared)
            .await
            .map_err(|failure| failure.to_status(now_ms))?;
        let sent = Sent {
            prepared,
            placed,
            _room: room,
            _on_its_way: on_its_way,
        };
        if pending.send(Pending::Sent(Box::new(sent))).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

async fn next(
    requests: &mut (impl Stream<Item = Result<SealStreamRequest, Status>> + Unpin),
) -> Result<Option<Message>, Status> {
    match requests.next().await.transpose()? {
        None => Ok(None),
        Some(SealStreamRequest { message: None }) => Err(Status::invalid_argument(
            "an empty message came: send a header or a chunk",
        )),
        Some(SealStreamRequest { message }) => Ok(message),
    }
}

/// Gives a chunk to the writer. Room in memory and on the disk is taken before it is accepted.
async fn hand_over(
    service: &Service,
    header: &Header,
    mut prepared: Prepared,
) -> Result<(Prepared, Where, Option<InFlight>), Failure> {
    let known = prepared.key.and_then(|key| service.requests.run_of(&key));
    if let Some(run) = known {
        let published = None;
        let placed = Placed { run, published };
        return Ok((prepared, Where::Known(placed), None));
    }
    let tree = service.admits(header.priority)?;
    let (tenant, count) = (&prepared.shared.tenant, u64::from(prepared.count));
    let boot_ms = service.node.clock.now().boot_ms;
    let on_its_way = service
        .tenants
        .take(&service.config, tenant, count, boot_ms)?;
    let full = || Failure::BulkFull {
        digests: service.config.bulk_queue,
    };
    let room = Arc::clone(&service.bulk_room).acquire_many_owned(prepared.count);
    let room = tokio::time::timeout(service.config.bulk_wait(), room);
    let room = room.await.map_err(|_| full())?;
    let room = room.map_err(|_| Failure::ShuttingDown)?;
    let leaves = std::mem::take(&mut prepared.leaves);
    let bytes = room_for(leaves.len(), leaves.bytes());
    let pending = service
        .pending_bytes
        .fetch_add(bytes, Ordering::Relaxed)
        .saturating_add(bytes);
    if let Err(error) = tree.reader.reserve(pending) {
        service.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
        return Err(no_room(error));
    }
    let (answer, answered) = oneshot::channel();
    let chunk = Chunk {
        leaves,
        key: prepared.key,
        bytes,
        room,
        answer,
    };
    if service.chunks.send(chunk).await.is_err() {
        service.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
        return Err(Failure::ShuttingDown);
    }
    Ok((prepared, Where::Waits(answered), on_its_way))
}
