//! Sealing over gRPC.

use crate::affected::coverage;
use crate::request;
use crate::service::Service;
use crate::status::status;
use crate::stop::Failure;
use crate::tree::Tree;
use crate::trust::Required;
use crate::writer::Job;
use sealwarden_pki::CallerRole::{Node, Operator, Sealer};
use sealwarden_pki::{CallerRole, caller_of, require};
use sealwarden_seal::note::Note;
use sealwarden_seal::record::Original;
use sealwarden_seal::record::Record;
use sealwarden_seallog::{LogError, ProvenLeaf, ReserveError, View};
use sealwarden_wire::seal::v1::sealing_server::Sealing;
use sealwarden_wire::seal::v1::{
    ExportSealsRequest, FindAffectedRequest, FindAffectedResponse, GetSealRequest, SealRequest,
    SealResponse, Stage, StatusRequest, StatusResponse,
};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Indexes that `FindAffected` names at most.
const NAMED_INDEXES: u64 = 1000;
/// Seals read at once for an export.
const EXPORT_CHUNK: u64 = 256;
/// Seals of an export that wait for a slow reader.
const EXPORT_QUEUE: usize = 64;
/// What one leaf takes on the disk beside its record, staged copy included: entry, hashes, places.
const LEAF_BYTES: u64 = 256;

/// The gRPC service.
pub(crate) struct Grpc(pub(crate) Arc<Service>);

#[tonic::async_trait]
impl Sealing for Grpc {
    async fn seal(&self, request: Request<SealRequest>) -> Result<Response<SealResponse>, Status> {
        admit(&request, &[Sealer, Operator])?;
        let service = &self.0;
        let now_ms = service.node.clock.now().wall_ms;
        let checked = request::check(request.into_inner(), now_ms)?;
        let fail = |failure: Failure| failure.to_status(now_ms);
        let tree = service.ready().map_err(fail)?;
        let seal = enqueue(service, &tree, checked.leaf).await.map_err(fail)?;
        // The batch may have gone into a tree that was opened meanwhile.
        let tree = origin_of(&seal)
            .and_then(|origin| service.tree(&origin))
            .unwrap_or(tree);
        if checked.until_witnessed {
            return witnessed(service, &tree, seal).await.map(Response::new);
        }
        Ok(Response::new(response(service, &tree, &seal)))
    }

    async fn get_seal(
        &self,
        request: Request<GetSealRequest>,
    ) -> Result<Response<SealResponse>, Status> {
        admit(&request, &[Sealer, Operator, Node])?;
        let GetSealRequest {
            origin,
            index,
            follow,
        } = request.into_inner();
        let tree = self.tree(&origin)?;
        let seal = read_seal(&tree, index).await?;
        if let Some((origin, index)) = self.successor(&tree, &seal).filter(|_| follow) {
            let tree = self.tree(&origin)?;
            let seal = read_seal(&tree, index).await?;
            return Ok(Response::new(response(&self.0, &tree, &seal)));
        }
        Ok(Response::new(response(&self.0, &tree, &seal)))
    }

    type ExportSealsStream = ReceiverStream<Result<SealResponse, Status>>;

