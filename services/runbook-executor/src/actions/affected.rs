//! Finding what a compromise touches.

use sealwarden_engine::Role;
use sealwarden_telemetry::TraceContext;
use sealwarden_wire::seal::v1::sealing_client::SealingClient;
use sealwarden_wire::seal::v1::{FindAffectedRequest, FindAffectedResponse};

use super::attempt::{Attempt, Outputs, Progress, Trouble};
use super::peer::{CallError, channel, until_answered};
use crate::executor::Executor;

pub(super) async fn execute(
    executor: &Executor,
    attempt: &Attempt,
    progress: &Progress,
) -> Result<Outputs, Trouble> {
    let request = FindAffectedRequest {
        origin: attempt.input("origin")?.to_owned(),
        compromised_since_ms: attempt.time_input("compromised-since")?,
    };
    let found = until_answered(progress, "the sealing service", || {
        ask(executor, request.clone())
    })
    .await?;
    let outputs = [
        ("total", found.total),
        ("covered", found.covered),
        ("reported", found.reported),
    ];
    Ok(outputs
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count.to_string()))
        .collect())
}

async fn ask(
    executor: &Executor,
    request: FindAffectedRequest,
) -> Result<FindAffectedResponse, CallError> {
    let channel = channel(executor, Role::Sealing)?;
    let mut client = SealingClient::with_interceptor(channel, TraceContext);
    Ok(client.find_affected(request).await?.into_inner())
}
