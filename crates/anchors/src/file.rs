//! `FILE.seal.anchors`: the anchors of a seal's checkpoint, and of later ones that contain it, beside the seal.
//!
//! ```text
//! sealwarden.anchors@v1
//! checkpoint <base64 of the checkpoint note that was stamped, with its signatures>
//! rfc3161 <base64 of the authority's answer, a DER TimeStampResp>
//! checkpoint …
//! rfc3161 …
//! ```
//! One pair of lines an anchor, UTF-8, each line ended by a newline, base64 as RFC 4648 section 4 with padding. The timestamp
//! is over the bytes of the note exactly as they stand in the `checkpoint` line. The first note is the seal's checkpoint. Notes with the same text
//! may have other signature lines; no anchor stands twice.
//!
//! An anchor of a later checkpoint has a third line between the two, `consistency`: base64 of the hashes, 32 bytes each, of the consistency proof
//! (RFC 6962, section 2.1.2) from the first note's tree to this one's. Such a proof stands in the file only if it holds. A file with any begins with
//! `sealwarden.anchors@v2`, one without with `sealwarden.anchors@v1`, so that a reader that knows only the first refuses what it would misread.
//! There is one spelling of each file, and nothing else in it is trusted before it is verified.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sealwarden_seal::checkpoint::{Checkpoint, CheckpointError};
use sealwarden_seal::merkle::{Hash, MAX_PROOF_HASHES, ProofError, verify_consistency};
use sealwarden_seal::note::{Note, NoteError};
use sealwarden_seal::verdict::VerifiedAnchor;
use std::fmt::Write as _;

use crate::roots::Roots;
use crate::timestamp::{self, MAX_RESPONSE_BYTES, Timestamp, TimestampError};

/// The first line, without its newline, of a file whose anchors are all of the same checkpoint.
pub const HEADER: &str = "sealwarden.anchors@v1";
/// The first line of a file that holds an anchor of a later checkpoint, too.
pub const HEADER_LATER: &str = "sealwarden.anchors@v2";
/// No file is longer, in bytes.
pub const MAX_FILE_BYTES: usize = 4 * 1024 * 1024;
/// The first word of a later checkpoint's proof.
const PROOF: &str = "consistency";
const HASH_BYTES: usize = 32;
/// No file holds more anchors.
pub const MAX_ANCHORS: usize = 32;

/// A file is not one of anchors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Too long.
    #[error("the anchors have {0} bytes; at most {MAX_FILE_BYTES} are read")]
    TooLong(usize),
    /// Not UTF-8.
    #[error(
        "the anchors are not text at byte {0}; the file was damaged, or is another kind of file"
    )]
    NotUtf8(usize),
    /// Another first line.
    #[error(
        "the file begins with {0:?}, not with {HEADER:?} or {HEADER_LATER:?}; it is another kind of file or version"
    )]
    Header(String),
    /// A line that is not the one expected.
    #[error(
        "line {line} is not \"{wanted} <base64>\", ended by a newline; the file was damaged or cut short"
    )]
    Line {
        /// Counted from 1.
        line: usize,
        /// Its first word.
        wanted: &'static str,
    },
    /// No anchor, or too many.
    #[error("{0} anchors are not allowed; a file holds 1 to {MAX_ANCHORS}")]
    Count(usize),
    /// An answer that is too long.
    #[error("a timestamp of {0} bytes is not allowed; at most {MAX_RESPONSE_BYTES} are read")]
    Response(usize),
    /// A note that is not one.
    #[error("an anchored checkpoint is malformed: {0}")]
    Note(#[from] NoteError),
    /// A note that is not a checkpoint, or not in its only spelling.
    #[error("an anchored note is not a checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The same anchor again.
    #[error("the same anchor stands twice; remove one of them")]
    Twice,
    /// An anchor of another checkpoint.
    #[error(
        "an anchor is of another checkpoint than the first one, and no later one of the same log with a proof that it contains that; a seal has one checkpoint"
    )]
    Mixed,
    /// The proof of a later checkpoint does not hold.
    #[error(
        "the anchored checkpoint of {size} leaves is not proven to contain the first one: {error}; one of them is of another history, or the file was damaged"
    )]
    Unproven {
        /// The later checkpoint's size.
        size: u64,
        /// What is wrong with the proof.
        error: ProofError,
    },
    /// A version of the format that the file's anchors do not have.
    #[error(
        "the file says {HEADER_LATER:?} and has no anchor of a later checkpoint; it was changed"
    )]
    NoneLater,
}

/// One anchor: a checkpoint note and a timestamp over its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    note: Note,
    response: Vec<u8>,
    /// From the seal's checkpoint to a later one; empty for the seal's own.
    proof: Vec<Hash>,
}

