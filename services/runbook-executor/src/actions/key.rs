//! Orders about single keys: revoking, destroying and restoring one.

use std::collections::BTreeMap;

use sealwarden_domain::incident::Command as IncidentCommand;
use sealwarden_domain::log_control::{DirectiveState, LogControl};
use sealwarden_engine::ExecuteError;
use sealwarden_wire::event::v1::IncidentStage;

use super::attempt::{Attempt, Observation, Outputs, Progress, Trouble};
use super::directive::{self, Issued};
use super::{publish_trust, witnesses};
use crate::executor::Executor;

/// Revokes: the node stops using the key first, then the trust bundle says so.
pub(super) async fn revoke(
    executor: &Executor,
    attempt: &Attempt,
    progress: &Progress,
) -> Result<Outputs, Trouble> {
    let outputs = directive::perform(executor, attempt, progress, revoked).await?;
    let (log, origin, key) = place(attempt)?;
    let since_ms = attempt.time_input("compromised-since")?;
    executor
        .trust
        .suspend_key((log, origin, key), since_ms, &attempt.incident)
        .await
        .map_err(publish_trust::trouble)?;
    let reached = IncidentCommand::Reach {
        stage: IncidentStage::Contained,
        reason: format!("key {key} of {origin} is revoked"),
    };
    executor.incident(&attempt.incident, reached).await?;
    Ok(outputs)
}

pub(super) async fn observe_revoked(
    executor: &Executor,
    attempt: &Attempt,
) -> Result<Observation, ExecuteError> {
    let observed = directive::observe(executor, attempt, revoked).await?;
    let Observation::Done(outputs) = observed else {
        return Ok(observed);
    };
    let asked = place(attempt).and_then(|it| Ok((it, attempt.time_input("compromised-since")?)));
    let Ok(((log, origin, key), since_ms)) = asked else {
        return Ok(Observation::CannotTell(
            "its inputs name no key and no time".to_owned(),
        ));
    };
    Ok(
        if executor
            .trust
            .is_key_suspended((log, origin, key), since_ms)
            .await?
        {
            Observation::Done(outputs)
        } else {
            Observation::Underway(
                "the key is revoked and not suspended in the trust bundle yet".to_owned(),
            )
        },
    )
}

pub(super) async fn destroy(
    executor: &Executor,
    attempt: &Attempt,
    progress: &Progress,
) -> Result<Outputs, Trouble> {
    directive::perform(executor, attempt, progress, destroyed).await
}

pub(super) async fn observe_destroyed(
    executor: &Executor,
    attempt: &Attempt,
) -> Result<Observation, ExecuteError> {
    directive::observe(executor, attempt, destroyed).await
}

/// Restores: the key first, then the witnesses, then the trust bundle, without which the origin's seals stay suspect.
pub(super) async fn restore(
    executor: &Executor,
    attempt: &Attempt,
    progress: &Progress,
) -> Result<Outputs, Trouble> {
    let mut outputs = directive::perform(executor, attempt, progress, restored).await?;
    let issued = directive::issue(executor, attempt).await?;
    thawed(executor, progress, &issued).await;
    let published = executor
        .trust
        .publish(&attempt.place_words(), &attempt.incident)
        .await
        .map_err(publish_trust::trouble)?;
    outputs.insert("version".to_owned(), published.version.to_string());
    Ok(outputs)
}

pub(super) async fn observe_restored(
    executor: &Executor,
    attempt: &Attempt,
) -> Result<Observation, ExecuteError> {
    let observed = directive::observe(executor, attempt, restored).await?;
    let Observation::Done(mut outputs) = observed else {
        return Ok(observed);
    };
    let facts = executor.trust.facts().await?;
    Ok(match facts.published_for(&attempt.place_words()) {
        Some(published) => {
            outputs.insert("version".to_owned(), published.version.to_string());
            Observation::Done(outputs)
        }
        None => {
            Observation::Underway("the key is restored, and no trust bundle says so yet".to_owned())
        }
    })
}

/// Waits until every witness cosigns the origin again.
async fn thawed(executor: &Executor, progress: &Progress, issued: &Issued) {
    let mut changes = executor.node.board.changes();
    loop {
        changes.mark_unchanged();
        let said = executor
            .node
            .board
            .read(|installation| witnesses::said(executor, installation, issued, "thawed"));
        let Err(missing) = said else {
            return;
        };
        let text = format!(
            "the key is restored under directive {}; its seals wait for {}",
            issued.epoch,
            missing.join("; ")
        );
        progress.say(text, missing.clone(), missing).await;
        // The board lives as long as this.
        let _ = changes.changed().await;
    }
}

fn place(attempt: &Attempt) -> Result<(&str, &str, &str), Trouble> {
    Ok((
        attempt.input("log")?,
        attempt.input("origin")?,
        attempt.input("key")?,
    ))
}

fn revoked(
    log: &LogControl,
    directive: &DirectiveState,
    results: &BTreeMap<String, String>,
) -> Result<Outputs, String> {
    said(
        log,
        directive,
        results,
        &[("outcome", "provider"), ("signers", "signers")],
    )
}

fn destroyed(
    log: &LogControl,
    directive: &DirectiveState,
    results: &BTreeMap<String, String>,
) -> Result<Outputs, String> {
    said(log, directive, results, &[("outcome", "provider")])
}

fn restored(
    log: &LogControl,
    directive: &DirectiveState,
    results: &BTreeMap<String, String>,
) -> Result<Outputs, String> {
    said(log, directive, results, &[("signers", "signers")])
}

/// Outputs that are the node's signed words.
fn said(
    log: &LogControl,
    directive: &DirectiveState,
    results: &BTreeMap<String, String>,
    wanted: &[(&str, &str)],
) -> Result<Outputs, String> {
    let mut outputs = directive::only_epoch(log, directive, results)?;
    for (output, result) in wanted {
        let words = results.get(*result).ok_or_else(|| {
            format!(
                "directive {} was acknowledged without {result}",
                directive.directive.epoch
            )
        })?;
        outputs.insert((*output).to_owned(), words.clone());
    }
    Ok(outputs)
}
