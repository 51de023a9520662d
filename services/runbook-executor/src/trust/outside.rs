//! Who is believed from outside: other operators' witnesses by a tlog-policy, and time-stamping authorities, as the settings name them.

use anyhow::{Context as _, ensure};
use sealwarden_anchors::roots::{Roots, strict_pem};
use sealwarden_seal::policy::Policy;
use sealwarden_seal::trust::{
    Group, NO_QUORUM, Payload, Quorum, QuorumTree, SignatureType, Threshold, Tsa, WitnessEntry,
};
use std::collections::BTreeSet;
use std::path::Path;

use crate::config::Config;

/// Largest policy or file of certificates that is read, bytes.
const MAX_BYTES: u64 = 1 << 20;
/// Names of the groups that join the installation's own witnesses with the policy's quorum. No operator writes a slash into a name.
const OWN: &str = "own/witnesses";
const BOTH: &str = "own/witnesses-and-policy";

/// A policy counts one own witness more than once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the witness policy names two keys of the own witness {witness}, {names}, and a witness counts once however many keys it has: {problem}; name both in one group, as in `group {witness} any {members}` (or all), and that group elsewhere"
)]
pub(crate) struct CountsOnce {
    witness: String,
    names: String,
    members: String,
    problem: String,
}

/// Who is believed from outside.
#[derive(Clone, Debug, Default)]
pub(super) struct Outside {
    /// The policy's witnesses and quorum; none where no policy is set.
    policy: Option<(Vec<WitnessEntry>, QuorumTree)>,
    /// The authorities whose time counts, as the bundle names them.
    pub(super) tsas: Vec<Tsa>,
    /// The same, to verify with.
    pub(super) roots: Vec<Roots>,
}

impl Outside {
    /// Reads the files that the settings name. Blocks its thread.
    pub(super) fn read(config: &Config) -> anyhow::Result<Self> {
        let policy = config
            .witness_policy
            .as_deref()
            .map(|path| read_policy(path, config))
            .transpose()?;
        let (mut tsas, mut roots) = (Vec::new(), Vec::new());
        for tsa in &config.tsas {
            let pem = read_file(&tsa.roots)?;
            let wrong = || format!("the roots of {} in {}", tsa.name, tsa.roots.display());
            roots.push(Roots::from_pem(&pem).with_context(wrong)?);
            tsas.push(Tsa {
                name: tsa.name.clone(),
                roots: strict_pem(&pem).with_context(wrong)?,
            });
        }
        Ok(Self {
            policy,
            tsas,
            roots,
        })
    }

