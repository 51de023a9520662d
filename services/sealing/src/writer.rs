//! The batch writer: takes what waits, makes a batch of it, answers. The next batch fills meanwhile. Tickets of the durable
//! queue join the batches at a bounded rate when they can be signed.
//!
//! It is the one place where a request becomes a leaf, so here a request that was sealed before, under another nonce, is
//! recognised by its id.

use crate::accept::{since, wait};
use crate::batch;
use crate::config::Config;
use crate::drain::Drain;
use crate::queue::{Drawn, Entry, Look, Place, Priority, Ticket};
use crate::requests::{RequestKey, Run};
use crate::service::Service;
use crate::stop::Failure;
use crate::successors;
use crate::tree::{Tree, with_writer};
use anyhow::bail;
use sealwarden_domain::log_control::Command;
use sealwarden_seal::merkle::Hash;
use sealwarden_seallog::{Leaf, Leaves, MAX_BATCH_LEAVES, Published};
use sealwarden_wire::event::v1::CheckpointPublished;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tracing::{Instrument as _, Span};

/// How long a batch that cannot be signed waits before it is tried again, if nothing changes meanwhile.
const AGAIN: Duration = Duration::from_millis(500);

/// How many requests beside the first one a batch's span names.
const LINKED_REQUESTS: usize = 16;

/// A request that waits for its batch.
#[derive(Debug)]
pub(crate) struct Job {
    /// What becomes its leaf.
    pub(crate) leaf: Leaf,
    /// The client's own id of the request, if it gave one.
    pub(crate) key: Option<RequestKey>,
    /// Whether it may wait in the durable queue if it cannot be signed, and with which priority.
    pub(crate) may_wait: Option<Priority>,
    /// What was counted for it in [`Service::pending_bytes`].
    pub(crate) bytes: u64,
    /// The request's span: a batch belongs to the trace of its first request.
    pub(crate) span: Span,
    /// Where the answer goes.
    pub(crate) answer: oneshot::Sender<Result<Made, Failure>>,
}

/// A bulk stream's chunk that waits for its batch. It is sealed whole or not at all.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// What becomes its leaves, neighbours in this order.
    pub(crate) leaves: Leaves,
    /// The chunk's request, if its stream has an id.
    pub(crate) key: Option<RequestKey>,
    /// What was counted for it in [`Service::pending_bytes`].
    pub(crate) bytes: u64,
    /// Its place among all that waits.
    pub(crate) room: OwnedSemaphorePermit,
    /// Where the answer goes.
    pub(crate) answer: oneshot::Sender<Result<Placed, Failure>>,
}

/// Where a chunk's leaves are.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) run: Run,
    /// The batch that they were published in just now; none where the chunk was sealed before, under other nonces.
    pub(crate) published: Option<Published>,
}

/// All that waits for the writer.
#[derive(Debug)]
pub(crate) struct Waiting {
    jobs: mpsc::Receiver<Job>,
    chunks: mpsc::Receiver<Chunk>,
    /// Found no room in the last batch.
    held: Option<Chunk>,
}

impl Waiting {
    pub(crate) fn new(jobs: mpsc::Receiver<Job>, chunks: mpsc::Receiver<Chunk>) -> Self {
        Self {
            jobs,
            chunks,
            held: None,
        }
    }

    /// Waits until there is something. Nothing is lost if it is dropped before it is ready.
    async fn some(&mut self, config: &Config) -> Taken {
        let mut taken = Taken::default();
        if let Some(chunk) = self.held.take() {
            taken.push(chunk);
        } else {
            tokio::select! {
                _ = self.jobs.recv_many(&mut taken.jobs, config.max_batch) => {}
                chunk = self.chunks.recv() => if let Some(chunk) = chunk { taken.push(chunk) },
            }
        }
        while taken.leaves < config.bulk_batch
            && let Ok(chunk) = self.chunks.try_recv()
        {
            if taken.leaves.saturating_add(chunk.leaves.len()) > config.bulk_batch {
                self.held = Some(chunk);
                break;
            }
            taken.push(chunk);
        }
        let most = MAX_BATCH_LEAVES.saturating_sub(taken.leaves);
        while taken.jobs.len() < config.max_batch.min(most)
            && let Ok(job) = self.jobs.try_recv()
        {
            taken.jobs.push(job);
        }
        taken
    }

