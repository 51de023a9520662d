//! One audit out of several, under one cursor that only grows.
//!
//! Files that grow by themselves have no order, so the order in which their lines were first read is kept: a file of
//! 16-byte steps, each saying whose line came next and where it ends. Up to `base` the merged cursor is that of the provider
//! of all other keys: whoever copied that audit before the set was made goes on where it was. After that it counts steps.
//!
//! ```text
//! audit.order            "swmerge2" | base (u64 BE)                        once
//!                        whose (u64 BE, an index) | its cursor (u64 BE)    a step
//! audit.providers.json   the names that the indices mean; only ever longer
//! ```
//!
//! The two providers of earlier versions had a file `swmerge1` of the same sizes, with the cursors of both in each step; it is
//! taken over step by step, so that cursors keep their meaning.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::sync::Mutex;

use crate::{
    blocking::blocking,
    error::KeyError,
    private_files::{self, PRIVATE_FILE},
    provider::{AuditLine, KeyProvider},
};

const MAGIC: [u8; 8] = *b"swmerge2";
const OLD_MAGIC: [u8; 8] = *b"swmerge1";
/// Bytes of the head, and of a step.
const STEP: u64 = 16;
/// Lines read at once to find the end of an audit.
const PAGE: usize = 4096;
/// The list of names is shorter, in bytes.
const MAX_NAMES: u64 = 64 * 1024;

/// Whose line comes next, and its cursor in that audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    whose: usize,
    cursor: u64,
}

/// One audit of those that are merged.
pub(super) struct Source {
    /// Whose it is.
    pub(super) name: String,
    /// Who reads it; `None` while the provider has not come up.
    pub(super) provider: Option<Arc<dyn KeyProvider>>,
    /// How long reading may take.
    pub(super) deadline: Duration,
}

impl Source {
    async fn after(&self, cursor: u64, limit: usize) -> Result<Vec<AuditLine>, KeyError> {
        let unavailable = |reason: String| KeyError::Unavailable { reason };
        let Some(provider) = &self.provider else {
            return Err(unavailable(format!(
                "the audit of {} cannot be read: it has not come up",
                self.name
            )));
        };
        tokio::time::timeout(self.deadline, provider.audit_after(cursor, limit))
            .await
            .unwrap_or_else(|_elapsed| {
                Err(unavailable(format!(
                    "the audit of {} was not read within {} ms",
                    self.name,
                    self.deadline.as_millis()
                )))
            })
    }
}

/// An order of earlier versions that is taken over.
#[derive(Clone, Debug)]
pub struct EarlierOrder {
    /// Its file.
    pub path: PathBuf,
    /// The member that its sealing keys were in.
    pub sealing: String,
}

/// The order of a merged audit.
pub(super) struct Merge {
    path: PathBuf,
    base: u64,
    reading: Mutex<Reading>,
}

/// One reader at a time: each may append steps.
struct Reading {
    /// Whose lines there are, by index.
    names: Vec<String>,
    /// Where the last reader stopped: so many steps, and the cursors after them.
    done: u64,
    cursors: Vec<u64>,
}

impl Merge {
    /// Opens the order in `dir`, or begins one at the present end of the audit of `others`.
    pub(super) async fn open(
        dir: &Path,
        others: &dyn KeyProvider,
        earlier: Option<EarlierOrder>,
    ) -> Result<Self, KeyError> {
        let path = dir.join("audit.order");
        let others_name = others.name().to_owned();
        let at = path.clone();
        let known = blocking(move || match (read_base(&at)?, earlier) {
            (None, Some(earlier)) => take_over(&at, &earlier, &others_name),
            (known, _) => Ok(known),
        })
        .await?;
        let base = if let Some(base) = known {
            base
        } else {
            let base = end_of(others).await?;
            let at = path.clone();
            blocking(move || begin(&at, base)).await?
        };
        let (at, first) = (path.clone(), others.name().to_owned());
        let names = blocking(move || read_names(&at, first)).await?;
        let reading = Reading {
            cursors: start(base, names.len()),
            names,
            done: 0,
        };
        Ok(Self {
            path,
            base,
            reading: Mutex::new(reading),
        })
    }

    /// See [`KeyProvider::audit_after`]. The first of `sources` is the provider of all other keys.
    pub(super) async fn read_after(
        &self,
        sources: &[Source],
        cursor: u64,
        limit: usize,
    ) -> Result<Vec<AuditLine>, KeyError> {
        let mut reading = self.reading.lock().await;
        if cursor < self.base {
            let Some(others) = sources.first() else {
                return Ok(Vec::new());
            };
            let mut lines = others.after(cursor, limit).await?;
            lines.retain(|line| line.cursor <= self.base);
            return Ok(lines);
        }
        self.know(&mut reading, sources).await?;
        self.go_to(&mut reading, cursor - self.base).await?;
        let steps = self.steps(reading.done, limit).await?;
        let (steps, lines) = if steps.is_empty() {
            self.extend(&reading, sources, limit).await?
        } else {
            let lines = self.lines(&reading, sources, &steps).await?;
            (steps, lines)
        };
        let numbered = (cursor.saturating_add(1)..).zip(lines);
        let lines = numbered
            .map(|(cursor, line)| AuditLine { cursor, ..line })
            .collect();
        pass(&mut reading, &steps);
        Ok(lines)
    }

