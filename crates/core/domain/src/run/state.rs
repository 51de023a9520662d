//! What is known of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sealwarden_runbook::{Approver, Assessment, ErrorKind, Quorum, Role, undone_step};
use sealwarden_wire::event::v1::RunOutcome;

use super::evidence::Given;
use super::pinned::Pinned;
use super::undo;
use crate::approval::{Authenticator, Decision, Inputs, Standing, sha256_hex};
use crate::fold::{Rejection, RejectionCode};

/// The most refused approvals that one run records. Later ones are refused without a record, so nobody can fill the log with them.
pub const MAX_REFUSALS: usize = 1000;

/// One try of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// The same for every attempt of a step's iteration.
    pub idempotency_key: String,
    /// When its start was recorded, Unix milliseconds.
    pub started_at_ms: i64,
    /// When its effect must have ended, Unix milliseconds.
    pub deadline_ms: i64,
    /// Who answers for it: whoever recorded its start, or took it over last.
    pub by: String,
    /// How often it was taken over.
    pub claim: u32,
    /// Position of the commit that made it that one's.
    pub held_at: u64,
    /// When that was recorded, Unix milliseconds.
    pub held_since_ms: i64,
}

/// Where a step stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Steps that it needs are not done.
    Blocked,
    /// Its inputs are known: it can be approved and begun.
    Ready,
    /// An attempt runs.
    Running(Attempt),
    /// An attempt ended without an answer.
    Unknown {
        /// Which.
        attempt: Attempt,
        /// Why nobody knows.
        reason: String,
        /// Observing could not tell either: a person must.
        needs_person: bool,
    },
    /// Its effect happened.
    Done,
    /// Its effect did not happen, and no attempt is left.
    Failed,
    /// People signed that the run goes on without it.
    Skipped,
    /// Its condition did not hold: the run goes on without it.
    NotNeeded,
    /// Its condition could not be evaluated: a person decides.
    Undecided,
    /// The run was aborted before it happened: it never will.
    Cancelled,
}

impl Phase {
    /// The attempt under way.
    pub fn attempt(&self) -> Option<&Attempt> {
        match self {
            Self::Running(attempt) | Self::Unknown { attempt, .. } => Some(attempt),
            Self::Blocked
            | Self::Ready
            | Self::Done
            | Self::Failed
            | Self::Skipped
            | Self::NotNeeded
            | Self::Undecided
            | Self::Cancelled => None,
        }
    }

    pub(crate) fn attempt_mut(&mut self) -> Option<&mut Attempt> {
        match self {
            Self::Running(attempt) | Self::Unknown { attempt, .. } => Some(attempt),
            Self::Blocked
            | Self::Ready
            | Self::Done
            | Self::Failed
            | Self::Skipped
            | Self::NotNeeded
            | Self::Undecided
            | Self::Cancelled => None,
        }
    }

    /// Whether the steps behind it may go on.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Done | Self::Skipped | Self::NotNeeded)
    }

    /// The phase in a word, for sentences.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Ready => "ready",
            Self::Running(_) => "running",
            Self::Unknown { .. } => "unknown",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::NotNeeded => "not-needed",
            Self::Undecided => "undecided",
            Self::Cancelled => "cancelled",
        }
    }
}

/// How a step's condition came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Whether it holds, or why nobody can tell.
    pub holds: Result<bool, String>,
    /// What it read: names as in conditions, long values cut.
    pub seen: BTreeMap<String, String>,
    /// When it was recorded, Unix milliseconds.
    pub at_ms: i64,
}

/// A decision that counted when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Who.
    pub person: String,
    /// That person's roles which the quorum asks for.
    pub roles: BTreeSet<Role>,
    /// What.
    pub decision: Decision,
    /// The signed text.
    pub statement: String,
    /// The armored signature.
    pub signature: String,
    /// The key, as `ssh-keygen -l` prints it.
    pub fingerprint: String,
    /// What the person wrote beside it.
    pub note: String,
    /// When it was recorded, Unix milliseconds.
    pub at_ms: i64,
    /// When it stops to count if the step has not started, Unix milliseconds.
    pub expires_ms: i64,
    /// What a FIDO key signed beside the text.
    pub authenticator: Option<Authenticator>,
    /// When its key was revoked, Unix milliseconds.
    pub revoked_at_ms: Option<i64>,
}

impl Decided {
    /// Whether it still counts. A denial stands until the same person approves; the others expire, and go with their key.
    pub fn stands(&self, at_ms: i64) -> bool {
        let is_revoked = self.revoked_at_ms.is_some_and(|revoked| revoked <= at_ms);
        self.decision == Decision::Deny || (self.expires_ms > at_ms && !is_revoked)
    }
}

