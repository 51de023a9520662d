//! The audit file, followed through rotation: a file that was renamed is read to its end, then the new one from its beginning.
//!
//! **Positions** count bytes through all files ("parts") that had the audit's name since it was first read; in the first part they are offsets. What is
//! known of the parts is kept, so that a position means the same after a restart. After a break, where bytes may be missing, positions go on [`LEAP`]
//! further: above all that anybody was told before.
//!
//! **Rotation** (`mv`, then SIGHUP) is known by the new file's first line: the server writes it after it has closed the old file, and it is not older
//! than the old file's last. An old file is found by its handle, or after a restart by its inode among the neighbours.

mod breaks;
mod bytes;

use std::{
    collections::VecDeque,
    fs::{File, Metadata},
    io::{BufReader, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use self::bytes::{At, ends_a_line, last_line_end};
use super::{
    audit::{Interest, MAX_LINE, Said, Shown, next_line},
    memory::Digest,
    trail::sha256,
};
use crate::{
    error::KeyError,
    id::KeyId,
    provider::{AuditGapKind, Purpose},
};

/// Of a line at most this much is handed on, in bytes.
const KEPT: usize = 4096;
/// How far positions go on after a break: further than an audit grows between two states on the disk.
const LEAP: u64 = 1 << 40;
/// How many parts and breaks are remembered.
const REMEMBERED: usize = 32;
/// How many uses that were read are remembered, to name those that somebody removes later.
const RECENT: usize = 4096;

/// How many of them are named.
pub(super) const NAMED: usize = 64;

/// A file among others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// The last line that was read of a part: a file that was rewritten has another one there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Last {
    /// The byte after its line end, in the file.
    end: u64,
    /// Length and SHA-256 of its last bytes, line end included.
    length: usize,
    #[serde(with = "hex::serde")]
    sha256: Digest,
    /// Its time, Unix milliseconds; of a line that tells none, that of the line before.
    at_ms: i64,
    /// It, cut.
    text: String,
}

/// A file that had the audit's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    file: Identity,
    /// The position of byte `start` of the file.
    base: u64,
    start: u64,
    last: Option<Last>,
    /// What is not read of it is gone.
    gone: bool,
}

impl Part {
    fn new(file: Identity, base: u64, start: u64) -> Self {
        Self {
            file,
            base,
            start,
            last: None,
            gone: false,
        }
    }

    fn position(&self, offset: u64) -> u64 {
        self.base.saturating_add(offset.saturating_sub(self.start))
    }

    fn offset(&self, position: u64) -> u64 {
        self.start
            .saturating_add(position.saturating_sub(self.base))
    }

    /// Where reading got to, in the file.
    fn read(&self) -> u64 {
        self.last.as_ref().map_or(self.start, |last| last.end)
    }
}

/// A use that a line showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) key: KeyId,
    pub(super) purpose: Purpose,
    pub(super) at_ms: i64,
    pub(super) shown: Shown,
}

/// Something that was done to the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Break {
    pub(super) kind: AuditGapKind,
    /// When it was noticed, Unix milliseconds.
    pub(super) at_ms: i64,
    /// What was found, with the lines that matter.
    pub(super) evidence: String,
    /// Uses that were read before and that the file does not show any more, although it begins before them: of many the first [`NAMED`].
    pub(super) removed: Vec<Seen>,
    /// How many they are.
    pub(super) count: usize,
}

/// What is kept on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parts {
    parts: Vec<Part>,
    breaks: VecDeque<Break>,
}

/// One complete line.
pub(super) struct Line {
    /// The position after its line end.
    pub(super) end: u64,
    /// Its text, cut.
    pub(super) text: String,
    pub(super) said: Said,
}

/// What one reading found.
pub(super) struct Reading {
    /// The lines that speak of our keys or cannot be understood.
    pub(super) lines: Vec<Line>,
    /// Everything before this position is read.
    pub(super) end: u64,
}

