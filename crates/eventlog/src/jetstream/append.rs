//! Appending: one published message, and what the server's answers mean.

use async_nats::client::RequestErrorKind;
use async_nats::connection::State;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{Error as ApiError, ErrorCode};
use async_nats::{Message, Request};

use super::{ANSWER_TIMEOUT, Shared, message};
use crate::commit::{CommitId, Head, NewCommit, Recorded};
use crate::name::StreamName;
use crate::port::{AppendError, ReadError};

/// How far before the expected head a retried commit is looked for, in positions of the whole log.
const LOOK_BACK: u64 = 1_024;
/// How many commits after that point are looked at.
const LOOK_AT: usize = 8_192;
/// How often a commit that was acknowledged is asked for.
const READ_BACK_TRIES: usize = 3;

/// Refusals after which the message is certainly not stored. After any other it may be.
const REFUSALS: [ErrorCode; 8] = [
    ErrorCode::INSUFFICIENT_RESOURCES,
    ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
    ErrorCode::STORAGE_RESOURCES_EXCEEDED,
    ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM,
    ErrorCode::STREAM_NOT_MATCH,
    ErrorCode::STREAM_NOT_FOUND,
    ErrorCode::STREAM_SEALED,
    ErrorCode::BAD_REQUEST,
];

fn unknown(reason: impl std::fmt::Display) -> AppendError {
    AppendError::Unknown {
        reason: reason.to_string(),
    }
}

fn not_stored(reason: impl std::fmt::Display) -> AppendError {
    AppendError::Unavailable {
        reason: reason.to_string(),
    }
}

/// A read that failed after the message may have been stored, now or at an earlier try.
fn in_doubt(error: ReadError) -> AppendError {
    match error {
        ReadError::Unavailable { reason } => AppendError::Unknown { reason },
        ReadError::Corrupt { reason } => AppendError::Corrupt { reason },
    }
}

impl Shared {
    pub(super) async fn append(
        &self,
        stream: &StreamName,
        expected: Head,
        commit: NewCommit,
    ) -> Result<Recorded, AppendError> {
        if self.client.connection_state() != State::Connected {
            return Err(not_stored(
                "the connection to NATS is lost; it is being restored",
            ));
        }
        // The server compares positions only; a false hash would break the chain for ever.
        if !self.is_history(stream, expected).await? {
            return self.refused(stream, expected, commit.id).await;
        }
        let subject = self.subjects.of(stream);
        let (headers, hash) = message::headers(stream, &subject, &self.name, expected, &commit);
        let request = Request::new()
            .headers(headers)
            .payload(commit.payload)
            .timeout(Some(ANSWER_TIMEOUT));
        let answer = match self.client.send_request(subject, request).await {
            Ok(answer) => answer,
            Err(error) => {
                return Err(match error.kind() {
                    RequestErrorKind::NoResponders
                    | RequestErrorKind::InvalidSubject
                    | RequestErrorKind::MaxPayloadExceeded => not_stored(error),
                    RequestErrorKind::TimedOut | RequestErrorKind::Other => unknown(error),
                });
            }
        };
        match acknowledgement(&answer)? {
            Ok(ack) => self.acknowledged(stream, commit.id, hash, &ack).await,
            Err(error) if is_wrong_sequence(&error) => {
                self.refused(stream, expected, commit.id).await
            }
            Err(error) if REFUSALS.contains(&error.error_code()) => Err(not_stored(error)),
            Err(error) => Err(unknown(error)),
        }
    }

    /// Whether `head` was the head of `stream` once, by what is remembered or by the leader's word.
    async fn is_history(&self, stream: &StreamName, head: Head) -> Result<bool, AppendError> {
        if head.position == 0 {
            return Ok(head == Head::EMPTY);
        }
        if self.remembered(stream) == Some(head) {
            return Ok(true);
        }
        let there = self.at(head.position).await?;
        Ok(there.is_some_and(|commit| commit.stream == *stream && commit.hash == head.hash))
    }

    /// The server says the message is stored: reads it back, for its time and to see that it is ours.
    async fn acknowledged(
        &self,
        stream: &StreamName,
        id: CommitId,
        hash: [u8; 32],
        ack: &PublishAck,
    ) -> Result<Recorded, AppendError> {
        let mut failure = String::new();
        for _ in 0..READ_BACK_TRIES {
            match self.at(ack.sequence).await {
                Ok(Some(stored)) if stored.stream == *stream && stored.commit_id == id => {
                    if !ack.duplicate && stored.hash != hash {
                        break;
                    }
                    self.remember(stream, stored.head());
                    self.touch();
                    return Ok(stored);
                }
                Ok(_) => break,
                Err(ReadError::Unavailable { reason }) => failure = reason,
                Err(ReadError::Corrupt { reason }) => return Err(AppendError::Corrupt { reason }),
            }
        }
        if failure.is_empty() {
            let reason = format!(
                "NATS acknowledged commit {id} of {stream} as message {}, which holds something else",
                ack.sequence
            );
            return Err(AppendError::Corrupt { reason });
        }
        Err(unknown(format!("stored, but not yet readable: {failure}")))
    }

    /// The expected head is not the last: finds out whether our commit is why.
    async fn refused(
        &self,
        stream: &StreamName,
        expected: Head,
        id: CommitId,
    ) -> Result<Recorded, AppendError> {
        let head = self.leader_head(stream).await.map_err(in_doubt)?;
        let subject = self.subjects.of(stream);
        let mut from = expected.position.saturating_sub(LOOK_BACK) + 1;
        let mut seen = 0;
        while from <= head.position && seen < LOOK_AT {
            let batch = self
                .batch(&subject, from, LOOK_AT - seen)
                .await
                .map_err(in_doubt)?;
            let Some(last) = batch.commits.last().map(|commit| commit.position) else {
                return Err(unknown(
                    "a replica of the NATS stream lags behind its leader",
                ));
            };
            seen += batch.commits.len();
            from = last + 1;
            if let Some(ours) = batch
                .commits
                .into_iter()
                .find(|commit| commit.commit_id == id)
            {
                return Ok(ours);
            }
        }
        Err(AppendError::Conflict { head })
    }
}

fn acknowledgement(answer: &Message) -> Result<Result<PublishAck, ApiError>, AppendError> {
    match serde_json::from_slice::<Response<PublishAck>>(&answer.payload) {
        Ok(Response::Ok(ack)) => Ok(Ok(ack)),
        Ok(Response::Err { error }) => Ok(Err(error)),
        Err(error) => Err(unknown(format!(
            "NATS gave an answer that cannot be read: {error}"
        ))),
    }
}

fn is_wrong_sequence(error: &ApiError) -> bool {
    [
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE,
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT,
    ]
    .contains(&error.error_code())
}
