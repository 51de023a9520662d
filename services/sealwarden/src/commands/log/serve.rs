//! `log serve`: a log's or a mirror's public files over HTTP, as C2SP tlog-tiles has them, without any of the services.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use sealwarden_seal::tile::TileId;
use sealwarden_seallog::LogReader;
use sealwarden_seallog::mirror::is_public;
use serde_json::json;

use crate::cli::Cli;
use crate::commands::Answer;
use crate::failure::{Ending, Failure};
use crate::output;

use super::newest;

const FOR_EVER: &str = "public, max-age=31536000, immutable";
const NEVER: &str = "no-store";

/// Arguments of `log serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// A log's or a mirror's folder
    dir: PathBuf,
    /// Address to listen on; a port of 0 means any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8480")]
    listen: SocketAddr,
}

pub(crate) async fn run(cli: &Cli, args: &Serve) -> Answer {
    let reader = LogReader::open(&args.dir).map_err(|error| Failure::usage(error.to_string()))?;
    let listener = tokio::net::TcpListener::bind(args.listen)
        .await
        .map_err(|error| Failure::usage(format!("cannot listen on {}: {error}", args.listen)))?;
    let url = format!(
        "http://{}",
        listener.local_addr().context("asking the address")?
    );
    let origin = reader.identity().origin.clone();
    if cli.json {
        output::json(&json!({ "url": url, "origin": origin, "dir": args.dir }));
    } else {
        output::line(&format!(
            "{origin} at {url}/checkpoint and {url}/tile/…; end with Ctrl-C"
        ));
    }
    let app = Router::new()
        .route("/{*path}", get(file))
        .with_state(Arc::new(reader));
    let ended = async {
        // Without a handler there is nobody who could end it so.
        drop(tokio::signal::ctrl_c().await);
    };
    axum::serve(listener, app)
        .with_graceful_shutdown(ended)
        .await
        .context("serving")?;
    Ok(Ending::Good)
}

async fn file(State(reader): State<Arc<LogReader>>, UrlPath(path): UrlPath<String>) -> Response {
    if !is_public(&path) {
        return status(404, "this log has no such file\n");
    }
    let tile = path.parse::<TileId>().ok();
    let read = tokio::task::spawn_blocking(move || read(&reader, &path, tile)).await;
    match read.map_err(io::Error::other).flatten() {
        Ok(bytes) => {
            let (kind, cache) = match tile {
                Some(_) => ("application/octet-stream", FOR_EVER),
                None => ("text/plain; charset=utf-8", NEVER),
            };
            ([("content-type", kind), ("cache-control", cache)], bytes).into_response()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            status(404, "this log has no such file\n")
        }
        Err(error) => {
            output::complain(&format!("a file cannot be served: {error}"));
            status(500, "the file cannot be read\n")
        }
    }
}

/// A tile is served only once a checkpoint vouches for it: before that its bytes may still change.
fn read(reader: &LogReader, path: &str, tile: Option<TileId>) -> io::Result<Vec<u8>> {
    if let Some(tile) = tile {
        let view = reader.view().map_err(io::Error::other)?;
        if tile.smallest_tree().is_none_or(|size| size > view.size()) {
            return Err(io::ErrorKind::NotFound.into());
        }
    }
    if path == "checkpoint" {
        let text = newest(reader).map_err(io::Error::other)?;
        return text.ok_or(io::ErrorKind::NotFound.into());
    }
    std::fs::read(Path::new(reader.dir()).join(path))
}

fn status(code: u16, text: &'static str) -> Response {
    let code = http_status(code);
    (code, [("cache-control", NEVER)], text).into_response()
}

fn http_status(code: u16) -> axum::http::StatusCode {
    axum::http::StatusCode::from_u16(code).unwrap_or(axum::http::StatusCode::NOT_FOUND)
}
