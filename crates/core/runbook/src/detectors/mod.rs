//! Detectors as data: `detectors.yaml` says what is measured, when that is a signal, of which class, and who owns it.
//!
//! This module reads and proves the file; what a detector concludes from recorded events is decided by the domain's `detect`.
//!
//! **Invariant:** numbers are whole thousandths, never floating point: the same log gives the same signals on every machine.

mod check;
mod detector;
mod measure;
mod outside;
mod read;
mod schema;
#[cfg(test)]
mod tests;

pub use detector::{
    Aggregate, AnomalyMethod, BUILT_IN, Bound, BurnWindow, Detector, DetectorKind, Detectors,
    OutsideRule, Rule, show_thousandths,
};
pub use measure::{Measure, SubjectKind};

pub(crate) use check::{errors, warnings};
pub(crate) use read::{DETECTORS_FILE, read_detectors};
pub(crate) use schema::schema;
