//! Checks the plan's files against each other.

use std::collections::BTreeSet;

use crate::communication;
use crate::detectors;
use crate::finding::{Finding, Place};
use crate::names::Role;
use crate::obligations::REGIMES_FILE;
use crate::plan::{IncidentSeverity, PlanSet};
use crate::quorum::{Approver, Assessment, Quorum, show_counts};
use crate::read_plan::{PLAN_FILE, ROSTER_FILE};
use crate::roster::{BREAK_GLASS, Person, Touch};
use crate::runbook::Runbook;
use crate::suggest;
use crate::vendors::Vendors;

/// A quorum somewhere in the plan.
struct Asked<'a> {
    file: &'a str,
    place: Place,
    step: Option<&'a str>,
    /// What it is for, in words.
    what: String,
    quorum: &'a Quorum,
}

impl Asked<'_> {
    fn error(&self, code: &'static str, message: String) -> Finding {
        self.locate(Finding::error(self.file, self.place, code, message))
    }

    fn warning(&self, code: &'static str, message: String) -> Finding {
        self.locate(Finding::warning(self.file, self.place, code, message))
    }

    fn locate(&self, finding: Finding) -> Finding {
        match self.step {
            Some(step) => finding.in_step(step),
            None => finding,
        }
    }
}

/// Everything that forbids to use the plan.
pub(crate) fn errors(set: &PlanSet) -> Vec<Finding> {
    let mut findings = Vec::new();
    check_classes(set, &mut findings);
    for asked in quorums(set) {
        if let Assessment::Missing(missing) = asked.quorum.assess_roster(&set.roster, &[]) {
            let message = format!(
                "{}: the roster cannot meet {}; missing: {}",
                asked.what,
                asked.quorum,
                show_counts(&missing)
            );
            let remedy = unmet_remedy(set, missing.keys());
            findings.push(asked.error("quorum-unmet", message).remedy(remedy));
        }
    }
    check_directives(set, &mut findings);
    findings.extend(communication::errors(set));
    findings.extend(set.vendors.iter().flat_map(Vendors::errors));
    findings.extend(detectors::errors(set));
    findings
}

/// What could be better.
pub(crate) fn warnings(set: &PlanSet) -> Vec<Finding> {
    let mut findings: Vec<Finding> = set
        .runbooks
        .values()
        .flat_map(Runbook::warnings)
        .cloned()
        .collect();
    check_unused(set, &mut findings);
    check_roles(set, &mut findings);
    check_keys(set, &mut findings);
    check_regimes(set, &mut findings);
    findings.extend(communication::warnings(set));
    findings.extend(set.vendors.iter().flat_map(Vendors::warnings));
    findings.extend(detectors::warnings(set));
    for asked in quorums(set) {
        let fragile: Vec<&str> = set
            .roster
            .people()
            .iter()
            .map(|person| person.id.as_str())
            .filter(|id| !asked.quorum.assess_roster(&set.roster, &[*id]).is_met())
            .collect();
        if !fragile.is_empty() {
            let message = format!(
                "{}: {} cannot be met while one of these is away or has asked for it: {}",
                asked.what,
                asked.quorum,
                fragile.join(", ")
            );
            let remedy = "give their roles to one more person";
            findings.push(asked.warning("quorum-fragile", message).remedy(remedy));
        }
    }
    findings
}

/// Every quorum of the plan: what nodes demand, and what steps wait for.
fn quorums(set: &PlanSet) -> Vec<Asked<'_>> {
    let demanded = set
        .plan
        .containment
        .iter()
        .map(|(kind, (quorum, place))| Asked {
            file: PLAN_FILE,
            place: *place,
            step: None,
            what: format!("the directive `{kind}`"),
            quorum,
        });
    let steps = set.runbooks.values().flat_map(|runbook| {
        runbook.all_work().filter_map(|step| {
            let approval = step.approval.as_ref()?;
            Some(Asked {
                file: runbook.file(),
                place: approval.place,
                step: Some(&step.id),
                what: "the approval".to_owned(),
                quorum: &approval.quorum,
            })
        })
    });
    demanded.chain(steps).collect()
}

fn unmet_remedy<'a>(set: &PlanSet, missing: impl Iterator<Item = &'a Role>) -> String {
    let roles: Vec<&str> = set.roster.roles().into_iter().map(Role::as_str).collect();
    let mut remedies = Vec::new();
    for role in missing {
        if roles.contains(&role.as_str()) {
            remedies.push(format!(
                "too few people are `{role}` (one person counts once)"
            ));
        } else {
            match suggest::closest(role.as_str(), roles.iter().copied()) {
                Some(near) => remedies.push(format!("nobody is `{role}`; did you mean `{near}`?")),
                None => remedies.push(format!("nobody is `{role}`; add somebody to {ROSTER_FILE}")),
            }
        }
    }
    remedies.join("; ")
}

