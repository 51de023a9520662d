//! What an action is given, and how it answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use sealwarden_domain::approval::Inputs;
pub(crate) use sealwarden_domain::run::Observation;
use sealwarden_domain::run::{AttemptId, Failure, RunState};
use sealwarden_engine::{ExecuteError, Meta};
use sealwarden_runbook::{Action, ErrorKind};
use tokio::sync::mpsc;

use crate::executor::Executor;

/// What a step leaves for later ones.
pub(crate) type Outputs = BTreeMap<String, String>;

/// One try of a step, or the going on of one that an earlier life began.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// Step, iteration, number.
    pub(crate) id: AttemptId,
    /// The run.
    pub(crate) run: String,
    /// Its incident.
    pub(crate) incident: String,
    /// What to perform.
    pub(crate) action: Action,
    /// With which inputs.
    pub(crate) inputs: Inputs,
    /// The same for every attempt of the step's iteration.
    pub(crate) key: String,
    /// The run as it was when this began.
    pub(crate) state: Arc<RunState>,
}

impl Attempt {
    /// An input. The plan was checked to give it, so its absence means that the log is not ours.
    pub(crate) fn input(&self, name: &str) -> Result<&str, Trouble> {
        self.inputs
            .get(name)
            .ok_or_else(|| Trouble::refused(format!("step {} has no input {name}", self.id.step)))
    }

    /// An input that is a time, in Unix milliseconds.
    pub(crate) fn time_input(&self, name: &str) -> Result<i64, Trouble> {
        let text = self.input(name)?;
        text.parse::<jiff::Timestamp>()
            .map(jiff::Timestamp::as_millisecond)
            .map_err(|error| {
                Trouble::refused(format!("input {name} {text:?} is not a time: {error}"))
            })
    }

    /// The envelope of what this attempt decides.
    pub(crate) fn meta(&self, executor: &Executor) -> Meta {
        executor
            .node
            .meta()
            .correlated(&self.incident)
            .caused_by(&self.key)
    }

    /// The words that stand for this step wherever its effect is looked for.
    pub(crate) fn place_words(&self) -> String {
        format!(
            "run {}, step {}, iteration {}",
            self.run, self.id.step, self.id.iteration
        )
    }
}

/// Why an attempt has no outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Its effect definitely did not happen, or not wholly and can be gone on with.
    NotDone(Failure),
    /// Nobody knows: it must be observed.
    Unknown(String),
}

impl Trouble {
    /// What it calls could not be reached.
    pub(crate) fn unavailable(reason: impl Into<String>) -> Self {
        Self::NotDone(Failure::new(ErrorKind::Unavailable, reason))
    }

    /// What it calls, or a rule, said no.
    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self::NotDone(Failure::new(ErrorKind::Refused, reason))
    }

    /// What it looked at is not as it must be.
    pub(crate) fn damaged(reason: impl Into<String>) -> Self {
        Self::NotDone(Failure::new(ErrorKind::Damaged, reason))
    }

    /// It broke off before its effect could begin.
    pub(crate) fn interrupted(reason: impl Into<String>) -> Self {
        Self::NotDone(Failure::new(ErrorKind::Interrupted, reason))
    }
}

impl From<ExecuteError> for Trouble {
    fn from(error: ExecuteError) -> Self {
        match error {
            ExecuteError::Rejected(rejection) => Self::refused(rejection.reason),
            error @ (ExecuteError::Unavailable(_)
            | ExecuteError::Unknown(_)
            | ExecuteError::Illegal(_)
            | ExecuteError::Decode(_)
            | ExecuteError::Broken(_)) => Self::Unknown(error.to_string()),
        }
    }
}

/// How far an attempt is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// Which attempt.
    pub(crate) id: AttemptId,
    /// In words.
    pub(crate) text: String,
    /// Who or what it waits for.
    pub(crate) missing: Vec<String>,
}

/// Where an attempt reports how far it is. The same words twice are one report.
pub(crate) struct Progress {
    id: AttemptId,
    sender: mpsc::Sender<Said>,
    last: Mutex<Vec<String>>,
}

impl Progress {
    /// Reports of one attempt.
    pub(crate) fn new(id: AttemptId, sender: mpsc::Sender<Said>) -> Self {
        Self {
            id,
            sender,
            last: Mutex::new(Vec::new()),
        }
    }

    /// Reports, if `kept` differs from the last report's: the words that matter, without those that change every millisecond.
    pub(crate) async fn say(&self, text: String, missing: Vec<String>, kept: Vec<String>) {
        {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if *last == kept {
                return;
            }
            *last = kept;
        }
        // The driver is gone only when this attempt is about to be.
        drop(
            self.sender
                .send(Said {
                    id: self.id.clone(),
                    text,
                    missing,
                })
                .await,
        );
    }
}
