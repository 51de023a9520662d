//! `plan check [DIR]`: the properties of a response plan; `plan backtest`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sealwarden_engine::ROSTER_FILE;
use sealwarden_runbook::{Finding, Place, Roster, check_webhooks};
use serde_json::json;

use super::{Answer, sign_notice};
use crate::cli::{Cli, Signing};
use crate::failure::{Ending, Failure};
use crate::host::installation::Installation;
use crate::host::settings::{FILE_NAME, Settings};
use crate::host::{plan, roster};
use crate::output;

/// The words behind `plan`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Plan {
    /// Check the properties of a plan
    Check {
        /// Its folder (default: the installation's)
        dir: Option<PathBuf>,
        /// Settings that name the webhooks which steps call (default: DATA/settings.yaml)
        #[arg(long, env = "SEALWARDEN_SETTINGS", value_name = "FILE")]
        settings: Option<PathBuf>,
    },
    /// What a changed detectors.yaml would have said about what is recorded, against what was said
    Backtest {
        /// The folder of the changed plan (default: the installation's)
        #[arg(long, value_name = "DIR")]
        plan: Option<PathBuf>,
        /// Only signals from this time on (RFC 3339; default: all)
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
    },
    /// Sign a notice's template beforehand; signed by legal-counsel and communications-lead it goes out by itself when an incident meets its threshold
    ///
    /// The signature is added to notices/NAME.md.sig. Whatever changes in the template afterwards makes the signatures worthless, and `plan check` says so.
    /// Services read the plan when they start.
    SignNotice {
        /// The notice: notices/NAME.md in the plan's folder
        name: String,
        /// The plan's folder (default: the installation's)
        dir: Option<PathBuf>,
        #[command(flatten)]
        signing: Signing,
    },
}

pub(crate) async fn run(cli: &Cli, what: &Plan) -> Answer {
    match what {
        Plan::Check { dir, settings } => check(cli, dir.clone(), settings.as_deref()),
        Plan::Backtest { plan, since } => {
            super::backtest::run(cli, plan.clone(), since.as_deref()).await
        }
        Plan::SignNotice { name, dir, signing } => {
            sign_notice::run(cli, name, dir.clone(), signing)
        }
    }
}

fn check(cli: &Cli, dir: Option<PathBuf>, settings: Option<&Path>) -> Answer {
    let webhooks = webhooks(cli, dir.is_none(), settings)?;
    let own = dir.is_none();
    let dir = folder(cli, dir, "plan check DIR")?;
    let files = plan::read_files(&dir).map_err(|e| Failure::usage(format!("{e:#}")))?;
    let (findings, runbooks) = match plan::parse(&files) {
        Ok(set) => {
            let mut findings = set.check();
            let today = jiff::Zoned::now().date();
            findings.extend(set.vendors().into_iter().flat_map(|it| it.overdue(today)));
            findings.extend(sign_notice::findings(&set));
            findings.extend(
                webhooks
                    .iter()
                    .flat_map(|known| check_webhooks(&set, known)),
            );
            if own {
                findings.extend(unsigned(cli, set.roster())?);
            }
            (findings, set.runbooks().keys().cloned().collect())
        }
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

/// The plan's folder: the one that is named, or the installation's.
pub(super) fn folder(cli: &Cli, dir: Option<PathBuf>, command: &str) -> Result<PathBuf, Failure> {
    match dir {
        Some(dir) => Ok(dir),
        None => Installation::open(&cli.data)
            .map(|i| i.data.join("plan"))
            .map_err(|e| {
                Failure::usage(format!(
                    "{e:#}; or name the plan's folder: sealwarden {command}"
                ))
            }),
    }
}

/// Says that the installation's roster.yaml is not the roster in force, as far as its data folder knows.
fn unsigned(cli: &Cli, roster: &Roster) -> Result<Option<Finding>, Failure> {
    let failed = |error: anyhow::Error| Failure::usage(format!("{error:#}"));
    let installation = Installation::open(&cli.data).map_err(failed)?;
    let line = roster::known(&installation).map_err(failed)?;
    let now = line.in_force();
    let other = now.filter(|it| it.roster.digest() != roster.digest());
    Ok(other.map(|now| {
        let message = format!(
            "this is not the roster in force, and counts for nothing until its people sign it: {}",
            now.roster.differences(roster).join("; ")
        );
        Finding::warning(
            ROSTER_FILE,
            Place::default(),
            "roster-not-in-force",
            message,
        )
        .remedy("sealwarden roster propose FILE --reason …")
    }))
}

/// What steps may call, and whether it is destructive; `None` for a plan of no installation, where no settings are known.
fn webhooks(
    cli: &Cli,
    own: bool,
    settings: Option<&Path>,
) -> Result<Option<BTreeMap<String, bool>>, Failure> {
    if settings.is_none() && !own && !cli.data.join(FILE_NAME).exists() {
        return Ok(None);
    }
    let settings =
        Settings::read(settings, &cli.data).map_err(|e| Failure::usage(format!("{e:#}")))?;
    let named = settings.runbook_executor.webhooks.into_iter();
    Ok(Some(
        named.map(|(name, it)| (name, it.destructive)).collect(),
    ))
}

fn document(f: &Finding) -> serde_json::Value {
    json!({
        "severity": f.severity.as_str(), "file": f.file, "line": f.place.line, "column": f.place.column, "step": f.step,
        "code": f.code, "message": f.message, "remedy": f.remedy,
    })
}
