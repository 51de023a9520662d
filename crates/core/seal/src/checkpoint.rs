//! Checkpoints (C2SP tlog-checkpoint v1.0.0): the note text that states a log's size and root.
//!
//! `<origin>\n<decimal size>\n<base64 root>\n`, and no extension lines. The log's key is named like its origin.

use crate::encoding::{decimal, excerpt};
use crate::merkle::Hash;
use crate::note::{NoteError, UnsignedNote, VkeyError, validate_name};
use std::fmt;

/// A text is not a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Not exactly three lines.
    #[error("{0:?} is not a checkpoint; write exactly the lines origin, size and root")]
    Lines(String),
    /// An origin that no key could be named like.
    #[error("the checkpoint's origin is not allowed: {0}")]
    Origin(#[from] VkeyError),
    /// Not a decimal number in its only spelling.
    #[error("{0:?} is not a tree size; write a decimal number below 2^63 without leading zeroes")]
    Size(String),
    /// Not the base64 of 32 bytes.
    #[error("{0:?} is not a root; write the padded base64 of 32 bytes")]
    Root(String),
}

/// A log's size and root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Checkpoint {
    /// The log's identity: a URL without a scheme, with an epoch (`seal.example.com/main/1`).
    pub origin: String,
    /// The number of leaves.
    pub size: u64,
    /// The Merkle tree's root.
    pub root: Hash,
}

impl Checkpoint {
    /// Reads a note's text strictly.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let lines = || CheckpointError::Lines(excerpt(text));
        let mut fields = text.strip_suffix('\n').ok_or_else(lines)?.split('\n');
        let (Some(origin), Some(size), Some(root), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(lines());
        };
        validate_origin(origin)?;
        Ok(Self {
            origin: origin.to_owned(),
            size: decimal(size).ok_or_else(|| CheckpointError::Size(excerpt(size)))?,
            root: Hash::from_base64(root).map_err(|_| CheckpointError::Root(excerpt(root)))?,
        })
    }

    /// The note text, which is also the message that the log's Ed25519 key signs.
    pub fn to_text(&self) -> String {
        self.to_string()
    }

    /// The note to sign.
    pub fn to_note(&self) -> Result<UnsignedNote, NoteError> {
        validate_origin(&self.origin)?;
        UnsignedNote::new(self.to_text())
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{}\n{}\n{}\n",
            self.origin,
            self.size,
            self.root.to_base64()
        )
    }
}

/// An origin is also a key name, so it obeys the same rules.
pub fn validate_origin(origin: &str) -> Result<(), VkeyError> {
    validate_name(origin)
}
