//! Key uses between this process and the server's audit: announced before, looked for afterwards.

use std::{
    fs::File,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::Method;
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::json;

use super::{
    audit::{Interest, Said, Shown, keyed},
    config::{AuditSource, TransitConfig},
    error::TransitError,
    follow::{Follower, Line},
    memory::{CAPACITY, Digest, Known, Memory},
    session::Session,
    uses::{Mark, Uses},
};
use crate::{
    blocking::blocking,
    error::KeyError,
    id::KeyId,
    provider::{AuditEntry, AuditGap, AuditLine, Purpose},
};

/// How far the server's clock may be behind ours, in milliseconds.
const SLACK_MS: i64 = 5 * 60 * 1000;
/// Lines of interest of one reading while watching.
const LINES: usize = 1024;
/// What the server is asked to hash when nothing else was asked of it: its audit has to show that.
const BEAT: &[u8] = b"sealwarden asks whether this audit is written";
/// What the server says of a device that it does not have.
const NO_DEVICE: &str = "unknown audit backend";

/// A use that is announced, by its number.
pub(super) struct Announced(pub(super) u64);

struct Shared {
    follower: Mutex<Follower>,
    /// The file that is read now, for those who must not wait for a reader.
    current: Mutex<Option<File>>,
    /// Between these two positions nothing speaks of our keys, so a caller who asks again from the first goes on at the
    /// second.
    quiet: Mutex<(u64, u64)>,
    memory: Mutex<Memory>,
    uses: Mutex<Uses>,
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
        let interest = Interest {
            mount: format!("{}/", config.mount),
            namespace: if namespace.is_empty() {
                String::new()
            } else {
                format!("{namespace}/")
            },
        };
        let (mut uses, parts) = Uses::open(state_dir)?;
        let mut follower = Follower::new(&source.file, interest, parts);
        uses.begin_at(follower.end());
        Ok(Self {
            shared: Arc::new(Shared {
                current: Mutex::new(follower.current()),
                follower: Mutex::new(follower),
                quiet: Mutex::default(),
                memory: Mutex::new(Memory::open(state_dir, CAPACITY)?),
                uses: Mutex::new(uses),
            }),
            device: source.device.clone(),
        })
    }

    /// Asks the server how its audit will show `message`, and remembers that durably. Call it before the key is used.
    pub(super) async fn announce(
        &self,
        session: &Session,
        key: &KeyId,
        purpose: Purpose,
        message: &[u8],
    ) -> Result<Announced, TransitOrKey> {
        let audited = self.tell(session, message).await?;
        let mark = self.shared.mark();
        let message_sha256 = sha256(message);
        Ok(held(&self.shared.uses).announced(audited, message_sha256, (key, purpose), mark))
    }

    /// The keyed digest of `message`, remembered durably: whoever signs it had a reason.
    pub(super) async fn tell(
        &self,
        session: &Session,
        message: &[u8],
    ) -> Result<Digest, TransitOrKey> {
        let audited = self.hashed(session, message).await?;
        let message_sha256 = sha256(message);
        let at_ms = Timestamp::now().as_millisecond();
        let shared = Arc::clone(&self.shared);
        blocking(move || held(&shared.memory).remember(audited, message_sha256, at_ms)).await?;
        Ok(audited)
    }

    /// How the server's audit shows `message`.
    async fn hashed(&self, session: &Session, message: &[u8]) -> Result<Digest, TransitError> {
        #[derive(Deserialize)]
        struct Hashed {
            hash: String,
        }
        let path = format!("sys/audit-hash/{}", self.device);
        let body = json!({"input": BASE64_STANDARD.encode(message)});
        let answer = session
            .call(Method::POST, "", path.clone(), Some(&body))
            .await;
        match &answer {
            Ok(answer) if answer.status.is_success() => held(&self.shared.uses).is_on(),
            Err(error) if error.says(NO_DEVICE) => held(&self.shared.uses).is_off(&self.device),
            Ok(_) | Err(_) => {}
        }
        let answer = answer?;
        let hashed: Hashed = answer.data(&path)?;
        keyed(&hashed.hash).ok_or_else(|| TransitError::Malformed {
            action: path,
            reason: "its hash is not hmac-sha256 and 64 digits".to_owned(),
        })
    }

    /// The announced use was made: the audit has to show it.
    pub(super) fn made(&self, announced: &Announced) {
        held(&self.shared.uses).made(announced.0);
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

    /// See [`crate::KeyProvider::audit_gaps`]. Where nothing was asked of the server for long, it asks something itself.
    pub(super) async fn gaps(
        &self,
        session: &Session,
        patience: Duration,
    ) -> Result<Vec<AuditGap>, KeyError> {
        let is_due = held(&self.shared.uses).is_beat_due(patience);
        if is_due {
            let mark = self.shared.mark();
            match self.hashed(session, BEAT).await {
                Ok(_) => held(&self.shared.uses).beaten(mark),
                // A server that is away is told by whoever uses it.
                Err(error) => tracing::debug!(%error, "the server's audit could not be tried"),
            }
        }
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
        let quiet = *held(&self.quiet);
        let from = if quiet.0 == cursor {
            quiet.1.max(cursor)
        } else {
            cursor
        };
        let reading = self.with_follower(|follower| follower.read(from, limit))?;
        if reading.lines.is_empty() {
            *held(&self.quiet) = (cursor, reading.end);
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
        let (breaks, last_line) =
            self.with_follower(|follower| (follower.take_breaks(), follower.last_line()));
        let mark = self.mark();
        let mut uses = held(&self.uses);
        for found in breaks {
            let mut memory = held(&self.memory);
            uses.broken(found, |shown, at_ms| match shown {
                Shown::Raw(sha256) => sha256,
                Shown::Keyed(audited) => match memory.explain(&audited, at_ms, SLACK_MS) {
                    Ok(Known::Message(sha256)) => sha256,
                    Ok(Known::Never | Known::Dropped) | Err(_) => audited,
                },
            });
        }
        let gaps = uses.gaps(patience, mark, &last_line);
        let parts = held(&self.follower).known().clone();
        uses.save(parts)?;
        Ok(gaps)
    }

    /// Strikes out the uses that the audit shows by now.
    fn watch(&self) -> Result<(), KeyError> {
        loop {
            let from = held(&self.uses).watched();
            let reading = self.with_follower(|follower| follower.read(from, LINES))?;
            let mut uses = held(&self.uses);
            for line in &reading.lines {
                if let Said::Used { messages, .. } = &line.said {
                    uses.shown(messages);
                }
            }
            uses.watched_to(reading.end);
            if reading.end == from {
                return Ok(());
            }
        }
    }

    fn with_follower<T>(&self, work: impl FnOnce(&mut Follower) -> T) -> T {
        let mut follower = held(&self.follower);
        let done = work(&mut follower);
        *held(&self.current) = follower.current();
        done
    }

    /// How long the file is that is read now.
    fn mark(&self) -> Option<Mark> {
        let current = held(&self.current);
        current.as_ref().and_then(Mark::of)
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
