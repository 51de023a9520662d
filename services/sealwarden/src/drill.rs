//! Drills: the real loop in a sandbox of its own. Same services, same runbook, same approvals as production; only the people are played, and the attacker is real.

mod act;
mod catalogue;
mod documents;
mod key_compromise;
pub(crate) mod people;
pub(crate) mod sandbox;
mod score;
mod silent_corruption;
pub(crate) mod thief;
mod watch;

use crate::cli::{Cli, Drill, DrillName};
use crate::commands::Answer;
use crate::failure::Ending;

/// Runs the named drill, or lists them.
pub(crate) async fn run(cli: &Cli, args: &Drill) -> Answer {
    match args.name {
        DrillName::List => {
            catalogue::print(cli.json);
            Ok(Ending::Good)
        }
        DrillName::KeyCompromise => {
            act::perform(cli.json, args, "key-compromise", "", key_compromise::play).await
        }
        DrillName::SilentCorruption => {
            let settings = silent_corruption::SETTINGS;
            let play = silent_corruption::play;
            act::perform(cli.json, args, "silent-corruption", settings, play).await
        }
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
