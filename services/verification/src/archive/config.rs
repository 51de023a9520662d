//! Settings of archives.

use std::collections::BTreeSet;
use std::path::Path;

use sealwarden_archive::{Place, S3Settings};
use serde::{Deserialize, Serialize};

/// Settings of one archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ArchiveConfig {
    /// Its name in events and on the command line: 1 to 48 of `a-z 0-9 -`.
    pub name: String,
    /// Where its documents lie: a folder, `file:///path` or `s3://bucket/prefix`.
    pub url: String,
    /// Where the versions lie that documents are restored from; not inside `url`, and better not on the same disk or in the same account.
    pub backup: String,
    /// How to reach `url` if it is an S3 bucket.
    pub s3: S3Settings,
    /// How to reach `backup` if it is one and differs.
    pub backup_s3: Option<S3Settings>,
    /// Hours from the beginning of one revalidation to that of the next, 1 to 8760; 0: only by hand.
    pub every_h: u64,
    /// By how much at most a beginning is put off, minutes, 0 to 1440, so that many archives do not begin at once.
    pub jitter_min: u64,
    /// Most bytes that a revalidation reads a second; 0: no limit.
    pub rate_limit_bytes_per_s: u64,
    /// How many groups of objects are read at once, 1 to 64.
    pub parallelism: usize,
    /// Whether damaged objects are quarantined as they are found.
    pub quarantine: bool,
}

impl Default for ArchiveConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            url: String::new(),
            backup: String::new(),
            s3: S3Settings::default(),
            backup_s3: None,
            every_h: 24,
            jitter_min: 10,
            rate_limit_bytes_per_s: 0,
            parallelism: 2,
            quarantine: true,
        }
    }
}

/// Why an archive's settings cannot be used.
fn problem(archive: &ArchiveConfig) -> Option<String> {
    let name = &archive.name;
    let named = (1..=48).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !named {
        return Some(format!("name {name:?}; use 1 to 48 of a-z, 0-9 and -"));
    }
    for (field, address) in [("url", &archive.url), ("backup", &archive.backup)] {
        // A path is relative to the settings file until it is resolved.
        let relative = !address.is_empty() && !address.contains("://") && !address.starts_with('/');
        if let Err(error) = Place::parse(address)
            && !relative
        {
            return Some(format!("{field}: {error}"));
        }
    }
    let trimmed = |address: &str| {
        format!(
            "{}/",
            address.trim_start_matches("file://").trim_end_matches('/')
        )
    };
    let (url, backup) = (trimmed(&archive.url), trimmed(&archive.backup));
    if url.starts_with(&backup) || backup.starts_with(&url) {
        return Some(format!(
            "backup {:?} and url {:?} lie in each other; who can damage the one must not reach the other",
            archive.backup, archive.url
        ));
    }
    let bounds = [
        ("every_h", archive.every_h, 0..=8760, "0 to 8760"),
        ("jitter_min", archive.jitter_min, 0..=1440, "0 to 1440"),
        (
            "parallelism",
            u64::try_from(archive.parallelism).unwrap_or(u64::MAX),
            1..=64,
            "1 to 64",
        ),
    ];
    bounds
        .into_iter()
        .find(|(_, value, range, _)| !range.contains(value))
        .map(|(field, value, _, bounds)| format!("{field} is {value}; use {bounds}"))
}

/// Checks all archives: the first mistake with the archive it is in.
pub(crate) fn check(archives: &[ArchiveConfig]) -> Result<(), (usize, String)> {
    let mut names = BTreeSet::new();
    for (at, archive) in archives.iter().enumerate() {
        if let Some(problem) = problem(archive) {
            return Err((at, problem));
        }
        if !names.insert(&archive.name) {
            return Err((
                at,
                format!("name {:?} is taken by another archive", archive.name),
            ));
        }
    }
    Ok(())
}

impl ArchiveConfig {
    /// Makes its paths absolute: they are relative to the folder of the settings file.
    pub fn resolve_paths(&mut self, folder: &Path) {
        for address in [&mut self.url, &mut self.backup] {
            if !address.is_empty() && !address.contains("://") {
                *address = folder.join(&*address).to_string_lossy().into_owned();
            }
        }
        let backup = self.backup_s3.iter_mut().map(|s3| &mut s3.credentials_file);
        for file in std::iter::once(&mut self.s3.credentials_file)
            .chain(backup)
            .flatten()
        {
            *file = folder.join(&*file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> ArchiveConfig {
        ArchiveConfig {
            name: "main".to_owned(),
            url: "/srv/archive".to_owned(),
            backup: "s3://backup/main".to_owned(),
            ..ArchiveConfig::default()
        }
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(check(&[archive()]), Ok(()));
        let wrong = |change: &dyn Fn(&mut ArchiveConfig)| {
            let mut changed = archive();
            change(&mut changed);
            check(&[changed]).unwrap_err().1
        };
        assert!(wrong(&|a| a.name = "A b".to_owned()).contains("A b"));
        assert!(wrong(&|a| a.url = "ftp://x".to_owned()).contains("ftp://x"));
        assert!(wrong(&|a| a.backup = "/srv/archive/backup".to_owned()).contains("in each other"));
        assert!(wrong(&|a| a.backup = "file:///srv/archive".to_owned()).contains("in each other"));
        assert!(wrong(&|a| a.every_h = 9000).contains("every_h is 9000"));
        assert!(wrong(&|a| a.parallelism = 0).contains("parallelism is 0"));
        assert_eq!(check(&[archive(), archive()]).unwrap_err().0, 1);
    }

    #[test]
    fn paths_are_relative_to_the_settings_file() {
        let mut relative = ArchiveConfig {
            url: "archive".to_owned(),
            ..archive()
        };
        relative.s3.credentials_file = Some("s3.conf".into());
        relative.resolve_paths(Path::new("/etc/sw"));
        assert_eq!(relative.url, "/etc/sw/archive");
        assert_eq!(relative.backup, "s3://backup/main");
        assert_eq!(
            relative.s3.credentials_file.unwrap(),
            Path::new("/etc/sw/s3.conf")
        );
    }
}
