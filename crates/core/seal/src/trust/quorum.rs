//! Which witnesses must have cosigned: a number of all, or a tree of groups as C2SP's tlog-policy has them.

use super::payload::rule;
use super::witness::note_time;
use super::{SignatureTimes, SignatureType, TrustError, WitnessEntry};
use crate::encoding::{decimal, excerpt};
use crate::note::{Note, Vkey};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The quorum's name that asks for no witness.
pub const NO_QUORUM: &str = "none";
/// No quorum has more groups; tlog-policy asks for at least 32.
pub const MAX_GROUPS: usize = 64;
/// No group has more members.
pub const MAX_MEMBERS: usize = 64;

/// Which witnesses must have cosigned.
///
/// In JSON `{"count": 2}`, or `{"name": "main", "groups": [{"name": "main", "threshold": "any", "members": ["w1", "w2"]}]}`
/// with the name of a witness, of a group, or `none`. Whoever wants no witnesses has to say so: `none`, or the count 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "QuorumJson", into = "QuorumJson")]
pub enum Quorum {
    /// So many different ones of the bundle's witnesses; 0 asks for none.
    Count(u32),
    /// A tree of groups.
    Tree(QuorumTree),
}

/// A quorum by name, over groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumTree {
    /// The witness or group that must have witnessed; [`NO_QUORUM`] asks for nobody.
    pub name: String,
    /// The groups, each before whatever names it.
    pub groups: Vec<Group>,
}

/// Witnesses and other groups, some of which must have witnessed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its name; witnesses and groups share one namespace.
    pub name: String,
    /// How many of the members.
    pub threshold: Threshold,
    /// Names of witnesses and of earlier groups. A name is a member of at most one group.
    pub members: Vec<String>,
}

/// How many members of a group must have witnessed: `any`, `all` or a number, as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Threshold {
    /// One of them.
    Any,
    /// Each of them.
    All,
    /// At least so many.
    Members(u32),
}

impl Threshold {
    /// Reads exactly what is displayed.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "any" => Ok(Self::Any),
            "all" => Ok(Self::All),
            _ => decimal(text)
                .and_then(|number| u32::try_from(number).ok())
                .map(Self::Members)
                .ok_or_else(|| {
                    format!(
                        "the threshold {:?} is not any, all or a number without leading zeroes",
                        excerpt(text)
                    )
                }),
        }
    }

    fn of(self, members: usize) -> usize {
        match self {
            Self::Any => 1,
            Self::All => members,
            Self::Members(count) => usize::try_from(count).unwrap_or(usize::MAX),
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => out.write_str("any"),
            Self::All => out.write_str("all"),
            Self::Members(count) => write!(out, "{count}"),
        }
    }
}

impl TryFrom<String> for Threshold {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<Threshold> for String {
    fn from(threshold: Threshold) -> Self {
        threshold.to_string()
    }
}

/// The quorum as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct QuorumJson {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    count: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    groups: Option<Vec<Group>>,
}

impl TryFrom<QuorumJson> for Quorum {
    type Error = &'static str;

    fn try_from(json: QuorumJson) -> Result<Self, Self::Error> {
        match (json.count, json.name, json.groups) {
            (Some(count), None, None) => Ok(Self::Count(count)),
            (None, Some(name), Some(groups)) => Ok(Self::Tree(QuorumTree { name, groups })),
            (None | Some(_), None | Some(_), None | Some(_)) => {
                Err("a quorum has either a count, or a name and groups")
            }
        }
    }
}

impl From<Quorum> for QuorumJson {
    fn from(quorum: Quorum) -> Self {
        match quorum {
            Quorum::Count(count) => Self {
                count: Some(count),
                name: None,
                groups: None,
            },
            Quorum::Tree(tree) => Self {
                count: None,
                name: Some(tree.name),
                groups: Some(tree.groups),
            },
        }
    }
}

impl Quorum {
    /// Have these witnesses met it? `cosigned` holds the names of witnesses whose cosignatures count.
    pub fn is_met(&self, cosigned: &BTreeSet<&str>) -> bool {
        match self {
            Self::Count(count) => {
                usize::try_from(*count).is_ok_and(|count| cosigned.len() >= count)
            }
            Self::Tree(tree) => tree.is_met(cosigned),
        }
    }

    /// Does it ask for no witness at all?
    pub fn is_none(&self) -> bool {
        match self {
            Self::Count(count) => *count == 0,
            Self::Tree(tree) => tree.name == NO_QUORUM,
        }
    }

    /// Checks that it can be met by these witnesses and means one thing only.
    pub(crate) fn validate(&self, witnesses: &BTreeSet<&str>) -> Result<(), TrustError> {
        match self {
            Self::Count(count) => {
                let enough = usize::try_from(*count).is_ok_and(|count| count <= witnesses.len());
                rule(enough, || {
                    format!(
                        "{} witnesses cannot meet a quorum of {count}",
                        witnesses.len()
                    )
                })
            }
            Self::Tree(tree) => tree.validate(witnesses),
        }
    }
}

/// In words, for people: `2 of all`, `all of (2 of w1, w2, w3), w4`, `nobody`.
impl fmt::Display for Quorum {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(0) => out.write_str("nobody"),
            Self::Count(count) => write!(out, "{count} of all witnesses"),
            Self::Tree(tree) if tree.name == NO_QUORUM => out.write_str("nobody"),
            Self::Tree(tree) => out.write_str(&tree.describe()),
        }
    }
}

