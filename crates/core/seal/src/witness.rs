//! The witness protocol (C2SP tlog-witness v1.0.0): the body of `add-checkpoint`, and a witness's decision as a pure
//! function.
//!
//! The body is `old <size>\n`, at most 63 lines of base64 consistency proof, an empty line, and the signed checkpoint. A
//! witness must store what [`decide`] accepted, atomically with comparing it, before it answers.

use crate::checkpoint::Checkpoint;
use crate::encoding::{decimal, excerpt};
use crate::merkle::{Hash, MAX_PROOF_HASHES, empty_root, verify_consistency};
use crate::note::{MAX_NOTE_BYTES, Note, NoteError, VerifiedSignature, Vkey};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// No request body is larger, in bytes: a note and 64 lines.
pub const MAX_REQUEST_BYTES: usize = MAX_NOTE_BYTES + 4096;
/// The content type of a 409 answer, whose body is the size last cosigned.
pub const SIZE_CONTENT_TYPE: &str = "text/x.tlog.size";

/// The body of an `add-checkpoint` request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size that the log believes the witness last cosigned.
    pub old_size: u64,
    /// The consistency proof from there.
    pub proof: Vec<Hash>,
    /// The signed checkpoint.
    pub note: Note,
}

/// Bytes are not an `add-checkpoint` request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Longer than [`MAX_REQUEST_BYTES`].
    #[error("the request has {0} bytes; at most {MAX_REQUEST_BYTES} are read")]
    TooLong(usize),
    /// Not UTF-8, or without the empty line before the checkpoint.
    #[error("the request is not text with an empty line before its checkpoint")]
    Format,
    /// Another first line.
    #[error("the request begins with {0:?}; its first line must be \"old <size>\"")]
    OldSize(String),
    /// A line that is not a hash.
    #[error("the proof line {0:?} is not the base64 of a hash")]
    ProofLine(String),
    /// Too many proof lines.
    #[error("the proof has more than {MAX_PROOF_HASHES} lines; no tree is that tall")]
    ProofTooLong,
    /// The checkpoint is not a signed note.
    #[error(transparent)]
    Note(#[from] NoteError),
}

impl AddCheckpoint {
    /// Reads a request body strictly; the checkpoint's text and signatures are not checked.
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        if body.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLong(body.len()));
        }
        let text = std::str::from_utf8(body).map_err(|_| RequestError::Format)?;
        let (head, note) = text.split_once("\n\n").ok_or(RequestError::Format)?;
        let mut lines = head.split('\n');
        let first = lines.next().unwrap_or_default();
        let old_size = first
            .strip_prefix("old ")
            .and_then(decimal)
            .ok_or_else(|| RequestError::OldSize(excerpt(first)))?;
        let mut proof = Vec::new();
        for line in lines {
            if proof.len() == MAX_PROOF_HASHES {
                return Err(RequestError::ProofTooLong);
            }
            let hash =
                Hash::from_base64(line).map_err(|_| RequestError::ProofLine(excerpt(line)))?;
            proof.push(hash);
        }
        Ok(Self {
            old_size,
            proof,
            note: Note::parse(note.as_bytes())?,
        })
    }

    /// The request body.
    pub fn to_text(&self) -> String {
        let mut text = format!("old {}\n", self.old_size);
        for hash in &self.proof {
            text.push_str(&hash.to_base64());
            text.push('\n');
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "\n{}", self.note);
        text
    }
}

/// What a witness knows of one origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginState {
    /// The size last cosigned.
    pub size: u64,
    /// The root last cosigned.
    pub root: Hash,
    /// Why nothing more is cosigned, where the origin is frozen.
    pub frozen: Option<String>,
}

impl Default for OriginState {
    fn default() -> Self {
        Self {
            size: 0,
            root: empty_root(),
            frozen: None,
        }
    }
}

/// What a witness knows, by origin; an origin that is trusted but not in here was never cosigned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WitnessState {
    /// The last cosigned state of each origin.
    pub origins: BTreeMap<String, OriginState>,
}

/// A checkpoint to store and then to cosign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept {
    /// What to store as the origin's new state, before the answer.
    pub checkpoint: Checkpoint,
    /// The note as it came; its text is what the cosignature covers.
    pub note: Note,
    /// The state that this decision was made on, to compare against when storing.
    pub previous: OriginState,
    /// The log's signatures.
    pub log_signatures: Vec<VerifiedSignature>,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// The request or its checkpoint cannot be read, or `old` exceeds the size: 400.
    Malformed,
    /// No trusted key signed, or a trusted key's signature fails: 403.
    BadSignature,
    /// The origin is frozen: 403.
    Frozen,
    /// The origin is not known here: 404.
    UnknownOrigin,
    /// `old` is not the size last cosigned: 409.
    Stale {
        /// The size last cosigned, the answer's body.
        cosigned_size: u64,
    },
    /// The checkpoint does not extend what was cosigned: 422.
    Inconsistent,
}

/// A refusal, with its answer and what it is evidence of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// Why.
    pub kind: RefusalKind,
    /// Why, in a sentence.
    pub reason: String,
    /// The refused checkpoint with its note, where a trusted key of its log did sign it.
    pub signed: Option<Box<(Checkpoint, Note)>>,
    /// Does the refused checkpoint state another root for the very size last cosigned, or for the empty tree? With a valid
    /// log signature that proves that the log forked; a consistency proof that fails proves nothing against the log, since
    /// whoever sent the request chose the proof.
    pub contradicts: bool,
}

