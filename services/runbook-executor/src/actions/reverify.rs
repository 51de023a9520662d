//! Verifying every seal of an origin: the sealing service streams them, the verification service judges them, and nothing is held here.

use sealwarden_domain::incident::Command as IncidentCommand;
use sealwarden_engine::Role;
use sealwarden_telemetry::TraceContext;
use sealwarden_wire::event::v1::IncidentStage;
use sealwarden_wire::seal::v1::ExportSealsRequest;
use sealwarden_wire::seal::v1::sealing_client::SealingClient;
use sealwarden_wire::verify::v1::VerifyRequest;
use sealwarden_wire::verify::v1::verification_client::VerificationClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::attempt::{Attempt, Outputs, Progress, Trouble};
use super::peer::{CallError, channel, until_answered};
use crate::executor::Executor;

/// Seals between the two services at once.
const WINDOW: usize = 64;

/// What the verification service said of an origin's seals.
#[derive(Debug, Default)]
struct Verdicts {
    verified: u64,
    failed: u64,
    /// Of those, how many only lack their witnesses.
    unwitnessed: u64,
    /// The first verdict that is not valid, in words.
    first: String,
}

pub(super) async fn execute(
    executor: &Executor,
    attempt: &Attempt,
    progress: &Progress,
) -> Result<Outputs, Trouble> {
    let origin = attempt.input("origin")?;
    let verdicts = until_answered(progress, "sealing or verification", || {
        sweep(executor, origin)
    })
    .await?;
    if verdicts.failed > 0 {
        let total = verdicts.failed + verdicts.verified;
        let reason = format!(
            "{} of {total} seals of {origin} do not hold; the first: {}",
            verdicts.failed, verdicts.first
        );
        return Err(Trouble::damaged(reason));
    }
    let reached = IncidentCommand::Reach {
        stage: IncidentStage::Revalidated,
        reason: format!("all {} seals of {origin} hold", verdicts.verified),
    };
    executor.incident(&attempt.incident, reached).await?;
    Ok(Outputs::from([
        ("verified".to_owned(), verdicts.verified.to_string()),
        ("failed".to_owned(), verdicts.failed.to_string()),
    ]))
}

async fn sweep(executor: &Executor, origin: &str) -> Result<Verdicts, CallError> {
    let mut sealing =
        SealingClient::with_interceptor(channel(executor, Role::Sealing)?, TraceContext);
    let mut verification =
        VerificationClient::with_interceptor(channel(executor, Role::Verification)?, TraceContext);
    let request = ExportSealsRequest {
        origin: origin.to_owned(),
    };
    let mut seals = sealing.export_seals(request).await?.into_inner();
    let (sender, receiver) = mpsc::channel(WINDOW);
    let feed = async move {
        let mut sent: u64 = 0;
        while let Some(seal) = seals.message().await? {
            let request = VerifyRequest {
                seal: seal.seal,
                ..VerifyRequest::default()
            };
            if sender.send(request).await.is_err() {
                break; // the other side ended, and says why
            }
            sent += 1;
        }
        Ok::<u64, Status>(sent)
    };
    let judge = async {
        let mut answers = verification
            .verify_stream(ReceiverStream::new(receiver))
            .await?
            .into_inner();
        let mut verdicts = Verdicts::default();
        while let Some(answer) = answers.message().await? {
            if matches!(answer.verdict.as_str(), "valid" | "valid-before-compromise") {
                verdicts.verified += 1;
            } else {
                verdicts.failed += 1;
                verdicts.unwitnessed += u64::from(answer.verdict == "unwitnessed");
                if verdicts.first.is_empty() {
                    verdicts.first = format!(
                        "index {}: {}, {}",
                        answer.index, answer.verdict, answer.reason
                    );
                }
            }
        }
        Ok::<Verdicts, Status>(verdicts)
    };
    let (sent, verdicts) = tokio::try_join!(feed, judge)?;
    // A new seal is witnessed a moment after it was signed. The attempt's deadline bounds the wait.
    if verdicts.failed > 0 && verdicts.failed == verdicts.unwitnessed {
        let reason = format!(
            "{} seals of {origin} are not witnessed yet",
            verdicts.failed
        );
        return Err(CallError::Away(reason));
    }
    if sent != verdicts.verified + verdicts.failed {
        let reason = format!(
            "{sent} seals were sent and {} verdicts came back",
            verdicts.verified + verdicts.failed
        );
        return Err(CallError::Away(reason));
    }
    Ok(verdicts)
}
