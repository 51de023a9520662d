//! The end of every story: left alone a run ends or waits for somebody, and with everybody's help it ends.

use sealwarden_domain::approval::Decision;
use sealwarden_domain::run::{
    Command, Course, Phase, Said, Viewer, next_wake_ms, prepare_for, view,
};
use sealwarden_runbook::Action;

use super::executor::Executor;
use super::people::{PEOPLE, REQUESTER};
use super::world::{Deed, World};

/// Rounds in which a run must come to rest.
const ROUNDS: usize = 300;

/// Rounds of help in which a run must end.
const HELP: usize = 60;

impl World {
    /// Executors go on without weather until nothing is left to do for them.
    pub(crate) async fn rest(&mut self) -> Result<(), String> {
        for _ in 0..ROUNDS {
            let before = self.truth.clone();
            for which in 0..self.executors.len() {
                self.turn(which).await?;
                self.look().await?;
                self.with(which, Deed::Work).await?;
                self.turn(which).await?;
                self.look().await?;
            }
            if !self.truth.is_open() {
                return Ok(());
            }
            let moved = before != self.truth;
            if moved || self.executors.iter().any(Executor::is_busy) {
                continue;
            }
            let now_ms = self.now_ms;
            let next =
                |it: &Executor| next_wake_ms(&self.truth, Viewer::alone(it.name), it.at(now_ms));
            let wake_ms = self.executors.iter().filter_map(next).min();
            let idle = self.executors.iter().all(|it| it.is_idle(now_ms));
            match wake_ms {
                Some(wake_ms) => self.pass((wake_ms - now_ms).clamp(1, 1_000_000)),
                None if idle => return Ok(()),
                None => self.pass(1_001),
            }
        }
        Err(format!(
            "the run never comes to rest: {}",
            view(&self.truth, self.executors[0].at(self.now_ms)).reason
        ))
    }

    /// A run at rest has ended, or says whom it waits for.
    pub(crate) fn waits_for_somebody(&self) -> Result<(), String> {
        if !self.truth.is_open() {
            return Ok(());
        }
        let shown = view(&self.truth, self.executors[0].at(self.now_ms));
        let waits = ["waiting", "stuck", "paused", "aborting"].contains(&shown.state.as_str());
        let people = |words: &str| {
            let roles = PEOPLE
                .iter()
                .flat_map(|(name, roles)| std::iter::once(*name).chain(roles.iter().copied()));
            roles
                .chain(["operator", "run resume", "run review"])
                .any(|word| words.contains(word))
        };
        let named = people(&shown.reason) || shown.steps.iter().any(|step| people(&step.missing));
        if waits && named {
            return Ok(());
        }
        Err(format!(
            "the run rests, and says of whom it waits for: {:?} {:?}",
            shown.state, shown.reason
        ))
    }

    /// Everybody does what they are asked for until the run ends.
    pub(crate) async fn help(&mut self) -> Result<(), String> {
        for _ in 0..HELP {
            if !self.truth.is_open() {
                return Ok(());
            }
            if matches!(self.truth.course(), Course::Paused(_)) {
                self.tell(Command::Resume(word())).await?;
                self.look().await?;
            }
            let steps: Vec<String> = self.truth.steps().keys().cloned().collect();
            for step in steps {
                self.help_step(&step).await?;
            }
            self.rest().await?;
        }
        Err(format!(
            "with everybody's help the run does not end: {}",
            view(&self.truth, self.executors[0].at(self.now_ms)).reason
        ))
    }

    async fn help_step(&mut self, step: &str) -> Result<(), String> {
        let Some(known) = self.truth.step(step) else {
            return Ok(());
        };
        let (phase, overridden) = (known.phase.clone(), known.overridden.clone());
        let unreviewed = overridden.is_some_and(|it| it.reviewed_by.is_empty());
        let closes = self.truth.pinned().and_then(|it| it.action(step));
        if unreviewed && closes != Some(Action::CloseIncident) {
            self.everybody(step, Decision::Review).await?;
        }
        match phase {
            Phase::Failed => {
                let (step, said) = (step.to_owned(), word());
                self.tell(Command::Retry { step, said }).await?;
                self.look().await
            }
            Phase::Unknown {
                needs_person: true, ..
            } => {
                if self.outside.happened(step) {
                    self.everybody(step, Decision::Skip).await?;
                }
                // Where later steps take its outputs, skipping is no way: somebody answers for doing it again.
                self.everybody(step, Decision::Retry).await
            }
            Phase::Undecided => {
                let go_on = self.chance.percent(50);
                if !go_on {
                    self.everybody(step, Decision::Skip).await?;
                }
                self.everybody(step, Decision::Retry).await
            }
            Phase::Ready => {
                if closes == Some(Action::Confirm) {
                    self.give(step, "one").await?;
                    self.look().await?;
                }
                self.everybody(step, Decision::Approve).await
            }
            Phase::Blocked
            | Phase::Running(_)
            | Phase::Unknown { .. }
            | Phase::Done
            | Phase::Skipped
            | Phase::NotNeeded
            | Phase::Cancelled => Ok(()),
        }
    }

    async fn everybody(&mut self, step: &str, decision: Decision) -> Result<(), String> {
        for (person, roles) in PEOPLE.iter().filter(|(person, _)| *person != REQUESTER) {
            let known = self.truth.step(step);
            let decided = known.iter().flat_map(|step| &step.decided);
            let told = decided.rev().find(|decided| decided.person == *person);
            let denied = told.is_some_and(|decided| decided.decision == Decision::Deny);
            let at = self.executors[0].at(self.now_ms);
            let asked = prepare_for(&self.truth, step, Some(decision), at);
            let asked = asked.map(|it| it.missing).unwrap_or_default();
            let counts = roles.iter().any(|role| asked.contains(role));
            if decision == Decision::Approve && !denied && !counts {
                continue;
            }
            let Some(statement) = self.statement(person, step, decision) else {
                return Ok(());
            };
            let namespace = statement.environment.namespace();
            self.sign(&statement, person, namespace, true).await?;
            self.look().await?;
        }
        Ok(())
    }
}

fn word() -> Said {
    Said {
        by: "olga".to_owned(),
        reason: "go on".to_owned(),
    }
}
