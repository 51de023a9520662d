//! Taking a key away from everybody, and proving it: order, fence, suspend, and the words of provider and witnesses.

use std::time::Duration;

use sealwarden_domain::incident::{Command as IncidentCommand, Incident};
use sealwarden_domain::installation::Installation;
use sealwarden_domain::log_control::{
    Command, DirectiveState, FenceHow, GrantClock, IsolationProof, LogControl, NodeFenceStatus,
    Signer, directive_input, fence_status,
};
use sealwarden_engine::ExecuteError;
use sealwarden_wire::event::v1::IncidentStage;

use super::attempt::{Attempt, Observation, Outputs, Progress, Trouble};
use super::directive::{self, Issued};
use super::{acknowledgement, publish_trust, witnesses};
use crate::environment::rfc3339;
use crate::executor::Executor;

/// Added to a wait for a permit's end, so that the end has surely passed when looked at again.
const SLACK: Duration = Duration::from_millis(5);

pub(super) async fn execute(
    executor: &Executor,
    attempt: &Attempt,
    progress: &Progress,
) -> Result<Outputs, Trouble> {
    let origin = attempt.input("origin")?;
    let since_ms = attempt.time_input("compromised-since")?;
    let issued = directive::issue(executor, attempt).await?;
    fence(executor, attempt, progress, &issued).await?;
    let suspended = executor
        .trust
        .suspend(origin, since_ms, &attempt.incident)
        .await
        .map_err(publish_trust::trouble)?;
    let trust = format!(
        "suspended from {} on, by incident {}",
        rfc3339(suspended.from_ms),
        suspended.incident
    );
    let proof = prove(executor, progress, &issued, trust).await?;
    let concluded = Command::ConcludeIsolation {
        epoch: issued.epoch,
        proof,
    };
    executor
        .control(&issued.log, attempt.meta(executor), concluded)
        .await?;
    let reached = IncidentCommand::Reach {
        stage: IncidentStage::Contained,
        reason: format!(
            "the key of {origin} is isolated under directive {}",
            issued.epoch
        ),
    };
    executor.incident(&attempt.incident, reached).await?;
    match isolated(executor, attempt).await? {
        Isolated::Yes(outputs) => Ok(outputs),
        Isolated::Ordered(_) | Isolated::No => Err(Trouble::Unknown(
            "the isolation was concluded and is not in the log's stream".to_owned(),
        )),
    }
}

pub(super) async fn observe(
    executor: &Executor,
    attempt: &Attempt,
) -> Result<Observation, ExecuteError> {
    Ok(match isolated(executor, attempt).await? {
        Isolated::No => Observation::NotDone("its directive was never issued".to_owned()),
        Isolated::Ordered(epoch) => Observation::Underway(format!(
            "directive {epoch} is issued and isolation is not proven yet"
        )),
        Isolated::Yes(outputs) => {
            let incident = executor
                .node
                .stream::<Incident>("incident", &attempt.incident)
                .await?;
            if incident
                .state()
                .reached_at(IncidentStage::Contained)
                .is_some()
                || !incident.state().is_open()
            {
                Observation::Done(outputs)
            } else {
                Observation::Underway("the incident is not marked as contained yet".to_owned())
            }
        }
    })
}

enum Isolated {
    No,
    Ordered(u64),
    Yes(Outputs),
}

/// How far the isolation is, on the log's newest state.
async fn isolated(executor: &Executor, attempt: &Attempt) -> Result<Isolated, ExecuteError> {
    let Some(log) = attempt.inputs.get("log") else {
        return Ok(Isolated::No);
    };
    let stream = executor.log(log).await?;
    let mut stream = stream.lock().await;
    stream.refresh().await?;
    let Some(epoch) = stream
        .state()
        .ordered(&attempt.run, &attempt.id.step, attempt.id.iteration)
    else {
        return Ok(Isolated::No);
    };
    let directive = stream.state().directives.get(&epoch);
    let times =
        directive.and_then(|directive| directive.fenced_at_ms.zip(directive.isolated_at_ms));
    Ok(
        times.map_or(Isolated::Ordered(epoch), |(fenced, isolated)| {
            Isolated::Yes(Outputs::from([
                ("epoch".to_owned(), epoch.to_string()),
                ("fenced-at".to_owned(), rfc3339(fenced)),
                ("isolated-at".to_owned(), rfc3339(isolated)),
            ]))
        }),
    )
}

/// Waits until no node can sign with the key, and concludes it. Reports whenever the nodes that are missing change.
async fn fence(
    executor: &Executor,
    attempt: &Attempt,
    progress: &Progress,
    issued: &Issued,
) -> Result<(), Trouble> {
    let mut changes = executor.node.board.changes();
    loop {
        changes.mark_unchanged();
        // Taken after the directive was issued: no later grant of this origin exists.
        let clock = executor.grant_clock(&issued.log).await?;
        let boot_ms = executor.node.clock.now().boot_ms;
        let waiting = executor
            .node
            .board
            .read(|installation| waiting(executor, installation, issued, &clock, boot_ms));
        let Some(shortest) = waiting.iter().map(|node| node.remaining_ms).min() else {
            let concluded = Command::ConcludeFence {
                epoch: issued.epoch,
                clock,
            };
            executor
                .control(&issued.log, attempt.meta(executor), concluded)
                .await?;
            return Ok(());
        };
        let missing: Vec<String> = waiting.iter().map(Waiting::words).collect();
        let kept = waiting
            .into_iter()
            .map(|node| node.node + &node.why)
            .collect();
        let text = format!(
            "directive {} is issued; not fenced yet: {}",
            issued.epoch,
            missing.join("; ")
        );
        progress.say(text, missing, kept).await;
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep(Duration::from_millis(shortest) + SLACK) => {}
        }
    }
}

