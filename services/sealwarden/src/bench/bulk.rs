//! `seal.bulk`: sealing over gRPC in streams of chunks with mutual TLS on loopback, load generator included. Each answer is
//! expanded into the text of every seal, as a client does that keeps them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sealwarden_seal::bulk::{Answered, SealedChunk, encode_records};
use sealwarden_seal::record::{DigestAlgorithm, Record};
use sealwarden_wire::seal::v1::seal_stream_request::Message;
use sealwarden_wire::seal::v1::sealing_client::SealingClient;
use sealwarden_wire::seal::v1::{
    DigestChunk, SealStreamHeader, SealStreamRequest, SealStreamResponse,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::Setting;
use super::figures::{Baseline, Figure, Measured, ms, number, quantile, rate};
use super::limits;
use super::unary::Bench;

/// Streams at once, each on a connection of its own.
const STREAMS: u64 = 2;
/// Chunks of a stream that are sent and not answered.
const UNANSWERED: usize = 2;
/// Digests of a chunk.
const DIGESTS: u64 = 8_192;
/// Bytes of a leaf's nonce and record, with neither subject nor request id.
const LEAF_BYTES: usize = 16 + 2 + 32 + 8 + 8 + 8 + 1;
/// Leaves of a batch: two streams' chunks.
const BATCH: usize = 16_384;

pub(super) async fn measure(setting: &Setting) -> anyhow::Result<Measured> {
    setting.stage("starting services");
    let bench = Bench::start(&setting.folder).await?;
    let result = load(&bench, setting).await;
    bench.stop().await?;
    result
}

async fn load(bench: &Bench, setting: &Setting) -> anyhow::Result<Measured> {
    let channels = bench.sealing().await?;
    setting.stage("sealing in bulk");
    let mut streams = JoinSet::new();
    let begun = Instant::now();
    for (stream, channel) in (0..STREAMS).zip(channels) {
        let span = setting.span;
        streams.spawn(async move { Stream::open(stream, channel).await?.run(begun, span).await });
    }
    let mut spans = Vec::new();
    let mut bytes = 0;
    while let Some(ended) = streams.join_next().await {
        let done = ended.context("a stream panicked")??;
        spans.extend(done.spans);
        bytes += done.bytes;
    }
    let took = begun.elapsed();
    let seals = u64::try_from(spans.len())? * DIGESTS;
    let sealed = rate(seals, took);
    setting.stage("limits: a raw file, signatures");
    let folder = setting.folder.clone();
    let span = setting.span.min(Duration::from_secs(3));
    let alone = tokio::task::spawn_blocking(move || {
        let appended = limits::appends(&folder, BATCH * LEAF_BYTES, span)?;
        anyhow::Ok((appended, limits::sign_s(Duration::from_secs(1))?))
    });
    let (appended, sign_s) = alone.await.context("measuring limits")??;
    let mut measured = Measured {
        figures: vec![
            Figure {
                name: "seal.bulk",
                value: sealed,
                unit: "seals/s",
                limit: appended * number(u64::try_from(BATCH)?),
                limit_is: "nonces and records appended to a raw file, one sync for 16384",
            },
            Figure {
                name: "seal.bulk.p99",
                value: ms(quantile(&mut spans, 990)),
                unit: "ms",
                limit: 100.0,
                limit_is: "the design's bound for an acknowledgement",
            },
        ],
        baselines: vec![Baseline {
            figure: "seal.bulk",
            value: 1.0 / sign_s,
            is: "one signature a document, nothing else",
        }],
        settings: Vec::new(),
    };
    measured.setting(
        "durability",
        "each answer follows the syncs of its batch: leaves, intent in the event log, the key's audit line, tiles, checkpoint",
    );
    measured.setting(
        "load",
        format!(
            "{STREAMS} streams with mutual TLS, {UNANSWERED} chunks of {DIGESTS} digests unanswered on each, in the same process as the services; every seal was written out in memory, {} bytes each",
            bytes / seals.max(1)
        ),
    );
    Ok(measured)
}

struct Done {
    spans: Vec<Duration>,
    bytes: u64,
}

struct Stream {
    to: mpsc::Sender<SealStreamRequest>,
    answers: tonic::Streaming<SealStreamResponse>,
    /// Number, digests and time of what is not answered.
    unanswered: VecDeque<(u64, Vec<[u8; 32]>, Instant)>,
    /// Which stream it is: its digests are its own.
    lane: u64,
    next: u64,
}

impl Stream {
    async fn open(stream: u64, channel: Channel) -> anyhow::Result<Self> {
        let (to, requests) = mpsc::channel(UNANSWERED + 1);
        let header = SealStreamHeader {
            digest_algorithm: "sha-256".to_owned(),
            ..SealStreamHeader::default()
        };
        let message = Some(Message::Header(header));
        to.send(SealStreamRequest { message }).await?;
        let mut client = SealingClient::new(channel);
        let answers = client.seal_stream(ReceiverStream::new(requests)).await?;
        Ok(Self {
            to,
            answers: answers.into_inner(),
            unanswered: VecDeque::new(),
            lane: stream,
            next: 0,
        })
    }

    async fn send(&mut self) -> anyhow::Result<()> {
        let first = self.next * DIGESTS;
        let digest = |place: u64| {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&self.lane.to_be_bytes());
            digest[8..16].copy_from_slice(&(first + place).to_be_bytes());
            digest
        };
        let digests: Vec<_> = (0..DIGESTS).map(digest).collect();
        let chunk = DigestChunk {
            number: self.next,
            digests: digests.concat().into(),
            ..DigestChunk::default()
        };
        self.unanswered
            .push_back((self.next, digests, Instant::now()));
        self.next += 1;
        let message = Some(Message::Chunk(chunk));
        self.to.send(SealStreamRequest { message }).await?;
        Ok(())
    }

    async fn run(mut self, begun: Instant, span: Duration) -> anyhow::Result<Done> {
        let mut done = Done {
            spans: Vec::new(),
            bytes: 0,
        };
        for _ in 0..UNANSWERED {
            self.send().await?;
        }
        while let Some((number, digests, sent)) = self.unanswered.pop_front() {
            let answer = self.answers.message().await?.context("the stream ended")?;
            ensure!(answer.number == number, "chunk {number} was not answered");
            done.spans.push(sent.elapsed());
            if begun.elapsed() < span {
                self.send().await?;
            }
            done.bytes += expand(&digests, &answer)?;
        }
        Ok(done)
    }
}

/// Writes out every seal of an answer; its length.
fn expand(digests: &[[u8; 32]], answer: &SealStreamResponse) -> anyhow::Result<u64> {
    let shared = Record {
        tenant: "default".to_owned(),
        policy: "default".to_owned(),
        digest_algorithm: DigestAlgorithm::Sha256,
        digest: [0; 32],
        claimed_at_ms: answer.claimed_at_ms,
        subject: None,
        original: None,
        request_id: None,
    };
    let records = encode_records(&shared, digests, &[])?;
    let answered = Answered {
        first_index: answer.first_index,
        nonces: &answer.nonces,
        proof: &answer.proof,
        checkpoint: &answer.checkpoint,
    };
    let sealed = SealedChunk::expand(records.iter().map(Vec::as_slice), &answered)?;
    let mut bytes = 0;
    sealed.for_each_seal(|_, text| bytes += u64::try_from(text.len()).unwrap_or_default());
    Ok(bytes)
}
