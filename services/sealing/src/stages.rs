//! The stages of a seal as they come: queued, sealed, witnessed, anchored.

use crate::anchoring;
use crate::seals::{blocking, read_seal, response};
use crate::service::Service;
use crate::tree::Tree;
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::note::Note;
use sealwarden_seallog::ProvenLeaf;
use sealwarden_wire::seal::v1::{AnchorTime, GetAnchorsResponse, SealResponse, Stage};
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::Status;

/// The stage that ends a watch.
pub(crate) fn end_of(stage: i32) -> Result<Stage, Status> {
    match Stage::try_from(stage) {
        Ok(Stage::Unspecified | Stage::Sealed) => Ok(Stage::Sealed),
        Ok(Stage::Witnessed) => Ok(Stage::Witnessed),
        Ok(Stage::Anchored) => Ok(Stage::Anchored),
        Ok(Stage::Queued) | Err(_) => Err(Status::invalid_argument(format!(
            "until {stage} must be a stage: sealed, witnessed or anchored"
        ))),
    }
}

/// Whether a stage is at least `until`.
pub(crate) fn reaches(stage: Stage, until: Stage) -> bool {
    place(stage) >= place(until)
}

fn place(stage: Stage) -> u8 {
    match stage {
        Stage::Unspecified => 0,
        Stage::Queued => 1,
        Stage::Sealed => 2,
        Stage::Witnessed => 3,
        Stage::Anchored => 4,
    }
}

/// Waits until another checkpoint of the tree is anchored.
pub(crate) async fn anchored_more(tree: &Tree) {
    let mut changes = tree.anchors.changes();
    if changes.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Sends a seal whenever its stage changes, until it has reached one, the reader went away, or the process ends.
pub(crate) async fn watch(
    service: Arc<Service>,
    tree: Arc<Tree>,
    index: u64,
    until: Stage,
    to: mpsc::Sender<Result<SealResponse, Status>>,
) {
    let mut board = service.node.board.changes();
    let mut witnessed = tree.witnessed.subscribe();
    let mut anchored = tree.anchors.changes();
    let mut told = None;
    loop {
        board.mark_unchanged();
        witnessed.mark_unchanged();
        anchored.mark_unchanged();
        let answer = read_seal(&service, &tree, index)
            .await
            .map(|seal| response(&service, &tree, &seal));
        let stage = answer.as_ref().ok().map(SealResponse::stage);
        if (stage.is_none() || stage != told) && to.send(answer).await.is_err() {
            return;
        }
        told = stage;
        if stage.is_none_or(|stage| reaches(stage, until)) {
            return;
        }
        tokio::select! {
            () = to.closed() => return,
            () = service.node.shutdown.cancelled() => return,
            // The trust bundle is in it.
            _ = board.changed() => {}
            _ = witnessed.changed() => {}
            _ = anchored.changed() => {}
        }
    }
}

/// A seal with the anchors of its checkpoint, or with what it waits for. `own_size` is the size of the checkpoint that the caller's seal keeps, or 0.
pub(crate) async fn anchors(
    service: &Service,
    tree: &Arc<Tree>,
    seal: ProvenLeaf,
    own_size: u64,
) -> Result<GetAnchorsResponse, Status> {
    if own_size > 0 {
        return anchors_of(service, tree, response(service, tree, &seal), own_size).await;
    }
    let answer = response(service, tree, &seal);
    let stage = answer.stage();
    if stage != Stage::Anchored {
        let waits_for = if stage == Stage::Witnessed {
            service
                .authorities
                .waits_for(service.config.anchors.interval())
        } else {
            "its checkpoint does not have the cosignatures that the trust bundle requires: see `sealwarden status`".to_owned()
        };
        return Ok(GetAnchorsResponse {
            seal: Some(answer),
            waits_for,
            ..GetAnchorsResponse::default()
        });
    }
    let size = Note::parse(seal.note.as_bytes())
        .map_err(|error| damaged(&error))
        .and_then(|note| Checkpoint::parse(note.text()).map_err(|error| damaged(&error)))?
        .size;
    anchors_of(service, tree, answer, size).await
}

fn damaged(error: &dyn std::fmt::Display) -> Status {
    tracing::error!(%error, "a kept anchor cannot be read");
    Status::data_loss(format!("a kept anchor cannot be read: {error}"))
}

/// What is held of the checkpoint of one size, and of later ones by other authorities.
async fn anchors_of(
    service: &Service,
    tree: &Arc<Tree>,
    answer: SealResponse,
    size: u64,
) -> Result<GetAnchorsResponse, Status> {
    let reader = tree.reader.clone();
    let published = blocking(move || Ok(reader.view()?.size())).await?;
    if size <= answer.index || size > published {
        return Err(Status::invalid_argument(format!(
            "size {size} is no checkpoint of leaf {} in a log of {published} leaves; give the size that the seal's checkpoint says",
            answer.index
        )));
    }
    let times = tree.anchors.times(size).into_iter();
    let anchors = if times.len() == 0 {
        String::new()
    } else {
        let file = anchoring::file(tree, size).await;
        file.map_err(|error| damaged(&error))?.to_text()
    };
    let later = anchoring::later(service, tree, size).await;
    let later = later.map_err(|error| damaged(&error))?;
    let waits_for = if anchors.is_empty() && later.is_empty() {
        service
            .authorities
            .waits_for(service.config.anchors.interval())
    } else {
        String::new()
    };
    Ok(GetAnchorsResponse {
        seal: Some(answer),
        anchors: anchors.into_bytes().into(),
        later,
        waits_for,
        times: times
            .map(|(name, time_ms)| AnchorTime { name, time_ms })
            .collect(),
    })
}