impl Anchor {
    /// Puts a note and the answer of a time-stamping authority (DER) together; nothing is verified.
    pub fn new(note: Note, response: Vec<u8>) -> Result<Self, FileError> {
        Checkpoint::parse(note.text())?;
        if response.is_empty() || response.len() > MAX_RESPONSE_BYTES {
            return Err(FileError::Response(response.len()));
        }
        Ok(Self {
            note,
            response,
            proof: Vec::new(),
        })
    }

    /// The same for a checkpoint that is later than the seal's, with the consistency proof from that; whether it holds is seen when it is put into a file.
    pub fn later(note: Note, response: Vec<u8>, proof: Vec<Hash>) -> Result<Self, FileError> {
        let anchor = Self::new(note, response)?;
        Ok(Self { proof, ..anchor })
    }

    /// The consistency proof from the seal's checkpoint to this later one; empty where it is the seal's own.
    pub fn proof(&self) -> &[Hash] {
        &self.proof
    }

    /// The checkpoint note that was stamped.
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// The authority's answer, DER.
    pub fn response(&self) -> &[u8] {
        &self.response
    }

    /// Verifies the timestamp over the note; whether the log signed it is the verdict's question.
    pub fn verify(&self, roots: &Roots) -> Result<Timestamp, TimestampError> {
        timestamp::verify(&self.response, self.note.to_string().as_bytes(), roots)
    }
}

/// The anchors of one checkpoint, and of later ones that are proven to contain it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchors {
    anchors: Vec<Anchor>,
}

impl Anchors {
    /// A file of one anchor.
    pub fn of(anchor: Anchor) -> Self {
        Self {
            anchors: vec![anchor],
        }
    }

    /// Reads a file strictly; nothing is verified.
    pub fn parse(bytes: &[u8]) -> Result<Self, FileError> {
        if bytes.len() > MAX_FILE_BYTES {
            return Err(FileError::TooLong(bytes.len()));
        }
        let text =
            std::str::from_utf8(bytes).map_err(|error| FileError::NotUtf8(error.valid_up_to()))?;
        let (header, rest) = text.split_once('\n').unwrap_or((text, ""));
        if header != HEADER && header != HEADER_LATER {
            return Err(FileError::Header(header.chars().take(40).collect()));
        }
        let may_be_later = header == HEADER_LATER;
        let is_first = |line: &&str| line.starts_with("checkpoint ");
        let count = rest.split_inclusive('\n').filter(is_first).count();
        if count == 0 || count > MAX_ANCHORS {
            return Err(FileError::Count(count));
        }
        let mut lines = (2..).zip(rest.split_inclusive('\n')).peekable();
        let mut anchors: Vec<Anchor> = Vec::with_capacity(count);
        while let Some((place, line)) = lines.next() {
            let note = value(Some(line), place, "checkpoint")?;
            let later = lines
                .next_if(|(_, line)| may_be_later && line.starts_with(PROOF))
                .map(|(place, line)| value(Some(line), place, PROOF));
            let place = place + 1 + usize::from(later.is_some());
            let response = value(lines.next().map(|(_, line)| line), place, "rfc3161")?;
            let note = Note::parse(&note)?;
            let anchor = match later {
                Some(bytes) => Anchor::later(note, response, hashes(&bytes?, place - 1)?)?,
                None => Anchor::new(note, response)?,
            };
            check_fits(&anchors, &anchor)?;
            anchors.push(anchor);
        }
        if may_be_later && anchors.iter().all(|it| it.proof.is_empty()) {
            return Err(FileError::NoneLater);
        }
        Ok(Self { anchors })
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let any_later = self.anchors.iter().any(|it| !it.proof.is_empty());
        let header = if any_later { HEADER_LATER } else { HEADER };
        let mut text = format!("{header}\n");
        for anchor in &self.anchors {
            let mut proof = Vec::new();
            for hash in &anchor.proof {
                proof.extend_from_slice(hash.as_bytes());
            }
            let proof = if proof.is_empty() {
                String::new()
            } else {
                format!("{PROOF} {}\n", STANDARD.encode(proof))
            };
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "checkpoint {}\n{proof}rfc3161 {}\n",
                STANDARD.encode(anchor.note.to_string()),
                STANDARD.encode(&anchor.response)
            );
        }
        text
    }

    /// The anchors, in the file's order.
    pub fn all(&self) -> &[Anchor] {
        &self.anchors
    }

    /// The text of the checkpoint that all of them are of, or that the later ones contain.
    pub fn checkpoint_text(&self) -> &str {
        self.anchors.first().map_or("", |it| it.note.text())
    }

    /// Adds an anchor, keeping the earliest time of each authority: a later one of an authority whose earlier one verifies
    /// under `roots` is not added (`Ok(false)`), an earlier one replaces it, unless that is what names the seal's checkpoint. Anchors that do not verify
    /// under `roots` stay: other verifiers may trust their authorities. The new one must verify.
    pub fn add(&mut self, anchor: Anchor, roots: &Roots) -> Result<bool, AddError> {
        let new = anchor.verify(roots)?;
        if self.anchors.contains(&anchor) {
            return Ok(false);
        }
        check_fits(&self.anchors, &anchor)?;
        let of_same = |it: &Anchor| {
            let old = it.verify(roots).ok().filter(|old| old.tsa == new.tsa)?;
            Some(old.latest_ms())
        };
        if self
            .anchors
            .iter()
            .filter_map(of_same)
            .any(|old_ms| old_ms <= new.latest_ms())
        {
            return Ok(false);
        }
        let replaceable = |it: &&mut Anchor| {
            of_same(it).is_some() && (anchor.proof.is_empty() || !it.proof.is_empty())
        };
        if let Some(place) = self.anchors.iter_mut().find(replaceable) {
            *place = anchor;
            return Ok(true);
        }
        if self.anchors.len() >= MAX_ANCHORS {
            return Err(FileError::Count(self.anchors.len() + 1).into());
        }
        self.anchors.push(anchor);
        Ok(true)
    }

    /// These and those of another file of the same checkpoint, each once; no timestamp is verified.
    pub fn joined(&self, other: &Self) -> Result<Self, FileError> {
        self.with(&other.anchors)
    }

    /// These and others of the same checkpoint or of later ones, each once; no timestamp is verified.
    pub fn with(&self, others: &[Anchor]) -> Result<Self, FileError> {
        let mut joined = self.clone();
        for anchor in others {
            match check_fits(&joined.anchors, anchor) {
                Err(FileError::Twice) => continue,
                fits => fits?,
            }
            if joined.anchors.len() >= MAX_ANCHORS {
                return Err(FileError::Count(joined.anchors.len() + 1));
            }
            joined.anchors.push(anchor.clone());
        }
        Ok(joined)
    }

    /// Verifies each anchor, in the file's order.
    pub fn verify(&self, roots: &Roots) -> Vec<Result<Timestamp, TimestampError>> {
        self.anchors.iter().map(|it| it.verify(roots)).collect()
    }

    /// Those that verify, as a verdict takes them.
    pub fn verified(&self, roots: &Roots) -> Vec<VerifiedAnchor> {
        let verified = |anchor: &Anchor| Some(counting(anchor, anchor.verify(roots).ok()?));
        self.anchors.iter().filter_map(verified).collect()
    }
}

