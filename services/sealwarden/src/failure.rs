//! Exit codes and how failures are told: 0 good, 1 a negative verdict or outcome, 2 usage, 3 unavailable, 4 refused.

use std::process::ExitCode;

use crate::output;

/// How a command that worked ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Exit code 0.
    Good,
    /// Exit code 1: a verdict or outcome that is not good.
    Negative,
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Good => Self::SUCCESS,
            Ending::Negative => Self::from(1),
        }
    }
}

/// The kinds of failure, by exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 1: something went wrong.
    Failed,
    /// 2: the command line, or what it names, is not right.
    Usage,
    /// 3: a service cannot be reached or cannot answer now.
    Unavailable,
    /// 4: a rule stands against it.
    Refused,
}

/// A command that did not work.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    error: anyhow::Error,
    /// The user has seen it: it only gives the exit code.
    told: bool,
}

impl Failure {
    /// A wrong command line.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Usage,
            error: anyhow::anyhow!(message.into()),
            told: false,
        }
    }

    /// A service that cannot answer.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Unavailable,
            error: anyhow::anyhow!(message.into()),
            told: false,
        }
    }

    /// A rule that stands against it.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self {
            kind: Kind::Refused,
            error: anyhow::anyhow!(message.into()),
            told: false,
        }
    }

    /// Which exit code it gives.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The same failure of another file.
    pub(crate) fn again(&self) -> Self {
        Self {
            kind: self.kind,
            error: anyhow::anyhow!(self.message()),
            told: self.told,
        }
    }

    /// The same kind of failure, when each one was told already.
    pub(crate) fn told(self, failed: usize, total: usize) -> Self {
        Self {
            kind: self.kind,
            error: anyhow::anyhow!("{failed} of {total} files failed; first: {:#}", self.error),
            told: self.told,
        }
    }

    /// The message, with its causes.
    pub(crate) fn message(&self) -> String {
        format!("{:#}", self.error)
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self.kind {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::Unavailable => 3,
            Kind::Refused => 4,
        }
    }

    /// The same failure, of which the user has seen everything.
    pub(crate) fn seen(self) -> Self {
        Self { told: true, ..self }
    }

    /// Tells the user and gives the exit code.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        let code = self.code();
        if self.told {
            return ExitCode::from(code);
        }
        if json {
            output::json(&serde_json::json!({ "error": self.message(), "exit": code }));
        } else {
            output::complain(&format!("error: {}", self.message()));
        }
        ExitCode::from(code)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self {
            kind: Kind::Failed,
            error,
            told: false,
        }
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        use tonic::Code;
        // A status that carries an error was made here and not by the service: the connection broke.
        let broke = std::error::Error::source(&status).is_some();
        let kind = match status.code() {
            Code::Unknown | Code::Internal if broke => Kind::Unavailable,
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Cancelled => Kind::Unavailable,
            Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::AlreadyExists
            | Code::Aborted => Kind::Refused,
            Code::InvalidArgument | Code::NotFound | Code::OutOfRange | Code::Unimplemented => {
                Kind::Usage
            }
            Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => Kind::Failed,
        };
        let message = if status.message().is_empty() {
            status.code().description().to_owned()
        } else {
            status.message().to_owned()
        };
        Self {
            kind,
            error: anyhow::anyhow!(message),
            told: false,
        }
    }
}
