//! Reading: batches of direct gets, checked against the leader's word where replicas may lag.

use std::time::Duration;

use async_nats::Message;
use async_nats::jetstream::stream::RawMessageErrorKind;
use futures_util::StreamExt;
use tokio::time::{Instant, sleep, timeout};

use super::message::{self, Stored, only};
use super::{ANSWER_TIMEOUT, Shared};
use crate::commit::{ChainCheck, Head, Recorded};
use crate::name::StreamName;
use crate::port::ReadError;
use crate::subscription::{Damage, Filter, PAGE_BYTES, PAGE_COMMITS, Page};

/// A replica that lags is asked again after this pause.
const LAG_PAUSE: Duration = Duration::from_millis(20);
/// A replica that lags for longer is a failure.
const LAG_LIMIT: Duration = Duration::from_secs(5);

/// Some commits in order.
pub(super) struct Batch {
    pub(super) commits: Vec<Recorded>,
    /// What stands on a stream's subject and is no commit.
    pub(super) damaged: Vec<Damage>,
    /// The replica that answered held no further one.
    pub(super) complete: bool,
}

pub(super) fn unavailable(reason: impl std::fmt::Display) -> ReadError {
    ReadError::Unavailable {
        reason: reason.to_string(),
    }
}

impl Shared {
    /// Messages on `subject` (wildcards allowed) from a sequence on, from whichever replica answers.
    pub(super) async fn batch(
        &self,
        subject: &str,
        from: u64,
        limit: usize,
    ) -> Result<Batch, ReadError> {
        let inbox = self.client.new_inbox();
        let mut answers = self
            .client
            .subscribe(inbox.clone())
            .await
            .map_err(unavailable)?;
        let request = serde_json::json!({
            "seq": from.max(1),
            "next_by_subj": subject,
            "batch": limit.min(PAGE_COMMITS),
            "max_bytes": PAGE_BYTES,
        });
        let api = format!("$JS.API.DIRECT.GET.{}", self.name);
        self.client
            .publish_with_reply(api, inbox, request.to_string().into())
            .await
            .map_err(unavailable)?;
        let mut batch = Batch {
            commits: Vec::new(),
            damaged: Vec::new(),
            complete: false,
        };
        let mut before = 0;
        loop {
            let message = timeout(ANSWER_TIMEOUT, answers.next())
                .await
                .map_err(|_| unavailable("NATS did not answer a read in time"))?
                .ok_or_else(|| unavailable("the connection to NATS was closed"))?;
            if let Some(status) = message.status {
                batch.complete = end_of_batch(status.as_u16(), &message)?;
                return Ok(batch);
            }
            let (stored, follows) = direct(message)?;
            if follows != before {
                return Err(unavailable("a message of a batch was lost on the way"));
            }
            before = stored.sequence;
            let stream = self.subjects.stream(&stored.subject);
            match (message::decode(&self.subjects, stored), stream) {
                (Ok(commit), _) => batch.commits.push(commit),
                (Err(ReadError::Corrupt { reason }), Some(stream)) => {
                    let position = before;
                    batch.damaged.push(Damage {
                        stream,
                        position,
                        reason,
                    });
                }
                (Err(error), _) => return Err(error),
            }
        }
    }

    /// The message at a sequence, from the leader.
    pub(super) async fn at(&self, sequence: u64) -> Result<Option<Recorded>, ReadError> {
        self.decoded(self.stream.get_raw_message(sequence).await)
    }

    /// The last message on `subject` (wildcards allowed), from the leader.
    pub(super) async fn last(&self, subject: &str) -> Result<Option<Recorded>, ReadError> {
        self.decoded(self.stream.get_last_raw_message_by_subject(subject).await)
    }

    fn decoded(
        &self,
        answer: Result<
            async_nats::jetstream::message::StreamMessage,
            async_nats::jetstream::stream::RawMessageError,
        >,
    ) -> Result<Option<Recorded>, ReadError> {
        let message = match answer {
            Ok(message) => message,
            Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => {
                return Ok(None);
            }
            Err(error) => return Err(unavailable(error)),
        };
        let stored = Stored {
            subject: message.subject.to_string(),
            sequence: message.sequence,
            time: message.time,
            headers: message.headers,
            payload: message.payload,
        };
        message::decode(&self.subjects, stored).map(Some)
    }

    /// The head of a stream, from the leader.
    pub(super) async fn leader_head(&self, stream: &StreamName) -> Result<Head, ReadError> {
        let last = self.last(&self.subjects.of(stream)).await?;
        let head = last.map_or(Head::EMPTY, |commit| commit.head());
        self.remember(stream, head);
        Ok(head)
    }

    /// The greatest sequence in use, from the leader.
    pub(super) async fn edge(&self) -> Result<u64, ReadError> {
        let info = self.stream.get_info().await.map_err(unavailable)?;
        Ok(info.state.last_sequence)
    }

