//! What the plan's detectors conclude from recorded events.
//!
//! - [`Sensor`]: which measures an event holds.
//! - [`Detecting`]: the detectors in force, with what each has seen of each log, node …; it says what they conclude, and what came near.
//! - `series`: what a rule keeps and how it judges, with `window` (values of a window of time in 32 slots), `baseline` and `burn`; `words`: the sentences.
//!
//! **Invariant:** a fold. Time is the recorded time of events, numbers are whole thousandths, so the same log gives the same conclusions.
//!
//! **Invariant:** memory is bounded by the detectors in force: at most [`MAX_SERIES`] series each, of a size that the detector gives.

mod baseline;
mod burn;
mod judge;
mod sensor;
mod series;
mod state;
#[cfg(test)]
mod tests;
mod window;
mod words;

pub use sensor::{Sensor, Taken, Values};
pub use state::{Conclusion, Detecting, MAX_SERIES, Outcome, Watched};