    /// The witnesses of the next bundle, from the installation's own and those of the bundle before: where a policy is set, it alone names the outside ones.
    pub(super) fn witnesses(&self, known: Vec<WitnessEntry>) -> Vec<WitnessEntry> {
        let Some((listed, tree)) = &self.policy else {
            return known;
        };
        let own = known.into_iter().filter(|it| it.local).map(|mut own| {
            // An own witness that the policy lists goes by the policy's name: the first one, where the policy lists several keys of it.
            let names = names_of(listed, &own);
            if let Some(first) = names.first() {
                (*first).clone_into(&mut own.name);
            }
            if asks_for_all(tree, &names) {
                own.required = types_of(&own);
            }
            own
        });
        let own: Vec<_> = own.collect();
        let keys = own.iter().flat_map(WitnessEntry::keys);
        let keys: BTreeSet<String> = keys.map(ToString::to_string).collect();
        let outside = listed
            .iter()
            .filter(|it| !keys.contains(&it.vkey.to_string()))
            .cloned();
        let mut all: Vec<_> = own.iter().cloned().chain(outside).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// What the bundle asks for: all own witnesses that no group of the policy names, and the policy's quorum.
    pub(super) fn quorum(&self, witnesses: &[WitnessEntry]) -> Result<Quorum, CountsOnce> {
        let local = witnesses.iter().filter(|it| it.local);
        let Some((listed, tree)) = &self.policy else {
            let count = u32::try_from(local.count()).unwrap_or(u32::MAX);
            return Ok(Quorum::Count(count));
        };
        let mut tree = tree.clone();
        for own in local.clone() {
            tree = counted_once(tree, own, &names_of(listed, own))?;
        }
        let members = tree.groups.iter().flat_map(|group| &group.members);
        let named: BTreeSet<&str> = members
            .map(String::as_str)
            .chain([tree.name.as_str()])
            .collect();
        let own: Vec<String> = local
            .map(|it| it.name.clone())
            .filter(|name| !named.contains(name.as_str()))
            .collect();
        if own.is_empty() {
            return Ok(Quorum::Tree(tree));
        }
        let group = |name: &str, members: Vec<String>| Group {
            name: name.to_owned(),
            threshold: Threshold::All,
            members,
        };
        let mut groups = tree.groups.clone();
        groups.push(group(OWN, own));
        let mut name = OWN;
        if tree.name != NO_QUORUM {
            groups.push(group(BOTH, vec![OWN.to_owned(), tree.name.clone()]));
            name = BOTH;
        }
        Ok(Quorum::Tree(QuorumTree {
            name: name.to_owned(),
            groups,
        }))
    }

    /// Whether a bundle says what the settings say. A bundle made by hand without such settings stays as it is.
    pub(super) fn is_in(&self, payload: &Payload) -> bool {
        let tsas = self.tsas == payload.tsas;
        let Some((listed, _)) = &self.policy else {
            return tsas;
        };
        let known: BTreeSet<String> = payload
            .witnesses
            .iter()
            .map(|it| format!("{} {} {:?}", it.vkey, it.operator, it.url))
            .collect();
        let own: BTreeSet<String> = payload
            .witnesses
            .iter()
            .filter(|it| it.local)
            .flat_map(WitnessEntry::keys)
            .map(ToString::to_string)
            .collect();
        let all = listed.iter().all(|it| {
            own.contains(&it.vkey.to_string())
                || known.contains(&format!("{} {} {:?}", it.vkey, it.operator, it.url))
        });
        let outside = payload.witnesses.iter().filter(|it| !it.local);
        let mut outside = outside.map(|it| it.vkey.to_string());
        let none_other = outside.all(|vkey| listed.iter().any(|it| it.vkey.to_string() == vkey));
        let quorum = self.quorum(&payload.witnesses);
        tsas && all && none_other && quorum.is_ok_and(|it| it == payload.quorum)
    }
}

/// What the policy calls the keys of a witness.
fn names_of<'a>(listed: &'a [WitnessEntry], own: &WitnessEntry) -> Vec<&'a str> {
    let listed = listed.iter();
    listed
        .filter(|it| own.keys().any(|key| *key == it.vkey))
        .map(|it| it.name.as_str())
        .collect()
}

/// Whether a group wants the cosignatures of all these keys, which are one witness's.
fn asks_for_all(tree: &QuorumTree, names: &[&str]) -> bool {
    let holds_all = |group: &Group| {
        names
            .iter()
            .all(|name| group.members.iter().any(|it| it == name))
    };
    names.len() > 1
        && tree
            .groups
            .iter()
            .any(|group| group.threshold == Threshold::All && holds_all(group))
}

fn types_of(own: &WitnessEntry) -> Vec<SignatureType> {
    let types: BTreeSet<_> = own.keys().filter_map(SignatureType::of_witness).collect();
    types.into_iter().collect()
}

