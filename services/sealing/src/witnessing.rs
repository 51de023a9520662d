//! Asking the witnesses of the trust bundle to cosign the newest checkpoint.
//!
//! C2SP tlog-witness: `POST <prefix>/add-checkpoint`; 409 answers with the size that the witness knows. Only the newest
//! checkpoint is sent: it covers all before it.

use crate::service::Service;
use crate::tree::{Tree, with_writer};
use crate::trust::Required;
use anyhow::{Context as _, bail};
use reqwest::{Client, StatusCode};
use sealwarden_anchors::outside::http_client;
use sealwarden_engine::Role;
use sealwarden_seal::cosignature::merge_answer;
use sealwarden_seal::note::Note;
use sealwarden_seal::witness::AddCheckpoint;
use sealwarden_seallog::{SignedCheckpoint, View};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const PATH: &str = "/witness/add-checkpoint";
/// No answer of a witness is longer, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Pauses after a try that did not meet the quorum.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The size that each witness is known to have cosigned, by address and origin.
type Known = BTreeMap<(String, String), u64>;

/// Runs until the writer has ended.
pub(crate) async fn run(service: &Service) -> anyhow::Result<()> {
    let client = http_client("http://witness", service.config.witness_timeout(), None)
        .context("setting up the witnesses' HTTP client")?;
    let mut known = Known::new();
    let mut pause = FIRST_PAUSE;
    let mut published = service.published.subscribe();
    let mut board = service.node.board.changes();
    loop {
        published.mark_unchanged();
        board.mark_unchanged();
        let outcome = match service.current() {
            Some(tree) => cosign(service, &client, &tree, &mut known).await,
            None => Ok(Outcome::Waiting),
        };
        let pause_now = match outcome {
            Ok(Outcome::Met) => {
                pause = FIRST_PAUSE;
                None
            }
            Ok(Outcome::Waiting) => None,
            Ok(Outcome::Missing) => Some(pause),
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "the witnesses were not asked");
                Some(pause)
            }
        };
        tokio::select! {
            () = service.writer_ended.cancelled() => return Ok(()),
            _ = published.changed(), if pause_now.is_none() => {}
            _ = board.changed(), if pause_now.is_none() => {}
            () = tokio::time::sleep(pause), if pause_now.is_some() => {
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

enum Outcome {
    /// The newest checkpoint has its cosignatures.
    Met,
    /// There is nothing to cosign, or nobody to ask yet.
    Waiting,
    /// Some cosignatures are missing.
    Missing,
}

async fn cosign(
    service: &Service,
    client: &Client,
    tree: &Arc<Tree>,
    known: &mut Known,
) -> anyhow::Result<Outcome> {
    let Some(required) = service.witnesses.required(&service.node.board) else {
        return Ok(Outcome::Waiting);
    };
    let view = view(tree).await?;
    note_witnessed(tree, &view, &required);
    let Some(published) = view.published().cloned() else {
        return Ok(Outcome::Waiting);
    };
    let peers = service.node.peers(Role::Verification);
    if *tree.witnessed.borrow() >= published.checkpoint.size {
        return Ok(Outcome::Met);
    }
    if peers.is_empty() {
        return Ok(Outcome::Waiting);
    }
    let mut note = published.note.clone();
    let mut added = 0;
    for (name, _, http_url) in peers {
        let key = (http_url.clone(), tree.origin.clone());
        let old = known.get(&key).copied().unwrap_or(0);
        match ask(client, &http_url, &view, &published, old).await {
            Ok(answer) => {
                known.insert(key, published.checkpoint.size);
                added += merge(&mut note, &answer, &required);
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(witness = name, http_url, error, "a witness did not cosign");
            }
        }
    }
    if added > 0 {
        with_writer(tree, move |log| log.attach_cosignatures(&note)).await??;
        note_witnessed(tree, &self::view(tree).await?, &required);
    }
    let met = *tree.witnessed.borrow() >= published.checkpoint.size;
    Ok(if met { Outcome::Met } else { Outcome::Missing })
}

async fn view(tree: &Tree) -> anyhow::Result<View> {
    let reader = tree.reader.clone();
    Ok(tokio::task::spawn_blocking(move || reader.view()).await??)
}

/// Tells those who wait how far the witnessed checkpoint reaches.
fn note_witnessed(tree: &Tree, view: &View, required: &Required) {
    let size = match view.witnessed() {
        Some(witnessed) if required.met_by(&witnessed.note) => witnessed.checkpoint.size,
        Some(_) | None => return,
    };
    tree.witnessed.send_if_modified(|known| {
        let grown = size > *known;
        *known = size.max(*known);
        grown
    });
}

fn merge(note: &mut Note, answer: &[u8], required: &Required) -> usize {
    let mut added = 0;
    for vkey in &required.vkeys {
        // An answer without a line of this witness is not an error: each answers for itself.
        added += merge_answer(note, answer, vkey).unwrap_or(0);
    }
    added
}

/// Asks one witness. Where it knows another size, asks once more from there.
async fn ask(
    client: &Client,
    http_url: &str,
    view: &View,
    published: &SignedCheckpoint,
    old: u64,
) -> anyhow::Result<Vec<u8>> {
    let (status, body) = post(client, http_url, view, published, old).await?;
    if status == StatusCode::OK {
        return Ok(body);
    }
    if status != StatusCode::CONFLICT {
        bail!(
            "it answered {status}: {}",
            String::from_utf8_lossy(&body).trim()
        );
    }
    let text = std::str::from_utf8(&body).context("its size is not text")?;
    let old: u64 = text
        .trim_end()
        .parse()
        .context("its size is not a number")?;
    if old > published.checkpoint.size {
        bail!(
            "it has cosigned size {old}, and this log has {}",
            published.checkpoint.size
        );
    }
    let (status, body) = post(client, http_url, view, published, old).await?;
    if status == StatusCode::OK {
        return Ok(body);
    }
    bail!(
        "it answered {status}: {}",
        String::from_utf8_lossy(&body).trim()
    )
}

async fn post(
    client: &Client,
    http_url: &str,
    view: &View,
    published: &SignedCheckpoint,
    old: u64,
) -> anyhow::Result<(StatusCode, Vec<u8>)> {
    let (proving, size) = (view.clone(), published.checkpoint.size);
    let old = old.min(size);
    let proof = tokio::task::spawn_blocking(move || proving.consistency_proof(old, size)).await??;
    let request = AddCheckpoint {
        old_size: old,
        proof,
        note: published.note.clone(),
    };
    let url = format!("{}{PATH}", http_url.trim_end_matches('/'));
    let mut response = client.post(url).body(request.to_text()).send().await?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            bail!("its answer is longer than {MAX_ANSWER_BYTES} bytes");
        }
        body.extend_from_slice(&chunk);
    }
    Ok((status, body))
}
