//! Many documents: chunks of digests out, each one's seals back, repeated where the connection or the service was away.

use crate::retry::Retry;
use crate::{Client, ClientError};
use sealwarden_seal::bulk::{
    Answered, ChunkError, ExpandError, SealedChunk, chunk_request_id, encode_records,
};
use sealwarden_seal::record::{DigestAlgorithm, Record};
use sealwarden_wire::seal::v1::seal_stream_request::Message;
use sealwarden_wire::seal::v1::{
    DigestChunk, Priority, SealStreamHeader, SealStreamRequest, SealStreamResponse, Stage,
};
use std::collections::VecDeque;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// What all chunks share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// As in [`crate::Document`].
    pub tenant: String,
    /// The sealing policy, as in [`crate::Document`].
    pub policy: String,
    /// The client's own id of this work, at most 43 characters without `#`. Keep it to repeat work after a crash: chunks with
    /// the same numbers and digests get the seals that they have.
    pub request_id: String,
    /// Until which stage each chunk waits.
    pub wait: Stage,
    /// Whether it goes first.
    pub priority: Priority,
    /// How many chunks may be sent and not answered; what they hold stays in memory.
    pub unanswered: usize,
}

impl Work {
    /// New work of a tenant (empty: the default one), under an id that is made up.
    pub fn new(tenant: impl Into<String>) -> Self {
        Self {
            tenant: tenant.into(),
            policy: String::new(),
            request_id: uuid::Uuid::new_v4().to_string(),
            wait: Stage::Sealed,
            priority: Priority::Normal,
            unanswered: 8,
        }
    }

    fn header(&self) -> SealStreamHeader {
        SealStreamHeader {
            digest_algorithm: "sha-256".to_owned(),
            tenant: self.tenant.clone(),
            policy: self.policy.clone(),
            request_id: self.request_id.clone(),
            wait: self.wait.into(),
            priority: self.priority.into(),
        }
    }
}

/// Digests that are sealed together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Grows from chunk to chunk.
    pub number: u64,
    /// 1 to [`crate::MAX_CHUNK_DIGESTS`].
    pub digests: Vec<[u8; 32]>,
    /// None, or one for each digest (empty: none).
    pub subjects: Vec<String>,
    /// Unix milliseconds, the client's claim; 0 means the service's time.
    pub claimed_at_ms: i64,
}

impl Chunk {
    fn message(&self) -> DigestChunk {
        DigestChunk {
            number: self.number,
            digests: self.digests.concat().into(),
            subjects: self.subjects.clone(),
            claimed_at_ms: self.claimed_at_ms,
        }
    }
}

/// Why work in bulk ended.
#[derive(Debug, thiserror::Error)]
pub enum BulkError {
    /// The service refused it, for longer than the client's patience.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A chunk cannot be made into records.
    #[error("chunk {number}: {error}")]
    Chunk {
        /// The chunk.
        number: u64,
        /// What is wrong.
        error: ChunkError,
    },
    /// The answer does not prove what was sent.
    #[error("chunk {number}: {error}")]
    Answer {
        /// The chunk.
        number: u64,
        /// What is wrong.
        error: ExpandError,
    },
    /// The answer is to something else.
    #[error("the service answered chunk {answered} where chunk {expected} was next")]
    Order {
        /// The chunk that was answered.
        answered: u64,
        /// The chunk that was next.
        expected: u64,
    },
}

impl From<Status> for BulkError {
    fn from(status: Status) -> Self {
        Self::Client(status.into())
    }
}

impl Client {
    /// Seals chunks as they come from `source`, and gives each with its seals to `each`, in order, once it is durable. Ends
    /// when `source` does, or with the first error that repeating does not help; what `each` saw is sealed in any case, and
    /// what it did not see is sealed at most once if the same work is done again.
    pub async fn seal_bulk(
        &self,
        work: &Work,
        mut source: mpsc::Receiver<Chunk>,
        mut each: impl FnMut(&Chunk, &SealedChunk, Stage),
    ) -> Result<(), BulkError> {
        let mut unanswered = VecDeque::new();
        let mut retry = Retry::new(self.patience);
        loop {
            let mut talk = Talk {
                work,
                source: &mut source,
                unanswered: &mut unanswered,
                retry: &mut retry,
            };
            match talk.run(self, &mut each).await {
                Ok(()) => return Ok(()),
                Err(Ended::Refused(status)) => retry.wait(status).await?,
                Err(Ended::Failed(error)) => return Err(error),
            }
        }
    }
}

enum Ended {
    Refused(Status),
    Failed(BulkError),
}

