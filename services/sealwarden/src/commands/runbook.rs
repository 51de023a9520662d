//! `runbook show NAME | schema`

use sealwarden_runbook::{PlanSet, draw_mermaid, draw_text, runbook_schema};
use serde_json::json;

use super::Answer;
use crate::cli::{Cli, Runbook};
use crate::failure::{Ending, Failure};
use crate::host::{installation::Installation, plan};
use crate::output;

pub(crate) fn run(cli: &Cli, what: &Runbook) -> Answer {
    match what {
        Runbook::Schema => {
            output::json(&runbook_schema());
            Ok(Ending::Good)
        }
        Runbook::Show {
            name,
            plan: folder,
            mermaid,
        } => {
            let plan = plan_of(cli, folder.as_deref())?;
            let runbook = plan.runbook(name).ok_or_else(|| {
                let known: Vec<&str> = plan.runbooks().keys().map(String::as_str).collect();
                Failure::usage(format!(
                    "the plan has no runbook {name:?}; it has: {}",
                    known.join(", ")
                ))
            })?;
            if cli.json {
                output::json(&json!({
                    "runbook": runbook.name(), "version": runbook.version(), "class": runbook.class(), "title": runbook.title(),
                    "digest": runbook.digest_hex(),
                    "steps": runbook.order().iter().map(|s| json!({
                        "step": s.id, "title": s.title, "action": s.action.name(), "needs": s.needs,
                        "quorum": s.approval.as_ref().map(|a| a.quorum.to_string()),
                    })).collect::<Vec<_>>(),
                }));
            } else if *mermaid {
                output::line(&draw_mermaid(runbook));
            } else {
                output::line(&draw_text(runbook));
            }
            Ok(Ending::Good)
        }
    }
}

fn plan_of(cli: &Cli, folder: Option<&std::path::Path>) -> Result<PlanSet, Failure> {
    let usage = |e: anyhow::Error| Failure::usage(format!("{e:#}"));
    match folder {
        Some(folder) => plan::load(folder).map_err(usage),
        None => match Installation::open(&cli.data) {
            Ok(installation) => installation.plan(None).map_err(usage),
            Err(_) => plan::shipped().map_err(usage),
        },
    }
}
