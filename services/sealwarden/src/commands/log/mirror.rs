//! `log mirror`: a log, its trust bundle and its anchors, copied so that somebody else can serve and verify them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use sealwarden_seal::note::Vkey;
use sealwarden_seal::trust::VerifiedBundle;
use sealwarden_seallog::LogReader;
use sealwarden_seallog::mirror::{Fetch, MirrorError, Mirrored, mirror};
use serde_json::json;
use tokio::runtime::Handle;

use crate::cli::Cli;
use crate::commands::{Answer, client, trust};
use crate::failure::{Ending, Failure};
use crate::host::installation::write_public;
use crate::{output, trust_seen};

use super::{damaged, folders, newest};

/// The trust bundle in a mirror.
const BUNDLE: &str = "trust.json";
/// Anchors in a mirror, and beside the logs of a node.
const ANCHORS: &str = "anchors";
/// How long the source may take for one file.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How often a file is asked for, if the source does not answer.
const TRIES: u32 = 4;
/// The most bytes of one file: 256 entries of 65,535 bytes.
const MAX_FILE: usize = 17 * 1024 * 1024;

/// Arguments of `log mirror`.
#[derive(Debug, clap::Args)]
pub(crate) struct Mirror {
    /// The mirror's folder; with a source of several logs, a folder for each below it
    dest: PathBuf,
    /// Where the log is: http://host:port/main/1, a log's folder, or one that holds logs (default: the installation's)
    #[arg(long, value_name = "URL|DIR")]
    from: Option<String>,
    /// Trust bundle with the log's keys (default: the mirror's own from last time, else the installation's)
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
}

pub(crate) async fn run(cli: &Cli, args: &Mirror) -> Answer {
    let bytes = bundle(cli, args).await?;
    let bundle = trust_seen::open(&bytes, &cli.data, None)?;
    let mut reports = Vec::new();
    for (source, dest) in sources(cli, args)? {
        let keys = keys_of(&bundle, &source).await?;
        let report = one(source.clone(), dest.clone(), keys).await?;
        write_public(&dest.join(BUNDLE), &bytes)?;
        let anchors = match &source {
            Place::Folder(dir) => copy_anchors(dir, &dest)?,
            Place::Url(_) => 0,
        };
        tell(cli, &dest, &report, anchors);
        reports.push(json!({
            "dir": dest, "origin": report.origin, "old_size": report.old_size, "size": report.size, "root": report.root.to_string(),
            "fetched": report.fetched, "bytes": report.bytes, "resumed": report.resumed, "source_behind": report.source_behind,
            "anchors": anchors,
        }));
    }
    if cli.json {
        output::json(&json!({ "mirrored": reports, "trust_version": bundle.payload().version }));
    }
    Ok(Ending::Good)
}

fn tell(cli: &Cli, dest: &Path, report: &Mirrored, anchors: u64) {
    if cli.json {
        return;
    }
    let behind = report.source_behind.map_or_else(String::new, |size| {
        format!("; the source is behind, it shows {size}")
    });
    output::line(&format!(
        "{} ({}): {} leaves, {} before, root {}{behind}",
        report.origin,
        dest.display(),
        report.size,
        report.old_size,
        report.root
    ));
    output::line(&format!(
        "  {} files of {} bytes fetched and checked, {} found from an interrupted run, {anchors} anchors",
        report.fetched, report.bytes, report.resumed
    ));
}

/// The trust bundle that says whose log it is.
async fn bundle(cli: &Cli, args: &Mirror) -> Result<Vec<u8>, Failure> {
    let own = args.dest.join(BUNDLE);
    match &args.trust {
        Some(file) => trust::read_limited(file, trust::MAX_BUNDLE),
        None if own.is_file() => trust::read_limited(&own, trust::MAX_BUNDLE),
        None => {
            let fetched = async { trust::fetch(client(cli)?).await };
            fetched.await.map_err(|failure| {
                Failure::usage(format!(
                    "name the trust bundle with --trust; the installation's cannot be had: {}",
                    failure.message()
                ))
            })
        }
    }
}

/// Where one log is.
#[derive(Clone, Debug)]
enum Place {
    Url(String),
    Folder(PathBuf),
}

/// The logs to mirror, each with its folder.
fn sources(cli: &Cli, args: &Mirror) -> Result<Vec<(Place, PathBuf)>, Failure> {
    let from = args.from.as_deref();
    if let Some(url) = from.filter(|it| it.starts_with("http://") || it.starts_with("https://")) {
        if url.starts_with("https://") {
            return Err(Failure::usage(format!(
                "{url}: only http:// is read here; every byte is checked against the log's signature anyway"
            )));
        }
        let url = url.trim_end_matches('/').to_owned();
        return Ok(vec![(Place::Url(url), args.dest.clone())]);
    }
    let dir = from.map_or_else(|| cli.data.clone(), PathBuf::from);
    if dir.join("log.json").is_file() {
        return Ok(vec![(Place::Folder(dir), args.dest.clone())]);
    }
    let found = folders::find(cli, Some(&dir), &[])?;
    let mut sources = Vec::new();
    for dir in found {
        let reader = LogReader::open(&dir).map_err(|error| damaged(&error))?;
        let origin = reader.identity().origin.clone();
        // The log of evidence has a key of its own, which no trust bundle holds.
        let mut names: Vec<_> = origin.rsplit('/').take(2).collect();
        names.reverse();
        if names.first() == Some(&"evidence") {
            continue;
        }
        let dest = names
            .iter()
            .fold(args.dest.clone(), |it, name| it.join(name));
        sources.push((Place::Folder(dir), dest));
    }
    Ok(sources)
}

