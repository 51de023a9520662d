//! The fold of what an installation's stream says of its roster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sealwarden_runbook::{Approver, Person, Roster};
use sealwarden_wire::event::v1::{
    Envelope, Event, PersonAway, RosterAdopted, RosterChanged, RosterDecided, RosterProposed,
    RosterSignature, event::Kind,
};

use super::change::{Vote, change_text};
use crate::approval::{Environment, RevokedKeys, is_line_breaking, one_line, signer};
use crate::fold::{Fold, IllegalEvent};

/// The most proposals that wait at a time.
pub const MAX_PROPOSALS: usize = 8;

/// A roster of the line.
#[derive(Clone, Debug, PartialEq)]
pub struct InForce {
    /// How many changes led to it; 0 for the first.
    pub number: u64,
    /// The people.
    pub roster: Arc<Roster>,
    /// The text of its `roster.yaml`.
    pub text: String,
    /// The change that led to it; `None` for the first.
    pub changed: Option<RosterChanged>,
}

/// A roster that waits for signatures.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// What is asked.
    pub proposed: RosterProposed,
    /// The roster that would follow.
    pub roster: Arc<Roster>,
    approvals: Vec<RosterSignature>,
    denied: bool,
}

impl Proposal {
    /// Whether nobody can sign it any more.
    pub fn is_over(&self, at_ms: i64) -> bool {
        self.denied || self.proposed.expires_ms <= at_ms
    }

    /// The approvals that count, as of what is known of revoked keys.
    pub fn counted<'a>(
        &'a self,
        line: &'a RosterLine,
    ) -> impl Iterator<Item = &'a RosterSignature> + 'a {
        let approvals = self.approvals.iter();
        approvals.filter(|it| line.revoked.get(&it.key_fingerprint).is_none())
    }

    /// Who is still missing, in words; `None` if nobody is.
    pub fn missing(&self, line: &RosterLine) -> Option<String> {
        line.missing(self.counted(line).map(|it| it.person.as_str()))
    }

    /// People who could approve it and did not.
    pub fn can_sign(&self, line: &RosterLine) -> Vec<String> {
        let able = line.able(&self.proposed, &self.roster).into_iter();
        able.filter(|person| self.counted(line).all(|it| it.person != person.id))
            .map(|person| person.id.clone())
            .collect()
    }
}

/// The rosters of an installation, one after another. What does not verify changes nothing: it is passed over, and named once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RosterLine {
    installation: String,
    environment: Option<Environment>,
    rosters: Vec<InForce>,
    proposals: Vec<Proposal>,
    pub(super) revoked: RevokedKeys,
    pub(super) away: BTreeMap<String, PersonAway>,
    passed_over: Option<String>,
}

impl RosterLine {
    /// The roster in force; `None` where none was recorded yet.
    pub fn in_force(&self) -> Option<&InForce> {
        self.rosters.last()
    }

    /// The roster that followed so many changes.
    pub fn at(&self, number: u64) -> Option<&InForce> {
        self.rosters.iter().find(|it| it.number == number)
    }

    /// The newest roster of this digest (hexadecimal) that ever was in force.
    pub fn named(&self, digest: &str) -> Option<&InForce> {
        let mut rosters = self.rosters.iter().rev();
        rosters.find(|it| it.roster.digest_hex() == digest)
    }

    /// Every roster that was in force, the first one first.
    pub fn rosters(&self) -> &[InForce] {
        &self.rosters
    }

    /// The events that lead to the roster in force, without what was only proposed: a line folded from them has the same rosters.
    pub fn events(&self) -> Vec<Kind> {
        let first = self.rosters.first().map(|first| {
            Kind::RosterAdopted(RosterAdopted {
                environment: self.place().1.as_str().to_owned(),
                digest: first.roster.digest_hex(),
                text: first.text.clone(),
            })
        });
        let changes = self.rosters.iter().filter_map(|it| it.changed.clone());
        first
            .into_iter()
            .chain(changes.map(Kind::RosterChanged))
            .collect()
    }

    /// What is missing here of a line that goes further: all of it where there is none, nothing where this one is not its beginning.
    pub fn missing_of(&self, further: &Self) -> Vec<Kind> {
        let begins =
            |(mine, other): (&InForce, &InForce)| mine.roster.digest() == other.roster.digest();
        if !self.rosters.iter().zip(&further.rosters).all(begins) {
            return Vec::new();
        }
        let events = further.events().into_iter();
        events.skip(self.rosters.len()).collect()
    }

