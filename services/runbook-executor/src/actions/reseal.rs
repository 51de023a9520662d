//! Sealing the covered leaves again.

use std::collections::BTreeMap;

use sealwarden_domain::log_control::{DirectiveState, LogControl};
use sealwarden_engine::ExecuteError;

use super::attempt::{Attempt, Observation, Outputs, Progress, Trouble};
use super::directive;
use crate::executor::Executor;

pub(super) async fn execute(
    executor: &Executor,
    attempt: &Attempt,
    progress: &Progress,
) -> Result<Outputs, Trouble> {
    directive::perform(executor, attempt, progress, counts).await
}

pub(super) async fn observe(
    executor: &Executor,
    attempt: &Attempt,
) -> Result<Observation, ExecuteError> {
    directive::observe(executor, attempt, counts).await
}

/// The node signed how many it sealed again and how many it reports.
fn counts(
    _log: &LogControl,
    directive: &DirectiveState,
    results: &BTreeMap<String, String>,
) -> Result<Outputs, String> {
    ["resealed", "reported"]
        .into_iter()
        .map(|name| {
            let count = results.get(name).and_then(|text| text.parse::<u64>().ok());
            let missing = || {
                format!(
                    "the acknowledgement of directive {} gives no count {name:?}",
                    directive.directive.epoch
                )
            };
            Ok((name.to_owned(), count.ok_or_else(missing)?.to_string()))
        })
        .collect()
}
