//! What every log of a run must keep to, told from its events alone and in other words than the decider's.

use std::collections::{BTreeMap, BTreeSet};

use sealwarden_domain::approval::{Decision, Statement};
use sealwarden_runbook::{Action, ErrorKind, undo_id, undone_step};
use sealwarden_wire::event::v1::event::Kind;
use sealwarden_wire::event::v1::{
    ApprovalRecorded, ConditionEvaluated, ConditionOutcome, EvidenceGiven, RunOutcome, StepEnded,
    StepOutcome, StepStarted,
};

use super::outside::Outside;
use super::people::{REQUESTER, Roles, meet};
use super::runbooks::{Demand, Shape, When};

/// What is known of a step.
#[derive(Default)]
struct Known {
    over: bool,
    /// How it ended, in the word that conditions read.
    word: &'static str,
    condition: Option<ConditionOutcome>,
    /// A person signed that it goes on, though nobody can tell whether it is needed.
    released: bool,
    running: Option<u32>,
    attempts: u32,
    granted: u32,
    /// Its latest attempt ended with an error after which its runbook does not try again.
    failed: bool,
    /// The latest word of each person about the quorum, with its end.
    words: BTreeMap<String, (Decision, i64)>,
    /// Words to order it without its quorum, with their ends.
    glass: Vec<(String, i64)>,
    skips: BTreeSet<String>,
    /// Who overrode it, until others reviewed that.
    overriders: Option<BTreeSet<String>>,
    reviews: BTreeSet<String>,
    /// What was handed in.
    given: BTreeMap<String, String>,
}

/// Reads a run's log, event after event.
pub(crate) struct Judge {
    shape: Shape,
    steps: BTreeMap<String, Known>,
    /// Texts that their approvers really signed.
    pub(crate) genuine: BTreeSet<String>,
    nonces: BTreeSet<String>,
    halted: bool,
    aborted: bool,
    ended: bool,
    /// How often each kind of thing was seen.
    pub(crate) seen: BTreeMap<&'static str, u64>,
}

impl Judge {
    pub(crate) fn new(shape: Shape) -> Self {
        let steps = shape.order.iter().cloned();
        Self {
            steps: steps.map(|id| (id, Known::default())).collect(),
            shape,
            genuine: BTreeSet::new(),
            nonces: BTreeSet::new(),
            halted: false,
            aborted: false,
            ended: false,
            seen: BTreeMap::new(),
        }
    }

    fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn of(&mut self, step: &str) -> Result<(&mut Known, Demand), String> {
        let demand = self.shape.steps.get(step).cloned();
        let known = self.steps.get_mut(step).zip(demand);
        known.ok_or_else(|| format!("an event about a step {step:?} that is not there"))
    }

    /// Whether an attempt's start stands in the log, so that its effect may begin.
    pub(crate) fn has_started(&self, step: &str, attempt: u32) -> bool {
        self.steps
            .get(step)
            .is_some_and(|known| known.attempts >= attempt)
    }

