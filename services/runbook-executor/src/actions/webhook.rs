//! Telling a system outside to do something, once.

use std::time::Duration;

use sealwarden_domain::run::Failure;
use sealwarden_engine::ExecuteError;
use sealwarden_eventlog::Environment;
use sealwarden_runbook::{Action, Effect};

use super::attempt::{Attempt, Observation, Outputs, Trouble};
use crate::executor::Executor;
use crate::webhooks::{Call, Outcome, Said, Webhook};

pub(super) async fn execute(executor: &Executor, attempt: &Attempt) -> Result<Outputs, Trouble> {
    match call(executor, attempt)?.post().await {
        Outcome::Done(said) => Ok(outputs(said)),
        Outcome::NotDone(failure) => Err(Trouble::NotDone(failure)),
        Outcome::Unclear(reason) => Err(Trouble::Unknown(reason)),
    }
}

/// Asks the target, or repeats the call where the target takes that for the same one. While the attempt's time lasts an answer that tells nothing is asked for again;
/// after that a person is asked.
pub(super) async fn observe(
    executor: &Executor,
    attempt: &Attempt,
) -> Result<Observation, ExecuteError> {
    let call = match call(executor, attempt) {
        Ok(call) => call,
        Err(Trouble::NotDone(Failure { reason, .. }) | Trouble::Unknown(reason)) => {
            return Ok(Observation::CannotTell(reason));
        }
    };
    let seen = match &call.webhook.observe_url {
        Some(url) => looked(&call, url).await,
        None if call.webhook.idempotent => repeated(&call).await,
        None => {
            return Ok(Observation::CannotTell(format!(
                "webhook {} names no observe_url and is not idempotent: ask its people whether the call with the key {} was done",
                call.target, call.key
            )));
        }
    };
    match seen {
        Outcome::Done(said) => Ok(Observation::Done(outputs(said))),
        Outcome::NotDone(failure) => Ok(Observation::NotDone(failure.reason)),
        Outcome::Unclear(reason) if is_over(executor, attempt) => {
            Ok(Observation::CannotTell(format!(
                "{reason}; the step's time is over: ask the people of webhook {} whether the call was done",
                call.target
            )))
        }
        Outcome::Unclear(reason) => Err(ExecuteError::Unavailable(reason)),
    }
}

/// What the target says of the key. That it knows none counts at once only if posting again does no harm: a call of a process that died may still be on its way.
async fn looked(call: &Call<'_>, url: &str) -> Outcome {
    let first = call.look(url).await;
    if call.webhook.idempotent || !matches!(first, Outcome::NotDone(_)) {
        return first;
    }
    tokio::time::sleep(Duration::from_millis(call.webhook.timeout_ms)).await;
    call.look(url).await
}

/// The call once more. What the target refuses now it may have done before, so only its yes counts.
async fn repeated(call: &Call<'_>) -> Outcome {
    match call.post().await {
        Outcome::NotDone(Failure { reason, .. }) => {
            Outcome::Unclear(format!("{reason}; of the call before, that says nothing"))
        }
        outcome @ (Outcome::Done(_) | Outcome::Unclear(_)) => outcome,
    }
}

fn is_over(executor: &Executor, attempt: &Attempt) -> bool {
    let step = attempt.state.step(&attempt.id.step);
    let deadline = step
        .and_then(|step| step.phase.attempt())
        .map_or(0, |attempt| attempt.deadline_ms);
    executor.node.clock.now().wall_ms >= deadline
}

fn call<'a>(executor: &'a Executor, attempt: &'a Attempt) -> Result<Call<'a>, Trouble> {
    let target = attempt.input("target")?;
    let refused = |reason: String| Err(Trouble::refused(format!("webhook {target:?} {reason}")));
    let webhooks = &executor.config.webhooks;
    let Some(webhook) = webhooks.get(target) else {
        let names: Vec<&str> = webhooks.keys().map(String::as_str).collect();
        return refused(format!(
            "is not in the settings (runbook-executor, webhooks), which name: {}",
            if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(", ")
            }
        ));
    };
    if let Some(reason) = refusal(webhook, attempt.action, executor.node.environment) {
        return refused(reason);
    }
    let id = &attempt.id;
    Ok(Call {
        target,
        webhook,
        key: format!(
            "{}/{}/{}/{}",
            executor.node.installation, attempt.run, id.step, id.iteration
        ),
        body: attempt.input("body")?,
    })
}

/// Why this action must not call the target here.
fn refusal(webhook: &Webhook, action: Action, environment: Environment) -> Option<String> {
    if webhook.destructive && action.spec().effect == Effect::Reversible {
        return Some(format!(
            "is destructive: {action} does not call it, {} does",
            Action::CallWebhookDestructive
        ));
    }
    (environment == Environment::Drill && !webhook.is_local())
        .then(|| "is not on this machine: a drill acts on nothing outside".to_owned())
}

fn outputs(said: Said) -> Outputs {
    Outputs::from([
        ("status".to_owned(), said.status.to_string()),
        ("answer".to_owned(), said.text),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drill_stays_here_and_what_is_final_has_an_action_of_its_own() {
        let read = |url: &str, destructive: bool| -> Webhook {
            let json =
                serde_json::json!({"url": url, "token_file": "token", "destructive": destructive});
            serde_json::from_value(json).unwrap()
        };
        let (here, there) = ("http://127.0.0.1/", "https://deploy.example.com/");
        let (plain, last) = (Action::CallWebhook, Action::CallWebhookDestructive);
        let (real, drill) = (Environment::Production, Environment::Drill);
        for (url, destructive, action, environment, refused) in [
            (there, false, plain, real, None),
            (there, false, last, real, None),
            (there, true, last, real, None),
            (there, true, plain, real, Some("is destructive")),
            (here, false, plain, drill, None),
            (here, true, plain, drill, Some("is destructive")),
            (there, false, plain, drill, Some("a drill acts on nothing")),
            (there, true, last, drill, Some("a drill acts on nothing")),
        ] {
            let reason = refusal(&read(url, destructive), action, environment);
            match (reason, refused) {
                (None, None) => {}
                (Some(reason), Some(words)) => assert!(reason.contains(words), "{reason}"),
                (reason, refused) => panic!("{url} {action}: {reason:?} instead of {refused:?}"),
            }
        }
    }
}
