//! Drills: the real loop in a sandbox of its own. Same services, same runbook, same approvals as production; only the people are played, and the attacker is real.

mod documents;
mod key_compromise;
pub(crate) mod people;
pub(crate) mod sandbox;
mod score;
pub(crate) mod thief;
mod watch;

use crate::cli::{Cli, Drill, DrillName};
use crate::commands::Answer;

/// Runs the named drill.
pub(crate) async fn run(cli: &Cli, args: &Drill) -> Answer {
    match args.name {
        DrillName::KeyCompromise => key_compromise::run(cli.json, args).await,
    }
}

/// Prints a line of the story, unless the answer is one JSON document.
#[derive(Clone, Copy)]
pub(crate) struct Narrator {
    pub(crate) quiet: bool,
}

impl Narrator {
    pub(crate) fn say(self, text: &str) {
        if !self.quiet {
            crate::output::line(text);
        }
    }

    pub(crate) fn chapter(self, title: &str) {
        self.say("");
        self.say(&format!("== {title}"));
    }
}
