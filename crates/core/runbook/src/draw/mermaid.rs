//! A runbook as a Mermaid flow chart, for pages that render it.

use std::fmt::Write as _;

use super::drawn_needs;
use crate::action::Effect;
use crate::runbook::Runbook;

/// A runbook as a Mermaid flow chart. Steps that wait for approvals have slanted sides, what cannot be taken
/// back has a class of its own. Needs that other needs imply are not drawn.
pub fn draw_mermaid(runbook: &Runbook) -> String {
    let mut out = String::from("flowchart TD\n");
    let order = runbook.order();
    let number = |id: &str| order.iter().position(|step| step.id == id).unwrap_or(0);
    for step in &order {
        let mut label = format!(
            "<b>{}</b><br/>{}",
            escape(&step.id),
            escape(step.action.name())
        );
        if let Some(when) = &step.when {
            // Writing to a String cannot fail.
            let _ = write!(label, "<br/>when {}", escape(when.as_str()));
        }
        let (open, close) = match &step.approval {
            Some(approval) => {
                let _ = write!(label, "<br/>{}", escape(&approval.quorum.to_string()));
                ("[/", "/]")
            }
            None => ("[", "]"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  s{}{open}\"{label}\"{close}", number(&step.id));
    }
    for step in &order {
        for need in drawn_needs(runbook, step) {
            let _ = writeln!(out, "  s{} --> s{}", number(need), number(&step.id));
        }
    }
    let destructive: Vec<String> = order
        .iter()
        .filter(|step| step.action.spec().effect == Effect::Destructive)
        .map(|step| format!("s{}", number(&step.id)))
        .collect();
    if !destructive.is_empty() {
        out.push_str("  classDef destructive stroke:#b00020,stroke-width:3px\n");
        let _ = writeln!(out, "  class {} destructive", destructive.join(","));
    }
    out
}

/// Mermaid reads entity codes inside quoted labels.
fn escape(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '"' => "#quot;".to_owned(),
            '<' => "#lt;".to_owned(),
            '>' => "#gt;".to_owned(),
            '#' => "#35;".to_owned(),
            other => other.to_string(),
        })
        .collect()
}
