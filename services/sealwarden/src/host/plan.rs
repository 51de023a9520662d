//! The response plan on disk: reading a folder, and the shipped one as a trial plan.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use sealwarden_runbook::{Finding, PlanSet, SHIPPED};

use super::installation::{new_ssh_key, private_dir, write_durably};

/// Largest plan file that is read, bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// The folder of notices' templates and their signatures below a plan's.
const NOTICES: &str = "notices";

/// The files of a plan folder: name and text, sorted by name.
pub(crate) fn read_files(folder: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let mut files = read_folder(folder, "", &["yaml", "yml"]).with_context(|| {
        format!(
            "reading the plan folder {}; name another one with --plan",
            folder.display()
        )
    })?;
    let notices = folder.join(NOTICES);
    if notices.is_dir() {
        files.extend(read_folder(
            &notices,
            &format!("{NOTICES}/"),
            &["md", "sig"],
        )?);
    }
    files.sort();
    Ok(files)
}

/// The files of a folder with one of these endings, their names behind `prefix`.
fn read_folder(
    folder: &Path,
    prefix: &str,
    endings: &[&str],
) -> anyhow::Result<Vec<(String, String)>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let ending = path.extension().unwrap_or_default();
        if !endings.iter().any(|known| ending == *known) || !path.is_file() {
            continue;
        }
        let size = path.metadata()?.len();
        if size > MAX_FILE_BYTES {
            bail!(
                "{} has {size} bytes; a plan file has at most {MAX_FILE_BYTES}",
                path.display()
            );
        }
        let text =
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        files.push((format!("{prefix}{name}"), text));
    }
    Ok(files)
}

/// Reads and validates a plan folder.
pub(crate) fn load(folder: &Path) -> anyhow::Result<PlanSet> {
    usable(folder, &read_files(folder)?)
}

/// Validates the files of a plan folder.
pub(crate) fn usable(folder: &Path, files: &[(String, String)]) -> anyhow::Result<PlanSet> {
    parse(files).map_err(|findings| {
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        anyhow::anyhow!(
            "the plan in {} cannot be used:\n{}",
            folder.display(),
            lines.join("\n")
        )
    })
}

/// Validates plan files.
pub(crate) fn parse(files: &[(String, String)]) -> Result<PlanSet, Vec<Finding>> {
    PlanSet::load(files)
}

/// The shipped plan.
pub(crate) fn shipped() -> anyhow::Result<PlanSet> {
    PlanSet::load(&SHIPPED)
        .map_err(|findings| anyhow::anyhow!("the shipped plan is damaged: {findings:?}"))
}

/// The files of the shipped plan: name and text.
pub(crate) fn shipped_files() -> &'static [(&'static str, &'static str)] {
    &SHIPPED
}

/// Writes the shipped plan into `DATA/plan`, with a trial key for each person of the roster who has none. The private keys lie in `DATA/people`: good for trying
/// everything on one machine, and no protection at all; a real plan names the people's own keys.
pub(crate) fn write_trial(data: &Path) -> anyhow::Result<()> {
    let folder = data.join("plan");
    private_dir(&folder)?;
    private_dir(&data.join("people"))?;
    let shipped = shipped()?;
    let mut keys = BTreeMap::new();
    for person in shipped
        .roster()
        .people()
        .iter()
        .filter(|p| p.keys.is_empty())
    {
        let home = data.join("people").join(&person.id);
        private_dir(&home)?;
        let public = new_ssh_key(&home.join("id_ed25519"), &format!("{}-trial", person.id))?;
        keys.insert(person.id.clone(), vec![public]);
    }
    let roster = shipped
        .roster()
        .with_trial_keys(&keys)
        .context("giving the trial roster its keys")?;
    private_dir(&folder.join(NOTICES))?;
    for (name, text) in SHIPPED {
        if name == "roster.yaml" {
            write_durably(&folder.join(name), roster.to_yaml().as_bytes())?;
        } else {
            write_durably(&folder.join(name), text.as_bytes())?;
        }
    }
    Ok(())
}