    /// All that waits now.
    fn all(&mut self) -> Taken {
        let mut taken = Taken::default();
        let chunks = std::iter::from_fn(|| self.chunks.try_recv().ok());
        self.held
            .take()
            .into_iter()
            .chain(chunks)
            .for_each(|chunk| taken.push(chunk));
        taken.jobs = std::iter::from_fn(|| self.jobs.try_recv().ok()).collect();
        taken
    }
}

/// What goes into one batch.
#[derive(Debug, Default)]
struct Taken {
    jobs: Vec<Job>,
    chunks: Vec<Chunk>,
    /// Leaves of the chunks.
    leaves: usize,
}

impl Taken {
    fn push(&mut self, chunk: Chunk) {
        self.leaves = self.leaves.saturating_add(chunk.leaves.len());
        self.chunks.push(chunk);
    }

    fn len(&self) -> usize {
        self.jobs.len().saturating_add(self.leaves)
    }
}

/// What a request became.
#[derive(Debug)]
pub(crate) enum Made {
    /// The leaf with this index, of the batch that was just published.
    Sealed(Arc<Published>, u64),
    /// It was sealed before, here.
    At(Place),
    /// It waits, durably.
    Queued(Ticket),
}

/// Runs until shutdown. Ends with an error if the log's files cannot be trusted any more.
pub(crate) async fn run(service: &Service, mut waiting: Waiting) -> anyhow::Result<()> {
    let outcome = write(service, &mut waiting).await;
    waiting.jobs.close();
    waiting.chunks.close();
    while let Some(job) = waiting.jobs.recv().await {
        answer(service, job, Err(Failure::ShuttingDown));
    }
    let held = waiting.held.take();
    answer_chunks(service, held, &Failure::ShuttingDown);
    while let Some(chunk) = waiting.chunks.recv().await {
        answer_chunk(service, chunk, Err(Failure::ShuttingDown));
    }
    service.writer_ended.cancel();
    outcome
}

async fn write(service: &Service, waiting: &mut Waiting) -> anyhow::Result<()> {
    let shutdown = &service.node.shutdown;
    let mut broken = service.broken.subscribe();
    let mut drain = Drain::new(&service.config);
    // At the start nobody knows whether an earlier life left a batch.
    let mut unfinished = true;
    loop {
        if let Some(broken) = broken
            .borrow_and_update()
            .clone()
            .filter(|broken| broken.end)
        {
            bail!("the log's writer stopped: {}", broken.reason);
        }
        if unfinished && let Err(failure) = roll_forward(service).await {
            service.stuck.send_replace(Some(failure.clone()));
            refuse_waiting(service, waiting.all(), &failure).await;
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = changed(service) => {}
                () = tokio::time::sleep(AGAIN) => {}
            }
            continue;
        }
        service
            .stuck
            .send_if_modified(|stuck| stuck.take().is_some());
        unfinished = false;
        let taken = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            _ = broken.changed() => continue,
            taken = waiting.some(&service.config) => taken,
            () = drain.due(service) => Taken::default(),
        };
        let drawn = drain.draw(service, taken.len());
        unfinished = make_batch(service, taken, drawn, &mut drain).await;
    }
}

/// Waits for a new permit or any change of the installation.
async fn changed(service: &Service) {
    let mut permit = service.permit_changed.subscribe();
    let mut board = service.node.board.changes();
    tokio::select! {
        _ = permit.changed() => {}
        _ = board.changed() => {}
    }
}

/// Finishes the batch that an earlier try left staged.
async fn roll_forward(service: &Service) -> Result<(), Failure> {
    let Some(tree) = current(service).await else {
        return Err(Failure::Away("the log has no tree of this node".to_owned()));
    };
    let _batching = service.batching.lock().await;
    let staged = batch::on_writer(service, &tree, |log| Ok(log.staged().cloned())).await?;
    match staged {
        Some(staged) => batch::finish(service, &tree, staged, None)
            .await
            .map(|published| {
                note_successors(service, &tree, &published);
            }),
        None => Ok(()),
    }
}

