//! The batch writer: takes what waits, makes a batch of it, answers. The next batch fills meanwhile.

use crate::batch;
use crate::service::Service;
use crate::stop::Failure;
use crate::tree::{Tree, with_writer};
use anyhow::bail;
use sealwarden_seal::record::Record;
use sealwarden_seallog::{Leaf, ProvenLeaf, Published};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
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
    /// What was counted for it in [`Service::pending_bytes`].
    pub(crate) bytes: u64,
    /// The request's span: a batch belongs to the trace of its first request.
    pub(crate) span: Span,
    /// Where the answer goes.
    pub(crate) answer: oneshot::Sender<Result<ProvenLeaf, Failure>>,
}

/// Runs until shutdown. Ends with an error if the log's files cannot be trusted any more.
pub(crate) async fn run(service: &Service, mut queue: mpsc::Receiver<Job>) -> anyhow::Result<()> {
    let outcome = write(service, &mut queue).await;
    queue.close();
    while let Some(job) = queue.recv().await {
        answer(service, job, Err(Failure::ShuttingDown));
    }
    service.writer_ended.cancel();
    outcome
}

async fn write(service: &Service, queue: &mut mpsc::Receiver<Job>) -> anyhow::Result<()> {
    let shutdown = &service.node.shutdown;
    let mut jobs = Vec::new();
    // At the start nobody knows whether an earlier life left a batch.
    let mut unfinished = true;
    loop {
        if let Some(broken) = service.broken.borrow().clone().filter(|broken| broken.end) {
            bail!("the log's writer stopped: {}", broken.reason);
        }
        if unfinished && let Err(failure) = roll_forward(service).await {
            refuse_waiting(service, queue, &failure);
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = changed(service) => {}
                () = tokio::time::sleep(AGAIN) => {}
            }
            continue;
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            _ = queue.recv_many(&mut jobs, service.config.max_batch) => {
                unfinished = make_batch(service, std::mem::take(&mut jobs)).await;
            }
        }
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
async fn make_batch(service: &Service, jobs: Vec<Job>) -> bool {
    let span = span_of(&jobs);
    let leaves = jobs.iter().map(|job| job.leaf.clone()).collect();
    let seal = async {
        let absent = || Failure::Away("the log has no tree of this node".to_owned());
        let tree = current(service).await.ok_or_else(absent)?;
        let _batching = service.batching.lock().await;
        batch::seal(service, &tree, leaves, None).await
    };
    let outcome = seal.instrument(span).await;
    match outcome {
        Ok(published) => {
            for (job, seal) in jobs.into_iter().zip(published.seals) {
                answer(service, job, Ok(seal));
            }
            false
        }
        Err(failure) => {
            tracing::debug!(%failure, requests = jobs.len(), "a batch was not sealed");
            for job in jobs {
                answer(service, job, Err(failure.clone()));
            }
            matches!(failure, Failure::Unknown(_) | Failure::Broken(_))
        }
    }
}

/// The batch's span: under its first request's, following the next few.
fn span_of(jobs: &[Job]) -> Span {
    let parent = jobs.first().and_then(|job| job.span.id());
    let span = tracing::info_span!(parent: parent, "batch", leaves = jobs.len());
    for job in jobs.iter().skip(1).take(LINKED_REQUESTS) {
        span.follows_from(&job.span);
    }
    span
}

/// Refuses what waits while an earlier batch cannot be finished: none of it was staged.
fn refuse_waiting(service: &Service, queue: &mut mpsc::Receiver<Job>, failure: &Failure) {
    let failure = if let Failure::Unknown(reason) = failure {
        Failure::Away(format!("an earlier batch waits: {reason}"))
    } else {
        failure.clone()
    };
    while let Ok(job) = queue.try_recv() {
        answer(service, job, Err(failure.clone()));
    }
}

fn answer(service: &Service, job: Job, outcome: Result<ProvenLeaf, Failure>) {
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

/// Keeps the index of re-sealed records up to date.
pub(crate) fn note_successors(service: &Service, tree: &Tree, published: &Published) {
    for seal in &published.seals {
        if let Ok(record) = Record::decode(&seal.leaf.record) {
            service.successors.note(&record, &tree.origin, seal.index);
        }
    }
}

/// Records published checkpoints in the event stream, off the path of callers and never more often than they are read.
pub(crate) async fn record_published(service: &Service) -> anyhow::Result<()> {
    use sealwarden_domain::log_control::Command;
    use sealwarden_wire::event::v1::CheckpointPublished;
    let mut published = service.published.subscribe();
    loop {
        published.mark_unchanged();
        for tree in service.trees() {
            let known = with_writer(&tree, |log| Ok((log.size(), log.root()))).await;
            let Ok(Ok((size, root))) = known else {
                continue;
            };
            let origin = tree.origin.clone();
            let recorded = service.on_board(|log| log.origin(&origin).map(|it| it.published_size));
            if size == 0 || recorded.flatten().is_some_and(|recorded| recorded >= size) {
                continue;
            }
            let root = root.0.to_vec().into();
            let event = CheckpointPublished {
                origin,
                size,
                root,
                node: service.node.name.clone(),
            };
            if let Err(error) = service.execute(&Command::PublishCheckpoint(event)).await {
                tracing::warn!(%error, "a published checkpoint is not recorded yet");
            }
        }
        tokio::select! {
            () = service.writer_ended.cancelled() => return Ok(()),
            _ = published.changed() => {}
        }
        tokio::select! {
            () = service.writer_ended.cancelled() => {}
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}
