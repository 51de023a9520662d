//! The `.seal` file: a C2SP tlog-proof whose `extra` line holds nonce ‖ record bytes.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra <base64 of nonce and record>
//! index <n>
//! <base64 hash>           leaf's sibling first; no line in a tree of one leaf
//!
//! <checkpoint, verbatim>
//! ```
//! `extra` is not authenticated by itself: the leaf's commitment is recomputed from it.

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::encoding::{self, decimal, excerpt};
use crate::merkle::{Hash, MAX_PROOF_HASHES};
use crate::note::{Note, NoteError};
use crate::record::{NONCE_BYTES, Nonce, Record, RecordError};
use std::fmt::Write as _;

/// No seal file is larger, in bytes.
pub const MAX_SEAL_BYTES: usize = 256 * 1024;
/// The first line of a seal file, without its newline.
pub const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// A hash in base64.
const HASH_CHARACTERS: usize = 44;

/// Bytes are not a seal file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Longer than [`MAX_SEAL_BYTES`].
    #[error(
        "the seal has {0} bytes; seals have at most {MAX_SEAL_BYTES}, so this is another kind of file"
    )]
    TooLong(usize),
    /// Not UTF-8.
    #[error("the seal is not text at byte {0}; it was damaged, or is another kind of file")]
    NotUtf8(usize),
    /// The file ends too early.
    #[error("the seal ends before its {0}; it was cut short")]
    Truncated(&'static str),
    /// Another first line.
    #[error(
        "the seal begins with {0:?}, not with {HEADER:?}; it is another kind of file or version"
    )]
    Header(String),
    /// Not `extra <base64 of nonce and record>`.
    #[error(
        "the seal's second line {0:?} does not hold the record; a line \"extra <base64>\" is expected"
    )]
    Extra(String),
    /// Not `index <n>`.
    #[error("the seal's line {0:?} is not a leaf's index; a line \"index <number>\" is expected")]
    Index(String),
    /// A line of the proof that is not a hash.
    #[error("the seal's proof line {0:?} is not the base64 of a hash; it was damaged")]
    ProofLine(String),
    /// More hashes than any tree needs.
    #[error("the seal's proof has more than {MAX_PROOF_HASHES} hashes; no tree is that tall")]
    ProofTooLong,
    /// The record inside is not one.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The checkpoint inside is not a signed note.
    #[error("the seal's checkpoint is malformed: {0}")]
    Note(#[from] NoteError),
    /// The note inside is not a checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// A seal: where a record stands in a log, with its proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// The entry's salt.
    pub nonce: Nonce,
    /// What was sealed.
    pub record: Record,
    /// The leaf's index.
    pub index: u64,
    /// The inclusion proof, the leaf's sibling first.
    pub proof: Vec<Hash>,
    /// The signed checkpoint.
    pub note: Note,
}

impl Seal {
    /// Reads a seal file strictly; nothing is verified.
    pub fn parse(bytes: &[u8]) -> Result<Self, SealError> {
        let parts = Parts::parse(bytes)?;
        let note = Note::parse(parts.note.as_bytes())?;
        Checkpoint::parse(note.text())?;
        Ok(Self {
            nonce: parts.nonce,
            record: Record::decode(&parts.record)?,
            index: parts.index,
            proof: parts.proof,
            note,
        })
    }

    /// The seal file.
    pub fn to_text(&self) -> Result<String, SealError> {
        let record = self.record.encode()?;
        Ok(format_seal(
            &self.nonce,
            &record,
            self.index,
            &self.proof,
            &self.note.to_string(),
        ))
    }

    /// The checkpoint that the note states.
    pub fn checkpoint(&self) -> Result<Checkpoint, SealError> {
        Ok(Checkpoint::parse(self.note.text())?)
    }
}

/// Writes a seal file from parts that are already encoded, as a bulk sealer or a batch's client has them: `record` is
/// [`Record::encode`]'s bytes and `note` the signed checkpoint verbatim.
pub fn format_seal(nonce: &Nonce, record: &[u8], index: u64, proof: &[Hash], note: &str) -> String {
    let mut extra = Vec::with_capacity(NONCE_BYTES + record.len());
    extra.extend_from_slice(nonce);
    extra.extend_from_slice(record);
    let mut text = String::with_capacity(128 + extra.len() * 4 / 3 + 45 * proof.len() + note.len());
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "{HEADER}\nextra {}\nindex {index}\n",
        encoding::base64(&extra)
    );
    for hash in proof {
        text.push_str(&hash.to_base64());
        text.push('\n');
    }
    text.push('\n');
    text.push_str(note);
    text
}

/// A seal file taken apart, its note still text: many seals share one checkpoint, which is then checked once.
pub(crate) struct Parts<'a> {
    pub(crate) nonce: Nonce,
    pub(crate) record: Vec<u8>,
    pub(crate) index: u64,
    pub(crate) proof: Vec<Hash>,
    pub(crate) note: &'a str,
}

impl<'a> Parts<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, SealError> {
        if bytes.len() > MAX_SEAL_BYTES {
            return Err(SealError::TooLong(bytes.len()));
        }
        let mut rest =
            std::str::from_utf8(bytes).map_err(|error| SealError::NotUtf8(error.valid_up_to()))?;
        let header = next_line(&mut rest, "first line")?;
        if header != HEADER {
            return Err(SealError::Header(excerpt(header)));
        }
        let (nonce, record) = parse_extra(next_line(&mut rest, "record")?)?;
        let line = next_line(&mut rest, "index")?;
        let index = line
            .strip_prefix("index ")
            .and_then(decimal)
            .ok_or_else(|| SealError::Index(excerpt(line)))?;
        let mut proof = Vec::with_capacity(32);
        loop {
            // A good proof's line is taken without looking for its end.
            if proof.len() < MAX_PROOF_HASHES
                && let Some((line, tail)) = rest.split_at_checked(HASH_CHARACTERS)
                && let Some(tail) = tail.strip_prefix('\n')
                && let Some(hash) = encoding::hash_from_base64(line)
            {
                proof.push(Hash(hash));
                rest = tail;
                continue;
            }
            let line = next_line(&mut rest, "checkpoint")?;
            if line.is_empty() {
                return Ok(Self {
                    nonce,
                    record,
                    index,
                    proof,
                    note: rest,
                });
            }
            if proof.len() == MAX_PROOF_HASHES {
                return Err(SealError::ProofTooLong);
            }
            let hash = Hash::from_base64(line).map_err(|_| SealError::ProofLine(excerpt(line)))?;
            proof.push(hash);
        }
    }
}

fn parse_extra(line: &str) -> Result<(Nonce, Vec<u8>), SealError> {
    let error = || SealError::Extra(excerpt(line));
    let mut extra = line
        .strip_prefix("extra ")
        .and_then(encoding::from_base64)
        .ok_or_else(error)?;
    let nonce = *extra.first_chunk::<NONCE_BYTES>().ok_or_else(error)?;
    extra.drain(..NONCE_BYTES);
    Ok((nonce, extra))
}

fn next_line<'a>(rest: &mut &'a str, wanted: &'static str) -> Result<&'a str, SealError> {
    let (line, tail) = rest.split_once('\n').ok_or(SealError::Truncated(wanted))?;
    *rest = tail;
    Ok(line)
}
