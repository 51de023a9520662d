//! Many records that differ in their digests and subjects only: what sealing in bulk and expanding its answer share.

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::encoding;
use crate::merkle::{BatchProof, BatchProofError, Hash, Paths};
use crate::note::{Note, NoteError};
use crate::record::{DIGEST_PLACE, NONCE_BYTES, Record, RecordError, entry_leaf_hash};
use crate::seal::HEADER;
use std::ops::Range;

/// A hash in base64 and the end of its line.
const LINE_CHARACTERS: usize = 45;

/// The most digests of a chunk.
pub const MAX_CHUNK_DIGESTS: usize = 8_192;

/// The request id of a chunk: one for all its records.
pub fn chunk_request_id(base: &str, number: u64) -> String {
    format!("{base}#{number}")
}

/// A chunk cannot be made into records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// No digest, or too many.
    #[error("a chunk of {0} digests is not allowed; send 1 to {MAX_CHUNK_DIGESTS}")]
    Count(usize),
    /// Subjects are given, and not for every digest.
    #[error(
        "{subjects} subjects for {digests} digests; give none, or one for each (empty for no subject)"
    )]
    Subjects {
        /// The number of subjects.
        subjects: usize,
        /// The number of digests.
        digests: usize,
    },
    /// A record breaks a limit.
    #[error("digest {place} of the chunk: {error}")]
    Record {
        /// Which digest, from 0.
        place: usize,
        /// What is wrong.
        error: RecordError,
    },
}

/// Calls `each` with the encoded record of every digest of a chunk, in order: `shared` with the digest, and with its subject
/// where there are any.
pub fn for_each_record(
    shared: &Record,
    digests: &[[u8; 32]],
    subjects: &[String],
    mut each: impl FnMut(&[u8]),
) -> Result<(), ChunkError> {
    if digests.is_empty() || digests.len() > MAX_CHUNK_DIGESTS {
        return Err(ChunkError::Count(digests.len()));
    }
    if !subjects.is_empty() && subjects.len() != digests.len() {
        return Err(ChunkError::Subjects {
            subjects: subjects.len(),
            digests: digests.len(),
        });
    }
    let mut record = shared.clone();
    let encode = |record: &Record, place| {
        record
            .encode()
            .map_err(|error| ChunkError::Record { place, error })
    };
    if subjects.is_empty() {
        // All are the same but for the digest, which has its place.
        let mut bytes = encode(&record, 0)?;
        for digest in digests {
            if let Some(place) = bytes.get_mut(DIGEST_PLACE) {
                place.copy_from_slice(digest);
            }
            each(&bytes);
        }
        return Ok(());
    }
    for (place, (digest, subject)) in digests.iter().zip(subjects).enumerate() {
        record.digest = *digest;
        record.subject = (!subject.is_empty()).then(|| subject.clone());
        each(&encode(&record, place)?);
    }
    Ok(())
}

/// The records of [`for_each_record`], all at once.
pub fn encode_records(
    shared: &Record,
    digests: &[[u8; 32]],
    subjects: &[String],
) -> Result<Vec<Vec<u8>>, ChunkError> {
    let mut records = Vec::with_capacity(digests.len());
    for_each_record(shared, digests, subjects, |record| {
        records.push(record.to_vec());
    })?;
    Ok(records)
}

/// An answer cannot be made into seals of what was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    /// Not one nonce a record, or not whole hashes.
    #[error("the answer's {what} have {bytes} bytes, which does not fit {leaves} digests")]
    Length {
        /// Which part.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The chunk's digests.
        leaves: usize,
    },
    /// The checkpoint is not a signed note.
    #[error("the answer's checkpoint is malformed: {0}")]
    Note(#[from] NoteError),
    /// The note is no checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The digests are not in the checkpoint's tree where the answer says.
    #[error("the answer does not prove what was sent: {0}")]
    Proof(#[from] BatchProofError),
}

/// What an answer says of a chunk's leaves.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// The first leaf's index.
    pub first_index: u64,
    /// 16 bytes a leaf.
    pub nonces: &'a [u8],
    /// 32 bytes a hash: [`BatchProof::hashes`].
    pub proof: &'a [u8],
    /// The signed note.
    pub checkpoint: &'a [u8],
}

/// A chunk's seals: each provable by itself, and not written out before they are asked for.
#[derive(Debug, Clone)]
pub struct SealedChunk {
    /// `nonce ‖ record` of each leaf, one after another.
    extras: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
    paths: Paths,
    note: String,
    checkpoint: Checkpoint,
}

impl SealedChunk {
    /// Checks that the records are in the tree of the answer's checkpoint, in their order. Who signed it, a trust bundle says.
    pub fn expand<'a>(
        records: impl ExactSizeIterator<Item = &'a [u8]>,
        answered: &Answered<'_>,
    ) -> Result<Self, ExpandError> {
        let leaves = records.len();
        let wrong = |what, bytes: &[u8]| ExpandError::Length {
            what,
            bytes: bytes.len(),
            leaves,
        };
        let (nonces, rest) = answered.nonces.as_chunks::<NONCE_BYTES>();
        if !rest.is_empty() || nonces.len() != leaves {
            return Err(wrong("nonces", answered.nonces));
        }
        let (hashes, rest) = answered.proof.as_chunks::<32>();
        if !rest.is_empty() {
            return Err(wrong("proof hashes", answered.proof));
        }
        let note = Note::parse(answered.checkpoint)?;
        let checkpoint = Checkpoint::parse(note.text())?;
        let proof = BatchProof {
            first: answered.first_index,
            size: checkpoint.size,
            hashes: hashes.iter().copied().map(Hash).collect(),
        };
        let (mut extras, mut ends) = (Vec::new(), Vec::with_capacity(leaves));
        let mut leaf_hashes = Vec::with_capacity(leaves);
        for (nonce, record) in nonces.iter().zip(records) {
            leaf_hashes.push(entry_leaf_hash(nonce, record));
            extras.extend_from_slice(nonce);
            extras.extend_from_slice(record);
            ends.push(extras.len());
        }
        Ok(Self {
            extras,
            ends,
            paths: proof.expand(&leaf_hashes, &checkpoint.root)?,
            note: note.to_string(),
            checkpoint,
        })
    }

    /// What was signed.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The signed note.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// The places of the chunk's leaves in the log.
    pub fn range(&self) -> Range<u64> {
        self.paths.range()
    }

    /// Writes every seal file in order, into one buffer after another: `each` gets the leaf's index and the file's text.
    pub fn for_each_seal(&self, mut each: impl FnMut(u64, &str)) {
        // A node's line stands in the seals of all leaves under its sibling: it is spelled once.
        let mut lines = String::with_capacity(self.paths.nodes().len() * LINE_CHARACTERS);
        for hash in self.paths.nodes() {
            encoding::base64_into(&hash.0, &mut lines);
            lines.push('\n');
        }
        let mut text = String::new();
        let mut leaves = self.ends.iter().scan(0, |start, end| {
            let extra = self.extras.get(*start..*end);
            *start = *end;
            extra
        });
        self.paths.for_each(|index, path| {
            text.clear();
            text.push_str(HEADER);
            text.push_str("\nextra ");
            encoding::base64_into(leaves.next().unwrap_or_default(), &mut text);
            text.push_str("\nindex ");
            text.push_str(&index.to_string());
            text.push('\n');
            for place in path {
                let start = place * LINE_CHARACTERS;
                text.push_str(
                    lines
                        .get(start..start + LINE_CHARACTERS)
                        .unwrap_or_default(),
                );
            }
            text.push('\n');
            text.push_str(&self.note);
            each(index, &text);
        });
    }
}
