//! `FILE.seal.anchors`: the anchors of a seal's checkpoint, beside the seal.
//!
//! ```text
//! sealwarden.anchors@v1
//! checkpoint <base64 of the checkpoint note that was stamped, with its signatures>
//! rfc3161 <base64 of the authority's answer, a DER TimeStampResp>
//! checkpoint …
//! rfc3161 …
//! ```
//! One pair of lines an anchor, UTF-8, each line ended by a newline, base64 as RFC 4648 section 4 with padding. The timestamp
//! is over the bytes of the note exactly as they stand in the `checkpoint` line. All notes have the same text, whose signature lines may
//! differ; no pair stands twice. There is one spelling of each file, and nothing in it is trusted before it is verified.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sealwarden_seal::checkpoint::{Checkpoint, CheckpointError};
use sealwarden_seal::note::{Note, NoteError};
use sealwarden_seal::verdict::VerifiedAnchor;
use std::fmt::Write as _;

use crate::roots::Roots;
use crate::timestamp::{self, MAX_RESPONSE_BYTES, Timestamp, TimestampError};

/// The first line, without its newline.
pub const HEADER: &str = "sealwarden.anchors@v1";
/// No file is longer, in bytes.
pub const MAX_FILE_BYTES: usize = 4 * 1024 * 1024;
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
        "the file begins with {0:?}, not with {HEADER:?}; it is another kind of file or version"
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
    /// Anchors of different checkpoints.
    #[error("the anchors are of different checkpoints; a seal has one")]
    Mixed,
}

/// One anchor: a checkpoint note and a timestamp over its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    note: Note,
    response: Vec<u8>,
}

impl Anchor {
    /// Puts a note and the answer of a time-stamping authority (DER) together; nothing is verified.
    pub fn new(note: Note, response: Vec<u8>) -> Result<Self, FileError> {
        Checkpoint::parse(note.text())?;
        if response.is_empty() || response.len() > MAX_RESPONSE_BYTES {
            return Err(FileError::Response(response.len()));
        }
        Ok(Self { note, response })
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

/// The anchors of one checkpoint.
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
        if header != HEADER {
            return Err(FileError::Header(header.chars().take(40).collect()));
        }
        let lines: Vec<&str> = rest.split_inclusive('\n').collect();
        let count = lines.len().div_ceil(2);
        if count == 0 || count > MAX_ANCHORS {
            return Err(FileError::Count(count));
        }
        let mut anchors: Vec<Anchor> = Vec::with_capacity(count);
        for (pair, place) in lines.chunks(2).zip((2..).step_by(2)) {
            let note = value(pair.first(), place, "checkpoint")?;
            let response = value(pair.get(1), place + 1, "rfc3161")?;
            let anchor = Anchor::new(Note::parse(&note)?, response)?;
            check_fits(&anchors, &anchor)?;
            anchors.push(anchor);
        }
        Ok(Self { anchors })
    }

    /// The file's text.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\n");
        for anchor in &self.anchors {
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "checkpoint {}\nrfc3161 {}\n",
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

    /// The text of the checkpoint that all of them are of.
    pub fn checkpoint_text(&self) -> &str {
        self.anchors.first().map_or("", |it| it.note.text())
    }

    /// Adds an anchor, keeping the earliest time of each authority: a later one of an authority whose earlier one verifies
    /// under `roots` is not added (`Ok(false)`), an earlier one replaces it. Anchors that do not verify under `roots` stay: other
    /// verifiers may trust their authorities. The new one must verify.
    pub fn add(&mut self, anchor: Anchor, roots: &Roots) -> Result<bool, AddError> {
        let new = anchor.verify(roots)?;
        if self.anchors.contains(&anchor) {
            return Ok(false);
        }
        check_fits(&self.anchors, &anchor)?;
        let held = |it: &Anchor| it.verify(roots).ok().filter(|old| old.tsa == new.tsa);
        let same = self
            .anchors
            .iter_mut()
            .find_map(|it| held(it).map(|old| (it, old)));
        if let Some((place, old)) = same {
            let earlier = new.latest_ms() < old.latest_ms();
            if earlier {
                *place = anchor;
            }
            return Ok(earlier);
        }
        if self.anchors.len() >= MAX_ANCHORS {
            return Err(FileError::Count(self.anchors.len() + 1).into());
        }
        self.anchors.push(anchor);
        Ok(true)
    }

    /// These and those of another file of the same checkpoint, each once; nothing is verified.
    pub fn joined(&self, other: &Self) -> Result<Self, FileError> {
        let mut joined = self.clone();
        for anchor in &other.anchors {
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
        let verified = |anchor: &Anchor| {
            let timestamp = anchor.verify(roots).ok()?;
            Some(VerifiedAnchor {
                time_ms: timestamp.latest_ms(),
                tsa: timestamp.tsa,
                checkpoint: anchor.note.to_string(),
            })
        };
        self.anchors.iter().filter_map(verified).collect()
    }
}

/// The anchors that verify under any of these roots: each with its earliest time.
pub fn verified_by_any(anchors: &Anchors, roots: &[Roots]) -> Vec<VerifiedAnchor> {
    let of = |anchor: &Anchor| {
        let verified = roots.iter().filter_map(|roots| anchor.verify(roots).ok());
        let timestamp = verified.min_by_key(Timestamp::latest_ms)?;
        Some(VerifiedAnchor {
            time_ms: timestamp.latest_ms(),
            tsa: timestamp.tsa,
            checkpoint: anchor.note.to_string(),
        })
    };
    anchors.anchors.iter().filter_map(of).collect()
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
    let mixed = anchors
        .first()
        .is_some_and(|it| it.note.text() != new.note.text());
    if mixed { Err(FileError::Mixed) } else { Ok(()) }
}

fn value(line: Option<&&str>, number: usize, wanted: &'static str) -> Result<Vec<u8>, FileError> {
    line.and_then(|line| line.strip_suffix('\n'))
        .and_then(|line| line.strip_prefix(wanted))
        .and_then(|line| line.strip_prefix(' '))
        .and_then(|text| STANDARD.decode(text).ok())
        .ok_or(FileError::Line {
            line: number,
            wanted,
        })
}