fn check_classes(set: &PlanSet, findings: &mut Vec<Finding>) {
    for class in set.plan.classes.values() {
        let Some(runbook) = set.runbooks.get(&class.runbook) else {
            let message = format!(
                "class `{}`: there is no runbook `{}`",
                class.name, class.runbook
            );
            let remedy = suggest::remedy(
                "runbooks",
                &class.runbook,
                set.runbooks.keys().map(String::as_str),
            );
            findings.push(
                Finding::error(PLAN_FILE, class.place, "class-without-runbook", message)
                    .remedy(remedy),
            );
            continue;
        };
        if runbook.class() != class.name {
            let message = format!(
                "class `{}`: the runbook `{}` answers `{}`",
                class.name,
                class.runbook,
                runbook.class()
            );
            findings.push(
                Finding::error(PLAN_FILE, class.place, "wrong-class", message)
                    .remedy("name another runbook, or correct the runbook's `class`"),
            );
        }
    }
    for runbook in set.runbooks.values() {
        if set.plan.class(runbook.class()).is_none() {
            let message = format!("the plan has no class `{}`", runbook.class());
            let names = set.plan.classes.keys().map(String::as_str);
            let remedy = suggest::remedy("classes", runbook.class(), names);
            findings.push(
                Finding::error(
                    runbook.file(),
                    runbook.class_place,
                    "unknown-class",
                    message,
                )
                .remedy(remedy),
            );
        }
    }
}

/// A directive that fewer people approved than nodes demand would be refused by every node, at the worst moment.
fn check_directives(set: &PlanSet, findings: &mut Vec<Finding>) {
    for (kind, (quorum, place)) in &set.plan.containment {
        let least = kind.least_people();
        if quorum.people() < least {
            let message = format!(
                "{quorum} may order `{kind}`: one stolen key would be enough; it takes {least} people at least"
            );
            findings.push(
                Finding::error(PLAN_FILE, *place, "lonely-quorum", message)
                    .remedy("add a second role, or ask for two people of this one"),
            );
        }
    }
    for runbook in set.runbooks.values() {
        for step in runbook.all_work() {
            let Some(kind) = step.directive() else {
                continue;
            };
            let Some(demanded) = set.plan.containment(kind) else {
                let message =
                    format!("`containment` says nothing of `{kind}`: nodes would refuse it");
                findings.push(
                    Finding::error(runbook.file(), step.place, "undemanded-directive", message)
                        .in_step(&step.id)
                        .remedy(format!("add `{kind}: {{role: count}}` to {PLAN_FILE}")),
                );
                continue;
            };
            let Some(approval) = &step.approval else {
                continue;
            };
            if !approval.quorum.covers(demanded) {
                let message = format!(
                    "{} approve it, and nodes demand {demanded} for `{kind}`: they would refuse",
                    approval.quorum
                );
                findings.push(
                    Finding::error(runbook.file(), approval.place, "weak-quorum", message)
                        .in_step(&step.id)
                        .remedy(format!("ask for at least {demanded}")),
                );
            }
        }
    }
}

fn check_unused(set: &PlanSet, findings: &mut Vec<Finding>) {
    let used: BTreeSet<&str> = set
        .plan
        .classes
        .values()
        .map(|c| c.runbook.as_str())
        .collect();
    for runbook in set
        .runbooks
        .values()
        .filter(|runbook| !used.contains(runbook.name()))
    {
        let message = format!("no class names the runbook `{}`", runbook.name());
        findings.push(
            Finding::warning(
                runbook.file(),
                runbook.class_place,
                "unused-runbook",
                message,
            )
            .remedy(format!("name it in a class of {PLAN_FILE}, or remove it")),
        );
    }
}

/// Whether the duties to notify fit the plan: classes that exist, and for each class somebody who thought of it.
fn check_regimes(set: &PlanSet, findings: &mut Vec<Finding>) {
    let Some(regimes) = &set.regimes else {
        let message = "the plan has no duties to notify".to_owned();
        findings.push(
            Finding::warning(REGIMES_FILE, Place::default(), "no-regimes", message)
                .remedy("add regimes.yaml; whether nobody must be told is for a lawyer to say"),
        );
        return;
    };
    for regime in regimes.regimes().values() {
        for class in &regime.trigger.classes {
            if set.plan.class(class).is_none() {
                let message = format!(
                    "regime `{}` concerns the class `{class}`, which the plan does not have",
                    regime.name
                );
                let names = set.plan.classes.keys().map(String::as_str);
                findings.push(
                    Finding::warning(REGIMES_FILE, regime.place, "regime-without-class", message)
                        .remedy(suggest::remedy("classes", class, names)),
                );
            }
        }
    }
    // Nobody outside need hear of routine.
    let serious = set.plan.classes.values();
    let serious = serious.filter(|class| class.severity != IncidentSeverity::Low);
    for class in serious {
        if regimes
            .concerned(&class.name, class.severity)
            .next()
            .is_none()
        {
            let message = format!("no regime concerns the class `{}`", class.name);
            findings.push(
                Finding::warning(PLAN_FILE, class.place, "class-without-regime", message)
                    .remedy("let legal counsel look at regimes.yaml"),
            );
        }
    }
}

