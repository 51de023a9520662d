//! What detection concludes of a log, without the service around it: what its speed is measured by.

use sealwarden_engine::{DecodeError, decode};
use sealwarden_eventlog::Recorded;

use crate::state::State;

/// The fold and all detectors, built-in ones and those that the log installs. The service does the same with each commit.
#[derive(Default)]
pub struct Evaluation(State);

impl Evaluation {
    /// Decodes a commit, folds it and lets the detectors judge it.
    pub fn take_in(&mut self, recorded: &Recorded) -> Result<(), DecodeError> {
        let commit = decode(recorded)?;
        self.0.take_in(&commit, recorded.head());
        Ok(())
    }

    /// The detectors that concluded something, each as often as it did, and that nobody has recorded.
    pub fn concluded(&self) -> impl Iterator<Item = &str> {
        let findings = self.0.findings.values();
        findings.map(|it| it.signal.detector.as_str())
    }

    /// Of how many logs, nodes and so on the plan's detectors see something now.
    pub fn watched(&self) -> usize {
        let seen = self.0.watching.watched().into_iter();
        seen.filter(|it| it.reading.is_some()).count()
    }
}
