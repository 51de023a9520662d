//! What effects happen to. It counts them by idempotency key.

use std::collections::BTreeMap;

use sealwarden_domain::run::{Failure, Observation, Report};
use sealwarden_runbook::{Action, ValueType};

use super::seed::Chance;

/// What a step left outside.
#[derive(Debug, Default)]
struct Left {
    key: String,
    /// How often it happened.
    times: u32,
    /// How often a person said that it had not.
    words: u32,
    /// Begun, and not complete.
    partly: bool,
}

/// The world that runs act upon.
#[derive(Debug, Default)]
pub(crate) struct Outside {
    left: BTreeMap<String, Left>,
    /// What must never happen.
    pub(crate) broken: Option<String>,
}

/// An attempt's work under way.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) step: String,
    pub(crate) key: String,
    pub(crate) action: Action,
}

impl Outside {
    /// Work on an effect begins.
    pub(crate) fn begins(&mut self, work: &Work) {
        let left = self.left.entry(work.step.clone()).or_default();
        if left.key.is_empty() {
            left.key.clone_from(&work.key);
        }
        if left.key != work.key {
            let problem = format!("step {} acts under a second key {}", work.step, work.key);
            self.broken.get_or_insert(problem);
        }
    }

    /// The effect happens. Where doing it twice differs from doing it once, each time counts.
    fn happens(&mut self, work: &Work) {
        let left = self.left.entry(work.step.clone()).or_default();
        left.partly = false;
        if work.action.spec().idempotent {
            left.times = 1;
            return;
        }
        left.times += 1;
        if left.times > 1 + left.words {
            let problem = format!(
                "the effect of step {} ({}) happened {} times, and people asked for it {} times",
                work.step,
                work.action,
                left.times,
                1 + left.words
            );
            self.broken.get_or_insert(problem);
        }
    }

    /// A person signed that it did not happen.
    pub(crate) fn word(&mut self, step: &str) {
        self.left.entry(step.to_owned()).or_default().words += 1;
    }

    pub(crate) fn happened(&self, step: &str) -> bool {
        self.left.get(step).is_some_and(|left| left.times > 0)
    }

    /// The work ends somehow. `None`: it hangs.
    pub(crate) fn perform(
        &mut self,
        work: &Work,
        chance: &mut Chance,
        calm: bool,
    ) -> Option<Report> {
        let words = || "the outside says so".to_owned();
        match if calm { 0 } else { chance.below(12) } {
            0..6 => {
                self.happens(work);
                Some(Report::Done(outputs(work.action)))
            }
            6 | 7 => {
                let kind = *chance.pick(work.action.errors());
                Some(Report::NotDone(Failure::new(kind, words())))
            }
            8 => {
                self.happens(work);
                Some(Report::Unknown(words()))
            }
            9 => Some(Report::Unknown(words())),
            10 if work.action.spec().idempotent => {
                self.left.entry(work.step.clone()).or_default().partly = true;
                None
            }
            _ => None,
        }
    }

    /// Its process dies, or does not wait any longer: the effect may happen in the last moment, and never after.
    pub(crate) fn abandon(&mut self, work: &Work, chance: &mut Chance) {
        if chance.percent(30) {
            self.happens(work);
        }
    }

    /// Looks at an effect. `None`: it cannot be looked at now.
    pub(crate) fn observe(
        &mut self,
        work: &Work,
        chance: &mut Chance,
        calm: bool,
    ) -> Option<Report> {
        let words = || "looked".to_owned();
        if !calm && chance.percent(15) {
            return None;
        }
        if chance.percent(15) {
            return Some(Report::Observed(Observation::CannotTell(words())));
        }
        let left = self.left.entry(work.step.clone()).or_default();
        Some(Report::Observed(match (left.times, left.partly) {
            (0, false) => Observation::NotDone(words()),
            (0, true) => Observation::Underway(words()),
            _ => Observation::Done(outputs(work.action)),
        }))
    }
}

/// Outputs of the types that an action declares.
pub(crate) fn outputs(action: Action) -> BTreeMap<String, String> {
    let fields = action.spec().outputs.iter();
    fields
        .map(|field| {
            let value = match field.kind {
                ValueType::Text => format!("{}-of-{action}", field.name),
                ValueType::Time => "2026-11-02T10:00:01Z".to_owned(),
                ValueType::Count => "7".to_owned(),
                ValueType::Mode => "queue".to_owned(),
            };
            (field.name.to_owned(), value)
        })
        .collect()
}
