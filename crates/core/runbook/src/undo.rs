//! `undo`: how a step is taken back when its run is aborted with `--undo`.
//!
//! An undo is a piece of work of its own: with an own id (so an idempotency key, attempts and approvals of its own), inputs that may take the outputs of the step, and
//! the quorum and the evidence that its action asks for anywhere else. Undos run in the reverse of the order in which steps rely on each other.

use crate::action::{Action, Effect};
use crate::fields::{Fields, Reader, Shape};
use crate::read_runbook::{Draft, read_work};
use crate::yaml::Node;

/// What the id of an undo ends in. No step's id can: names have no dots.
const SUFFIX: &str = ".undo";

/// The word for the action that takes a step's own action back.
const INVERSE: &str = "inverse";

pub(crate) const UNDO: Shape = Shape {
    what: "an undo",
    known: &[
        "title", "action", "with", "approval", "retry", "timeout", "manual",
    ],
    unsupported: &[
        (
            "needs",
            "an order of its own: undos run in the reverse order of the steps",
        ),
        ("when", "conditions of an undo"),
    ],
};

/// The id of a step's undo: `divert.undo`.
pub fn undo_id(step: &str) -> String {
    format!("{step}{SUFFIX}")
}

/// The step that an undo takes back; `None` for the id of a step.
pub fn undone_step(id: &str) -> Option<&str> {
    id.strip_suffix(SUFFIX)
}

/// Reads a step's `undo`. `step` is the step as far as it was read.
pub(crate) fn read(reader: &mut Reader, fields: &Fields<'_>, step: &Draft) -> Option<Draft> {
    let node = fields.get("undo")?;
    let place = fields.place_of("undo");
    let action = step.action?;
    if action.spec().effect == Effect::Destructive {
        let message = format!("`{action}` cannot be taken back, so it has no undo");
        let remedy = "remove `undo`; a later step may make up for it";
        reader.error(place, "irreversible-undo", message, remedy);
        return None;
    }
    let title = format!("Undo: {}", step.title);
    if let Some(word) = node.value.as_text() {
        return inverse(reader, node, word, step, title);
    }
    let fields = reader.fields(node, &UNDO)?;
    let work = read_work(reader, &fields);
    let own = fields.get("title");
    let own = own.and_then(|node| reader.text(node, "title"));
    Some(Draft::of_work(
        undo_id(&step.id),
        place,
        own.unwrap_or(title),
        work,
    ))
}

/// `undo: inverse`: the inputs are those of the step, and nobody less than the plan's quorum orders it.
fn inverse(
    reader: &mut Reader,
    node: &Node,
    word: &str,
    step: &Draft,
    title: String,
) -> Option<Draft> {
    let action = step.action?;
    let wrong = |message: String, remedy: &str| (message, remedy.to_owned());
    let found = if word == INVERSE {
        let message = format!("`{action}` has no inverse of its own");
        let remedy = "say how: `undo: {action: …, with: {…}}`";
        action.inverse().ok_or_else(|| wrong(message, remedy))
    } else {
        let message = format!("`{}` is no undo", word.escape_debug());
        let remedy = "write `undo: inverse`, or `undo: {action: …, with: {…}}`";
        Err(wrong(message, remedy))
    };
    let found = found.and_then(|inverse: Action| {
        let inputs = inverse.spec().inputs.iter().map(|field| {
            let same = step.inputs.iter().find(|(name, ..)| name == field.name);
            same.cloned().ok_or_else(|| {
                let message = format!(
                    "`{inverse}` takes `{}`, which `{action}` does not",
                    field.name
                );
                let remedy =
                    format!("say how: `undo: {{action: {inverse}, with: {{…}}, approval: {{…}}}}`");
                (message, remedy)
            })
        });
        Ok((inverse, inputs.collect::<Result<Vec<_>, _>>()?))
    });
    match found {
        Ok((inverse, inputs)) => Some(Draft::inverse(
            undo_id(&step.id),
            node.place,
            title,
            inverse,
            inputs,
        )),
        Err((message, remedy)) => {
            reader.error(node.place, "bad-undo", message, remedy);
            None
        }
    }
}
