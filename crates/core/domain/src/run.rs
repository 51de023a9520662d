//! A run: one execution of a runbook for an incident, decided purely.
//!
//! - [`decide`] turns a [`Command`] into the events of one commit, or refuses.
//! - [`RunState`] is folded from them ([`crate::Fold`]); a log that cannot be right is reported, never guessed at.
//! - [`pending`] says what the shell should do next. Effects derive from state, so a crash at any point needs no outbox.
//!
//! A step goes `blocked -> ready -> running -> done`, with `unknown` and `failed` beside. One commit ends a step and makes the next ones ready.
//!
//! **Invariants:** an attempt's start is durable before its effect begins. An attempt of an earlier process life is observed, never repeated. A step
//! starts only while its quorum is met by approvals that are unexpired at that moment.

mod apply;
mod confirm;
mod decide;
mod gate;
mod pending;
mod pinned;
mod state;
mod submit;
mod view;

pub use decide::{Command, End, decide};
pub use pending::{AttemptId, Effect, next_wake_ms, pending};
pub use pinned::{Pinned, Unusable};
pub use state::{
    Attempt, Decided, MAX_REFUSALS, Phase, Refused, RunEnd, RunState, StepState, idempotency_key,
};
pub use submit::{MAX_NOTE_CHARS, answer};
pub use view::{directive_draft, prepare, view};

#[cfg(test)]
mod tests;
