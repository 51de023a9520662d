//! Calls to other services, tried again while the attempt lasts.

use std::time::Duration;

use sealwarden_engine::{PeerError, Role};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::attempt::{Progress, Trouble};
use crate::executor::Executor;

/// The first pause after a call that found nobody; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Why a call gave nothing.
#[derive(Debug)]
pub(super) enum CallError {
    /// Nobody answered; it may be tried again.
    Away(String),
    /// An answer that trying again does not change.
    Refused(String),
}

impl From<PeerError> for CallError {
    fn from(error: PeerError) -> Self {
        Self::Away(error.to_string())
    }
}

impl From<Status> for CallError {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "gRPC codes are many, and only these say that trying again may help"
    )]
    fn from(status: Status) -> Self {
        let text = format!("{:?}: {}", status.code(), status.message());
        match status.code() {
            Code::Unavailable
            | Code::Cancelled
            | Code::Aborted
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Unknown => Self::Away(text),
            _ => Self::Refused(text),
        }
    }
}

/// A channel to the newest announced node of a role.
pub(super) fn channel(executor: &Executor, role: Role) -> Result<Channel, CallError> {
    Ok(executor.node.channel(role)?)
}

/// Repeats a call that changes nothing until it is answered. The attempt's deadline ends it.
pub(super) async fn until_answered<T, F: Future<Output = Result<T, CallError>>>(
    progress: &Progress,
    what: &str,
    mut call: impl FnMut() -> F,
) -> Result<T, Trouble> {
    let mut pause = FIRST_PAUSE;
    loop {
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(CallError::Refused(reason)) => {
                return Err(Trouble::refused(format!("{what}: {reason}")));
            }
            Err(CallError::Away(reason)) => {
                let text = format!("{what}: {reason}; asking again");
                progress
                    .say(text, vec![what.to_owned()], vec![what.to_owned(), reason])
                    .await;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}
