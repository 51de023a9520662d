//! `drill key-compromise`: a sealing key is stolen and used.

use std::path::Path;

use anyhow::Context as _;
use sealwarden_wire::verify::v1::VerifyRequest;
use serde_json::{Value, json};

use super::documents::{self, Document};
use super::sandbox::Sandbox;
use super::score::{self, Findings, Score, Since};
use super::watch::Watch;
use super::{Narrator, act, thief};
use crate::cli::Drill;
use crate::failure::Failure;

/// The story.
pub(crate) async fn play(
    narrator: Narrator,
    args: &Drill,
    sandbox: &Sandbox,
) -> Result<Score, Failure> {
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
    let incident = act::respond(narrator, sandbox, &mut watch, "isolate", async |_| Ok(())).await?;

    narrator.chapter("Afterwards");
    after(narrator, sandbox, &mut documents).await?;
    let forged_verdict = judge_forgery(sandbox, &forged).await?;
    narrator.say(&format!("  the forged document: {forged_verdict}"));
    let since = Since {
        at_ms: misused_ms,
        words: "the first misuse",
    };
    score::collect(
        sandbox,
        &incident,
        since,
        findings(&documents, &forged_verdict),
    )
    .await
}

/// What became of the documents and of the forged one.
fn findings(documents: &[Document], forged: &str) -> Findings {
    let mut problems = Vec::new();
    let mut table = vec![
        ["FILE", "BEFORE", "FIRST SEAL, AFTER", "PRESENT SEAL"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for d in documents {
        if d.before != "valid" {
            problems.push(format!("{} was {} after sealing", d.name, d.before));
        }
        if d.after != "valid" {
            problems.push(format!(
                "{} is {} after the incident: {}",
                d.name, d.after, d.reason
            ));
        }
        let row = [&d.name, &d.before, &d.first_seal_after, &d.after];
        table.push(row.map(String::clone).to_vec());
    }
    if forged.starts_with("valid") {
        problems.push(format!("the forged document is {forged}"));
    }
    let verdicts: Vec<Value> = documents
        .iter()
        .map(|d| {
            json!({
                "file": d.name, "before": d.before, "first_seal_after": d.first_seal_after, "after": d.after, "reason": d.reason,
            })
        })
        .collect();
    Findings {
        title: "Verdicts",
        table,
        facts: vec![("verdicts", json!(verdicts)), ("forged", json!(forged))],
        problems,
    }
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
