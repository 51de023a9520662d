//! What a picture shows of a run: where each step stands.

use std::collections::BTreeMap;

/// How a step stands. The picture tells it by a sign, a word and a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// It waits for other steps.
    Waits,
    /// It waits for people.
    Asks,
    /// It runs.
    Runs,
    /// It is done.
    Done,
    /// It was skipped or cancelled.
    Skipped,
    /// It failed, is stuck or was denied.
    Failed,
}

impl Tone {
    /// The class in the picture's style.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Waits => "waits",
            Self::Asks => "asks",
            Self::Runs => "runs",
            Self::Done => "done",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }

    /// The sign before the state's word, so that colour is never all that tells it.
    pub(crate) fn sign(self) -> &'static str {
        match self {
            Self::Waits => "○",
            Self::Asks => "?",
            Self::Runs => "►",
            Self::Done => "✓",
            Self::Skipped => "–",
            Self::Failed => "✗",
        }
    }
}

/// A step of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveStep {
    /// How it stands.
    pub tone: Tone,
    /// The state in words, such as `waits for approvals`.
    pub state: String,
    /// What more there is to say, a line each: approvals given and missing, times, an error.
    pub notes: Vec<String>,
}

/// A run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// What stands over the picture: the run, its state, its age.
    pub heading: String,
    /// Its steps, by id. Those that are not here are drawn without a state.
    pub steps: BTreeMap<String, LiveStep>,
}
