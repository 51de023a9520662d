//! Notices whose templates people signed beforehand.

use std::collections::BTreeMap;

use sealwarden_runbook::{
    Approver, Assessment, Audience, IncidentSeverity, NoticeTemplate, Quorum, Role, Roster,
};
use sealwarden_wire::event::v1::{NoticePrepared, PageAction};

use super::brief::one_line;
use super::due::Situation;
use crate::approval::{Namespace, RevokedKeys, Signature};
use crate::incident::{stage_name, time_text};

/// Whose signatures a notice to everybody wants.
pub const APPROVERS: [&str; 2] = ["legal-counsel", "communications-lead"];

/// Who signed a template, and what is wrong with signatures that do not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signed {
    /// The ids of those whose signatures verify.
    pub people: Vec<String>,
    /// Whether one person of each role signed.
    pub complete: bool,
    /// Why signatures do not count, a sentence each.
    pub wrong: Vec<String>,
}

/// Judges the signatures beside a template. Anybody can do the same with `ssh-keygen -Y verify -n sealwarden-notice`.
pub fn signed(template: &NoticeTemplate, roster: &Roster, revoked: &RevokedKeys) -> Signed {
    let mut judged = Signed::default();
    let mut approvers = Vec::new();
    for armored in &template.signatures {
        match signer(template, armored, roster, revoked) {
            Ok(approver) => {
                judged.people.push(approver.person.clone());
                approvers.push(approver);
            }
            Err(reason) => judged.wrong.push(reason),
        }
    }
    let roles = APPROVERS.iter().filter_map(|role| Role::new(role).ok());
    let quorum = Quorum::new(roles.map(|role| (role, 1)).collect::<BTreeMap<_, _>>());
    // Somebody changed the file after a person signed it: the others may have signed either.
    judged.complete = judged.wrong.is_empty()
        && quorum.is_ok_and(|quorum| matches!(quorum.assess(&approvers), Assessment::Met(_)));
    judged
}

fn signer(
    template: &NoticeTemplate,
    armored: &str,
    roster: &Roster,
    revoked: &RevokedKeys,
) -> Result<Approver, String> {
    let signature = Signature::parse(armored).map_err(|error| error.to_string())?;
    let fingerprint = signature.fingerprint();
    let Some((person, _)) = roster.by_fingerprint(&fingerprint) else {
        return Err(format!("the key {fingerprint} is nobody's on the roster"));
    };
    if revoked.get(&fingerprint).is_some() {
        return Err(format!(
            "the key {fingerprint} of {}, which signed it, was revoked",
            person.id
        ));
    }
    if signature.namespace() != Namespace::Notice.as_str() {
        return Err(format!(
            "{} signed in the namespace {:?}, and a notice needs {}",
            person.id,
            signature.namespace(),
            Namespace::Notice
        ));
    }
    signature.verify(&template.source).map_err(|_| {
        format!(
            "{} was changed after {} signed it",
            template.file, person.id
        )
    })?;
    Ok(Approver::from(person))
}

/// A template whose threshold the incident meets and that makes no notice.
pub(super) struct Failed {
    /// Its name.
    pub(super) name: String,
    /// SHA-256 (hex) of its file.
    pub(super) digest: String,
    /// Why.
    pub(super) reason: String,
}

impl Failed {
    fn new(template: &NoticeTemplate, reason: String) -> Self {
        Self {
            name: template.name.clone(),
            digest: template.digest.clone(),
            reason,
        }
    }
}

/// The notices whose threshold the incident meets and that are not told yet; with those that make no text, and why. A template that was changed after somebody signed
/// it makes none: nobody is asked to approve in a hurry what somebody slipped in.
pub(super) fn due(situation: &Situation<'_>) -> (Vec<NoticePrepared>, Vec<Failed>) {
    let (mut notices, mut failed) = (Vec::new(), Vec::new());
    let Some(classified) = &situation.incident.classified else {
        return (notices, failed);
    };
    let severity = IncidentSeverity::ALL
        .into_iter()
        .find(|known| known.as_str() == classified.severity);
    let Some(severity) = severity.filter(|_| situation.incident.is_open()) else {
        return (notices, failed);
    };
    for template in situation.plan.notices().values() {
        let key = format!("public: template {}", template.name);
        if !template.is_for(&classified.class, severity)
            || situation.communication.covered.contains(&key)
        {
            continue;
        }
        let signed = signed(template, situation.roster, situation.revoked);
        if let Some(reason) = signed.wrong.first() {
            failed.push(Failed::new(template, reason.clone()));
            continue;
        }
        let text = match template.render(&values(situation)) {
            Ok(text) => text,
            Err(bad) => {
                failed.push(Failed::new(template, bad.to_string()));
                continue;
            }
        };
        notices.push(NoticePrepared {
            audience: Audience::Public.as_str().to_owned(),
            title: template.title.clone(),
            text,
            covers: vec![key],
            page: PageAction::None.into(),
            template: template.name.clone(),
            template_sha256: template.digest.clone(),
            awaits: if signed.complete {
                Vec::new()
            } else {
                APPROVERS.map(str::to_owned).to_vec()
            },
            signed_beforehand: signed.people,
            language: template.language.clone(),
            ..NoticePrepared::default()
        });
    }
    (notices, failed)
}

/// People outside need no fractions.
fn to_the_second(at_ms: i64) -> String {
    time_text(at_ms.saturating_sub(at_ms.rem_euclid(1000)))
}

/// What templates may name.
fn values(situation: &Situation<'_>) -> BTreeMap<String, String> {
    let incident = situation.incident;
    let class = incident.classified.as_ref();
    let name = class.map_or("", |c| c.class.as_str());
    let titled = situation.plan.plan().class(name);
    let since_ms = class.map_or(0, |c| c.compromised_since_ms);
    let since_ms = if since_ms == 0 {
        situation.earliest_ms
    } else {
        since_ms
    };
    let values = [
        ("incident", situation.id.to_owned()),
        ("class", name.to_owned()),
        (
            "class_title",
            titled.map_or("", |c| c.title.as_str()).to_owned(),
        ),
        (
            "severity",
            class.map_or("", |c| c.severity.as_str()).to_owned(),
        ),
        ("stage", incident.stage().map_or("", stage_name).to_owned()),
        ("opened", to_the_second(incident.opened_at_ms)),
        ("since", to_the_second(since_ms)),
        (
            "origin",
            incident
                .opened
                .as_ref()
                .map_or("", |o| o.origin.as_str())
                .to_owned(),
        ),
        ("installation", situation.installation.to_owned()),
    ];
    // What strangers had a hand in adds no line.
    values
        .map(|(name, value)| (name.to_owned(), one_line(&value)))
        .into()
}
