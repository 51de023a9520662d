//! `log serve`: public files of logs or mirrors over HTTP, as C2SP tlog-tiles has them, without any of the services.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use sealwarden_seal::tile::TileId;
use sealwarden_seallog::LogReader;
use serde_json::json;

use crate::cli::Cli;
use crate::commands::Answer;
use crate::failure::{Ending, Failure};
use crate::output;

use super::{damaged, folders, newest, published};

const FOR_EVER: &str = "public, max-age=31536000, immutable";
const NEVER: &str = "no-store";

/// Arguments of `log serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// A log's or a mirror's folder, or one that holds several: each is then served below its own path, and `logs.txt` lists them
    dir: PathBuf,
    /// Address to listen on; a port of 0 means any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8480")]
    listen: SocketAddr,
}

/// The logs by the paths below which they are served; one alone has the empty path.
type Logs = BTreeMap<String, LogReader>;

fn logs(cli: &Cli, dir: &PathBuf) -> Result<Logs, Failure> {
    let open = |dir: &PathBuf| LogReader::open(dir).map_err(|error| damaged(&error));
    if dir.join("log.json").exists() {
        return Ok(Logs::from([(String::new(), open(dir)?)]));
    }
    let mut logs = Logs::new();
    for found in folders::find(cli, Some(dir), &[])? {
        let reader = open(&found)?;
        let path = found.strip_prefix(dir).unwrap_or(&found);
        drop(logs.insert(path.to_string_lossy().into_owned(), reader));
    }
    Ok(logs)
}

pub(crate) async fn run(cli: &Cli, args: &Serve) -> Answer {
    let logs = logs(cli, &args.dir)?;
    let listener = tokio::net::TcpListener::bind(args.listen)
        .await
        .map_err(|error| Failure::usage(format!("cannot listen on {}: {error}", args.listen)))?;
    let url = format!(
        "http://{}",
        listener.local_addr().context("asking the address")?
    );
    let origins: BTreeMap<String, String> = logs
        .iter()
        .map(|(path, reader)| (path.clone(), reader.identity().origin.clone()))
        .collect();
    if cli.json {
        let alone = origins.get("");
        output::json(&json!({ "url": url, "origin": alone, "logs": origins, "dir": args.dir }));
    } else {
        for (path, origin) in &origins {
            let at = if path.is_empty() {
                url.clone()
            } else {
                format!("{url}/{path}")
            };
            output::line(&format!("{origin} at {at}/checkpoint and {at}/tile/…"));
        }
        output::line("end with Ctrl-C");
    }
    let app = Router::new()
        .route("/{*path}", get(file))
        .with_state(Arc::new(logs));
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

async fn file(State(logs): State<Arc<Logs>>, UrlPath(path): UrlPath<String>) -> Response {
    let read = tokio::task::spawn_blocking(move || {
        let tile = path.ends_with(|c: char| c.is_ascii_digit()) && path.contains("tile/");
        read(&logs, &path).map(|bytes| (tile, bytes))
    });
    match read.await.map_err(io::Error::other).flatten() {
        Ok((tile, bytes)) => {
            let (kind, cache) = if tile {
                ("application/octet-stream", FOR_EVER)
            } else {
                ("text/plain; charset=utf-8", NEVER)
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

fn read(logs: &Logs, path: &str) -> io::Result<Vec<u8>> {
    let absent = || io::Error::from(io::ErrorKind::NotFound);
    if path == published::LOG_LIST && !logs.contains_key("") {
        let lines: Vec<String> = logs.keys().map(|path| format!("{path}\n")).collect();
        return Ok(lines.concat().into_bytes());
    }
    let of = |(prefix, reader): (&String, &LogReader)| {
        let rest = match prefix.as_str() {
            "" => path,
            prefix => path.strip_prefix(prefix)?.strip_prefix('/')?,
        };
        Some((reader.clone(), rest.to_owned()))
    };
    let (reader, path) = logs.iter().find_map(of).ok_or_else(absent)?;
    // A tile is served only once a checkpoint vouches for it: before that its bytes may still change.
    if let Ok(tile) = path.parse::<TileId>() {
        let view = reader.view().map_err(io::Error::other)?;
        if tile.smallest_tree().is_none_or(|size| size > view.size()) {
            return Err(absent());
        }
    }
    if path == "checkpoint" {
        let text = newest(&reader).map_err(io::Error::other)?;
        return text.ok_or_else(absent);
    }
    if path == published::ANCHOR_LIST {
        return published::anchors(reader.dir())?.ok_or_else(absent);
    }
    std::fs::read(published::file(reader.dir(), &path).ok_or_else(absent)?)
}

fn status(code: u16, text: &'static str) -> Response {
    let code = http_status(code);
    (code, [("cache-control", NEVER)], text).into_response()
}

fn http_status(code: u16) -> axum::http::StatusCode {
    axum::http::StatusCode::from_u16(code).unwrap_or(axum::http::StatusCode::NOT_FOUND)
}
