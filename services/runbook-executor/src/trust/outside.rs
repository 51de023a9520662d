//! Who is believed from outside: other operators' witnesses by a tlog-policy, and time-stamping authorities, as the settings name them.

use anyhow::{Context as _, ensure};
use sealwarden_anchors::roots::{Roots, strict_pem};
use sealwarden_seal::policy::Policy;
use sealwarden_seal::trust::{
    Group, NO_QUORUM, Payload, Quorum, QuorumTree, Threshold, Tsa, WitnessEntry,
};
use std::collections::BTreeSet;
use std::path::Path;

use crate::config::Config;

/// Largest policy or file of certificates that is read, bytes.
const MAX_BYTES: u64 = 1 << 20;
/// Names of the groups that join the installation's own witnesses with the policy's quorum. No operator writes a slash into a name.
const OWN: &str = "own/witnesses";
const BOTH: &str = "own/witnesses-and-policy";

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
        let Some((listed, _)) = &self.policy else {
            return known;
        };
        let own = known.into_iter().filter(|it| it.local).map(|mut own| {
            // An own witness that the policy lists goes by the policy's name.
            if let Some(named) = listed.iter().find(|it| it.vkey == own.vkey) {
                own.name.clone_from(&named.name);
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
    pub(super) fn quorum(&self, witnesses: &[WitnessEntry]) -> Quorum {
        let local = witnesses.iter().filter(|it| it.local);
        let Some((_, tree)) = &self.policy else {
            return Quorum::Count(u32::try_from(local.count()).unwrap_or(u32::MAX));
        };
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
            return Quorum::Tree(tree.clone());
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
        Quorum::Tree(QuorumTree {
            name: name.to_owned(),
            groups,
        })
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
            .map(|it| it.vkey.to_string())
            .collect();
        let all = listed.iter().all(|it| {
            own.contains(&it.vkey.to_string())
                || known.contains(&format!("{} {} {:?}", it.vkey, it.operator, it.url))
        });
        let outside = payload.witnesses.iter().filter(|it| !it.local);
        let mut outside = outside.map(|it| it.vkey.to_string());
        let none_other = outside.all(|vkey| listed.iter().any(|it| it.vkey.to_string() == vkey));
        tsas && all && none_other && payload.quorum == self.quorum(&payload.witnesses)
    }
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
        let quorum = outside.quorum(&all);
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
        assert!(outside.quorum(&all).is_met(&["w1"].into()));
    }

    #[test]
    fn without_a_policy_all_own_witnesses_are_asked_for() {
        let outside = Outside::default();
        let own = vec![witness("a", 1, true), witness("b", 2, true)];
        assert_eq!(outside.quorum(&own), Quorum::Count(2));
        assert_eq!(outside.witnesses(own.clone()), own);
    }
}
