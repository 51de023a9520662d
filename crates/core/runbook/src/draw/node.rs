//! A step as a box: its form, its lines, its size.

use super::live::{Live, Tone};
use super::measure::{width, wrap};
use crate::action::Effect;
use crate::names::show_duration;
use crate::runbook::Step;

/// The width of the text in a box, in pixels.
const ROOM: i64 = 230;

/// The space around the text, in pixels.
pub(crate) const PADDING: i64 = 14;

/// The size of titles and of all other text, in pixels.
const TITLE: i64 = 14;
const SMALL: i64 = 11;

/// How the box looks, beside its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// It runs by itself: round corners.
    Automatic,
    /// People approve it: square corners.
    Approved,
    /// People do it: a folded corner.
    Manual,
    /// It cannot be taken back: cut corners and a double line.
    Destructive,
}

/// A line of text in a box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) text: String,
    /// The class in the picture's style.
    pub(crate) class: &'static str,
    /// In pixels.
    pub(crate) size: i64,
}

/// A step as a box.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) form: Form,
    pub(crate) tone: Option<Tone>,
    pub(crate) lines: Vec<Line>,
    pub(crate) width: i64,
    pub(crate) height: i64,
}

impl Node {
    pub(crate) fn of(step: &Step, live: Option<&Live>) -> Self {
        let spec = step.action.spec();
        let form = if spec.effect == Effect::Destructive {
            Form::Destructive
        } else if spec.manual {
            Form::Manual
        } else if step.approval.is_some() {
            Form::Approved
        } else {
            Form::Automatic
        };
        let mut lines = Vec::new();
        let mut add = |text: &str, class: &'static str, size: i64, most: usize| {
            lines.extend(wrap(text, size, ROOM, most).into_iter().map(|text| Line {
                text,
                class,
                size,
            }));
        };
        add(&step.title, "title", TITLE, 3);
        if step.id == spec.name {
            add(&step.id, "id", SMALL, 2);
        } else {
            add(&format!("{} · {}", step.id, spec.name), "id", SMALL, 2);
        }
        match form {
            Form::Destructive => add("! cannot be taken back", "warn", SMALL, 1),
            Form::Manual => add("done by people", "plain", SMALL, 1),
            Form::Automatic => add("runs by itself", "plain", SMALL, 1),
            Form::Approved => {}
        }
        if let Some(when) = &step.when {
            add(&format!("only when {}", when.as_str()), "plain", SMALL, 4);
        }
        if let Some(approval) = &step.approval {
            let people = approval.quorum.people();
            let roles: Vec<String> = approval
                .quorum
                .roles()
                .iter()
                .map(|(role, count)| {
                    if *count == 1 {
                        role.to_string()
                    } else {
                        format!("{count} {role}")
                    }
                })
                .collect();
            let text = format!(
                "{people} approve: {}, within {}",
                roles.join(" + "),
                show_duration(approval.within)
            );
            add(&text, "quorum", SMALL, 3);
        }
        if !step.evidence.is_empty() {
            let fields: Vec<String> = step.evidence.iter().map(ToString::to_string).collect();
            let text = format!("hand in: {}", fields.join(", "));
            add(&text, "plain", SMALL, 3);
        }
        if step.retry.on.is_some() {
            add(&step.retry.to_string(), "plain", SMALL, 3);
        }
        if let Some(undo) = &step.undo {
            add(&format!("undo: {}", undo.action), "plain", SMALL, 2);
        }
        let shown = live.and_then(|live| live.steps.get(&step.id));
        if let Some(shown) = shown {
            add(
                &format!("{} {}", shown.tone.sign(), shown.state),
                "state",
                SMALL,
                2,
            );
            for note in shown.notes.iter().take(6) {
                add(note, "plain", SMALL, 2);
            }
        }
        let text: i64 = lines.iter().map(height_of).sum();
        let widest = lines.iter().map(|line| width(&line.text, line.size)).max();
        Self {
            id: step.id.clone(),
            form,
            tone: shown.map(|shown| shown.tone),
            width: widest.unwrap_or(0).max(150) + 2 * PADDING,
            height: text + 2 * PADDING - 4,
            lines,
        }
    }
}

/// The height of a line with the space to the next one.
pub(crate) fn height_of(line: &Line) -> i64 {
    line.size + 5
}
