//! Commands and what they lead to.

use std::collections::BTreeMap;

use sealwarden_wire::event::v1::event::Kind;
use sealwarden_wire::event::v1::{
    ApproverKeyRevoked, RunStarted, StepEnded, StepOutcome, StepProgressed, StepStarted, StepTaken,
    StepUnknown,
};

use super::confirm;
use super::evidence::{self, Given};
use super::failure::Failure;
use super::gate::{may_begin, waits_for_nobody};
use super::operate::{self, Said, with_end};
use super::pending::AttemptId;
use super::pinned::Pinned;
use super::ready::{Over, ready};
use super::state::{Attempt, Course, Phase, RunState, StepState, cut, idempotency_key};
use super::submit;
use crate::approval::{is_line_breaking, rfc3339_ms};
use crate::fold::{At, Rejection, RejectionCode};

/// The longest reason, error or progress text that is recorded, in bytes.
const MAX_TEXT_BYTES: usize = 4096;

/// The most things that a progress report may say it waits for.
const MAX_MISSING: usize = 100;

/// The longest output of a step, in bytes.
const MAX_OUTPUT_BYTES: usize = 16 * 1024;

/// What a run can be told.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Begin the run. Digests that are left empty are filled in; others must be right.
    Start(Box<RunStarted>),
    /// Take in a signed statement.
    SubmitApproval {
        /// The text that was signed.
        statement: String,
        /// The armored SSHSIG.
        signature: String,
        /// What the person writes beside it, one line.
        note: String,
    },
    /// A key of a person counts no more for what has not begun.
    RevokeKey(ApproverKeyRevoked),
    /// Record that an attempt of a step starts. Its effect may begin only when this is stored.
    BeginStep {
        /// Which.
        step: String,
    },
    /// Take an attempt over from whoever holds it. Its former holder's reports are refused from then on.
    TakeStep(AttemptId),
    /// Record how far an attempt is.
    Progress {
        /// Which step.
        step: String,
        /// How far.
        text: String,
        /// Who or what it waits for.
        missing: Vec<String>,
    },
    /// Record how an attempt ended.
    EndStep(End),
    /// Record that nobody knows how an attempt ended.
    LoseStep {
        /// Which step.
        step: String,
        /// Which attempt.
        attempt: u32,
        /// The claim under which it was held.
        claim: u32,
        /// Why nobody knows.
        reason: String,
        /// Observing could not tell either.
        needs_person: bool,
    },
    /// Start no new step until the run is resumed.
    Pause(Said),
    /// Go on.
    Resume(Said),
    /// Start no new step any more, and end with what is under way.
    Abort {
        /// Who says so.
        said: Said,
        /// Take back what is done, where the runbook says how, before the run ends.
        undo: bool,
    },
    /// Try a step that failed once more.
    Retry {
        /// Which step.
        step: String,
        /// Who says so.
        said: Said,
    },
    /// Take in what people hand in for a manual step. Files are kept already.
    GiveEvidence {
        /// Which step.
        step: String,
        /// Who hands it in.
        by: String,
        /// What, by field.
        given: BTreeMap<String, Given>,
    },
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Which step.
    pub step: String,
    /// Which attempt.
    pub attempt: u32,
    /// The claim under which it was held.
    pub claim: u32,
    /// The outputs of an effect that happened, or why it definitely did not.
    pub result: Result<BTreeMap<String, String>, Failure>,
    /// Whether this was observed after the fact instead of reported by the attempt.
    pub observed: bool,
    /// Whether the steps that become ready and wait for nobody start in the same commit. Only for a process that performs them at once: what it begins, it owns.
    pub begin_next: bool,
}

/// Decides a command. The events are one commit. No events: the command was obeyed before, and nothing is left to record.
pub fn decide(state: &RunState, command: Command, at: At) -> Result<Vec<Kind>, Rejection> {
    match command {
        Command::Start(started) => start(state, *started),
        Command::SubmitApproval {
            statement,
            signature,
            note,
        } => submit::decide(state, &statement, &signature, &note, at),
        Command::RevokeKey(revoked) => submit::revoke(state, revoked),
        Command::BeginStep { step } => begin(state, &step, at),
        Command::TakeStep(id) => take(state, &id),
        Command::Progress {
            step,
            text,
            missing,
        } => progress(state, step, &text, &missing),
        Command::EndStep(end) => finish(state, end, at),
        Command::LoseStep {
            step,
            attempt,
            claim,
            reason,
            needs_person,
        } => lose(state, step, (attempt, claim), &reason, needs_person),
        Command::Pause(said) => operate::pause(state, said),
        Command::Resume(said) => operate::resume(state, said),
        Command::Abort { said, undo } => operate::abort(state, said, undo, at),
        Command::Retry { step, said } => operate::retry(state, &step, said),
        Command::GiveEvidence { step, by, given } => evidence::give(state, &step, by, given),
    }
}

