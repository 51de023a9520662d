//! A run: one execution of a runbook for an incident, decided purely.
//!
//! - [`decide`] turns a [`Command`] into the events of one commit, or refuses.
//! - [`RunState`] is folded from them ([`crate::Fold`]); a log that cannot be right is reported, never guessed at.
//! - [`pending`] says what the shell should do next, [`after`] what follows from how that ended. Effects derive from state, so a crash at any point needs no outbox.
//!
//! A step goes `blocked -> ready -> running -> done`, with `unknown` and `failed` beside. One whose condition does not hold when its needs are over is `not-needed`; one
//! whose condition cannot be evaluated is `undecided`, and a person decides. One commit ends a step, makes the next ones ready, and starts those that
//! wait for nobody. Operators pause, resume and abort a run and retry a step ([`Command`]); what skips a step or overrides its quorum is signed like an approval.
//!
//! **Invariants:** an attempt's start is durable before its effect begins. An attempt of an earlier process life is observed, never repeated. A step
//! starts only while its quorum is met by approvals that are unexpired at that moment.

mod apply;
mod ballot;
mod confirm;
mod decide;
mod evidence;
mod failure;
mod gate;
mod operate;
mod pending;
mod pinned;
mod ready;
mod report;
mod state;
mod submit;
mod undo;
mod verbs;
mod view;
mod waiting;

pub use ballot::REVIEWERS;
pub use decide::{Command, End, decide};
pub use evidence::{Given, GivenFile};
pub use failure::Failure;
pub use gate::quorum_stands;
pub use operate::Said;
pub use pending::{AttemptId, Effect, Known, TAKEOVER_MS, Viewer, next_wake_ms, pending};
pub use pinned::{Pinned, Unusable};
pub use report::{Next, Observation, Report, after};
pub use state::{
    Attempt, Course, Decided, Judged, MAX_REFUSALS, Overridden, Phase, Refused, RunEnd, RunState,
    StepState, Word, idempotency_key,
};
pub use submit::{MAX_NOTE_CHARS, answer};
pub use view::{directive_draft, prepare, prepare_for, view};

#[cfg(test)]
mod tests;
