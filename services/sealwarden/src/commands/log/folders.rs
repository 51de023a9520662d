//! Where logs are.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cli::Cli;
use crate::failure::Failure;

/// Logs lie at most this many folders below where the search begins.
const DEPTH: usize = 6;
/// The file by which a bundle of evidence is known.
const MANIFEST: &str = "manifest.note";
/// Files by which a log's folder is known even when one of them is gone.
const SIGNS: [&str; 3] = ["log.json", "checkpoint", "tile"];

/// The logs in `dir`, or of the installation together with those in `expected`, which must be there.
pub(super) fn find(
    cli: &Cli,
    dir: Option<&Path>,
    expected: &[PathBuf],
) -> Result<Vec<PathBuf>, Failure> {
    let start = dir.unwrap_or(&cli.data);
    if !start.is_dir() {
        return Err(Failure::usage(format!(
            "{} is not a folder; name a log's folder, or the installation's with --data",
            start.display()
        )));
    }
    let mut found = expected.to_vec();
    search(start, DEPTH, &mut found);
    found.sort();
    found.dedup();
    if found.is_empty() {
        return Err(Failure::usage(format!(
            "there is no seal log in {}; name its folder, or the installation's with --data",
            start.display()
        )));
    }
    Ok(found)
}

/// The names in a folder, sorted.
pub(super) fn names(dir: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn search(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let signs = SIGNS.iter().filter(|sign| dir.join(sign).exists());
    if dir.join(SIGNS[0]).exists() || signs.count() > 1 {
        found.push(dir.to_path_buf());
        return;
    }
    // A bundle of evidence holds copies of a log's public files; `evidence verify` checks them.
    if depth == 0 || dir.join(MANIFEST).exists() {
        return;
    }
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        // Links are not followed: they could lead round in circles.
        if entry.file_type().is_ok_and(|it| it.is_dir()) {
            search(&entry.path(), depth - 1, found);
        }
    }
}