/// The anchors that verify under any of these roots: each with its earliest time.
pub fn verified_by_any(anchors: &Anchors, roots: &[Roots]) -> Vec<VerifiedAnchor> {
    let of = |anchor: &Anchor| {
        let verified = roots.iter().filter_map(|roots| anchor.verify(roots).ok());
        let timestamp = verified.min_by_key(Timestamp::latest_ms)?;
        Some(counting(anchor, timestamp))
    };
    anchors.anchors.iter().filter_map(of).collect()
}

fn counting(anchor: &Anchor, timestamp: Timestamp) -> VerifiedAnchor {
    VerifiedAnchor {
        time_ms: timestamp.latest_ms(),
        tsa: timestamp.tsa,
        checkpoint: anchor.note.to_string(),
        proof: anchor.proof.clone(),
    }
}

/// An anchor was not added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    /// It does not fit the file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its timestamp does not hold.
    #[error("the new anchor is not accepted: {0}")]
    Timestamp(#[from] TimestampError),
}

fn check_fits(anchors: &[Anchor], new: &Anchor) -> Result<(), FileError> {
    if anchors.contains(new) {
        return Err(FileError::Twice);
    }
    let first = anchors.first().unwrap_or(new);
    if first.note.text() == new.note.text() {
        let own = new.proof.is_empty();
        return if own { Ok(()) } else { Err(FileError::Mixed) };
    }
    let own = Checkpoint::parse(first.note.text())?;
    let later = Checkpoint::parse(new.note.text())?;
    let is_later = own.origin == later.origin && own.size > 0 && own.size < later.size;
    if !is_later || new.proof.is_empty() {
        return Err(FileError::Mixed);
    }
    let size = later.size;
    verify_consistency(own.size, &own.root, size, &later.root, &new.proof)
        .map_err(|error| FileError::Unproven { size, error })
}

fn hashes(bytes: &[u8], line: usize) -> Result<Vec<Hash>, FileError> {
    let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
    if hashes.is_empty() || !rest.is_empty() || hashes.len() > MAX_PROOF_HASHES {
        let wanted = PROOF;
        return Err(FileError::Line { line, wanted });
    }
    Ok(hashes.iter().copied().map(Hash).collect())
}

fn value(line: Option<&str>, number: usize, wanted: &'static str) -> Result<Vec<u8>, FileError> {
    line.and_then(|line| line.strip_suffix('\n'))
        .and_then(|line| line.strip_prefix(wanted))
        .and_then(|line| line.strip_prefix(' '))
        .and_then(|text| STANDARD.decode(text).ok())
        .ok_or(FileError::Line {
            line: number,
            wanted,
        })
}
