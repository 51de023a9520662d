//! The manifest's text.

use std::collections::BTreeMap;
use std::fmt;

const HEADER: &str = "sealwarden evidence v1";

/// What a bundle holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The installation's name.
    pub installation: String,
    /// "production" or "drill".
    pub environment: String,
    /// The incident.
    pub incident: String,
    /// The run.
    pub run: String,
    /// The step.
    pub step: String,
    /// Its iteration.
    pub iteration: u32,
    /// When collecting began, RFC 3339.
    pub collected: String,
    /// The node that collected.
    pub collector: String,
    /// SHA-256 (hex) of each file, by its path in the bundle.
    pub files: BTreeMap<String, String>,
}

/// A text that is no manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the manifest: {problem}")]
pub struct ManifestError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

impl Manifest {
    /// Reads exactly what `Display` writes.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let mut lines = text.lines().enumerate();
        let wrong = |line: usize, problem: &str| ManifestError {
            line,
            problem: problem.to_owned(),
        };
        if lines.next().map(|(_, line)| line) != Some(HEADER) {
            return Err(wrong(
                1,
                "it does not begin with \"sealwarden evidence v1\"",
            ));
        }
        let mut field = |name: &str| {
            let (at, line) = lines.next().ok_or_else(|| wrong(0, "it is cut short"))?;
            line.strip_prefix(name)
                .and_then(|rest| rest.strip_prefix(": "))
                .map(str::to_owned)
                .ok_or_else(|| wrong(at + 1, &format!("expected \"{name}: …\"")))
        };
        let mut manifest = Self {
            installation: field("installation")?,
            environment: field("environment")?,
            incident: field("incident")?,
            run: field("run")?,
            step: field("step")?,
            iteration: field("iteration")?
                .parse()
                .map_err(|_| wrong(7, "the iteration is not a number"))?,
            collected: field("collected")?,
            collector: field("collector")?,
            files: BTreeMap::new(),
        };
        let _count = field("files")?; // compared below, with everything else
        for (at, line) in lines {
            let (digest, path) = line
                .split_once("  ")
                .ok_or_else(|| wrong(at + 1, "expected \"<sha256>  <path>\""))?;
            if !is_path(path) {
                return Err(wrong(
                    at + 1,
                    "the path may hold only letters, digits, '.', '_', '-' and '/', and must stay inside the bundle",
                ));
            }
            manifest.files.insert(path.to_owned(), digest.to_owned());
        }
        if manifest.to_string() != text {
            return Err(wrong(1, "it is not in its only spelling"));
        }
        Ok(manifest)
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{HEADER}")?;
        writeln!(out, "installation: {}", self.installation)?;
        writeln!(out, "environment: {}", self.environment)?;
        writeln!(out, "incident: {}", self.incident)?;
        writeln!(out, "run: {}", self.run)?;
        writeln!(out, "step: {}", self.step)?;
        writeln!(out, "iteration: {}", self.iteration)?;
        writeln!(out, "collected: {}", self.collected)?;
        writeln!(out, "collector: {}", self.collector)?;
        writeln!(out, "files: {}", self.files.len())?;
        self.files
            .iter()
            .try_for_each(|(path, digest)| writeln!(out, "{digest}  {path}"))
    }
}

/// Whether a path is spelled plainly and stays inside its folder.
pub(super) fn is_path(path: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/');
    !path.is_empty() && path.bytes().all(plain) && path.split('/').all(is_name)
}

/// Whether a text can name one file.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            installation: "acme".into(),
            environment: "drill".into(),
            incident: "I-1".into(),
            run: "R-1".into(),
            step: "snapshot".into(),
            iteration: 0,
            collected: "2026-01-01T00:00:00Z".into(),
            collector: "runbook-executor-1".into(),
            files: BTreeMap::from([
                ("a/b.txt".into(), "00".repeat(32)),
                ("c".into(), "11".repeat(32)),
            ]),
        }
    }

    #[test]
    fn a_manifest_reads_back_and_has_one_spelling() {
        let text = manifest().to_string();
        assert_eq!(Manifest::parse(&text), Ok(manifest()));
        for bad in [
            text.replace("files: 2", "files: 3"),
            text.replace("a/b.txt", "../b.txt"),
            text.replace("a/b.txt", "/etc/passwd"),
            text.replace("iteration: 0", "iteration: 00"),
            format!("{text}\n"),
            String::new(),
        ] {
            assert!(Manifest::parse(&bad).is_err(), "{bad}");
        }
    }
}
