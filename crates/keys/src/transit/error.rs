//! What can go wrong between this program and an OpenBao server.

use crate::{error::KeyError, id::KeyId, private_files::FileError};

/// Texts of a server are cut to this many characters.
const QUOTED: usize = 200;

/// Why the server did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransitError {
    /// The server is locked and can use no key.
    #[error("the OpenBao server {url} is sealed: unseal it (`bao operator unseal`)")]
    Sealed {
        /// The server.
        url: String,
    },
    /// The server is up and has never been initialized.
    #[error("the OpenBao server {url} is not initialized: run `bao operator init`, then unseal it")]
    NotInitialized {
        /// The server.
        url: String,
    },
    /// The server waits to replace the active one and passes nothing on to it.
    #[error(
        "the OpenBao server {url} is a standby: name the active server, or a load balancer that finds it"
    )]
    Standby {
        /// The server.
        url: String,
    },
    /// The token is valid and its policies do not allow this.
    #[error("the token's policies do not allow {action}: extend the policy, or use another token")]
    PermissionDenied {
        /// Method and path.
        action: String,
    },
    /// The token is not valid any more, and no other one could be had.
    #[error("the token for the OpenBao server is expired, revoked or unknown: {remedy}")]
    TokenExpired {
        /// How to get a valid one.
        remedy: String,
    },
    /// No connection.
    #[error("the OpenBao server {url} cannot be reached: {reason}")]
    Unreachable {
        /// The server.
        url: String,
        /// What the operating system or the connection said.
        reason: String,
    },
    /// The server could not prove to be the one meant.
    #[error(
        "TLS with the OpenBao server {url} failed: {reason}; check the CA file and the server's certificate"
    )]
    Tls {
        /// The server.
        url: String,
        /// What did not fit.
        reason: String,
    },
    /// No answer in time.
    #[error("the OpenBao server {url} did not answer within {deadline_ms} ms")]
    Timeout {
        /// The server.
        url: String,
        /// The deadline that passed, in milliseconds.
        deadline_ms: u64,
    },
    /// The server said no for another reason.
    #[error("the OpenBao server answered {action} with {status}: {reason}")]
    Answer {
        /// Method and path.
        action: String,
        /// The HTTP status.
        status: u16,
        /// The server's own words, cut.
        reason: String,
    },
    /// An answer that does not have the documented shape.
    #[error("the OpenBao server's answer to {action} cannot be understood: {reason}")]
    Malformed {
        /// Method and path.
        action: String,
        /// What does not fit.
        reason: String,
    },
    /// A file of secrets or a setting cannot be used.
    #[error("{reason}")]
    Settings {
        /// What is wrong and how to mend it.
        reason: String,
    },
}

impl TransitError {
    /// What this means for an operation on key `id`.
    ///
    /// What may pass without anybody changing the key is [`KeyError::Unavailable`], so that a caller may try again or
    /// elsewhere.
    pub fn into_key_error(self, id: &KeyId) -> KeyError {
        match self {
            Self::Timeout { deadline_ms, .. } => KeyError::Timeout {
                id: id.clone(),
                deadline_ms,
            },
            Self::PermissionDenied { .. } => KeyError::Refused {
                id: id.clone(),
                reason: self.to_string(),
            },
            Self::Sealed { .. }
            | Self::NotInitialized { .. }
            | Self::Standby { .. }
            | Self::TokenExpired { .. }
            | Self::Unreachable { .. }
            | Self::Tls { .. }
            | Self::Answer { .. }
            | Self::Malformed { .. }
            | Self::Settings { .. } => self.without_key(),
        }
    }

    /// What this means for an operation that concerns no key in particular.
    pub(super) fn without_key(self) -> KeyError {
        let reason = self.to_string();
        match self {
            Self::Sealed { .. }
            | Self::NotInitialized { .. }
            | Self::Standby { .. }
            | Self::PermissionDenied { .. }
            | Self::TokenExpired { .. }
            | Self::Unreachable { .. }
            | Self::Tls { .. }
            | Self::Timeout { .. }
            | Self::Answer { .. } => KeyError::Unavailable { reason },
            Self::Malformed { action, reason } => KeyError::Corrupt {
                what: format!("the OpenBao server's answer to {action}"),
                reason,
            },
            Self::Settings { reason } => KeyError::Unsafe { reason },
        }
    }

    /// Whether the server's own words, in an answer that is no success, contain `words`.
    pub(super) fn says(&self, words: &str) -> bool {
        matches!(self, Self::Answer { reason, .. } if reason.contains(words))
    }
}

impl From<FileError> for TransitError {
    fn from(error: FileError) -> Self {
        Self::Settings {
            reason: error.to_string(),
        }
    }
}

/// Somebody else's text on one line, cut.
pub(super) fn quoted(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .take(QUOTED)
        .collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