/// Makes and answers one batch. Answers whether it may have left a staged one.
async fn make_batch(service: &Service, taken: Taken, drawn: Vec<Drawn>, drain: &mut Drain) -> bool {
    // Held to the end: nothing else may publish a leaf while it is put into the durable queue.
    let _batching = service.batching.lock().await;
    let (drawn, settled) = unsealed_tickets(service, drawn);
    service.tickets.settle(settled).await;
    let jobs = answer_sealed(service, taken.jobs);
    let mut chunks = unsealed_chunks(service, taken.chunks);
    if jobs.is_empty() && drawn.is_empty() && chunks.is_empty() {
        return false;
    }
    let mut batch = Batch::of(&jobs, &drawn);
    let of_chunk = batch.add(&mut chunks);
    let span = span_of(&jobs, batch.leaves.len());
    let seal = async {
        let absent = || Failure::Away("the log has no tree of this node".to_owned());
        let tree = current(service).await.ok_or_else(absent)?;
        let published = batch::seal(service, &tree, batch.leaves, None).await?;
        Ok((tree, published))
    };
    match seal.instrument(span).await {
        Ok((tree, published)) => {
            for (chunk, place) in chunks.into_iter().zip(of_chunk) {
                let placed = place.placed(&tree, &published);
                answer_chunk(service, chunk, Ok(placed));
            }
            answer_published(service, &tree, &published, jobs, &batch.of_job);
            drain.sealed(drawn.len());
            false
        }
        Err(failure) => {
            tracing::debug!(%failure, requests = jobs.len(), chunks = chunks.len(), "a batch was not sealed");
            answer_chunks(service, chunks, &failure);
            drain.pause(AGAIN);
            let is_unknown = matches!(failure, Failure::Unknown(_) | Failure::Broken(_));
            put_off(service, jobs, &failure).await;
            is_unknown
        }
    }
}

/// The leaves of a batch: tickets first, for they are older. A request that is there twice is one leaf.
struct Batch {
    leaves: Leaves,
    /// Which leaf each job becomes.
    of_job: Vec<usize>,
}

impl Batch {
    fn of(jobs: &[Job], drawn: &[Drawn]) -> Self {
        let mut leaves = Leaves::default();
        let mut known: HashMap<RequestKey, usize> = HashMap::new();
        let mut place = |leaf: &Leaf, key: Option<RequestKey>| {
            let next = leaves.len();
            let at = key.map_or(next, |key| *known.entry(key).or_insert(next));
            if at == next {
                leaves.push(&leaf.nonce, &leaf.record);
            }
            at
        };
        for ticket in drawn {
            place(&ticket.leaf, ticket.key);
        }
        let of_job = jobs.iter().map(|job| place(&job.leaf, job.key)).collect();
        Self { leaves, of_job }
    }

    /// Takes the leaves of chunks; a chunk that is there twice is in once.
    fn add(&mut self, chunks: &mut [Chunk]) -> Vec<InBatch> {
        let mut known = HashMap::new();
        let mut add = |chunk: &mut Chunk| {
            let wide = |number| u64::try_from(number).unwrap_or(u64::MAX);
            let place = InBatch {
                offset: wide(self.leaves.len()),
                count: wide(chunk.leaves.len()),
                again: false,
            };
            if let Some(key) = chunk.key {
                if let Some(earlier) = known.get(&key).copied() {
                    let again = true;
                    return InBatch { again, ..earlier };
                }
                known.insert(key, place);
            }
            self.leaves.append(std::mem::take(&mut chunk.leaves));
            place
        };
        chunks.iter_mut().map(&mut add).collect()
    }
}

/// Where a chunk is in its batch.
#[derive(Clone, Copy)]
struct InBatch {
    /// How many leaves are before it.
    offset: u64,
    count: u64,
    /// Its leaves are those of an equal chunk before it.
    again: bool,
}

