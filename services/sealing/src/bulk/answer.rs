//! Answers to chunks, in the order of the chunks.

use super::chunk::Prepared;
use super::{Pending, Sent, Where};
use crate::request::hex;
use crate::requests::Run;
use crate::seals::{blocking, covers, stage_of, tree_of};
use crate::service::Service;
use crate::stop::Failure;
use crate::tree::{Tree, origin_name};
use crate::writer::Placed;
use sealwarden_seal::bulk::encode_records;
use sealwarden_seal::merkle::BatchProof;
use sealwarden_seal::record::{NONCE_BYTES, Record};
use sealwarden_seallog::{Leaf, ProvenRange, Published};
use sealwarden_wire::seal::v1::SealStreamResponse;
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::metadata::MetadataValue;

/// Metadata that says how many chunks were answered before a stream ended.
const CHUNKS_SEALED: &str = "chunks-sealed";
/// Metadata that says how many digests they had.
const DIGESTS_SEALED: &str = "digests-sealed";

/// One stream's answers.
pub(super) struct Answers<'a> {
    service: &'a Arc<Service>,
    out: mpsc::Sender<Result<SealStreamResponse, Status>>,
    chunks: u64,
    digests: u64,
}

/// What a chunk's answer says of its leaves.
struct Told {
    nonces: Vec<u8>,
    claimed_at_ms: i64,
    /// Only where they are not what the client makes of its own words.
    records: Vec<Vec<u8>>,
}

impl<'a> Answers<'a> {
    pub(super) fn new(
        service: &'a Arc<Service>,
        out: mpsc::Sender<Result<SealStreamResponse, Status>>,
    ) -> Self {
        Self {
            service,
            out,
            chunks: 0,
            digests: 0,
        }
    }

    /// Ends with the first chunk that was not sealed, or when the client is gone.
    pub(super) async fn send_all(mut self, mut waiting: mpsc::Receiver<Pending>) {
        while let Some(pending) = waiting.recv().await {
            let answer = match pending {
                Pending::Refused(status) => Err(status),
                Pending::Sent(sent) => self.answer(*sent).await,
            };
            let answer = answer.map_err(|status| self.with_progress(&status));
            let ends = answer.is_err();
            if let Ok(answer) = &answer {
                self.chunks += 1;
                self.digests += u64::from(answer.count);
            }
            if self.out.send(answer).await.is_err() || ends {
                return;
            }
        }
    }

    async fn answer(&self, sent: Sent) -> Result<SealStreamResponse, Status> {
        let now_ms = self.service.node.clock.now().wall_ms;
        let Placed { run, published } = match sent.placed {
            Where::Known(placed) => placed,
            Where::Waits(answered) => answered
                .await
                .unwrap_or(Err(Failure::ShuttingDown))
                .map_err(|failure| failure.to_status(now_ms))?,
        };
        let service = self.service;
        let origin = origin_name(&service.node, &service.config, run.place.tree);
        let tree = tree_of(service, &origin)?;
        if sent.prepared.until_witnessed {
            let last = run.place.index.saturating_add(run.count).saturating_sub(1);
            covers(service, &tree, last).await;
        }
        let prepared = sent.prepared;
        let number = prepared.number;
        let Some(published) = published else {
            service.records.require(&origin, &range(run))?;
            let (told, proven) = again(&tree, run, prepared).await?;
            return Ok(self.response(number, (&tree, run), told, &proven));
        };
        let proven = if prepared.until_witnessed {
            prove(&tree, run).await?
        } else {
            from_memory(&published, run)?
        };
        let told = Told {
            nonces: prepared.nonces,
            claimed_at_ms: prepared.shared.claimed_at_ms,
            records: Vec::new(),
        };
        Ok(self.response(number, (&tree, run), told, &proven))
    }

