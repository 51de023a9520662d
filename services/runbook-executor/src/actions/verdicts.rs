//! Verifiers that others run: what they say of archived documents. The verification service asks and compares.

use sealwarden_domain::incident::Command as IncidentCommand;
use sealwarden_engine::Role;
use sealwarden_runbook::Action;
use sealwarden_telemetry::TraceContext;
use sealwarden_wire::event::v1::{IncidentStage, ReleaseCompared, VerdictsCompared};
use sealwarden_wire::verify::v1::CompareVerdictsRequest;
use sealwarden_wire::verify::v1::verifiers_client::VerifiersClient;

use super::attempt::{Attempt, Outputs, Progress, Trouble};
use super::peer::{CallError, channel, until_answered};
use crate::executor::Executor;

/// Stands where no release is named.
const NONE: &str = "none";

/// What its releases say, whatever that is.
pub(super) async fn compare(
    executor: &Executor,
    attempt: &Attempt,
    progress: &Progress,
) -> Result<Outputs, Trouble> {
    let verifier = attempt.input("verifier")?;
    let compared = until_answered(progress, "the verification service", || {
        ask(executor, verifier)
    })
    .await?;
    Ok(outputs(&compared))
}

/// All of its releases say what is known, or the step fails.
pub(super) async fn replay(
    executor: &Executor,
    attempt: &Attempt,
    progress: &Progress,
) -> Result<Outputs, Trouble> {
    let verifier = attempt.input("verifier")?;
    let compared = until_answered(progress, "the verification service", || {
        ask(executor, verifier)
    })
    .await?;
    if let Some(reason) = refusal(&compared) {
        let reason = format!("verifier {verifier}: {reason}");
        return Err(if compared.problem.is_empty() {
            Trouble::damaged(reason)
        } else {
            Trouble::unavailable(reason)
        });
    }
    let stage = if is_last(attempt) {
        IncidentStage::Revalidated
    } else {
        IncidentStage::Contained
    };
    let reason = format!(
        "verifier {verifier} says what is known of all {} that were put to it (releases {})",
        compared.compared,
        named(&compared.releases, |_| true)
    );
    let reached = IncidentCommand::Reach { stage, reason };
    executor.incident(&attempt.incident, reached).await?;
    Ok(outputs(&compared))
}

async fn ask(executor: &Executor, verifier: &str) -> Result<VerdictsCompared, CallError> {
    let channel = channel(executor, Role::Verification)?;
    let mut verifiers = VerifiersClient::with_interceptor(channel, TraceContext);
    let request = CompareVerdictsRequest {
        verifier: verifier.to_owned(),
    };
    let answer = verifiers.compare_verdicts(request).await?.into_inner();
    let nothing = || CallError::Refused("it answered without a comparison".to_owned());
    answer.compared.ok_or_else(nothing)
}

/// Whether no later step of the run replays verdicts again.
fn is_last(attempt: &Attempt) -> bool {
    attempt.state.pinned().is_none_or(|pinned| {
        let later = pinned.runbook().descendants(&attempt.id.step);
        !later
            .iter()
            .any(|step| pinned.action(step) == Some(Action::ReplayVerdicts))
    })
}

/// Why nobody should rely on it; none if all of it agreed.
fn refusal(compared: &VerdictsCompared) -> Option<String> {
    if let Some(first) = compared.differences.first() {
        return Some(format!(
            "{} of {} verdicts differ; the first: {} {} at release {}: {} instead of {} ({}); see `sealwarden verifier list`",
            compared.different,
            compared.compared,
            first.probe,
            first.object,
            first.release,
            first.said,
            first.expected,
            first.reason
        ));
    }
    if !compared.problem.is_empty() {
        return Some(format!("it does not answer: {}", compared.problem));
    }
    (compared.compared == 0).then(|| "it was asked nothing".to_owned())
}

fn outputs(compared: &VerdictsCompared) -> Outputs {
    let agreeing = named(&compared.releases, |it| it.different == 0);
    // While all of it differs, what agreed last is what one would go back to.
    let agreed = if agreeing == NONE && !compared.agreed_releases.is_empty() {
        compared.agreed_releases.join(" ")
    } else {
        agreeing
    };
    Outputs::from([
        (
            "differing".to_owned(),
            named(&compared.releases, |it| it.different > 0),
        ),
        ("agreed".to_owned(), agreed),
        ("compared".to_owned(), compared.compared.to_string()),
        ("different".to_owned(), compared.different.to_string()),
    ])
}

fn named(releases: &[ReleaseCompared], which: impl Fn(&ReleaseCompared) -> bool) -> String {
    let names: Vec<&str> = releases
        .iter()
        .filter(|it| which(it))
        .map(|it| it.release.as_str())
        .collect();
    if names.is_empty() {
        NONE.to_owned()
    } else {
        names.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use sealwarden_wire::event::v1::DifferentVerdict;

    use super::*;

    fn release(name: &str, different: u64) -> ReleaseCompared {
        ReleaseCompared {
            release: name.to_owned(),
            compared: 9,
            different,
            ..ReleaseCompared::default()
        }
    }

    #[test]
    fn any_difference_and_any_silence_is_refused() {
        let good = VerdictsCompared {
            compared: 9,
            releases: vec![release("1", 0)],
            ..VerdictsCompared::default()
        };
        assert_eq!(refusal(&good), None);
        let silent = VerdictsCompared {
            problem: "connection refused".to_owned(),
            ..good.clone()
        };
        assert!(refusal(&silent).unwrap().contains("connection refused"));
        let differs = VerdictsCompared {
            different: 1,
            differences: vec![DifferentVerdict::default()],
            ..good
        };
        assert!(refusal(&differs).is_some());
        assert!(refusal(&VerdictsCompared::default()).is_some());
    }

    #[test]
    fn where_to_go_back_to_is_what_agrees_now_or_what_agreed_last() {
        let mut compared = VerdictsCompared {
            releases: vec![release("1", 0), release("2", 4)],
            agreed_releases: vec!["0".to_owned()],
            ..VerdictsCompared::default()
        };
        let said = |it: &VerdictsCompared, name: &str| outputs(it)[name].clone();
        assert_eq!(
            (said(&compared, "agreed"), said(&compared, "differing")),
            ("1".to_owned(), "2".to_owned())
        );
        compared.releases.remove(0);
        assert_eq!(said(&compared, "agreed"), "0");
        compared.agreed_releases.clear();
        assert_eq!(said(&compared, "agreed"), NONE);
    }
}
