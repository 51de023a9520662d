//! Checkpoints (C2SP tlog-checkpoint v1.0.0): the note text that states a log's size and root.
//!
//! `<origin>\n<decimal size>\n<base64 root>\n`, and no extension lines. The log's key is named like its origin.

use crate::encoding::{self, decimal, excerpt};
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
        text_of(&self.origin, self.size, &self.root)
    }

    /// The note to sign.
    pub fn to_note(&self) -> Result<UnsignedNote, NoteError> {
        validate_origin(&self.origin)?;
        UnsignedNote::new(self.to_text())
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.to_text())
    }
}

/// The text of the checkpoint with these values, from parts that the caller keeps: a fold makes one for each intent, so it takes few allocations.
pub fn text_of(origin: &str, size: u64, root: &Hash) -> String {
    let mut text = String::with_capacity(origin.len() + LONGEST_REST);
    text.push_str(origin);
    text.push('\n');
    text.push_str(&size.to_string());
    text.push('\n');
    encoding::base64_into(&root.0, &mut text);
    text.push('\n');
    text
}

/// Bytes of a checkpoint's text behind its origin, at most: three line ends, 20 digits, 44 characters of base64.
const LONGEST_REST: usize = 67;

/// An origin is also a key name, so it obeys the same rules.
pub fn validate_origin(origin: &str) -> Result<(), VkeyError> {
    validate_name(origin)
}