impl InBatch {
    fn placed(self, tree: &Tree, published: &Published) -> Placed {
        let index = published.first_index.saturating_add(self.offset);
        let tree = tree.number;
        Placed {
            run: Run {
                place: Place { tree, index },
                count: self.count,
            },
            published: (!self.again).then(|| published.clone()),
        }
    }
}

/// Answers chunks that were sealed while they waited; gives the others.
fn unsealed_chunks(service: &Service, chunks: Vec<Chunk>) -> Vec<Chunk> {
    let mut others = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        match chunk.key.and_then(|key| service.requests.run_of(&key)) {
            Some(run) => answer_chunk(
                service,
                chunk,
                Ok(Placed {
                    run,
                    published: None,
                }),
            ),
            None => others.push(chunk),
        }
    }
    others
}

/// Chunks do not wait in the durable queue: their streams end, and their clients send them again.
fn answer_chunks(service: &Service, chunks: impl IntoIterator<Item = Chunk>, failure: &Failure) {
    for chunk in chunks {
        answer_chunk(service, chunk, Err(failure.clone()));
    }
}

fn answer_chunk(service: &Service, chunk: Chunk, outcome: Result<Placed, Failure>) {
    service
        .pending_bytes
        .fetch_sub(chunk.bytes, Ordering::Relaxed);
    drop(chunk.room);
    drop(chunk.answer.send(outcome));
}

/// Tickets that are to be sealed, and those whose requests were sealed already.
fn unsealed_tickets(service: &Service, drawn: Vec<Drawn>) -> (Vec<Drawn>, Vec<(Ticket, Place)>) {
    let mut settled = Vec::new();
    // What was withdrawn since it was drawn is not sealed.
    let waits = |drawn: &Drawn| {
        let look = service.tickets.look(drawn.ticket);
        matches!(look, Some(Look::Waiting { .. }))
    };
    let unsealed = drawn.into_iter().filter(waits).filter(|drawn| {
        let place = drawn.key.and_then(|key| service.requests.of(&key));
        settled.extend(place.map(|place| (drawn.ticket, place)));
        place.is_none()
    });
    let unsealed = unsealed.collect();
    (unsealed, settled)
}

/// Answers requests that were sealed while they waited, under another nonce; gives the others.
fn answer_sealed(service: &Service, jobs: Vec<Job>) -> Vec<Job> {
    let mut others = Vec::with_capacity(jobs.len());
    for job in jobs {
        match job.key.and_then(|key| service.requests.of(&key)) {
            Some(place) => answer(service, job, Ok(Made::At(place))),
            None => others.push(job),
        }
    }
    others
}

fn answer_published(
    service: &Service,
    tree: &Tree,
    published: &Published,
    jobs: Vec<Job>,
    of_job: &[usize],
) {
    let mut given = vec![false; published.leaves().len()];
    let shared = Arc::new(published.clone());
    for (job, at) in jobs.into_iter().zip(of_job) {
        let place = u64::try_from(*at).unwrap_or(u64::MAX);
        let index = published.first_index.saturating_add(place);
        let is_given = given.get_mut(*at).map(|it| std::mem::replace(it, true));
        let made = match is_given {
            // Its proof is made by the caller's own task, while the next batch is on its way.
            Some(false) => Ok(Made::Sealed(Arc::clone(&shared), index)),
            Some(true) => Ok(Made::At(Place {
                tree: tree.number,
                index,
            })),
            None => Err(Failure::Unknown("its leaf is not in the batch".to_owned())),
        };
        answer(service, job, made);
    }
}

