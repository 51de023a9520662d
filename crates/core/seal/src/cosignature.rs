//! What logs and witnesses sign over a checkpoint, C2SP tlog-cosignature v1.0.1: Ed25519 (types 0x01 and 0x04) and
//! ML-DSA-44 (type 0x06).
//!
//! **Type 0x06** signs `subtree/v1\n\0 ‖ u8 length, signer's name ‖ u64 time ‖ u8 length, origin ‖ u64 0 ‖ u64 size ‖ root`; its
//! blob is the time as u64 big-endian and the 2420-byte signature. A log's own signature states the time 0, which means
//! none: whoever holds the log's key can write any time, so a time there would prove nothing, and without it the bytes to
//! sign follow from the checkpoint alone. A reader accepts any time in a log's signature, and draws nothing from it.
//!
//! **Type 0x04**: the message is `cosignature/v1\ntime <unix seconds>\n` followed by the whole note text; the blob after the key id is the
//! time as u64 big-endian and the 64-byte Ed25519 signature.

use crate::checkpoint::{Checkpoint, CheckpointError, validate_origin};
use crate::note::{self, Note, NoteError, Signature, VerifierKey, Vkey, VkeyError, validate_name};

/// Begins each message that an ML-DSA-44 key signs.
const SUBTREE_LABEL: &[u8; 12] = b"subtree/v1\n\0";
/// A log's own ML-DSA-44 signature states no time.
const NO_TIME: u64 = 0;

/// A checkpoint cannot be signed with a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// A key that only logs, or only witnesses, have.
    #[error("{name}'s key {key_id} cannot sign this: {wanted}")]
    Key {
        /// The key's name.
        name: String,
        /// Its id.
        key_id: note::KeyId,
        /// Which types can.
        wanted: &'static str,
    },
    /// A signature of the wrong length for the key's type.
    #[error(
        "the signature has {found} bytes, the key's type wants {expected}; ask the key's provider again"
    )]
    Length {
        /// The bytes found.
        found: usize,
        /// The bytes wanted.
        expected: usize,
    },
    /// A name that no message can hold.
    #[error(transparent)]
    Name(#[from] VkeyError),
    /// The text is not a checkpoint, and ML-DSA-44 keys sign only those.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The line cannot be written.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// The exact bytes that this key of a log signs over a checkpoint: the note's text (Ed25519), or the `subtree/v1` message
/// with time 0 (ML-DSA-44).
pub fn log_message(key: &Vkey, checkpoint: &Checkpoint) -> Result<Vec<u8>, SigningError> {
    match key.key() {
        VerifierKey::Ed25519(_) => {
            validate_origin(&checkpoint.origin)?;
            Ok(checkpoint.to_text().into_bytes())
        }
        VerifierKey::MlDsa44(_) => Ok(subtree_message(key.name(), NO_TIME, checkpoint)?),
        VerifierKey::CosignatureV1(_) => Err(refused(key, "logs sign with types 01 and 06")),
    }
}

/// The line of a log's signature over [`log_message`], made elsewhere (64 bytes for Ed25519, 2420 for ML-DSA-44).
pub fn log_line(key: &Vkey, signature: &[u8]) -> Result<Signature, SigningError> {
    match key.key() {
        VerifierKey::Ed25519(_) => {
            check_length(signature, 64)?;
            Ok(Signature::new(key.name(), key.key_id(), signature)?)
        }
        VerifierKey::MlDsa44(_) => timed_line(key, NO_TIME, signature),
        VerifierKey::CosignatureV1(_) => Err(refused(key, "logs sign with types 01 and 06")),
    }
}

/// The exact bytes that this key of a witness signs over a checkpoint's text at a time, in Unix seconds.
pub fn witness_message(key: &Vkey, note_text: &str, time_s: u64) -> Result<Vec<u8>, SigningError> {
    match key.key() {
        VerifierKey::CosignatureV1(_) => Ok(message(note_text, time_s)),
        VerifierKey::MlDsa44(_) => {
            let checkpoint = Checkpoint::parse(note_text)?;
            Ok(subtree_message(key.name(), time_s, &checkpoint)?)
        }
        VerifierKey::Ed25519(_) => Err(refused(key, "witnesses sign with types 04 and 06")),
    }
}

/// The line of a witness's signature over [`witness_message`], made elsewhere (64 bytes for Ed25519, 2420 for ML-DSA-44).
pub fn witness_line(key: &Vkey, time_s: u64, signature: &[u8]) -> Result<Signature, SigningError> {
    match key.key() {
        VerifierKey::CosignatureV1(_) | VerifierKey::MlDsa44(_) => {
            timed_line(key, time_s, signature)
        }
        VerifierKey::Ed25519(_) => Err(refused(key, "witnesses sign with types 04 and 06")),
    }
}

fn timed_line(key: &Vkey, time_s: u64, signature: &[u8]) -> Result<Signature, SigningError> {
    let expected = match key.key() {
        VerifierKey::Ed25519(_) | VerifierKey::CosignatureV1(_) => 64,
        VerifierKey::MlDsa44(_) => note::ML_DSA_44_SIGNATURE_BYTES,
    };
    check_length(signature, expected)?;
    let mut blob = time_s.to_be_bytes().to_vec();
    blob.extend_from_slice(signature);
    Ok(Signature::new(key.name(), key.key_id(), &blob)?)
}

fn check_length(signature: &[u8], expected: usize) -> Result<(), SigningError> {
    if signature.len() == expected {
        return Ok(());
    }
    Err(SigningError::Length {
        found: signature.len(),
        expected,
    })
}

fn refused(key: &Vkey, wanted: &'static str) -> SigningError {
    SigningError::Key {
        name: key.name().to_owned(),
        key_id: key.key_id(),
        wanted,
    }
}

/// C2SP's `cosigned_message` over a whole tree.
pub(crate) fn subtree_message(
    signer: &str,
    time_s: u64,
    checkpoint: &Checkpoint,
) -> Result<Vec<u8>, VkeyError> {
    let mut message = SUBTREE_LABEL.to_vec();
    push_name(&mut message, signer)?;
    message.extend_from_slice(&time_s.to_be_bytes());
    push_name(&mut message, &checkpoint.origin)?;
    message.extend_from_slice(&0_u64.to_be_bytes());
    message.extend_from_slice(&checkpoint.size.to_be_bytes());
    message.extend_from_slice(&checkpoint.root.0);
    Ok(message)
}

/// Names that [`validate_name`] allows fit the length's one byte.
fn push_name(message: &mut Vec<u8>, name: &str) -> Result<(), VkeyError> {
    validate_name(name)?;
    let length = u8::try_from(name.len()).map_err(|_| VkeyError::Name(name.to_owned()))?;
    message.push(length);
    message.extend_from_slice(name.as_bytes());
    Ok(())
}

/// The time and the signature of a witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cosignature {
    /// When the witness says it signed, in Unix seconds.
    pub time_s: u64,
    /// Ed25519 over [`message`].
    pub signature: [u8; 64],
}