impl QuorumTree {
    /// Groups come after their members, so one pass over them tells.
    fn is_met(&self, cosigned: &BTreeSet<&str>) -> bool {
        if self.name == NO_QUORUM {
            return true;
        }
        let mut witnessed = cosigned.clone();
        for group in &self.groups {
            let members = group
                .members
                .iter()
                .filter(|member| witnessed.contains(member.as_str()))
                .count();
            if members >= group.threshold.of(group.members.len()) {
                witnessed.insert(&group.name);
            } else {
                // A cosigner that is named like a group is not that group.
                witnessed.remove(group.name.as_str());
            }
        }
        witnessed.contains(self.name.as_str())
    }

    fn validate(&self, witnesses: &BTreeSet<&str>) -> Result<(), TrustError> {
        rule(self.groups.len() <= MAX_GROUPS, || {
            format!("the quorum has more than {MAX_GROUPS} groups")
        })?;
        let mut known = witnesses.clone();
        let mut members = BTreeSet::new();
        for group in &self.groups {
            group.validate(&known, &mut members)?;
            rule(known.insert(&group.name), || {
                format!(
                    "the name {} is given twice among witnesses and groups",
                    group.name
                )
            })?;
        }
        let named = self.name == NO_QUORUM || known.contains(self.name.as_str());
        rule(named && !witnesses.contains(NO_QUORUM), || {
            format!(
                "the quorum {:?} is no witness, no group and not none",
                self.name
            )
        })
    }

    fn describe(&self) -> String {
        let mut texts: BTreeMap<&str, String> = BTreeMap::new();
        for group in &self.groups {
            let members: Vec<_> = group
                .members
                .iter()
                .map(|member| {
                    texts
                        .get(member.as_str())
                        .map_or_else(|| member.clone(), |text| format!("({text})"))
                })
                .collect();
            texts.insert(
                &group.name,
                format!("{} of {}", group.threshold, members.join(", ")),
            );
        }
        texts
            .remove(self.name.as_str())
            .unwrap_or_else(|| self.name.clone())
    }
}

impl Group {
    fn validate<'a>(
        &'a self,
        known: &BTreeSet<&str>,
        members: &mut BTreeSet<&'a str>,
    ) -> Result<(), TrustError> {
        let name = &self.name;
        rule(is_token(name) && name != NO_QUORUM, || {
            format!(
                "{name:?} cannot be a group's name: use 1 to 128 bytes without white space or control characters, and not none"
            )
        })?;
        let count = self.members.len();
        let threshold = self.threshold.of(count);
        rule((1..=MAX_MEMBERS).contains(&count), || {
            format!("the group {name} must have 1 to {MAX_MEMBERS} members")
        })?;
        rule((1..=count).contains(&threshold), || {
            format!("the group {name} wants {threshold} of its {count} members")
        })?;
        for member in &self.members {
            rule(
                known.contains(member.as_str()) && member != NO_QUORUM,
                || {
                    format!(
                        "the group {name} names {member:?}, which is no witness and no earlier group"
                    )
                },
            )?;
            // So that a witness contributes to the quorum in one way only.
            rule(members.insert(member), || {
                format!("{member:?} is a member twice; a name can be a member of one group only")
            })?;
        }
        Ok(())
    }
}

/// Can this stand as one word of a policy's line?
pub(crate) fn is_token(name: &str) -> bool {
    let allowed = |letter: char| !letter.is_whitespace() && !letter.is_control();
    !name.is_empty() && name.len() <= 128 && name.chars().all(allowed)
}

/// The witnesses of a bundle and the quorum over them: what the stage `witnessed` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnessing {
    /// The witnesses.
    pub witnesses: Vec<WitnessEntry>,
    /// Which of them must have cosigned.
    pub quorum: Quorum,
}

impl Witnessing {
    /// All keys of all witnesses.
    pub fn keys(&self) -> Vec<Vkey> {
        self.witnesses
            .iter()
            .flat_map(WitnessEntry::keys)
            .cloned()
            .collect()
    }

    /// The witnesses' names whose cosignatures on the note verify, each of every type that is required of it. A bad one of a known key makes it a bad note, which
    /// nobody cosigned.
    pub fn cosigners(&self, note: &Note) -> BTreeSet<&str> {
        let places: Vec<(usize, Vkey)> = self
            .witnesses
            .iter()
            .enumerate()
            .flat_map(|(place, it)| it.keys().map(move |key| (place, key.clone())))
            .collect();
        let keys: Vec<_> = places.iter().map(|(_, key)| key.clone()).collect();
        let verified = note.verify(&keys).unwrap_or_default();
        let mut signed: BTreeMap<usize, SignatureTimes<u64>> = BTreeMap::new();
        for line in &verified {
            let found = places.get(line.key_index);
            if let Some((place, of)) =
                found.and_then(|(place, key)| Some((*place, SignatureType::of_witness(key)?)))
            {
                note_time(signed.entry(place).or_default(), of, line.time_s);
            }
        }
        signed
            .iter()
            .filter_map(|(place, signed)| {
                let witness = self.witnesses.get(*place)?;
                witness.time_of(signed).map(|_| witness.name.as_str())
            })
            .collect()
    }

    /// Did enough of them cosign the note?
    pub fn is_met_by(&self, note: &Note) -> bool {
        self.quorum.is_met(&self.cosigners(note))
    }
}
