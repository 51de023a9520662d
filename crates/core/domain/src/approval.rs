//! Approvals: signed decisions of people over exactly what will run.
//!
//! - [`Statement`] is the text that is signed; it has one form only.
//! - [`check`] says whether a signed statement counts for a step, and if not, why, in words and with a code.
//! - [`verify_directive`] is the same for nodes: it trusts neither the executor nor the event log, only the roster and plan that the node has itself.
//! - [`revoke`] takes a key of a person out of all of this.
//! - Anyone can check a stored approval later: `ssh-keygen -Y verify` with [`allowed_signers`], the statement on its standard input.
//!
//! **Invariant:** whoever a signature belongs to is decided by the key, never by the name in the text.

pub mod break_glass;
mod check;
mod directive;
mod evidence;
mod inputs;
mod refusal;
mod revocation;
mod signature;
mod statement;

pub use check::{Accepted, Expectation, Standing, check};
pub(crate) use check::{authenticate, counted_roles, in_words};
pub use directive::{DirectiveExpectation, Order, verify_directive, wire_kind};
pub use evidence::{snapshot_subject, verify_snapshot};
pub(crate) use inputs::sha256_hex;
pub use inputs::{Inputs, InputsError, MAX_INPUTS_BYTES, is_line_breaking};
pub use refusal::{Refusal, RefusalCode};
pub use revocation::{MAX_REVOCATION_REASON_CHARS, REVOKERS, RevokedKeys, revocation_text, revoke};
pub(crate) use revocation::{one_line, signer};
pub use signature::{Authenticator, MAX_SIGNATURE_BYTES, Signature, SignatureError, sign};
pub(crate) use statement::rfc3339_ms;
pub use statement::{
    Decision, Environment, MAX_STATEMENT_BYTES, Namespace, Statement, StatementError,
};

use std::fmt::Write as _;

use sealwarden_runbook::Roster;

/// The roster as an `allowed_signers` file for `ssh-keygen -Y verify -f FILE -I PERSON -n NAMESPACE -s SIGNATURE < STATEMENT`.
///
/// Format: ssh-keygen(1), "ALLOWED SIGNERS". Each key is allowed for this namespace only.
pub fn allowed_signers(roster: &Roster, namespace: Namespace) -> String {
    let mut text = String::new();
    for person in roster.people() {
        for key in &person.keys {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{} namespaces=\"{namespace}\" {}",
                person.id, key.line
            );
        }
    }
    text
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
