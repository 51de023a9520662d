//! Anchors that the service holds: waiting for them after sealing, and `anchor --upgrade`, which fetches them for seals that are there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sealwarden_anchors::file::{Anchor, Anchors};
use sealwarden_seal::merkle::Hash;
use sealwarden_seal::note::Note;
use sealwarden_seal::seal::Seal as SealFile;
use sealwarden_wire::seal::v1::{
    GetAnchorsRequest, GetAnchorsResponse, LaterAnchor, Stage, WatchSealRequest,
    sealing_client::SealingClient,
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
    /// The seal stands under an anchored checkpoint now, with its anchors beside it, and anchors of later checkpoints: who dated it, and when in Unix milliseconds.
    Anchored(Vec<(String, i64)>),
    /// The seal had anchors already, these stay, and the service has none of that checkpoint or of later ones.
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
    let checkpoint = present
        .checkpoint()
        .map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?;
    let place = beside(path);
    let held = if place.exists() {
        Some(read_anchors(&place)?).filter(|it| it.checkpoint_text() == present.note.text())
    } else {
        None
    };
    let request = GetAnchorsRequest {
        origin: checkpoint.origin,
        index: present.index,
        follow: false,
        // What dates the seal stays, and with it the seal's checkpoint.
        size: held.as_ref().map_or(0, |_| checkpoint.size),
    };
    let answer = client.get_anchors(request).await?.into_inner();
    if answer.anchors.is_empty() && answer.later.is_empty() {
        return Ok(match held {
            Some(_) => Fetched::Kept,
            None => Fetched::Waits(answer.waits_for),
        });
    }
    let later = answer.later.iter().filter_map(|it| it.time.as_ref());
    let times = answer.times.iter().chain(later);
    let times = times.map(|it| (it.name.clone(), it.time_ms)).collect();
    let joined = if let Some(held) = held {
        let own = if answer.anchors.is_empty() {
            held
        } else {
            let own = Anchors::parse(&answer.anchors).map_err(|e| refused(&e))?;
            held.joined(&own).map_err(|e| refused(&e))?
        };
        with_later(&own, &answer.later)?
    } else {
        let (seal, text, anchors) = checked(&answer, &present)?;
        let joined = with_later(&anchors, &answer.later)?;
        if seal.note.text() != present.note.text() {
            write_public(path, &text)?;
        }
        joined
    };
    write_public(&place, joined.to_text().as_bytes())?;
    Ok(Fetched::Anchored(times))
}

fn refused(what: &dyn std::fmt::Display) -> Failure {
    Failure::refused(format!("the server's answer is not usable: {what}"))
}

/// With anchors of later checkpoints: each is taken only with a proof that holds.
fn with_later(anchors: &Anchors, later: &[LaterAnchor]) -> Result<Anchors, Failure> {
    let read = |it: &LaterAnchor| {
        let note = Note::parse(&it.note).map_err(|e| refused(&e))?;
        let hash = |bytes: &[u8]| {
            let hash = <[u8; 32]>::try_from(bytes).map(Hash);
            hash.map_err(|_| refused(&format!("a proof has a hash of {} bytes", bytes.len())))
        };
        let proof: Vec<_> = it
            .proof
            .iter()
            .map(|it| hash(it))
            .collect::<Result<_, _>>()?;
        Anchor::later(note, it.token.to_vec(), proof).map_err(|e| refused(&e))
    };
    let later: Vec<_> = later.iter().map(read).collect::<Result<_, _>>()?;
    anchors.with(&later).map_err(|e| refused(&e))
}

/// The answer is about this very seal, and its parts belong together.
fn checked(
    answer: &GetAnchorsResponse,
    present: &SealFile,
) -> Result<(SealFile, Vec<u8>, Anchors), Failure> {
    let text = answer
        .seal
        .as_ref()
        .map(|it| it.seal.to_vec())
        .unwrap_or_default();
    let seal = SealFile::parse(&text).map_err(|e| refused(&e))?;
    let anchors = Anchors::parse(&answer.anchors).map_err(|e| refused(&e))?;
    if seal.record.digest != present.record.digest || seal.index != present.index {
        return Err(refused(&"it is the seal of another document or place"));
    }
    if anchors.checkpoint_text() != seal.note.text() {
        return Err(refused(&"its anchors are of another checkpoint"));
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