    fn response(
        &self,
        number: u64,
        (tree, run): (&Tree, Run),
        told: Told,
        proven: &ProvenRange,
    ) -> SealStreamResponse {
        let required = self.service.witnesses.required(&self.service.node.board);
        let hashes = proven.proof.hashes.iter();
        SealStreamResponse {
            number,
            checkpoint: proven.note.as_bytes().to_vec().into(),
            first_index: run.place.index,
            count: u32::try_from(run.count).unwrap_or(u32::MAX),
            nonces: told.nonces.into(),
            claimed_at_ms: told.claimed_at_ms,
            proof: hashes.flat_map(|hash| hash.0).collect::<Vec<_>>().into(),
            records: told.records.into_iter().map(Into::into).collect(),
            stage: stage_of(required.as_deref(), tree, &proven.note).into(),
        }
    }

    /// A status that says how far the stream came.
    fn with_progress(&self, status: &Status) -> Status {
        let Self {
            chunks, digests, ..
        } = self;
        let message = format!(
            "{}; before that, {chunks} chunks with {digests} digests of this stream were sealed and answered",
            status.message()
        );
        let mut metadata = status.metadata().clone();
        for (name, count) in [(CHUNKS_SEALED, chunks), (DIGESTS_SEALED, digests)] {
            if let Ok(value) = MetadataValue::try_from(count.to_string()) {
                metadata.insert(name, value);
            }
        }
        Status::with_metadata(status.code(), message, metadata)
    }
}

async fn prove(tree: &Arc<Tree>, run: Run) -> Result<ProvenRange, Status> {
    let reader = tree.reader.clone();
    blocking(move || reader.view()?.prove_range(range(run))).await
}

/// The proof against the batch's own checkpoint: nothing is read from the disk.
fn from_memory(published: &Published, run: Run) -> Result<ProvenRange, Status> {
    let proof = BatchProof::make(published, range(run), published.size);
    Ok(ProvenRange {
        proof: proof.map_err(|error| Status::internal(error.to_string()))?,
        note: Arc::clone(&published.note),
        witnessed: false,
    })
}

fn range(run: Run) -> std::ops::Range<u64> {
    run.place.index..run.place.index.saturating_add(run.count)
}

/// A chunk that was sealed before: its leaves are read from the log, and must have the digests that came now.
async fn again(
    tree: &Arc<Tree>,
    run: Run,
    prepared: Prepared,
) -> Result<(Told, ProvenRange), Status> {
    if run.count != u64::from(prepared.count) {
        return Err(Status::already_exists(format!(
            "this request id and chunk number were used for {} digests, and now come with {}: new work needs an id of its own",
            run.count, prepared.count
        )));
    }
    let reader = tree.reader.clone();
    let (leaves, proven) = blocking(move || {
        let view = reader.view()?;
        Ok((view.records(range(run))?, view.prove_range(range(run))?))
    })
    .await?;
    Ok((recognise(&leaves, &prepared)?, proven))
}

fn recognise(leaves: &[Leaf], prepared: &Prepared) -> Result<Told, Status> {
    let mut claimed_at_ms = prepared.shared.claimed_at_ms;
    for (place, (leaf, digest)) in leaves.iter().zip(&prepared.digests).enumerate() {
        let record = Record::decode(&leaf.record);
        let record = record.map_err(|error| Status::data_loss(error.to_string()))?;
        if record.digest != *digest {
            return Err(Status::already_exists(format!(
                "this request id and chunk number were used for digest {} at place {place}, and now come with {}: new work needs an id of its own",
                hex(&record.digest),
                hex(digest)
            )));
        }
        if place == 0 && !prepared.claims_time {
            claimed_at_ms = record.claimed_at_ms;
        }
    }
    let shared = Record {
        claimed_at_ms,
        ..prepared.shared.clone()
    };
    let expected = encode_records(&shared, &prepared.digests, &prepared.subjects)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let same = expected.iter().eq(leaves.iter().map(|leaf| &leaf.record));
    let mut nonces = Vec::with_capacity(leaves.len() * NONCE_BYTES);
    for leaf in leaves {
        nonces.extend_from_slice(&leaf.nonce);
    }
    let records = if same {
        Vec::new()
    } else {
        leaves.iter().map(|leaf| leaf.record.clone()).collect()
    };
    Ok(Told {
        nonces,
        claimed_at_ms,
        records,
    })
}
