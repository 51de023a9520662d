//! The tasks of a run: performing and observing attempts.

use std::sync::Arc;
use std::time::Duration;

use sealwarden_engine::ExecuteError;
use tokio::sync::mpsc;
use tracing::Instrument as _;

use crate::actions::{self, Attempt, Observation, Outputs, Progress, Said, Trouble};
use crate::executor::Executor;

/// How a task ended.
#[derive(Debug)]
pub(super) enum Work {
    /// The attempt answered.
    Performed(Result<Outputs, Trouble>),
    /// It did not answer in time.
    Overdue,
    /// It was looked at.
    Observed(Result<Observation, ExecuteError>),
}

/// Performs an attempt, within `left` if that is given.
pub(super) async fn perform(
    executor: Arc<Executor>,
    attempt: Attempt,
    left: Option<Duration>,
    said: mpsc::Sender<Said>,
) -> Work {
    let span = tracing::info_span!("step", step = attempt.id.step, action = %attempt.action, attempt = attempt.id.attempt);
    let progress = Progress::new(attempt.id.clone(), said);
    let performing = async {
        let Ok(_place) = executor.places.acquire().await else {
            return Err(Trouble::NotDone("the executor is ending".to_owned()));
        };
        actions::execute(&executor, &attempt, &progress).await
    }
    .instrument(span);
    match left {
        None => Work::Performed(performing.await),
        Some(left) => tokio::time::timeout(left, performing)
            .await
            .map_or(Work::Overdue, Work::Performed),
    }
}

/// Looks whether an attempt's effect happened.
pub(super) async fn observe(executor: Arc<Executor>, attempt: Attempt) -> Work {
    let span = tracing::info_span!("observe", step = attempt.id.step, action = %attempt.action, attempt = attempt.id.attempt);
    Work::Observed(actions::observe(&executor, &attempt).instrument(span).await)
}
