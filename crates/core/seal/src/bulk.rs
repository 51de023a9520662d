//! Many records that differ in their digests and subjects only: what sealing in bulk and expanding its answer share.

use crate::record::{DIGEST_PLACE, Record, RecordError};

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

/// The encoded records of a chunk: `shared` with each digest, and with each subject where there are any.
pub fn encode_records(
    shared: &Record,
    digests: &[[u8; 32]],
    subjects: &[String],
) -> Result<Vec<Vec<u8>>, ChunkError> {
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
        let sample = encode(&record, 0)?;
        let with = |digest: &[u8; 32]| {
            let mut bytes = sample.clone();
            if let Some(place) = bytes.get_mut(DIGEST_PLACE) {
                place.copy_from_slice(digest);
            }
            bytes
        };
        return Ok(digests.iter().map(with).collect());
    }
    let pairs = digests.iter().zip(subjects).enumerate();
    pairs
        .map(|(place, (digest, subject))| {
            record.digest = *digest;
            record.subject = (!subject.is_empty()).then(|| subject.clone());
            encode(&record, place)
        })
        .collect()
}
