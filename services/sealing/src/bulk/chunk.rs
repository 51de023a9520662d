//! From a stream's messages to leaves: every limit is checked here, and named when it is broken.

use crate::config::Config;
use crate::queue::Priority;
use crate::request::{
    NoRandomness, claimed_at_ms, excerpt, invalid, line, name, priority, require_algorithm,
    subject, until_witnessed,
};
use crate::requests::RequestKey;
use crate::tenants;
use ring::rand::{SecureRandom, SystemRandom};
use sealwarden_seal::bulk::{MAX_CHUNK_DIGESTS, chunk_request_id, for_each_record};
use sealwarden_seal::record::{DigestAlgorithm, NONCE_BYTES, Record};
use sealwarden_seallog::Leaves;
use sealwarden_wire::seal::v1::{DigestChunk, SealStreamHeader};
use tonic::Status;

/// A base, `#` and the longest number are a request id's 64 characters.
const MAX_BASE_CHARS: usize = 43;
const DIGEST_BYTES: usize = 32;
/// Room for nonce and record without a subject.
const USUAL_LEAF_BYTES: usize = 160;

/// What all chunks of a stream share, checked.
pub(super) struct Header {
    tenant: String,
    policy: String,
    base: Option<String>,
    pub(super) until_witnessed: bool,
    pub(super) priority: Priority,
    /// The last chunk's number.
    last: Option<u64>,
}

/// A chunk as it will stand in the log.
pub(super) struct Prepared {
    pub(super) number: u64,
    pub(super) count: u32,
    /// What its leaves become; taken when the writer gets them.
    pub(super) leaves: Leaves,
    pub(super) nonces: Vec<u8>,
    pub(super) key: Option<RequestKey>,
    /// What its records share, with the claimed time that the client gave, if it gave one.
    pub(super) shared: Record,
    pub(super) claims_time: bool,
    pub(super) digests: Vec<[u8; DIGEST_BYTES]>,
    pub(super) subjects: Vec<String>,
    pub(super) until_witnessed: bool,
}

impl Header {
    pub(super) fn check(header: SealStreamHeader) -> Result<Self, Status> {
        require_algorithm(&header.digest_algorithm)?;
        let base = header.request_id;
        if base.chars().count() > MAX_BASE_CHARS || base.contains('#') {
            let limit = "must have at most 43 characters, and no '#'";
            return Err(invalid("request_id", excerpt(&base), limit));
        }
        Ok(Self {
            tenant: name("tenant", header.tenant)?,
            policy: name("policy", header.policy)?,
            base: line("request_id", base, 107, "107 bytes")?,
            until_witnessed: until_witnessed(header.wait)?,
            priority: priority(header.priority)?,
            last: None,
        })
    }

    /// A chunk's leaves, with new nonces.
    pub(super) fn prepare(
        &mut self,
        config: &Config,
        caller: &str,
        chunk: DigestChunk,
        now_ms: i64,
    ) -> Result<Prepared, Status> {
        let number = chunk.number;
        if self.last.is_some_and(|last| last >= number) {
            let limit = "must be greater than that of the chunk before it";
            return Err(invalid("number", number, limit));
        }
        self.last = Some(number);
        let of_chunk = |status: Status| {
            Status::new(
                status.code(),
                format!("chunk {number}: {}", status.message()),
            )
        };
        self.prepare_next(config, caller, chunk, now_ms)
            .map_err(of_chunk)
    }

    fn prepare_next(
        &self,
        config: &Config,
        caller: &str,
        chunk: DigestChunk,
        now_ms: i64,
    ) -> Result<Prepared, Status> {
        let (digests, rest) = chunk.digests.as_chunks::<DIGEST_BYTES>();
        let count = u32::try_from(digests.len()).unwrap_or(u32::MAX);
        if !rest.is_empty() || digests.is_empty() || digests.len() > MAX_CHUNK_DIGESTS {
            let found = format!("of {} bytes", chunk.digests.len());
            let limit = format!("must be 1 to {MAX_CHUNK_DIGESTS} digests of 32 bytes each");
            return Err(invalid("digests", found, &limit));
        }
        let digests = digests.to_vec();
        for text in &chunk.subjects {
            subject(text.clone())?;
        }
        let shared = Record {
            tenant: self.tenant.clone(),
            policy: self.policy.clone(),
            digest_algorithm: DigestAlgorithm::Sha256,
            digest: [0; DIGEST_BYTES],
            claimed_at_ms: claimed_at_ms(chunk.claimed_at_ms, now_ms)?,
            subject: None,
            original: None,
            request_id: self
                .base
                .as_ref()
                .map(|base| chunk_request_id(base, chunk.number)),
        };
        let longest = chunk.subjects.iter().max_by_key(|subject| subject.len());
        let longest = Record {
            subject: longest.cloned(),
            ..shared.clone()
        };
        tenants::check(config, caller, &longest)?;
        // One call for all: a call each would be a system call each.
        let mut nonces = vec![0; digests.len() * NONCE_BYTES];
        SystemRandom::new()
            .fill(&mut nonces)
            .map_err(|_| Status::internal(NoRandomness.to_string()))?;
        let (salts, _) = nonces.as_chunks::<NONCE_BYTES>();
        let mut salts = salts.iter();
        let mut leaves = Leaves::with_capacity(digests.len(), digests.len() * USUAL_LEAF_BYTES);
        for_each_record(&shared, &digests, &chunk.subjects, |record| {
            if let Some(nonce) = salts.next() {
                leaves.push(nonce, record);
            }
        })
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
        Ok(Prepared {
            number: chunk.number,
            count,
            leaves,
            nonces,
            key: RequestKey::of(&shared),
            shared,
            claims_time: chunk.claimed_at_ms != 0,
            digests,
            subjects: chunk.subjects,
            until_witnessed: self.until_witnessed,
        })
    }
}
