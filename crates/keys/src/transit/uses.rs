//! The uses of keys that the server's audit has to show, and what it does not.
//!
//! What is open is kept in `audit-watch.json`, so that a restart forgets neither a use nor a silence. It is written when somebody asks for gaps: a crash
//! forgets what was open for less than that.

use std::{
    collections::VecDeque,
    fs::File,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    NAME,
    audit::Shown,
    follow::{Break, NAMED, Parts},
    memory::Digest,
    trail::Announced,
};
use crate::{
    error::KeyError,
    id::KeyId,
    private_files::{self, PRIVATE_FILE},
    provider::{AuditGap, AuditGapKind, AuditUse, Purpose},
};

/// How many uses are looked for at most; of more the oldest are only counted.
const OPEN: usize = 4096;
/// How many gaps are told again at most.
const TOLD: usize = 64;
/// How many times the patience lies between two questions to a server of which nothing else is asked.
const BEATS: u32 = 6;
/// The shortest time between two such questions.
const BEAT: Duration = Duration::from_secs(1);
/// The state is shorter than this, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// A file at one length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    device: u64,
    inode: u64,
    length: u64,
}

impl Mark {
    pub(super) fn of(file: &File) -> Option<Self> {
        let metadata = file.metadata().ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
        })
    }
}

/// A use that is not seen in the audit yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Open {
    number: u64,
    #[serde(with = "hex::serde")]
    audited: Digest,
    used: AuditUse,
    /// The audit file before the use.
    mark: Option<Mark>,
    /// The server gave the signature away.
    made: bool,
    #[serde(skip, default = "Instant::now")]
    since: Instant,
}

/// A question whose only purpose is a line in the audit.
struct Beat {
    mark: Option<Mark>,
    at_ms: i64,
    since: Instant,
    judged: bool,
}

/// The audit has not grown since its file had this mark.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Silence {
    since_ms: i64,
    mark: Option<Mark>,
}

/// What is kept on the disk.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    parts: Parts,
    /// The audit is read for our uses up to this position.
    watched: Option<u64>,
    open: VecDeque<Open>,
    told: VecDeque<AuditGap>,
    silence: Option<Silence>,
    off: Option<AuditGap>,
}

/// The uses of one state folder.
pub(super) struct Uses {
    path: PathBuf,
    kept: Kept,
    /// As it was written last.
    saved: Vec<u8>,
    next: u64,
    beat: Beat,
}

