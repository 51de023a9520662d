//! Opening a new origin with a new key.

use std::collections::BTreeMap;

use sealwarden_domain::incident::Command as IncidentCommand;
use sealwarden_domain::log_control::{DirectiveState, LogControl};
use sealwarden_engine::ExecuteError;
use sealwarden_wire::event::v1::IncidentStage;

use super::attempt::{Attempt, Observation, Outputs, Progress, Trouble};
use super::directive;
use crate::executor::Executor;

pub(super) async fn execute(
    executor: &Executor,
    attempt: &Attempt,
    progress: &Progress,
) -> Result<Outputs, Trouble> {
    let reached = IncidentCommand::Reach {
        stage: IncidentStage::Recovering,
        reason: format!(
            "step {} of run {} opens a new origin",
            attempt.id.step, attempt.run
        ),
    };
    executor.incident(&attempt.incident, reached).await?;
    directive::perform(executor, attempt, progress, opened).await
}

pub(super) async fn observe(
    executor: &Executor,
    attempt: &Attempt,
) -> Result<Observation, ExecuteError> {
    directive::observe(executor, attempt, opened).await
}

/// The origin stands in the same commit as the acknowledgement.
fn opened(
    log: &LogControl,
    directive: &DirectiveState,
    _results: &BTreeMap<String, String>,
) -> Result<Outputs, String> {
    let opened = directive
        .opened
        .as_deref()
        .and_then(|origin| log.origin(origin));
    let new = opened.ok_or_else(|| {
        format!(
            "directive {} was acknowledged and no origin was opened",
            directive.directive.epoch
        )
    })?;
    Ok(Outputs::from([
        ("origin".to_owned(), new.origin.clone()),
        ("vkey".to_owned(), new.vkey.clone()),
        ("epoch".to_owned(), directive.directive.epoch.to_string()),
    ]))
}
