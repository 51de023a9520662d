//! `runbook show NAME`

use sealwarden_runbook::{draw_mermaid, draw_text};
use serde_json::json;

use super::Which;
use crate::cli::Cli;
use crate::commands::Answer;
use crate::failure::Ending;
use crate::output;

pub(super) fn show(cli: &Cli, which: &Which, mermaid: bool) -> Answer {
    let runbook = which.load(cli)?;
    if cli.json {
        output::json(&json!({
            "runbook": runbook.name(), "version": runbook.version(), "class": runbook.class(), "title": runbook.title(),
            "digest": runbook.digest_hex(),
            "steps": runbook.order().iter().map(|s| json!({
                "step": s.id, "title": s.title, "action": s.action.name(), "needs": s.needs, "when": s.when.as_ref().map(sealwarden_runbook::Condition::as_str),
                "quorum": s.approval.as_ref().map(|a| a.quorum.to_string()), "retry": s.retry.to_string(), "evidence": s.evidence.iter().map(ToString::to_string).collect::<Vec<_>>(), "undo": s.undo.as_ref().map(|undo| undo.id.clone()),
            })).collect::<Vec<_>>(),
            "undo": runbook.undo_order().iter().map(|s| json!({
                "step": s.id, "title": s.title, "action": s.action.name(), "quorum": s.approval.as_ref().map(|a| a.quorum.to_string()),
            })).collect::<Vec<_>>(),
        }));
    } else if mermaid {
        output::line(&draw_mermaid(&runbook));
    } else {
        output::line(&draw_text(&runbook));
    }
    Ok(Ending::Good)
}
