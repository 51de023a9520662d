//! Sealing the evidence as it is now.

use sealwarden_domain::incident::{Command as IncidentCommand, Incident};
use sealwarden_engine::ExecuteError;
use sealwarden_wire::event::v1::EvidenceSealed;

use super::attempt::{Attempt, Observation, Outputs, Trouble};
use crate::evidence::{EvidenceError, Place, Sealed};
use crate::executor::Executor;

pub(super) async fn execute(executor: &Executor, attempt: &Attempt) -> Result<Outputs, Trouble> {
    let sealed = executor
        .evidence
        .snapshot(&place(attempt), &attempt.state, &attempt.key)
        .await
        .map_err(trouble)?;
    executor
        .incident(
            &attempt.incident,
            IncidentCommand::AddEvidence(event(attempt, &sealed)),
        )
        .await?;
    Ok(outputs(&sealed))
}

/// The bundle has one place, and the incident's stream one event of it.
pub(super) async fn observe(
    executor: &Executor,
    attempt: &Attempt,
) -> Result<Observation, ExecuteError> {
    let sealed = match executor.evidence.find(&place(attempt)).await {
        Ok(Some(sealed)) => sealed,
        Ok(None) => {
            return Ok(Observation::NotDone(
                "there is no finished bundle of this step".to_owned(),
            ));
        }
        Err(EvidenceError::Execute(error)) => return Err(error),
        Err(error) => return Ok(Observation::CannotTell(error.to_string())),
    };
    let incident = executor
        .node
        .stream::<Incident>("incident", &attempt.incident)
        .await?;
    let recorded = incident
        .state()
        .evidence
        .iter()
        .any(|known| known.manifest_sha256 == sealed.manifest_sha256);
    Ok(if recorded {
        Observation::Done(outputs(&sealed))
    } else {
        Observation::Underway("the bundle is sealed and not yet recorded".to_owned())
    })
}

fn place(attempt: &Attempt) -> Place {
    Place {
        incident: attempt.incident.clone(),
        run: attempt.run.clone(),
        step: attempt.id.step.clone(),
        iteration: attempt.id.iteration,
    }
}

fn event(attempt: &Attempt, sealed: &Sealed) -> EvidenceSealed {
    EvidenceSealed {
        incident: attempt.incident.clone(),
        run: attempt.run.clone(),
        bundle: sealed.bundle.clone(),
        manifest_sha256: sealed.manifest_sha256.clone(),
        files: sealed.files,
        seal: sealed.seal.clone(),
    }
}

fn outputs(sealed: &Sealed) -> Outputs {
    Outputs::from([
        ("bundle".to_owned(), sealed.bundle.clone()),
        ("digest".to_owned(), sealed.manifest_sha256.clone()),
    ])
}

fn trouble(error: EvidenceError) -> Trouble {
    match error {
        EvidenceError::Execute(error) => error.into(),
        error @ (EvidenceError::Io(_) | EvidenceError::Log(_) | EvidenceError::Sign(_)) => {
            Trouble::unavailable(error.to_string())
        }
        error @ EvidenceError::Name(_) => Trouble::refused(error.to_string()),
        error @ EvidenceError::Damaged { .. } => Trouble::damaged(error.to_string()),
    }
}
