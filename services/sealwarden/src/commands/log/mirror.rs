//! `log mirror`: a log, its trust bundle and its anchors, copied so that somebody else can serve and verify them.

pub(super) mod anchors;
mod source;

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use sealwarden_seal::note::Vkey;
use sealwarden_seal::trust::VerifiedBundle;
use sealwarden_seallog::LogReader;
use sealwarden_seallog::mirror::{Fetch, MirrorError, Mirrored, mirror};
use serde_json::json;

use crate::cli::Cli;
use crate::commands::{Answer, client, trust};
use crate::failure::{Ending, Failure};
use crate::host::installation::write_public;
use crate::{output, trust_seen};

use super::{damaged, folders, published};
use source::{Place, Reader};

/// The trust bundle in a mirror.
pub(super) const BUNDLE: &str = "trust.json";
/// No server's list has more logs.
const MAX_LOGS: usize = 1000;
/// Largest file of authorities, bytes.
const MAX_CA: u64 = 1 << 20;

/// Arguments of `log mirror`.
#[derive(Debug, clap::Args)]
pub(crate) struct Mirror {
    /// The mirror's folder; with a source of several logs, a folder for each below it
    dest: PathBuf,
    /// Where the log is: http(s)://host:port/main/1, a server of several logs, a log's folder, or one that holds logs; may be given several times
    /// (default: the installation's)
    #[arg(long, value_name = "URL|DIR")]
    from: Vec<String>,
    /// Authorities above an https:// server's certificate, PEM (default: the system's)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Trust bundle with the log's keys (default: the mirror's own from last time, else the installation's)
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
}

pub(crate) async fn run(cli: &Cli, args: &Mirror) -> Answer {
    let bytes = bundle(cli, args).await?;
    let bundle = trust_seen::open(&bytes, &cli.data, None)?;
    let mut reports = Vec::new();
    for (source, dest) in sources(cli, args).await? {
        let keys = keys_of(&bundle, &source).await?;
        let report = one(source.clone(), dest.clone(), keys).await?;
        write_public(&dest.join(BUNDLE), &bytes)?;
        let anchors = anchors_of(source, dest.clone()).await?;
        tell(cli, &dest, &report, anchors);
        reports.push(json!({
            "dir": dest, "origin": report.origin, "old_size": report.old_size, "size": report.size, "root": report.root.to_string(),
            "fetched": report.fetched, "bytes": report.bytes, "resumed": report.resumed, "source_behind": report.source_behind,
            "anchors": anchors,
        }));
    }
    // For the next time, where several logs lie below.
    write_public(&args.dest.join(BUNDLE), &bytes)?;
    list_logs(cli, &args.dest)?;
    if cli.json {
        output::json(&json!({ "mirrored": reports, "trust_version": bundle.payload().version }));
    }
    Ok(Ending::Good)
}

/// Several logs below a folder are listed in it, so that any web server can serve them by one address.
fn list_logs(cli: &Cli, dest: &Path) -> Result<(), Failure> {
    if dest.join("log.json").is_file() {
        return Ok(());
    }
    let found = folders::find(cli, Some(dest), &[])?;
    let list = list_of(dest, &found);
    write_public(&dest.join(published::LOG_LIST), list.as_bytes()).map_err(Failure::from)
}

