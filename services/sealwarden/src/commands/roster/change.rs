//! Asking for another roster, and signing one.

use std::path::Path;

use sealwarden_domain::approval::Environment;
use sealwarden_domain::roster::{Vote, change_text};
use sealwarden_engine::ROSTER_FILE;
use sealwarden_runbook::Roster;
use sealwarden_wire::event::v1::RosterProposed;
use sealwarden_wire::run::v1 as wire;
use sealwarden_wire::run::v1::runs_client::RunsClient;
use serde_json::json;

use super::SigningKey;
use crate::cli::{Cli, Signing};
use crate::client::Traced;
use crate::commands::Answer;
use crate::failure::{Ending, Failure};
use crate::output;

/// Digits of a digest that are enough to name a proposal to a person.
const SHORT: usize = 12;

fn short(digest: &str) -> &str {
    digest.get(..SHORT).unwrap_or(digest)
}

/// Sends a file as a proposal.
pub(super) async fn propose(
    cli: &Cli,
    runs: &mut RunsClient<Traced>,
    file: &Path,
    reason: &str,
) -> Answer {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::usage(format!(
            "cannot read {}: {error}; name the changed roster.yaml",
            file.display()
        ))
    })?;
    let request = wire::ProposeRosterRequest {
        text,
        reason: reason.to_owned(),
    };
    let proposal = runs.propose_roster(request).await?.into_inner();
    if cli.json {
        output::json(&document(&proposal));
    } else {
        output::line(&shown(&proposal));
        output::line(&format!(
            "Each of them signs: sealwarden roster approve {}",
            short(&proposal.digest)
        ));
    }
    Ok(Ending::Good)
}

/// A proposal as JSON.
pub(crate) fn document(it: &wire::RosterProposal) -> serde_json::Value {
    json!({
        "number": it.number, "from_digest": it.from_digest, "digest": it.digest, "reason": it.reason, "proposed_by": it.proposed_by,
        "expires_ms": it.expires_ms, "differences": it.differences, "approved_by": it.approved_by, "missing": it.missing, "can_sign": it.can_sign,
    })
}

/// A proposal in words.
pub(crate) fn shown(it: &wire::RosterProposal) -> String {
    let changes: Vec<String> = it
        .differences
        .iter()
        .map(|said| format!("  {said}"))
        .collect();
    let approved = if it.approved_by.is_empty() {
        "nobody".to_owned()
    } else {
        it.approved_by.join(", ")
    };
    format!(
        "WAITS FOR SIGNATURES: roster {} sha256:{}, proposed by {} until {}: {}\n{}\nsigned by {approved}; missing: {}; can sign: {}",
        it.number,
        it.digest,
        it.proposed_by,
        output::time(it.expires_ms),
        it.reason,
        changes.join("\n"),
        it.missing,
        it.can_sign.join(", "),
    )
}

/// The proposal that is meant.
fn named<'a>(
    roster: &'a wire::Roster,
    digest: Option<&str>,
) -> Result<&'a wire::RosterProposal, Failure> {
    let wanted = digest.unwrap_or_default();
    let wanted = wanted.strip_prefix("sha256:").unwrap_or(wanted);
    let mut fitting = roster
        .proposals
        .iter()
        .filter(|it| it.digest.starts_with(wanted));
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Ok(only),
        (None, _) if roster.proposals.is_empty() => Err(Failure::usage(
            "no change of the roster waits for signatures; `sealwarden roster propose FILE --reason …` asks for one",
        )),
        (None, _) => Err(Failure::usage(format!(
            "no proposal's digest begins with {wanted:?}; `sealwarden roster show` lists them"
        ))),
        (Some(_), Some(_)) => Err(Failure::usage(
            "several changes wait for signatures; name one by the beginning of its digest (`sealwarden roster show`)",
        )),
    }
}

/// What a proposal changes, read from the texts themselves: what is shown must be what the digests name.
fn changes(roster: &wire::Roster, proposal: &wire::RosterProposal) -> Result<Vec<String>, Failure> {
    let read = |text: &str, digest: &str| {
        Roster::parse(ROSTER_FILE, text)
            .ok()
            .filter(|it| it.digest_hex() == digest)
            .ok_or_else(|| {
                Failure::refused(
                    "the server shows a roster that is not the one it asks to sign; nothing was signed",
                )
            })
    };
    let now = read(&roster.text, &proposal.from_digest)?;
    let then = read(&proposal.text, &proposal.digest)?;
    Ok(now.differences(&then))
}

/// Shows what changes, asks, signs and sends.
pub(super) async fn sign(
    cli: &Cli,
    runs: &mut RunsClient<Traced>,
    roster: &wire::Roster,
    (digest, vote): (Option<&str>, Vote),
    signing: &Signing,
) -> Answer {
    let proposal = named(roster, digest)?;
    let changes = changes(roster, proposal)?;
    let mine = SigningKey::find(cli, signing)?;
    let me = super::signer(roster, &mine)?;
    let environment = Environment::parse(&roster.environment).ok_or_else(|| {
        let named = &roster.environment;
        Failure::refused(format!("the server names an unknown environment {named:?}"))
    })?;
    let proposed = RosterProposed {
        number: proposal.number,
        from_digest: proposal.from_digest.clone(),
        digest: proposal.digest.clone(),
        reason: proposal.reason.clone(),
        proposed_by: proposal.proposed_by.clone(),
        expires_ms: proposal.expires_ms,
        ..RosterProposed::default()
    };
    let place = (roster.installation.as_str(), environment);
    let text = change_text(place, &proposed, vote, &me.person);
    let namespace = environment.namespace();
    if !cli.json || !signing.yes {
        let meaning = match vote {
            Vote::Approve => "You approve that from then on these people approve with these keys.",
            Vote::Deny => "You end this proposal; it can be made again.",
        };
        output::complain(&format!(
            "{} proposes: {}\n  {}\n{meaning}\n\nThe statement to sign (SSHSIG, namespace {namespace}):\n{text}",
            proposal.proposed_by,
            proposal.reason,
            changes.join("\n  ")
        ));
    }
    if !signing.yes && !output::confirmed(&format!("Sign this as {}?", me.name)) {
        return Err(Failure::usage("not signed: nothing was sent"));
    }
    let request = wire::DecideRosterRequest {
        number: proposal.number,
        digest: proposal.digest.clone(),
        expires_ms: proposal.expires_ms,
        decision: vote.as_str().to_owned(),
        person: me.person.clone(),
        signature: mine.sign(&text, namespace)?,
    };
    let answer = runs.decide_roster(request).await?.into_inner();
    if cli.json {
        output::json(&json!({
            "digest": proposal.digest, "number": proposal.number, "person": me.person, "decision": vote.as_str(),
            "in_force": answer.in_force, "denied": answer.denied, "missing": answer.missing,
        }));
    } else {
        let rest = if answer.in_force {
            "it is in force".to_owned()
        } else if answer.denied {
            "the proposal is over".to_owned()
        } else {
            format!("still missing: {}", answer.missing)
        };
        let does = match vote {
            Vote::Approve => "approves",
            Vote::Deny => "denies",
        };
        output::line(&format!(
            "recorded: {} {does} roster {} sha256:{}; {rest}",
            me.person, proposal.number, proposal.digest
        ));
    }
    Ok(Ending::Good)
}
