//! Deciding about changes of the roster.

use sealwarden_runbook::{Approver, PlanSet, Roster};
use sealwarden_wire::event::v1::{
    RosterAdopted, RosterChanged, RosterDecided, RosterProposed, RosterSignature, event::Kind,
};

use super::line::{MAX_PROPOSALS, Proposal, RosterLine};
use crate::approval::{Environment, one_line};
use crate::fold::{Rejection, RejectionCode};

/// How long a proposal waits for signatures, milliseconds: a week, since it is no incident and people are away.
const PROPOSAL_MS: i64 = 7 * 24 * 3_600_000;

/// The longest text of a roster that is proposed, bytes.
const MAX_TEXT_BYTES: usize = 256 * 1024;

/// What a person says of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    /// It may be in force.
    Approve,
    /// It must not, and is over.
    Deny,
}

impl Vote {
    /// The word in texts and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Deny => "deny",
        }
    }

    /// Reads the word; `None` for any other.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "approve" => Some(Self::Approve),
            "deny" => Some(Self::Deny),
            _ => None,
        }
    }
}

/// The text that is signed to approve or deny a proposal.
pub fn change_text(
    (installation, environment): (&str, Environment),
    proposed: &RosterProposed,
    vote: Vote,
    by: &str,
) -> String {
    format!(
        "sealwarden roster change v1\ninstallation: {installation}\nenvironment: {environment}\nnumber: {}\nfrom: sha256:{}\nto: sha256:{}\nproposed by: {}\nreason: {}\nexpires: {}\ndecision: {}\nby: {by}\n",
        proposed.number,
        proposed.from_digest,
        proposed.digest,
        proposed.proposed_by,
        proposed.reason,
        proposed.expires_ms,
        vote.as_str(),
    )
}

fn refused(code: RejectionCode, reason: impl Into<String>) -> Rejection {
    Rejection::new(code, reason)
}

/// Takes the first roster of an installation, with the text that it was read from. No events where one was taken before.
pub fn adopt(
    line: &RosterLine,
    environment: Environment,
    (roster, text): (&Roster, &str),
) -> Result<Vec<Kind>, Rejection> {
    if line.in_force().is_some() {
        return Ok(Vec::new());
    }
    Ok(vec![Kind::RosterAdopted(RosterAdopted {
        environment: environment.as_str().to_owned(),
        digest: roster.digest_hex(),
        text: text.to_owned(),
    })])
}

/// Proposes the text of another roster. No events where the same one waits already.
pub fn propose(
    line: &RosterLine,
    plan: &PlanSet,
    (text, reason, by): (&str, &str, &str),
    at_ms: i64,
) -> Result<Vec<Kind>, Rejection> {
    one_line(reason)?;
    let Some(now) = line.in_force() else {
        let reason = "no roster is in force yet: the executor records the first one when it starts";
        return Err(refused(RejectionCode::NotNow, reason));
    };
    if text.len() > MAX_TEXT_BYTES {
        let reason = format!(
            "the roster has {} bytes; at most {MAX_TEXT_BYTES} are taken",
            text.len()
        );
        return Err(refused(RejectionCode::Invalid, reason));
    }
    let unusable = |findings: Vec<sealwarden_runbook::Finding>| {
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        let reason = format!("the roster cannot be used:\n{}", lines.join("\n"));
        refused(RejectionCode::Invalid, reason)
    };
    let roster = Roster::parse("roster.yaml", text).map_err(unusable)?;
    if roster.digest() == now.roster.digest() {
        let reason = "it changes nothing that is signed: names, roles, keys and `changed_by` are as they are in force. Contacts and the file's layout are changed in the file alone";
        return Err(refused(RejectionCode::Invalid, reason));
    }
    plan.clone().with_roster(roster.clone()).map_err(unusable)?;
    let waiting = || line.proposals().filter(|it| !it.is_over(at_ms));
    if waiting().any(|it| it.roster.digest() == roster.digest()) {
        return Ok(Vec::new());
    }
    if waiting().count() >= MAX_PROPOSALS {
        let reason = format!(
            "{MAX_PROPOSALS} proposals wait for signatures; approve or deny one first (`sealwarden roster show`)"
        );
        return Err(refused(RejectionCode::NotNow, reason));
    }
    let proposed = RosterProposed {
        number: now.number.saturating_add(1),
        from_digest: now.roster.digest_hex(),
        digest: roster.digest_hex(),
        text: text.to_owned(),
        reason: reason.to_owned(),
        proposed_by: by.to_owned(),
        expires_ms: at_ms.saturating_add(PROPOSAL_MS),
    };
    let able = line.able(&proposed, &roster);
    let able: Vec<Approver> = able.into_iter().map(Approver::from).collect();
    if let Some(missing) = now.roster.assess_change(&able) {
        let reason = format!(
            "nobody could approve this: it takes {}; {by} proposes it, {} would gain a role by it, and of the others who have keys there are too few: missing {missing}. Let somebody else propose it, or change one person at a time",
            now.roster.change_rule(),
            in_words(&now.roster.gaining(&roster)),
        );
        return Err(refused(RejectionCode::Refused, reason));
    }
    Ok(vec![Kind::RosterProposed(proposed)])
}

