//! `incident hand-over`: whose an incident is.

use sealwarden_wire::incident::v1 as wire;

use super::show;
use crate::cli::Cli;
use crate::commands::{Answer, client};
use crate::failure::Ending;

/// The words behind `incident` that say whose it is.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Ownership {
    /// Give an open incident to somebody, or take it: everybody sees whose it is
    ///
    /// The note is what the next one has to know: what was done, what was tried in vain, what comes next. Give it to yourself to take it. Who is asked by name
    /// when nobody answers stays with the plan; `incident ack` is still what stops that.
    HandOver {
        /// Its id
        id: String,
        /// Who has it from now on: a name of the roster
        #[arg(long, value_name = "PERSON")]
        to: String,
        /// What they have to know
        #[arg(long)]
        note: String,
    },
}

pub(crate) async fn run(cli: &Cli, what: &Ownership) -> Answer {
    let Ownership::HandOver { id, to, note } = what;
    let request = wire::HandOverRequest {
        incident: id.clone(),
        to: to.clone(),
        note: note.clone(),
    };
    let mut incidents = client(cli)?.incidents().await?;
    let incident = incidents.hand_over(request).await?.into_inner();
    show(cli, &incident);
    Ok(Ending::Good)
}