/// The quorum with one name for a witness of which the policy lists several keys.
fn counted_once(
    tree: QuorumTree,
    own: &WitnessEntry,
    names: &[&str],
) -> Result<QuorumTree, CountsOnce> {
    if names.len() < 2 {
        return Ok(tree);
    }
    let refused = |problem: String| CountsOnce {
        witness: own.vkey.name().to_owned(),
        names: names.join(" and "),
        members: names.join(" "),
        problem,
    };
    let one = |name: &str| {
        let name = if names.contains(&name) {
            &own.name
        } else {
            name
        };
        name.to_owned()
    };
    let mut groups = Vec::new();
    let mut place: Option<String> = None;
    for group in tree.groups {
        let mut members: Vec<String> = Vec::new();
        for member in group.members.iter().map(|it| one(it)) {
            if !members.contains(&member) {
                members.push(member);
            }
        }
        if let Threshold::Members(count) = group.threshold
            && usize::try_from(count).is_ok_and(|count| count > members.len())
        {
            return Err(refused(format!(
                "the group {} wants {count} of its members, which are {} then",
                group.name,
                members.len()
            )));
        }
        if members.contains(&own.name)
            && let Some(before) = place.replace(group.name.clone())
        {
            return Err(refused(format!(
                "they stand in the groups {before} and {}",
                group.name
            )));
        }
        groups.push(Group { members, ..group });
    }
    let name = one(&tree.name);
    Ok(QuorumTree { name, groups })
}

fn read_policy(path: &Path, config: &Config) -> anyhow::Result<(Vec<WitnessEntry>, QuorumTree)> {
    let bytes = read_file(path)?;
    let policy =
        Policy::parse(&bytes).with_context(|| format!("{} is no tlog-policy", path.display()))?;
    let operator = |name: &str| {
        let named = config.witness_operators.get(name);
        named.map_or(name, String::as_str).to_owned()
    };
    let witnesses = policy.witnesses.iter().map(|it| WitnessEntry {
        url: it.url.clone(),
        ..WitnessEntry::new(&it.name, it.vkey.clone(), &operator(&it.name), false)
    });
    Ok((witnesses.collect(), policy.quorum))
}

