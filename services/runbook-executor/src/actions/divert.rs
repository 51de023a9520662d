//! Sending new seals into the durable queue. Which ones, the step's `mode` says.

use sealwarden_domain::incident::Command as IncidentCommand;
use sealwarden_engine::ExecuteError;
use sealwarden_runbook::Action;
use sealwarden_wire::event::v1::IncidentStage;

use super::attempt::{Attempt, Observation, Outputs, Progress, Trouble};
use super::directive;
use crate::executor::Executor;

pub(super) async fn execute(
    executor: &Executor,
    attempt: &Attempt,
    progress: &Progress,
) -> Result<Outputs, Trouble> {
    let outputs = directive::perform(executor, attempt, progress, directive::only_epoch).await?;
    if contains(attempt) {
        let reached = IncidentCommand::Reach {
            stage: IncidentStage::Contained,
            reason: "nothing is lost: what cannot be sealed at once waits in the durable queue"
                .to_owned(),
        };
        executor.incident(&attempt.incident, reached).await?;
    }
    Ok(outputs)
}

/// Whether diverting is how this runbook contains the incident. Where something else stands in the runbook for that, a queue alone contains nothing.
fn contains(attempt: &Attempt) -> bool {
    attempt.state.pinned().is_some_and(|pinned| {
        pinned
            .runbook()
            .steps()
            .iter()
            .all(|step| match step.action {
                Action::IsolateKey | Action::RevokeKey | Action::QuarantineArchive => false,
                Action::SnapshotEvidence
                | Action::ReadOnly
                | Action::Divert
                | Action::DestroyKey
                | Action::RestoreKey
                | Action::RotateOrigin
                | Action::PublishTrust
                | Action::FindAffected
                | Action::Reseal
                | Action::Reverify
                | Action::Resume
                | Action::DrainQueue
                | Action::RestoreArchive
                | Action::RevalidateArchive
                | Action::CompareVerdicts
                | Action::ReplayVerdicts
                | Action::ActivateFallback
                | Action::TakeBackVendor
                | Action::CallWebhook
                | Action::CallWebhookDestructive
                | Action::Confirm
                | Action::CloseIncident => true,
            })
    })
}

pub(super) async fn observe(
    executor: &Executor,
    attempt: &Attempt,
) -> Result<Observation, ExecuteError> {
    directive::observe(executor, attempt, directive::only_epoch).await
}