    /// Gives every source an index, durably before a step uses it.
    async fn know(&self, reading: &mut Reading, sources: &[Source]) -> Result<(), KeyError> {
        let mut names = reading.names.clone();
        for source in sources {
            if !names.contains(&source.name) {
                names.push(source.name.clone());
            }
        }
        if names.len() > reading.names.len() {
            let (path, stored) = (names_path(&self.path), names.clone());
            blocking(move || write_names(&path, &stored)).await?;
            reading.cursors.resize(names.len(), 0);
            reading.names = names;
        }
        Ok(())
    }

    /// Brings the cursors to where they stand after `done` steps.
    async fn go_to(&self, reading: &mut Reading, done: u64) -> Result<(), KeyError> {
        if done < reading.done {
            reading.done = 0;
            reading.cursors = start(self.base, reading.names.len());
        }
        while reading.done < done {
            let most = usize::try_from(done - reading.done).unwrap_or(usize::MAX);
            let steps = self.steps(reading.done, most.min(PAGE)).await?;
            if steps.is_empty() {
                return Err(self.shortened(done));
            }
            self.check(reading, &steps)?;
            pass(reading, &steps);
        }
        Ok(())
    }

    /// At most `limit` steps after `done`.
    async fn steps(&self, done: u64, limit: usize) -> Result<Vec<Step>, KeyError> {
        let path = self.path.clone();
        let steps = blocking(move || {
            read_steps(&path, done, limit).map_err(|error| unusable("read", &path, &error))
        });
        steps.await?.ok_or_else(|| self.shortened(done))
    }

    fn check(&self, reading: &Reading, steps: &[Step]) -> Result<(), KeyError> {
        match steps.iter().find(|step| step.whose >= reading.names.len()) {
            None => Ok(()),
            Some(step) => Err(self.corrupt(format!(
                "a step of it is of provider {}, and the list beside it has {}",
                step.whose,
                reading.names.len()
            ))),
        }
    }

    /// The lines that known steps stand for.
    async fn lines(
        &self,
        reading: &Reading,
        sources: &[Source],
        steps: &[Step],
    ) -> Result<Vec<AuditLine>, KeyError> {
        self.check(reading, steps)?;
        let mut parts = Vec::with_capacity(reading.names.len());
        for (index, (name, from)) in reading.names.iter().zip(&reading.cursors).enumerate() {
            let count = steps.iter().filter(|step| step.whose == index).count();
            let lines = if count == 0 {
                Vec::new()
            } else {
                let source = sources.iter().find(|source| source.name == *name);
                let source = source.ok_or_else(|| KeyError::Unavailable {
                    reason: format!(
                        "lines of the audit of {name} come next, and no such provider is configured: name it again until they are read"
                    ),
                })?;
                source.after(*from, count).await?
            };
            parts.push(lines.into_iter().peekable());
        }
        let lines = steps.iter().map(|step| {
            let lines = parts.get_mut(step.whose);
            let line = lines.and_then(|lines| lines.next_if(|line| line.cursor == step.cursor));
            // A file that was cut or lost must not keep what comes after it unread.
            line.unwrap_or_else(|| AuditLine {
                cursor: step.cursor,
                line: String::new(),
                entry: Err(format!(
                    "a line that ended at position {} of an audit was read before and is not there any more: that audit was rewritten",
                    step.cursor
                )),
            })
        });
        Ok(lines.collect())
    }

    /// Decides the order of new lines, durably before anybody sees them under it. A source that cannot be read keeps no other
    /// one back; its trouble is the answer only when nobody has anything new.
    async fn extend(
        &self,
        reading: &Reading,
        sources: &[Source],
        limit: usize,
    ) -> Result<(Vec<Step>, Vec<AuditLine>), KeyError> {
        let (mut steps, mut lines, mut trouble) = (Vec::new(), Vec::new(), None);
        let known = reading.names.iter().zip(&reading.cursors).enumerate();
        for (whose, (name, from)) in known {
            let Some(source) = sources.iter().find(|source| source.name == *name) else {
                continue;
            };
            let share = (limit / sources.len().max(1)).max(1);
            let share = share.min(limit.saturating_sub(steps.len()));
            if share == 0 || source.provider.is_none() {
                continue;
            }
            match source.after(*from, share).await {
                Ok(new) => {
                    steps.extend(new.iter().map(|line| Step {
                        whose,
                        cursor: line.cursor,
                    }));
                    lines.extend(new);
                }
                Err(error) => {
                    tracing::warn!(provider = name, %error, "an audit cannot be read; its lines follow when it can");
                    trouble = Some(error);
                }
            }
        }
        match trouble {
            Some(error) if steps.is_empty() => return Err(error),
            Some(_) | None => {}
        }
        if !steps.is_empty() {
            let (path, done, new) = (self.path.clone(), reading.done, steps.clone());
            blocking(move || {
                append(&path, done, &new).map_err(|error| unusable("extend", &path, &error))
            })
            .await?;
        }
        Ok((steps, lines))
    }

