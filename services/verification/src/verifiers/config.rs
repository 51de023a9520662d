//! Settings of verifiers that others run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sealwarden_anchors::outside::is_callable;
use serde::{Deserialize, Serialize};

/// No installation watches more verifiers.
const MAX_VERIFIERS: usize = 100;

/// Settings of one verifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VerifierConfig {
    /// Its name in events and on the command line: 1 to 48 of `a-z 0-9 -`.
    pub name: String,
    /// Where it is asked, `POST url/verify`: `https`, or `http` on this machine. `sealwarden verifier serve` is one.
    pub url: String,
    /// The archive whose documents are put to it.
    pub archive: String,
    /// Seconds from one comparison to the next, 1 to 2592000; 0: only when somebody asks.
    pub every_s: u64,
    /// How many documents are put to it at most, 1 to 10000, spread over the whole archive.
    pub sample: usize,
    /// How long one answer may take, milliseconds, 100 to 60000.
    pub timeout_ms: u64,
    /// PEM file with the authorities above its server's certificate; the system's if absent.
    pub tls_roots: Option<PathBuf>,
}

impl Default for VerifierConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            url: String::new(),
            archive: String::new(),
            every_s: 300,
            sample: 200,
            timeout_ms: 5_000,
            tls_roots: None,
        }
    }
}

impl VerifierConfig {
    /// Makes its paths absolute: they are relative to the folder of the settings file.
    pub fn resolve_paths(&mut self, folder: &Path) {
        if let Some(path) = &mut self.tls_roots {
            *path = folder.join(&*path);
        }
    }

    fn problem(&self, archives: &BTreeSet<&str>) -> Option<String> {
        let name = &self.name;
        if !sealwarden_runbook::is_name(name) || name.len() > 48 {
            return Some(format!(
                "name {name:?}; use 1 to 48 of a-z, 0-9 and -, a letter first"
            ));
        }
        if !is_callable(&self.url) {
            return Some(format!(
                "url {:?}; write https://host/path, or http:// for this machine only; no user, password or fragment",
                self.url
            ));
        }
        if !archives.contains(self.archive.as_str()) {
            let known: Vec<&str> = archives.iter().copied().collect();
            let known = if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            };
            return Some(format!(
                "archive {:?} is none of verification.archives, which are: {known}",
                self.archive
            ));
        }
        let sample = u64::try_from(self.sample).unwrap_or(u64::MAX);
        [
            ("every_s", self.every_s, 0..=2_592_000, "0 to 2592000"),
            ("sample", sample, 1..=10_000, "1 to 10000"),
            ("timeout_ms", self.timeout_ms, 100..=60_000, "100 to 60000"),
        ]
        .into_iter()
        .find(|(_, value, range, _)| !range.contains(value))
        .map(|(field, value, _, bounds)| format!("{field} is {value}; use {bounds}"))
    }
}

/// Checks all verifiers: the first mistake with the verifier it is in.
pub(crate) fn check(
    verifiers: &[VerifierConfig],
    archives: &BTreeSet<&str>,
) -> Result<(), (usize, String)> {
    let mut names = BTreeSet::new();
    for (at, verifier) in verifiers.iter().enumerate() {
        if at >= MAX_VERIFIERS {
            return Err((at, format!("there are more than {MAX_VERIFIERS} verifiers")));
        }
        if let Some(problem) = verifier.problem(archives) {
            return Err((at, problem));
        }
        if !names.insert(&verifier.name) {
            let text = format!("name {:?} is taken by another verifier", verifier.name);
            return Err((at, text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named() {
        let good = VerifierConfig {
            name: "fleet".to_owned(),
            url: "http://127.0.0.1:9000".to_owned(),
            archive: "main".to_owned(),
            ..VerifierConfig::default()
        };
        let archives = BTreeSet::from(["main"]);
        assert_eq!(check(std::slice::from_ref(&good), &archives), Ok(()));
        let wrong = |change: &dyn Fn(&mut VerifierConfig)| {
            let mut changed = good.clone();
            change(&mut changed);
            check(&[changed], &archives).unwrap_err().1
        };
        assert!(wrong(&|v| v.name = "Fleet 1".to_owned()).contains("Fleet 1"));
        assert!(wrong(&|v| v.url = "http://elsewhere.example.com".to_owned()).contains("https://"));
        assert!(wrong(&|v| v.archive = "mian".to_owned()).contains("which are: main"));
        assert!(wrong(&|v| v.sample = 0).contains("1 to 10000"));
        assert!(wrong(&|v| v.timeout_ms = 5).contains("100 to 60000"));
        let twice = check(&[good.clone(), good], &archives).unwrap_err();
        assert!(twice.1.contains("taken"), "{twice:?}");
    }
}
