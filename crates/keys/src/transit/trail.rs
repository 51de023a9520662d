//! Key uses between this process and the server's audit: announced before, looked for afterwards.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::Method;
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::json;

use super::{
    NAME,
    audit::{AuditFile, Line, Said, Shown, keyed},
    config::{AuditSource, TransitConfig},
    error::TransitError,
    memory::{CAPACITY, Digest, Known, Memory},
    session::Session,
};
use crate::{
    blocking::blocking,
    error::KeyError,
    id::KeyId,
    provider::{AuditEntry, AuditGap, AuditGapKind, AuditLine, AuditUse, Purpose},
};

/// How far the server's clock may be behind ours, in milliseconds.
const SLACK_MS: i64 = 5 * 60 * 1000;
/// Lines of interest of one reading while watching.
const LINES: usize = 1024;

/// A use that is announced and not made yet.
pub(super) struct Announced {
    audited: Digest,
    message_sha256: Digest,
    /// Length of the audit file before the use.
    length: u64,
}

/// A use that was made and is not seen in the audit yet.
struct Open {
    announced: Announced,
    key: KeyId,
    purpose: Purpose,
    at_ms: i64,
    since: Instant,
}

/// Where the two readers of the file are.
#[derive(Default)]
struct Readers {
    /// The watch for our own uses has read to here.
    watched: u64,
    /// Between these two offsets nothing speaks of our keys, so a caller who asks again from the first goes on at the
    /// second.
    quiet: (u64, u64),
    /// Bounded: the oldest go first.
    open: VecDeque<Open>,
}

struct Shared {
    file: AuditFile,
    memory: Mutex<Memory>,
    readers: Mutex<Readers>,
}

/// The audit of one server, and what this folder signed.
#[derive(Clone)]
pub(super) struct Trail {
    shared: Arc<Shared>,
    device: String,
}

impl Trail {
    pub(super) fn open(
        config: &TransitConfig,
        source: &AuditSource,
        state_dir: &Path,
    ) -> Result<Self, KeyError> {
        let namespace = config.namespace.trim_matches('/');
        let file = AuditFile {
            path: source.file.clone(),
            mount: format!("{}/", config.mount),
            namespace: if namespace.is_empty() {
                String::new()
            } else {
                format!("{namespace}/")
            },
        };
        let readers = Readers {
            watched: file.last_line_end(),
            ..Readers::default()
        };
        Ok(Self {
            shared: Arc::new(Shared {
                file,
                memory: Mutex::new(Memory::open(state_dir, CAPACITY)?),
                readers: Mutex::new(readers),
            }),
            device: source.device.clone(),
        })
    }

    /// Asks the server how its audit will show `message`, and remembers that durably. Call it before the key is used.
    pub(super) async fn announce(
        &self,
        session: &Session,
        message: &[u8],
    ) -> Result<Announced, TransitOrKey> {
        #[derive(Deserialize)]
        struct Hashed {
            hash: String,
        }
        let path = format!("sys/audit-hash/{}", self.device);
        let body = json!({"input": BASE64_STANDARD.encode(message)});
        let answer = session
            .call(Method::POST, "", path.clone(), Some(&body))
            .await?;
        let hashed: Hashed = answer.data(&path)?;
        let audited = keyed(&hashed.hash).ok_or_else(|| TransitError::Malformed {
            action: path,
            reason: "its hash is not hmac-sha256 and 64 digits".to_owned(),
        })?;
        let message_sha256 = sha256(message);
        let at_ms = Timestamp::now().as_millisecond();
        let shared = Arc::clone(&self.shared);
        let announced = blocking(move || {
            // An unreadable file is told by whoever reads it; it must not stop the sealing.
            let length = shared.file.length().unwrap_or(0);
            held(&shared.memory).remember(audited, message_sha256, at_ms)?;
            Ok(Announced {
                audited,
                message_sha256,
                length,
            })
        });
        Ok(announced.await?)
    }

    /// The announced use was made: the audit has to show it.
    pub(super) fn made(&self, announced: Announced, key: &KeyId, purpose: Purpose) {
        let mut readers = held(&self.shared.readers);
        if readers.open.len() >= CAPACITY {
            readers.open.pop_front();
        }
        readers.open.push_back(Open {
            announced,
            key: key.clone(),
            purpose,
            at_ms: Timestamp::now().as_millisecond(),
            since: Instant::now(),
        });
    }

    /// See [`crate::KeyProvider::audit_after`].
    pub(super) async fn lines_after(
        &self,
        cursor: u64,
        limit: usize,
    ) -> Result<Vec<AuditLine>, KeyError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.lines_after(cursor, limit)).await
    }

    /// See [`crate::KeyProvider::audit_gaps`].
    pub(super) async fn gaps(&self, patience: Duration) -> Result<Vec<AuditGap>, KeyError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.gaps(patience)).await
    }
}

