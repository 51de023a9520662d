//! Reading seals and answering them: what every call that gives out seals shares.

use crate::queue::Place;
use crate::retention::FORGED;
use crate::service::Service;
use crate::tree::{Tree, origin_name};
use crate::trust::Required;
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::note::Note;
use sealwarden_seal::record::{Original, Record};
use sealwarden_seallog::{LogError, ProvenLeaf};
use sealwarden_wire::seal::v1::{SealResponse, Stage};
use std::sync::Arc;
use tonic::Status;

/// Waits, for a bounded time, until the witnessed checkpoint covers the seal.
pub(crate) async fn witnessed(
    service: &Service,
    tree: &Arc<Tree>,
    seal: ProvenLeaf,
) -> Result<SealResponse, Status> {
    if !covers(service, tree, seal.index).await {
        return Ok(response(service, tree, &seal));
    }
    let seal = read_seal(service, tree, seal.index).await?;
    Ok(response(service, tree, &seal))
}

/// Waits, for a bounded time, until the witnessed checkpoint covers a leaf; answers whether it does.
pub(crate) async fn covers(service: &Service, tree: &Tree, index: u64) -> bool {
    let mut size = tree.witnessed.subscribe();
    let covered = size.wait_for(|size| *size > index);
    tokio::time::timeout(service.config.witness_wait(), covered)
        .await
        .is_ok()
}

/// The seal of a place: under the earliest anchored checkpoint that covers it, else under the newest one.
pub(crate) async fn read_seal(
    service: &Service,
    tree: &Arc<Tree>,
    index: u64,
) -> Result<ProvenLeaf, Status> {
    let leaf = index..index.saturating_add(1);
    service.records.require(&tree.origin, &leaf)?;
    let required = service.witnesses.required(&service.node.board);
    let held = tree.anchors.covering(index, required.as_deref());
    let reader = tree.reader.clone();
    let read = blocking(move || match held {
        Some(held) => reader.view()?.seal_under(&held.signed, index),
        None => reader.view()?.seal_of(index),
    });
    let read = read.await;
    if read.is_err() {
        // It may have been erased in between, which is no damage.
        service.records.require(&tree.origin, &leaf)?;
    }
    read
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

pub(crate) fn log_status(error: &LogError) -> Status {
    if let LogError::NoLeaf { .. } = error {
        return Status::not_found(error.to_string());
    }
    if let LogError::Erased { index } = error {
        // What orders name was answered before.
        tracing::error!(index, "{FORGED}");
        return Status::data_loss(format!("the record of leaf {index} is damaged: {FORGED}"));
    }
    tracing::error!(%error, "the seal log cannot be read");
    Status::data_loss(error.to_string())
}

pub(crate) fn origin_of(seal: &ProvenLeaf) -> Option<String> {
    seal.note.lines().next().map(str::to_owned)
}

pub(crate) fn response(service: &Service, tree: &Tree, seal: &ProvenLeaf) -> SealResponse {
    let required = service.witnesses.required(&service.node.board);
    respond(required.as_deref(), tree, seal)
}

pub(crate) fn respond(required: Option<&Required>, tree: &Tree, seal: &ProvenLeaf) -> SealResponse {
    let stage = stage_of(required, tree, &seal.note);
    SealResponse {
        seal: seal.to_text().into_bytes().into(),
        origin: tree.origin.clone(),
        index: seal.index,
        stage: stage.into(),
        ticket: String::new(),
    }
}

/// Nothing but what the seal's own checkpoint carries counts.
pub(crate) fn stage_of(required: Option<&Required>, tree: &Tree, note: &str) -> Stage {
    let note = Note::parse(note.as_bytes()).ok();
    let met = |note: &Note| required.is_some_and(|required| required.met_by(note));
    let Some(note) = note.filter(met) else {
        return Stage::Sealed;
    };
    let anchored = Checkpoint::parse(note.text())
        .is_ok_and(|checkpoint| tree.anchors.holds(checkpoint.size, note.text()));
    if anchored {
        Stage::Anchored
    } else {
        Stage::Witnessed
    }
}

/// The seal at a place, or where its record was sealed again since, with its tree.
pub(crate) async fn newest_at(
    service: &Service,
    place: Place,
) -> Result<(Arc<Tree>, ProvenLeaf), Status> {
    let tree = tree_of(
        service,
        &origin_name(&service.node, &service.config, place.tree),
    )?;
    let seal = read_seal(service, &tree, place.index).await?;
    match successor(service, &tree, &seal) {
        Some((origin, index)) => {
            let tree = tree_of(service, &origin)?;
            let seal = read_seal(service, &tree, index).await?;
            Ok((tree, seal))
        }
        None => Ok((tree, seal)),
    }
}

/// A tree of this node.
pub(crate) fn tree_of(service: &Service, origin: &str) -> Result<Arc<Tree>, Status> {
    service.tree(origin).ok_or_else(|| unknown_origin(origin))
}

/// Where the record of a seal was sealed again.
pub(crate) fn successor(
    service: &Service,
    tree: &Tree,
    seal: &ProvenLeaf,
) -> Option<(String, u64)> {
    let here = Original {
        origin: tree.origin.clone(),
        index: seal.index,
    };
    let original = Record::decode(&seal.leaf.record)
        .ok()
        .and_then(|record| record.original);
    let place = service.successors.of(&original.unwrap_or(here))?;
    (place != (tree.origin.clone(), seal.index)).then_some(place)
}

pub(crate) fn unknown_origin(origin: &str) -> Status {
    let start: String = origin.chars().take(80).collect();
    Status::not_found(format!("this node has no tree of origin {start:?}"))
}