    /// Takes the next commit in.
    pub(crate) fn take(&mut self, commit: &[Kind], outside: &mut Outside) -> Result<(), String> {
        for kind in commit {
            let late = matches!(
                kind,
                Kind::ApprovalRecorded(_) | Kind::ApprovalRefused(_) | Kind::OverrideReviewed(_)
            );
            if self.ended && !late {
                return Err(format!("after the run's end: {kind:?}"));
            }
            self.event(kind, commit, outside)?;
        }
        Ok(())
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the other kinds decide nothing here, or the fold refuses them"
    )]
    fn event(&mut self, kind: &Kind, commit: &[Kind], outside: &mut Outside) -> Result<(), String> {
        match kind {
            Kind::ApprovalRecorded(event) => self.recorded(event)?,
            Kind::ApprovalRefused(_) => self.saw("refused"),
            Kind::ConditionEvaluated(event) => self.condition(event)?,
            Kind::StepStarted(event) => self.started(event)?,
            Kind::StepEnded(event) => self.ended_attempt(event)?,
            Kind::StepUnknown(event) if event.needs_person => self.saw("asked"),
            Kind::StepUnknown(_) => self.saw("unknown"),
            Kind::StepRetried(event) => {
                let signed = matches!(commit.first(), Some(Kind::ApprovalRecorded(_)));
                let (known, _) = self.of(&event.step)?;
                known.granted = known.granted.max(event.attempt + 1);
                known.running = None;
                let undecided = known.condition == Some(ConditionOutcome::Error);
                if undecided && event.attempt == 0 {
                    if !signed {
                        return Err(format!("nobody signed that it goes on: {event:?}"));
                    }
                    known.released = true;
                    self.saw("released");
                    return Ok(());
                }
                if signed {
                    outside.word(&event.step);
                    self.nothing_to_undo(&event.step);
                }
                self.saw(if signed { "retried-signed" } else { "retried" });
            }
            Kind::StepSkipped(event) => {
                let (known, demand) = self.of(&event.step)?;
                let by: BTreeSet<String> = event.by.iter().cloned().collect();
                if !by.is_subset(&known.skips) || by.is_empty() || !meet(&demand.quorum, &by) {
                    return Err(format!("skipped without its quorum: {event:?}"));
                }
                (known.over, known.running) = (true, None);
                known.word = "skipped";
                self.nothing_to_undo(&event.step);
                self.saw("skipped");
            }
            Kind::StepOverridden(event) => {
                let (known, _) = self.of(&event.step)?;
                known.overriders = Some(event.by.iter().cloned().collect());
                self.saw("overridden");
            }
            Kind::OverrideReviewed(event) => self.reviewed(&event.step, &event.by)?,
            Kind::EvidenceGiven(event) => self.given(event)?,
            Kind::RunPaused(_) => self.halted = true,
            Kind::RunResumed(_) => self.halted = false,
            Kind::RunAborted(event) => {
                (self.halted, self.aborted) = (true, true);
                self.saw("aborted");
                for id in self.shape.order.iter().filter(|_| event.undo) {
                    let known = &self.steps[id];
                    let may_be_done = known.word == "done" || known.running.is_some();
                    if may_be_done && self.shape.steps.contains_key(&undo_id(id)) {
                        self.steps.insert(undo_id(id), Known::default());
                    }
                }
            }
            Kind::RunEnded(event) => {
                let all = self.steps.values().all(|known| known.over);
                let runs = self.steps.values().any(|known| known.running.is_some());
                let right = match event.outcome() {
                    RunOutcome::Completed => all,
                    RunOutcome::Aborted => self.aborted && !runs && self.undos_are_over(),
                    RunOutcome::Failed | RunOutcome::Unspecified => false,
                };
                if !right || self.ended {
                    return Err(format!("the run cannot end so: {event:?}"));
                }
                self.ended = true;
                self.saw("run-ended");
            }
            _ => {}
        }
        Ok(())
    }

    /// Whoever confirmed something else before confirms anew.
    fn given(&mut self, event: &EvidenceGiven) -> Result<(), String> {
        let (known, demand) = self.of(&event.step)?;
        let given = event.evidence.iter();
        let given: BTreeMap<String, String> = given
            .map(|it| (it.name.clone(), it.value.clone()))
            .collect();
        let asked = |name: &String| demand.evidence.iter().any(|(asked, _)| asked == name);
        let late = known.over || known.running.is_some() || known.given == given;
        if late || !given.keys().all(asked) {
            return Err(format!("evidence that nobody asked for: {event:?}"));
        }
        let anew = known.words.values().any(|(it, _)| *it == Decision::Confirm);
        known.words.retain(|_, (it, _)| *it != Decision::Confirm);
        known.given = given;
        self.saw(if anew { "given-anew" } else { "given" });
        Ok(())
    }

    fn ended_attempt(&mut self, event: &StepEnded) -> Result<(), String> {
        let done = event.outcome() == StepOutcome::Done;
        let error = ErrorKind::parse(&event.error_kind);
        let (known, demand) = self.of(&event.step)?;
        if known.running.take() != Some(event.attempt) || done != error.is_none() {
            return Err(format!("an end that cannot be: {event:?}"));
        }
        let left = |(name, value): (&String, &String)| event.outputs.get(name) == Some(value);
        if done && !known.given.iter().all(left) {
            return Err(format!("evidence that is no output: {event:?}"));
        }
        let named = |error: ErrorKind| demand.on.as_ref().is_none_or(|on| on.contains(&error));
        known.failed = !error.is_none_or(named);
        known.over |= done;
        let early = known.failed && event.attempt < demand.attempts;
        if done {
            known.word = "done";
            if undone_step(&event.step).is_some() {
                self.saw("undone");
            }
        } else {
            self.nothing_to_undo(&event.step);
        }
        if early {
            self.saw("failed-by-kind");
        }
        self.saw(if event.observed { "observed" } else { "ended" });
        Ok(())
    }

    /// A step of an aborted run turned out not to be done.
    fn nothing_to_undo(&mut self, step: &str) {
        if let Some(undo) = self.steps.get_mut(&undo_id(step)).filter(|_| self.aborted) {
            undo.over = true;
            self.saw("nothing-to-undo");
        }
    }

    fn undos_are_over(&self) -> bool {
        let mut undos = self
            .steps
            .iter()
            .filter(|(id, _)| undone_step(id).is_some());
        undos.all(|(_, known)| known.over)
    }

    /// What relies on a step, directly or not.
    fn behind(&self, step: &str) -> BTreeSet<String> {
        let mut behind = BTreeSet::new();
        for id in &self.shape.order {
            let needs = &self.shape.steps[id].needs;
            if needs
                .iter()
                .any(|need| need == step || behind.contains(need))
            {
                behind.insert(id.clone());
            }
        }
        behind
    }

    /// Whether a step is done, and everything that relies on it settled and taken back.
    fn may_be_undone(&self, step: &str) -> bool {
        let settled = |id: &String| {
            let undone = self.steps.get(&undo_id(id)).is_none_or(|undo| undo.over);
            self.steps[id].running.is_none() && undone
        };
        self.steps[step].word == "done" && self.behind(step).iter().all(settled)
    }

    fn recorded(&mut self, event: &ApprovalRecorded) -> Result<(), String> {
        let statement = Statement::parse(&event.statement).map_err(|error| error.to_string())?;
        if !self.genuine.contains(&event.statement) || statement.approver != event.person {
            return Err(format!(
                "nobody signed what is recorded of {}",
                event.person
            ));
        }
        if !self.nonces.insert(statement.nonce.clone()) {
            return Err(format!("a statement counts twice: {}", event.statement));
        }
        let said = (statement.decision, statement.expires_ms());
        let person = event.person.clone();
        let (known, demand) = self.of(&event.step)?;
        let alone = statement.decision == Decision::Override && demand.glass == 1;
        if person == REQUESTER && !alone {
            return Err(format!("{person} decides about the own request: {event:?}"));
        }
        match statement.decision {
            Decision::Approve | Decision::Deny | Decision::Confirm => {
                known.words.insert(person, said);
            }
            Decision::Override => known.glass.push((person, said.1)),
            Decision::Skip => drop(known.skips.insert(person)),
            Decision::Review => drop(known.reviews.insert(person)),
            Decision::Retry => {}
        }
        self.saw("recorded");
        Ok(())
    }

    fn reviewed(&mut self, step: &str, by: &[String]) -> Result<(), String> {
        let (known, _) = self.of(step)?;
        let by: BTreeSet<String> = by.iter().cloned().collect();
        let others = known
            .overriders
            .as_ref()
            .is_some_and(|overriders| overriders.is_disjoint(&by));
        if by.len() < 2 || !others || !by.is_subset(&known.reviews) {
            return Err(format!("the override of {step} is reviewed by {by:?}"));
        }
        known.overriders = None;
        self.saw("reviewed");
        Ok(())
    }

    /// What a condition said is what is known of it without evaluating.
    fn condition(&mut self, event: &ConditionEvaluated) -> Result<(), String> {
        let words: BTreeMap<String, &'static str> = self
            .steps
            .iter()
            .filter(|(_, known)| known.over)
            .map(|(id, known)| (id.clone(), known.word))
            .collect();
        let (known, demand) = self.of(&event.step)?;
        let turn = demand.needs.iter().all(|need| words.contains_key(need));
        let holds = |holds: bool| {
            if holds {
                ConditionOutcome::Holds
            } else {
                ConditionOutcome::DoesNotHold
            }
        };
        let right = match &demand.when {
            None => return Err(format!("it has no condition: {event:?}")),
            Some(When::Always(always)) => holds(*always),
            Some(When::Ended(step, word)) => holds(words.get(step) == Some(word)),
            Some(When::Found(step)) if words.get(step) == Some(&"done") => holds(true),
            Some(When::Found(_) | When::Nothing) => ConditionOutcome::Error,
        };
        if !turn || known.condition.is_some() || event.outcome() != right {
            return Err(format!("a condition that says {right:?}: {event:?}"));
        }
        known.condition = Some(right);
        if right == ConditionOutcome::DoesNotHold {
            (known.over, known.word) = (true, "not-needed");
            self.saw("not-needed");
        } else if right == ConditionOutcome::Error {
            self.saw("undecided");
        } else {
            self.saw("needed");
        }
        Ok(())
    }

    fn started(&mut self, event: &StepStarted) -> Result<(), String> {
        let wrong = |why: &str| Err(format!("step {} starts {why}: {event:?}", event.step));
        let unreviewed = self.steps.values().any(|known| known.overriders.is_some());
        let undone = undone_step(&event.step);
        if undone.is_some_and(|step| !self.may_be_undone(step)) {
            return wrong("before what relies on its step is taken back");
        }
        let halted = self.halted && undone.is_none();
        let over: BTreeSet<String> = self
            .steps
            .iter()
            .filter(|(_, known)| known.over)
            .map(|(id, _)| id.clone())
            .collect();
        let (known, demand) = self.of(&event.step)?;
        if !demand.needs.iter().all(|need| over.contains(need)) {
            return wrong("before what it needs");
        }
        let needed = match (&demand.when, known.condition) {
            (None, _) | (Some(_), Some(ConditionOutcome::Holds)) => true,
            (Some(_), Some(ConditionOutcome::Error)) => known.released,
            (
                Some(_),
                None | Some(ConditionOutcome::DoesNotHold | ConditionOutcome::Unspecified),
            ) => false,
        };
        if !needed {
            return wrong("and is not needed");
        }
        if known.over || known.running.is_some() || event.attempt != known.attempts + 1 {
            return wrong("twice");
        }
        if event.attempt > demand.attempts.max(known.granted) {
            return wrong("more often than it may");
        }
        if known.failed && event.attempt > known.granted {
            return wrong("after an error that is not tried again");
        }
        let manual = demand.action.spec().manual;
        if halted && !manual {
            return wrong("in a run that was stopped");
        }
        if demand.action == Action::CloseIncident && unreviewed {
            return wrong("before the review of an override");
        }
        let mut required = demand.evidence.iter().filter(|(_, required)| *required);
        if !required.all(|(name, _)| known.given.contains_key(*name)) {
            return wrong("without the evidence that it asks for");
        }
        let at_ms = event.deadline_ms - demand.timeout_ms;
        if !stands(known, &demand.quorum, manual, at_ms)
            && !broken_glass(known, demand.glass, at_ms)
        {
            return wrong("without its quorum");
        }
        known.attempts = event.attempt;
        known.running = Some(event.attempt);
        self.saw(if event.attempt == 1 {
            "started"
        } else {
            "started-again"
        });
        Ok(())
    }
}

/// Whether the quorum stands at this moment, and nobody against it.
fn stands(known: &Known, quorum: &Roles, manual: bool, at_ms: i64) -> bool {
    let wanted = if manual {
        Decision::Confirm
    } else {
        Decision::Approve
    };
    let words = known.words.iter();
    let people = words
        .filter(|(_, (decision, expires_ms))| *decision == wanted && *expires_ms > at_ms)
        .map(|(person, _)| person.clone())
        .collect();
    let denied = known.words.values().any(|(it, _)| *it == Decision::Deny);
    !denied && meet(quorum, &people)
}

fn broken_glass(known: &Known, glass: u32, at_ms: i64) -> bool {
    let people: BTreeSet<String> = known
        .glass
        .iter()
        .filter(|(_, expires_ms)| *expires_ms > at_ms)
        .map(|(person, _)| person.clone())
        .collect();
    glass > 0 && meet(&Roles::from([("break-glass".to_owned(), glass)]), &people)
}
