//! Changes of the roster: who must agree to one, who cannot, and what it changes, in words.

use std::collections::{BTreeMap, BTreeSet};

use crate::names::Role;
use crate::quorum::{Approver, Assessment, Quorum, show_counts};
use crate::roster::{ApproverKey, BREAK_GLASS, Person, Roster, Touch};

/// The roles of which one stands in every change of a roster that names no quorum of its own.
const SENIOR: [&str; 2] = ["security-lead", BREAK_GLASS];

impl Roster {
    /// Whether these people may change this roster: the quorum that it names (`changed_by`); without one, two people in different roles, one of them
    /// `security-lead` or `break-glass`. Gives what is missing, in words; `None` if nothing is.
    pub fn assess_change(&self, approvers: &[Approver]) -> Option<String> {
        if let Some(quorum) = self.changed_by() {
            return match quorum.assess(approvers) {
                Assessment::Met(_) => None,
                Assessment::Missing(missing) => Some(show_counts(&missing)),
            };
        }
        let senior = |role: &&Role| SENIOR.contains(&role.as_str());
        let held: BTreeSet<&Role> = approvers.iter().flat_map(|it| &it.roles).collect();
        let pairs = held.iter().filter(|role| senior(role)).flat_map(|first| {
            let others = held.iter().filter(move |other| *other != first);
            others.map(move |other| BTreeMap::from([((*first).clone(), 1), ((*other).clone(), 1)]))
        });
        let met = pairs
            .filter_map(|roles| Quorum::new(roles).ok())
            .any(|quorum| quorum.assess(approvers).is_met());
        if met {
            None
        } else if held.is_empty() {
            Some("1 security-lead or break-glass + 1 of another role".to_owned())
        } else if held.iter().any(senior) {
            Some("1 more person, of another role".to_owned())
        } else {
            Some("1 security-lead or break-glass".to_owned())
        }
    }

    /// Who must agree to a change of this roster, in words.
    pub fn change_rule(&self) -> String {
        match self.changed_by() {
            Some(quorum) => quorum.to_string(),
            None => {
                "two people in different roles, one of them security-lead or break-glass".to_owned()
            }
        }
    }

    /// People who would gain something by another roster, a role or that no touch is asked of them: they cannot approve it.
    pub fn gaining(&self, to: &Self) -> BTreeSet<String> {
        let waived = |person: &Person| person.keys.iter().any(|key| key.touch == Touch::Waived);
        let gains = |after: &&Person| match self.person(&after.id) {
            None => true,
            Some(before) => {
                !before.roles.is_superset(&after.roles) || (waived(after) && !waived(before))
            }
        };
        let gaining = to.people().iter().filter(gains);
        gaining.map(|person| person.id.clone()).collect()
    }

    /// What another roster changes, one sentence each; empty where the digests are the same.
    pub fn differences(&self, to: &Self) -> Vec<String> {
        let mut said = Vec::new();
        for after in to.people() {
            match self.person(&after.id) {
                None => said.push(format!(
                    "{} ({}) is added, with the roles {} and {}",
                    after.id,
                    after.name,
                    listed(after.roles.iter().map(Role::as_str)),
                    keys_in_words(&after.keys)
                )),
                Some(before) => person_differences(before, after, &mut said),
            }
        }
        let gone = self.people().iter();
        let gone = gone.filter(|person| to.person(&person.id).is_none());
        said.extend(gone.map(|person| format!("{} ({}) is taken out", person.id, person.name)));
        if self.changed_by() != to.changed_by() {
            said.push(format!(
                "the next change takes {} (so far: {})",
                to.change_rule(),
                self.change_rule()
            ));
        }
        said
    }
}

fn listed<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.collect();
    if words.is_empty() {
        "none".to_owned()
    } else {
        words.join(", ")
    }
}

fn keys_in_words(keys: &[ApproverKey]) -> String {
    if keys.is_empty() {
        return "no key".to_owned();
    }
    let prints = keys.iter().map(|key| key.fingerprint.as_str());
    format!("the keys {}", listed(prints))
}

fn person_differences(before: &Person, after: &Person, said: &mut Vec<String>) {
    let id = &after.id;
    if before.name != after.name {
        said.push(format!(
            "{id} is called {:?} instead of {:?}",
            after.name, before.name
        ));
    }
    for role in after.roles.difference(&before.roles) {
        said.push(format!("{id} gets the role {role}"));
    }
    for role in before.roles.difference(&after.roles) {
        said.push(format!("{id} loses the role {role}"));
    }
    for key in &after.keys {
        let known = before
            .keys
            .iter()
            .find(|it| it.fingerprint == key.fingerprint);
        match known {
            None => said.push(format!("{id} gets the key {}", key.fingerprint)),
            Some(known) if known.touch != key.touch => said.push(format!(
                "the key {} of {id} {}",
                key.fingerprint,
                if key.touch == Touch::Waived {
                    "needs no touch any more"
                } else {
                    "needs a touch from now on"
                }
            )),
            Some(_) => {}
        }
    }
    for key in &before.keys {
        if after
            .keys
            .iter()
            .all(|it| it.fingerprint != key.fingerprint)
        {
            said.push(format!("{id} loses the key {}", key.fingerprint));
        }
    }
}
