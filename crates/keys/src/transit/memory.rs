//! The messages signed through this provider, by the keyed digest under which the server's audit shows them.
//!
//! The audit holds HMAC-SHA256(salt of the device, base64 text of the message); `sys/audit-hash` computes it. Each pair of
//! digests is asked for and stands durably in `messages` before the key is used, so a use that the memory does not
//! explain was not made through this folder. The memory is bounded: what it has dropped, it does not deny.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    error::KeyError,
    private_files::{self, FileLock, PRIVATE_FILE},
};

/// How many messages are remembered.
pub(super) const CAPACITY: usize = 65_536;
/// How long another process may hold the file.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of one line of the file: two digests and a time.
const LINE: usize = 64 + 1 + 64 + 1 + 16 + 1;

/// A digest as the audit shows it, or of a message.
pub(super) type Digest = [u8; 32];

/// What the memory knows of an audited digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// The message with this SHA-256.
    Message(Digest),
    /// None of ours.
    Never,
    /// Older than what is remembered.
    Dropped,
}

/// The memory of one state folder. Its functions block their thread.
pub(super) struct Memory {
    path: PathBuf,
    capacity: usize,
    /// The message, and how often it stands in `order`.
    seen: HashMap<Digest, (Digest, usize)>,
    order: VecDeque<(Digest, i64)>,
    /// Messages signed up to this time (Unix milliseconds) may be missing.
    dropped_until_ms: i64,
    /// Inode and length of the file as it was read or written last.
    file: (u64, u64),
}

impl Memory {
    /// Reads the memory in `state_dir`, or begins one.
    pub(super) fn open(state_dir: &Path, capacity: usize) -> Result<Self, KeyError> {
        let mut memory = Self {
            path: state_dir.join("messages"),
            capacity: capacity.max(1),
            seen: HashMap::new(),
            order: VecDeque::new(),
            dropped_until_ms: 0,
            file: (0, 0),
        };
        let _lock = memory.lock()?;
        memory.load()?;
        Ok(memory)
    }

    /// Remembers durably that `audited` is the message with `message_sha256`, used at `at_ms` or later.
    pub(super) fn remember(
        &mut self,
        audited: Digest,
        message_sha256: Digest,
        at_ms: i64,
    ) -> Result<(), KeyError> {
        let _lock = self.lock()?;
        self.refresh()?;
        let full_twice = self.capacity.saturating_mul(2).saturating_mul(LINE);
        if usize::try_from(self.file.1).is_ok_and(|length| length >= full_twice) {
            self.insert(audited, message_sha256, at_ms);
            return self.rewrite();
        }
        let line = line(&audited, &message_sha256, at_ms);
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(PRIVATE_FILE)
            .open(&self.path)
            .map_err(|error| self.unavailable("open", &error))?;
        file.write_all(line.as_bytes())
            .and_then(|()| file.sync_data())
            .map_err(|error| self.unavailable("write", &error))?;
        let is_new = self.file == (0, 0);
        self.file = stamp(&file).map_err(|error| self.unavailable("read", &error))?;
        if is_new {
            private_files::sync_parent(&self.path)?;
        }
        self.insert(audited, message_sha256, at_ms);
        Ok(())
    }

    /// What an audited digest of a use at `at_ms` is. `slack_ms` is how far the server's clock may be off.
    pub(super) fn explain(
        &mut self,
        audited: &Digest,
        at_ms: i64,
        slack_ms: i64,
    ) -> Result<Known, KeyError> {
        if !self.seen.contains_key(audited) {
            // Another process may have signed meanwhile.
            let _lock = self.lock()?;
            self.refresh()?;
        }
        Ok(match self.seen.get(audited) {
            Some((message, _)) => Known::Message(*message),
            None if at_ms <= self.dropped_until_ms.saturating_add(slack_ms) => Known::Dropped,
            None => Known::Never,
        })
    }

    fn insert(&mut self, audited: Digest, message_sha256: Digest, at_ms: i64) {
        let (_, times) = self.seen.entry(audited).or_insert((message_sha256, 0));
        *times = times.saturating_add(1);
        self.order.push_back((audited, at_ms));
        while self.order.len() > self.capacity {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some((oldest, at_ms)) = self.order.pop_front() else {
            return;
        };
        self.dropped_until_ms = self.dropped_until_ms.max(at_ms);
        if let Entry::Occupied(mut entry) = self.seen.entry(oldest) {
            let (_, times) = entry.get_mut();
            *times = times.saturating_sub(1);
            if *times == 0 {
                entry.remove();
            }
        }
    }

    /// Reads the file again if another process changed it.
    fn refresh(&mut self) -> Result<(), KeyError> {
        let stamped = std::fs::metadata(&self.path).map(|found| (found.ino(), found.len()));
        match stamped {
            Ok(stamped) if stamped == self.file => Ok(()),
            Ok(_) => self.load(),
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.file == (0, 0) => Ok(()),
            Err(error) => Err(self.unavailable("read", &error)),
        }
    }

    fn load(&mut self) -> Result<(), KeyError> {
        let limit = self.capacity.saturating_mul(4).saturating_mul(LINE);
        let limit = u64::try_from(limit).unwrap_or(u64::MAX).max(1 << 20);
        let bytes = match private_files::read_private(&self.path, limit) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // A crash while appending leaves a torn last line: that use never happened, and the rest is ended first.
        let whole = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end.saturating_add(1));
        let text = bytes.get(..whole).unwrap_or_default();
        let text = std::str::from_utf8(text).map_err(|error| self.corrupt(&error.to_string()))?;
        self.seen.clear();
        self.order.clear();
        for line in text.lines() {
            if let Some(dropped) = line.strip_prefix("dropped-until ") {
                let until = dropped.parse().map_err(|_| self.corrupt(line))?;
                self.dropped_until_ms = self.dropped_until_ms.max(until);
            } else {
                let (audited, message, at_ms) = parse(line).ok_or_else(|| self.corrupt(line))?;
                self.insert(audited, message, at_ms);
            }
        }
        if whole < bytes.len() {
            return self.rewrite();
        }
        let file = File::open(&self.path).map_err(|error| self.unavailable("open", &error))?;
        self.file = stamp(&file).map_err(|error| self.unavailable("read", &error))?;
        Ok(())
    }

