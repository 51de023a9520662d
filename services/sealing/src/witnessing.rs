//! Asking witnesses to cosign the newest checkpoint: the installation's own, and those of other operators that the trust bundle names with an address.
//!
//! C2SP tlog-witness: `POST <prefix>/add-checkpoint`; 409 answers with the size that the witness knows. Only the newest checkpoint is sent: it covers all before
//! it. A cosigned checkpoint takes the place of the one before when its quorum is met, so a witness that is away makes no older seal worse.

use crate::service::Service;
use crate::tree::{Tree, with_writer};
use crate::trust::Required;
use anyhow::{Context as _, bail};
use reqwest::{Client, StatusCode};
use sealwarden_anchors::outside::http_client;
use sealwarden_domain::log_control::Command;
use sealwarden_engine::Role;
use sealwarden_seal::cosignature::merge_answer;
use sealwarden_seal::note::Note;
use sealwarden_seal::trust::WitnessEntry;
use sealwarden_seal::witness::AddCheckpoint;
use sealwarden_seallog::{SignedCheckpoint, View};
use sealwarden_wire::event::v1::CheckpointCosigned;
use sealwarden_wire::seal::v1::WitnessStatus;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Where the installation's own witnesses take checkpoints, below their HTTP address.
const OWN_PREFIX: &str = "/witness";
const PATH: &str = "/add-checkpoint";
/// No answer of a witness is longer, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Pauses after a witness did not cosign; they double.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Somebody who is asked to cosign.
#[derive(Clone, Debug)]
struct Target {
    /// The submission prefix.
    url: String,
    /// The entry of the trust bundle; none for an own witness, whose answer says which one it is.
    outside: Option<WitnessEntry>,
}

/// How one target is doing.
#[derive(Debug, Default)]
struct Progress {
    /// The size that it cosigned last, by origin.
    known: BTreeMap<String, u64>,
    client: Option<Client>,
    failures: u32,
    /// When it may be asked again after a failure.
    again: Option<Instant>,
    /// When its cosignature was recorded in the log line's stream last.
    recorded: Option<Instant>,
}

/// What is remembered from one checkpoint to the next.
#[derive(Debug, Default)]
struct Asked {
    /// By submission prefix.
    progress: BTreeMap<String, Progress>,
    /// The newest checkpoint with the cosignatures that it has, before its quorum is met.
    partial: Option<Note>,
}

/// What every witness said last, by name.
#[derive(Debug, Default)]
pub(crate) struct Answers(Mutex<BTreeMap<String, Answered>>);

#[derive(Clone, Debug, Default)]
struct Answered {
    size: u64,
    time_ms: i64,
    failing: String,
}

impl Answers {
    fn cosigned(&self, name: &str, size: u64, time_ms: i64) {
        let answered = Answered {
            size,
            time_ms,
            failing: String::new(),
        };
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert(name.to_owned(), answered);
    }

    fn failed(&self, name: &str, reason: &str) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reason.clone_into(&mut answers.entry(name.to_owned()).or_default().failing);
    }

    /// How each witness of the trust bundle is doing.
    pub(crate) fn status(&self, required: Option<&Required>) -> Vec<WitnessStatus> {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let witnesses = required.map(|required| required.witnessing.witnesses.iter());
        let status = |it: &WitnessEntry| {
            let answered = answers.get(&it.name).cloned().unwrap_or_default();
            WitnessStatus {
                name: it.name.clone(),
                operator: it.operator.clone(),
                local: it.local,
                url: it.url.clone().unwrap_or_default(),
                size: answered.size,
                time_ms: answered.time_ms,
                failing: answered.failing,
            }
        };
        witnesses.into_iter().flatten().map(status).collect()
    }
}

/// Runs until the writer has ended.
pub(crate) async fn run(service: &Service) -> anyhow::Result<()> {
    let mut asked = Asked::default();
    let mut published = service.published.subscribe();
    let mut board = service.node.board.changes();
    loop {
        published.mark_unchanged();
        board.mark_unchanged();
        let again = match service.current() {
            Some(tree) => cosign(service, &tree, &mut asked)
                .await
                .unwrap_or_else(|error| {
                    let error = format!("{error:#}");
                    tracing::warn!(error, "the witnesses were not asked");
                    Some(Instant::now() + LONGEST_PAUSE)
                }),
            None => None,
        };
        tokio::select! {
            () = service.writer_ended.cancelled() => return Ok(()),
            _ = published.changed() => {}
            _ = board.changed(), if again.is_none() => {}
            () = tokio::time::sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
        }
    }
}

