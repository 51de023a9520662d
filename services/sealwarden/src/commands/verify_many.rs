//! `verify FILE FILE…` and `verify --from-list`: one line a file, in order, as soon as it is known; from the server as one stream, or offline.

use std::path::{Path, PathBuf};

use futures_util::{StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};
use sealwarden_seal::verdict::{Verifier, verify_anchored};
use sealwarden_wire::verify::v1::VerifyRequest;
use serde_json::{Value, json};

use super::export;
use super::verify::{beside, bundle, digest_of, from_answer, from_response, is_good, read_seal};
use super::{Answer, client};
use crate::cli::{Cli, Verify};
use crate::failure::{Ending, Failure};
use crate::output;

/// Files whose digests and seals are read at once, and that are in one stream to the server.
const CHUNK: usize = 256;
/// Files that are hashed side by side.
const SIDE_BY_SIDE: usize = 8;
/// Checkpoints whose signatures are remembered offline.
const REMEMBERED: usize = 256;

/// A document and its seal, read.
struct Pair {
    digest: [u8; 32],
    seal: Vec<u8>,
    /// `FILE.seal.anchors`, if it is there.
    anchors: Option<Vec<u8>>,
}

/// What came of all files.
#[derive(Default)]
struct Count {
    good: u64,
    negative: u64,
    failed: usize,
    first_failure: Option<Failure>,
}

pub(crate) async fn run(cli: &Cli, args: &Verify, files: &[PathBuf]) -> Answer {
    if args.seal.is_some() || args.anchors.is_some() {
        return Err(Failure::usage(
            "--seal and --anchors belong to one FILE; with several, the seal of each is FILE.seal",
        ));
    }
    let bar = progress(cli, files.len());
    let mut count = Count::default();
    match &args.trust {
        Some(trust) => {
            let bundle = bundle(cli, args, trust)?;
            let mut verifier = Verifier::new(&bundle, REMEMBERED);
            for chunk in files.chunks(CHUNK) {
                for (file, pair) in read(chunk).await {
                    let now_ms = jiff::Timestamp::now().as_millisecond();
                    let document = pair.and_then(|pair| {
                        let digest = Some(pair.digest);
                        let Some(held) = &pair.anchors else {
                            return Ok(from_answer(&verifier.verify(&pair.seal, digest, now_ms)));
                        };
                        let dated = export::verified(held, args.tsa_root.as_deref(), &bundle)?;
                        let answer = verify_anchored(&pair.seal, digest, &bundle, &dated, now_ms);
                        Ok(from_answer(&answer))
                    });
                    tell(cli, &bar, &mut count, &file, document);
                }
            }
        }
        None => online(cli, files, &bar, &mut count).await?,
    }
    bar.finish_and_clear();
    if !cli.json {
        output::complain(&format!(
            "{} good, {} negative, {} not read, of {}",
            count.good,
            count.negative,
            count.failed,
            files.len()
        ));
    }
    match (count.negative, count.first_failure) {
        (0, None) => Ok(Ending::Good),
        // Each one was told in its line.
        (0, Some(failure)) => Err(failure.seen()),
        (_, _) => Ok(Ending::Negative),
    }
}

async fn online(
    cli: &Cli,
    files: &[PathBuf],
    bar: &ProgressBar,
    count: &mut Count,
) -> Result<(), Failure> {
    let mut service = client(cli)?.verification().await?;
    for chunk in files.chunks(CHUNK) {
        let pairs = read(chunk).await;
        let requests: Vec<_> = pairs
            .iter()
            .filter_map(|(_, pair)| pair.as_ref().ok())
            .map(|pair| VerifyRequest {
                seal: pair.seal.clone().into(),
                digest: pair.digest.to_vec().into(),
                anchors: pair.anchors.clone().unwrap_or_default().into(),
            })
            .collect();
        let answers = service.verify_stream(stream::iter(requests)).await?;
        let mut answers = answers.into_inner();
        for (file, pair) in pairs {
            let document = match pair {
                Ok(_) => {
                    let answer = answers.message().await?.ok_or_else(|| {
                        Failure::unavailable("the server ended the stream before its last answer")
                    })?;
                    Ok(from_response(answer))
                }
                Err(failure) => Err(failure),
            };
            tell(cli, bar, count, &file, document);
        }
    }
    Ok(())
}

/// Reads documents and seals; in the order of the files.
async fn read(files: &[PathBuf]) -> Vec<(PathBuf, Result<Pair, Failure>)> {
    stream::iter(files.to_vec())
        .map(|file| async move {
            let path = file.clone();
            let reading = tokio::task::spawn_blocking(move || -> Result<Pair, Failure> {
                Ok(Pair {
                    digest: digest_of(&path)?,
                    seal: read_seal(&beside(&path))?,
                    anchors: export::for_seal(None, &beside(&path))?,
                })
            });
            let pair = match reading.await {
                Ok(pair) => pair,
                Err(error) => Err(anyhow::Error::from(error).into()),
            };
            (file, pair)
        })
        .buffered(SIDE_BY_SIDE)
        .collect()
        .await
}

/// One line a file: text, or a JSON document of its own.
fn tell(
    cli: &Cli,
    bar: &ProgressBar,
    count: &mut Count,
    file: &Path,
    document: Result<Value, Failure>,
) {
    let (line, is_error) = match document {
        Ok(mut document) => {
            let good = is_good(&document);
            if good {
                count.good += 1;
            } else {
                count.negative += 1;
            }
            let verdict = document["verdict"].as_str().unwrap_or_default();
            let reason = document["reason"].as_str().unwrap_or_default();
            let text = if good {
                format!("{}: {verdict}", file.display())
            } else {
                format!("{}: {verdict}: {reason}", file.display())
            };
            document["file"] = json!(file);
            (if cli.json { document.to_string() } else { text }, false)
        }
        Err(failure) => {
            let line = if cli.json {
                json!({ "file": file, "error": failure.message() }).to_string()
            } else {
                format!("error: {}", failure.message())
            };
            count.failed += 1;
            count.first_failure.get_or_insert(failure);
            (line, !cli.json)
        }
    };
    bar.suspend(|| {
        if is_error {
            output::complain(&line);
        } else {
            output::line(&line);
        }
    });
    bar.inc(1);
}

fn progress(cli: &Cli, files: usize) -> ProgressBar {
    if cli.json || !output::watched() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {elapsed}");
    let bar = ProgressBar::new(u64::try_from(files).unwrap_or(u64::MAX));
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
