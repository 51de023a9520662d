//! Waiting until the sealing node seals everything at once and its durable queue is empty. What counts is what the node says of itself, not that somebody ordered it.

use std::time::Duration;

use sealwarden_domain::incident::Command as IncidentCommand;
use sealwarden_engine::Role;
use sealwarden_telemetry::TraceContext;
use sealwarden_wire::event::v1::IncidentStage;
use sealwarden_wire::seal::v1::sealing_client::SealingClient;
use sealwarden_wire::seal::v1::{StatusRequest, StatusResponse};

use super::attempt::{Attempt, Outputs, Progress, Trouble};
use super::peer::{CallError, channel};
use crate::executor::Executor;

/// Who is waited for.
const SERVICE: &str = "the sealing service";
/// The first pause between two looks; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

pub(super) async fn execute(
    executor: &Executor,
    attempt: &Attempt,
    progress: &Progress,
) -> Result<Outputs, Trouble> {
    let log = attempt.input("log")?;
    let reached = IncidentCommand::Reach {
        stage: IncidentStage::Recovering,
        reason: format!("sealing into {log} goes on; its queue drains"),
    };
    executor.incident(&attempt.incident, reached).await?;
    let mut pause = FIRST_PAUSE;
    let mut most = 0;
    // The attempt's deadline ends it.
    loop {
        match status(executor).await {
            Ok(status) if status.log != log => {
                return Err(Trouble::refused(format!(
                    "{} writes log {}, and not {log}; is the log's node announced?",
                    status.node, status.log
                )));
            }
            Ok(status) => {
                most = most.max(status.tickets);
                let Some(waits) = waits_for(&status) else {
                    return Ok(outputs(&status, most));
                };
                let kept = vec![status.mode.clone(), tenth(status.tickets, most)];
                progress.say(waits, vec![status.node], kept).await;
            }
            Err(CallError::Refused(reason)) => {
                return Err(Trouble::refused(format!("{SERVICE}: {reason}")));
            }
            Err(CallError::Away(reason)) => {
                let text = format!("{SERVICE}: {reason}; asking again");
                progress
                    .say(text, vec![SERVICE.to_owned()], vec![reason])
                    .await;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn status(executor: &Executor) -> Result<StatusResponse, CallError> {
    let channel = channel(executor, Role::Sealing)?;
    let mut sealing = SealingClient::with_interceptor(channel, TraceContext);
    Ok(sealing.status(StatusRequest {}).await?.into_inner())
}

/// What is still waited for, in words; none when everything is sealed at once and nothing waits.
fn waits_for(status: &StatusResponse) -> Option<String> {
    if status.mode != "open" {
        return Some(format!(
            "{} tickets wait; {} is in mode {}: {}",
            status.tickets, status.node, status.mode, status.reason
        ));
    }
    (status.tickets > 0).then(|| {
        format!(
            "{} tickets wait; the queue of {} drains",
            status.tickets, status.node
        )
    })
}

/// How much is left, in tenths: each report is an event.
fn tenth(tickets: u64, most: u64) -> String {
    let tenth = tickets.saturating_mul(10).checked_div(most);
    tenth.unwrap_or(0).to_string()
}

fn outputs(status: &StatusResponse, most: u64) -> Outputs {
    let signs = |duty: &str| duty == "active";
    let mut providers: Vec<&str> = status
        .keys
        .iter()
        .filter(|key| key.origin == status.origin && signs(&key.duty))
        .map(|key| key.provider.as_str())
        .collect();
    providers.sort_unstable();
    providers.dedup();
    Outputs::from([
        ("origin".to_owned(), status.origin.clone()),
        ("provider".to_owned(), providers.join(", ")),
        ("drained".to_owned(), most.to_string()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(mode: &str, tickets: u64) -> StatusResponse {
        StatusResponse {
            node: "sealing-1".to_owned(),
            mode: mode.to_owned(),
            tickets,
            ..StatusResponse::default()
        }
    }

    #[test]
    fn an_empty_queue_is_not_enough_while_new_requests_have_to_wait() {
        assert_eq!(waits_for(&status("open", 0)), None);
        let draining = waits_for(&status("open", 7)).unwrap();
        assert!(draining.contains("7 tickets"), "{draining}");
        let diverted = waits_for(&status("queue-noncritical", 0)).unwrap();
        assert!(diverted.contains("queue-noncritical"), "{diverted}");
    }

    #[test]
    fn reports_go_by_tenths() {
        assert_eq!(tenth(1_000, 1_000), "10");
        assert_eq!(tenth(999, 1_000), "9");
        assert_eq!(tenth(0, 0), "0");
    }
}
