//! Duties to notify of one incident: which regimes concern it, which clocks run, what was told in time.
//!
//! Everything but people's words derives from the incident's events and the plan's regimes, so new data moves deadlines that have not passed. What
//! people decided, and what was warned of, met and missed, are events of the incident's stream.
//!
//! **Invariant:** a regime that may concern an incident runs its clocks until a person says no and why.

mod decide;
mod due;
mod state;
#[cfg(test)]
mod tests;

pub use decide::{Command, decide};
pub use due::{Facts, Standing, View, WARN_AT_PERCENT, next_wake_ms, pending, views};
pub use state::{Met, Obligations, RegimeState};
