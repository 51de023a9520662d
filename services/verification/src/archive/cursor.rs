//! Where a revalidation stands, on disk: `job.json` and, line by line, what it found (`findings.jsonl`).
//!
//! Lines are durable before the cursor counts them; what lies behind the counted bytes is from a life that ended before it could say so, and is cut off.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sealwarden_archive::{Damage, ObjectName};
use sealwarden_keys::private_files::{self, PUBLIC_FILE};
use serde::{Deserialize, Serialize};

/// Name and version of the cursor's form.
const FORMAT: &str = "sealwarden-revalidation/v1";
/// No cursor is larger, bytes.
const MAX_BYTES: u64 = 1 << 20;

/// What a revalidation does, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Phase {
    /// Compares the inventory's pages with what the event log recorded.
    #[default]
    Inventory,
    /// Reads documents and seals.
    Documents,
    /// Looks for what the inventory does not list.
    Unexpected,
    /// Writes the report.
    Report,
}

impl Phase {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Inventory => "inventory",
            Self::Documents => "documents",
            Self::Unexpected => "unexpected",
            Self::Report => "report",
        }
    }
}

/// How far it came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cursor {
    format: String,
    pub(crate) job: String,
    pub(crate) phase: Phase,
    /// The last document that was looked at.
    pub(crate) after: Option<ObjectName>,
    pub(crate) checked: u64,
    pub(crate) bytes: u64,
    pub(crate) damaged: u64,
    pub(crate) new_damage: u64,
    pub(crate) by_class: BTreeMap<String, u64>,
    /// Bytes of findings that count.
    pub(crate) findings_bytes: u64,
    pub(crate) paused: bool,
}

/// A line of the findings, and of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    #[serde(flatten)]
    pub(crate) damage: Damage,
    /// An earlier revalidation found it, and it was not repaired since.
    pub(crate) known: bool,
    /// The object is quarantined.
    pub(crate) quarantined: bool,
}

fn cursor_file(dir: &Path) -> PathBuf {
    dir.join("job.json")
}

/// The findings' file.
pub(crate) fn findings_file(dir: &Path) -> PathBuf {
    dir.join("findings.jsonl")
}

impl Cursor {
    /// At the beginning of a revalidation.
    pub(crate) fn new(job: &str) -> Self {
        Self {
            format: FORMAT.to_owned(),
            job: job.to_owned(),
            ..Self::default()
        }
    }

    /// Where this revalidation stood when the last process ended; its beginning if none wrote it down.
    pub(crate) fn load(dir: &Path, job: &str) -> anyhow::Result<Self> {
        private_files::remove_leftovers(dir)?;
        let path = cursor_file(dir);
        let bytes = match private_files::read_public(&path, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(Self::new(job)),
            Err(error) => return Err(error.into()),
        };
        // A cursor that cannot be read costs time, not safety: everything is looked at again.
        let Ok(cursor) = serde_json::from_slice::<Self>(&bytes) else {
            tracing::error!(path = %path.display(), "the cursor of the revalidation is damaged; it begins anew");
            return Ok(Self::new(job));
        };
        let written = std::fs::metadata(findings_file(dir)).map_or(0, |metadata| metadata.len());
        if cursor.format != FORMAT || cursor.job != job || cursor.findings_bytes > written {
            return Ok(Self::new(job));
        }
        Ok(cursor)
    }

    /// Counts findings, and gives their lines.
    pub(crate) fn count(&mut self, findings: &[Finding]) -> anyhow::Result<Vec<u8>> {
        let mut lines = Vec::new();
        for finding in findings {
            self.damaged += 1;
            self.new_damage += u64::from(!finding.known);
            let class = finding.damage.class.as_str().to_owned();
            *self.by_class.entry(class).or_default() += 1;
            serde_json::to_writer(&mut lines, finding).context("writing a finding")?;
            lines.push(b'\n');
        }
        Ok(lines)
    }

    /// Makes new lines and then the cursor durable.
    pub(crate) fn save(&mut self, dir: &Path, lines: &[u8]) -> anyhow::Result<()> {
        if !lines.is_empty() || self.findings_bytes == 0 {
            let path = findings_file(dir);
            let named = || path.display().to_string();
            let file = OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(false)
                .open(&path)
                .with_context(named)?;
            file.set_len(self.findings_bytes).with_context(named)?;
            file.write_all_at(lines, self.findings_bytes)
                .with_context(named)?;
            file.sync_all().with_context(named)?;
            self.findings_bytes += u64::try_from(lines.len())?;
        }
        let bytes = serde_json::to_vec_pretty(self)?;
        private_files::replace(&cursor_file(dir), &bytes, PUBLIC_FILE)?;
        Ok(())
    }

    /// All findings that count.
    pub(crate) fn findings(&self, dir: &Path) -> anyhow::Result<Vec<Finding>> {
        let path = findings_file(dir);
        let mut bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let counted = usize::try_from(self.findings_bytes)?;
        if bytes.len() < counted {
            bail!("{} lost lines that were synced", path.display());
        }
        bytes.truncate(counted);
        let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| Ok(serde_json::from_slice(line)?))
            .collect()
    }

    /// Forgets a revalidation that has ended.
    pub(crate) fn remove(dir: &Path) -> anyhow::Result<()> {
        for path in [cursor_file(dir), findings_file(dir)] {
            match std::fs::remove_file(&path) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(e).with_context(|| path.display().to_string()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sealwarden_archive::DamageClass;

    use super::*;

    fn finding(object: &str, known: bool) -> Finding {
        Finding {
            damage: Damage::plain(object, DamageClass::Missing, "gone"),
            known,
            quarantined: true,
        }
    }

    #[test]
    fn a_revalidation_goes_on_where_it_was_saved_and_what_was_not_counted_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let mut cursor = Cursor::load(dir.path(), "main-1").unwrap();
        let lines = cursor
            .count(&[finding("a", false), finding("b", true)])
            .unwrap();
        cursor.after = Some(ObjectName::new("b").unwrap());
        cursor.save(dir.path(), &lines).unwrap();
        // A life that wrote a line and died before its cursor.
        std::fs::write(
            findings_file(dir.path()),
            [&lines[..], b"{\"torn\":"].concat(),
        )
        .unwrap();
        let mut again = Cursor::load(dir.path(), "main-1").unwrap();
        assert_eq!(again, cursor);
        assert_eq!((again.damaged, again.new_damage), (2, 1));
        let more = again.count(&[finding("c", false)]).unwrap();
        again.save(dir.path(), &more).unwrap();
        let names: Vec<_> = again
            .findings(dir.path())
            .unwrap()
            .into_iter()
            .map(|f| f.damage.object)
            .collect();
        assert_eq!(names, ["a", "b", "c"]);
    }

    #[test]
    fn a_cursor_of_another_revalidation_or_a_damaged_one_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let mut cursor = Cursor::new("main-1");
        cursor.checked = 9;
        cursor.save(dir.path(), b"").unwrap();
        assert_eq!(
            Cursor::load(dir.path(), "main-2").unwrap(),
            Cursor::new("main-2")
        );
        std::fs::write(cursor_file(dir.path()), "{").unwrap();
        assert_eq!(
            Cursor::load(dir.path(), "main-1").unwrap(),
            Cursor::new("main-1")
        );
        cursor.findings_bytes = 5;
        std::fs::write(
            cursor_file(dir.path()),
            serde_json::to_vec(&cursor).unwrap(),
        )
        .unwrap();
        assert_eq!(
            Cursor::load(dir.path(), "main-1").unwrap(),
            Cursor::new("main-1")
        );
    }
}
