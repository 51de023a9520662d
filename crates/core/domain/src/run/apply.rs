//! The fold. It re-checks what can be checked without a clock, so a log that was not written by [`super::decide`] is reported.

mod verbs;

use std::collections::BTreeSet;
use std::sync::Arc;

use sealwarden_runbook::{ErrorKind, Role, undone_step};
use sealwarden_wire::event::v1::event::Kind;
use sealwarden_wire::event::v1::{
    ApprovalRecorded, ApprovalRefused, ApproverKeyRevoked, ConditionEvaluated, ConditionOutcome,
    Envelope, Event, InputsResolved, RunEnded, RunOutcome, RunStarted, StepEnded, StepOutcome,
    StepProgressed, StepStarted, StepTaken, StepUnknown,
};

use super::pinned::Pinned;
use super::state::{
    Attempt, Course, Decided, Judged, MAX_REFUSALS, Phase, Refused, RunEnd, RunState, StepState,
    idempotency_key,
};
use super::undo;
use crate::approval::{Authenticator, Decision, Inputs, RefusalCode, Statement};
use crate::fold::{Fold, IllegalEvent};

impl Fold for RunState {
    fn apply(&mut self, envelope: &Envelope, event: &Event) -> Result<(), IllegalEvent> {
        let at_ms = envelope.recorded_at_ms;
        let kind = event.kind.as_ref().ok_or_else(|| {
            IllegalEvent::new(
                envelope,
                "its kind is unknown; a newer version may have written it",
            )
        })?;
        if let Kind::RunStarted(started) = kind
            && envelope.stream != format!("run/{}", started.run)
        {
            let reason = format!(
                "it starts run {:?}, which has a stream of its own",
                started.run
            );
            return Err(IllegalEvent::new(envelope, reason));
        }
        self.take(kind, at_ms)
            .map_err(|reason| IllegalEvent::new(envelope, reason))?;
        if let Kind::StepStarted(StepStarted { step, .. })
        | Kind::StepTaken(StepTaken { step, .. }) = kind
        {
            self.held_by(step, envelope);
        }
        Ok(())
    }
}

