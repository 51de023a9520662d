//! Drills: the real loop in a sandbox of its own. Same services, same runbook, same approvals as production; only the people are played, and the attacker is real.

mod act;
mod bad_release;
mod catalogue;
mod documents;
mod fleet;
mod hsm_latency;
mod key_compromise;
pub(crate) mod people;
pub(crate) mod sandbox;
mod score;
mod silent_corruption;
mod stamps;
pub(crate) mod thief;
mod vendor_outage;
mod watch;

use crate::cli::{Cli, Drill, DrillName};
use crate::commands::Answer;
use crate::failure::Ending;
use sandbox::{Sandbox, Scene};

/// Runs the named drill, or lists them.
pub(crate) async fn run(cli: &Cli, args: &Drill) -> Answer {
    match args.name {
        DrillName::List => {
            catalogue::print(cli.json);
            Ok(Ending::Good)
        }
        DrillName::KeyCompromise => {
            let (scene, play) = (Scene::default(), key_compromise::play);
            act::perform(cli.json, args, "key-compromise", scene, play).await
        }
        DrillName::SilentCorruption => {
            let (scene, play) = (silent_corruption::SCENE, silent_corruption::play);
            act::perform(cli.json, args, "silent-corruption", scene, play).await
        }
        DrillName::BadRelease => {
            let fleet = fleet::Fleet::open().await?;
            let play = async |narrator, args: &Drill, sandbox: &Sandbox| {
                bad_release::play(narrator, args, sandbox, &fleet).await
            };
            let answer = act::perform(cli.json, args, "bad-release", fleet.scene(), play).await;
            fleet.stop().await;
            answer
        }
        DrillName::VendorOutage => {
            let mut vendors = vendor_outage::Vendors::start().await?;
            let scene = vendors.scene();
            let play = async |narrator, args: &Drill, sandbox: &Sandbox| {
                vendor_outage::play(narrator, args, sandbox, &mut vendors).await
            };
            let answer = act::perform(cli.json, args, "vendor-outage", scene, play).await;
            vendors.stop().await?;
            answer
        }
        DrillName::HsmLatency => {
            let (scene, play) = (hsm_latency::SCENE, hsm_latency::play);
            act::perform(cli.json, args, "hsm-latency", scene, play).await
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
