//! A runbook as text for a terminal of 80 columns.

use std::fmt::Write as _;

use crate::action::Effect;
use crate::names::show_duration;
use crate::runbook::{Runbook, Step};

/// The width of the text view, in characters.
const WIDTH: usize = 80;

/// A runbook as text of at most 80 columns: the steps in waves, those of one wave can run at the same time.
pub fn draw_text(runbook: &Runbook) -> String {
    let mut out = String::new();
    let heading = format!(
        "{} v{}: {}",
        runbook.name(),
        runbook.version(),
        runbook.title()
    );
    wrap(&mut out, "", "  ", &heading);
    let count = runbook.steps().len();
    let about = format!(
        "answers {}, {count} steps, sha256 {}; ! marks what cannot be taken back",
        runbook.class(),
        short(runbook)
    );
    wrap(&mut out, "", "  ", &about);
    for (index, wave) in runbook.waves().iter().enumerate() {
        rule(&mut out, &wave_label(index));
        for step in wave {
            draw_step(&mut out, step);
        }
    }
    draw_undo(&mut out, runbook);
    out
}

/// What `run abort --undo` does, in its order.
fn draw_undo(out: &mut String, runbook: &Runbook) {
    let undos = runbook.undo_order();
    if undos.is_empty() {
        return;
    }
    rule(out, "undo, in this order, if it is aborted with --undo");
    for undo in undos {
        wrap(
            out,
            " ↶ ",
            "     ",
            &format!("{}  [{}]", undo.id, undo.action),
        );
        wrap(out, "     approve  ", "              ", &approvals(undo));
        for (name, template) in &undo.inputs {
            let text = format!("{name} = {template}");
            wrap(out, "     with     ", "                ", &text);
        }
        draw_evidence(out, undo);
    }
}

/// What people hand in.
fn draw_evidence(out: &mut String, step: &Step) {
    for field in &step.evidence {
        wrap(out, "     hand in  ", "              ", &field.to_string());
    }
}

/// A line with a label.
fn rule(out: &mut String, label: &str) {
    let label = format!("── {label} ");
    let rest = WIDTH.saturating_sub(label.chars().count());
    // Writing to a String cannot fail.
    let _ = writeln!(out, "\n{label}{}", "─".repeat(rest));
}

/// Who approves a step.
fn approvals(step: &Step) -> String {
    match (&step.approval, step.directive()) {
        (Some(approval), _) => format!(
            "{} within {}",
            approval.quorum,
            show_duration(approval.within)
        ),
        (None, Some(kind)) => format!("whom the plan names for `{kind}`"),
        (None, None) => "nobody: it runs by itself".to_owned(),
    }
}

fn short(runbook: &Runbook) -> String {
    runbook.digest_hex().chars().take(16).collect()
}

fn wave_label(index: usize) -> String {
    if index == 0 {
        "at once".to_owned()
    } else {
        format!("wave {}", index + 1)
    }
}

fn draw_step(out: &mut String, step: &Step) {
    let mark = if step.action.spec().effect == Effect::Destructive {
        "!"
    } else {
        "●"
    };
    let action = if step.id == step.action.name() {
        String::new()
    } else {
        format!("  [{}]", step.action)
    };
    wrap(
        out,
        &format!(" {mark} "),
        "     ",
        &format!("{}{action}", step.id),
    );
    wrap(out, "     ", "     ", &step.title);
    if !step.needs.is_empty() {
        wrap(
            out,
            "     after    ",
            "              ",
            &step.needs.join(", "),
        );
    }
    if let Some(when) = &step.when {
        wrap(out, "     when     ", "              ", when.as_str());
    }
    wrap(out, "     approve  ", "              ", &approvals(step));
    if let Some(instructions) = step.instructions() {
        wrap(
            out,
            "     people   ",
            "              ",
            &instructions.to_string(),
        );
        draw_evidence(out, step);
        return;
    }
    for (name, template) in &step.inputs {
        let text = format!("{name} = {template}");
        wrap(out, "     with     ", "                ", &text);
    }
    if step.retry.on.is_some() {
        let text = step.retry.to_string();
        wrap(out, "     retry    ", "              ", &text);
    }
}

/// Writes words into lines of at most [`WIDTH`] characters; a word that is longer than a line is cut.
fn wrap(out: &mut String, first: &str, next: &str, text: &str) {
    let mut line = first.to_owned();
    let mut empty = true;
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        while !word.is_empty() {
            let used = line.chars().count() + usize::from(!empty);
            let room = WIDTH.saturating_sub(used);
            if word.len() <= room {
                if !empty {
                    line.push(' ');
                }
                line.extend(word.drain(..));
                empty = false;
            } else if empty {
                line.extend(word.drain(..room.clamp(1, word.len())));
                flush(out, &mut line, next);
            } else {
                flush(out, &mut line, next);
                empty = true;
            }
        }
    }
    if !empty {
        flush(out, &mut line, next);
    }
}

fn flush(out: &mut String, line: &mut String, next: &str) {
    out.push_str(line.trim_end());
    out.push('\n');
    next.clone_into(line);
}