impl RunState {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "every other kind is illegal in a run's stream, new ones too"
    )]
    pub(crate) fn take(&mut self, kind: &Kind, at_ms: i64) -> Result<(), String> {
        match kind {
            Kind::RunStarted(event) => self.run_started(event, at_ms),
            Kind::ConditionEvaluated(event) => self.condition_evaluated(event, at_ms),
            Kind::InputsResolved(event) => self.inputs_resolved(event, at_ms),
            Kind::ApprovalRecorded(event) => self.approval_recorded(event, at_ms),
            Kind::ApprovalRefused(event) => self.approval_refused(event, at_ms),
            Kind::ApproverKeyRevoked(event) => self.key_revoked(event, at_ms),
            Kind::StepStarted(event) => self.step_started(event, at_ms),
            Kind::StepTaken(event) => self.step_taken(event),
            Kind::StepProgressed(event) => self.step_progressed(event),
            Kind::StepEnded(event) => self.step_ended(event, at_ms),
            Kind::StepUnknown(event) => self.step_unknown(event),
            Kind::RunEnded(event) => self.run_ended(event, at_ms),
            Kind::RunPaused(event) => self.run_paused(event, at_ms),
            Kind::RunResumed(_) => self.run_resumed(),
            Kind::RunAborted(event) => self.run_aborted(event, at_ms),
            Kind::StepRetried(event) => self.step_retried(event),
            Kind::StepSkipped(event) => self.step_skipped(event, at_ms),
            Kind::StepOverridden(event) => self.step_overridden(event, at_ms),
            Kind::OverrideReviewed(event) => self.override_reviewed(event),
            Kind::EvidenceGiven(event) => self.evidence_given(event, at_ms),
            _ => Err("it does not belong in a run's stream".to_owned()),
        }
    }

    /// Keeps who answers for an attempt: only the envelope says.
    fn held_by(&mut self, step: &str, envelope: &Envelope) {
        let step = self.steps.get_mut(step);
        if let Some(attempt) = step.and_then(|step| step.phase.attempt_mut()) {
            let actor = envelope.actor.as_ref();
            attempt.by = actor.map(|actor| actor.name.clone()).unwrap_or_default();
            attempt.held_at = envelope.position;
            attempt.held_since_ms = envelope.recorded_at_ms;
        }
    }

    fn run_started(&mut self, event: &RunStarted, at_ms: i64) -> Result<(), String> {
        if self.pinned.is_some() {
            return Err("the run starts a second time".to_owned());
        }
        let pinned = Pinned::read(event.clone()).map_err(|error| error.to_string())?;
        self.steps = pinned
            .order()
            .iter()
            .map(|id| (id.clone(), StepState::blocked()))
            .collect();
        self.started_at_ms = at_ms;
        self.pinned = Some(Arc::new(pinned));
        Ok(())
    }

    /// What the run is pinned to, while it is open.
    pub(super) fn open(&self) -> Result<Arc<Pinned>, String> {
        match (&self.pinned, &self.ended) {
            (None, _) => Err("the run has not started".to_owned()),
            (Some(_), Some(_)) => Err("the run has ended".to_owned()),
            (Some(pinned), None) => Ok(Arc::clone(pinned)),
        }
    }

    pub(super) fn step_mut(&mut self, id: &str, iteration: u32) -> Result<&mut StepState, String> {
        let step = self
            .steps
            .get_mut(id)
            .ok_or_else(|| format!("the runbook has no step {id:?}"))?;
        if step.iteration == iteration {
            Ok(step)
        } else {
            Err(format!("step {id} has no iteration {iteration}"))
        }
    }

    fn condition_evaluated(
        &mut self,
        event: &ConditionEvaluated,
        at_ms: i64,
    ) -> Result<(), String> {
        let pinned = self.open()?;
        let planned = pinned.runbook().step(&event.step);
        let condition = planned.and_then(|step| step.when.as_ref());
        if condition.is_none_or(|condition| condition.as_str() != event.condition) {
            return Err(format!(
                "step {} has another condition than {:?}",
                event.step, event.condition
            ));
        }
        let over = self.needs_done(&pinned, &event.step);
        let step = self.step_mut(&event.step, event.iteration)?;
        if !over || step.phase != Phase::Blocked || step.condition.is_some() {
            return Err(format!(
                "the condition of step {} is evaluated, and it is not its turn",
                event.step
            ));
        }
        let holds = match event.outcome() {
            ConditionOutcome::Holds => Ok(true),
            ConditionOutcome::DoesNotHold => Ok(false),
            ConditionOutcome::Error => Err(event.error.clone()),
            ConditionOutcome::Unspecified => {
                return Err(format!(
                    "a condition of step {} without outcome",
                    event.step
                ));
            }
        };
        if holds == Ok(false) {
            step.phase = Phase::NotNeeded;
            step.ended_at_ms = at_ms;
        }
        let seen = event.seen.iter();
        step.condition = Some(Judged {
            holds,
            seen: seen
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            at_ms,
        });
        Ok(())
    }

    fn inputs_resolved(&mut self, event: &InputsResolved, at_ms: i64) -> Result<(), String> {
        let pinned = self.open()?;
        if !self.needs_done(&pinned, &event.step) {
            return Err(format!(
                "inputs of step {} before the steps that it needs",
                event.step
            ));
        }
        let step = self.step_mut(&event.step, event.iteration)?;
        if step.phase != Phase::Blocked {
            return Err(format!("inputs of step {} a second time", event.step));
        }
        let inputs = Inputs::parse(&event.inputs).map_err(|error| error.to_string())?;
        if pinned
            .action(&event.step)
            .map(sealwarden_runbook::Action::name)
            != Some(inputs.action())
        {
            return Err(format!(
                "inputs of step {} are for the action {:?}",
                event.step,
                inputs.action()
            ));
        }
        if inputs.digest() != event.digest {
            return Err(format!(
                "inputs of step {} do not have the digest {}",
                event.step, event.digest
            ));
        }
        let planned = pinned.runbook().step(&event.step);
        let conditional = planned.is_some_and(|step| step.when.is_some());
        step.phase = match &step.condition {
            None if conditional => {
                return Err(format!(
                    "inputs of step {} before its condition",
                    event.step
                ));
            }
            Some(judged) if judged.holds.is_err() => Phase::Undecided,
            Some(_) | None => Phase::Ready,
        };
        step.inputs = Some((inputs, event.digest.clone()));
        step.ready_at_ms = at_ms;
        Ok(())
    }

    fn approval_recorded(&mut self, event: &ApprovalRecorded, at_ms: i64) -> Result<(), String> {
        let statement = Statement::parse(&event.statement)
            .map_err(|error| format!("an approval's statement: {error}"))?;
        let decision = Decision::parse(&event.decision)
            .ok_or_else(|| format!("the decision {:?}", event.decision))?;
        if decision != Decision::Review {
            self.open()?;
        }
        let same = statement.step == event.step
            && statement.iteration == event.iteration
            && statement.approver == event.person
            && statement.decision == decision
            && statement.nonce == event.nonce;
        if !same {
            return Err(format!(
                "an approval by {} whose fields differ from its statement",
                event.person
            ));
        }
        if self.nonces.contains(&event.nonce) {
            return Err(format!("the nonce {} a second time", event.nonce));
        }
        if self.revoked.contains(&event.key_fingerprint) {
            return Err(format!(
                "an approval by {} with a key that was revoked",
                event.person
            ));
        }
        let roles: BTreeSet<Role> = event
            .roles
            .iter()
            .map(|role| Role::new(role).map_err(|error| error.to_string()))
            .collect::<Result<_, _>>()?;
        let step = self.step_mut(&event.step, event.iteration)?;
        if !verbs::takes(step, decision) {
            return Err(format!(
                "the decision {decision} about step {}, which takes none now",
                event.step
            ));
        }
        let list = if decision.is_about_the_quorum() {
            &mut step.decided
        } else {
            &mut step.verbs
        };
        list.push(Decided {
            person: event.person.clone(),
            roles,
            decision,
            statement: event.statement.clone(),
            signature: event.signature.clone(),
            fingerprint: event.key_fingerprint.clone(),
            note: event.note.clone(),
            at_ms,
            expires_ms: statement.expires_ms(),
            authenticator: event.authenticator.and_then(|it| {
                Some(Authenticator {
                    flags: u8::try_from(it.flags).ok()?,
                    counter: it.counter,
                })
            }),
            revoked_at_ms: None,
        });
        self.nonces.insert(event.nonce.clone());
        Ok(())
    }

    fn key_revoked(&mut self, event: &ApproverKeyRevoked, at_ms: i64) -> Result<(), String> {
        self.open()?;
        if !self.revoked.insert(event.key_fingerprint.clone()) {
            return Err(format!(
                "the key {} is revoked a second time",
                event.key_fingerprint
            ));
        }
        let steps = self.steps.values_mut();
        let signed = steps.flat_map(|step| step.decided.iter_mut().chain(&mut step.verbs));
        for decided in signed.filter(|it| it.fingerprint == event.key_fingerprint) {
            decided.revoked_at_ms = Some(at_ms);
        }
        Ok(())
    }

    fn approval_refused(&mut self, event: &ApprovalRefused, at_ms: i64) -> Result<(), String> {
        if self.pinned.is_none() {
            return Err("the run has not started".to_owned());
        }
        if self.refused.len() >= MAX_REFUSALS {
            return Err(format!("more than {MAX_REFUSALS} refused approvals"));
        }
        // A statement that was signed too early must not come to life when the inputs turn out as guessed.
        if event.code == RefusalCode::TooEarly.as_str()
            && let Ok(statement) = Statement::parse(&event.statement)
        {
            self.nonces.insert(statement.nonce);
        }
        self.refused.push(Refused {
            step: event.step.clone(),
            person: event.person.clone(),
            statement: event.statement.clone(),
            signature: event.signature.clone(),
            code: event.code.clone(),
            reason: event.reason.clone(),
            at_ms,
        });
        Ok(())
    }

    fn step_started(&mut self, event: &StepStarted, at_ms: i64) -> Result<(), String> {
        let pinned = self.open()?;
        let key = idempotency_key(&pinned.started().run, &event.step, event.iteration);
        let going = self.course == Course::Going;
        let step = self.step_mut(&event.step, event.iteration)?;
        let manual = pinned
            .action(&event.step)
            .is_some_and(|action| action.spec().manual);
        // What was aborted is taken back.
        let undoes = undone_step(&event.step).is_some();
        if step.phase != Phase::Ready || !(going || manual || undoes) {
            return Err(format!("step {} starts and is not ready", event.step));
        }
        if Some(event.attempt) != step.attempts.checked_add(1) {
            return Err(format!(
                "step {} starts attempt {} after {}",
                event.step, event.attempt, step.attempts
            ));
        }
        if event.idempotency_key != key {
            return Err(format!(
                "step {} starts with another idempotency key than {key}",
                event.step
            ));
        }
        step.attempts = event.attempt;
        if step.started_at_ms == 0 {
            step.started_at_ms = at_ms;
        }
        step.ended_at_ms = 0;
        step.error.clear();
        step.error_kind = None;
        step.phase = Phase::Running(Attempt {
            number: event.attempt,
            idempotency_key: key,
            started_at_ms: at_ms,
            deadline_ms: event.deadline_ms,
            by: String::new(),
            claim: 0,
            held_at: 0,
            held_since_ms: at_ms,
        });
        Ok(())
    }

    fn step_taken(&mut self, event: &StepTaken) -> Result<(), String> {
        self.open()?;
        let step = self.step_mut(&event.step, event.iteration)?;
        let attempt = step.phase.attempt_mut();
        let attempt = attempt.filter(|attempt| attempt.number == event.attempt);
        let attempt = attempt.ok_or_else(|| {
            format!(
                "attempt {} of step {} is taken over and does not run",
                event.attempt, event.step
            )
        })?;
        if Some(event.claim) != attempt.claim.checked_add(1) {
            return Err(format!(
                "claim {} to step {} follows {}",
                event.claim, event.step, attempt.claim
            ));
        }
        attempt.claim = event.claim;
        Ok(())
    }

    fn step_progressed(&mut self, event: &StepProgressed) -> Result<(), String> {
        self.open()?;
        let step = self.step_mut(&event.step, event.iteration)?;
        if step.phase.attempt().is_none() {
            return Err(format!(
                "progress of step {}, which does not run",
                event.step
            ));
        }
        step.progress.clone_from(&event.text);
        step.missing.clone_from(&event.missing);
        Ok(())
    }

    fn step_ended(&mut self, event: &StepEnded, at_ms: i64) -> Result<(), String> {
        self.open()?;
        let error_kind = kind_of_error(event)?;
        let again = self.is_tried_again(&event.step, event.attempt, error_kind);
        let aborting = matches!(self.course, Course::Aborting(_));
        let undoes = undone_step(&event.step).is_some();
        let step = self.step_mut(&event.step, event.iteration)?;
        if step.phase.attempt().map(|attempt| attempt.number) != Some(event.attempt) {
            return Err(format!(
                "the end of attempt {} of step {}, which does not run",
                event.attempt, event.step
            ));
        }
        step.phase = match event.outcome() {
            StepOutcome::Done => {
                step.outputs.clone_from(&event.outputs);
                Phase::Done
            }
            StepOutcome::NotDone if aborting && !undoes => Phase::Cancelled,
            StepOutcome::NotDone if again => Phase::Ready,
            StepOutcome::NotDone => Phase::Failed,
            StepOutcome::Unspecified => {
                return Err(format!("an end of step {} without outcome", event.step));
            }
        };
        step.error.clone_from(&event.error);
        step.error_kind = error_kind;
        step.ended_at_ms = at_ms;
        step.missing.clear();
        self.settle_undo(&event.step);
        Ok(())
    }

    fn step_unknown(&mut self, event: &StepUnknown) -> Result<(), String> {
        self.open()?;
        let step = self.step_mut(&event.step, event.iteration)?;
        let attempt = step
            .phase
            .attempt()
            .filter(|attempt| attempt.number == event.attempt)
            .cloned()
            .ok_or_else(|| {
                format!(
                    "attempt {} of step {} is unknown and does not run",
                    event.attempt, event.step
                )
            })?;
        step.phase = Phase::Unknown {
            attempt,
            reason: event.reason.clone(),
            needs_person: event.needs_person,
        };
        Ok(())
    }

    fn run_ended(&mut self, event: &RunEnded, at_ms: i64) -> Result<(), String> {
        self.open()?;
        let all_done = self.steps.values().all(|step| step.phase.is_over());
        let aborting = matches!(self.course, Course::Aborting(_));
        match event.outcome() {
            RunOutcome::Aborted if aborting && undo::is_complete(self) => {}
            RunOutcome::Aborted if aborting => {
                return Err("the run ends before everything is taken back".to_owned());
            }
            RunOutcome::Aborted => return Err("the run ends as aborted and was not".to_owned()),
            RunOutcome::Completed if all_done => {}
            RunOutcome::Completed => {
                return Err("the run completed with steps that are not done".to_owned());
            }
            RunOutcome::Failed => {}
            RunOutcome::Unspecified => return Err("the run ended without outcome".to_owned()),
        }
        self.ended = Some(RunEnd {
            outcome: event.outcome(),
            reason: event.reason.clone(),
            at_ms,
        });
        Ok(())
    }
}

/// The kind of error that an attempt ended with; `None` in logs from before kinds were recorded.
fn kind_of_error(event: &StepEnded) -> Result<Option<ErrorKind>, String> {
    let word = event.error_kind.as_str();
    if word.is_empty() {
        return Ok(None);
    }
    let unknown = || format!("step {} ended with an error of kind {word:?}", event.step);
    ErrorKind::parse(word).map(Some).ok_or_else(unknown)
}
