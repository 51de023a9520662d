//! Anchors that the service holds: waiting for them after sealing, and `anchor --upgrade`, which fetches them for seals that are there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sealwarden_anchors::file::Anchors;
use sealwarden_seal::seal::Seal as SealFile;
use sealwarden_wire::seal::v1::{
    GetAnchorsRequest, GetAnchorsResponse, Stage, WatchSealRequest, sealing_client::SealingClient,
};
use serde_json::{Value, json};

use super::export::{beside, read_anchors, read_seal};
use super::{Answer, client, verify};
use crate::cli::Cli;
use crate::client::Traced;
use crate::failure::{Ending, Failure};
use crate::host::installation::write_public;
use crate::output;

/// What became of one seal's anchors.
pub(super) enum Fetched {
    /// The seal stands under an anchored checkpoint now, with its anchors beside it: who dated it, and when in Unix milliseconds.
    Anchored(Vec<(String, i64)>),
    /// The seal had anchors already, and these stay: they are of another checkpoint than the service's.
    Kept,
    /// There is none yet, and what it waits for.
    Waits(String),
}

/// Waits until a sealed place is anchored, for so long at most; answers the stage that was reached.
pub(super) async fn wait(
    client: &mut SealingClient<Traced>,
    origin: &str,
    index: u64,
    patience: Duration,
) -> Result<Stage, Failure> {
    let request = WatchSealRequest {
        origin: origin.to_owned(),
        index,
        until: Stage::Anchored.into(),
    };
    let mut reached = Stage::Sealed;
    let watching = async {
        let mut answers = client.watch_seal(request).await?.into_inner();
        while let Some(answer) = answers.message().await? {
            reached = answer.stage();
        }
        Ok::<_, Failure>(())
    };
    // Time that ran out is no error: the stage says how far it came.
    if let Ok(ended) = tokio::time::timeout(patience, watching).await {
        ended?;
    }
    Ok(reached)
}

/// Fetches the anchors of the seal in a file, and writes both if they are new.
pub(super) async fn fetch(
    client: &mut SealingClient<Traced>,
    path: &Path,
) -> Result<Fetched, Failure> {
    let present = read_seal(path)?;
    let origin = present
        .checkpoint()
        .map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?
        .origin;
    let request = GetAnchorsRequest {
        origin,
        index: present.index,
        follow: false,
    };
    let answer = client.get_anchors(request).await?.into_inner();
    if answer.anchors.is_empty() {
        return Ok(Fetched::Waits(answer.waits_for));
    }
    let times = answer
        .times
        .iter()
        .map(|it| (it.name.clone(), it.time_ms))
        .collect();
    let (seal, text, anchors) = checked(&answer, &present)?;
    let place = beside(path);
    let held = if place.exists() {
        Some(read_anchors(&place)?).filter(|it| it.checkpoint_text() == present.note.text())
    } else {
        None
    };
    let joined = match held {
        // What dates the seal stays; what the service has is of another checkpoint.
        Some(held) if held.checkpoint_text() != anchors.checkpoint_text() => {
            return Ok(Fetched::Kept);
        }
        Some(held) => held
            .joined(&anchors)
            .map_err(|e| Failure::refused(format!("{}: {e}", place.display())))?,
        None => anchors,
    };
    write_public(&place, joined.to_text().as_bytes())?;
    if seal.note.text() != present.note.text() {
        write_public(path, &text)?;
    }
    Ok(Fetched::Anchored(times))
}

/// The answer is about this very seal, and its parts belong together.
fn checked(
    answer: &GetAnchorsResponse,
    present: &SealFile,
) -> Result<(SealFile, Vec<u8>, Anchors), Failure> {
    let refused =
        |what: &str| Failure::refused(format!("the server's answer is not usable: {what}"));
    let text = answer
        .seal
        .as_ref()
        .map(|it| it.seal.to_vec())
        .unwrap_or_default();
    let seal = SealFile::parse(&text).map_err(|e| refused(&e.to_string()))?;
    let anchors = Anchors::parse(&answer.anchors).map_err(|e| refused(&e.to_string()))?;
    if seal.record.digest != present.record.digest || seal.index != present.index {
        return Err(refused("it is the seal of another document or place"));
    }
    if anchors.checkpoint_text() != seal.note.text() {
        return Err(refused("its anchors are of another checkpoint"));
    }
    Ok((seal, text, anchors))
}

/// `anchor --upgrade FILE…`
pub(crate) async fn upgrade(cli: &Cli, files: &[PathBuf]) -> Answer {
    let mut client = client(cli)?.sealing().await?;
    let (mut told, mut waiting) = (Vec::new(), 0);
    for file in files {
        let path = verify::beside(file);
        let place = beside(&path);
        let (state, times, reason) = match fetch(&mut client, &path).await? {
            Fetched::Anchored(times) => ("anchored", times, Value::Null),
            Fetched::Kept => ("kept", Vec::new(), Value::Null),
            Fetched::Waits(reason) => {
                waiting += 1;
                ("waits", Vec::new(), Value::String(reason))
            }
        };
        if !cli.json {
            output::line(&words(&place, state, &times, &reason));
        }
        let times: Vec<_> = times
            .iter()
            .map(|(name, ms)| json!({ "name": name, "time": output::time(*ms) }))
            .collect();
        told.push(json!({ "anchors": place, "state": state, "times": times, "reason": reason }));
    }
    if cli.json {
        output::json(&json!({ "upgraded": told, "waiting": waiting }));
    }
    Ok(if waiting == 0 {
        Ending::Good
    } else {
        Ending::Negative
    })
}

fn words(place: &Path, state: &str, times: &[(String, i64)], reason: &Value) -> String {
    let place = place.display();
    let dated: Vec<_> = times
        .iter()
        .map(|(name, ms)| format!("{name} at {}", output::time(*ms)))
        .collect();
    match state {
        "anchored" => format!("{place}: anchored, {}", dated.join(", ")),
        "kept" => format!("{place}: has anchors of its own checkpoint; they stay"),
        _ => format!(
            "{place}: not anchored yet: {}",
            reason.as_str().unwrap_or_default()
        ),
    }
}