impl Cosignature {
    /// The 72 bytes that follow the key id.
    pub fn encode(&self) -> [u8; 72] {
        let mut blob = [0; 72];
        blob[..8].copy_from_slice(&self.time_s.to_be_bytes());
        blob[8..].copy_from_slice(&self.signature);
        blob
    }

    /// Reads the bytes that follow the key id; `None` unless there are exactly 72.
    pub fn decode(blob: &[u8]) -> Option<Self> {
        let (time_s, signature) = blob.split_first_chunk::<8>()?;
        Some(Self {
            time_s: u64::from_be_bytes(*time_s),
            signature: signature.try_into().ok()?,
        })
    }

    /// Does it hold for the note's text under this Ed25519 key?
    pub fn verifies(&self, note_text: &str, public_key: &[u8; 32]) -> bool {
        let message = message(note_text, self.time_s);
        note::check_ed25519(public_key, &message, &self.signature).is_some()
    }

    /// The signature line for a cosignature made elsewhere (by a key provider).
    pub fn into_line(self, witness: &Vkey) -> Result<Signature, NoteError> {
        Signature::new(witness.name(), witness.key_id(), &self.encode())
    }
}

/// What a witness signs.
pub fn message(note_text: &str, time_s: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {time_s}\n{note_text}").into_bytes()
}

/// Reads the body of a witness's answer (cosignature lines), and adds to `note` the lines of `witness` that verify.
/// Lines of other signers are ignored, as the protocol asks; how many were added comes back.
pub fn merge_answer(note: &mut Note, body: &[u8], witness: &Vkey) -> Result<usize, NoteError> {
    let mut bytes = note.text().as_bytes().to_vec();
    bytes.push(b'\n');
    bytes.extend_from_slice(body);
    let answer = Note::parse(&bytes)?;
    answer.verify(std::slice::from_ref(witness))?;
    let mut added = 0;
    for line in answer.signatures() {
        if line.key_id() == witness.key_id() && line.name() == witness.name() {
            note.push(line.clone())?;
            added += 1;
        }
    }
    Ok(added)
}
