//! `drill key-compromise`: a sealing key is stolen and used.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use sealwarden_wire::incident::v1::Incident;
use sealwarden_wire::verify::v1::VerifyRequest;

use super::documents::{self, Document};
use super::sandbox::Sandbox;
use super::score::{self, Score};
use super::watch::Watch;
use super::{Narrator, people, thief};
use crate::cli::Drill;
use crate::commands::Answer;
use crate::failure::Failure;

/// The whole drill ends within this.
const BOUND: Duration = Duration::from_mins(5);

pub(crate) async fn run(json: bool, args: &Drill) -> Answer {
    let narrator = Narrator { quiet: json };
    let log_filter = std::env::var("SEALWARDEN_LOG").unwrap_or_else(|_| "off".to_owned()); // the story tells what the log lines would
    let telemetry = sealwarden_telemetry::TelemetryConfig {
        service: "drill".to_owned(),
        json_logs: false,
        log_filter,
    };
    let guard =
        sealwarden_telemetry::init(&telemetry).map_err(|e| Failure::usage(e.to_string()))?;
    narrator.say("Drill key-compromise: the real services and the real runbook in a sandbox; people are played, signatures are not.");
    let sandbox = Sandbox::start(args.keep.as_deref(), args.nats.clone())
        .await
        .map_err(|e| Failure::unavailable(format!("the sandbox did not start: {e:#}")))?;
    let result = tokio::time::timeout(BOUND, play(narrator, args, &sandbox)).await;
    narrator.say("");
    if args.keep.is_some() {
        narrator.say(&format!(
            "the sandbox is kept in {}",
            sandbox.folder.display()
        ));
    }
    let ended = sandbox.stop().await;
    guard.shutdown();
    let score = result.map_err(|_| {
        Failure::unavailable(format!(
            "the drill did not end within {} s",
            BOUND.as_secs()
        ))
    })??;
    ended?;
    Ok(score::report(json, &score))
}

async fn play(narrator: Narrator, args: &Drill, sandbox: &Sandbox) -> Result<Score, Failure> {
    let client = sandbox.client("operator")?;
    narrator.chapter("Sealing");
    let mut documents = documents::collect(args.dir.as_deref(), &sandbox.folder)?;
    let origin = documents::seal_all(&client, &documents).await?;
    let bundle = documents::trust(&client, sandbox.data()).await?;
    for document in &mut documents {
        (document.before, document.reason) = documents::verdict_of(document, &bundle)?;
    }
    let valid = documents.iter().filter(|d| d.before == "valid").count();
    narrator.say(&format!(
        "  {} files sealed into {origin}; {valid} verify offline",
        documents.len()
    ));

    narrator.chapter("The theft");
    let misused_ms = jiff::Timestamp::now().as_millisecond();
    let forged = misuse(narrator, sandbox, &origin).await?;

    narrator.chapter("The response (time since the theft)");
    let mut watch = Watch::new(narrator, misused_ms);
    let incident = respond(narrator, sandbox, &mut watch).await?;

    narrator.chapter("Afterwards");
    after(narrator, sandbox, &mut documents).await?;
    let forged_verdict = judge_forgery(sandbox, &forged).await?;
    narrator.say(&format!("  the forged document: {forged_verdict}"));
    score::collect(sandbox, &incident, misused_ms, documents, forged_verdict).await
}

/// The thief copies the keys, forges a seal, shows it to the witness, and somebody verifies it; then the key is used in place.
async fn misuse(
    narrator: Narrator,
    sandbox: &Sandbox,
    origin: &str,
) -> Result<thief::Forgery, Failure> {
    let node = sandbox.data().join("nodes").join("sealing-1");
    let loot = sandbox.folder.join("loot");
    thief::steal(&node, &loot)?;
    let key_id = sandbox
        .started
        .board
        .read(|i| {
            i.log_of(origin)
                .and_then(|(_, log)| log.origin(origin))
                .map(|o| o.key_id.clone())
        })
        .context("the origin is not known")?;
    let http = &sandbox.started.endpoint.http;
    let path = origin.split_once('/').map_or("", |(_, path)| path);
    let tiles = format!("{http}/{path}");
    let witness = format!("{http}/witness/add-checkpoint");
    let forged = thief::forge(&loot, &key_id, &tiles, &witness, &sandbox.folder).await?;
    narrator.say(&format!("  key {key_id} was copied; a forged document was sealed with it, outside, into a tree that extends ours"));
    narrator.say(&format!(
        "  the witness was asked to cosign it and answered {}",
        forged.witness_answer
    ));
    thief::misuse_in_place(&node, &key_id).await?;
    narrator.say("  the key was also used in place, past the sealing service");
    Ok(forged)
}

/// Waits for the incident, lets people approve what they are asked, until it is closed or stuck.
async fn respond(
    narrator: Narrator,
    sandbox: &Sandbox,
    watch: &mut Watch,
) -> Result<Incident, Failure> {
    let mut changes = sandbox.started.board.changes();
    let mut cheated = false;
    loop {
        changes.mark_unchanged();
        if let Some(incident) = watch.look(sandbox).await? {
            if incident.stage == "closed" {
                return Ok(incident);
            }
            if let Some(run) = incident.runs.first() {
                if !cheated
                    && let Some(person) = people::approve_twice(sandbox, run, "isolate").await?
                {
                    cheated = true;
                    narrator.say(&format!("  (cheating: {person} signed step isolate twice; the second time was refused)"));
                }
                if let Some(reason) = people::answer_all(sandbox, run).await? {
                    narrator.say(&format!("  the run is stuck: {reason}"));
                    return Ok(incident);
                }
            }
        }
        // The next look follows an event, never the clock.
        if changes.changed().await.is_err() {
            return Err(Failure::unavailable("the event log ended"));
        }
    }
}

async fn after(
    narrator: Narrator,
    sandbox: &Sandbox,
    documents: &mut [Document],
) -> Result<(), Failure> {
    let client = sandbox.client("operator")?;
    let bundle = documents::trust(&client, sandbox.data()).await?;
    for document in documents.iter_mut() {
        (document.first_seal_after, _) = documents::verdict_of(document, &bundle)?;
        documents::renew(&client, document).await?;
        (document.after, document.reason) = documents::verdict_of(document, &bundle)?;
    }
    let valid = documents.iter().filter(|d| d.after == "valid").count();
    narrator.say(&format!(
        "  trust bundle version {}; {valid} of {} files verify with their new seals",
        bundle.payload().version,
        documents.len()
    ));
    Ok(())
}

async fn judge_forgery(sandbox: &Sandbox, forged: &thief::Forgery) -> Result<String, Failure> {
    let digest = crate::commands::verify::digest_of(Path::new(&forged.document))?;
    let request = VerifyRequest {
        seal: forged.seal.clone().into(),
        digest: digest.to_vec().into(),
        anchors: Vec::new().into(),
    };
    let mut verification = sandbox.client("operator")?.verification().await?;
    let answer = verification.verify(request).await?.into_inner();
    Ok(format!("{} ({})", answer.verdict, answer.reason))
}
