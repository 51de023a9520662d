//! `runbook show/draw/schema/import/export/sign/verify`: runbooks as text and picture, and as playbooks of others.

pub(crate) mod draw;
mod playbook;
mod show;

use std::path::PathBuf;

use sealwarden_runbook::{PlanSet, Runbook as Loaded, schemas};

use super::Answer;
use crate::cli::Cli;
use crate::failure::{Ending, Failure};
use crate::host::{installation::Installation, plan};
use crate::output;

/// The words behind `runbook`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Runbook {
    /// Show a runbook as its graph
    Show {
        #[command(flatten)]
        which: Which,
        /// As Mermaid
        #[arg(long)]
        mermaid: bool,
    },
    /// Draw a runbook: SVG, DOT, Mermaid or text
    Draw(draw::Draw),
    /// The JSON Schema of a file of the plan, for editors: fields, actions with their inputs, durations. `plan check` proves more
    Schema {
        /// Of which file
        #[arg(default_value = "runbook", value_parser = ["runbook", "plan", "roster"])]
        of: String,
    },
    /// Write a runbook as a CACAO v2.0 playbook
    Export(playbook::Export),
    /// Make a runbook of a CACAO v2.0 playbook; what cannot be executed is refused, all of it at once
    Import(playbook::Import),
    /// Sign a CACAO v2.0 playbook (jss); signatures that it has stay
    Sign(playbook::Sign),
    /// Check the signatures of a CACAO v2.0 playbook. Exit code 1: one does not hold, or there is none
    Verify(playbook::Verify),
}

/// A runbook of a plan.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// Its name, e.g. key-compromise
    name: String,
    /// Plan folder (default: the installation's, else the shipped one)
    #[arg(long, value_name = "DIR")]
    plan: Option<PathBuf>,
}

pub(crate) fn run(cli: &Cli, what: &Runbook) -> Answer {
    match what {
        Runbook::Show { which, mermaid } => show::show(cli, which, *mermaid),
        Runbook::Draw(args) => draw::draw(cli, args),
        Runbook::Schema { of } => Ok(schema(of)),
        Runbook::Export(args) => playbook::export(cli, args),
        Runbook::Import(args) => playbook::import(cli, args),
        Runbook::Sign(args) => playbook::sign(cli, args),
        Runbook::Verify(args) => playbook::verify(cli, args),
    }
}

fn schema(of: &str) -> Ending {
    for schema in schemas() {
        if schema.file.split('.').next() == Some(of) {
            output::json(&schema.value);
        }
    }
    Ending::Good
}

impl Which {
    /// The runbook and the plan that it belongs to.
    fn load(&self, cli: &Cli) -> Result<Loaded, Failure> {
        let plan = self.plan(cli)?;
        plan.runbook(&self.name).cloned().ok_or_else(|| {
            let known: Vec<&str> = plan.runbooks().keys().map(String::as_str).collect();
            Failure::usage(format!(
                "the plan has no runbook {:?}; it has: {}",
                self.name,
                known.join(", ")
            ))
        })
    }

    fn plan(&self, cli: &Cli) -> Result<PlanSet, Failure> {
        let usage = |e: anyhow::Error| Failure::usage(format!("{e:#}"));
        match &self.plan {
            Some(folder) => plan::load(folder).map_err(usage),
            None => match Installation::open(&cli.data) {
                Ok(installation) => installation.plan(None).map_err(usage),
                Err(_) => plan::shipped().map_err(usage),
            },
        }
    }
}
