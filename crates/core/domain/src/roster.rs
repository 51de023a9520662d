//! The roster in force: the first one that an installation recorded, and each change that a quorum of the roster before it signed.
//!
//! - [`RosterLine`] is the fold: it checks every change again, signature by signature, so a roster that somebody only wrote into the event log is never in force.
//! - [`propose`] and [`sign`] decide; a proposal that is signed by enough people is in force in the same commit.
//! - [`RosterAnchor`] is what a node knows by itself: a roster of the line. A line that does not pass through it is not believed.
//!
//! Whoever signs, signs this text ([`change_text`]); it is SSHSIG in the namespace of approvals:
//!
//! ```text
//! sealwarden roster change v1
//! installation: acme
//! environment: production
//! number: 3
//! from: sha256:<64 hex>
//! to: sha256:<64 hex>
//! proposed by: operator
//! reason: Nina joins the on-call rota
//! expires: 1793613600000
//! decision: approve
//! by: ada
//! ```
//!
//! The number makes a signature worth nothing for any other change, and the expiry (milliseconds of Unix time) for another proposal of the same one. So it needs no nonce.
//!
//! The rules:
//!
//! - It takes the quorum that the roster in force names (`changed_by`); without one, two people in different roles, one of them `security-lead` or `break-glass`.
//! - Who proposed it does not count, and neither does who gains a role by it, or that no touch is asked of them any more.
//! - Anybody on the roster ends a proposal by denying it. It can be proposed again, and must be signed again.
//! - A key that was revoked counts for nothing, whenever it signed.

mod absence;
mod anchor;
mod change;
mod line;

pub use absence::{MAX_ABSENCE_MS, absence_text, absent};
pub use anchor::{Judged, RosterAnchor};
pub use change::{Vote, adopt, change_text, propose, sign};
pub use line::{InForce, MAX_PROPOSALS, Proposal, RosterLine};

#[cfg(test)]
mod tests;