/// Asks whoever has not cosigned the newest checkpoint and may be asked now; answers when the next one may be.
async fn cosign(
    service: &Service,
    tree: &Arc<Tree>,
    asked: &mut Asked,
) -> anyhow::Result<Option<Instant>> {
    let Some(required) = service.witnesses.required(&service.node.board) else {
        return Ok(None);
    };
    let view = view(tree).await?;
    note_witnessed(tree, &view, &required);
    let Some(published) = view.published().cloned() else {
        return Ok(None);
    };
    let targets = targets(service, &required);
    let progress = &mut asked.progress;
    let mut asking = JoinSet::new();
    let now = Instant::now();
    for target in &targets {
        let state = progress.entry(target.url.clone()).or_default();
        let old = state.known.get(&tree.origin).copied().unwrap_or(0);
        let waits = state.again.is_some_and(|again| again > now);
        // What was cosigned before a restart is asked for again: only then it is known.
        if waits || old >= published.checkpoint.size {
            continue;
        }
        let client = match &state.client {
            Some(client) => client.clone(),
            None => http_client(&target.url, service.config.witness_timeout(), None)?,
        };
        state.client = Some(client.clone());
        let (target, view, published) = (target.clone(), view.clone(), published.clone());
        asking.spawn(async move {
            let answer = ask(&client, &target.url, &view, &published, old).await;
            (target, answer)
        });
    }
    let same = |it: &Note| it.text() == published.note.text();
    let partial = asked.partial.take().filter(same);
    let mut note = partial.unwrap_or_else(|| published.note.clone());
    while let Some(answered) = asking.join_next().await {
        let (target, answer) = answered.context("asking a witness")?;
        let state = progress.entry(target.url.clone()).or_default();
        let taken = answer.and_then(|answer| {
            let (witnesses, joined) = take(&note, &answer, &target, &required)?;
            note = joined;
            Ok(witnesses)
        });
        match taken {
            Ok(witnesses) => {
                state.failures = 0;
                state.again = None;
                let size = published.checkpoint.size;
                state.known.insert(tree.origin.clone(), size);
                for (witness, time_ms) in &witnesses {
                    service.answers.cosigned(&witness.name, size, *time_ms);
                }
                attach(tree, &note, &required).await?;
                record(service, state, &published, &note, &witnesses).await;
            }
            Err(error) => failed(service, &target, state, &error),
        }
    }
    asked.partial = Some(note);
    let next = targets
        .iter()
        .filter_map(|target| progress.get(&target.url)?.again);
    Ok(next.min())
}

/// The installation's witnesses first, then those of others.
fn targets(service: &Service, required: &Required) -> Vec<Target> {
    let own = service.node.peers(Role::Verification).into_iter();
    let own = own.map(|(_, _, url)| Target {
        url: format!("{}{OWN_PREFIX}", url.trim_end_matches('/')),
        outside: None,
    });
    let outside = required.witnessing.witnesses.iter().filter(|it| !it.local);
    let outside = outside.filter_map(|it| {
        Some(Target {
            url: it.url.as_ref()?.trim_end_matches('/').to_owned(),
            outside: Some(it.clone()),
        })
    });
    own.chain(outside).collect()
}

fn failed(service: &Service, target: &Target, state: &mut Progress, error: &anyhow::Error) {
    let reason = format!("{error:#}");
    state.failures = state.failures.saturating_add(1);
    let pause = FIRST_PAUSE.saturating_mul(1 << state.failures.saturating_sub(1).min(10));
    state.again = Some(Instant::now() + pause.min(LONGEST_PAUSE));
    tracing::warn!(url = target.url, error = reason, "a witness did not cosign");
    if let Some(witness) = &target.outside {
        service.answers.failed(&witness.name, &reason);
        return;
    }
    // An own witness's address does not say its name; all own ones share the reason then.
    let required = service.witnesses.required(&service.node.board);
    let witnesses = required
        .iter()
        .flat_map(|it| it.witnessing.witnesses.iter());
    for witness in witnesses.filter(|it| it.local) {
        service.answers.failed(&witness.name, &reason);
    }
}

