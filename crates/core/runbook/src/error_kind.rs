//! Why an attempt came to nothing, in the words that `retry: {on: […]}` names.

use std::fmt;

use crate::action::Action;

/// The kind of reason for which an attempt's effect definitely did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorKind {
    /// What it calls was not reached.
    Unavailable,
    /// Its time was over.
    Timeout,
    /// It ended without a clear answer, and observing showed that it did not happen.
    Interrupted,
    /// What it calls, or a rule of this installation, said no.
    Refused,
    /// What it looked at is not as it must be.
    Damaged,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Unavailable,
        Self::Timeout,
        Self::Interrupted,
        Self::Refused,
        Self::Damaged,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Interrupted => "interrupted",
            Self::Refused => "refused",
            Self::Damaged => "damaged",
        }
    }

    /// The kind of this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// What it means, in a sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Unavailable => "what it calls could not be reached, so nothing was sent",
            Self::Timeout => "its time was over and observing showed that it had not happened",
            Self::Interrupted => {
                "it ended without a clear answer (a crash, a lost connection, a server's error) and observing showed that it had not happened"
            }
            Self::Refused => "what it calls, or a rule of this installation, said no",
            Self::Damaged => "what it looked at is not as it must be",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Action {
    /// The kinds of error with which an attempt of it can end; none where people perform it.
    pub fn errors(self) -> &'static [ErrorKind] {
        use ErrorKind::{Damaged, Interrupted, Refused, Timeout, Unavailable};
        match self {
            Self::Confirm => &[],
            Self::CallWebhook
            | Self::CallWebhookDestructive
            | Self::ActivateFallback
            | Self::TakeBackVendor => &[Unavailable, Timeout, Interrupted, Refused],
            Self::SnapshotEvidence | Self::ReplayVerdicts => {
                &[Unavailable, Timeout, Interrupted, Refused, Damaged]
            }
            Self::Reverify | Self::RevalidateArchive => &[Timeout, Interrupted, Refused, Damaged],
            Self::IsolateKey
            | Self::ReadOnly
            | Self::Divert
            | Self::RevokeKey
            | Self::DestroyKey
            | Self::RestoreKey
            | Self::RotateOrigin
            | Self::PublishTrust
            | Self::FindAffected
            | Self::Reseal
            | Self::Resume
            | Self::DrainQueue
            | Self::QuarantineArchive
            | Self::RestoreArchive
            | Self::CompareVerdicts
            | Self::CloseIncident => &[Timeout, Interrupted, Refused],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_word_and_is_declared() {
        for kind in ErrorKind::ALL {
            assert_eq!(ErrorKind::parse(kind.as_str()), Some(kind));
            let declares = |action: &Action| action.errors().contains(&kind);
            assert!(Action::ALL.iter().any(declares), "{kind}");
        }
        assert_eq!(ErrorKind::parse("Timeout"), None);
        for action in Action::ALL {
            assert_eq!(action.errors().is_empty(), action.spec().manual, "{action}");
        }
    }
}