/// The file. Its functions block their thread.
pub(super) struct Follower {
    path: PathBuf,
    interest: Interest,
    known: Parts,
    /// Handles of the newest parts, by their base: a renamed, packed or deleted file can still be read.
    handles: Vec<(u64, File)>,
    recent: VecDeque<Seen>,
}

impl Follower {
    pub(super) fn new(path: &Path, interest: Interest, known: Parts) -> Self {
        let mut follower = Self {
            path: path.to_owned(),
            interest,
            known,
            handles: Vec::new(),
            recent: VecDeque::new(),
        };
        follower.begin();
        follower
    }

    /// Takes what was done to the file and nobody was told yet.
    pub(super) fn take_breaks(&mut self) -> VecDeque<Break> {
        std::mem::take(&mut self.known.breaks)
    }

    pub(super) fn known(&self) -> &Parts {
        &self.known
    }

    /// The position after the last complete line there is now.
    pub(super) fn end(&mut self) -> u64 {
        let Some(part) = self.known.parts.last().cloned() else {
            return 0;
        };
        let end = self.handle(&part).and_then(last_line_end);
        part.position(end.unwrap_or(part.start).max(part.start))
    }

    /// The file that is read now.
    pub(super) fn current(&self) -> Option<File> {
        let (_, file) = self.handles.last()?;
        file.try_clone().ok()
    }

    /// The last line that was read, and of which file, for a person.
    pub(super) fn last_line(&self) -> String {
        let last = self.known.parts.last().and_then(|part| part.last.as_ref());
        match last {
            Some(last) => format!(
                "{}: the last line read ends at byte {}: {}",
                self.path.display(),
                last.end,
                last.text
            ),
            None => format!("{}: no line was read of it", self.path.display()),
        }
    }

    /// Reads on after position `from` until `limit` lines of interest are found.
    pub(super) fn read(&mut self, from: u64, limit: usize) -> Result<Reading, KeyError> {
        self.begin();
        let mut reading = Reading {
            lines: Vec::new(),
            end: from,
        };
        if !self.check(from)? {
            return Ok(reading);
        }
        // Each round reads a part to its end or leads to the next one.
        for _ in 0..=REMEMBERED.saturating_mul(2) {
            let Some(index) = self.part_of(reading.end) else {
                break;
            };
            self.read_part(index, limit, &mut reading)?;
            if reading.lines.len() >= limit {
                break;
            }
            let next = self.known.parts.get(index.saturating_add(1));
            match next.map(|next| next.base) {
                Some(base) => reading.end = reading.end.max(base),
                None if self.turn(reading.end)? => {}
                None => break,
            }
        }
        Ok(reading)
    }

    /// The first part, once there is a file.
    fn begin(&mut self) {
        if self.known.parts.is_empty()
            && let Ok(file) = File::open(&self.path)
            && let Ok(metadata) = file.metadata()
        {
            self.add(Part::new(Identity::of(&metadata), 0, 0), Some(file));
        }
    }

    fn add(&mut self, part: Part, file: Option<File>) {
        if let Some(file) = file {
            self.handles.push((part.base, file));
        }
        // Handles of older files would keep their space on the disk.
        let excess = self.handles.len().saturating_sub(2);
        self.handles.drain(..excess);
        self.known.parts.push(part);
        let excess = self.known.parts.len().saturating_sub(REMEMBERED);
        self.known.parts.drain(..excess);
    }

    fn part_of(&self, position: u64) -> Option<usize> {
        let after = self
            .known
            .parts
            .partition_point(|part| part.base <= position);
        // What is older than the oldest part known goes on there.
        (!self.known.parts.is_empty()).then(|| after.saturating_sub(1))
    }

