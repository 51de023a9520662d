//! What people hand in for a manual step.
//!
//! It becomes part of the step's inputs, so whoever confirms signs exactly the evidence that was shown; what was confirmed before it changed counts no more.

use std::collections::BTreeMap;

use sealwarden_runbook::{EvidenceField, EvidenceKind, Step, nearest_word};
use sealwarden_wire::event::v1::event::Kind;
use sealwarden_wire::event::v1::{EvidenceGiven, GivenEvidence};
use sealwarden_wire::run::v1::Evidence;

use super::gate::closed;
use super::pinned::Pinned;
use super::state::{MAX_REFUSALS, Phase, Refused, RunState, StepState};
use crate::approval::{Decision, Inputs, RefusalCode, is_line_breaking};
use crate::fold::{Rejection, RejectionCode};

/// What the name of an input begins with that is evidence.
const PREFIX: &str = "evidence.";

/// The longest name of a file that is kept, in bytes.
const MAX_FILE_NAME_BYTES: usize = 255;

/// Something that was handed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// What; of a file its SHA-256 (hex).
    pub value: String,
    /// Of a file.
    pub file: Option<GivenFile>,
}

/// A file that was handed in and is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenFile {
    /// The name that it had.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its path below the data folder.
    pub stored: String,
}

/// Takes evidence in, beside what was handed in before.
pub(super) fn give(
    state: &RunState,
    id: &str,
    by: String,
    given: BTreeMap<String, Given>,
) -> Result<Vec<Kind>, Rejection> {
    let pinned = state.started()?;
    let step = state.named(pinned, id)?;
    let reject = |code, reason: String| Err(Rejection::new(code, reason));
    let asked = asked(pinned, id);
    if asked.is_empty() {
        let reason = format!("step {id} asks for no evidence");
        return reject(RejectionCode::Invalid, reason);
    }
    if let Some(closed) = closed(state, step) {
        let reason = format!("step {id} takes no evidence any more: {closed}");
        return reject(RejectionCode::NotNow, reason);
    }
    if step.phase != Phase::Ready {
        let reason = format!("step {id} takes no evidence yet: its turn has not come");
        return reject(RejectionCode::NotNow, reason);
    }
    let mut all = step.evidence.clone();
    all.extend(given);
    for (name, given) in &all {
        check(asked, name, given)
            .map_err(|reason| Rejection::new(RejectionCode::Invalid, reason))?;
    }
    if all == step.evidence {
        return Ok(Vec::new());
    }
    let inputs = with_evidence(step, &all)
        .map_err(|reason| Rejection::new(RejectionCode::Invalid, reason))?;
    let evidence = all.into_iter().map(|(name, given)| {
        let file = given.file.unwrap_or(GivenFile {
            name: String::new(),
            bytes: 0,
            stored: String::new(),
        });
        GivenEvidence {
            name,
            value: given.value,
            file_name: file.name,
            bytes: file.bytes,
            stored: file.stored,
        }
    });
    Ok(vec![Kind::EvidenceGiven(EvidenceGiven {
        step: id.to_owned(),
        iteration: step.iteration,
        by,
        evidence: evidence.collect(),
        digest: inputs.digest(),
    })])
}

/// The fields that a step asks for.
fn asked<'a>(pinned: &'a Pinned, id: &str) -> &'a [EvidenceField] {
    let step = pinned.runbook().work(id);
    step.map(|step| step.evidence.as_slice())
        .unwrap_or_default()
}

fn check(asked: &[EvidenceField], name: &str, given: &Given) -> Result<(), String> {
    let Some(field) = asked.iter().find(|field| field.name == name) else {
        let names: Vec<&str> = asked.iter().map(|field| field.name.as_str()).collect();
        let remedy = nearest_word(name, names.clone()).map_or_else(
            || format!("it asks for {}", names.join(", ")),
            |near| format!("did you mean {near:?}?"),
        );
        return Err(format!("the step asks for no evidence {name:?}; {remedy}"));
    };
    if given.file.is_some() != field.is_file() {
        return Err(if field.is_file() {
            format!("evidence {name} is a file: hand it in as {name}=@FILE")
        } else {
            format!("evidence {name} is no file: hand it in as {name}=VALUE")
        });
    }
    if given.value.chars().any(is_line_breaking) {
        return Err(format!("evidence {name} is not one line"));
    }
    let bad_name = |file: &GivenFile| {
        file.name.len() > MAX_FILE_NAME_BYTES || file.name.chars().any(is_line_breaking)
    };
    if given.file.as_ref().is_some_and(bad_name) {
        return Err(format!(
            "the file of evidence {name} must have a name of one line and at most {MAX_FILE_NAME_BYTES} bytes"
        ));
    }
    field.refusal(&given.value).map_or(Ok(()), Err)
}

