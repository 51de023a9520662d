//! When a refused call is worth repeating.

use std::time::{Duration, Instant};
use tonic::{Code, Status};

/// Metadata by which the service says when to come again.
const RETRY_AFTER: &str = "retry-after-ms";
/// A connection that was lost is asked for again after this long.
const RECONNECT: Duration = Duration::from_millis(200);
/// No single wait is longer, whatever the service says.
const LONGEST: Duration = Duration::from_secs(30);

/// How long a call may still be repeated.
pub(crate) struct Retry {
    patience: Duration,
    since: Option<Instant>,
}

impl Retry {
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            patience,
            since: None,
        }
    }

    /// Something was answered: the next refusal is a first one again.
    pub(crate) fn went_on(&mut self) {
        self.since = None;
    }

    /// Waits until the call may be repeated. Gives the refusal back where it is not to be.
    pub(crate) async fn wait(&mut self, status: Status) -> Result<(), Status> {
        let Some(pause) = pause(&status) else {
            return Err(status);
        };
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed().saturating_add(pause) > self.patience {
            return Err(status);
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

fn pause(status: &Status) -> Option<Duration> {
    let hint = status.metadata().get(RETRY_AFTER);
    let hint = hint.and_then(|value| value.to_str().ok()?.parse().ok());
    match (status.code(), hint) {
        (Code::Unavailable | Code::ResourceExhausted, Some(ms)) => {
            Some(Duration::from_millis(ms).min(LONGEST))
        }
        // The connection itself broke: it gave no hint. `Unknown` and `Internal` are what is left of a stream that was cut.
        (Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled, None) => {
            Some(RECONNECT)
        }
        (
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::InvalidArgument
            | Code::DeadlineExceeded
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::DataLoss
            | Code::Unauthenticated,
            _,
        ) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: Code, hint: Option<&'static str>) -> Status {
        let mut status = Status::new(code, "no");
        if let Some(hint) = hint {
            let value = tonic::metadata::MetadataValue::from_static(hint);
            status.metadata_mut().insert(RETRY_AFTER, value);
        }
        status
    }

    #[test]
    fn only_what_passes_is_repeated() {
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(pause(&status(Code::Unavailable, Some("250"))), ms(250));
        assert_eq!(pause(&status(Code::ResourceExhausted, Some("1"))), ms(1));
        assert_eq!(pause(&status(Code::ResourceExhausted, None)), None);
        assert_eq!(pause(&status(Code::FailedPrecondition, Some("250"))), None);
        assert_eq!(pause(&status(Code::AlreadyExists, None)), None);
        assert_eq!(pause(&status(Code::InvalidArgument, None)), None);
        assert_eq!(
            pause(&status(Code::Unavailable, Some("99999999"))),
            Some(LONGEST)
        );
    }

    #[tokio::test]
    async fn patience_ends() {
        let mut retry = Retry::new(Duration::ZERO);
        assert!(
            retry
                .wait(status(Code::Unavailable, Some("1")))
                .await
                .is_err()
        );
        let mut retry = Retry::new(Duration::from_secs(5));
        assert!(
            retry
                .wait(status(Code::Unavailable, Some("1")))
                .await
                .is_ok()
        );
        assert!(
            retry
                .wait(status(Code::Unavailable, Some("6000")))
                .await
                .is_err()
        );
    }
}