    /// Proposals to change the roster in force, also those that are over.
    pub fn proposals(&self) -> impl Iterator<Item = &Proposal> {
        self.proposals.iter()
    }

    /// A proposal.
    pub fn find(&self, number: u64, digest: &str, expires_ms: i64) -> Option<&Proposal> {
        self.proposals.iter().find(|it| {
            let it = &it.proposed;
            it.number == number && it.digest == digest && it.expires_ms == expires_ms
        })
    }

    /// The last thing that was written and counts for nothing, with the reason.
    pub fn passed_over(&self) -> Option<&str> {
        self.passed_over.as_deref()
    }

    /// Where and for what people sign; production until a first roster is recorded.
    pub fn place(&self) -> (&str, Environment) {
        let environment = self.environment.unwrap_or(Environment::Production);
        (&self.installation, environment)
    }

    /// Who of the roster in force has a key that counts and may approve a change.
    pub(super) fn able(&self, proposed: &RosterProposed, to: &Roster) -> Vec<&Person> {
        let Some(now) = self.in_force() else {
            return Vec::new();
        };
        let gaining = now.roster.gaining(to);
        let signs = |person: &&Person| {
            let mut keys = person.keys.iter();
            keys.any(|key| self.revoked.get(&key.fingerprint).is_none())
                && person.id != proposed.proposed_by
                && !gaining.contains(&person.id)
        };
        now.roster.people().iter().filter(signs).collect()
    }

