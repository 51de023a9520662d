//! `settings.yaml`: what an operator may set for each service, read strictly once at start.
//!
//! One section a service, named like its role; each is that service's own `Config`, whose defaults hold for what is left out. Files named in it are relative to
//! the folder of the settings file. What belongs to the response (people, quorums, runbooks) stands in the plan instead.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sealwarden_runbook_executor::TsaRoots;
use serde::Deserialize;

use super::key_providers::KeySettings;

/// Name of the file in the data folder.
pub(crate) const FILE_NAME: &str = "settings.yaml";

/// Largest settings file that is read, bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// All sections.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct Settings {
    /// Where sealing keys are kept.
    pub(crate) keys: KeySettings,
    /// The sealing service.
    pub(crate) sealing: sealwarden_sealing::Config,
    /// The verification service.
    pub(crate) verification: sealwarden_verification::Config,
    /// The detection service.
    pub(crate) detection: sealwarden_detection::Config,
    /// The runbook executor.
    pub(crate) runbook_executor: sealwarden_runbook_executor::Config,
}

impl Settings {
    /// Reads `named`, or `settings.yaml` in the data folder if there is one; the defaults otherwise.
    pub(crate) fn read(named: Option<&Path>, data: &Path) -> anyhow::Result<Self> {
        let path = match named {
            Some(path) => path.to_path_buf(),
            None => data.join(FILE_NAME),
        };
        let size = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
                return Ok(Self::default());
            }
            Err(e) => return Err(e).with_context(|| format!("reading {}", path.display())),
        };
        if size > MAX_BYTES {
            bail!(
                "{} has {size} bytes; a settings file has at most {MAX_BYTES}",
                path.display()
            );
        }
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let mut settings =
            Self::parse(&text).with_context(|| format!("{} cannot be used", path.display()))?;
        let path =
            fs::canonicalize(&path).with_context(|| format!("resolving {}", path.display()))?;
        settings.resolve_paths(path.parent().unwrap_or(Path::new("/")));
        // Two names of one place are seen only now.
        settings
            .keys
            .validate()
            .with_context(|| format!("{} cannot be used", path.display()))?;
        Ok(settings)
    }

    /// Every path that a section holds is listed here.
    fn resolve_paths(&mut self, folder: &Path) {
        for path in self.sealing.anchors.paths_mut() {
            *path = folder.join(&*path);
        }
        for provider in &mut self.keys.providers {
            for path in provider.paths() {
                resolve(folder, path);
            }
        }
        self.detection.resolve_paths(folder);
        for archive in &mut self.verification.archives {
            archive.resolve_paths(folder);
        }
        for vendor in &mut self.verification.vendors {
            vendor.resolve_paths(folder);
        }
        for verifier in &mut self.verification.verifiers {
            verifier.resolve_paths(folder);
        }
        let executor = &mut self.runbook_executor;
        for tsa in &mut executor.tsas {
            tsa.roots = folder.join(&tsa.roots);
        }
        if executor.tsas.is_empty() {
            // Who is asked for the time is believed, unless somebody says otherwise.
            let named = self.sealing.anchors.tsas.iter();
            executor.tsas = named
                .map(|tsa| TsaRoots {
                    name: tsa.name.clone(),
                    roots: tsa.roots.clone(),
                })
                .collect();
        }
        for webhook in executor.webhooks.values_mut() {
            webhook.token_file = folder.join(&webhook.token_file);
            resolve(folder, &mut webhook.tls_roots);
        }
        for path in [
            &mut executor.root_key,
            &mut executor.witness_policy,
            &mut executor.evidence_dir,
            &mut executor.evidence_log_dir,
            &mut executor.seal_certificates,
        ] {
            resolve(folder, path);
        }
    }

    /// Reads the text of a settings file; an empty one sets nothing.
    fn parse(text: &str) -> anyhow::Result<Self> {
        let empty = text
            .lines()
            .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
        if empty {
            return Ok(Self::default());
        }
        let settings: Self = serde_saphyr::from_str(text)?;
        settings.keys.validate()?;
        settings.sealing.validate()?;
        settings.verification.validate()?;
        settings.detection.validate()?;
        settings.runbook_executor.validate()?;
        Ok(settings)
    }
}

/// Makes a path of the file absolute.
fn resolve(folder: &Path, path: &mut Option<PathBuf>) {
    if let Some(path) = path {
        *path = folder.join(&*path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_sets_nothing_and_a_section_sets_only_what_it_names() {
        assert_eq!(
            Settings::parse("# nothing\n\n").unwrap(),
            Settings::default()
        );
        let settings = Settings::parse(
            "sealing:\n  max_batch: 16\nrunbook-executor:\n  trust_valid_days: 3\n",
        )
        .unwrap();
        assert_eq!(settings.sealing.max_batch, 16);
        assert_eq!(settings.sealing.queue, Settings::default().sealing.queue);
        assert_eq!(settings.runbook_executor.trust_valid_days, 3);
    }

    #[test]
    fn what_is_misspelt_or_out_of_bounds_is_named() {
        let misspelt = Settings::parse("sealing:\n  max_bach: 16\n").unwrap_err();
        assert!(format!("{misspelt:#}").contains("max_bach"), "{misspelt:#}");
        let large = Settings::parse("sealing:\n  max_batch: 99999999\n").unwrap_err();
        assert!(
            format!("{large:#}").contains("max_batch 99999999"),
            "{large:#}"
        );
    }

    #[test]
    fn a_named_file_must_be_there_and_the_default_one_need_not() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            Settings::read(None, folder.path()).unwrap(),
            Settings::default()
        );
        let missing = folder.path().join("other.yaml");
        let error = Settings::read(Some(&missing), folder.path()).unwrap_err();
        assert!(format!("{error:#}").contains("other.yaml"));
    }
}