    fn shortened(&self, done: u64) -> KeyError {
        self.corrupt(format!(
            "it has fewer than the {done} lines that were read before: it was shortened"
        ))
    }

    fn corrupt(&self, reason: String) -> KeyError {
        corrupt(&self.path, reason)
    }
}

/// The cursors before the first step.
fn start(base: u64, names: usize) -> Vec<u64> {
    let mut cursors = vec![0; names];
    if let Some(others) = cursors.first_mut() {
        *others = base;
    }
    cursors
}

/// Moves on over steps that were checked.
fn pass(reading: &mut Reading, steps: &[Step]) {
    for step in steps {
        if let Some(cursor) = reading.cursors.get_mut(step.whose) {
            *cursor = step.cursor;
        }
        reading.done = reading.done.saturating_add(1);
    }
}

async fn end_of(provider: &dyn KeyProvider) -> Result<u64, KeyError> {
    let mut end = 0;
    while let Some(last) = provider.audit_after(end, PAGE).await?.last() {
        end = last.cursor;
    }
    Ok(end)
}

fn names_path(order: &Path) -> PathBuf {
    order.with_file_name("audit.providers.json")
}

fn read_names(order: &Path, first: String) -> Result<Vec<String>, KeyError> {
    let path = names_path(order);
    match private_files::read_private(&path, MAX_NAMES) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|error| corrupt(&path, error.to_string()))
        }
        Err(error) if error.is_not_found() => Ok(vec![first]),
        Err(error) => Err(error.into()),
    }
}

fn write_names(path: &Path, names: &[String]) -> Result<(), KeyError> {
    let text = serde_json::to_vec_pretty(names).map_err(|error| KeyError::Unavailable {
        reason: format!("the names of the audit's providers could not be written: {error}"),
    })?;
    Ok(private_files::replace(path, &text, PRIVATE_FILE)?)
}

fn begin(path: &Path, base: u64) -> Result<u64, KeyError> {
    let head = pair(MAGIC, base);
    if private_files::create(path, &head, PRIVATE_FILE)? {
        return Ok(base);
    }
    // Another process was first: its decision holds.
    read_base(path)?.ok_or_else(|| corrupt(path, "it vanished".to_owned()))
}

/// Turns an earlier order into one of today, step by step.
fn take_over(path: &Path, earlier: &EarlierOrder, others: &str) -> Result<Option<u64>, KeyError> {
    let unreadable = |error: &io::Error| unusable("read", &earlier.path, error);
    let file = match File::open(&earlier.path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(&error)),
    };
    let length = file.metadata().map_err(|error| unreadable(&error))?.len();
    let mut reader = BufReader::new(file);
    let (magic, base) = read_pair(&mut reader).map_err(|error| unreadable(&error))?;
    if magic != OLD_MAGIC {
        let reason = "it does not begin as it should".to_owned();
        return Err(corrupt(&earlier.path, reason));
    }
    let mut content = pair(MAGIC, base).to_vec();
    let mut sealing = 0;
    for _ in 1..length / STEP {
        let (mine, theirs) = read_pair(&mut reader).map_err(|error| unreadable(&error))?;
        let mine = u64::from_be_bytes(mine);
        let step = if mine == sealing {
            pair(0_u64.to_be_bytes(), theirs)
        } else {
            pair(1_u64.to_be_bytes(), mine)
        };
        sealing = mine;
        content.extend(step);
    }
    write_names(
        &names_path(path),
        &[others.to_owned(), earlier.sealing.clone()],
    )?;
    private_files::replace(path, &content, PRIVATE_FILE)?;
    Ok(Some(base))
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
fn read_steps(path: &Path, done: u64, limit: usize) -> io::Result<Option<Vec<Step>>> {
    let mut file = File::open(path)?;
    let known = (file.metadata()?.len() / STEP).saturating_sub(1);
    if done > known {
        return Ok(None);
    }
    let follow = (known - done).min(u64::try_from(limit).unwrap_or(u64::MAX));
    file.seek(SeekFrom::Start(done.saturating_add(1).saturating_mul(STEP)))?;
    let mut reader = BufReader::new(file);
    let steps = (0..follow).map(|_| {
        let (whose, cursor) = read_pair(&mut reader)?;
        let whose = usize::try_from(u64::from_be_bytes(whose)).unwrap_or(usize::MAX);
        Ok(Step { whose, cursor })
    });
    Ok(Some(steps.collect::<io::Result<_>>()?))
}

/// Writes steps after the first `done`: whatever stands there is part of a step that a crash left, which nobody was told of.
fn append(path: &Path, done: u64, steps: &[Step]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let whole = done.saturating_add(1).saturating_mul(STEP);
    file.set_len(whole)?;
    file.seek(SeekFrom::End(0))?;
    let bytes: Vec<u8> = steps
        .iter()
        .flat_map(|step| {
            let whose = u64::try_from(step.whose).unwrap_or(u64::MAX);
            pair(whose.to_be_bytes(), step.cursor)
        })
        .collect();
    file.write_all(&bytes)?;
    file.sync_data()
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
