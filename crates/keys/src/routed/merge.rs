//! One audit out of two, under one cursor that only grows.
//!
//! Two files that grow by themselves have no order, so the order in which their lines were first read is kept: a file
//! of 16-byte steps, each the two cursors after one more line. Up to `base` the merged cursor is the second provider's
//! own: whoever copied that audit before the two were put together goes on where it was. After that it counts steps.
//!
//! ```text
//! "swmerge1" | base (u64 BE)                     once
//! sealing cursor (u64 BE) | others' cursor (u64 BE)   a step
//! ```

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use tokio::sync::Mutex;

use crate::{
    blocking::blocking,
    error::KeyError,
    private_files::{self, PRIVATE_FILE},
    provider::{AuditLine, KeyProvider},
};

const MAGIC: [u8; 8] = *b"swmerge1";
/// Bytes of the head, and of a step.
const STEP: u64 = 16;
/// Lines read at once to find the end of an audit.
const PAGE: usize = 4096;

/// The two cursors after a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    sealing: u64,
    others: u64,
}

impl Step {
    fn to_bytes(self) -> [u8; 16] {
        pair(self.sealing.to_be_bytes(), self.others)
    }
}

/// The order of a merged audit.
pub(super) struct Merge {
    path: PathBuf,
    base: u64,
    /// One reader at a time: each may append steps.
    reading: Mutex<()>,
}

impl Merge {
    /// Opens the order, or begins one at the present end of the second provider's audit.
    pub(super) async fn open(path: PathBuf, others: &dyn KeyProvider) -> Result<Self, KeyError> {
        let at = path.clone();
        let known = blocking(move || read_base(&at)).await?;
        let base = if let Some(base) = known {
            base
        } else {
            let base = end_of(others).await?;
            let at = path.clone();
            blocking(move || begin(&at, base)).await?
        };
        Ok(Self {
            path,
            base,
            reading: Mutex::new(()),
        })
    }

    /// See [`KeyProvider::audit_after`].
    pub(super) async fn read_after(
        &self,
        sealing: &dyn KeyProvider,
        others: &dyn KeyProvider,
        cursor: u64,
        limit: usize,
    ) -> Result<Vec<AuditLine>, KeyError> {
        let _one = self.reading.lock().await;
        if cursor < self.base {
            let mut lines = others.audit_after(cursor, limit).await?;
            lines.retain(|line| line.cursor <= self.base);
            return Ok(lines);
        }
        let done = cursor - self.base;
        let (mut from, mut steps) = self.steps(done, limit).await?;
        if steps.is_empty() {
            steps = self.extend(sealing, others, from, limit).await?;
        }
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        // The steps say how many lines of which audit follow, and where each ends.
        let mine = steps.iter().map(|step| step.sealing);
        let count = moves(from.sealing, mine);
        let mut mine = sealing.audit_after(from.sealing, count).await?.into_iter();
        let theirs = steps.iter().map(|step| step.others);
        let count = moves(from.others, theirs);
        let mut theirs = others.audit_after(from.others, count).await?.into_iter();
        let mut lines = Vec::with_capacity(steps.len());
        for (number, step) in (cursor..).zip(steps) {
            let (line, end) = if step.sealing == from.sealing {
                (theirs.next(), step.others)
            } else {
                (mine.next(), step.sealing)
            };
            let Some(line) = line.filter(|line| line.cursor == end) else {
                return Err(self.corrupt(format!(
                    "it says that a line ends at byte {end} of an audit, and none does: that audit was rewritten"
                )));
            };
            lines.push(AuditLine {
                cursor: number.saturating_add(1),
                ..line
            });
            from = step;
        }
        Ok(lines)
    }

    /// The cursors after `done` steps, and at most `limit` steps that follow.
    async fn steps(&self, done: u64, limit: usize) -> Result<(Step, Vec<Step>), KeyError> {
        let (path, base) = (self.path.clone(), self.base);
        blocking(move || {
            read_steps(&path, base, done, limit).map_err(|error| unusable("read", &path, &error))
        })
        .await?
        .ok_or_else(|| {
            self.corrupt(format!(
                "it has fewer than the {done} lines that were read before: it was shortened"
            ))
        })
    }

