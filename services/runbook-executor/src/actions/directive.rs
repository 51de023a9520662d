//! Ordering nodes: issue once, wait for the writer's signed word.

use std::collections::BTreeMap;

use sealwarden_domain::log_control::{
    Command, DirectiveState, LogControl, Order, Origin, directive_input,
};
use sealwarden_domain::run::{directive_draft, quorum_stands};
use sealwarden_engine::ExecuteError;
use sealwarden_wire::event::v1::DirectiveKind;

use super::acknowledgement;
use super::attempt::{Attempt, Observation, Outputs, Progress, Trouble};
use crate::executor::Executor;

/// A directive of this step in the log's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Issued {
    /// The log.
    pub(super) log: String,
    /// Its epoch.
    pub(super) epoch: u64,
}

/// Turns what the node answered into the step's outputs.
pub(super) type ToOutputs =
    fn(&LogControl, &DirectiveState, &BTreeMap<String, String>) -> Result<Outputs, String>;

/// The epoch is all that the step leaves.
#[expect(
    clippy::unnecessary_wraps,
    reason = "it is a `ToOutputs`, and others can fail"
)]
pub(super) fn only_epoch(
    _log: &LogControl,
    directive: &DirectiveState,
    _results: &BTreeMap<String, String>,
) -> Result<Outputs, String> {
    Ok(Outputs::from([(
        "epoch".to_owned(),
        directive.directive.epoch.to_string(),
    )]))
}

/// Issues the step's directive with the approvals that stand, unless it stands in the log already.
pub(super) async fn issue(executor: &Executor, attempt: &Attempt) -> Result<Issued, Trouble> {
    let log = attempt.input("log")?.to_owned();
    if let Some(epoch) = ordered(executor, attempt, &log).await? {
        return Ok(Issued { log, epoch });
    }
    let order = draft(executor, attempt)?;
    let done = executor
        .control(&log, attempt.meta(executor), Command::Issue(order))
        .await?;
    executor.node.board.reached(done.position).await;
    let epoch = ordered(executor, attempt, &log).await?.ok_or_else(|| {
        Trouble::Unknown("the directive was issued and is not in the log's stream".to_owned())
    })?;
    tracing::info!(
        run = attempt.run,
        step = attempt.id.step,
        log,
        epoch,
        "a directive is issued"
    );
    Ok(Issued { log, epoch })
}

/// The epoch of the step's directive, on the log's newest state.
async fn ordered(
    executor: &Executor,
    attempt: &Attempt,
    log: &str,
) -> Result<Option<u64>, ExecuteError> {
    let stream = executor.log(log).await?;
    let mut stream = stream.lock().await;
    stream.refresh().await?;
    let epoch = stream
        .state()
        .ordered(&attempt.run, &attempt.id.step, attempt.id.iteration);
    let position = stream.head().position;
    drop(stream);
    if epoch.is_some() {
        executor.node.board.reached(position).await;
    }
    Ok(epoch)
}

fn draft(executor: &Executor, attempt: &Attempt) -> Result<Order, Trouble> {
    let now = executor.node.clock.now();
    let (id, state) = (&attempt.id.step, &attempt.state);
    if !quorum_stands(state, id, now) {
        let reason = "its approvals expired before its directive was issued; approve it again";
        return Err(Trouble::refused(reason));
    }
    let draft = directive_draft(state, id, now)
        .ok_or_else(|| Trouble::refused(format!("step {id} sends no directive")))?;
    Ok(Order {
        kind: draft.kind(),
        log: draft.log,
        incident: draft.incident,
        run: draft.run,
        step: draft.step,
        iteration: draft.iteration,
        runbook: draft.runbook,
        runbook_digest: draft.runbook_digest,
        inputs: draft.inputs,
        approvals: draft.approvals,
        requesters: draft.requesters,
    })
}