    fn handle(&mut self, part: &Part) -> Option<&File> {
        if !self.handles.iter().any(|(base, _)| *base == part.base) {
            let found = self
                .neighbours()
                .into_iter()
                .chain(std::iter::once(self.path.clone()))
                .find_map(|path| {
                    let file = File::open(path).ok()?;
                    let metadata = file.metadata().ok()?;
                    (Identity::of(&metadata) == part.file).then_some(file)
                })?;
            let at = self.handles.partition_point(|(base, _)| *base < part.base);
            self.handles.insert(at, (part.base, found));
        }
        self.handles
            .iter()
            .find(|(base, _)| *base == part.base)
            .map(|(_, file)| file)
    }

    /// Files beside the audit whose names begin with its own, as rotated ones' do.
    fn neighbours(&self) -> Vec<PathBuf> {
        let (Some(dir), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return Vec::new();
        };
        let prefix = name.to_string_lossy();
        // `audit.log` becomes `audit.log.1`, `audit.log-20261123` or `audit-….log`.
        let prefix = prefix.split('.').next().unwrap_or_default();
        let Ok(entries) = std::fs::read_dir(dir) else {
            return Vec::new();
        };
        entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
            .map(|entry| entry.path())
            .filter(|path| *path != self.path)
            .collect()
    }

    fn read_part(
        &mut self,
        index: usize,
        limit: usize,
        reading: &mut Reading,
    ) -> Result<(), KeyError> {
        let Some(mut part) = self.known.parts.get(index).cloned() else {
            return Ok(());
        };
        let is_last = index.saturating_add(1) == self.known.parts.len();
        if part.gone {
            return Ok(());
        }
        let before = part.read();
        let position = reading.end.max(part.base);
        let Some(file) = self.handle(&part).map(File::try_clone) else {
            if !is_last {
                self.lost(index);
            }
            return Ok(());
        };
        let path = self.path.clone();
        let unavailable = |error: std::io::Error| unavailable(&path, &error);
        let mut file = file.map_err(unavailable)?;
        let mut offset = part.offset(position);
        if !ends_a_line(&file, offset).map_err(unavailable)? {
            // It was read further than is known here, and is not what it was.
            if is_last {
                let identity = part.file;
                return self.broken(AuditGapKind::Rewritten, identity, file, position);
            }
            self.lost(index);
            return Ok(());
        }
        file.seek(SeekFrom::Start(offset)).map_err(unavailable)?;
        let mut reader = BufReader::with_capacity(64 * 1024, file);
        let mut at_ms = part.last.as_ref().map_or(0, |last| last.at_ms);
        while reading.lines.len() < limit {
            let Some((bytes, taken)) = next_line(&mut reader).map_err(unavailable)? else {
                break;
            };
            offset = offset.saturating_add(taken);
            reading.end = part.position(offset);
            let (said, time) = self.interest.understand(&bytes);
            at_ms = time.unwrap_or(at_ms);
            if offset > part.read() {
                part.last = Some(last(&bytes, offset, at_ms));
                self.remember(&said);
            }
            if said != Said::Nothing {
                reading.lines.push(Line {
                    end: reading.end,
                    text: cut(&bytes),
                    said,
                });
            }
        }
        if part.read() > before
            && let Some(known) = self.known.parts.get_mut(index)
        {
            *known = part;
        }
        Ok(())
    }

    fn remember(&mut self, said: &Said) {
        if let Said::Used {
            key,
            purpose,
            at_ms,
            messages,
        } = said
        {
            for shown in messages {
                self.recent.push_back(Seen {
                    key: key.clone(),
                    purpose: *purpose,
                    at_ms: *at_ms,
                    shown: *shown,
                });
            }
            let excess = self.recent.len().saturating_sub(RECENT);
            self.recent.drain(..excess);
        }
    }

