//! A runbook as a graph for Graphviz.

use std::fmt::Write as _;

use super::drawn_needs;
use super::node::{Form, Node};
use crate::runbook::Runbook;

/// A runbook as a DOT graph. What cannot be taken back is a double octagon, what people do a note. Needs that
/// other needs imply are not drawn.
pub fn draw_dot(runbook: &Runbook) -> String {
    let mut out = String::from("digraph runbook {\n");
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "  label=\"{}\"; labelloc=t; fontname=\"sans-serif\";",
        escape(&format!(
            "{} v{}: {}",
            runbook.name(),
            runbook.version(),
            runbook.title()
        ))
    );
    out.push_str("  node [fontname=\"sans-serif\", fontsize=11]; edge [arrowsize=0.7];\n");
    for step in runbook.order() {
        let node = Node::of(step, None);
        let (shape, style) = match node.form {
            Form::Automatic => ("box", "rounded"),
            Form::Approved => ("box", "solid"),
            Form::Manual => ("note", "solid"),
            Form::Destructive => ("doubleoctagon", "bold"),
        };
        let lines: Vec<String> = node.lines.iter().map(|line| escape(&line.text)).collect();
        let _ = writeln!(
            out,
            "  \"{}\" [shape={shape}, style={style}, label=\"{}\"];",
            escape(&step.id),
            lines.join("\\n")
        );
    }
    for step in runbook.order() {
        for need in drawn_needs(runbook, step) {
            let _ = writeln!(out, "  \"{}\" -> \"{}\";", escape(need), escape(&step.id));
        }
    }
    out.push_str("}\n");
    out
}

fn escape(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain
        .collect::<String>()
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
}
