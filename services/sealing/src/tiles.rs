//! Checkpoint and tiles over HTTP, as C2SP tlog-tiles v0.1.0 has them: `/<log>/<epoch>/checkpoint`, `/<log>/<epoch>/tile/…`. For who takes a log over also
//! `/<log>/<epoch>/anchors.txt` (names, a line each), `/<log>/<epoch>/anchors/<size in 20 digits>` and `/logs.txt` (`<log>/<epoch>`, a line each).

use crate::service::Service;
use crate::tree::Tree;
use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use sealwarden_seal::tile::TileId;
use std::io;
use std::sync::Arc;

const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";
/// A tile never changes.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// A checkpoint is replaced all the time.
const NEVER: &str = "no-store";

/// The routes of this node's trees.
pub(crate) fn router(service: &Arc<Service>) -> Router {
    let log = &service.config.log;
    Router::new()
        .route(&format!("/{log}/{{epoch}}/checkpoint"), get(checkpoint))
        .route(&format!("/{log}/{{epoch}}/tile/{{*path}}"), get(tile))
        .route(&format!("/{log}/{{epoch}}/anchors.txt"), get(anchor_list))
        .route(&format!("/{log}/{{epoch}}/anchors/{{name}}"), get(anchors))
        .route("/logs.txt", get(logs))
        .with_state(Arc::clone(service))
}

async fn checkpoint(State(service): State<Arc<Service>>, Path(epoch): Path<String>) -> Response {
    let Some(tree) = tree_of(&service, &epoch) else {
        return absent();
    };
    let reader = tree.reader.clone();
    let note = tokio::task::spawn_blocking(move || {
        let view = reader.view()?;
        // The same checkpoint with its cosignatures is worth more than without.
        let witnessed = view
            .witnessed()
            .filter(|it| it.checkpoint.size == view.size());
        anyhow::Ok(
            witnessed
                .or(view.published())
                .map(|signed| signed.text.to_string()),
        )
    });
    match note.await.map_err(anyhow::Error::from).flatten() {
        Ok(Some(text)) => answer(TEXT, NEVER, text.into_bytes()),
        Ok(None) => absent(),
        Err(error) => failed(&tree.origin, &error),
    }
}

async fn tile(
    State(service): State<Arc<Service>>,
    Path((epoch, path)): Path<(String, String)>,
) -> Response {
    // Only the canonical spelling of a tile's path becomes a file's path.
    let tile = format!("tile/{path}").parse::<TileId>();
    let (Some(tree), Ok(tile)) = (tree_of(&service, &epoch), tile) else {
        return absent();
    };
    let reader = tree.reader.clone();
    let read = tokio::task::spawn_blocking(move || {
        // Before a checkpoint vouches for it, a tile's bytes may still change, and this answer is kept for ever.
        let size = reader.view().map_err(io::Error::other)?.size();
        if tile.smallest_tree().is_none_or(|needed| needed > size) {
            return Err(io::ErrorKind::NotFound.into());
        }
        std::fs::read(reader.dir().join(tile.to_string()))
    });
    match read.await.map_err(io::Error::other).flatten() {
        Ok(bytes) => answer(BYTES, FOR_EVER, bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => absent(),
        Err(error) => failed(&tree.origin, &error.into()),
    }
}

async fn logs(State(service): State<Arc<Service>>) -> Response {
    let log = &service.config.log;
    let trees = service.trees().into_iter();
    let lines: Vec<String> = trees
        .map(|tree| format!("{log}/{}\n", tree.number))
        .collect();
    answer(TEXT, NEVER, lines.concat().into_bytes())
}

async fn anchor_list(State(service): State<Arc<Service>>, Path(epoch): Path<String>) -> Response {
    let Some(tree) = tree_of(&service, &epoch) else {
        return absent();
    };
    let held = tree.anchors.all();
    let sizes = held.iter().map(|held| held.signed.checkpoint.size);
    let lines: Vec<String> = sizes.map(|size| format!("{size:020}\n")).collect();
    answer(TEXT, NEVER, lines.concat().into_bytes())
}

async fn anchors(
    State(service): State<Arc<Service>>,
    Path((epoch, name)): Path<(String, String)>,
) -> Response {
    let size = name.parse::<u64>().ok();
    let size = size.filter(|size| format!("{size:020}") == name);
    let (Some(tree), Some(size)) = (tree_of(&service, &epoch), size) else {
        return absent();
    };
    let held = tree.anchors.all();
    if !held.iter().any(|held| held.signed.checkpoint.size == size) {
        return absent();
    }
    let reading = Arc::clone(&tree);
    let read = tokio::task::spawn_blocking(move || reading.anchors.file(size));
    match read.await.map_err(anyhow::Error::from).flatten() {
        // Further authorities may date the checkpoint later.
        Ok(file) => answer(TEXT, NEVER, file.to_text().into_bytes()),
        Err(error) => failed(&tree.origin, &error),
    }
}

fn tree_of(service: &Service, epoch: &str) -> Option<Arc<Tree>> {
    let number: u64 = epoch.parse().ok()?;
    if number.to_string() != epoch {
        return None;
    }
    service
        .trees()
        .into_iter()
        .find(|tree| tree.number == number)
}

fn answer(kind: &'static str, cache: &'static str, body: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, cache)], body).into_response()
}

fn absent() -> Response {
    let headers = [(CONTENT_TYPE, TEXT), (CACHE_CONTROL, NEVER)];
    (
        StatusCode::NOT_FOUND,
        headers,
        "this log has no such file\n",
    )
        .into_response()
}

fn failed(origin: &str, error: &anyhow::Error) -> Response {
    tracing::error!(
        origin,
        error = format!("{error:#}"),
        "a log's file cannot be served"
    );
    let headers = [(CONTENT_TYPE, TEXT), (CACHE_CONTROL, NEVER)];
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        headers,
        "the file cannot be read\n",
    )
        .into_response()
}