fn check_roles(set: &PlanSet, findings: &mut Vec<Finding>) {
    let held = set.roster.roles();
    for known in Role::KNOWN {
        if !held.iter().any(|role| role.as_str() == known) {
            let message = format!("nobody is `{known}`");
            findings.push(
                Finding::warning(ROSTER_FILE, Place::default(), "role-vacant", message)
                    .remedy("give the role to somebody"),
            );
        }
    }
    for person in set
        .roster
        .people()
        .iter()
        .filter(|person| person.roles.is_empty())
    {
        let message = format!("`{}` has no role and cannot approve anything", person.id);
        findings.push(
            Finding::warning(
                ROSTER_FILE,
                person_place(set, &person.id),
                "person-without-roles",
                message,
            )
            .remedy("give them a role, or remove them"),
        );
    }
}

fn check_keys(set: &PlanSet, findings: &mut Vec<Finding>) {
    let people = set.roster.people();
    let signing: Vec<Approver> = people
        .iter()
        .filter(|person| !person.keys.is_empty())
        .map(Approver::from)
        .collect();
    if signing.is_empty() {
        let message = "nobody has a key, so nobody can approve".to_owned();
        findings.push(
            Finding::warning(
                ROSTER_FILE,
                Place::default(),
                "roster-without-keys",
                message,
            )
            .remedy("put real public keys here; `up` and drills make trial keys of their own"),
        );
        return;
    }
    for person in people.iter().filter(|person| person.keys.is_empty()) {
        let message = format!("`{}` has no key and cannot approve", person.id);
        findings.push(
            Finding::warning(
                ROSTER_FILE,
                person_place(set, &person.id),
                "person-without-keys",
                message,
            )
            .remedy("add the line of their `.pub` file to `keys`"),
        );
    }
    check_break_glass(set, findings);
    check_change(set, &signing, findings);
    for asked in quorums(set) {
        if let Assessment::Missing(missing) = asked.quorum.assess(&signing) {
            let message = format!(
                "{}: those who have keys cannot meet {}; missing: {}",
                asked.what,
                asked.quorum,
                show_counts(&missing)
            );
            findings.push(
                asked
                    .warning("quorum-needs-keys", message)
                    .remedy("add keys to the roster"),
            );
        }
    }
}

/// A roster that nobody can change stays for ever: it is changed by signatures of its own people only.
fn check_change(set: &PlanSet, signing: &[Approver], findings: &mut Vec<Finding>) {
    let rule = set.roster.change_rule();
    let warn = |code, message: String, remedy: &str| {
        Finding::warning(ROSTER_FILE, Place::default(), code, message).remedy(remedy)
    };
    if let Some(missing) = set.roster.assess_change(signing) {
        let message = format!(
            "those who have keys cannot change this roster; it takes {rule}; missing: {missing}"
        );
        findings.push(warn(
            "roster-cannot-change",
            message,
            "add keys or people before the first start: later nobody can",
        ));
        return;
    }
    let fragile: Vec<&str> = signing
        .iter()
        .map(|away| away.person.as_str())
        .filter(|away| {
            let others: Vec<Approver> = signing
                .iter()
                .filter(|it| it.person != *away)
                .cloned()
                .collect();
            set.roster.assess_change(&others).is_some()
        })
        .collect();
    if !fragile.is_empty() {
        let message = format!(
            "nobody can change this roster while one of these is away or has asked for it: {}; it takes {rule}",
            fragile.join(", ")
        );
        findings.push(warn(
            "roster-change-fragile",
            message,
            "give their roles to one more person",
        ));
    }
}

/// Who could break the glass for what cannot be taken back: that takes two people with a touch.
fn check_break_glass(set: &PlanSet, findings: &mut Vec<Finding>) {
    let may = |person: &&Person| person.roles.iter().any(|role| role.as_str() == BREAK_GLASS);
    let people = || set.roster.people().iter().filter(may);
    let waived = |person: &&Person| person.keys.iter().any(|key| key.touch == Touch::Waived);
    for person in people().filter(waived) {
        let message = format!(
            "whoever copies the key file of `{}` can break the glass: the roster waives the touch",
            person.id
        );
        findings.push(
            Finding::warning(
                ROSTER_FILE,
                person_place(set, &person.id),
                "touch-waived",
                message,
            )
            .remedy("good for trying; else name a FIDO key (`ssh-keygen -t ed25519-sk`)"),
        );
    }
    let able = people().filter(|person| {
        let mut keys = person.keys.iter();
        keys.any(|key| key.touch != Touch::Unproven)
    });
    if able.count() < 2 {
        let message = "fewer than two people could order with a touch what cannot be taken back, without its quorum".to_owned();
        findings.push(
            Finding::warning(
                ROSTER_FILE,
                Place::default(),
                "break-glass-out-of-reach",
                message,
            )
            .remedy(format!(
                "give two people of the role `{BREAK_GLASS}` FIDO keys (`ssh-keygen -t ed25519-sk`)"
            )),
        );
    }
}

fn person_place(set: &PlanSet, id: &str) -> Place {
    set.people_at.get(id).copied().unwrap_or_default()
}
