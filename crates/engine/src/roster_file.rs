//! The `roster.yaml` of a plan folder, held against the roster in force. The file is how people read and edit the roster; it puts nobody in force.

use std::io::Read as _;
use std::path::Path;

use sealwarden_domain::roster::{Judged, RosterLine};
use sealwarden_runbook::Roster;

/// The file's name in the plan folder.
pub const ROSTER_FILE: &str = "roster.yaml";

/// The longest file that is read, bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RosterFile {
    /// It is the roster in force.
    InForce,
    /// It is a roster that was in force before: nobody has written the change there yet.
    Earlier,
    /// It was edited, and nobody signed that; what it changes, one sentence each.
    Edited(Vec<String>),
    /// It cannot be read; why.
    Unusable(String),
}

impl RosterFile {
    /// Reads the file in a plan folder.
    pub fn look(dir: &Path, judged: &Judged, line: &RosterLine) -> Self {
        let path = dir.join(ROSTER_FILE);
        let mut text = String::new();
        let read = std::fs::File::open(&path)
            .and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text));
        if let Err(error) = read {
            return Self::Unusable(format!("{}: {error}", path.display()));
        }
        let roster = match Roster::parse(ROSTER_FILE, &text) {
            Ok(roster) => roster,
            Err(findings) => {
                let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
                return Self::Unusable(lines.join("; "));
            }
        };
        if roster.digest() == judged.roster.digest() {
            Self::InForce
        } else if line.named(&roster.digest_hex()).is_some() {
            Self::Earlier
        } else {
            Self::Edited(judged.roster.differences(&roster))
        }
    }

    /// What does not fit, with the remedy; `None` if the file is the roster in force.
    pub fn finding(&self) -> Option<String> {
        match self {
            Self::InForce => None,
            Self::Earlier => Some(format!(
                "{ROSTER_FILE} is an earlier roster, and counts for nothing; `sealwarden roster show --yaml` prints the one in force"
            )),
            Self::Edited(differences) => Some(format!(
                "{ROSTER_FILE} was edited and nobody signed that, so it counts for nothing: {}. `sealwarden roster propose FILE --reason …` asks for it; `sealwarden roster show --yaml` prints the roster in force",
                differences.join("; ")
            )),
            Self::Unusable(reason) => Some(format!(
                "{ROSTER_FILE} cannot be read, and counts for nothing: {reason}. `sealwarden roster show --yaml` prints the roster in force"
            )),
        }
    }
}
