//! What a node knows of the roster by itself, whatever the event log says.

use std::sync::Arc;

use sealwarden_runbook::Roster;

use super::line::RosterLine;

/// A roster that the node knows to have been in force.
#[derive(Clone, Debug, PartialEq)]
pub struct RosterAnchor {
    number: u64,
    roster: Arc<Roster>,
}

/// What a node holds the event log's line for.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// How many changes led to the roster that the node goes by.
    pub number: u64,
    /// The roster that it goes by.
    pub roster: Arc<Roster>,
    /// Why the event log's line is not believed, and what to do; `None` if it is, or says nothing yet.
    pub finding: Option<String>,
}

impl RosterAnchor {
    /// A roster that followed so many changes.
    pub fn new(number: u64, roster: Arc<Roster>) -> Self {
        Self { number, roster }
    }

    /// The roster that a node goes by: the one in force, if the line passes through what the node knows; else what the node knows.
    pub fn judge(&self, line: &RosterLine) -> Judged {
        let known = || Judged {
            number: self.number,
            roster: Arc::clone(&self.roster),
            finding: None,
        };
        let Some(now) = line.in_force() else {
            return known();
        };
        let (number, digest) = (self.number, self.roster.digest_hex());
        match line.at(number) {
            Some(then) if then.roster.digest() == self.roster.digest() => Judged {
                number: now.number,
                roster: Arc::clone(&now.roster),
                finding: None,
            },
            Some(then) => Judged {
                finding: Some(format!(
                    "the event log says that roster {number} was sha256:{}, and this data folder knows sha256:{digest}: somebody wrote another history. This process goes by the roster that it knows",
                    then.roster.digest_hex()
                )),
                ..known()
            },
            None => Judged {
                finding: Some(format!(
                    "the event log ends at roster {}, and this data folder knows roster {number} sha256:{digest}: the event log went back, as after a backup was restored. This process goes by the roster that it knows",
                    now.number
                )),
                ..known()
            },
        }
    }

    /// The roster by which a statement is judged that names this digest (hexadecimal): the one that the node goes by, or what still holds of an earlier one of
    /// a line that it believes. Any other is judged by the roster that the node goes by, whose digest it does not have.
    pub fn named(&self, line: &RosterLine, digest: &str) -> Arc<Roster> {
        let judged = self.judge(line);
        let earlier = line.named(digest).filter(|it| it.number < judged.number);
        match earlier.filter(|_| judged.finding.is_none() && judged.roster.digest_hex() != digest) {
            Some(earlier) => Arc::new(earlier.roster.still(&judged.roster)),
            None => judged.roster,
        }
    }
}
