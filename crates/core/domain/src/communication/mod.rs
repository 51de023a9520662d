//! What is told to whom about an incident, and what became of it: the stream `communication/<incident>`.
//!
//! What is due derives from the incident, its runs, the plan and what was told already ([`due`]); each delivery is an attempt whose start is durable before anything is
//! sent, and whose end is recorded ([`pending`]). An attempt without an end is repeated under the same key: messages arrive at least once.
//!
//! **Invariant:** nothing is told twice by design: a notice names what it covers, and what is covered makes no other notice.
//!
//! **Invariant:** nothing here can hold up containment: no other stream waits for this one.

mod approve;
mod beforehand;
mod brief;
mod decide;
mod due;
mod runs;
mod state;
#[cfg(test)]
mod tests;

pub use approve::{
    Ballot, RUN, decide_notice, missing, notice_digest, notice_text, number_of, quorum, source_of,
    step_of,
};
pub use beforehand::{APPROVERS, Signed, signed};
pub use brief::{Brief, engineers, executives, one_line};
pub use decide::{Command, MAX_NOTICES, decide};
pub use due::{Due, Situation, due};
pub use runs::{RunFacts, Waiting};
pub use state::{
    Communication, Delivery, DeliveryPhase, NoticeState, Retry, Sending, Word, pending,
};