/// The list of the logs in these folders below `dest`.
pub(super) fn list_of(dest: &Path, found: &[PathBuf]) -> String {
    let below = found.iter().filter_map(|dir| dir.strip_prefix(dest).ok());
    let lines: Vec<String> = below.map(|dir| format!("{}\n", dir.display())).collect();
    lines.concat()
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

/// The logs to mirror, each with its folder. A log that was named alone goes into the folder itself, others below it by the ends of their origins.
async fn sources(cli: &Cli, args: &Mirror) -> Result<Vec<(Place, PathBuf)>, Failure> {
    let ca = args
        .ca
        .as_deref()
        .map(|file| trust::read_limited(file, MAX_CA));
    let ca = ca.transpose()?;
    let (mut alone, mut places) = (args.from.len() < 2, Vec::new());
    for from in &args.from {
        if from.starts_with("http://") || from.starts_with("https://") {
            let url = from.trim_end_matches('/').to_owned();
            let found = at_url(Place::Url(url, ca.clone())).await?;
            alone &= found.is_none();
            match found {
                None => places.push(Place::Url(
                    from.trim_end_matches('/').to_owned(),
                    ca.clone(),
                )),
                Some(found) => places.extend(found),
            }
            continue;
        }
        let (single, found) = in_folder(cli, PathBuf::from(from))?;
        alone &= single;
        places.extend(found);
    }
    if args.from.is_empty() {
        let (single, found) = in_folder(cli, cli.data.clone())?;
        alone = single;
        places = found;
    }
    let mut sources = Vec::new();
    for place in places {
        let dest = if alone {
            args.dest.clone()
        } else {
            let origin = origin_of(&place).await?;
            let mut names: Vec<_> = origin.rsplit('/').take(2).collect();
            names.reverse();
            let plain = |name: &&str| is_plain(name);
            if names.len() != 2 || !names.iter().all(plain) {
                return Err(Failure::refused(format!(
                    "{place} shows a log {origin:?}, for which no folder can be named"
                )));
            }
            args.dest.join(names.join("/"))
        };
        if let Some((other, _)) = sources.iter().find(|(_, taken)| *taken == dest) {
            return Err(Failure::usage(format!(
                "{place} and {other} would both go to {}; mirror them into folders of their own",
                dest.display()
            )));
        }
        sources.push((place, dest));
    }
    Ok(sources)
}

/// Whether text can be a folder's name, and no way out of one.
fn is_plain(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !name.is_empty() && name != "." && name != ".." && name.bytes().all(allowed)
}

/// The logs that a server lists; `None` if it is the address of one log.
async fn at_url(place: Place) -> Result<Option<Vec<Place>>, Failure> {
    let unavailable = |reason: String| Failure::unavailable(format!("{place}: {reason}"));
    if fetch(&place, "checkpoint")
        .await
        .map_err(unavailable)?
        .is_some()
    {
        return Ok(None);
    }
    let Some(list) = fetch(&place, published::LOG_LIST)
        .await
        .map_err(unavailable)?
    else {
        return Ok(None);
    };
    let Place::Url(url, ca) = &place else {
        return Ok(None);
    };
    let list = String::from_utf8_lossy(&list).into_owned();
    let paths: Vec<&str> = list.lines().collect();
    let strange = paths.iter().find(|path| !path.split('/').all(is_plain));
    if paths.len() > MAX_LOGS || strange.is_some() {
        return Err(Failure::refused(format!(
            "{place} lists {} logs, among them {:?}; at most {MAX_LOGS} paths such as main/1 are read",
            paths.len(),
            strange.unwrap_or(&"")
        )));
    }
    let of = |path: &&str| Place::Url(format!("{url}/{path}"), ca.clone());
    Ok(Some(paths.iter().map(of).collect()))
}

/// The logs in a folder, and whether it is one itself. The log of evidence has a key of its own, which no trust bundle holds.
fn in_folder(cli: &Cli, dir: PathBuf) -> Result<(bool, Vec<Place>), Failure> {
    if dir.join("log.json").is_file() {
        return Ok((true, vec![Place::Folder(dir)]));
    }
    let mut places = Vec::new();
    for dir in folders::find(cli, Some(&dir), &[])? {
        let reader = LogReader::open(&dir).map_err(|error| damaged(&error))?;
        if reader.identity().origin.rsplit('/').nth(1) != Some("evidence") {
            places.push(Place::Folder(dir));
        }
    }
    Ok((false, places))
}

async fn fetch(place: &Place, path: &'static str) -> Result<Option<Vec<u8>>, String> {
    let place = place.clone();
    let fetched = tokio::task::spawn_blocking(move || Reader::new(place)?.fetch(path)).await;
    fetched.map_err(|error| error.to_string())?
}

/// The origin that a source's checkpoint names. Nothing of it is believed yet.
async fn origin_of(source: &Place) -> Result<String, Failure> {
    let text = fetch(source, "checkpoint").await;
    let text = text.map_err(|reason| Failure::unavailable(format!("{source}: {reason}")))?;
    let text = text.ok_or_else(|| {
        Failure::unavailable(format!(
            "{source} has no checkpoint; it is no log, or an empty one"
        ))
    })?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

async fn anchors_of(source: Place, dest: PathBuf) -> Result<u64, Failure> {
    let work = move || {
        let reader = Reader::new(source).map_err(Failure::unavailable)?;
        anchors::fetch(&reader, &dest)
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(anyhow::Error::from)?
}

/// The keys that may sign the log which the source shows.
async fn keys_of(bundle: &VerifiedBundle, source: &Place) -> Result<Vec<Vkey>, Failure> {
    let origin = origin_of(source).await?;
    let log = bundle.log(&origin).ok_or_else(|| {
        let known: Vec<_> = bundle.logs().keys().map(String::as_str).collect();
        Failure::refused(format!(
            "{source} shows a log {origin:?} that the trust bundle does not know; it knows {}",
            known.join(", ")
        ))
    })?;
    Ok(log.entry.vkeys.clone())
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