/// A node that may still sign.
struct Waiting {
    node: String,
    why: String,
    remaining_ms: u64,
}

impl Waiting {
    fn words(&self) -> String {
        format!(
            "{}: {}; its permit runs out in {} ms",
            self.node, self.why, self.remaining_ms
        )
    }
}

/// The nodes that may still sign. An acknowledgement that is not the node's own signed word frees nobody: then the permit must run out.
fn waiting(
    executor: &Executor,
    installation: &Installation,
    issued: &Issued,
    clock: &GrantClock,
    boot_ms: u64,
) -> Vec<Waiting> {
    let Some((log, directive)) = directive_of(installation, issued) else {
        return vec![Waiting {
            node: executor.node.name.clone(),
            why: "has not seen the directive yet".to_owned(),
            remaining_ms: 100,
        }];
    };
    fence_status(log, issued.epoch, clock, boot_ms)
        .into_iter()
        .filter_map(|NodeFenceStatus { node, how }| match how {
            FenceHow::Released | FenceHow::RanOut => None,
            FenceHow::Waiting { remaining_ms } => Some(Waiting {
                node,
                why: "no acknowledgement yet".to_owned(),
                remaining_ms,
            }),
            FenceHow::Acknowledged => {
                let why =
                    acknowledgement::of_node(executor, installation, directive, &node).err()?;
                let remaining_ms = remaining(log, directive, &node, clock, boot_ms)?;
                Some(Waiting {
                    node,
                    why,
                    remaining_ms,
                })
            }
        })
        .collect()
}

/// How long the node's permit may still be good, if it may.
fn remaining(
    log: &LogControl,
    directive: &DirectiveState,
    node: &str,
    clock: &GrantClock,
    boot_ms: u64,
) -> Option<u64> {
    let origin = directive_input(&directive.directive, "origin")?;
    let grant = log
        .grants
        .get(node)?
        .for_origin(origin)
        .filter(|grant| !grant.released)?;
    clock
        .end_of(grant)
        .checked_sub(boot_ms)
        .filter(|left| *left > 0)
}

fn directive_of<'a>(
    installation: &'a Installation,
    issued: &Issued,
) -> Option<(&'a LogControl, &'a DirectiveState)> {
    let log = installation.logs.get(&issued.log)?;
    Some((log, log.directives.get(&issued.epoch)?))
}

/// Waits for the words of the provider and of every witness.
async fn prove(
    executor: &Executor,
    progress: &Progress,
    issued: &Issued,
    trust: String,
) -> Result<IsolationProof, Trouble> {
    let mut changes = executor.node.board.changes();
    loop {
        changes.mark_unchanged();
        let (provider, witness) = executor.node.board.read(|installation| {
            (
                provider(executor, installation, issued),
                witnesses::said(executor, installation, issued, "frozen"),
            )
        });
        let missing = match (provider, witness) {
            (Ok(provider), Ok(witness)) => {
                return Ok(IsolationProof {
                    provider,
                    witness,
                    trust,
                });
            }
            (provider, witness) => {
                let mut missing: Vec<String> = provider.err().into_iter().collect();
                missing.extend(witness.err().into_iter().flatten());
                missing
            }
        };
        let text = format!(
            "fenced under directive {}; isolation waits for {}",
            issued.epoch,
            missing.join("; ")
        );
        progress.say(text, missing.clone(), missing).await;
        // The board lives as long as this.
        let _ = changes.changed().await;
    }
}

/// What the provider did with the key, by the node's signed word; a node that is silent can be done without only where disabling would stop no copy anyway.
fn provider(
    executor: &Executor,
    installation: &Installation,
    issued: &Issued,
) -> Result<String, String> {
    let (log, directive) = directive_of(installation, issued).ok_or("the directive")?;
    let name = directive_input(&directive.directive, "origin").unwrap_or_default();
    let origin = log
        .origin(name)
        .ok_or_else(|| format!("the origin {name}"))?;
    let results = acknowledgement::of_node(executor, installation, directive, &origin.node);
    if let Ok(Some(results)) = &results
        && let Some(words) = results.get("provider")
    {
        return Ok(format!("{}: {words}", origin.node));
    }
    let can_disable = |it: &Signer| it.provider_can_disable;
    if !origin.signers.iter().any(can_disable) {
        // A node that refuses, or is in other hands, must not be able to hold up containment: its permit has run out.
        let refusal = acknowledgement::refusal_of(executor, installation, directive, &origin.node);
        let silence = match (results, refusal) {
            (Ok(None), Ok(Some(reason))) => {
                format!("{} refused the directive: {reason}", origin.node)
            }
            (Err(reason), _) | (Ok(None), Err(reason)) => reason,
            (Ok(None), Ok(None)) => format!("{} has not acknowledged", origin.node),
            (Ok(Some(_)), _) => format!("{} does not say what its provider did", origin.node),
        };
        return Ok(format!(
            "cannot: the {} provider cannot stop copies of a key ({silence})",
            origin.provider
        ));
    }
    let keys: Vec<_> = origin
        .signers
        .iter()
        .map(|it| format!("the provider {} disabled key {}", it.provider, it.key_id))
        .collect();
    Err(format!(
        "{}: has not said that {}",
        origin.node,
        keys.join(" and ")
    ))
}
