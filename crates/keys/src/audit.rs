//! A provider's own audit: one JSON line a use, appended and synced before the key is used.
//!
//! It is written by the process that uses the key, so it shows honest uses only: whoever copied a key signs elsewhere,
//! and whoever owns this machine can rewrite it. A torn last line (a crash during an append, before any signature) is
//! not returned until another append has ended it; it is then reported as unreadable.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    error::KeyError,
    id::KeyId,
    private_files::{PRIVATE_FILE, sync_parent},
    provider::{AuditEntry, AuditLine, Purpose},
};

/// Longer lines are not ours; they are reported, cut to this many bytes.
const MAX_LINE: usize = 4096;

/// An audit line as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    at: Timestamp,
    key: KeyId,
    purpose: Purpose,
    #[serde(with = "hex::serde")]
    message_sha256: [u8; 32],
}

/// The file `audit.log` of a folder of keys.
pub(crate) struct AuditLog {
    path: PathBuf,
    /// After a failed sync nobody knows what is durable, and asking again may answer a false "yes": no more uses.
    failed: AtomicBool,
}

impl AuditLog {
    /// Finds the log in `dir`, or makes it if the folder `is_new`.
    pub(crate) fn open(dir: &Path, is_new: bool) -> Result<Self, KeyError> {
        let log = Self {
            path: dir.join("audit.log"),
            failed: AtomicBool::new(false),
        };
        if is_new {
            OpenOptions::new()
                .append(true)
                .create(true)
                .mode(PRIVATE_FILE)
                .open(&log.path)
                .map_err(|error| log.unavailable("make", &error))?;
            sync_parent(&log.path)?;
        }
        log.file(OpenOptions::new().read(true))?;
        Ok(log)
    }

    /// Records a use durably. Only after this answers `Ok` may the key be used.
    pub(crate) fn append(&self, entry: &AuditEntry) -> Result<(), KeyError> {
        if self.failed.load(Ordering::Acquire) {
            return Err(self.distrusted());
        }
        let mut file = self.file(OpenOptions::new().read(true).append(true))?;
        let line = self.render(&file, entry)?;
        // One write: appends of several processes do not mix.
        let outcome = file.write_all(&line).and_then(|()| file.sync_data());
        outcome.map_err(|error| {
            self.failed.store(true, Ordering::Release);
            self.unavailable("write", &error)
        })
    }

    /// Whether a use could be recorded now.
    pub(crate) fn check(&self) -> Result<(), KeyError> {
        if self.failed.load(Ordering::Acquire) {
            return Err(self.distrusted());
        }
        self.file(OpenOptions::new().append(true)).map(|_| ())
    }

    /// See [`crate::KeyProvider::audit_after`].
    pub(crate) fn read_after(&self, cursor: u64, limit: usize) -> Result<Vec<AuditLine>, KeyError> {
        let mut file = self.file(OpenOptions::new().read(true))?;
        self.check_cursor(&file, cursor)?;
        file.seek(SeekFrom::Start(cursor))
            .map_err(|error| self.unavailable("read", &error))?;
        let mut reader = BufReader::new(file);
        let mut lines = Vec::new();
        let mut position = cursor;
        while lines.len() < limit {
            let Some((text, bytes)) =
                next_line(&mut reader).map_err(|error| self.unavailable("read", &error))?
            else {
                break;
            };
            position = position.saturating_add(bytes);
            let entry = parse(&text);
            lines.push(AuditLine {
                cursor: position,
                line: String::from_utf8_lossy(&text).into_owned(),
                entry,
            });
        }
        Ok(lines)
    }

    /// The line to append; it ends a torn line of a crashed process first.
    fn render(&self, file: &File, entry: &AuditEntry) -> Result<Vec<u8>, KeyError> {
        let unavailable = |error: &dyn std::fmt::Display| self.unavailable("write", error);
        let length = file.metadata().map_err(|error| unavailable(&error))?.len();
        let mut line = Vec::new();
        if !ends_a_line(file, length).map_err(|error| unavailable(&error))? {
            line.push(b'\n');
        }
        let content = Line {
            at: Timestamp::from_millisecond(entry.at_ms).map_err(|error| unavailable(&error))?,
            key: entry.key.clone(),
            purpose: entry.purpose,
            message_sha256: entry.message_sha256,
        };
        serde_json::to_writer(&mut line, &content).map_err(|error| unavailable(&error))?;
        line.push(b'\n');
        Ok(line)
    }

    fn file(&self, options: &OpenOptions) -> Result<File, KeyError> {
        match options.open(&self.path) {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.corrupt(
                "it is missing, and a key is used only where its uses are recorded".to_owned(),
            )),
            Err(error) => Err(self.unavailable("open", &error)),
        }
    }

    fn check_cursor(&self, file: &File, cursor: u64) -> Result<(), KeyError> {
        let length = file
            .metadata()
            .map_err(|error| self.unavailable("read", &error))?
            .len();
        if cursor > length {
            return Err(self.corrupt(format!(
                "it has {length} bytes, and {cursor} were read before: it was shortened"
            )));
        }
        if ends_a_line(file, cursor).map_err(|error| self.unavailable("read", &error))? {
            Ok(())
        } else {
            Err(self.corrupt(format!(
                "no line ends at byte {cursor}, where one did before: it was rewritten"
            )))
        }
    }

    fn distrusted(&self) -> KeyError {
        self.unavailable(
            "trust",
            &"an earlier write to it failed: mend the disk, then restart",
        )
    }

    fn unavailable(&self, action: &str, error: &dyn std::fmt::Display) -> KeyError {
        KeyError::Unavailable {
            reason: format!("cannot {action} the audit {}: {error}", self.path.display()),
        }
    }

    fn corrupt(&self, reason: String) -> KeyError {
        KeyError::Corrupt {
            what: format!("the audit {}", self.path.display()),
            reason,
        }
    }
}

/// Whether byte `position` of the file begins a line.
fn ends_a_line(file: &File, position: u64) -> io::Result<bool> {
    let Some(before) = position.checked_sub(1) else {
        return Ok(true);
    };
    let mut last = [0_u8; 1];
    file.read_exact_at(&mut last, before)?;
    Ok(last == [b'\n'])
}

/// The next complete line without its end, cut to a little over [`MAX_LINE`], and the bytes it took in the file.
fn next_line(reader: &mut impl BufRead) -> io::Result<Option<(Vec<u8>, u64)>> {
    let mut kept = Vec::new();
    let mut taken = 0_u64;
    loop {
        let mut piece = Vec::new();
        let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        let read = reader.by_ref().take(limit).read_until(b'\n', &mut piece)?;
        if read == 0 {
            return Ok(None);
        }
        taken = taken.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        let ended = piece.pop_if(|byte| *byte == b'\n').is_some();
        // A line may be longer than memory: keep enough of it to show what it is.
        if kept.len() <= MAX_LINE {
            kept.extend_from_slice(&piece);
        }
        if ended {
            return Ok(Some((kept, taken)));
        }
    }
}

fn parse(text: &[u8]) -> Result<AuditEntry, String> {
    if text.len() > MAX_LINE {
        return Err(format!("the line is longer than {MAX_LINE} bytes"));
    }
    let line: Line = serde_json::from_slice(text)
        .map_err(|error| format!("the line is not an audit record: {error}"))?;
    Ok(AuditEntry {
        key: line.key,
        purpose: line.purpose,
        message_sha256: line.message_sha256,
        at_ms: line.at.as_millisecond(),
    })
}