    /// Commits of a stream after a position, to the end or to the limit.
    pub(super) async fn read(
        &self,
        stream: &StreamName,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Recorded>, ReadError> {
        let subject = self.subjects.of(stream);
        let mut chain = ChainCheck::starting_after(after);
        let mut commits = Vec::new();
        let mut through = after;
        let mut lag = Lag::new();
        while commits.len() < limit {
            let batch = self
                .batch(&subject, through + 1, limit - commits.len())
                .await?;
            for commit in batch.commits {
                if let Some(damage) = damage_before(&batch.damaged, commit.position) {
                    return Err(damage);
                }
                chain.follow(&commit)?;
                through = commit.position;
                commits.push(commit);
            }
            if let Some(damage) = damage_before(&batch.damaged, u64::MAX) {
                return Err(damage);
            }
            if batch.complete {
                if self.covers(&subject, through).await? {
                    break;
                }
                lag.pause().await?;
            }
        }
        if let Some(last) = commits.last() {
            self.remember(stream, last.head());
        }
        Ok(commits)
    }

    /// What a filter sees after a position.
    pub(super) async fn page(&self, filter: &Filter, after: u64) -> Result<Page, ReadError> {
        // Taken before the batch: what is stored up to here, the batch must contain.
        let edge = self.edge().await?;
        let subject = self.subjects.matching(filter).filter(|_| edge > after);
        let Some(subject) = subject else {
            return Ok(Page {
                commits: Vec::new(),
                damaged: Vec::new(),
                through: edge.max(after),
                at_edge: true,
            });
        };
        let mut lag = Lag::new();
        loop {
            let batch = self.batch(&subject, after + 1, PAGE_COMMITS).await?;
            let last = batch.commits.last().map_or(after, |commit| commit.position);
            let last = last.max(batch.damaged.last().map_or(after, |it| it.position));
            let at_edge = batch.complete && self.covers(&subject, last).await?;
            if at_edge || last > after {
                let through = if at_edge { edge.max(last) } else { last };
                return Ok(Page {
                    commits: batch.commits,
                    damaged: batch.damaged,
                    through,
                    at_edge,
                });
            }
            lag.pause().await?;
        }
    }

    /// Whether the leader holds nothing on `subject` beyond `through`. With one replica, whoever
    /// answered was the leader.
    async fn covers(&self, subject: &str, through: u64) -> Result<bool, ReadError> {
        if self.replicas <= 1 {
            return Ok(true);
        }
        Ok(self
            .last(subject)
            .await?
            .is_none_or(|last| last.position <= through))
    }
}

fn damage_before(damaged: &[Damage], position: u64) -> Option<ReadError> {
    let first = damaged.first().filter(|it| it.position < position)?;
    let reason = first.reason.clone();
    Some(ReadError::Corrupt { reason })
}

/// Patience with a replica that lags.
struct Lag {
    until: Instant,
}

impl Lag {
    fn new() -> Self {
        Self {
            until: Instant::now() + LAG_LIMIT,
        }
    }

    async fn pause(&mut self) -> Result<(), ReadError> {
        if Instant::now() >= self.until {
            return Err(unavailable(
                "a replica of the NATS stream lags behind its leader",
            ));
        }
        sleep(LAG_PAUSE).await;
        Ok(())
    }
}

/// Whether a status message says that nothing is left to read.
fn end_of_batch(status: u16, message: &Message) -> Result<bool, ReadError> {
    match status {
        404 => Ok(true),
        204 => {
            let headers = message.headers.as_ref();
            let pending = headers.and_then(|headers| only(headers, "Nats-Num-Pending"));
            Ok(pending == Some("0"))
        }
        503 => Err(unavailable("no NATS server answers for the stream")),
        _ => {
            let words = message.description.as_deref().unwrap_or_default();
            Err(unavailable(format!(
                "NATS refused a read: {status} {words}"
            )))
        }
    }
}

/// A message of a batch, and the sequence of the one sent before it.
fn direct(message: Message) -> Result<(Stored, u64), ReadError> {
    let headers = message.headers.unwrap_or_default();
    let missing = |name: &str| ReadError::Corrupt {
        reason: format!("a message that was read has not exactly one {name} header"),
    };
    let header = |name: &'static str| only(&headers, name).ok_or_else(|| missing(name));
    let number = |name: &'static str| header(name)?.parse::<u64>().map_err(|_| missing(name));
    let subject = header("Nats-Subject")?.to_owned();
    let sequence = number("Nats-Sequence")?;
    let follows = number("Nats-Last-Sequence")?;
    let time = async_nats::datetime::parse_rfc3339(header("Nats-Time-Stamp")?)
        .map_err(|_| missing("Nats-Time-Stamp"))?;
    Ok((
        Stored {
            subject,
            sequence,
            time,
            headers,
            payload: message.payload,
        },
        follows,
    ))
}