impl Uses {
    /// Reads the state in `state_dir`, or begins one.
    pub(super) fn open(state_dir: &Path) -> Result<(Self, Parts), KeyError> {
        let path = state_dir.join("audit-watch.json");
        let (kept, saved): (Kept, _) = match private_files::read_private(&path, MAX_BYTES) {
            Ok(bytes) => {
                let kept = serde_json::from_slice(&bytes).map_err(|error| KeyError::Corrupt {
                    what: path.display().to_string(),
                    reason: error.to_string(),
                })?;
                (kept, bytes)
            }
            Err(error) if error.is_not_found() => (Kept::default(), Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let last = kept.open.iter().map(|open| open.number).max();
        let parts = kept.parts.clone();
        let uses = Self {
            path,
            next: last.map_or(0, |last| last.saturating_add(1)),
            kept,
            saved,
            beat: Beat {
                mark: None,
                at_ms: 0,
                since: Instant::now(),
                judged: true,
            },
        };
        Ok((uses, parts))
    }

    /// Where the audit is read from if it never was.
    pub(super) fn begin_at(&mut self, end: u64) {
        self.kept.watched.get_or_insert(end);
    }

    pub(super) fn watched(&self) -> u64 {
        self.kept.watched.unwrap_or_default()
    }

    pub(super) fn watched_to(&mut self, end: u64) {
        self.kept.watched = Some(end);
    }

    /// A use that is about to be made. It is looked for from now on, because its line may be read before its answer.
    pub(super) fn announced(
        &mut self,
        audited: Digest,
        message_sha256: Digest,
        (key, purpose): (&KeyId, Purpose),
        mark: Option<Mark>,
    ) -> Announced {
        let number = self.next;
        self.next = number.saturating_add(1);
        if self.kept.open.len() >= OPEN {
            self.kept.open.pop_front();
        }
        self.kept.open.push_back(Open {
            number,
            audited,
            used: AuditUse {
                key: key.clone(),
                purpose,
                message_sha256,
                at_ms: now_ms(),
            },
            mark,
            made: false,
            since: Instant::now(),
        });
        Announced(number)
    }

    /// The server gave the signature away: now the use has to be shown.
    pub(super) fn made(&mut self, number: u64) {
        let of_number = |open: &&mut Open| open.number == number;
        if let Some(open) = self.kept.open.iter_mut().rev().find(of_number) {
            open.made = true;
        }
    }

    /// A line shows these messages: each strikes out the oldest use that it can be.
    pub(super) fn shown(&mut self, messages: &[Shown]) {
        for message in messages {
            let found = self.kept.open.iter().position(|open| match message {
                Shown::Keyed(shown) => *shown == open.audited,
                Shown::Raw(shown) => *shown == open.used.message_sha256,
            });
            if let Some(at) = found {
                self.kept.open.remove(at);
            }
        }
    }

    /// The server says that it has no audit device of this name.
    pub(super) fn is_off(&mut self, device: &str) {
        self.kept.off.get_or_insert_with(|| AuditGap {
            provider: NAME.to_owned(),
            kind: AuditGapKind::Off,
            since_ms: now_ms(),
            uses: Vec::new(),
            count: 0,
            evidence: format!(
                "the server has no audit device {device:?}; `bao audit list` shows those it has"
            ),
        });
    }

    /// The server has the device.
    pub(super) fn is_on(&mut self) {
        self.kept.off = None;
    }

    /// Whether the server should be asked something, so that its audit has something to show.
    pub(super) fn is_beat_due(&self, patience: Duration) -> bool {
        let pause = patience.saturating_mul(BEATS).max(BEAT);
        self.beat.since.elapsed() >= pause
    }

    /// The server was asked; its audit file was like `mark` before.
    pub(super) fn beaten(&mut self, mark: Option<Mark>) {
        self.beat = Beat {
            mark,
            at_ms: now_ms(),
            since: Instant::now(),
            judged: false,
        };
    }

    /// Something was done to the file. `message` says what an audited message is.
    pub(super) fn broken(&mut self, found: Break, mut message: impl FnMut(Shown, i64) -> Digest) {
        let uses = found.removed.into_iter().map(|seen| AuditUse {
            message_sha256: message(seen.shown, seen.at_ms),
            key: seen.key,
            purpose: seen.purpose,
            at_ms: seen.at_ms,
        });
        let gap = AuditGap {
            provider: NAME.to_owned(),
            kind: found.kind,
            since_ms: found.at_ms,
            uses: uses.collect(),
            count: found.count,
            evidence: found.evidence,
        };
        self.tell(gap);
    }

    /// All gaps, after the audit was read to its end, where its file is like `mark`.
    pub(super) fn gaps(
        &mut self,
        patience: Duration,
        mark: Option<Mark>,
        evidence: &str,
    ) -> Vec<AuditGap> {
        if self.kept.silence.as_ref().is_some_and(|it| it.mark != mark) {
            self.kept.silence = None;
        }
        let (mut missing, mut silent) = (Vec::new(), Vec::new());
        self.kept.open.retain(|open| {
            if open.since.elapsed() < patience {
                return true;
            }
            // Nobody knows whether a use that got no answer was made.
            if !open.made {
                return false;
            }
            let has_grown = open.mark != mark;
            let list = if has_grown { &mut missing } else { &mut silent };
            list.push(open.used.clone());
            !has_grown
        });
        if let Some(first) = missing.first() {
            let since_ms = first.at_ms;
            self.tell(gap(AuditGapKind::UseNotShown, since_ms, missing, evidence));
        }
        let beat_is_missing =
            !self.beat.judged && self.beat.since.elapsed() >= patience && self.beat.mark == mark;
        self.beat.judged |= self.beat.since.elapsed() >= patience;
        let began = silent.first().map(|first| first.at_ms);
        let began = began.or(beat_is_missing.then_some(self.beat.at_ms));
        if let (None, Some(since_ms)) = (&self.kept.silence, began) {
            self.kept.silence = Some(Silence { since_ms, mark });
        }
        let silence = self
            .kept
            .silence
            .as_ref()
            .map(|silence| gap(AuditGapKind::Silent, silence.since_ms, silent, evidence));
        let told = self.kept.told.iter().cloned();
        told.chain(silence).chain(self.kept.off.clone()).collect()
    }

    fn tell(&mut self, gap: AuditGap) {
        self.kept.told.push_back(gap);
        let excess = self.kept.told.len().saturating_sub(TOLD);
        self.kept.told.drain(..excess);
    }

    /// Writes down what is known, if it changed.
    pub(super) fn save(&mut self, parts: Parts) -> Result<(), KeyError> {
        self.kept.parts = parts;
        let bytes = serde_json::to_vec(&self.kept).map_err(|error| KeyError::Unavailable {
            reason: format!("cannot write {}: {error}", self.path.display()),
        })?;
        if bytes != self.saved {
            private_files::replace(&self.path, &bytes, PRIVATE_FILE)?;
            self.saved = bytes;
        }
        Ok(())
    }
}

fn gap(kind: AuditGapKind, since_ms: i64, mut uses: Vec<AuditUse>, evidence: &str) -> AuditGap {
    let count = uses.len();
    uses.truncate(NAMED);
    AuditGap {
        provider: NAME.to_owned(),
        kind,
        since_ms,
        uses,
        count,
        evidence: evidence.to_owned(),
    }
}

fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}
