//! Checks the detectors against the rest of the plan.

use super::detector::{BUILT_IN, Detectors};
use super::read::DETECTORS_FILE;
use crate::finding::{Finding, Place};
use crate::plan::PlanSet;
use crate::suggest;

/// What forbids to use the plan: a class that there is not, an owner whom nobody is.
pub(crate) fn errors(set: &PlanSet) -> Vec<Finding> {
    let Some(detectors) = &set.detectors else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    let roles = set.roster.roles();
    for detector in detectors.by_name.values() {
        if !detector.class.is_empty() && set.plan.class(&detector.class).is_none() {
            let message = format!(
                "detector `{}` reports the class `{}`, which the plan does not have",
                detector.name, detector.class
            );
            let names = set.plan.classes.keys().map(String::as_str);
            let remedy = suggest::remedy("classes", &detector.class, names);
            let finding = Finding::error(DETECTORS_FILE, detector.place, "unknown-class", message);
            findings.push(finding.remedy(remedy));
        }
        if !roles.contains(&detector.owner) {
            let message = format!(
                "detector `{}` belongs to `{}`, and nobody of the roster has this role",
                detector.name, detector.owner
            );
            let names = roles.iter().map(|role| role.as_str());
            let remedy = suggest::remedy("roles", detector.owner.as_str(), names);
            let finding = Finding::error(DETECTORS_FILE, detector.place, "no-owner", message);
            findings.push(finding.remedy(remedy));
        }
    }
    for rule in &detectors.outside {
        if set.plan.class(&rule.class).is_none() {
            let message = format!(
                "a rule for outside sources names the class `{}`, which the plan does not have",
                rule.class
            );
            let names = set.plan.classes.keys().map(String::as_str);
            let remedy = suggest::remedy("classes", &rule.class, names);
            let finding = Finding::error(DETECTORS_FILE, rule.place, "unknown-class", message);
            findings.push(finding.remedy(remedy));
        }
    }
    findings
}

/// What could be better: built-in detectors that nobody owns.
pub(crate) fn warnings(set: &PlanSet) -> Vec<Finding> {
    let Some(detectors) = &set.detectors else {
        let message = "the plan has no detectors but the built-in ones".to_owned();
        let finding = Finding::warning(DETECTORS_FILE, Place::default(), "no-detectors", message);
        return vec![finding.remedy("add detectors.yaml; the shipped plan has one to begin with")];
    };
    unowned(detectors)
        .map(|name| {
            let message = format!("nobody owns the built-in detector `{name}`");
            let finding = Finding::warning(
                DETECTORS_FILE,
                Place::default(),
                "detector-unowned",
                message,
            );
            finding.remedy(format!(
                "add `{name}:` with title, owner and `kind: proven`"
            ))
        })
        .collect()
}

fn unowned(detectors: &Detectors) -> impl Iterator<Item = &'static str> {
    let owned = |name: &&str| !detectors.by_name.contains_key(*name);
    BUILT_IN.into_iter().filter(owned)
}
