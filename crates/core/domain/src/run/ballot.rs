//! What a signed statement of each decision is held against: who may say it, when, and how many of them it takes.

use std::collections::BTreeMap;

use sealwarden_runbook::{Action, Condition, Effect, Part, Quorum, Reference, Template};

use super::evidence;
use super::gate::closed;
use super::pinned::Pinned;
use super::state::{Phase, RunState, StepState};
use super::undo::barred;
use crate::approval::{Decision, Standing, break_glass};
use crate::fold::At;

/// How many people who had no part in an override must review it.
pub const REVIEWERS: usize = 2;

/// The rules of one decision about one step.
pub(crate) struct Ballot<'a> {
    /// The decisions that the step takes where this one was named.
    pub(crate) takes: &'static [Decision],
    /// Who must say it; `None` where a quorum is not what decides.
    pub(crate) quorum: Option<Quorum>,
    /// Whether anybody on the roster counts.
    pub(crate) anyone: bool,
    /// Whether their keys must prove a touch.
    pub(crate) touch: bool,
    /// Who cannot say it.
    pub(crate) barred: Vec<String>,
    /// What was said and still stands.
    pub(crate) standing: Vec<Standing<'a>>,
    /// Why nobody can say it now.
    pub(crate) closed: Option<String>,
}

pub(crate) fn ballot<'a>(
    state: &RunState,
    pinned: &Pinned,
    id: &str,
    step: &'a StepState,
    decision: Decision,
    at: At,
) -> Ballot<'a> {
    let requesters = || barred(state, pinned, id);
    let said = || {
        step.said(decision, at.wall_ms)
            .map(|decided| Standing {
                person: &decided.person,
                decision: decided.decision,
            })
            .collect()
    };
    match decision {
        Decision::Approve | Decision::Deny | Decision::Confirm => Ballot {
            takes: if is_manual(pinned, id) {
                &[Decision::Confirm, Decision::Deny]
            } else {
                &[Decision::Approve, Decision::Deny]
            },
            quorum: pinned.quorum(id).cloned(),
            anyone: false,
            touch: false,
            barred: requesters(),
            standing: step.standing_words(at.wall_ms),
            closed: closed(state, step).or_else(|| {
                let confirms = decision == Decision::Confirm;
                confirms.then(|| unfounded(pinned, id, step)).flatten()
            }),
        },
        Decision::Retry => Ballot {
            takes: &[Decision::Retry],
            quorum: pinned.quorum(id).cloned(),
            anyone: pinned.quorum(id).is_none(),
            touch: false,
            barred: requesters(),
            standing: Vec::new(),
            closed: retry_closed(step),
        },
        Decision::Skip => {
            let quorum = skip_quorum(state, pinned, id);
            Ballot {
                takes: &[Decision::Skip],
                anyone: quorum.is_none(),
                quorum,
                touch: false,
                barred: requesters(),
                standing: said(),
                closed: skip_closed(state, pinned, id, step),
            }
        }
        Decision::Override => {
            let directive = directive_of(pinned, id);
            Ballot {
                takes: &[Decision::Override],
                quorum: break_glass::quorum(directive),
                anyone: false,
                touch: break_glass::needs_touch(directive),
                // Whoever sees a theft may stop the key at once; nobody alone decides what cannot be taken back.
                barred: if break_glass::tightens(directive) {
                    Vec::new()
                } else {
                    requesters()
                },
                standing: said(),
                closed: override_closed(state, pinned, id, step),
            }
        }
        Decision::Review => Ballot {
            takes: &[Decision::Review],
            quorum: None,
            anyone: true,
            touch: false,
            barred: {
                let mut barred = requesters();
                let overridden = step.overridden.iter();
                barred.extend(overridden.flat_map(|it| it.by.iter().cloned()));
                barred
            },
            standing: said(),
            closed: review_closed(step),
        },
    }
}

/// Why nobody can confirm a step yet: what it asks for was not handed in.
fn unfounded(pinned: &Pinned, id: &str, step: &StepState) -> Option<String> {
    let missing = evidence::missing(pinned, id, step);
    (!missing.is_empty()).then(|| {
        format!(
            "its evidence is missing: {}; `sealwarden run done` hands it in",
            missing.join(", ")
        )
    })
}

/// The directive that a step sends to nodes.
pub(crate) fn directive_of(pinned: &Pinned, id: &str) -> Option<sealwarden_runbook::DirectiveKind> {
    pinned.runbook().work(id)?.directive()
}

