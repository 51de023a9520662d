//! Quarantine and restoring by hand.

use indicatif::ProgressBar;
use sealwarden_wire::archive::v1::{QuarantineRequest, RestoreRequest, RestoredObject};
use serde_json::{Value, json};

use super::super::{Answer, client};
use super::Which;
use crate::cli::Cli;
use crate::failure::Ending;
use crate::output;

pub(super) async fn quarantine(cli: &Cli, object: &str, reason: &str, which: &Which) -> Answer {
    let request = QuarantineRequest {
        all: false,
        archive: which.archive.clone(),
        object: object.to_owned(),
        reason: reason.to_owned(),
    };
    let answer = client(cli)?
        .archives()
        .await?
        .quarantine(request)
        .await?
        .into_inner();
    if cli.json {
        output::json(
            &json!({ "object": object, "known": answer.known, "protection": answer.protection }),
        );
    } else if answer.known {
        output::line(&format!(
            "{object}: quarantined already ({})",
            answer.protection
        ));
    } else {
        output::line(&format!(
            "{object}: quarantined ({}); `sealwarden archive restore {object}` releases it when it is intact",
            answer.protection
        ));
    }
    Ok(Ending::Good)
}

pub(super) async fn restore(cli: &Cli, objects: &[String], all: bool, which: &Which) -> Answer {
    let request = RestoreRequest {
        archive: which.archive.clone(),
        objects: objects.to_vec(),
        all,
    };
    let mut answers = client(cli)?
        .archives()
        .await?
        .restore(request)
        .await?
        .into_inner();
    let bar = if output::watched() && !cli.json {
        ProgressBar::new(1)
    } else {
        ProgressBar::hidden()
    };
    let mut documents: Vec<Value> = Vec::new();
    let mut failed = 0_usize;
    while let Some(object) = answers.message().await? {
        bar.set_length(object.total);
        bar.inc(1);
        failed += usize::from(object.outcome == "not-restored");
        if cli.json {
            documents.push(json!({
                "object": object.object, "outcome": object.outcome, "reason": object.reason,
                "document_from": object.document_from, "seal_from": object.seal_from,
            }));
        } else {
            bar.suspend(|| output::line(&words(&object)));
            documents.push(Value::Null);
        }
    }
    bar.finish_and_clear();
    if cli.json {
        output::json(&json!({ "objects": documents, "not_restored": failed }));
    } else if documents.is_empty() {
        output::line("nothing is quarantined or known to be damaged");
    } else if failed > 0 {
        output::complain(&format!(
            "warning: {failed} of {} objects have no intact original and stay quarantined",
            documents.len()
        ));
    }
    Ok(if failed == 0 {
        Ending::Good
    } else {
        Ending::Negative
    })
}

fn words(object: &RestoredObject) -> String {
    match object.outcome.as_str() {
        "restored" => format!(
            "{}: restored (document from {}, seal from {}): {}",
            object.object, object.document_from, object.seal_from, object.reason
        ),
        outcome => format!("{}: {outcome}: {}", object.object, object.reason),
    }
}
