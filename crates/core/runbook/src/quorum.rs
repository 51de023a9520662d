//! Quorums: how many people of which roles must agree.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::names::Role;
use crate::roster::{Person, Roster};

/// The most people that one role of a quorum may ask for.
pub const MAX_PER_ROLE: u32 = 16;

/// The most roles that a quorum may name.
pub const MAX_ROLES: usize = 16;

/// An AND over roles: so many people of each. One person counts once, however many of the roles they have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorum(BTreeMap<Role, u32>);

/// A quorum that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadQuorum {
    /// No role at all: everybody's approval would do, so nobody's would be needed.
    #[error("a quorum names at least one role")]
    Empty,
    /// More roles than a quorum may name.
    #[error("{0} roles are named; a quorum names at most {MAX_ROLES}")]
    TooManyRoles(usize),
    /// Zero, or more people than a quorum may ask for.
    #[error("{role} asks for {count} people; a quorum asks for 1 to {MAX_PER_ROLE} of a role")]
    Count {
        /// The role.
        role: Role,
        /// What it asks for.
        count: u32,
    },
}

/// Somebody who approved, or could.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approver {
    /// The person's id. The same person may stand several times and counts once.
    pub person: String,
    /// The roles that they have.
    pub roles: BTreeSet<Role>,
}

impl From<&Person> for Approver {
    fn from(person: &Person) -> Self {
        Self {
            person: person.id.clone(),
            roles: person.roles.clone(),
        }
    }
}

/// What a quorum says of a group of people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assessment {
    /// They suffice; who stands for which role.
    Met(BTreeMap<Role, Vec<String>>),
    /// So many people are still missing for these roles, when everybody stands where they help most.
    Missing(BTreeMap<Role, u32>),
}

impl Assessment {
    /// Whether they suffice.
    pub fn is_met(&self) -> bool {
        matches!(self, Self::Met(_))
    }
}

impl Quorum {
    /// Checks the counts.
    pub fn new(roles: BTreeMap<Role, u32>) -> Result<Self, BadQuorum> {
        if roles.is_empty() {
            return Err(BadQuorum::Empty);
        }
        if roles.len() > MAX_ROLES {
            return Err(BadQuorum::TooManyRoles(roles.len()));
        }
        match roles
            .iter()
            .find(|(_, count)| !(1..=MAX_PER_ROLE).contains(*count))
        {
            Some((role, count)) => Err(BadQuorum::Count {
                role: role.clone(),
                count: *count,
            }),
            None => Ok(Self(roles)),
        }
    }

    /// The roles and how many people each asks for.
    pub fn roles(&self) -> &BTreeMap<Role, u32> {
        &self.0
    }

    /// How many people it asks for altogether.
    pub fn people(&self) -> u32 {
        self.0.values().sum()
    }

    /// Whether every group of people that meets this quorum meets `other` too, whoever they are: this one
    /// asks for at least as many of each of the other's roles.
    pub fn covers(&self, other: &Self) -> bool {
        other
            .0
            .iter()
            .all(|(role, count)| self.0.get(role).is_some_and(|mine| mine >= count))
    }

    /// Whether these people meet the quorum. Finds the largest assignment of people to places (a maximum
    /// bipartite matching by augmenting paths), so the order of the people decides nothing.
    pub fn assess(&self, approvers: &[Approver]) -> Assessment {
        let mut people: BTreeMap<&str, BTreeSet<&Role>> = BTreeMap::new();
        for approver in approvers {
            people
                .entry(&approver.person)
                .or_default()
                .extend(&approver.roles);
        }
        let seats: Vec<&Role> = self
            .0
            .iter()
            .flat_map(|(role, count)| (0..*count).map(move |_| role))
            .collect();
        let mut matching = Matching {
            people: &people,
            seats: &seats,
            holder: BTreeMap::new(),
        };
        for person in people.keys() {
            matching.seat(person, &mut BTreeSet::new());
        }
        let mut missing: BTreeMap<Role, u32> = BTreeMap::new();
        let mut met: BTreeMap<Role, Vec<String>> = BTreeMap::new();
        for (seat, role) in seats.iter().enumerate() {
            match matching.holder.get(&seat) {
                Some(person) => {
                    met.entry((*role).clone())
                        .or_default()
                        .push((*person).to_owned());
                }
                None => *missing.entry((*role).clone()).or_default() += 1,
            }
        }
        if missing.is_empty() {
            Assessment::Met(met)
        } else {
            Assessment::Missing(missing)
        }
    }

    /// Whether the people of a roster can meet it without those excluded (by id): the requester, somebody away.
    pub fn assess_roster(&self, roster: &Roster, excluded: &[&str]) -> Assessment {
        let approvers: Vec<Approver> = roster
            .people()
            .iter()
            .filter(|person| !excluded.contains(&person.id.as_str()))
            .map(Approver::from)
            .collect();
        self.assess(&approvers)
    }
}

/// `1 on-call-sre + 1 security-lead`.
impl fmt::Display for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show_counts(&self.0))
    }
}

/// `1 on-call-sre + 1 security-lead`, for quorums and for what is missing from them.
pub fn show_counts(counts: &BTreeMap<Role, u32>) -> String {
    let parts: Vec<String> = counts
        .iter()
        .map(|(role, count)| format!("{count} {role}"))
        .collect();
    parts.join(" + ")
}

struct Matching<'a> {
    people: &'a BTreeMap<&'a str, BTreeSet<&'a Role>>,
    seats: &'a [&'a Role],
    /// Who holds which seat.
    holder: BTreeMap<usize, &'a str>,
}