fn start(state: &RunState, mut started: RunStarted) -> Result<Vec<Kind>, Rejection> {
    let invalid = |reason: String| Rejection::new(RejectionCode::Invalid, reason);
    fill_digests(&mut started)?;
    if let Some(pinned) = state.pinned() {
        if *pinned.started() == started {
            return Ok(Vec::new());
        }
        let reason = format!(
            "run {} has started already, with other contents",
            pinned.started().run
        );
        return Err(Rejection::new(RejectionCode::NotNow, reason));
    }
    let pinned = Pinned::read(started.clone()).map_err(|error| invalid(error.to_string()))?;
    pinned
        .rehearse()
        .map_err(|error| invalid(error.to_string()))?;
    let mut events = vec![Kind::RunStarted(started)];
    events.extend(ready(state, &pinned, None)?.events);
    Ok(events)
}

fn fill_digests(started: &mut RunStarted) -> Result<(), Rejection> {
    if started.runbook_digest.is_empty() {
        started.runbook_digest = crate::approval::sha256_hex(started.runbook_text.as_bytes());
    }
    if started.roster_digest.is_empty() {
        let roster = sealwarden_runbook::Roster::parse("roster.yaml", &started.roster_text)
            .map_err(|findings| {
                let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
                Rejection::new(
                    RejectionCode::Invalid,
                    format!("roster.yaml does not read: {}", lines.join("; ")),
                )
            })?;
        started.roster_digest = roster.digest_hex();
    }
    Ok(())
}

fn begin(state: &RunState, id: &str, at: At) -> Result<Vec<Kind>, Rejection> {
    let pinned = state.started()?;
    let step = state.named(pinned, id)?;
    may_begin(state, pinned, id, step, at)?;
    confirm::reverify(pinned, id, step, at)?;
    Ok(vec![started_event(pinned, id, step, at)])
}

fn take(state: &RunState, id: &AttemptId) -> Result<Vec<Kind>, Rejection> {
    let pinned = state.started()?;
    let step = state.named(pinned, &id.step)?;
    attempt_of(state, step, &id.step, (id.attempt, id.claim))?;
    Ok(vec![Kind::StepTaken(StepTaken {
        step: id.step.clone(),
        iteration: step.iteration,
        attempt: id.attempt,
        claim: id.claim.saturating_add(1),
    })])
}

/// `StepStarted` of a step's next attempt.
pub(crate) fn started_event(pinned: &Pinned, id: &str, step: &StepState, at: At) -> Kind {
    Kind::StepStarted(StepStarted {
        step: id.to_owned(),
        iteration: step.iteration,
        attempt: step.attempts.saturating_add(1),
        idempotency_key: idempotency_key(&pinned.started().run, id, step.iteration),
        deadline_ms: at.wall_ms.saturating_add(pinned.timeout_ms(id)),
    })
}

/// The step's attempt that a report is about.
fn attempt_of<'a>(
    state: &RunState,
    step: &'a StepState,
    id: &str,
    (number, claim): (u32, u32),
) -> Result<&'a Attempt, Rejection> {
    let not_now = |reason: String| Rejection::new(RejectionCode::NotNow, reason);
    if let Some(end) = state.ended() {
        return Err(not_now(format!(
            "the run ended at {}",
            rfc3339_ms(end.at_ms)
        )));
    }
    match step.phase.attempt() {
        Some(attempt) if attempt.number == number && attempt.claim != claim => {
            Err(not_now(format!(
                "attempt {number} of step {id} was taken over by {}; what is known of it under an earlier claim does not count",
                attempt.by
            )))
        }
        Some(attempt) if attempt.number == number => Ok(attempt),
        Some(attempt) => Err(not_now(format!(
            "step {id} runs attempt {}, not {number}",
            attempt.number
        ))),
        None => Err(not_now(format!("step {id} runs no attempt {number}"))),
    }
}

fn progress(
    state: &RunState,
    id: String,
    text: &str,
    missing: &[String],
) -> Result<Vec<Kind>, Rejection> {
    let pinned = state.started()?;
    let step = state.named(pinned, &id)?;
    let held = step.phase.attempt().map_or((step.attempts, 0), |attempt| {
        (attempt.number, attempt.claim)
    });
    attempt_of(state, step, &id, held)?;
    let text = cut(text, MAX_TEXT_BYTES);
    let missing: Vec<String> = missing
        .iter()
        .take(MAX_MISSING)
        .map(|item| cut(item, MAX_TEXT_BYTES))
        .collect();
    if step.progress == text && step.missing == missing {
        return Ok(Vec::new());
    }
    Ok(vec![Kind::StepProgressed(StepProgressed {
        iteration: step.iteration,
        step: id,
        text,
        missing,
    })])
}

fn finish(state: &RunState, mut end: End, at: At) -> Result<Vec<Kind>, Rejection> {
    let pinned = state.started()?;
    let step = state.named(pinned, &end.step)?;
    if let Err(failure) = &mut end.result {
        failure.reason = cut(&failure.reason, MAX_TEXT_BYTES);
    }
    if ended_so_before(step, &end) {
        return Ok(Vec::new());
    }
    attempt_of(state, step, &end.step, (end.attempt, end.claim))?;
    if let Ok(outputs) = &end.result {
        check_outputs(pinned, &end.step, outputs)?;
    }
    end_events(state, pinned, step.iteration, end, at)
}

