//! Absence: who cannot be reached, until when. It tells people whom to ask, and takes no right away: whoever signs all the same counts.
//!
//! ```text
//! sealwarden absence v1
//! installation: acme
//! environment: production
//! person: ada
//! from: 1793613600000
//! until: 1793700000000
//! said: 1793613500000
//! by: ada
//! reason: on leave
//! ```
//!
//! Times are milliseconds of Unix time. `said` grows from one word about a person to the next, so an old one is not said again. One that ends when it begins says that the person is back.

use sealwarden_runbook::Roster;
use sealwarden_wire::event::v1::{PersonAway, event::Kind};

use super::line::RosterLine;
use crate::approval::{Environment, REVOKERS, one_line, signer};
use crate::fold::{Rejection, RejectionCode};

/// The longest absence, milliseconds: who is away for longer does not stand on a roster.
pub const MAX_ABSENCE_MS: i64 = 90 * 24 * 3_600_000;

/// How far a signer's clock may be ahead, milliseconds.
const MAX_SKEW_MS: i64 = 5 * 60_000;

/// The text that is signed to say that somebody is away.
pub fn absence_text((installation, environment): (&str, Environment), away: &PersonAway) -> String {
    format!(
        "sealwarden absence v1\ninstallation: {installation}\nenvironment: {environment}\nperson: {}\nfrom: {}\nuntil: {}\nsaid: {}\nby: {}\nreason: {}\n",
        away.person, away.from_ms, away.until_ms, away.said_ms, away.by, away.reason
    )
}

/// Takes in that somebody is away, or back. No events for what was said before.
pub fn absent(line: &RosterLine, away: PersonAway, at_ms: i64) -> Result<Vec<Kind>, Rejection> {
    one_line(&away.reason)?;
    if line.away().any(|known| *known == away) {
        return Ok(Vec::new());
    }
    if away.said_ms > at_ms.saturating_add(MAX_SKEW_MS) {
        let reason = "it was signed in this server's future; set the clocks";
        return Err(Rejection::new(RejectionCode::Invalid, reason));
    }
    line.judge_absence(&away)
        .map_err(|reason| Rejection::new(RejectionCode::Refused, reason))?;
    Ok(vec![Kind::PersonAway(away)])
}

impl RosterLine {
    /// What was last said of each person's absence.
    pub fn away(&self) -> impl Iterator<Item = &PersonAway> {
        self.away.values()
    }

    /// Who is away at a moment.
    pub fn away_at(&self, at_ms: i64) -> impl Iterator<Item = &PersonAway> {
        self.away()
            .filter(move |it| it.from_ms <= at_ms && at_ms < it.until_ms)
    }

    /// The roster in force without those who are away at a moment; `None` if nobody is left, or none is in force.
    pub fn present(&self, at_ms: i64) -> Option<Roster> {
        let roster = &self.in_force()?.roster;
        let mut people = roster.people().to_vec();
        people.retain(|person| self.away_at(at_ms).all(|it| it.person != person.id));
        let changed_by = roster.changed_by().cloned();
        Some(Roster::new(people).ok()?.with_changed_by(changed_by))
    }

    /// Whether a word about an absence counts, and if not, why.
    pub(super) fn judge_absence(&self, away: &PersonAway) -> Result<(), String> {
        let roster = &self.in_force().ok_or("no roster is in force")?.roster;
        if roster.person(&away.person).is_none() {
            return Err(format!("nobody on the roster is {:?}", away.person));
        }
        let length_ms = away.until_ms.saturating_sub(away.from_ms);
        if !(0..=MAX_ABSENCE_MS).contains(&length_ms) {
            return Err(format!(
                "an absence lasts from 0 to {} days; propose a roster without who is away for longer",
                MAX_ABSENCE_MS / 86_400_000
            ));
        }
        one_line(&away.reason).map_err(|error| error.reason)?;
        let known = self.away.get(&away.person);
        if known.is_some_and(|known| known.said_ms >= away.said_ms) {
            return Err(format!(
                "something newer was said of {} already; say it anew",
                away.person
            ));
        }
        let text = absence_text(self.place(), away);
        let by = (away.by.as_str(), away.signature.as_str());
        let revoked = self.revoked.fingerprints();
        let (person, _) = signer(roster, &revoked, self.place().1, &text, by)?;
        let senior = |role: &sealwarden_runbook::Role| REVOKERS.contains(&role.as_str());
        if person.id == away.person || person.roles.iter().any(senior) {
            return Ok(());
        }
        Err(format!(
            "{} may say that of themselves; of {} they may, or somebody who is {}",
            person.id,
            away.person,
            REVOKERS.join(" or ")
        ))
    }
}