/// The keys that may sign the log which the source shows.
async fn keys_of(bundle: &VerifiedBundle, source: &Place) -> Result<Vec<Vkey>, Failure> {
    let own = source.clone();
    let text = tokio::task::spawn_blocking(move || Reader::new(own)?.fetch("checkpoint"));
    let text = text.await.map_err(anyhow::Error::from)?;
    let text = text.map_err(|reason| Failure::unavailable(format!("{source}: {reason}")))?;
    let text = text.ok_or_else(|| {
        Failure::unavailable(format!(
            "{source} has no checkpoint; it is no log, or an empty one"
        ))
    })?;
    let text = String::from_utf8_lossy(&text);
    let origin = text.lines().next().unwrap_or_default();
    let log = bundle.log(origin).ok_or_else(|| {
        let known: Vec<_> = bundle.logs().keys().map(String::as_str).collect();
        Failure::refused(format!(
            "{source} shows a log {origin:?} that the trust bundle does not know; it knows {}",
            known.join(", ")
        ))
    })?;
    Ok(log.entry.vkeys.clone())
}

impl std::fmt::Display for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Url(url) => out.write_str(url),
            Self::Folder(dir) => write!(out, "{}", dir.display()),
        }
    }
}

async fn one(source: Place, dest: PathBuf, keys: Vec<Vkey>) -> Result<Mirrored, Failure> {
    let bar = if output::watched() {
        let style = ProgressStyle::with_template(
            "{msg} {wide_bar} {human_pos}/{human_len} tiles, {eta} left",
        );
        ProgressBar::new(0).with_style(style.map_err(anyhow::Error::from)?)
    } else {
        ProgressBar::hidden()
    };
    bar.set_message(source.to_string());
    let work = move || {
        let reader = Reader::new(source).map_err(|reason| MirrorError::Unavailable {
            path: "checkpoint".to_owned(),
            reason,
        })?;
        let outcome = mirror(&dest, &reader, &keys, &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        outcome
    };
    let outcome = tokio::task::spawn_blocking(work).await;
    outcome
        .map_err(anyhow::Error::from)?
        .map_err(|error| match error {
            MirrorError::Unavailable { .. } | MirrorError::Missing { .. } => {
                Failure::unavailable(error.to_string())
            }
            MirrorError::Tampered { .. }
            | MirrorError::Checkpoint { .. }
            | MirrorError::Forked { .. } => Failure::refused(error.to_string()),
            MirrorError::Log(error) => damaged(&error),
        })
}

/// Reads a source's files, on a thread that may block.
enum Reader {
    Url(String, reqwest::Client, Handle),
    Folder(PathBuf),
}

impl Reader {
    fn new(place: Place) -> Result<Self, String> {
        Ok(match place {
            Place::Folder(dir) => Self::Folder(dir),
            Place::Url(url) => {
                let builder = reqwest::Client::builder().timeout(TIMEOUT);
                let client = builder.build().map_err(|error| error.to_string())?;
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
    match fs::read(dir.join(path)) {
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

/// Copies the anchors that a node keeps of a log (`anchors/<log>/<epoch>` beside `log/<log>/<epoch>`), or a mirror in itself. They
/// carry their own signatures.
fn copy_anchors(from: &Path, dest: &Path) -> Result<u64, Failure> {
    let within = from.join(ANCHORS);
    let beside = || {
        let (epoch, log) = (from.file_name()?, from.parent()?.file_name()?);
        let node = from.parent()?.parent()?.parent()?;
        Some(node.join(ANCHORS).join(log).join(epoch))
    };
    let folder = if within.is_dir() {
        Some(within)
    } else {
        beside()
    };
    let Some(folder) = folder.filter(|it| it.is_dir()) else {
        return Ok(0);
    };
    let mut copied = 0;
    for entry in fs::read_dir(&folder).context("reading the anchors")? {
        let entry = entry.context("reading the anchors")?;
        let path = entry.path();
        let is_whole = path.extension().is_none_or(|it| it != "tmp");
        if entry.file_type().context("reading the anchors")?.is_file() && is_whole {
            let bytes = fs::read(&path).context("reading an anchor")?;
            fs::create_dir_all(dest.join(ANCHORS)).context("making the folder of anchors")?;
            write_public(&dest.join(ANCHORS).join(entry.file_name()), &bytes)?;
            copied += 1;
        }
    }
    Ok(copied)
}