    async fn export_seals(
        &self,
        request: Request<ExportSealsRequest>,
    ) -> Result<Response<Self::ExportSealsStream>, Status> {
        admit(&request, &[Operator, Node])?;
        let tree = self.tree(&request.into_inner().origin)?;
        let (sender, receiver) = mpsc::channel(EXPORT_QUEUE);
        let service = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || export(&service, &tree, &sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn find_affected(
        &self,
        request: Request<FindAffectedRequest>,
    ) -> Result<Response<FindAffectedResponse>, Status> {
        admit(&request, &[Operator, Node])?;
        let FindAffectedRequest {
            origin,
            compromised_since_ms,
        } = request.into_inner();
        let tree = self.tree(&origin)?;
        let known = self
            .0
            .on_board(|log| log.origin(&origin).cloned())
            .flatten();
        let known = known.ok_or_else(|| unknown_origin(&origin))?;
        let found = blocking(move || coverage(&known, &tree.reader, compromised_since_ms)).await?;
        let named = found.covered..found.total.min(found.covered.saturating_add(NAMED_INDEXES));
        Ok(Response::new(FindAffectedResponse {
            total: found.total,
            covered: found.covered,
            reported: found.reported(),
            reported_indexes: named.collect(),
        }))
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        admit(&request, &[Sealer, Operator, Node])?;
        status(&self.0).await.map(Response::new)
    }
}

impl Grpc {
    fn tree(&self, origin: &str) -> Result<Arc<Tree>, Status> {
        self.0.tree(origin).ok_or_else(|| unknown_origin(origin))
    }

    /// Where the record of a seal was sealed again.
    fn successor(&self, tree: &Tree, seal: &ProvenLeaf) -> Option<(String, u64)> {
        let here = Original {
            origin: tree.origin.clone(),
            index: seal.index,
        };
        let original = Record::decode(&seal.leaf.record)
            .ok()
            .and_then(|record| record.original);
        let place = self.0.successors.of(&original.unwrap_or(here))?;
        (place != (tree.origin.clone(), seal.index)).then_some(place)
    }
}

fn unknown_origin(origin: &str) -> Status {
    let start: String = origin.chars().take(80).collect();
    Status::not_found(format!("this node has no tree of origin {start:?}"))
}

fn admit<T>(request: &Request<T>, roles: &[CallerRole]) -> Result<(), Status> {
    require(&caller_of(request)?, roles)
}

/// Lets a leaf wait for the next batch, and waits for it. Room in memory and on the disk is taken before it is accepted.
async fn enqueue(
    service: &Service,
    tree: &Tree,
    leaf: sealwarden_seallog::Leaf,
) -> Result<ProvenLeaf, Failure> {
    let record = u64::try_from(leaf.record.len()).unwrap_or(u64::MAX);
    let bytes = record.saturating_mul(2).saturating_add(LEAF_BYTES);
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
        return Err(match error {
            ReserveError::NoSpace(no_space) => Failure::NoSpace(no_space.to_string()),
            ReserveError::Log(error) => Failure::Away(error.to_string()),
        });
    }
    let (answer, answered) = oneshot::channel();
    place.send(Job {
        leaf,
        bytes,
        span: tracing::Span::current(),
        answer,
    });
    answered.await.unwrap_or(Err(Failure::ShuttingDown))
}

/// Waits, for a bounded time, until the witnessed checkpoint covers the seal.
async fn witnessed(
    service: &Service,
    tree: &Arc<Tree>,
    seal: ProvenLeaf,
) -> Result<SealResponse, Status> {
    let mut size = tree.witnessed.subscribe();
    let covered = size.wait_for(|size| *size > seal.index);
    let in_time = tokio::time::timeout(service.config.witness_wait(), covered)
        .await
        .is_ok();
    if !in_time {
        return Ok(response(service, tree, &seal));
    }
    let seal = read_seal(tree, seal.index).await?;
    Ok(response(service, tree, &seal))
}

async fn read_seal(tree: &Arc<Tree>, index: u64) -> Result<ProvenLeaf, Status> {
    let reader = tree.reader.clone();
    blocking(move || reader.view()?.seal_of(index)).await
}

/// Reads from the log's files on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, Status> {
    let outcome = tokio::task::spawn_blocking(work).await;
    outcome
        .map_err(|error| Status::internal(error.to_string()))?
        .map_err(|error| log_status(&error))
}

fn log_status(error: &LogError) -> Status {
    if let LogError::NoLeaf { .. } = error {
        return Status::not_found(error.to_string());
    }
    tracing::error!(%error, "the seal log cannot be read");
    Status::data_loss(error.to_string())
}

fn origin_of(seal: &ProvenLeaf) -> Option<String> {
    seal.note.lines().next().map(str::to_owned)
}

fn response(service: &Service, tree: &Tree, seal: &ProvenLeaf) -> SealResponse {
    let required = service.witnesses.required(&service.node.board);
    respond(required.as_deref(), tree, seal)
}

fn respond(required: Option<&Required>, tree: &Tree, seal: &ProvenLeaf) -> SealResponse {
    let is_witnessed = required.is_some_and(|required| {
        let enough = |note: Note| required.met_by(&note);
        Note::parse(seal.note.as_bytes()).is_ok_and(enough)
    });
    let stage = if is_witnessed {
        Stage::Witnessed
    } else {
        Stage::Sealed
    };
    SealResponse {
        seal: seal.to_text().into_bytes().into(),
        origin: tree.origin.clone(),
        index: seal.index,
        stage: stage.into(),
    }
}

/// Sends every seal of a tree. A reader that went away ends it. Blocks its thread.
fn export(service: &Service, tree: &Tree, to: &mpsc::Sender<Result<SealResponse, Status>>) {
    let required = service.witnesses.required(&service.node.board);
    let send = |view: &View, start: u64| -> Result<(), LogError> {
        for seal in view.seals(start..view.size().min(start + EXPORT_CHUNK))? {
            if to
                .blocking_send(Ok(respond(required.as_deref(), tree, &seal)))
                .is_err()
            {
                break;
            }
        }
        Ok(())
    };
    let outcome = tree.reader.view().and_then(|view| {
        let mut start = 0;
        while start < view.size() && !to.is_closed() {
            send(&view, start)?;
            start += EXPORT_CHUNK;
        }
        Ok(())
    });
    if let Err(error) = outcome {
        // A reader that went away does not need the reason either.
        drop(to.blocking_send(Err(log_status(&error))));
    }
}