impl<'a> Matching<'a> {
    /// Gives the person a seat, moving others where that frees one. Each seat is tried once a person, so the
    /// depth is bounded by the number of seats.
    fn seat(&mut self, person: &'a str, tried: &mut BTreeSet<usize>) -> bool {
        let Some(roles) = self.people.get(person) else {
            return false;
        };
        for (seat, role) in self.seats.iter().enumerate() {
            if !roles.contains(role) || !tried.insert(seat) {
                continue;
            }
            let free = match self.holder.get(&seat).copied() {
                None => true,
                Some(other) => self.seat(other, tried),
            };
            if free {
                self.holder.insert(seat, person);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quorum(roles: &[(&str, u32)]) -> Quorum {
        Quorum::new(
            roles
                .iter()
                .map(|(r, n)| (Role::new(r).unwrap(), *n))
                .collect(),
        )
        .unwrap()
    }

    fn who(person: &str, roles: &[&str]) -> Approver {
        Approver {
            person: person.to_owned(),
            roles: roles.iter().map(|r| Role::new(r).unwrap()).collect(),
        }
    }

    fn missing(roles: &[(&str, u32)]) -> Assessment {
        Assessment::Missing(
            roles
                .iter()
                .map(|(r, n)| (Role::new(r).unwrap(), *n))
                .collect(),
        )
    }

    #[test]
    fn every_role_is_needed() {
        let quorum = quorum(&[("sre", 1), ("security", 1)]);
        assert!(
            quorum
                .assess(&[who("a", &["sre"]), who("b", &["security"])])
                .is_met()
        );
        assert_eq!(
            quorum.assess(&[who("a", &["sre"])]),
            missing(&[("security", 1)])
        );
        assert_eq!(quorum.assess(&[]), missing(&[("security", 1), ("sre", 1)]));
    }

    #[test]
    fn one_person_counts_once() {
        let quorum = quorum(&[("sre", 1), ("security", 1)]);
        let both = who("a", &["sre", "security"]);
        assert!(!quorum.assess(std::slice::from_ref(&both)).is_met());
        assert!(!quorum.assess(&[both.clone(), both.clone()]).is_met());
        assert!(quorum.assess(&[both, who("b", &["sre"])]).is_met());
    }

    #[test]
    fn people_with_several_roles_stand_where_they_help_most() {
        let quorum = quorum(&[("a", 1), ("b", 1), ("c", 1)]);
        let people = [
            who("1", &["a", "b", "c"]),
            who("2", &["a", "b"]),
            who("3", &["a"]),
        ];
        let Assessment::Met(seats) = quorum.assess(&people) else {
            panic!("not met")
        };
        assert_eq!(seats[&Role::new("c").unwrap()], ["1"]);
        assert_eq!(seats[&Role::new("b").unwrap()], ["2"]);
        let mut reversed = people.to_vec();
        reversed.reverse();
        assert!(quorum.assess(&reversed).is_met());
    }

    #[test]
    fn several_of_one_role() {
        let quorum = quorum(&[("break-glass", 2)]);
        assert_eq!(
            quorum.assess(&[who("a", &["break-glass"])]),
            missing(&[("break-glass", 1)])
        );
        assert!(
            quorum
                .assess(&[who("a", &["break-glass"]), who("b", &["break-glass"])])
                .is_met()
        );
        assert_eq!(quorum.people(), 2);
    }

    #[test]
    fn covering_compares_each_role() {
        let strong = quorum(&[("a", 2), ("b", 1)]);
        assert!(strong.covers(&quorum(&[("a", 1)])) && strong.covers(&strong));
        assert!(!strong.covers(&quorum(&[("b", 2)])) && !strong.covers(&quorum(&[("c", 1)])));
    }

    #[test]
    fn a_quorum_of_nobody_is_none() {
        assert_eq!(Quorum::new(BTreeMap::new()), Err(BadQuorum::Empty));
        let role = Role::new("a").unwrap();
        assert!(Quorum::new(BTreeMap::from([(role.clone(), 0)])).is_err());
        assert!(Quorum::new(BTreeMap::from([(role, u32::MAX)])).is_err());
    }

    proptest::proptest! {
        /// The matching agrees with trying every order of people greedily.
        #[test]
        fn assess_agrees_with_brute_force(
            people in proptest::collection::vec(proptest::collection::btree_set(0_usize..3, 0..3), 0..5),
            counts in proptest::collection::vec(0_u32..3, 3),
        ) {
            let names = ["x", "y", "z"];
            let roles: BTreeMap<Role, u32> = names.iter().zip(&counts)
                .filter(|(_, n)| **n > 0).map(|(r, n)| (Role::new(r).unwrap(), *n)).collect();
            proptest::prop_assume!(!roles.is_empty());
            let approvers: Vec<Approver> = people.iter().enumerate().map(|(i, set)| {
                who(&format!("p{i}"), &set.iter().map(|r| names[*r]).collect::<Vec<_>>())
            }).collect();
            let met = Quorum::new(roles).unwrap().assess(&approvers).is_met();
            proptest::prop_assert_eq!(met, possible(&people, &mut counts.clone(), 0));
        }
    }

    fn possible(people: &[BTreeSet<usize>], left: &mut Vec<u32>, from: usize) -> bool {
        if left.iter().all(|n| *n == 0) {
            return true;
        }
        let Some(person) = people.get(from) else {
            return false;
        };
        for role in person {
            if left[*role] > 0 {
                left[*role] -= 1;
                if possible(people, left, from + 1) {
                    return true;
                }
                left[*role] += 1;
            }
        }
        possible(people, left, from + 1)
    }
}
