//! The repository's own files.

use std::fs;
use std::path::{Path, PathBuf};

/// A source file with its path from the repository's root.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    /// All of it is test code.
    is_test: bool,
}

impl Source {
    /// Paths, without `.rs`, of the modules that this file declares for tests only.
    fn test_modules(&self) -> Vec<String> {
        let path = self.path.trim_end_matches(".rs");
        let (parent, name) = path.rsplit_once('/').unwrap_or_default();
        let folder = if ["lib", "main", "mod"].contains(&name) {
            parent
        } else {
            path
        };
        let lines: Vec<&str> = self.text.lines().collect();
        let declared = lines.windows(2).filter_map(|pair| match pair {
            [attribute, module] if attribute.trim() == "#[cfg(test)]" => {
                module.trim().strip_suffix(';')
            }
            _ => None,
        });
        declared
            .filter_map(|module| module.rsplit_once("mod "))
            .map(|(_, name)| format!("{folder}/{name}"))
            .collect()
    }

    /// Number (from 1) and text of each line of the product's own code: without comments, and without the test module at the end.
    pub(crate) fn product_lines(&self) -> Vec<(usize, &str)> {
        if self.is_test {
            return Vec::new();
        }
        let lines: Vec<&str> = self.text.lines().collect();
        let end = (0..lines.len())
            .find(|&at| begins_tests(&lines, at))
            .unwrap_or(lines.len());
        lines
            .into_iter()
            .take(end)
            .enumerate()
            .map(|(at, line)| (at + 1, code_of(line)))
            .collect()
    }

    /// Number, text and the line before of each line of test code.
    pub(crate) fn test_lines(&self) -> Vec<(usize, &str, &str)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let start = if self.is_test {
            Some(0)
        } else {
            (0..lines.len()).find(|&at| begins_tests(&lines, at))
        };
        let Some(start) = start else {
            return Vec::new();
        };
        let before = |at: usize| {
            at.checked_sub(1)
                .and_then(|b| lines.get(b))
                .copied()
                .unwrap_or_default()
        };
        lines
            .iter()
            .copied()
            .enumerate()
            .skip(start)
            .map(|(at, line)| (at + 1, line, before(at)))
            .collect()
    }
}

fn begins_tests(lines: &[&str], at: usize) -> bool {
    let text = |at: usize| lines.get(at).copied().unwrap_or_default();
    text(at) == "#[cfg(test)]" && text(at + 1).starts_with("mod ") && text(at + 1).ends_with('{')
}

/// The line without its comment. A `//` inside a string cuts too much, which hides nothing that the compiler's lints do not see.
fn code_of(line: &str) -> &str {
    line.find("//")
        .and_then(|at| line.get(..at))
        .unwrap_or(line)
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}

/// All files with one of these endings that people wrote.
pub(crate) fn files(endings: &[&str]) -> Vec<Source> {
    let root = root();
    let mut found = Vec::new();
    for folder in [
        "crates", "services", "tests", "proto", "runbooks", "deploy", ".ci",
    ] {
        walk(&root.join(folder), &root, endings, &mut found);
    }
    assert!(
        !found.is_empty(),
        "no {endings:?} files below {}",
        root.display()
    );
    let modules: Vec<String> = found.iter().flat_map(Source::test_modules).collect();
    for source in &mut found {
        let below = |module: &String| {
            source.path.starts_with(&format!("{module}.rs"))
                || source.path.starts_with(&format!("{module}/"))
        };
        source.is_test |= modules.iter().any(below);
    }
    found
}

fn walk(folder: &Path, root: &Path, endings: &[&str], found: &mut Vec<Source>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    for entry in entries {
        let path = entry
            .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
            .path();
        if path.is_dir() {
            walk(&path, root, endings, found);
            continue;
        }
        let ending = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        if !endings.contains(&ending) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let path = path
            .strip_prefix(root)
            .unwrap_or(&path)
            .to_string_lossy()
            .into_owned();
        let is_test =
            path.starts_with("tests/") || path.contains("/tests/") || path.contains("/benches/");
        found.push(Source {
            path,
            text,
            is_test,
        });
    }
}
