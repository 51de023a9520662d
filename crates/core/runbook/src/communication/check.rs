//! Checks the section against the roster and the rest of the plan.

use super::check_notice;
use super::plan::Audience;
use crate::finding::Finding;
use crate::names::Role;
use crate::plan::{IncidentSeverity, PlanSet};
use crate::read_plan::PLAN_FILE;
use crate::suggest;

/// What forbids to use the plan.
pub(crate) fn errors(set: &PlanSet) -> Vec<Finding> {
    let notices = set.notices.values();
    let mut findings: Vec<Finding> = notices
        .flat_map(|notice| check_notice(notice, &set.plan.classes))
        .collect();
    let Some(communication) = set.plan.communication() else {
        return findings;
    };
    let roles = set.roster.roles();
    let asked = [(&communication.owner, communication.owner_place)].into_iter();
    let contacts = communication.contacts.iter();
    let asked = asked.chain(contacts.map(|role| (role, communication.contacts_place)));
    for (role, place) in asked {
        if !roles.contains(role) {
            let message = format!("`communication` counts on `{role}`, and nobody is");
            let known = roles.iter().map(|role| Role::as_str(role));
            let remedy = suggest::remedy("roles of the roster", role.as_str(), known);
            findings.push(
                Finding::error(PLAN_FILE, place, "role-without-people", message).remedy(remedy),
            );
        }
    }
    if communication.contacts.is_empty() && !communication.acknowledge.is_empty() {
        let message = "`escalation` has times and nobody to turn to".to_owned();
        let remedy = "add roles to `contacts`";
        let place = communication.contacts_place;
        findings
            .push(Finding::error(PLAN_FILE, place, "escalation-to-nobody", message).remedy(remedy));
    }
    findings
}

/// What could be better.
pub(crate) fn warnings(set: &PlanSet) -> Vec<Finding> {
    let Some(communication) = set.plan.communication() else {
        let message = "the plan does not say whom an incident is told to".to_owned();
        let remedy = "add `communication:` with an owner and channels";
        let place = crate::finding::Place::default();
        return vec![
            Finding::warning(PLAN_FILE, place, "no-communication", message).remedy(remedy),
        ];
    };
    let mut findings = Vec::new();
    let mut warn = |code, message: String, remedy: &str| {
        let place = communication.owner_place;
        findings.push(Finding::warning(PLAN_FILE, place, code, message).remedy(remedy));
    };
    if communication
        .channels_of(Audience::Engineers)
        .next()
        .is_none()
    {
        warn(
            "nobody-told",
            "no channel is for engineers: nobody is told of an incident".to_owned(),
            "add a channel with for: [engineers]",
        );
    }
    for (what, times) in [
        ("cadence", &communication.cadence),
        ("escalation.acknowledge", &communication.acknowledge),
    ] {
        let missing = missing(set, times);
        if !missing.is_empty() {
            warn(
                "severity-without-time",
                format!(
                    "`{what}` says nothing of {}, which classes of the plan have",
                    missing.join(", ")
                ),
                "add a line for each",
            );
        }
    }
    findings
}

fn missing(
    set: &PlanSet,
    times: &std::collections::BTreeMap<IncidentSeverity, std::time::Duration>,
) -> Vec<&'static str> {
    let used = |severity: &IncidentSeverity| {
        set.plan
            .classes
            .values()
            .any(|class| class.severity == *severity)
    };
    let all = IncidentSeverity::ALL.into_iter();
    all.filter(|severity| used(severity) && !times.contains_key(severity))
        .map(IncidentSeverity::as_str)
        .collect()
}