    /// Goes over to the file that has the audit's name now, if the newest part has ended. Answers whether there is more to read.
    fn turn(&mut self, told: u64) -> Result<bool, KeyError> {
        let Some(part) = self.known.parts.last().cloned() else {
            return Ok(false);
        };
        let Ok(new) = File::open(&self.path) else {
            return Ok(false);
        };
        let metadata = new
            .metadata()
            .map_err(|error| unavailable(&self.path, &error))?;
        let identity = Identity::of(&metadata);
        if identity == part.file {
            return Ok(false);
        }
        // Until the server has written a line to it, it may still write to the old one.
        let Some(first_ms) = self.first_time(&new) else {
            return Ok(false);
        };
        let Some(old) = self.handle(&part) else {
            self.broken(AuditGapKind::Lost, identity, new, told)?;
            return Ok(true);
        };
        // With what came between our last look at the old file and the server's leaving it.
        let end = last_line_end(old).unwrap_or_default();
        let last_ms = self.last_time();
        if first_ms < last_ms {
            self.broken(AuditGapKind::Replaced, identity, new, told)?;
            return Ok(true);
        }
        let mut base = part.position(end.max(part.read())).max(told);
        for (identity, file, length) in self.between(first_ms, last_ms, identity, part.file) {
            self.add(Part::new(identity, base, 0), Some(file));
            base = base.saturating_add(length);
        }
        self.add(Part::new(identity, base, 0), Some(new));
        Ok(true)
    }

    /// Neighbours that were the audit after the newest part and before the file that is it now, oldest first.
    fn between(
        &self,
        before_ms: i64,
        after_ms: i64,
        now: Identity,
        old: Identity,
    ) -> Vec<(Identity, File, u64)> {
        let known: Vec<Identity> = self.known.parts.iter().map(|part| part.file).collect();
        let mut found: Vec<(i64, Identity, File, u64)> = self
            .neighbours()
            .into_iter()
            .filter_map(|path| {
                let file = File::open(path).ok()?;
                let metadata = file.metadata().ok()?;
                let identity = Identity::of(&metadata);
                let is_new = identity != now && identity != old && !known.contains(&identity);
                let first_ms = self.first_time(&file)?;
                let fits = metadata.is_file() && (after_ms..=before_ms).contains(&first_ms);
                (is_new && fits).then_some((first_ms, identity, file, metadata.len()))
            })
            .collect();
        found.sort_by_key(|(first_ms, ..)| *first_ms);
        found
            .into_iter()
            .map(|(_, identity, file, length)| (identity, file, length))
            .collect()
    }

    fn last_time(&self) -> i64 {
        let last = self.known.parts.last().and_then(|part| part.last.as_ref());
        last.map_or(i64::MIN, |last| last.at_ms)
    }

    /// The time of a file's first line; `None` before it has one.
    fn first_time(&self, file: &File) -> Option<i64> {
        let mut reader = BufReader::new(At { file, offset: 0 });
        let (bytes, _) = next_line(&mut reader).ok()??;
        // What is no audit line is read, and reported, as the next part.
        Some(self.interest.understand(&bytes).1.unwrap_or(i64::MAX))
    }
}

/// `bytes` is the line without its end, which is at `end`.
fn last(bytes: &[u8], end: u64, at_ms: i64) -> Last {
    let from = bytes.len().saturating_sub(KEPT);
    let mut tail = bytes.get(from..).unwrap_or_default().to_vec();
    tail.push(b'\n');
    if bytes.len() > MAX_LINE {
        // Its end was not kept.
        tail.clear();
    }
    Last {
        end,
        length: tail.len(),
        sha256: sha256(&tail),
        at_ms,
        text: cut(bytes).chars().take(KEPT / 4).collect(),
    }
}

fn cut(bytes: &[u8]) -> String {
    let kept = bytes.get(..KEPT).unwrap_or(bytes);
    String::from_utf8_lossy(kept).into_owned()
}

fn unavailable(path: &Path, error: &std::io::Error) -> KeyError {
    KeyError::Unavailable {
        reason: format!("cannot read the audit {}: {error}", path.display()),
    }
}
