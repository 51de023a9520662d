//! The executor in process, over an event log in memory, with real keys, real approvals and the real shipped runbook.
#![cfg(test)]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "tests pick the events that they speak of"
)]

mod approvers;
mod bundles;
mod crash;
mod cutting;
mod fence;
mod grants;
mod heads;
mod nodes;
mod whole_run;
mod world;
