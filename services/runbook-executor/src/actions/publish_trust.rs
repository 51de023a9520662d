//! Publishing the next trust bundle.

use sealwarden_engine::ExecuteError;
use sealwarden_wire::event::v1::TrustPublished;

use super::attempt::{Attempt, Observation, Outputs, Trouble};
use crate::executor::Executor;
use crate::trust::PublishError;

pub(super) async fn execute(executor: &Executor, attempt: &Attempt) -> Result<Outputs, Trouble> {
    match executor
        .trust
        .publish(&attempt.place_words(), &attempt.incident)
        .await
    {
        Ok(published) => Ok(outputs(&published)),
        Err(error) => Err(trouble(error)),
    }
}

/// A version's reason names run, step and iteration.
pub(super) async fn observe(
    executor: &Executor,
    attempt: &Attempt,
) -> Result<Observation, ExecuteError> {
    let facts = executor.trust.facts().await?;
    Ok(match facts.published_for(&attempt.place_words()) {
        Some(published) => Observation::Done(outputs(published)),
        None => Observation::NotDone("no trust bundle names this run and step".to_owned()),
    })
}

fn outputs(published: &TrustPublished) -> Outputs {
    Outputs::from([
        ("version".to_owned(), published.version.to_string()),
        ("digest".to_owned(), published.digest.clone()),
    ])
}

/// What went wrong with trust, for an attempt.
pub(super) fn trouble(error: PublishError) -> Trouble {
    match error {
        PublishError::Execute(error) => error.into(),
        error @ (PublishError::NoRoot
        | PublishError::NoWitness
        | PublishError::Policy(_)
        | PublishError::Root(_)
        | PublishError::Bundle(_)
        | PublishError::Vkey(_)
        | PublishError::Sign(_)
        | PublishError::Time(_)) => Trouble::refused(error.to_string()),
    }
}