fn is_manual(pinned: &Pinned, id: &str) -> bool {
    pinned
        .action(id)
        .is_some_and(|action: Action| action.spec().manual)
}

fn retry_closed(step: &StepState) -> Option<String> {
    match &step.phase {
        Phase::Unknown {
            needs_person: true, ..
        }
        | Phase::Undecided => None,
        Phase::Failed => Some("it definitely failed: `run retry` needs no signature".to_owned()),
        Phase::Blocked
        | Phase::Ready
        | Phase::Running(_)
        | Phase::Unknown { .. }
        | Phase::Done
        | Phase::Skipped
        | Phase::NotNeeded
        | Phase::Cancelled => Some(format!(
            "nobody is asked whether it happened; it is {}",
            step.phase.word()
        )),
    }
}

fn skip_closed(state: &RunState, pinned: &Pinned, id: &str, step: &StepState) -> Option<String> {
    if state.ended().is_some() {
        return closed(state, step);
    }
    match &step.phase {
        Phase::Ready
        | Phase::Failed
        | Phase::Undecided
        | Phase::Unknown {
            needs_person: true, ..
        } => takes_outputs_of(state, pinned, id).map(|taker| {
            format!("step {taker} takes its outputs and could not run; skip is no way past it")
        }),
        Phase::Blocked => Some("its turn has not come; it is skipped then, or not".to_owned()),
        Phase::Running(_) | Phase::Unknown { .. } => {
            Some("it is under way, and what is under way is observed to its end".to_owned())
        }
        Phase::Done | Phase::Skipped | Phase::NotNeeded | Phase::Cancelled => {
            Some(format!("it is {}", step.phase.word()))
        }
    }
}

/// A step yet to come that performs something with the outputs of `id`. (People can read "skipped" in their instructions.)
fn takes_outputs_of<'a>(state: &RunState, pinned: &'a Pinned, id: &str) -> Option<&'a str> {
    let mut blocked = pinned.runbook().steps().iter().filter(|step| {
        let phase = state.step(&step.id).map(|step| &step.phase);
        // One that is needed only if this step is done is not needed then.
        let only_if_done = |when: &Condition| when.requires_done().contains(id);
        let sure = !step.when.as_ref().is_some_and(only_if_done);
        phase == Some(&Phase::Blocked) && !step.action.spec().manual && sure
    });
    let taker = blocked.find(|step| {
        let mut parts = step.inputs.values().flat_map(Template::parts);
        parts.any(|part| match part {
            Part::Reference(Reference::Step { step, .. }) => step == id,
            Part::Reference(Reference::Incident(_) | Reference::Plan(_)) | Part::Literal(_) => {
                false
            }
        })
    });
    taker.map(|step| step.id.as_str())
}

/// Who must agree to go on without a step: its own quorum. For a step that needs none, everybody whom the steps behind it need that cannot be taken back or order nodes:
/// they would have relied on it. `None`: one person of the roster.
pub(crate) fn skip_quorum(state: &RunState, pinned: &Pinned, id: &str) -> Option<Quorum> {
    if let Some(own) = pinned.quorum(id) {
        return Some(own.clone());
    }
    let runbook = pinned.runbook();
    let mut roles = BTreeMap::new();
    for behind in runbook.steps() {
        let spec = behind.action.spec();
        let relies = spec.effect == Effect::Destructive || !spec.directives.is_empty();
        let open = state
            .step(&behind.id)
            .is_some_and(|step| !step.phase.is_over());
        if !relies || !open || !runbook.ancestors(&behind.id).contains(id) {
            continue;
        }
        let asked = pinned.quorum(&behind.id).map(Quorum::roles);
        for (role, count) in asked.into_iter().flatten() {
            let mine = roles.entry(role.clone()).or_insert(0);
            *mine = (*mine).max(*count);
        }
    }
    Quorum::new(roles).ok()
}

fn override_closed(
    state: &RunState,
    pinned: &Pinned,
    id: &str,
    step: &StepState,
) -> Option<String> {
    if is_manual(pinned, id) {
        return Some(
            "people perform it, and nobody can say in their place that they did".to_owned(),
        );
    }
    if pinned.quorum(id).is_none() {
        return Some("it needs nobody's approval".to_owned());
    }
    closed(state, step)
}

fn review_closed(step: &StepState) -> Option<String> {
    match &step.overridden {
        None => Some("it was not overridden, so there is nothing to review".to_owned()),
        Some(overridden) if !overridden.reviewed_by.is_empty() => Some(format!(
            "its override was reviewed by {}",
            overridden.reviewed_by.join(", ")
        )),
        Some(_) => None,
    }
}
