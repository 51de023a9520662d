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

/// What is said of work whose executor lost its lease meanwhile.
const LEASE_IS_OVER: &str =
    "this executor's lease ran out while it was under way; others may have taken it over";

/// Performs an attempt under the lease of this generation, within `left` if that is given.
pub(super) async fn perform(
    executor: Arc<Executor>,
    attempt: Attempt,
    left: Option<Duration>,
    said: mpsc::Sender<Said>,
    generation: u64,
) -> Work {
    let span = tracing::info_span!("step", step = attempt.id.step, action = %attempt.action, attempt = attempt.id.attempt);
    let progress = Progress::new(attempt.id.clone(), said);
    let performing = async {
        let Ok(_place) = executor.places.acquire().await else {
            return Err(Trouble::interrupted("the executor is ending"));
        };
        actions::execute(&executor, &attempt, &progress).await
    }
    .instrument(span);
    let performing = executor.lease.fenced(generation, performing);
    let performing = async {
        let unknown = || Err(Trouble::Unknown(LEASE_IS_OVER.to_owned()));
        performing.await.unwrap_or_else(unknown)
    };
    match left {
        None => Work::Performed(performing.await),
        Some(left) => tokio::time::timeout(left, performing)
            .await
            .map_or(Work::Overdue, Work::Performed),
    }
}

/// Looks whether an attempt's effect happened, under the lease of this generation: looking may mean to repeat a call.
pub(super) async fn observe(executor: Arc<Executor>, attempt: Attempt, generation: u64) -> Work {
    let span = tracing::info_span!("observe", step = attempt.id.step, action = %attempt.action, attempt = attempt.id.attempt);
    let observing = actions::observe(&executor, &attempt).instrument(span);
    let observed = executor.lease.fenced(generation, observing).await;
    let over = || Err(ExecuteError::Unavailable(LEASE_IS_OVER.to_owned()));
    Work::Observed(observed.unwrap_or_else(over))
}