impl Refusal {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self.kind {
            RefusalKind::Malformed => 400,
            RefusalKind::BadSignature | RefusalKind::Frozen => 403,
            RefusalKind::UnknownOrigin => 404,
            RefusalKind::Stale { .. } => 409,
            RefusalKind::Inconsistent => 422,
        }
    }

    /// The answer's body: the size for 409, else the reason.
    pub fn body(&self) -> String {
        match self.kind {
            RefusalKind::Stale { cosigned_size } => format!("{cosigned_size}\n"),
            RefusalKind::Malformed
            | RefusalKind::BadSignature
            | RefusalKind::Frozen
            | RefusalKind::UnknownOrigin
            | RefusalKind::Inconsistent => format!("{}\n", self.reason),
        }
    }

    /// The answer's content type.
    pub fn content_type(&self) -> &'static str {
        match self.kind {
            RefusalKind::Stale { .. } => SIZE_CONTENT_TYPE,
            RefusalKind::Malformed
            | RefusalKind::BadSignature
            | RefusalKind::Frozen
            | RefusalKind::UnknownOrigin
            | RefusalKind::Inconsistent => "text/plain; charset=utf-8",
        }
    }

    /// Did a trusted key of the log sign the refused checkpoint?
    pub fn has_log_signature(&self) -> bool {
        self.signed.is_some()
    }

    /// Is it proof by itself that the log signed two different trees?
    pub fn proves_fork(&self) -> bool {
        self.has_log_signature() && self.contradicts
    }

    /// Is it worth keeping as evidence? A signed checkpoint that contradicts or may not extend the cosigned one is, and one
    /// that was sent to a frozen origin; a log that merely remembers an older size is not.
    pub fn is_evidence(&self) -> bool {
        let suspicious = match self.kind {
            RefusalKind::Frozen | RefusalKind::Inconsistent => true,
            RefusalKind::Malformed
            | RefusalKind::BadSignature
            | RefusalKind::UnknownOrigin
            | RefusalKind::Stale { .. } => self.contradicts,
        };
        self.has_log_signature() && suspicious
    }
}

fn refuse(kind: RefusalKind, reason: String) -> Refusal {
    Refusal {
        kind,
        reason,
        signed: None,
        contradicts: false,
    }
}

/// Decides on a request body. `trusted` holds the keys of each log that this witness serves. A consistency proof that
/// fails is refused with 422 like an inconsistent tree: the two cannot be told apart.
pub fn decide(
    state: &WitnessState,
    request: &[u8],
    trusted: &BTreeMap<String, Vec<Vkey>>,
) -> Result<Accept, Refusal> {
    let request = AddCheckpoint::parse(request)
        .map_err(|error| refuse(RefusalKind::Malformed, error.to_string()))?;
    let checkpoint = Checkpoint::parse(request.note.text())
        .map_err(|error| refuse(RefusalKind::Malformed, error.to_string()))?;
    let Some(keys) = trusted.get(&checkpoint.origin) else {
        let reason = format!(
            "this witness does not serve the origin {}",
            checkpoint.origin
        );
        return Err(refuse(RefusalKind::UnknownOrigin, reason));
    };
    let log_signatures = request
        .note
        .verify(keys)
        .map_err(|error| refuse(RefusalKind::BadSignature, error.to_string()))?;
    let previous = state
        .origins
        .get(&checkpoint.origin)
        .cloned()
        .unwrap_or_default();
    match check_extension(&previous, &checkpoint, &request) {
        Ok(()) => Ok(Accept {
            checkpoint,
            note: request.note,
            previous,
            log_signatures,
        }),
        Err((kind, reason)) => {
            let known = [(previous.size, previous.root), (0, empty_root())];
            let contradicts = known
                .iter()
                .any(|(size, root)| checkpoint.size == *size && checkpoint.root != *root);
            let signed = Some(Box::new((checkpoint, request.note)));
            Err(Refusal {
                kind,
                reason,
                signed,
                contradicts,
            })
        }
    }
}

/// What can be wrong with a checkpoint that the log did sign.
fn check_extension(
    previous: &OriginState,
    checkpoint: &Checkpoint,
    request: &AddCheckpoint,
) -> Result<(), (RefusalKind, String)> {
    let old_size = request.old_size;
    if let Some(reason) = &previous.frozen {
        let reason = format!(
            "{} is frozen at size {}: {reason}",
            checkpoint.origin, previous.size
        );
        return Err((RefusalKind::Frozen, reason));
    }
    if old_size > checkpoint.size {
        let reason = format!(
            "old {old_size} exceeds the checkpoint's size {}",
            checkpoint.size
        );
        return Err((RefusalKind::Malformed, reason));
    }
    if old_size != previous.size {
        let cosigned_size = previous.size;
        let reason = format!("old {old_size} is not the size last cosigned, {cosigned_size}");
        return Err((RefusalKind::Stale { cosigned_size }, reason));
    }
    verify_consistency(
        old_size,
        &previous.root,
        checkpoint.size,
        &checkpoint.root,
        &request.proof,
    )
    .map_err(|error| {
        let reason = format!(
            "size {} of {} does not extend the cosigned size {old_size}: {error}",
            checkpoint.size, checkpoint.origin
        );
        (RefusalKind::Inconsistent, reason)
    })
}
