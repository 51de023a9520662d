//! Witness cosignatures, C2SP tlog-cosignature v1.0.1, type 0x04.
//!
//! The message is `cosignature/v1\ntime <unix seconds>\n` followed by the whole note text; the blob after the key id is the
//! time as u64 big-endian and the 64-byte Ed25519 signature.

use crate::note::{self, Note, NoteError, Signature, Vkey};

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