fn in_words(people: &std::collections::BTreeSet<String>) -> String {
    if people.is_empty() {
        "nobody".to_owned()
    } else {
        let people: Vec<&str> = people.iter().map(String::as_str).collect();
        people.join(", ")
    }
}

/// Takes a signed decision of a person about a proposal in; with the last one that is needed the roster is in force. No events for what the same person said before.
pub fn sign(line: &RosterLine, decided: RosterDecided, at_ms: i64) -> Result<Vec<Kind>, Rejection> {
    let Some(proposal) = line.find(decided.number, &decided.digest, decided.expires_ms) else {
        let reason = format!(
            "no proposal {} sha256:{} waits for signatures; `sealwarden roster show` lists those that do",
            decided.number, decided.digest
        );
        return Err(refused(RejectionCode::NotFound, reason));
    };
    if proposal.is_over(at_ms) {
        let reason = "the proposal lapsed or was denied; propose it again";
        return Err(refused(RejectionCode::Refused, reason));
    }
    let Some(vote) = Vote::parse(&decided.decision) else {
        let reason = format!("{:?} is no decision; say approve or deny", decided.decision);
        return Err(refused(RejectionCode::Invalid, reason));
    };
    let mut signed = decided.signed.clone().unwrap_or_default();
    let (person, key) = line
        .judge(&proposal.proposed, &proposal.roster, vote, &signed)
        .map_err(|reason| refused(RejectionCode::Refused, reason))?;
    let person = person.id.clone();
    signed.key_fingerprint = key;
    let approved = |it: &RosterSignature| it.person == person;
    if vote == Vote::Approve && proposal.counted(line).any(approved) {
        return Ok(Vec::new());
    }
    let mut events = vec![Kind::RosterDecided(RosterDecided {
        signed: Some(signed.clone()),
        ..decided
    })];
    if vote == Vote::Approve {
        events.extend(accepted(line, proposal, signed, at_ms));
    }
    Ok(events)
}

/// The change, if with this signature enough people agree.
fn accepted(
    line: &RosterLine,
    proposal: &Proposal,
    signed: RosterSignature,
    at_ms: i64,
) -> Option<Kind> {
    let mut approvals: Vec<RosterSignature> = proposal.counted(line).cloned().collect();
    approvals.retain(|it| it.person != signed.person);
    approvals.push(signed);
    let proposed = &proposal.proposed;
    let people = approvals.iter().map(|it| it.person.as_str());
    if line.missing(people).is_some() {
        return None;
    }
    Some(Kind::RosterChanged(RosterChanged {
        number: proposed.number,
        from_digest: proposed.from_digest.clone(),
        digest: proposed.digest.clone(),
        text: proposed.text.clone(),
        reason: proposed.reason.clone(),
        proposed_by: proposed.proposed_by.clone(),
        expires_ms: proposed.expires_ms,
        approvals,
        accepted_at_ms: at_ms,
    }))
}
