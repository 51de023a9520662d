//! `plan check [DIR]`: the properties of a response plan.

use std::path::PathBuf;

use sealwarden_runbook::Finding;
use serde_json::json;

use super::Answer;
use crate::cli::{Cli, Plan};
use crate::failure::{Ending, Failure};
use crate::host::{installation::Installation, plan};
use crate::output;

pub(crate) fn run(cli: &Cli, what: &Plan) -> Answer {
    match what {
        Plan::Check { dir } => check(cli, dir.clone()),
    }
}

fn check(cli: &Cli, dir: Option<PathBuf>) -> Answer {
    let dir = match dir {
        Some(dir) => dir,
        None => Installation::open(&cli.data)
            .map(|i| i.data.join("plan"))
            .map_err(|e| {
                Failure::usage(format!(
                    "{e:#}; or name the plan's folder: sealwarden plan check DIR"
                ))
            })?,
    };
    let files = plan::read_files(&dir).map_err(|e| Failure::usage(format!("{e:#}")))?;
    let (findings, runbooks) = match plan::parse(&files) {
        Ok(set) => (set.check(), set.runbooks().keys().cloned().collect()),
        Err(findings) => (findings, Vec::new()),
    };
    let errors = findings.iter().filter(|f| f.is_error()).count();
    if cli.json {
        output::json(&json!({
            "plan": dir.display().to_string(), "good": errors == 0, "errors": errors, "runbooks": runbooks,
            "findings": findings.iter().map(document).collect::<Vec<_>>(),
        }));
    } else {
        for finding in &findings {
            output::line(&finding.to_string());
        }
        let warnings = findings.len() - errors;
        let runbooks: Vec<String> = runbooks;
        if errors == 0 {
            output::line(&format!(
                "{}: good; runbooks: {}; {warnings} warnings",
                dir.display(),
                runbooks.join(", ")
            ));
        } else {
            output::line(&format!(
                "{}: {errors} errors, {warnings} warnings",
                dir.display()
            ));
        }
    }
    Ok(if errors == 0 {
        Ending::Good
    } else {
        Ending::Negative
    })
}

fn document(f: &Finding) -> serde_json::Value {
    json!({
        "severity": f.severity.as_str(), "file": f.file, "line": f.place.line, "column": f.place.column, "step": f.step,
        "code": f.code, "message": f.message, "remedy": f.remedy,
    })
}