    /// Writes what is remembered, and no more, into a new file.
    fn rewrite(&mut self) -> Result<(), KeyError> {
        let mut text = format!("dropped-until {}\n", self.dropped_until_ms);
        for (audited, at_ms) in &self.order {
            if let Some((message, _)) = self.seen.get(audited) {
                text.push_str(&line(audited, message, *at_ms));
            }
        }
        private_files::replace(&self.path, text.as_bytes(), PRIVATE_FILE)?;
        let file = File::open(&self.path).map_err(|error| self.unavailable("open", &error))?;
        self.file = stamp(&file).map_err(|error| self.unavailable("read", &error))?;
        Ok(())
    }

    fn lock(&self) -> Result<FileLock, KeyError> {
        Ok(FileLock::take(&self.path.with_extension("lock"), PATIENCE)?)
    }

    fn unavailable(&self, action: &str, error: &io::Error) -> KeyError {
        KeyError::Unavailable {
            reason: format!("cannot {action} {}: {error}", self.path.display()),
        }
    }

    fn corrupt(&self, what: &str) -> KeyError {
        KeyError::Corrupt {
            what: self.path.display().to_string(),
            reason: format!("not a line of two digests and a time: {what:?}"),
        }
    }
}

fn stamp(file: &File) -> io::Result<(u64, u64)> {
    file.metadata().map(|found| (found.ino(), found.len()))
}

fn line(audited: &Digest, message: &Digest, at_ms: i64) -> String {
    format!(
        "{} {} {at_ms:016}\n",
        hex::encode(audited),
        hex::encode(message)
    )
}

fn parse(line: &str) -> Option<(Digest, Digest, i64)> {
    let mut words = line.split(' ');
    let mut digest = || -> Option<Digest> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(words.next()?, &mut bytes).ok()?;
        Some(bytes)
    };
    let (audited, message) = (digest()?, digest()?);
    let at_ms = words.next()?.parse().ok()?;
    words.next().is_none().then_some((audited, message, at_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_remembered_is_known_to_another_process_and_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Memory::open(dir.path(), 8).unwrap();
        let mut second = Memory::open(dir.path(), 8).unwrap();
        first.remember([1; 32], [2; 32], 100).unwrap();
        second.remember([3; 32], [4; 32], 101).unwrap();
        for memory in [
            &mut first,
            &mut second,
            &mut Memory::open(dir.path(), 8).unwrap(),
        ] {
            let known = [[1; 32], [3; 32], [5; 32]].map(|audited| memory.explain(&audited, 100, 0));
            let [one, three, five] = known.map(Result::unwrap);
            assert_eq!(one, Known::Message([2; 32]));
            assert_eq!(three, Known::Message([4; 32]));
            assert_eq!(five, Known::Never);
        }
    }

    #[test]
    fn a_dropped_message_is_neither_known_nor_denied() {
        let dir = tempfile::tempdir().unwrap();
        let mut memory = Memory::open(dir.path(), 2).unwrap();
        for number in 0..40_u8 {
            memory
                .remember([number; 32], [number; 32], i64::from(number))
                .unwrap();
        }
        let mut again = Memory::open(dir.path(), 2).unwrap();
        for memory in [&mut memory, &mut again] {
            assert_eq!(memory.explain(&[3; 32], 3, 0).unwrap(), Known::Dropped);
            assert_eq!(memory.explain(&[99; 32], 39, 0).unwrap(), Known::Never);
            assert_eq!(
                memory.explain(&[39; 32], 39, 0).unwrap(),
                Known::Message([39; 32])
            );
        }
        let length = std::fs::metadata(dir.path().join("messages"))
            .unwrap()
            .len();
        assert!(usize::try_from(length).unwrap() <= 5 * LINE, "{length}");
    }

    #[test]
    fn a_torn_last_line_is_dropped_and_any_other_damage_reported() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("messages");
        let mut memory = Memory::open(dir.path(), 8).unwrap();
        memory.remember([1; 32], [2; 32], 100).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"ab12").unwrap();
        let mut again = Memory::open(dir.path(), 8).unwrap();
        again.remember([3; 32], [4; 32], 101).unwrap();
        let mut third = Memory::open(dir.path(), 8).unwrap();
        assert_eq!(
            third.explain(&[3; 32], 0, 0).unwrap(),
            Known::Message([4; 32])
        );
        file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"garbage\n").unwrap();
        assert!(matches!(
            Memory::open(dir.path(), 8),
            Err(KeyError::Corrupt { .. })
        ));
    }
}