/// The note with the cosignatures of an answer, and whose they are with their times. An answer without one that counts is an error.
fn take<'a>(
    note: &Note,
    answer: &[u8],
    target: &'a Target,
    required: &'a Required,
) -> anyhow::Result<(Vec<(&'a WitnessEntry, i64)>, Note)> {
    let all = required.witnessing.witnesses.iter();
    let asked: Vec<&WitnessEntry> = match &target.outside {
        Some(witness) => vec![witness],
        None => all.filter(|it| it.local).collect(),
    };
    let mut joined = note.clone();
    let mut found = Vec::new();
    for witness in asked {
        for vkey in witness.keys() {
            // An answer without a line of this key is not an error: each answers for itself.
            merge_answer(&mut joined, answer, vkey).unwrap_or(0);
        }
        if let Some(time_ms) = time_of(&joined, witness) {
            found.push((witness, time_ms));
        }
    }
    if found.is_empty() {
        bail!(
            "its answer does not hold good cosignatures of the keys that the trust bundle lists for it, one of each type that it requires of it"
        );
    }
    Ok((found, joined))
}

/// When a witness cosigned by its own clock, Unix milliseconds.
fn time_of(note: &Note, witness: &WitnessEntry) -> Option<i64> {
    let seconds = witness.cosigned(note).flatten()?;
    i64::try_from(seconds).ok()?.checked_mul(1000)
}

/// Puts a cosigned checkpoint in place once its quorum is met.
async fn attach(tree: &Arc<Tree>, note: &Note, required: &Required) -> anyhow::Result<()> {
    if !required.met_by(note) {
        return Ok(());
    }
    let note = note.clone();
    with_writer(tree, move |log| log.attach_cosignatures(&note)).await??;
    note_witnessed(tree, &view(tree).await?, required);
    Ok(())
}

/// Records outside witnesses' times in the log line's stream, at a bounded rate: they decide where a compromised log ends.
async fn record(
    service: &Service,
    state: &mut Progress,
    published: &SignedCheckpoint,
    note: &Note,
    witnesses: &[(&WitnessEntry, i64)],
) {
    let every = service.config.cosignatures_recorded();
    if state.recorded.is_some_and(|last| last.elapsed() < every) {
        return;
    }
    for (witness, time_ms) in witnesses.iter().filter(|(it, _)| !it.local) {
        let command = Command::RecordCosignature(CheckpointCosigned {
            origin: published.checkpoint.origin.clone(),
            size: published.checkpoint.size,
            root: published.checkpoint.root.as_bytes().to_vec().into(),
            witness: witness.vkey.name().to_owned(),
            operator: witness.operator.clone(),
            time_ms: *time_ms,
            note: note.to_string().into_bytes().into(),
            node: service.node.name.clone(),
        });
        match service.execute(&command).await {
            Ok(_) => state.recorded = Some(Instant::now()),
            // The next one is recorded instead.
            Err(error) => tracing::warn!(%error, "an outside witness's time was not recorded"),
        }
    }
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

/// Asks one witness. Where it knows another size, asks once more from there.
async fn ask(
    client: &Client,
    url: &str,
    view: &View,
    published: &SignedCheckpoint,
    old: u64,
) -> anyhow::Result<Vec<u8>> {
    let (status, body) = post(client, url, view, published, old).await?;
    if status == StatusCode::OK {
        return Ok(body);
    }
    if status != StatusCode::CONFLICT {
        return Err(refused(status, &body));
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
    let (status, body) = post(client, url, view, published, old).await?;
    if status == StatusCode::OK {
        return Ok(body);
    }
    Err(refused(status, &body))
}

/// What a refusal means for an operator.
fn refused(status: StatusCode, body: &[u8]) -> anyhow::Error {
    let said: String = String::from_utf8_lossy(body)
        .trim()
        .chars()
        .filter(|letter| !letter.is_control())
        .take(300)
        .collect();
    let meaning = match status.as_u16() {
        403 => "it does not know the log's key: give its operator the vkey",
        404 => "it does not know the log: give its operator the vkey",
        409 | 422 => "by what it has cosigned, this log was forked or cut back: find out why",
        429 | 503 => "it is busy, and is asked again",
        _ => "it cannot cosign now",
    };
    anyhow::anyhow!("it answered {status} ({said}); {meaning}")
}

async fn post(
    client: &Client,
    url: &str,
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
    let mut response = client
        .post(format!("{url}{PATH}"))
        .body(request.to_text())
        .send()
        .await?;
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
