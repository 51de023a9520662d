//! Performing and observing the built-in operations: one file each, one closed dispatch.
//!
//! Each of them looks before it acts: whatever stands there already under the step's key is taken for done and never done twice.

mod acknowledgement;
mod affected;
mod archive;
mod attempt;
mod close;
mod directive;
mod divert;
mod drain;
mod isolate_key;
mod key;
mod peer;
mod publish_trust;
mod read_only;
mod reseal;
mod resume;
mod reverify;
mod rotate_origin;
mod snapshot;
pub(crate) mod vendor;
mod verdicts;
mod webhook;
mod witnesses;

pub(crate) use attempt::{Attempt, Observation, Outputs, Progress, Said, Trouble};

use sealwarden_engine::ExecuteError;
use sealwarden_runbook::Action;

use crate::executor::Executor;

/// Performs an attempt. Cancelling it at any point is safe: another call, in this life or the next, goes on from what is there.
pub(crate) async fn execute(
    executor: &Executor,
    attempt: &Attempt,
    progress: &Progress,
) -> Result<Outputs, Trouble> {
    match attempt.action {
        Action::SnapshotEvidence => snapshot::execute(executor, attempt).await,
        Action::IsolateKey => isolate_key::execute(executor, attempt, progress).await,
        Action::ReadOnly => read_only::execute(executor, attempt, progress).await,
        Action::Divert => divert::execute(executor, attempt, progress).await,
        Action::RevokeKey => key::revoke(executor, attempt, progress).await,
        Action::DestroyKey => key::destroy(executor, attempt, progress).await,
        Action::RestoreKey => key::restore(executor, attempt, progress).await,
        Action::RotateOrigin => rotate_origin::execute(executor, attempt, progress).await,
        Action::PublishTrust => publish_trust::execute(executor, attempt).await,
        Action::FindAffected => affected::execute(executor, attempt, progress).await,
        Action::Reseal => reseal::execute(executor, attempt, progress).await,
        Action::Reverify => reverify::execute(executor, attempt, progress).await,
        Action::Resume => resume::execute(executor, attempt, progress).await,
        Action::DrainQueue => drain::execute(executor, attempt, progress).await,
        Action::QuarantineArchive => archive::quarantine(executor, attempt, progress).await,
        Action::RestoreArchive => archive::restore(executor, attempt, progress).await,
        Action::RevalidateArchive => archive::revalidate(executor, attempt, progress).await,
        Action::CompareVerdicts => verdicts::compare(executor, attempt, progress).await,
        Action::ReplayVerdicts => verdicts::replay(executor, attempt, progress).await,
        Action::ActivateFallback => vendor::activate(executor, attempt, progress).await,
        Action::TakeBackVendor => vendor::take_back(executor, attempt, progress).await,
        Action::CallWebhook | Action::CallWebhookDestructive => {
            webhook::execute(executor, attempt).await
        }
        Action::Confirm => Err(Trouble::refused(
            "people perform this step; it ends by their confirmations",
        )),
        Action::CloseIncident => close::execute(executor, attempt).await,
    }
}

/// Finds out whether an attempt's effect happened, without performing anything; only a webhook that takes a repeated call for the
/// same one is observed by repeating it. An error means that observing must be tried again.
pub(crate) async fn observe(
    executor: &Executor,
    attempt: &Attempt,
) -> Result<Observation, ExecuteError> {
    match attempt.action {
        Action::SnapshotEvidence => snapshot::observe(executor, attempt).await,
        Action::IsolateKey => isolate_key::observe(executor, attempt).await,
        Action::ReadOnly => read_only::observe(executor, attempt).await,
        Action::Divert => divert::observe(executor, attempt).await,
        Action::RevokeKey => key::observe_revoked(executor, attempt).await,
        Action::DestroyKey => key::observe_destroyed(executor, attempt).await,
        Action::RestoreKey => key::observe_restored(executor, attempt).await,
        Action::RotateOrigin => rotate_origin::observe(executor, attempt).await,
        Action::PublishTrust => publish_trust::observe(executor, attempt).await,
        // What was quarantined or restored is found so.
        Action::QuarantineArchive | Action::RestoreArchive => Ok(Observation::NotDone(
            "doing it again goes on where it stopped".to_owned(),
        )),
        Action::FindAffected
        | Action::Reverify
        | Action::DrainQueue
        | Action::RevalidateArchive
        | Action::CompareVerdicts
        | Action::ReplayVerdicts => Ok(Observation::NotDone(
            "it changes nothing, so it is simply done again".to_owned(),
        )),
        Action::ActivateFallback => vendor::observe_activated(executor, attempt).await,
        Action::TakeBackVendor => vendor::observe_taken_back(executor, attempt).await,
        Action::Reseal => reseal::observe(executor, attempt).await,
        Action::Resume => resume::observe(executor, attempt).await,
        Action::CallWebhook | Action::CallWebhookDestructive => {
            webhook::observe(executor, attempt).await
        }
        Action::Confirm => Ok(Observation::CannotTell(
            "only the people who perform this step know".to_owned(),
        )),
        Action::CloseIncident => close::observe(executor, attempt).await,
    }
}
