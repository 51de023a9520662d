//! Duties to tell somebody by a deadline: regimes as data, and when each of their duties is due.
//!
//! `regimes.yaml` holds what laws and contracts ask for, with source and date. Nothing of it is code: what this module
//! knows is how a period of hours, days, business days or months runs from an instant.
//!
//! **Invariant:** pure. Time zones come from data that is compiled in, never from the machine's files.

mod calendar;
mod period;
mod read;
mod regime;
#[cfg(test)]
mod tests;

pub use calendar::{BadZone, Calendar};
pub use period::{BadPeriod, Due, OutOfRange, Period};
pub use regime::{Clock, Duty, Limit, Regime, RegimeTrigger, Regimes};

pub(crate) use read::{REGIMES_FILE, read_regimes};