/// Lets requests wait in the durable queue that want to; tells the others. A leaf that is staged keeps its nonce, so it is
/// recognised when its batch is finished after all.
async fn put_off(service: &Service, jobs: Vec<Job>, failure: &Failure) {
    let (mut entries, mut waiting) = (Vec::new(), Vec::new());
    for job in jobs {
        match job.may_wait.filter(|_| failure.lets_wait()) {
            Some(priority) => {
                entries.push(Entry {
                    priority,
                    leaf: job.leaf.clone(),
                    key: job.key,
                    since: since(service),
                });
                waiting.push(job);
            }
            None => answer(service, job, Err(failure.clone())),
        }
    }
    if waiting.is_empty() {
        return;
    }
    match wait(service, entries).await {
        Ok(tickets) => {
            for (job, ticket) in waiting.into_iter().zip(tickets) {
                answer(service, job, Ok(Made::Queued(ticket)));
            }
        }
        Err(refused) => {
            // What is staged may still be sealed: then that is what the caller must know.
            let told = if matches!(failure, Failure::Unknown(_)) {
                failure.clone()
            } else {
                refused
            };
            for job in waiting {
                answer(service, job, Err(told.clone()));
            }
        }
    }
}

/// The batch's span: under its first request's, following the next few.
fn span_of(jobs: &[Job], leaves: usize) -> Span {
    let parent = jobs.first().and_then(|job| job.span.id());
    let span = tracing::info_span!(parent: parent, "batch", leaves);
    for job in jobs.iter().skip(1).take(LINKED_REQUESTS) {
        span.follows_from(&job.span);
    }
    span
}

/// Puts off what waits while an earlier batch cannot be finished: none of it was staged.
async fn refuse_waiting(service: &Service, waiting: Taken, failure: &Failure) {
    let failure = if let Failure::Unknown(reason) = failure {
        Failure::Away(format!("an earlier batch waits: {reason}"))
    } else {
        failure.clone()
    };
    answer_chunks(service, waiting.chunks, &failure);
    put_off(service, waiting.jobs, &failure).await;
}

fn answer(service: &Service, job: Job, outcome: Result<Made, Failure>) {
    service
        .pending_bytes
        .fetch_sub(job.bytes, Ordering::Relaxed);
    // A caller that went away does not need its answer.
    drop(job.answer.send(outcome));
}

/// The tree that the newest known state says is written now, if it is this node's.
pub(crate) async fn current(service: &Service) -> Option<Arc<Tree>> {
    let control = service.control.lock().await;
    let origin = control.state().current()?;
    service.tree(&origin.origin)
}

/// Keeps the index of re-sealed records up to date. The caller holds [`Service::batching`].
pub(crate) fn note_successors(service: &Service, tree: &Tree, published: &Published) {
    service.successors.note_published(tree, published);
}

/// Records published checkpoints in the event stream, off the path of callers and never more often than they are read.
pub(crate) async fn record_published(service: &Arc<Service>) -> anyhow::Result<()> {
    let mut published = service.published.subscribe();
    loop {
        published.mark_unchanged();
        for tree in service.trees() {
            let known = with_writer(&tree, |log| Ok((log.size(), log.root()))).await;
            let Ok(Ok((size, root))) = known else {
                continue;
            };
            record_size(service, &tree.origin, size, root).await;
            successors::keep(service, &tree, service.writer_ended.is_cancelled()).await;
        }
        tokio::select! {
            () = service.writer_ended.cancelled() => {
                for tree in service.trees() {
                    successors::keep(service, &tree, true).await;
                }
                return Ok(());
            }
            _ = published.changed() => {}
        }
        tokio::select! {
            () = service.writer_ended.cancelled() => {}
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

/// Records that a tree has been published up to `size`, unless that stands there. A stop records it before it is acknowledged: what a bundle says of a frozen log
/// rests on it.
pub(crate) async fn record_size(service: &Service, origin: &str, size: u64, root: Hash) {
    let recorded = service.on_board(|log| log.origin(origin).map(|it| it.published_size));
    if size == 0 || recorded.flatten().is_some_and(|recorded| recorded >= size) {
        return;
    }
    let event = CheckpointPublished {
        origin: origin.to_owned(),
        size,
        root: root.0.to_vec().into(),
        node: service.node.name.clone(),
    };
    if let Err(error) = service.execute(&Command::PublishCheckpoint(event)).await {
        tracing::warn!(%error, "a published checkpoint is not recorded yet");
    }
}
