//! What can go wrong with a key, told apart by what the caller can do about it.

use crate::{
    algorithm::Algorithm, id::KeyId, pkcs11::TokenProblem, private_files::FileError,
    provider::Purpose,
};

/// Why a key operation did not happen.
///
/// [`KeyError::Unavailable`] and [`KeyError::Timeout`] may pass and may have used the key all the same (the audit
/// tells), and so may [`KeyError::Token`] where [`TokenProblem::may_have_used_key`] says it. [`KeyError::Busy`] and
/// [`KeyError::Out`] pass and have not used it. The other kinds will not pass by themselves and made no signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The provider has no such key.
    #[error("there is no key {id}; create it, or list the keys to see its name")]
    NotFound {
        /// The key asked for.
        id: KeyId,
    },
    /// A key of this name exists, in whatever state; names are never reused.
    #[error("key {id} already exists, and names of keys are never reused: choose another name")]
    AlreadyExists {
        /// The key asked for.
        id: KeyId,
    },
    /// The provider will not use this key again.
    #[error("key {id} is refused: {reason}")]
    Refused {
        /// The key asked for.
        id: KeyId,
        /// Why, for a person.
        reason: String,
    },
    /// The key serves another purpose than the caller's.
    #[error("key {id} is a {actual} key and never signs as a {expected} key: name the right key")]
    WrongPurpose {
        /// The key asked for.
        id: KeyId,
        /// What the caller wanted it for.
        expected: Purpose,
        /// What it is for.
        actual: Purpose,
    },
    /// The key has another algorithm than the caller needs.
    #[error("key {id} is an {actual} key where an {expected} key is needed: name the right key")]
    WrongAlgorithm {
        /// The key asked for.
        id: KeyId,
        /// What the caller needs.
        expected: Algorithm,
        /// What the key has.
        actual: Algorithm,
    },
    /// The provider makes no keys of this algorithm.
    #[error(
        "the {provider} provider makes no {algorithm} keys: name one that does, such as software"
    )]
    Unsupported {
        /// The provider asked.
        provider: String,
        /// The algorithm asked for.
        algorithm: Algorithm,
    },
    /// No provider of this name is configured.
    #[error("there is no key provider {asked:?} for sealing keys here: use one of {known}")]
    NoSuchProvider {
        /// The name asked for.
        asked: String,
        /// The names there are.
        known: String,
    },
    /// Too many calls are under way in this provider. It was not asked, and the key was not used.
    #[error(
        "the key provider {provider} is busy: {in_flight} calls are under way and no more are sent to it; try again"
    )]
    Busy {
        /// The provider.
        provider: String,
        /// Calls under way, which is as many as may be.
        in_flight: usize,
    },
    /// This provider is out and will be asked again when a health probe succeeds. It was not asked, and the key was not used.
    #[error("the key provider {provider} is out and was not asked: {reason}")]
    Out {
        /// The provider.
        provider: String,
        /// Why it is out, for a person.
        reason: String,
    },
    /// The provider cannot answer now. The key may have been used.
    #[error("the key provider is unavailable: {reason}")]
    Unavailable {
        /// Why, with the remedy where there is one.
        reason: String,
    },
    /// The deadline passed without an answer. The key may have been used.
    #[error("key {id} did not answer within {deadline_ms} ms")]
    Timeout {
        /// The key asked for.
        id: KeyId,
        /// The deadline that passed, in milliseconds.
        deadline_ms: u64,
    },
    /// Stored key material or an audit log is damaged or was changed by somebody else.
    #[error("{what} is corrupt: {reason}; restore it from a backup, or retire the key")]
    Corrupt {
        /// The file or object.
        what: String,
        /// What does not fit.
        reason: String,
    },
    /// The guard does not open this folder's keys.
    #[error(
        "the guard {guard} does not open the keys in {dir}: {reason}; name the guard they were made with"
    )]
    WrongGuard {
        /// The guard given.
        guard: String,
        /// The folder of keys.
        dir: String,
        /// What does not fit.
        reason: String,
    },
    /// A file of secrets can be read or written by others than its owner, or cannot be used as configured.
    #[error("{reason}")]
    Unsafe {
        /// What is wrong and the command that mends it.
        reason: String,
    },
    /// A PKCS#11 token, or the way to it, says no.
    #[error(transparent)]
    Token(#[from] TokenProblem),
}

impl KeyError {
    /// Whether only a person mends it: asking again would be refused the same way, and may do harm.
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::Token(problem) => problem.needs_a_person(),
            Self::WrongGuard { .. } | Self::Unsafe { .. } => true,
            Self::NotFound { .. }
            | Self::AlreadyExists { .. }
            | Self::Refused { .. }
            | Self::WrongPurpose { .. }
            | Self::WrongAlgorithm { .. }
            | Self::Unsupported { .. }
            | Self::NoSuchProvider { .. }
            | Self::Busy { .. }
            | Self::Out { .. }
            | Self::Unavailable { .. }
            | Self::Timeout { .. }
            | Self::Corrupt { .. } => false,
        }
    }
}

impl KeyError {
    /// Whether it says that one key stands in two places: no other provider makes that good.
    pub(crate) fn is_a_contradiction(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. } | Self::Token(TokenProblem::KeyTwice { .. })
        )
    }
}

impl From<FileError> for KeyError {
    fn from(error: FileError) -> Self {
        match &error {
            FileError::TooOpen { .. } => Self::Unsafe {
                reason: error.to_string(),
            },
            FileError::TooLarge { path, .. } => Self::Corrupt {
                what: path.display().to_string(),
                reason: error.to_string(),
            },
            FileError::Io { .. } | FileError::Busy { .. } => Self::Unavailable {
                reason: error.to_string(),
            },
        }
    }
}