/// One stream of possibly several.
struct Talk<'a> {
    work: &'a Work,
    source: &'a mut mpsc::Receiver<Chunk>,
    unanswered: &'a mut VecDeque<Chunk>,
    retry: &'a mut Retry,
}

impl Talk<'_> {
    async fn run(
        &mut self,
        client: &Client,
        each: &mut impl FnMut(&Chunk, &SealedChunk, Stage),
    ) -> Result<(), Ended> {
        let most = self.work.unanswered.max(1);
        // One place for the header and one for each chunk that may be on its way: sending never waits.
        let (to, requests) = mpsc::channel(most + 1);
        send(&to, Message::Header(self.work.header())).await;
        for chunk in self.unanswered.iter() {
            send(&to, Message::Chunk(chunk.message())).await;
        }
        let mut to = Some(to);
        let mut sealing = client.sealing.clone();
        let answers = sealing.seal_stream(ReceiverStream::new(requests));
        let mut answers = answers.await.map_err(Ended::Refused)?.into_inner();
        loop {
            if to.is_none() && self.unanswered.is_empty() {
                return Ok(());
            }
            let may_send = to.is_some() && self.unanswered.len() < most;
            tokio::select! {
                chunk = self.source.recv(), if may_send => match (chunk, &to) {
                    (Some(chunk), Some(to)) => {
                        send(to, Message::Chunk(chunk.message())).await;
                        self.unanswered.push_back(chunk);
                    }
                    _ => to = None,
                },
                answer = next(&mut answers) => self.take(&answer?, each)?,
            }
        }
    }

    fn take(
        &mut self,
        answer: &SealStreamResponse,
        each: &mut impl FnMut(&Chunk, &SealedChunk, Stage),
    ) -> Result<(), Ended> {
        let number = answer.number;
        let next = self.unanswered.front();
        let Some(chunk) = next.filter(|chunk| chunk.number == number) else {
            return Err(Ended::Failed(BulkError::Order {
                answered: number,
                expected: next.map_or(u64::MAX, |chunk| chunk.number),
            }));
        };
        let sealed = expand(self.work, chunk, answer).map_err(Ended::Failed)?;
        each(chunk, &sealed, answer.stage());
        self.unanswered.pop_front();
        self.retry.went_on();
        Ok(())
    }
}

async fn next(answers: &mut Streaming<SealStreamResponse>) -> Result<SealStreamResponse, Ended> {
    match answers.message().await {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(Ended::Refused(Status::unavailable(
            "the stream ended early",
        ))),
        Err(status) => Err(Ended::Refused(status)),
    }
}

async fn send(to: &mpsc::Sender<SealStreamRequest>, message: Message) {
    let message = Some(message);
    // A stream that ended says why when its next answer is read.
    drop(to.send(SealStreamRequest { message }).await);
}

/// Makes the seals of an answer, and checks that each proves what was sent.
fn expand(
    work: &Work,
    chunk: &Chunk,
    answer: &SealStreamResponse,
) -> Result<SealedChunk, BulkError> {
    let number = chunk.number;
    let answered = Answered {
        first_index: answer.first_index,
        nonces: &answer.nonces,
        proof: &answer.proof,
        checkpoint: &answer.checkpoint,
    };
    let failed = |error| BulkError::Answer { number, error };
    if !answer.records.is_empty() {
        require_digests(chunk, answer)?;
        let records = answer.records.iter().map(AsRef::as_ref);
        return SealedChunk::expand(records, &answered).map_err(failed);
    }
    let or_default = |name: &String| {
        if name.is_empty() {
            "default".to_owned()
        } else {
            name.clone()
        }
    };
    let shared = Record {
        tenant: or_default(&work.tenant),
        policy: or_default(&work.policy),
        digest_algorithm: DigestAlgorithm::Sha256,
        digest: [0; 32],
        claimed_at_ms: answer.claimed_at_ms,
        subject: None,
        original: None,
        request_id: (!work.request_id.is_empty())
            .then(|| chunk_request_id(&work.request_id, number)),
    };
    let records = encode_records(&shared, &chunk.digests, &chunk.subjects)
        .map_err(|error| BulkError::Chunk { number, error })?;
    SealedChunk::expand(records.iter().map(Vec::as_slice), &answered).map_err(failed)
}

/// The records that were sealed before are of the digests that were sent now.
fn require_digests(chunk: &Chunk, answer: &SealStreamResponse) -> Result<(), BulkError> {
    let digests = answer
        .records
        .iter()
        .map(|record| Record::decode(record).ok().map(|record| record.digest));
    if digests.eq(chunk.digests.iter().copied().map(Some)) {
        return Ok(());
    }
    let reason = format!("the records of chunk {} are of other digests", chunk.number);
    Err(ClientError::NotOurs(reason).into())
}
