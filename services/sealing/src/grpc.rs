//! Sealing over gRPC.

use crate::accept::accept;
use crate::affected::coverage;
use crate::bulk;
use crate::rotation;
use crate::seals::{
    blocking, log_status, read_seal, respond, response, successor, tree_of, unknown_origin,
};
use crate::service::Service;
use crate::stages;
use crate::status::status;
use crate::tickets;
use crate::tree::Tree;
use sealwarden_pki::CallerRole::{Node, Operator, Sealer};
use sealwarden_pki::{CallerRole, caller_of, require};
use sealwarden_seallog::{LogError, ProvenLeaf, View};
use sealwarden_wire::seal::v1::sealing_server::Sealing;
use sealwarden_wire::seal::v1::{
    ExportSealsRequest, FailBackRequest, FindAffectedRequest, FindAffectedResponse,
    GetAnchorsRequest, GetAnchorsResponse, GetSealRequest, GetTicketRequest, KeyChangeResponse,
    RotateKeyRequest, SealRequest, SealResponse, SealStreamRequest, SealStreamResponse,
    StatusRequest, StatusResponse, TicketResponse, WatchSealRequest, WatchTicketRequest,
};
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Indexes that `FindAffected` names at most.
const NAMED_INDEXES: u64 = 1000;
/// Seals read at once for an export.
const EXPORT_CHUNK: u64 = 256;
/// Seals of an export that wait for a slow reader.
const EXPORT_QUEUE: usize = 64;
/// The gRPC service.
pub(crate) struct Grpc(pub(crate) Arc<Service>);

#[tonic::async_trait]
impl Sealing for Grpc {
    async fn seal(&self, request: Request<SealRequest>) -> Result<Response<SealResponse>, Status> {
        let caller = caller_of(&request)?;
        require(&caller, &[Sealer, Operator])?;
        accept(&self.0, caller.name.as_str(), request.into_inner())
            .await
            .map(Response::new)
    }

    type SealStreamStream = ReceiverStream<Result<SealStreamResponse, Status>>;

    async fn seal_stream(
        &self,
        request: Request<Streaming<SealStreamRequest>>,
    ) -> Result<Response<Self::SealStreamStream>, Status> {
        admit(&request, &[Sealer, Operator])?;
        let caller = caller_of(&request)?.name.as_str().to_owned();
        let answers = bulk::open(&self.0, caller, request.into_inner());
        Ok(Response::new(answers))
    }

    async fn get_ticket(
        &self,
        request: Request<GetTicketRequest>,
    ) -> Result<Response<TicketResponse>, Status> {
        admit(&request, &[Sealer, Operator, Node])?;
        let ticket = tickets::parse(&request.into_inner().ticket)?;
        tickets::answer(&self.0, ticket).await.map(Response::new)
    }

    type WatchTicketStream = ReceiverStream<Result<TicketResponse, Status>>;

