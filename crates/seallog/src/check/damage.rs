//! What is wrong, and where.

use super::MAX_DAMAGE;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// In which way a file is not as it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DamageKind {
    /// Bytes were changed.
    Changed,
    /// The file ends too early.
    Truncated,
    /// Bytes follow the file's end.
    Appended,
    /// The file is not there.
    Missing,
    /// The file does not belong here.
    Extra,
    /// The operating system does not hand its bytes out.
    Unreadable,
    /// It is sound in itself, and says something else than the tree.
    Contradiction,
}

impl DamageKind {
    /// The kind as the command line writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Truncated => "truncated",
            Self::Appended => "appended",
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Unreadable => "unreadable",
            Self::Contradiction => "contradiction",
        }
    }
}

impl fmt::Display for DamageKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// One damaged range of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file, from the log's folder.
    pub path: PathBuf,
    /// In which way.
    pub kind: DamageKind,
    /// The first damaged byte.
    pub offset: u64,
    /// How many bytes; for a missing file 0 where its length is not known.
    pub length: u64,
    /// What must stand there.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{}: {} at byte {}, {} bytes: expected {}; found {}",
            self.path.display(),
            self.kind,
            self.offset,
            self.length,
            self.expected,
            self.found
        )
    }
}

/// How many bytes a description shows.
const SHOWN_BYTES: usize = 32;

/// Collects damage, and counts what was looked at.
pub(super) struct Findings<'a> {
    pub(super) dir: &'a Path,
    pub(super) damage: Vec<Damage>,
    pub(super) count: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) unpublished: u64,
    pub(super) erased: u64,
    pub(super) erasing: u64,
}

impl<'a> Findings<'a> {
    pub(super) fn new(dir: &'a Path) -> Self {
        Self {
            dir,
            damage: Vec::new(),
            count: 0,
            files: 0,
            bytes: 0,
            unpublished: 0,
            erased: 0,
            erasing: 0,
        }
    }

    pub(super) fn add(&mut self, damage: Damage) {
        self.count += 1;
        if self.damage.len() < MAX_DAMAGE {
            self.damage.push(damage);
        }
    }

    pub(super) fn report(
        &mut self,
        path: &Path,
        kind: DamageKind,
        (offset, length): (u64, u64),
        expected: impl Into<String>,
        found: impl Into<String>,
    ) {
        self.add(Damage {
            path: path.to_path_buf(),
            kind,
            offset,
            length,
            expected: expected.into(),
            found: found.into(),
        });
    }

    /// Reads at most `limit` bytes of a file, and how long it is. `None` if it is not there or cannot be read; the latter
    /// is reported.
    pub(super) fn read(&mut self, path: &Path, limit: usize) -> Option<(Vec<u8>, u64)> {
        match read_up_to(&self.dir.join(path), limit) {
            Ok(read) => {
                self.files += 1;
                self.bytes += count(read.0.len());
                Some(read)
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    self.unreadable(path, &error);
                }
                None
            }
        }
    }

    pub(super) fn unreadable(&mut self, path: &Path, error: &io::Error) {
        self.report(
            path,
            DamageKind::Unreadable,
            (0, 0),
            "a readable file",
            error.to_string(),
        );
    }

    pub(super) fn missing(&mut self, path: &Path, length: u64, what: &str) {
        self.report(path, DamageKind::Missing, (0, length), what, "no such file");
    }

    /// Reports a file that is shorter or longer than it must be.
    pub(super) fn length(&mut self, path: &Path, found: u64, expected: u64) {
        let words = (format!("{expected} bytes"), format!("{found} bytes"));
        if found < expected {
            let range = (found, expected - found);
            self.report(path, DamageKind::Truncated, range, words.0, words.1);
        } else if found > expected {
            let range = (expected, found - expected);
            self.report(path, DamageKind::Appended, range, words.0, words.1);
        }
    }

    /// Reports each run of bytes that differ, as far as both go.
    pub(super) fn compare(&mut self, path: &Path, found: &[u8], expected: &[u8], what: &str) {
        let common = found.len().min(expected.len());
        if found.get(..common) == expected.get(..common) {
            return;
        }
        let mut place = 0;
        while let Some(run) = next_run(found, expected, place) {
            place = run.end;
            self.report(
                path,
                DamageKind::Changed,
                (count(run.start), count(run.len())),
                format!("{} ({what})", shown(expected.get(run.clone()))),
                shown(found.get(run)),
            );
        }
    }
}

/// The next run of differing bytes from `from` on.
fn next_run(found: &[u8], expected: &[u8], from: usize) -> Option<std::ops::Range<usize>> {
    let mut pairs = found.iter().zip(expected).enumerate().skip(from);
    let (start, _) = pairs.find(|(_, (found, expected))| found != expected)?;
    let common = found.len().min(expected.len());
    let end = pairs
        .find(|(_, (found, expected))| found == expected)
        .map_or(common, |(end, _)| end);
    Some(start..end)
}

pub(super) fn shown(bytes: Option<&[u8]>) -> String {
    let bytes = bytes.unwrap_or_default();
    let mut text = String::new();
    for byte in bytes.iter().take(SHOWN_BYTES) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    if bytes.len() > SHOWN_BYTES {
        text.push('…');
    }
    text
}

pub(super) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn read_up_to(path: &Path, limit: usize) -> io::Result<(Vec<u8>, u64)> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut bytes = Vec::with_capacity(limit.min(usize::try_from(length).unwrap_or(limit)));
    file.take(count(limit)).read_to_end(&mut bytes)?;
    Ok((bytes, length))
}
