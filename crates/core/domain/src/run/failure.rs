//! Why an attempt's effect definitely did not happen.

use std::fmt;

use sealwarden_runbook::ErrorKind;

/// Why an attempt's effect definitely did not happen, or not wholly and can be gone on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What a runbook's `retry: {on: […]}` asks for.
    pub kind: ErrorKind,
    /// In words.
    pub reason: String,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(kind: ErrorKind, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { kind, reason }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.reason)
    }
}