    async fn watch_ticket(
        &self,
        request: Request<WatchTicketRequest>,
    ) -> Result<Response<Self::WatchTicketStream>, Status> {
        admit(&request, &[Sealer, Operator, Node])?;
        let WatchTicketRequest { ticket, until } = request.into_inner();
        let ticket = tickets::parse(&ticket)?;
        let until = stages::end_of(until)?;
        tickets::answer(&self.0, ticket).await?;
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(tickets::watch(Arc::clone(&self.0), ticket, until, sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
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
        let (tree, seal) = place(&self.0, &origin, index, follow).await?;
        Ok(Response::new(response(&self.0, &tree, &seal)))
    }

    type WatchSealStream = ReceiverStream<Result<SealResponse, Status>>;

    async fn watch_seal(
        &self,
        request: Request<WatchSealRequest>,
    ) -> Result<Response<Self::WatchSealStream>, Status> {
        admit(&request, &[Sealer, Operator, Node])?;
        let WatchSealRequest {
            origin,
            index,
            until,
        } = request.into_inner();
        let until = stages::end_of(until)?;
        let (tree, _) = place(&self.0, &origin, index, false).await?;
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(stages::watch(
            Arc::clone(&self.0),
            tree,
            index,
            until,
            sender,
        ));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn get_anchors(
        &self,
        request: Request<GetAnchorsRequest>,
    ) -> Result<Response<GetAnchorsResponse>, Status> {
        admit(&request, &[Sealer, Operator, Node])?;
        let GetAnchorsRequest {
            origin,
            index,
            follow,
            size,
        } = request.into_inner();
        let (tree, seal) = place(&self.0, &origin, index, follow).await?;
        stages::anchors(&self.0, &tree, seal, size)
            .await
            .map(Response::new)
    }

    type ExportSealsStream = ReceiverStream<Result<SealResponse, Status>>;

    async fn export_seals(
        &self,
        request: Request<ExportSealsRequest>,
    ) -> Result<Response<Self::ExportSealsStream>, Status> {
        admit(&request, &[Operator, Node])?;
        let tree = tree_of(&self.0, &request.into_inner().origin)?;
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
        let tree = tree_of(&self.0, &origin)?;
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

    async fn fail_back(
        &self,
        request: Request<FailBackRequest>,
    ) -> Result<Response<KeyChangeResponse>, Status> {
        admit(&request, &[Operator])?;
        let person = caller_of(&request)?.name.to_string();
        let FailBackRequest { log, provider, why } = request.into_inner();
        own_log(&self.0, &log)?;
        let changed = rotation::fail_back(&self.0, &person, &provider, words(&why)?).await?;
        Ok(Response::new(changed))
    }

    async fn rotate_key(
        &self,
        request: Request<RotateKeyRequest>,
    ) -> Result<Response<KeyChangeResponse>, Status> {
        admit(&request, &[Operator])?;
        let person = caller_of(&request)?.name.to_string();
        let RotateKeyRequest { log, why } = request.into_inner();
        own_log(&self.0, &log)?;
        let changed = rotation::rotate(&self.0, &person, words(&why)?).await?;
        Ok(Response::new(changed))
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        admit(&request, &[Sealer, Operator, Node])?;
        status(&self.0).await.map(Response::new)
    }
}

pub(crate) fn own_log(service: &Service, log: &str) -> Result<(), Status> {
    if log.is_empty() || log == service.config.log {
        return Ok(());
    }
    let own = &service.config.log;
    Err(Status::not_found(format!(
        "this node writes log {own}, not {log:?}"
    )))
}

/// A reason that is kept: one line of at most 256 bytes.
fn words(why: &str) -> Result<&str, Status> {
    if why.len() <= 256 && !why.contains(char::is_control) {
        return Ok(why);
    }
    Err(Status::invalid_argument(format!(
        "`why` has {} bytes or control characters; say it in one line of at most 256 bytes",
        why.len()
    )))
}

fn admit<T>(request: &Request<T>, roles: &[CallerRole]) -> Result<(), Status> {
    require(&caller_of(request)?, roles)
}

/// The seal of a place, or of where its record was sealed again.
async fn place(
    service: &Service,
    origin: &str,
    index: u64,
    follow: bool,
) -> Result<(Arc<Tree>, ProvenLeaf), Status> {
    let tree = tree_of(service, origin)?;
    let seal = read_seal(service, &tree, index).await?;
    if let Some((origin, index)) = successor(service, &tree, &seal).filter(|_| follow) {
        let tree = tree_of(service, &origin)?;
        let seal = read_seal(service, &tree, index).await?;
        return Ok((tree, seal));
    }
    Ok((tree, seal))
}

/// Sends every seal of a tree. A reader that went away ends it. Blocks its thread.
fn export(service: &Service, tree: &Tree, to: &mpsc::Sender<Result<SealResponse, Status>>) {
    let required = service.witnesses.required(&service.node.board);
    // Erased ones have no seal any more that could be sent.
    let seals = |view: &View, range: Range<u64>| {
        let parts = service.records.present(&tree.origin, range);
        let seals = parts.into_iter().map(|part| view.seals(part));
        seals.collect::<Result<Vec<_>, LogError>>()
    };
    let send = |view: &View, start: u64| -> Result<(), LogError> {
        let range = start..view.size().min(start + EXPORT_CHUNK);
        let read = match seals(view, range.clone()) {
            // Something may have been erased in between, which is no damage.
            Err(LogError::Erased { .. } | LogError::RecordDamaged { .. }) => seals(view, range),
            other => other,
        };
        for seal in read?.into_iter().flatten() {
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
