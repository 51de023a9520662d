//! Sending new seals into the durable queue. Which ones, the step's `mode` says.

use sealwarden_engine::ExecuteError;

use super::attempt::{Attempt, Observation, Outputs, Progress, Trouble};
use super::directive;
use crate::executor::Executor;

pub(super) async fn execute(
    executor: &Executor,
    attempt: &Attempt,
    progress: &Progress,
) -> Result<Outputs, Trouble> {
    directive::perform(executor, attempt, progress, directive::only_epoch).await
}

pub(super) async fn observe(
    executor: &Executor,
    attempt: &Attempt,
) -> Result<Observation, ExecuteError> {
    directive::observe(executor, attempt, directive::only_epoch).await
}