/// Issues the directive and waits until the node that writes the log has enforced it.
pub(super) async fn perform(
    executor: &Executor,
    attempt: &Attempt,
    progress: &Progress,
    outputs: ToOutputs,
) -> Result<Outputs, Trouble> {
    let issued = issue(executor, attempt).await?;
    let mut changes = executor.node.board.changes();
    loop {
        changes.mark_unchanged();
        match look(executor, &issued, outputs) {
            Look::Done(outputs) => return Ok(outputs),
            Look::Refused(reason) => return Err(Trouble::refused(reason)),
            Look::Waiting(missing) => {
                let text = format!(
                    "directive {} is issued; waiting for {missing}",
                    issued.epoch
                );
                progress
                    .say(text, vec![missing.clone()], vec![missing])
                    .await;
            }
        }
        // The board lives as long as this.
        let _ = changes.changed().await;
    }
}

/// Observes the directive of a step.
pub(super) async fn observe(
    executor: &Executor,
    attempt: &Attempt,
    outputs: ToOutputs,
) -> Result<Observation, ExecuteError> {
    let Ok(log) = attempt.input("log") else {
        return Ok(Observation::CannotTell("its inputs name no log".to_owned()));
    };
    let Some(epoch) = ordered(executor, attempt, log).await? else {
        return Ok(Observation::NotDone(
            "its directive was never issued".to_owned(),
        ));
    };
    let issued = Issued {
        log: log.to_owned(),
        epoch,
    };
    Ok(match look(executor, &issued, outputs) {
        Look::Done(outputs) => Observation::Done(outputs),
        Look::Refused(reason) => Observation::NotDone(reason),
        Look::Waiting(missing) => Observation::Underway(format!(
            "directive {epoch} is issued; waiting for {missing}"
        )),
    })
}

enum Look {
    Done(Outputs),
    Refused(String),
    Waiting(String),
}

fn look(executor: &Executor, issued: &Issued, outputs: ToOutputs) -> Look {
    executor.node.board.read(|installation| {
        let Some(log) = installation.logs.get(&issued.log) else {
            return Look::Waiting(format!("the log {}", issued.log));
        };
        let directive = log.directives.get(&issued.epoch);
        let Some((directive, writer)) = directive.zip(directive.and_then(|it| obeys(log, it)))
        else {
            return Look::Waiting(format!("directive {}", issued.epoch));
        };
        let refusal = acknowledgement::refusal_of(executor, installation, directive, &writer.node);
        if let Ok(Some(reason)) = refusal {
            return Look::Refused(format!(
                "node {} refuses directive {}: {reason}",
                writer.node, issued.epoch
            ));
        }
        match acknowledgement::of_node(executor, installation, directive, &writer.node) {
            Err(reason) => Look::Waiting(reason),
            Ok(None) if refusal.is_err() => Look::Waiting(refusal.err().unwrap_or_default()),
            Ok(None) => Look::Waiting(format!("the acknowledgement of {}", writer.node)),
            Ok(Some(results)) => match outputs(log, directive, &results) {
                Ok(outputs) => Look::Done(outputs),
                Err(reason) => Look::Refused(reason),
            },
        }
    })
}

/// The origin whose writer has to obey: an order about a key is for the node that has it, all others are for the current one's.
fn obeys<'a>(log: &'a LogControl, directive: &DirectiveState) -> Option<&'a Origin> {
    match directive.kind() {
        DirectiveKind::RevokeKey | DirectiveKind::DestroyKey | DirectiveKind::RestoreKey => {
            log.origin(directive_input(&directive.directive, "origin")?)
        }
        DirectiveKind::Unspecified
        | DirectiveKind::IsolateKey
        | DirectiveKind::ReadOnly
        | DirectiveKind::RotateOrigin
        | DirectiveKind::Reseal
        | DirectiveKind::Open
        | DirectiveKind::Queue
        | DirectiveKind::QueueNoncritical => log.current(),
    }
}
