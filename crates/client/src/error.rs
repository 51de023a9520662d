//! What can go wrong.

use sealwarden_pki::PkiError;
use std::path::PathBuf;
use tonic::Status;

/// Why a call did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Certificates or connection.
    #[error(transparent)]
    Connect(#[from] PkiError),
    /// The installation's folder does not say where its sealing service is.
    #[error("{path} does not name a sealing service: {reason}; start one with `sealwarden up`")]
    Installation {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The service's own answer.
    #[error("{}", .0.message())]
    Refused(Box<Status>),
    /// The answer is not what was asked for.
    #[error("the server's answer is not a seal of this document: {0}")]
    NotOurs(String),
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}