fn read_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    let reading = || format!("reading {}", path.display());
    let size = std::fs::metadata(path).with_context(reading)?.len();
    ensure!(
        size <= MAX_BYTES,
        "{} has {size} bytes; at most {MAX_BYTES} are read",
        path.display()
    );
    std::fs::read(path).with_context(reading)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealwarden_seal::note::Vkey;

    fn witness(name: &str, key: u8, local: bool) -> WitnessEntry {
        let vkey = Vkey::cosignature_v1(name, [key; 32]).unwrap();
        WitnessEntry::new(name, vkey, "somebody", local)
    }

    fn outside(text: &str) -> Outside {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy");
        std::fs::write(&path, text).unwrap();
        let config = Config {
            witness_policy: Some(path),
            witness_operators: [("w1".to_owned(), "Example GmbH".to_owned())].into(),
            ..Config::default()
        };
        Outside::read(&config).unwrap()
    }

    #[test]
    fn a_policy_names_the_outside_witnesses_and_own_ones_are_asked_for_beside_it() {
        let (one, two) = (witness("w1", 1, false), witness("w2", 2, false));
        let outside = outside(&format!(
            "witness w1 {} https://w1.example/prefix\nwitness w2 {}\ngroup g any w1 w2\nquorum g\n",
            one.vkey, two.vkey
        ));
        let own = witness("own", 9, true);
        let stranger = witness("gone", 7, false);
        let all = outside.witnesses(vec![own.clone(), stranger]);
        let names: Vec<_> = all.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["own", "w1", "w2"]);
        let first = all.iter().find(|it| it.name == "w1").unwrap();
        assert_eq!(first.operator, "Example GmbH");
        assert_eq!(first.url.as_deref(), Some("https://w1.example/prefix"));
        let quorum = outside.quorum(&all).unwrap();
        assert!(!quorum.is_met(&["own"].into()));
        assert!(!quorum.is_met(&["w1", "w2"].into()));
        assert!(quorum.is_met(&["own", "w2"].into()));
    }

    #[test]
    fn an_own_witness_that_the_policy_lists_counts_as_the_policy_says() {
        let own = witness("own", 9, true);
        let one = witness("w1", 1, false);
        let outside = outside(&format!(
            "witness w1 {}\nwitness here {}\ngroup g any w1 here\nquorum g\n",
            one.vkey, own.vkey
        ));
        let all = outside.witnesses(vec![own]);
        assert!(all.iter().any(|it| it.name == "here" && it.local));
        assert_eq!(all.len(), 2);
        assert!(outside.quorum(&all).unwrap().is_met(&["w1"].into()));
    }

    /// An own witness with a key of each type, and its keys' lines under these names.
    fn with_two_keys() -> (WitnessEntry, String) {
        let mut own = witness("own", 9, true);
        own.other_vkeys = vec![Vkey::ml_dsa_44("own", [8; 1312]).unwrap()];
        let lines = format!(
            "witness here {}\nwitness here-pq {}\nwitness w1 {}\n",
            own.vkey,
            own.other_vkeys[0],
            witness("w1", 1, false).vkey
        );
        (own, lines)
    }

    #[test]
    fn an_own_witness_with_two_keys_counts_once() {
        let (own, lines) = with_two_keys();
        for (groups, met, not_met) in [
            (
                "group g 2 here here-pq w1\nquorum g\n",
                vec!["here", "w1"],
                vec!["here"],
            ),
            (
                "group h any here here-pq\ngroup g all h w1\nquorum g\n",
                vec!["here", "w1"],
                vec!["w1"],
            ),
            (
                "group g any w1 here-pq\nquorum g\n",
                vec!["here"],
                vec!["own"],
            ),
            ("quorum here-pq\n", vec!["here"], vec!["w1"]),
        ] {
            let outside = outside(&format!("{lines}{groups}"));
            let all = outside.witnesses(vec![own.clone()]);
            let names: Vec<_> = all.iter().map(|it| it.name.as_str()).collect();
            assert_eq!(names, ["here", "w1"], "{groups}");
            assert!(all[0].required.is_empty(), "{groups}");
            let quorum = outside.quorum(&all).unwrap();
            assert!(quorum.is_met(&met.into_iter().collect()), "{groups}");
            assert!(!quorum.is_met(&not_met.into_iter().collect()), "{groups}");
        }
    }

    #[test]
    fn a_group_of_all_keys_of_an_own_witness_requires_all_its_types() {
        let (own, lines) = with_two_keys();
        let outside = outside(&format!("{lines}group g all here here-pq\nquorum g\n"));
        let all = outside.witnesses(vec![own]);
        let types = [SignatureType::Ed25519, SignatureType::MlDsa44];
        assert_eq!(all[0].required, types);
        assert!(outside.quorum(&all).unwrap().is_met(&["here"].into()));
    }

    #[test]
    fn a_policy_that_counts_an_own_witness_twice_is_refused_with_what_to_write() {
        let (own, lines) = with_two_keys();
        for (groups, problem) in [
            (
                "group g 2 here here-pq\nquorum g\n",
                "the group g wants 2 of its members, which are 1 then",
            ),
            (
                "group g any here w1\ngroup h all g here-pq\nquorum h\n",
                "they stand in the groups g and h",
            ),
        ] {
            let outside = outside(&format!("{lines}{groups}"));
            let error = outside
                .quorum(&outside.witnesses(vec![own.clone()]))
                .unwrap_err();
            let text = error.to_string();
            assert!(text.contains(problem), "{text}");
            assert!(
                text.contains("two keys of the own witness own, here and here-pq"),
                "{text}"
            );
            assert!(text.contains("`group own any here here-pq`"), "{text}");
        }
    }

    #[test]
    fn without_a_policy_all_own_witnesses_are_asked_for() {
        let outside = Outside::default();
        let own = vec![witness("a", 1, true), witness("b", 2, true)];
        assert_eq!(outside.quorum(&own), Ok(Quorum::Count(2)));
        assert_eq!(outside.witnesses(own.clone()), own);
    }
}