    /// Who is missing beside these people to change the roster in force, in words.
    pub(super) fn missing<'a>(&self, people: impl Iterator<Item = &'a str>) -> Option<String> {
        let Some(now) = self.in_force() else {
            return Some("no roster is in force".to_owned());
        };
        let people: BTreeSet<&str> = people.collect();
        let people = people.iter().filter_map(|id| now.roster.person(id));
        let approvers: Vec<Approver> = people.map(Approver::from).collect();
        now.roster.assess_change(&approvers)
    }

    /// Whether a signature counts; whose it is and by which key, or why not.
    pub(super) fn judge(
        &self,
        proposed: &RosterProposed,
        to: &Roster,
        vote: Vote,
        signed: &RosterSignature,
    ) -> Result<(&Person, String), String> {
        let now = self.in_force().ok_or("no roster is in force")?;
        // A value of several lines would let a text say two things.
        one_line(&proposed.reason).map_err(|error| error.reason)?;
        if proposed.proposed_by.chars().any(is_line_breaking) {
            return Err("the proposer's name has several lines".to_owned());
        }
        let text = change_text(self.place(), proposed, vote, &signed.person);
        let by = (signed.person.as_str(), signed.signature.as_str());
        let revoked = self.revoked.fingerprints();
        let (person, key) = signer(&now.roster, &revoked, self.place().1, &text, by)?;
        if vote == Vote::Deny {
            return Ok((person, key));
        }
        if person.id == proposed.proposed_by {
            return Err(format!(
                "{} proposed this change, and nobody approves what they asked for",
                person.id
            ));
        }
        if now.roster.gaining(to).contains(&person.id) {
            return Err(format!(
                "{} gains by this change, and nobody approves their own roles; others must",
                person.id
            ));
        }
        Ok((person, key))
    }

    fn adopted(&mut self, adopted: &RosterAdopted, stream: &str) -> Result<(), String> {
        if !self.rosters.is_empty() {
            return Err("a first roster where there is one".to_owned());
        }
        let environment = Environment::parse(&adopted.environment)
            .ok_or_else(|| format!("the environment {:?} is unknown", adopted.environment))?;
        let roster = read(&adopted.text, &adopted.digest)?;
        let (_, installation) = stream.split_once('/').unwrap_or_default();
        installation.clone_into(&mut self.installation);
        self.environment = Some(environment);
        self.rosters.push(InForce {
            number: 0,
            roster,
            text: adopted.text.clone(),
            changed: None,
        });
        Ok(())
    }

    /// Whether this is about the roster in force and the change that would follow it.
    fn follows(&self, number: u64, from: &str) -> Result<(), String> {
        let now = self.in_force().ok_or("no roster is in force")?;
        if number == now.number.saturating_add(1) && from == now.roster.digest_hex() {
            return Ok(());
        }
        Err(format!(
            "change {number} from {from} where roster {} sha256:{} is in force",
            now.number,
            now.roster.digest_hex()
        ))
    }

    fn proposed(&mut self, proposed: &RosterProposed) -> Result<(), String> {
        self.follows(proposed.number, &proposed.from_digest)?;
        let roster = read(&proposed.text, &proposed.digest)?;
        let known = self.find(proposed.number, &proposed.digest, proposed.expires_ms);
        if known.is_some() {
            return Err("a proposal that was made before".to_owned());
        }
        // Those that wait are bounded where they are decided; here the oldest gives way.
        if self.proposals.len() >= 4 * MAX_PROPOSALS {
            self.proposals.remove(0);
        }
        self.proposals.push(Proposal {
            proposed: proposed.clone(),
            roster,
            approvals: Vec::new(),
            denied: false,
        });
        Ok(())
    }

    fn decided(&mut self, decided: &RosterDecided) -> Result<(), String> {
        let vote = Vote::parse(&decided.decision).ok_or("a decision that is none")?;
        let signed = decided
            .signed
            .as_ref()
            .ok_or("a decision that is unsigned")?;
        let proposal = self
            .find(decided.number, &decided.digest, decided.expires_ms)
            .ok_or("a decision about no proposal")?;
        let (_, key) = self.judge(&proposal.proposed, &proposal.roster, vote, signed)?;
        let same = |it: &&mut Proposal| {
            it.proposed.digest == decided.digest && it.proposed.expires_ms == decided.expires_ms
        };
        if let Some(proposal) = self.proposals.iter_mut().find(same) {
            match vote {
                Vote::Approve => {
                    proposal.approvals.retain(|it| it.person != signed.person);
                    proposal.approvals.push(RosterSignature {
                        key_fingerprint: key,
                        ..signed.clone()
                    });
                }
                Vote::Deny => proposal.denied = true,
            }
        }
        Ok(())
    }

    fn changed(&mut self, changed: &RosterChanged) -> Result<(), String> {
        let known = self.at(changed.number).and_then(|it| it.changed.as_ref());
        if known == Some(changed) {
            return Ok(()); // the same change once more
        }
        self.follows(changed.number, &changed.from_digest)?;
        let roster = read(&changed.text, &changed.digest)?;
        let proposal = self.find(changed.number, &changed.digest, changed.expires_ms);
        if proposal.is_some_and(|it| it.denied) {
            return Err("a change that was denied".to_owned());
        }
        if changed.accepted_at_ms >= changed.expires_ms {
            return Err("a change after its proposal lapsed".to_owned());
        }
        let proposed = RosterProposed {
            number: changed.number,
            from_digest: changed.from_digest.clone(),
            digest: changed.digest.clone(),
            text: changed.text.clone(),
            reason: changed.reason.clone(),
            proposed_by: changed.proposed_by.clone(),
            expires_ms: changed.expires_ms,
        };
        let mut people = BTreeSet::new();
        for signed in &changed.approvals {
            let (person, _) = self.judge(&proposed, &roster, Vote::Approve, signed)?;
            people.insert(person.id.clone());
        }
        if let Some(missing) = self.missing(people.iter().map(String::as_str)) {
            return Err(format!("a change without its quorum: missing {missing}"));
        }
        self.rosters.push(InForce {
            number: changed.number,
            roster,
            text: changed.text.clone(),
            changed: Some(changed.clone()),
        });
        self.proposals.clear();
        Ok(())
    }
}

/// Reads a roster and holds it against the digest beside it.
fn read(text: &str, digest: &str) -> Result<Arc<Roster>, String> {
    let roster = Roster::parse("roster.yaml", text)
        .map_err(|_| "a roster that cannot be read".to_owned())?;
    if roster.digest_hex() == digest {
        Ok(Arc::new(roster))
    } else {
        Err(format!(
            "a roster of the digest {} under {digest}",
            roster.digest_hex()
        ))
    }
}

impl Fold for RosterLine {
    fn apply(&mut self, envelope: &Envelope, event: &Event) -> Result<(), IllegalEvent> {
        let taken = match &event.kind {
            Some(Kind::RosterAdopted(it)) => self.adopted(it, &envelope.stream),
            Some(Kind::RosterProposed(it)) => self.proposed(it),
            Some(Kind::RosterDecided(it)) => self.decided(it),
            Some(Kind::RosterChanged(it)) => self.changed(it),
            Some(Kind::PersonAway(it)) => self.judge_absence(it).map(|()| {
                self.away.insert(it.person.clone(), it.clone());
            }),
            Some(Kind::ApproverKeyRevoked(it)) => {
                self.revoked.add(it);
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(reason) = taken {
            self.passed_over = Some(format!("position {}: {reason}", envelope.position));
        }
        Ok(())
    }
}
