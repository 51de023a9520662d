//! Settings of vendors' probes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// No installation probes more vendors.
const MAX_VENDORS: usize = 100;

/// How one vendor is probed: by a time stamp (`tsa` with `roots`), or by a page that answers (`url`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VendorConfig {
    /// Its name, as in `vendors.yaml`.
    pub name: String,
    /// A time-stamping authority that is asked for a time stamp over random bytes, which must hold.
    pub tsa: Option<String>,
    /// PEM file with the authorities above that authority's certificate.
    pub roots: Option<PathBuf>,
    /// An address that answers 2xx to GET while the vendor is well.
    pub url: Option<String>,
    /// PEM file with the authorities above its HTTPS server; the system's if absent.
    pub tls_roots: Option<PathBuf>,
    /// Seconds from one probe to the next, 1 to 86400; 0: only when somebody asks.
    pub every_s: u64,
    /// How many probes one after another have to fail until the vendor is called away, 1 to 100.
    pub away_after: u64,
    /// How long one answer may take, milliseconds, 100 to 60000: an answer that comes later is none.
    pub timeout_ms: u64,
}

impl Default for VendorConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            tsa: None,
            roots: None,
            url: None,
            tls_roots: None,
            every_s: 60,
            away_after: 3,
            timeout_ms: 5_000,
        }
    }
}

impl VendorConfig {
    /// Makes its paths absolute: they are relative to the folder of the settings file.
    pub fn resolve_paths(&mut self, folder: &Path) {
        for path in [&mut self.roots, &mut self.tls_roots].into_iter().flatten() {
            *path = folder.join(&*path);
        }
    }

    /// What is asked, in words.
    pub(crate) fn words(&self) -> String {
        match (&self.tsa, &self.url) {
            (Some(url), _) => format!("time stamp of {url}"),
            (None, url) => format!("GET {}", url.as_deref().unwrap_or_default()),
        }
    }

    fn problem(&self) -> Option<String> {
        let name = &self.name;
        if !sealwarden_runbook::is_name(name) {
            return Some(format!(
                "name {name:?}; use a-z, 0-9 and -, a letter first, at most 64"
            ));
        }
        match (&self.tsa, &self.roots, &self.url) {
            (Some(_), Some(_), None) | (None, None, Some(_)) => {}
            _ => {
                return Some(format!(
                    "{name} is probed by a time stamp (`tsa` and `roots`) or by a page (`url`): set one of both"
                ));
            }
        }
        let address = self.tsa.as_ref().or(self.url.as_ref())?;
        if !address.starts_with("http://") && !address.starts_with("https://") {
            return Some(format!(
                "{address:?} does not begin with http:// or https://"
            ));
        }
        [
            ("every_s", self.every_s, 0..=86_400, "0 to 86400"),
            ("away_after", self.away_after, 1..=100, "1 to 100"),
            ("timeout_ms", self.timeout_ms, 100..=60_000, "100 to 60000"),
        ]
        .into_iter()
        .find(|(_, value, range, _)| !range.contains(value))
        .map(|(field, value, _, bounds)| format!("{field} is {value}; use {bounds}"))
    }
}

/// Checks all vendors: the first mistake with the vendor it is in.
pub(crate) fn check(vendors: &[VendorConfig]) -> Result<(), (usize, String)> {
    let mut names = BTreeSet::new();
    for (at, vendor) in vendors.iter().enumerate() {
        if at >= MAX_VENDORS {
            return Err((at, format!("there are more than {MAX_VENDORS} vendors")));
        }
        if let Some(problem) = vendor.problem() {
            return Err((at, problem));
        }
        if !names.insert(&vendor.name) {
            return Err((
                at,
                format!("name {:?} is taken by another vendor", vendor.name),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named() {
        let good = VendorConfig {
            name: "stamps".to_owned(),
            tsa: Some("http://tsa.example.com".to_owned()),
            roots: Some("tsa.pem".into()),
            ..VendorConfig::default()
        };
        assert_eq!(check(std::slice::from_ref(&good)), Ok(()));
        let wrong = |change: &dyn Fn(&mut VendorConfig)| {
            let mut changed = good.clone();
            change(&mut changed);
            check(&[changed]).unwrap_err().1
        };
        assert!(wrong(&|v| v.roots = None).contains("set one of both"));
        assert!(wrong(&|v| v.url = Some("https://x".to_owned())).contains("set one of both"));
        assert!(wrong(&|v| v.tsa = Some("ftp://x".to_owned())).contains("ftp://x"));
        assert!(wrong(&|v| v.away_after = 0).contains("1 to 100"));
        assert!(
            check(&[good.clone(), good])
                .unwrap_err()
                .1
                .contains("taken")
        );
    }
}
