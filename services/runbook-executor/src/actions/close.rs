//! Closing the incident.

use sealwarden_domain::incident::{Command as IncidentCommand, Incident};
use sealwarden_domain::run::Phase;
use sealwarden_engine::ExecuteError;
use sealwarden_wire::event::v1::IncidentStage;

use super::attempt::{Attempt, Observation, Outputs, Trouble};
use crate::environment::rfc3339;
use crate::executor::Executor;

pub(super) async fn execute(executor: &Executor, attempt: &Attempt) -> Result<Outputs, Trouble> {
    if let Some((failed, step)) = attempt
        .state
        .steps()
        .iter()
        .find(|(_, step)| step.phase == Phase::Failed)
    {
        let reason = format!(
            "the incident is not closed while step {failed} has failed: {}",
            step.error
        );
        return Err(Trouble::refused(reason));
    }
    let reached = IncidentCommand::Reach {
        stage: IncidentStage::Closed,
        reason: format!(
            "step {} of run {}: everything before it is done",
            attempt.id.step, attempt.run
        ),
    };
    executor.incident(&attempt.incident, reached).await?;
    match closed_at(executor, attempt).await? {
        Some(outputs) => Ok(outputs),
        None => Err(Trouble::Unknown(
            "the incident was closed and its stream does not say so".to_owned(),
        )),
    }
}

pub(super) async fn observe(
    executor: &Executor,
    attempt: &Attempt,
) -> Result<Observation, ExecuteError> {
    Ok(match closed_at(executor, attempt).await? {
        Some(outputs) => Observation::Done(outputs),
        None => Observation::NotDone("the incident is open".to_owned()),
    })
}

async fn closed_at(
    executor: &Executor,
    attempt: &Attempt,
) -> Result<Option<Outputs>, ExecuteError> {
    let incident = executor
        .node
        .stream::<Incident>("incident", &attempt.incident)
        .await?;
    let closed = incident.state().reached_at(IncidentStage::Closed);
    Ok(closed.map(|ms| Outputs::from([("closed-at".to_owned(), rfc3339(ms))])))
}
