//! Where a log's public files come from: a folder, or somebody's HTTP(S) server.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sealwarden_anchors::outside::http_client;
use sealwarden_seallog::LogReader;
use sealwarden_seallog::mirror::Fetch;
use tokio::runtime::Handle;

use super::super::{newest, published};

/// How long the source may take for one file.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How often a file is asked for, if the source does not answer.
const TRIES: u32 = 4;
/// The most bytes of one file: 256 entries of 65,535 bytes.
const MAX_FILE: usize = 17 * 1024 * 1024;

/// Where one log is.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// An address, without a slash at its end, and the authorities above an `https` server's certificate (PEM) if not the system's.
    Url(String, Option<Vec<u8>>),
    /// A folder.
    Folder(PathBuf),
}

impl std::fmt::Display for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Url(url, _) => out.write_str(url),
            Self::Folder(dir) => write!(out, "{}", dir.display()),
        }
    }
}

/// Reads a source's files, on a thread that may block.
pub(super) enum Reader {
    Url(String, reqwest::Client, Handle),
    Folder(PathBuf),
}

impl Reader {
    pub(super) fn new(place: Place) -> Result<Self, String> {
        Ok(match place {
            Place::Folder(dir) => Self::Folder(dir),
            Place::Url(url, ca) => {
                let client = http_client(&url, TIMEOUT, ca.as_deref());
                let client = client.map_err(|error| error.to_string())?;
                Self::Url(url, client, Handle::current())
            }
        })
    }
}

impl Fetch for Reader {
    fn fetch(&self, path: &str) -> Result<Option<Vec<u8>>, String> {
        match self {
            Self::Folder(dir) => from_folder(dir, path),
            Self::Url(url, client, runtime) => {
                runtime.block_on(from_url(client, &format!("{url}/{path}")))
            }
        }
    }
}

fn from_folder(dir: &Path, path: &str) -> Result<Option<Vec<u8>>, String> {
    if path == "checkpoint" {
        let text = LogReader::open(dir).and_then(|reader| newest(&reader));
        return text.map_err(|error| error.to_string());
    }
    if path == published::ANCHOR_LIST {
        return published::anchors(dir).map_err(|error| error.to_string());
    }
    let Some(file) = published::file(dir, path) else {
        return Ok(None);
    };
    match fs::read(file) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

async fn from_url(client: &reqwest::Client, url: &str) -> Result<Option<Vec<u8>>, String> {
    let mut last = String::new();
    for attempt in 0..TRIES {
        if attempt > 0 {
            tokio::time::sleep(Duration::from_millis(100 << attempt)).await;
        }
        match get(client, url).await {
            Ok(found) => return Ok(found),
            Err(error) => last = error,
        }
    }
    Err(format!("{last}, {TRIES} times"))
}

async fn get(client: &reqwest::Client, url: &str) -> Result<Option<Vec<u8>>, String> {
    let told = |error: reqwest::Error| format!("{:#}", anyhow::Error::from(error));
    let mut answer = client.get(url).send().await.map_err(told)?;
    match answer.status().as_u16() {
        200 => {}
        404 | 410 => return Ok(None),
        other => return Err(format!("the source answers {other}")),
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(told)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_FILE {
            return Err(format!("the source sends more than {MAX_FILE} bytes"));
        }
    }
    Ok(Some(body))
}