/// The step's inputs with this evidence in place of what was there.
fn with_evidence(step: &StepState, evidence: &BTreeMap<String, Given>) -> Result<Inputs, String> {
    let Some((inputs, _)) = &step.inputs else {
        return Err("evidence before the step's inputs are resolved".to_owned());
    };
    let mut values = inputs.values().clone();
    values.retain(|name, _| !name.starts_with(PREFIX));
    for (name, given) in evidence {
        values.insert(format!("{PREFIX}{name}"), given.value.clone());
    }
    Inputs::new(inputs.action(), values).map_err(|error| error.to_string())
}

/// What is still to be handed in before the step can be confirmed, in words.
pub(super) fn missing(pinned: &Pinned, id: &str, step: &StepState) -> Vec<String> {
    let open = asked(pinned, id)
        .iter()
        .filter(|field| field.required && !step.evidence.contains_key(&field.name));
    open.map(ToString::to_string).collect()
}

/// What a step asks people to hand in, and what they did.
pub(super) fn view(planned: &Step, step: &StepState) -> Vec<Evidence> {
    let fields = planned.evidence.iter().map(|field| {
        let (kind, of) = match &field.kind {
            EvidenceKind::Text => ("text", Vec::new()),
            EvidenceKind::Number => ("number", Vec::new()),
            EvidenceKind::File => ("file", Vec::new()),
            EvidenceKind::Choice(of) => ("choice", of.clone()),
        };
        let given = step.evidence.get(&field.name);
        let file = given.and_then(|given| given.file.as_ref());
        Evidence {
            name: field.name.clone(),
            kind: kind.to_owned(),
            required: field.required,
            of,
            value: given.map(|given| given.value.clone()).unwrap_or_default(),
            file_name: file.map(|file| file.name.clone()).unwrap_or_default(),
            bytes: file.map_or(0, |file| file.bytes),
            stored: file.map(|file| file.stored.clone()).unwrap_or_default(),
        }
    });
    fields.collect()
}

impl RunState {
    pub(super) fn evidence_given(
        &mut self,
        event: &EvidenceGiven,
        at_ms: i64,
    ) -> Result<(), String> {
        let pinned = self.open()?;
        let given = event.evidence.iter().map(|given| {
            let file = GivenFile {
                name: given.file_name.clone(),
                bytes: given.bytes,
                stored: given.stored.clone(),
            };
            let value = given.value.clone();
            let file = (!given.stored.is_empty()).then_some(file);
            (given.name.clone(), Given { value, file })
        });
        let given: BTreeMap<String, Given> = given.collect();
        for (name, given) in &given {
            check(asked(&pinned, &event.step), name, given)?;
        }
        let step = self.step_mut(&event.step, event.iteration)?;
        if step.phase != Phase::Ready {
            return Err(format!(
                "evidence for step {}, which takes none",
                event.step
            ));
        }
        let inputs = with_evidence(step, &given)?;
        if inputs.digest() != event.digest {
            return Err(format!(
                "the evidence of step {} does not have the digest {}",
                event.step, event.digest
            ));
        }
        step.inputs = Some((inputs, event.digest.clone()));
        step.evidence = given;
        let confirmed = step
            .decided
            .extract_if(.., |decided| decided.decision == Decision::Confirm);
        let past: Vec<Refused> = confirmed
            .map(|decided| Refused {
                step: event.step.clone(),
                person: decided.person,
                statement: decided.statement,
                signature: decided.signature,
                code: RefusalCode::Altered.as_str().to_owned(),
                reason: "it was signed before other evidence was handed in".to_owned(),
                at_ms,
            })
            .collect();
        let room = MAX_REFUSALS.saturating_sub(self.refused.len());
        self.refused.extend(past.into_iter().take(room));
        Ok(())
    }
}