/// An approval that did not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The step it was for; empty if that could not be read.
    pub step: String,
    /// Who signed, as far as known.
    pub person: String,
    /// The signed text.
    pub statement: String,
    /// The armored signature.
    pub signature: String,
    /// The kind of reason.
    pub code: String,
    /// The reason in words.
    pub reason: String,
    /// When it was recorded, Unix milliseconds.
    pub at_ms: i64,
}

/// What an operator said, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Who.
    pub by: String,
    /// Why; may be empty.
    pub reason: String,
    /// When it was recorded, Unix milliseconds.
    pub at_ms: i64,
}

/// Whether the run goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Course {
    /// It does.
    #[default]
    Going,
    /// No new step starts. What is under way goes on to its end, decisions are taken in, and deadlines run on.
    Paused(Word),
    /// No new step starts any more; the run ends with what is under way.
    Aborting(Word),
}

/// A step that break-glass keys ordered without its quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overridden {
    /// Whose keys.
    pub by: Vec<String>,
    /// Why.
    pub reason: String,
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// Who reviewed it; empty until enough others did.
    pub reviewed_by: Vec<String>,
}

/// One step of the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepState {
    /// Where it stands.
    pub phase: Phase,
    /// Its iteration.
    pub iteration: u32,
    /// How its condition came out, if it has one and its needs are over.
    pub condition: Option<Judged>,
    /// Its resolved inputs with their digest (hex), once its needs are done.
    pub inputs: Option<(Inputs, String)>,
    /// What people handed in for it; it is part of the inputs, too.
    pub evidence: BTreeMap<String, Given>,
    /// Decisions in order of time; the last of each person is the one that may stand.
    pub decided: Vec<Decided>,
    /// Signed words beside approvals: to retry, skip, override, review.
    pub verbs: Vec<Decided>,
    /// Who skipped it.
    pub skipped: Option<Word>,
    /// Who overrode its quorum.
    pub overridden: Option<Overridden>,
    /// How many attempts operators have granted altogether, beyond what the runbook allows; 0 if none.
    pub granted: u32,
    /// How many attempts have started.
    pub attempts: u32,
    /// What it left for later steps.
    pub outputs: BTreeMap<String, String>,
    /// The latest word on its progress.
    pub progress: String,
    /// Who or what its attempt waits for.
    pub missing: Vec<String>,
    /// Why the latest attempt was not done.
    pub error: String,
    /// The kind of that; `None` where none was recorded.
    pub error_kind: Option<ErrorKind>,
    /// When its inputs were known and it could be approved, Unix milliseconds; 0 before.
    pub ready_at_ms: i64,
    /// When its first attempt started, Unix milliseconds; 0 before.
    pub started_at_ms: i64,
    /// When its latest attempt ended, Unix milliseconds; 0 before.
    pub ended_at_ms: i64,
}

impl StepState {
    pub(crate) fn blocked() -> Self {
        Self {
            phase: Phase::Blocked,
            iteration: 0,
            condition: None,
            inputs: None,
            evidence: BTreeMap::new(),
            decided: Vec::new(),
            verbs: Vec::new(),
            skipped: None,
            overridden: None,
            granted: 0,
            attempts: 0,
            outputs: BTreeMap::new(),
            progress: String::new(),
            missing: Vec::new(),
            error: String::new(),
            error_kind: None,
            ready_at_ms: 0,
            started_at_ms: 0,
            ended_at_ms: 0,
        }
    }

    /// The decisions that stand: the last of each person, unless it has expired.
    pub fn standing(&self, at_ms: i64) -> impl Iterator<Item = &Decided> {
        self.decided
            .iter()
            .enumerate()
            .filter_map(move |(index, decided)| {
                let replaced = self
                    .decided
                    .iter()
                    .skip(index + 1)
                    .any(|later| later.person == decided.person);
                (!replaced && decided.stands(at_ms)).then_some(decided)
            })
    }

    /// The signed words of one kind that are unexpired, in order of time.
    pub fn said(&self, decision: Decision, at_ms: i64) -> impl Iterator<Item = &Decided> {
        self.verbs
            .iter()
            .filter(move |said| said.decision == decision && said.stands(at_ms))
    }

    /// Who stands against the step.
    pub fn denied_by(&self, at_ms: i64) -> Option<&Decided> {
        self.standing(at_ms)
            .find(|decided| decided.decision == Decision::Deny)
    }

    /// What the quorum says of those who stand for the step.
    pub fn assess(&self, quorum: &Quorum, at_ms: i64) -> Assessment {
        let approvers: Vec<Approver> = self
            .standing(at_ms)
            .filter(|decided| decided.decision != Decision::Deny)
            .map(|decided| Approver {
                person: decided.person.clone(),
                roles: decided.roles.clone(),
            })
            .collect();
        quorum.assess(&approvers)
    }