    /// Decides the order of new lines, durably before anybody sees them under it.
    async fn extend(
        &self,
        sealing: &dyn KeyProvider,
        others: &dyn KeyProvider,
        from: Step,
        limit: usize,
    ) -> Result<Vec<Step>, KeyError> {
        let mut steps = Vec::new();
        let mut now = from;
        for line in sealing.audit_after(from.sealing, limit).await? {
            now.sealing = line.cursor;
            steps.push(now);
        }
        let left = limit.saturating_sub(steps.len());
        for line in others.audit_after(from.others, left).await? {
            now.others = line.cursor;
            steps.push(now);
        }
        if steps.is_empty() {
            return Ok(steps);
        }
        let path = self.path.clone();
        blocking(move || {
            let written = append(&path, &steps).map(|()| steps);
            written.map_err(|error| unusable("extend", &path, &error))
        })
        .await
    }

    fn corrupt(&self, reason: String) -> KeyError {
        corrupt(&self.path, reason)
    }
}

/// How often a cursor moves on.
fn moves(from: u64, cursors: impl Iterator<Item = u64>) -> usize {
    let mut last = from;
    cursors
        .filter(|cursor| std::mem::replace(&mut last, *cursor) != *cursor)
        .count()
}

async fn end_of(provider: &dyn KeyProvider) -> Result<u64, KeyError> {
    let mut end = 0;
    while let Some(last) = provider.audit_after(end, PAGE).await?.last() {
        end = last.cursor;
    }
    Ok(end)
}

fn begin(path: &Path, base: u64) -> Result<u64, KeyError> {
    let head = pair(MAGIC, base);
    if private_files::create(path, &head, PRIVATE_FILE)? {
        return Ok(base);
    }
    // Another process was first: its decision holds.
    read_base(path)?.ok_or_else(|| corrupt(path, "it vanished".to_owned()))
}

fn read_base(path: &Path) -> Result<Option<u64>, KeyError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable("open", path, &error)),
    };
    let (magic, base) = read_pair(&mut file).map_err(|error| unusable("read", path, &error))?;
    if magic == MAGIC {
        Ok(Some(base))
    } else {
        Err(corrupt(path, "it does not begin as it should".to_owned()))
    }
}

/// `None` if the file has fewer than `done` steps.
fn read_steps(
    path: &Path,
    base: u64,
    done: u64,
    limit: usize,
) -> io::Result<Option<(Step, Vec<Step>)>> {
    let mut file = File::open(path)?;
    let known = (file.metadata()?.len() / STEP).saturating_sub(1);
    if done > known {
        return Ok(None);
    }
    let mut from = Step {
        sealing: 0,
        others: base,
    };
    if done > 0 {
        file.seek(SeekFrom::Start(done.saturating_mul(STEP)))?;
        from = read_step(&mut file)?;
    } else {
        file.seek(SeekFrom::Start(STEP))?;
    }
    let follow = (known - done).min(u64::try_from(limit).unwrap_or(u64::MAX));
    let mut reader = io::BufReader::new(file);
    let steps = (0..follow).map(|_| read_step(&mut reader));
    Ok(Some((from, steps.collect::<io::Result<_>>()?)))
}

fn append(path: &Path, steps: &[Step]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    // A crash may have left part of a step, which nobody was told of.
    let whole = file.metadata()?.len() / STEP * STEP;
    file.set_len(whole)?;
    file.seek(SeekFrom::End(0))?;
    let bytes: Vec<u8> = steps.iter().flat_map(|step| step.to_bytes()).collect();
    file.write_all(&bytes)?;
    file.sync_data()
}

fn read_step(file: &mut impl Read) -> io::Result<Step> {
    let (sealing, others) = read_pair(file)?;
    Ok(Step {
        sealing: u64::from_be_bytes(sealing),
        others,
    })
}

fn pair(first: [u8; 8], second: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    let (head, tail) = bytes.split_at_mut(8);
    head.copy_from_slice(&first);
    tail.copy_from_slice(&second.to_be_bytes());
    bytes
}

fn read_pair(file: &mut impl Read) -> io::Result<([u8; 8], u64)> {
    let (mut first, mut second) = ([0; 8], [0; 8]);
    file.read_exact(&mut first)?;
    file.read_exact(&mut second)?;
    Ok((first, u64::from_be_bytes(second)))
}

fn unusable(action: &str, path: &Path, error: &io::Error) -> KeyError {
    KeyError::Unavailable {
        reason: format!(
            "cannot {action} the audit's order {}: {error}",
            path.display()
        ),
    }
}

fn corrupt(path: &Path, reason: String) -> KeyError {
    KeyError::Corrupt {
        what: path.display().to_string(),
        reason,
    }
}