/// The same end was recorded before: the same command twice.
fn ended_so_before(step: &StepState, end: &End) -> bool {
    let same_attempt =
        step.phase.attempt().is_none() && step.attempts == end.attempt && step.ended_at_ms != 0;
    match &end.result {
        Ok(outputs) => same_attempt && step.phase == Phase::Done && step.outputs == *outputs,
        Err(failure) => {
            let same = step.error == failure.reason && step.error_kind == Some(failure.kind);
            same_attempt && step.phase != Phase::Done && same
        }
    }
}

/// `StepEnded`, the inputs of every step that is ready now, the start of those that wait for nobody, and the run's end if nothing is left.
pub(crate) fn end_events(
    state: &RunState,
    pinned: &Pinned,
    iteration: u32,
    end: End,
    at: At,
) -> Result<Vec<Kind>, Rejection> {
    let mut ended = StepEnded {
        step: end.step.clone(),
        iteration,
        attempt: end.attempt,
        outcome: StepOutcome::Done.into(),
        observed: end.observed,
        ..StepEnded::default()
    };
    let outputs = match end.result {
        Err(failure) => {
            ended.set_outcome(StepOutcome::NotDone);
            ended.error = failure.reason;
            failure.kind.as_str().clone_into(&mut ended.error_kind);
            None
        }
        Ok(outputs) => {
            ended.outputs.clone_from(&outputs);
            Some(outputs)
        }
    };
    let end_event = Kind::StepEnded(ended);
    if matches!(state.course(), Course::Aborting(_)) {
        return with_end(state, vec![end_event], at);
    }
    let mut events = vec![end_event];
    let Some(outputs) = outputs else {
        return Ok(events);
    };
    let over = Over {
        step: &end.step,
        outputs: Some(&outputs),
    };
    let ready = ready(state, pinned, Some(over))?;
    let mut starts = Vec::new();
    for id in ready.needed.iter().filter(|_| end.begin_next) {
        if let Some(step) = state.step(id)
            && waits_for_nobody(state, pinned, id, &end.step)
        {
            starts.push(started_event(pinned, id, step, at));
        }
    }
    let all_over = state
        .steps()
        .iter()
        .all(|(id, step)| *id == end.step || ready.not_needed.contains(id) || step.phase.is_over());
    events.extend(ready.events);
    events.append(&mut starts);
    if all_over {
        return with_end(state, events, at);
    }
    Ok(events)
}

fn check_outputs(
    pinned: &Pinned,
    id: &str,
    outputs: &BTreeMap<String, String>,
) -> Result<(), Rejection> {
    let invalid = |reason: String| Err(Rejection::new(RejectionCode::Invalid, reason));
    let Some(planned) = pinned.runbook().work(id) else {
        return invalid(format!("there is no step {id}"));
    };
    let spec = planned.action.spec();
    for field in spec.outputs {
        let Some(value) = outputs.get(field.name) else {
            return invalid(format!(
                "{} promises the output {} and step {id} ended without it",
                spec.name, field.name
            ));
        };
        if !field.kind.accepts(value) {
            return invalid(format!(
                "output {} of step {id} is {value:?}, which is no {}",
                field.name,
                field.kind.as_str()
            ));
        }
        if value.len() > MAX_OUTPUT_BYTES || value.chars().any(is_line_breaking) {
            return invalid(format!(
                "output {} of step {id} is not one line of at most {MAX_OUTPUT_BYTES} bytes",
                field.name
            ));
        }
    }
    for field in &planned.evidence {
        let value = outputs.get(&field.name);
        if value.is_none() && field.required {
            return invalid(format!(
                "step {id} ends without the evidence {}",
                field.name
            ));
        }
        if let Some(refusal) = value.and_then(|value| field.refusal(value)) {
            return invalid(refusal);
        }
    }
    let known = |name: &&String| spec.output(name).is_some() || planned.evidence(name).is_some();
    match outputs.keys().find(|name| !known(name)) {
        Some(name) => invalid(format!("{} declares no output {name:?}", spec.name)),
        None => Ok(()),
    }
}

fn lose(
    state: &RunState,
    id: String,
    (attempt, claim): (u32, u32),
    reason: &str,
    needs_person: bool,
) -> Result<Vec<Kind>, Rejection> {
    let pinned = state.started()?;
    let step = state.named(pinned, &id)?;
    attempt_of(state, step, &id, (attempt, claim))?;
    let reason = cut(reason, MAX_TEXT_BYTES);
    if let Phase::Unknown {
        reason: known,
        needs_person: known_person,
        ..
    } = &step.phase
    {
        // A person was asked: nothing that merely does not know better takes that back.
        if *known_person || (*known == reason && !needs_person) {
            return Ok(Vec::new());
        }
    }
    Ok(vec![Kind::StepUnknown(StepUnknown {
        iteration: step.iteration,
        step: id,
        attempt,
        reason,
        needs_person,
    })])
}
