//! Approvals of notices: the same statements that approve steps, over the notice's own text.
//!
//! A notice stands in a statement as step `notice-<number>` of run `notices`; its inputs are [`notice_text`]. Whoever wrote it cannot approve it, and one person fills one
//! role.

use std::collections::BTreeMap;

use sealwarden_runbook::{Approver, Assessment, Quorum, Role, Roster, show_counts};
use sealwarden_wire::event::v1::{Event, NoticeDecided, NoticePrepared, event::Kind};

use super::state::{Communication, DeliveryPhase, NoticeState, awaited};
use crate::approval::{
    Decision, Environment, Expectation, Refusal, RefusalCode, RevokedKeys, Standing, Statement,
    check, sha256_hex,
};
use crate::fold::event;

/// What statements over notices name as run and runbook.
pub const RUN: &str = "notices";
const RUNBOOK: &str = "notice";
const STEP: &str = "notice-";

/// What every approval of a notice is held against.
#[derive(Clone, Copy, Debug)]
pub struct Ballot<'a> {
    /// The installation's name.
    pub installation: &'a str,
    /// Production or drill.
    pub environment: Environment,
    /// The incident's id.
    pub incident: &'a str,
    /// The people.
    pub roster: &'a Roster,
    /// Keys that were revoked.
    pub revoked: &'a RevokedKeys,
    /// The longest time from now to a statement's expiry, milliseconds.
    pub max_validity_ms: i64,
}

/// What an approval of a notice binds: everything that people outside will read, and who they are.
pub fn notice_text(incident: &str, e: &NoticePrepared) -> String {
    format!(
        "action: publish-notice\nincident: {incident}\nnumber: {}\naudience: {}\naddressee: {}\nlanguage: {}\nchannels: {}\ntemplate: {} {}\ntitle: {}\n\n{}",
        e.number,
        e.audience,
        e.addressee,
        e.language,
        e.channels.join(" "),
        e.template,
        e.template_sha256,
        e.title,
        e.text
    )
}

/// SHA-256 (hex) of [`notice_text`].
pub fn notice_digest(incident: &str, e: &NoticePrepared) -> String {
    sha256_hex(notice_text(incident, e).as_bytes())
}

/// The step that a statement over this notice names.
pub fn step_of(number: u32) -> String {
    format!("{STEP}{number}")
}

/// Name and digest of what stands in a statement for the runbook.
pub fn source_of(incident: &str, e: &NoticePrepared) -> (String, String) {
    if e.template.is_empty() {
        (RUNBOOK.to_owned(), notice_digest(incident, e))
    } else {
        (e.template.clone(), e.template_sha256.clone())
    }
}

/// The quorum of a notice: one person of each role that it awaits.
pub fn quorum(e: &NoticePrepared) -> Option<Quorum> {
    let roles = awaited(e).iter().filter_map(|role| Role::new(role).ok());
    Quorum::new(roles.map(|role| (role, 1)).collect::<BTreeMap<_, _>>()).ok()
}

/// What is still missing of its quorum, in words; empty if it is met. `at_ms`: expired approvals do not count.
pub fn missing(notice: &NoticeState, at_ms: i64) -> String {
    let Some(quorum) = quorum(&notice.prepared) else {
        return String::new();
    };
    match quorum.assess(&approvers(notice, at_ms)) {
        Assessment::Met(_) => String::new(),
        Assessment::Missing(missing) => show_counts(&missing),
    }
}

fn approvers(notice: &NoticeState, at_ms: i64) -> Vec<Approver> {
    let approved = notice.standing().filter(|d| d.decision == "approve");
    let unexpired = approved.filter(|d| {
        Statement::parse(&d.statement).is_ok_and(|statement| statement.expires_ms() > at_ms)
    });
    unexpired
        .map(|d| Approver {
            person: d.person.clone(),
            roles: d
                .roles
                .iter()
                .filter_map(|role| Role::new(role).ok())
                .collect(),
        })
        .collect()
}

/// The notice that a signed statement is about.
pub fn number_of(statement: &str) -> Option<u32> {
    let statement = Statement::parse(statement).ok()?;
    let number = statement.step.strip_prefix(STEP)?.parse().ok()?;
    (statement.run == RUN).then_some(number)
}

/// Takes in a signed statement over a notice, or says why it does not count.
pub fn decide_notice(
    state: &Communication,
    ballot: &Ballot<'_>,
    statement: &str,
    signature: &str,
    at_ms: i64,
) -> Result<Vec<Event>, Refusal> {
    let notice = number_of(statement).and_then(|number| state.notice(number));
    let Some(notice) = notice else {
        let reason = "the statement is about no notice of this incident; `sealwarden incident notices` lists them".to_owned();
        return Err(Refusal::new(RefusalCode::WrongStep, "", reason));
    };
    let prepared = &notice.prepared;
    let number = prepared.number;
    let quorum = quorum(prepared);
    let (runbook, runbook_digest) = source_of(ballot.incident, prepared);
    let digest = notice_digest(ballot.incident, prepared);
    let author = prepared.by.strip_prefix("person ").map(str::to_owned);
    let requesters: Vec<String> = author.into_iter().collect();
    let standing: Vec<Standing<'_>> = notice
        .standing()
        .filter_map(|d| {
            Some(Standing {
                person: &d.person,
                decision: Decision::parse(&d.decision)?,
            })
        })
        .collect();
    let expected = Expectation {
        installation: ballot.installation,
        environment: ballot.environment,
        incident: ballot.incident,
        run: RUN,
        step: &step_of(number),
        iteration: 0,
        runbook: &runbook,
        runbook_digest: &runbook_digest,
        inputs_digest: Some(&digest),
        roster: ballot.roster,
        requesters: &requesters,
        revoked: &ballot.revoked.fingerprints(),
        used_nonces: &state.nonces,
        quorum: quorum.as_ref(),
        anyone: false,
        touch: false,
        standing: &standing,
        max_validity_ms: ballot.max_validity_ms,
        takes: &[Decision::Approve, Decision::Deny],
        closed: is_sent(notice).then_some("it is being sent, or was"),
    };
    let accepted = check(statement, signature, &expected, at_ms)?;
    Ok(vec![event(Kind::NoticeDecided(NoticeDecided {
        number,
        person: accepted.person,
        decision: accepted.decision.as_str().to_owned(),
        statement: statement.to_owned(),
        signature: signature.to_owned(),
        key_fingerprint: accepted.fingerprint,
        roles: accepted.roles.iter().map(Role::to_string).collect(),
        nonce: accepted.nonce,
    }))])
}

fn is_sent(notice: &NoticeState) -> bool {
    let begun = |phase: &DeliveryPhase| !matches!(phase, DeliveryPhase::Waiting(0));
    notice.deliveries.values().any(|it| begun(&it.phase))
}
