//! Checks which targets the runbooks of a plan call, against those that somebody's settings name.

use std::collections::BTreeMap;

use crate::action::{Action, Effect};
use crate::finding::{self, Finding};
use crate::plan::PlanSet;
use crate::runbook::{Runbook, Step};
use crate::suggest;
use crate::template::Part;

/// Errors of steps that call a target which is not known (warnings where none is: then nothing was set up yet, and nothing misspelt), or is destructive (`true`) while the step's action is not. Targets that are known only when a step starts are
/// checked then.
pub fn check_webhooks(set: &PlanSet, known: &BTreeMap<String, bool>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for runbook in set.runbooks.values() {
        for step in runbook.steps() {
            findings.extend(check_step(runbook, step, known));
        }
    }
    finding::sort(&mut findings);
    findings
}

fn check_step(runbook: &Runbook, step: &Step, known: &BTreeMap<String, bool>) -> Option<Finding> {
    if !matches!(
        step.action,
        Action::CallWebhook | Action::CallWebhookDestructive
    ) {
        return None;
    }
    let [Part::Literal(target)] = step.inputs.get("target")?.parts() else {
        return None;
    };
    let error = |code, message| {
        Some(Finding::error(runbook.file(), step.place, code, message).in_step(&step.id))
    };
    match known.get(target) {
        None if known.is_empty() => {
            let message = format!("the settings name no webhook, so `{target}` cannot be called");
            let warning = Finding::warning(runbook.file(), step.place, "no-webhooks", message);
            let remedy = format!(
                "name it in settings.yaml (runbook-executor, webhooks: {target}); until then people do it and `run skip` the step"
            );
            Some(warning.in_step(&step.id).remedy(remedy))
        }
        None => {
            let message = format!("the settings name no webhook `{target}`");
            let names = known.keys().map(String::as_str);
            let remedy = suggest::remedy("webhooks", target, names);
            error("unknown-webhook", message).map(|it| it.remedy(remedy))
        }
        Some(true) if step.action.spec().effect == Effect::Reversible => {
            let message = format!("the webhook `{target}` is destructive");
            error("destructive-webhook", message).map(|it| {
                it.remedy(format!(
                    "use `{}`, with an approval and an evidence snapshot before it",
                    Action::CallWebhookDestructive
                ))
            })
        }
        Some(_) => None,
    }
}