/// Either layer's error.
pub(super) enum TransitOrKey {
    Transit(TransitError),
    Key(KeyError),
}

impl From<TransitError> for TransitOrKey {
    fn from(error: TransitError) -> Self {
        Self::Transit(error)
    }
}

impl From<KeyError> for TransitOrKey {
    fn from(error: KeyError) -> Self {
        Self::Key(error)
    }
}

impl Shared {
    fn lines_after(&self, cursor: u64, limit: usize) -> Result<Vec<AuditLine>, KeyError> {
        let quiet = held(&self.readers).quiet;
        let from = if quiet.0 == cursor {
            quiet.1.max(cursor)
        } else {
            cursor
        };
        let reading = self.file.read(from, limit)?;
        if reading.lines.is_empty() {
            held(&self.readers).quiet = (cursor, reading.end);
        }
        reading
            .lines
            .into_iter()
            .map(|line| self.explained(line))
            .collect()
    }

    fn explained(&self, line: Line) -> Result<AuditLine, KeyError> {
        let entry = match line.said {
            Said::Used {
                key,
                purpose,
                at_ms,
                messages,
            } => self
                .message(&messages, at_ms)?
                .map(|message_sha256| AuditEntry {
                    key,
                    purpose,
                    message_sha256,
                    at_ms,
                }),
            Said::Unclear(reason) => Err(reason),
            Said::Nothing => Err("the line says nothing of a key".to_owned()),
        };
        Ok(AuditLine {
            cursor: line.end,
            line: line.text,
            entry,
        })
    }

    /// The message that a use signed; of several the one that nobody here asked for.
    fn message(&self, messages: &[Shown], at_ms: i64) -> Result<Result<Digest, String>, KeyError> {
        let mut memory = held(&self.memory);
        let mut ours = None;
        let mut dropped = false;
        for message in messages {
            match message {
                Shown::Raw(sha256) => ours = Some(*sha256),
                Shown::Keyed(audited) => match memory.explain(audited, at_ms, SLACK_MS)? {
                    Known::Message(sha256) => ours = Some(sha256),
                    Known::Never => return Ok(Ok(*audited)),
                    Known::Dropped => dropped = true,
                },
            }
        }
        Ok(match ours {
            Some(sha256) if messages.len() == 1 => Ok(sha256),
            _ if dropped => Err(
                "the use is older than the messages remembered here, so nobody can say whose it was"
                    .to_owned(),
            ),
            _ => Err("one request signed several messages, and this program never asks for that".to_owned()),
        })
    }

    fn gaps(&self, patience: Duration) -> Result<Vec<AuditGap>, KeyError> {
        self.watch()?;
        let length = self.file.length()?;
        let readers = held(&self.readers);
        let (mut gaps, mut silent): (Vec<AuditGap>, Vec<AuditUse>) = (Vec::new(), Vec::new());
        let gap = |kind, uses: Vec<AuditUse>| AuditGap {
            provider: NAME.to_owned(),
            kind,
            since_ms: uses.first().map_or(0, |used| used.at_ms),
            count: uses.len(),
            uses,
            evidence: self.file.path.display().to_string(),
        };
        for open in &readers.open {
            if open.since.elapsed() < patience {
                continue;
            }
            let used = AuditUse {
                key: open.key.clone(),
                purpose: open.purpose,
                message_sha256: open.announced.message_sha256,
                at_ms: open.at_ms,
            };
            if length <= open.announced.length {
                silent.push(used);
            } else {
                gaps.push(gap(AuditGapKind::UseNotShown, vec![used]));
            }
        }
        if !silent.is_empty() {
            gaps.push(gap(AuditGapKind::Silent, silent));
        }
        Ok(gaps)
    }

    /// Strikes out the uses that the audit shows by now.
    fn watch(&self) -> Result<(), KeyError> {
        loop {
            let from = held(&self.readers).watched;
            let reading = self.file.read(from, LINES)?;
            let mut readers = held(&self.readers);
            for line in &reading.lines {
                if let Said::Used { messages, .. } = &line.said {
                    readers
                        .open
                        .retain(|open| !open.is_shown(messages, line.end));
                }
            }
            readers.watched = reading.end;
            if reading.end == from {
                return Ok(());
            }
        }
    }
}

impl Open {
    fn is_shown(&self, messages: &[Shown], end: u64) -> bool {
        let Announced {
            audited,
            message_sha256,
            length,
        } = &self.announced;
        end > *length
            && messages.iter().any(|message| match message {
                Shown::Keyed(shown) => shown == audited,
                Shown::Raw(shown) => shown == message_sha256,
            })
    }
}

/// SHA-256.
pub(super) fn sha256(message: &[u8]) -> Digest {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, message).as_ref());
    hash
}

/// A panic while the lock was held left whole values behind: each change is one call.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
