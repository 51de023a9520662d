//! What can be wrong with a token, told apart by what a person does about it.

use serde::{Deserialize, Serialize};

/// Why a token did not do what it was asked.
///
/// It crosses the pipe from the worker process, so it is data and holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "problem", deny_unknown_fields)]
pub enum TokenProblem {
    /// The module is missing, is no PKCS#11 module, or does not initialise.
    #[error(
        "the PKCS#11 module {module} cannot be loaded: {reason}; check --pkcs11-module and the module's own configuration"
    )]
    ModuleNotLoadable {
        /// Its path.
        module: String,
        /// What the loader or the module said.
        reason: String,
    },
    /// No slot holds a token of this label.
    #[error(
        "no token labelled {token:?} is present: plug it in or bring its HSM back, or check --pkcs11-token"
    )]
    TokenAbsent {
        /// The label looked for.
        token: String,
    },
    /// Several tokens have this label.
    #[error("{count} tokens are labelled {token:?}: give the right one a label of its own")]
    TokenAmbiguous {
        /// The label looked for.
        token: String,
        /// How many have it.
        count: usize,
    },
    /// The PIN is wrong. It is not tried again until the PIN file changes, because tries are counted.
    #[error(
        "the PIN is wrong for the token {token:?}: put the right one into the PIN file (it is not tried again before that)"
    )]
    PinWrong {
        /// The token's label.
        token: String,
    },
    /// The token has locked the PIN.
    #[error(
        "the PIN of the token {token:?} is locked after too many wrong tries: let its security officer set a new one, and put that into the PIN file"
    )]
    PinLocked {
        /// The token's label.
        token: String,
    },
    /// One more wrong PIN would lock the token, so ours is not tried.
    #[error(
        "the token {token:?} has one try of the PIN left, and a program does not take it: log in by hand once with the right PIN"
    )]
    PinLastTry {
        /// The token's label.
        token: String,
    },
    /// The PIN cannot be used as it is.
    #[error(
        "the token {token:?} does not take the PIN ({code}): have it initialised or renewed with the vendor's tool"
    )]
    PinUnusable {
        /// The token's label.
        token: String,
        /// The PKCS#11 return code.
        code: String,
    },
    /// The token cannot make or use Ed25519 keys.
    #[error(
        "the token {token:?} does not support {mechanism}: use a token with Ed25519, or another key provider"
    )]
    MechanismUnsupported {
        /// The token's label.
        token: String,
        /// The mechanism it lacks.
        mechanism: String,
    },
    /// The session was lost, and again after a new login. The key may have been used.
    #[error("the session with the token {token:?} was lost twice in one call: check the HSM")]
    SessionLost {
        /// The token's label.
        token: String,
    },
    /// The private key is not on the token.
    #[error(
        "the token {token:?} does not hold the key {label:?}: restore the token, or rotate to a new key"
    )]
    KeyMissing {
        /// The token's label.
        token: String,
        /// The key's label on the token.
        label: String,
    },
    /// The token itself refuses to sign with this key.
    #[error("the token {token:?} does not let the key {label:?} sign: rotate to a new key")]
    KeyForbidden {
        /// The token's label.
        token: String,
        /// The key's label on the token.
        label: String,
    },
    /// The token made something else than it was asked for.
    #[error("the key {label:?} on the token {token:?} is not usable: {reason}")]
    KeyUnfit {
        /// The token's label.
        token: String,
        /// The key's label on the token.
        label: String,
        /// What is wrong with it.
        reason: String,
    },
    /// One key under two names could have two purposes.
    #[error(
        "the token {token:?} holds the key {label:?} a second time, as {other:?}: a key has one name and one purpose; remove the second one, and find out who put it there"
    )]
    KeyTwice {
        /// The token's label.
        token: String,
        /// The key's label on the token.
        label: String,
        /// The other one.
        other: String,
    },
    /// Any other return code. The key may have been used.
    #[error("the token {token:?} failed in {function} with {code}: check the HSM and its log")]
    Failed {
        /// The token's label.
        token: String,
        /// The PKCS#11 function.
        function: String,
        /// The return code.
        code: String,
    },
}

impl TokenProblem {
    /// Whether a signature may exist all the same.
    pub fn may_have_used_key(&self) -> bool {
        matches!(self, Self::SessionLost { .. } | Self::Failed { .. })
    }

    /// Whether another try with the same PIN could lock the token.
    pub(super) fn is_about_pin(&self) -> bool {
        matches!(
            self,
            Self::PinWrong { .. }
                | Self::PinLocked { .. }
                | Self::PinLastTry { .. }
                | Self::PinUnusable { .. }
        )
    }

    /// Whether asking again is of no use until a person has done something.
    pub(crate) fn needs_a_person(&self) -> bool {
        self.is_about_pin()
            || matches!(
                self,
                Self::ModuleNotLoadable { .. }
                    | Self::TokenAmbiguous { .. }
                    | Self::KeyTwice { .. }
            )
    }

    /// Whether it may pass by itself, so that a service starts and tries again later.
    pub(super) fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::TokenAbsent { .. } | Self::SessionLost { .. } | Self::Failed { .. }
        )
    }

    /// Whether the worker that reported it should be replaced: its view of the token may be stale.
    pub(super) fn spoils_worker(&self) -> bool {
        self.may_pass() || self.is_about_pin() || matches!(self, Self::TokenAmbiguous { .. })
    }
}