    /// The decisions that stand, as a check of a new one needs them.
    pub(crate) fn standing_words(&self, at_ms: i64) -> Vec<Standing<'_>> {
        self.standing(at_ms)
            .map(|decided| Standing {
                person: &decided.person,
                decision: decided.decision,
            })
            .collect()
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunEnd {
    /// Completed or failed.
    pub outcome: RunOutcome,
    /// Why.
    pub reason: String,
    /// When, Unix milliseconds.
    pub at_ms: i64,
}

/// Everything known of one run. `Default` is the run before its first event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunState {
    pub(crate) pinned: Option<Arc<Pinned>>,
    pub(crate) steps: BTreeMap<String, StepState>,
    pub(crate) nonces: BTreeSet<String>,
    /// Keys that count no more, by fingerprint.
    pub(crate) revoked: BTreeSet<String>,
    pub(crate) refused: Vec<Refused>,
    pub(crate) started_at_ms: i64,
    pub(crate) ended: Option<RunEnd>,
    pub(crate) course: Course,
    /// The run was aborted with `--undo`.
    pub(crate) undoing: bool,
}

impl RunState {
    /// What the run is pinned to; `None` before it started.
    pub fn pinned(&self) -> Option<&Pinned> {
        self.pinned.as_deref()
    }

    /// A step's state.
    pub fn step(&self, id: &str) -> Option<&StepState> {
        self.steps.get(id)
    }

    /// All steps by id.
    pub fn steps(&self) -> &BTreeMap<String, StepState> {
        &self.steps
    }

    /// Fingerprints of the roster's keys that were revoked while the run was open.
    pub fn revoked(&self) -> &BTreeSet<String> {
        &self.revoked
    }

    /// Approvals that did not count, in order, at most [`MAX_REFUSALS`].
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// When the run started, Unix milliseconds.
    pub fn started_at_ms(&self) -> i64 {
        self.started_at_ms
    }

    /// Whether it goes on, is paused, or is being aborted.
    pub fn course(&self) -> &Course {
        &self.course
    }

    /// How often a step is tried: what the runbook allows, and what operators granted.
    pub fn max_attempts(&self, id: &str) -> u32 {
        let allowed = self.pinned().map_or(1, |pinned| pinned.max_attempts(id));
        allowed.max(self.step(id).map_or(0, |step| step.granted))
    }

    /// Whether a step is tried again when this attempt ends with this error.
    pub(crate) fn is_tried_again(&self, id: &str, attempt: u32, error: Option<ErrorKind>) -> bool {
        let named = self
            .pinned()
            .is_some_and(|it| it.tries_again_after(id, error));
        attempt < self.max_attempts(id) && named
    }

    /// Whether it was aborted with `--undo`: what is done is taken back where the runbook says how.
    pub fn is_undoing(&self) -> bool {
        self.undoing
    }

    /// How it ended, if it did.
    pub fn ended(&self) -> Option<&RunEnd> {
        self.ended.as_ref()
    }

    /// Whether it goes on: started and not ended.
    pub fn is_open(&self) -> bool {
        self.pinned.is_some() && self.ended.is_none()
    }

    /// Whether every step that `id` needs is over.
    pub(crate) fn needs_done(&self, pinned: &Pinned, id: &str) -> bool {
        if let Some(step) = undone_step(id) {
            return undo::waits_for(self, pinned, step).is_empty();
        }
        let is_over = |need: &String| self.step(need).is_some_and(|step| step.phase.is_over());
        pinned.needs(id).iter().all(is_over)
    }

    /// What the run is pinned to, or the refusal of a command to a run that is not there.
    pub(crate) fn started(&self) -> Result<&Pinned, Rejection> {
        self.pinned().ok_or_else(|| {
            Rejection::new(
                RejectionCode::NotFound,
                "the run has not started; `run list` shows those that have",
            )
        })
    }

    /// A step that a command names, or the refusal.
    pub(crate) fn named(&self, pinned: &Pinned, id: &str) -> Result<&StepState, Rejection> {
        self.step(id).ok_or_else(|| {
            let known: Vec<&str> = self.steps.keys().map(String::as_str).collect();
            let reason = format!(
                "runbook {} has no step {id:?}; it has {}",
                pinned.started().runbook,
                known.join(", ")
            );
            Rejection::new(RejectionCode::NotFound, reason)
        })
    }
}

/// The idempotency key of a step's effect: SHA-256 (hex) over run, step and iteration, one a line.
pub fn idempotency_key(run: &str, step: &str, iteration: u32) -> String {
    sha256_hex(format!("{run}\n{step}\n{iteration}\n").as_bytes())
}

/// Cuts a text to at most `max_bytes`, between characters.
pub(crate) fn cut(text: &str, max_bytes: usize) -> String {
    let end = text
        .char_indices()
        .map(|(at, c)| at + c.len_utf8())
        .take_while(|end| *end <= max_bytes)
        .last();
    end.and_then(|end| text.get(..end))
        .unwrap_or_default()
        .to_owned()
}
