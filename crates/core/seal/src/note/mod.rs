//! C2SP signed notes v1.0.0.
//!
//! A note is a text ending in a newline, an empty line, and one or more lines `— <name> <base64>` (U+2014). The base64
//! holds the 4-byte key id and the signature. The text ends at the *last* empty line.

mod ml_dsa;
mod vkey;

pub use ml_dsa::{ML_DSA_44_KEY_BYTES, ML_DSA_44_SIGNATURE_BYTES};
pub use vkey::{KeyId, MAX_NAME_BYTES, VerifierKey, Vkey, VkeyError, key_id, validate_name};

use crate::checkpoint::Checkpoint;
use crate::cosignature::{self, Cosignature};
use crate::encoding::{self, excerpt};
use ring::signature::{ED25519, UnparsedPublicKey};
use std::fmt;

/// No note may be longer, in bytes.
pub const MAX_NOTE_BYTES: usize = 1024 * 1024;
/// No note may carry more signatures.
pub const MAX_SIGNATURES: usize = 64;
/// No signature may be longer, in bytes (ML-DSA-44 has 2420 and a timestamp).
pub const MAX_SIGNATURE_BYTES: usize = 4096;

/// A text is not a signed note, or its signatures do not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Longer than [`MAX_NOTE_BYTES`].
    #[error("the note has {0} bytes; notes hold at most {MAX_NOTE_BYTES}")]
    TooLong(usize),
    /// Not UTF-8.
    #[error("the note is not UTF-8 at byte {0}; a signed note is text")]
    NotUtf8(usize),
    /// A byte below 0x20 other than the newline.
    #[error("the note holds the control character 0x{0:02x}; only newlines are allowed")]
    ControlCharacter(u8),
    /// The text does not end in a newline.
    #[error("the note's text does not end in a newline; end its last line")]
    UnfinishedText,
    /// No empty line followed by signature lines.
    #[error("the note has no empty line before its signatures; it is unsigned or cut short")]
    NoSignatureBlock,
    /// A signature line that is not `— <name> <base64>`.
    #[error("the signature line {0:?} is malformed; write \"— <name> <base64>\"")]
    SignatureLine(String),
    /// More than [`MAX_SIGNATURES`] signatures.
    #[error("the note has more than {MAX_SIGNATURES} signatures; drop those that nobody asked for")]
    TooManySignatures,
    /// A signature that is empty or longer than [`MAX_SIGNATURE_BYTES`].
    #[error("a signature of {0} bytes is not allowed; signatures have 1 to {MAX_SIGNATURE_BYTES}")]
    SignatureLength(usize),
    /// A signer's name that is not allowed.
    #[error(transparent)]
    Name(#[from] VkeyError),
    /// A trusted key's signature fails.
    #[error(
        "the signature of {name} (key {key_id}) does not verify; the note was changed or forged"
    )]
    BadSignature {
        /// The signer's name.
        name: String,
        /// The key's id.
        key_id: KeyId,
    },
    /// No trusted key signed.
    #[error("no trusted key signed the note; it has signatures of {0}")]
    NoTrustedSignature(String),
    /// Two different trusted keys share name and id, so a signature cannot be told to be one's or the other's.
    #[error(
        "two different trusted keys are both named {name} with id {key_id}; replace one of them"
    )]
    AmbiguousKey {
        /// The shared name.
        name: String,
        /// The shared key id.
        key_id: KeyId,
    },
}

/// One signature line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    name: String,
    key_id: KeyId,
    blob: Vec<u8>,
}

impl Signature {
    /// Makes a signature line from a signature made elsewhere. `blob` is what follows the key id: 64 bytes for Ed25519,
    /// time and signature for a cosignature (72 bytes) and for ML-DSA-44 (2428 bytes). See [`cosignature::log_line`].
    pub fn new(name: &str, key_id: KeyId, blob: &[u8]) -> Result<Self, NoteError> {
        validate_name(name)?;
        if blob.is_empty() || blob.len() > MAX_SIGNATURE_BYTES {
            return Err(NoteError::SignatureLength(blob.len()));
        }
        Ok(Self {
            name: name.to_owned(),
            key_id,
            blob: blob.to_vec(),
        })
    }

    /// Reads one line without its newline, as in a witness's answer.
    pub fn parse(line: &str) -> Result<Self, NoteError> {
        let error = || NoteError::SignatureLine(excerpt(line));
        let (name, text) = line
            .strip_prefix("— ")
            .and_then(|rest| rest.split_once(' '))
            .ok_or_else(error)?;
        let bytes = encoding::from_base64(text).ok_or_else(error)?;
        let (key_id, blob) = bytes.split_first_chunk::<4>().ok_or_else(error)?;
        Self::new(name, KeyId(*key_id), blob)
    }

    /// The signer's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of the key that signed.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// What follows the key id.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }
}

/// The line without its newline.
impl fmt::Display for Signature {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.key_id.0.to_vec();
        bytes.extend_from_slice(&self.blob);
        write!(out, "— {} {}", self.name, encoding::base64(&bytes))
    }
}

/// A text that may be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsignedNote {
    text: String,
}

impl UnsignedNote {
    /// Takes a text that ends in a newline and holds no other control character.
    pub fn new(text: impl Into<String>) -> Result<Self, NoteError> {
        let text = text.into();
        check_text(&text)?;
        Ok(Self { text })
    }

    /// The text, which is also what an Ed25519 key signs.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Adds the first signature; see [`Signature::new`].
    pub fn attach(self, name: &str, key_id: KeyId, blob: &[u8]) -> Result<Note, NoteError> {
        let mut note = Note {
            text: self.text,
            signatures: Vec::new(),
        };
        note.attach(name, key_id, blob)?;
        Ok(note)
    }
}

/// A text with at least one signature, which need not be a good one: see [`Note::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

/// A trusted key's signature that verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedSignature {
    /// The signer's name.
    pub name: String,
    /// The key's id.
    pub key_id: KeyId,
    /// Its place among the keys given to [`Note::verify`].
    pub key_index: usize,
    /// The time that a cosignature or an ML-DSA-44 signature states, in Unix seconds. None where it states 0, which says
    /// nothing about time, and for a log's Ed25519 signature, which has none.
    pub time_s: Option<u64>,
}

impl Note {
    /// Reads a note strictly; signatures are not checked.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > MAX_NOTE_BYTES {
            return Err(NoteError::TooLong(bytes.len()));
        }
        let whole =
            std::str::from_utf8(bytes).map_err(|error| NoteError::NotUtf8(error.valid_up_to()))?;
        let end = whole.rfind("\n\n").ok_or(NoteError::NoSignatureBlock)? + 1;
        let (text, block) = (&whole[..end], &whole[end + 1..]);
        check_text(text)?;
        check_characters(block)?;
        let lines = block
            .strip_suffix('\n')
            .ok_or(NoteError::NoSignatureBlock)?;
        let mut signatures = Vec::new();
        for line in lines.split('\n') {
            if signatures.len() == MAX_SIGNATURES {
                return Err(NoteError::TooManySignatures);
            }
            signatures.push(Signature::parse(line)?);
        }
        Ok(Self {
            text: text.to_owned(),
            signatures,
        })
    }

    /// The signed text with its final newline.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures, good or not, in the note's order.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// Adds a signature made elsewhere; see [`Signature::new`].
    pub fn attach(&mut self, name: &str, key_id: KeyId, blob: &[u8]) -> Result<(), NoteError> {
        self.push(Signature::new(name, key_id, blob)?)
    }

    /// Adds a signature line, unless the very same one is there already.
    pub fn push(&mut self, signature: Signature) -> Result<(), NoteError> {
        if self.signatures.contains(&signature) {
            return Ok(());
        }
        if self.signatures.len() >= MAX_SIGNATURES {
            return Err(NoteError::TooManySignatures);
        }
        self.signatures.push(signature);
        Ok(())
    }

    /// The same text with only the signatures that `keep` picks; `None` where none is left.
    #[must_use]
    pub fn filtered(&self, keep: impl Fn(&Signature) -> bool) -> Option<Self> {
        let signatures: Vec<_> = self
            .signatures
            .iter()
            .filter(|it| keep(it))
            .cloned()
            .collect();
        (!signatures.is_empty()).then(|| Self {
            text: self.text.clone(),
            signatures,
        })
    }

    /// Checks the signatures against trusted keys. Those of unknown (name, key id) pairs are ignored; one of a known pair
    /// that fails rejects the note; so does the lack of any that verifies. ML-DSA-44 keys sign checkpoints only.
    pub fn verify(&self, keys: &[Vkey]) -> Result<Vec<VerifiedSignature>, NoteError> {
        let mut verified = Vec::new();
        for signature in &self.signatures {
            let Some((key_index, key)) = find_key(keys, signature)? else {
                continue;
            };
            let bad = || NoteError::BadSignature {
                name: signature.name.clone(),
                key_id: signature.key_id,
            };
            let time_s = self.stated_time(key, signature).ok_or_else(bad)?;
            verified.push(VerifiedSignature {
                name: signature.name.clone(),
                key_id: signature.key_id,
                key_index,
                // Time 0 makes no statement.
                time_s: (time_s != 0).then_some(time_s),
            });
        }
        if verified.is_empty() {
            return Err(NoteError::NoTrustedSignature(self.signer_names()));
        }
        Ok(verified)
    }

    /// The stated time of a signature that verifies, 0 where it states none; `None` where it does not verify.
    fn stated_time(&self, key: &Vkey, signature: &Signature) -> Option<u64> {
        match key.key() {
            VerifierKey::Ed25519(public) => {
                check_ed25519(public, self.text.as_bytes(), &signature.blob).map(|()| 0)
            }
            VerifierKey::CosignatureV1(public) => {
                let cosignature = Cosignature::decode(&signature.blob)?;
                let message = cosignature::message(&self.text, cosignature.time_s);
                check_ed25519(public, &message, &cosignature.signature)?;
                Some(cosignature.time_s)
            }
            VerifierKey::MlDsa44(public) => {
                let (time_s, signature) = signature.blob.split_first_chunk::<8>()?;
                let time_s = u64::from_be_bytes(*time_s);
                let checkpoint = Checkpoint::parse(&self.text).ok()?;
                let message = cosignature::subtree_message(key.name(), time_s, &checkpoint).ok()?;
                ml_dsa::verifies(public, &message, signature).then_some(time_s)
            }
        }
    }

    fn signer_names(&self) -> String {
        let names: Vec<_> = self.signatures.iter().map(|it| it.name.as_str()).collect();
        excerpt(&names.join(", "))
    }
}

/// The note's bytes: text, empty line, signature lines.
impl fmt::Display for Note {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}", self.text)?;
        self.signatures
            .iter()
            .try_for_each(|signature| writeln!(out, "{signature}"))
    }
}

fn find_key<'a>(
    keys: &'a [Vkey],
    signature: &Signature,
) -> Result<Option<(usize, &'a Vkey)>, NoteError> {
    let mut found: Option<(usize, &Vkey)> = None;
    for (index, key) in keys.iter().enumerate() {
        if key.key_id() != signature.key_id || key.name() != signature.name {
            continue;
        }
        match found {
            Some((_, other)) if other != key => {
                return Err(NoteError::AmbiguousKey {
                    name: signature.name.clone(),
                    key_id: signature.key_id,
                });
            }
            Some(_) => {}
            None => found = Some((index, key)),
        }
    }
    Ok(found)
}

pub(crate) fn check_ed25519(public: &[u8; 32], message: &[u8], signature: &[u8]) -> Option<()> {
    UnparsedPublicKey::new(&ED25519, public)
        .verify(message, signature)
        .ok()
}

fn check_text(text: &str) -> Result<(), NoteError> {
    if text.len() > MAX_NOTE_BYTES {
        return Err(NoteError::TooLong(text.len()));
    }
    if !text.ends_with('\n') {
        return Err(NoteError::UnfinishedText);
    }
    check_characters(text)
}

fn check_characters(text: &str) -> Result<(), NoteError> {
    match text.bytes().find(|byte| *byte < 0x20 && *byte != b'\n') {
        Some(byte) => Err(NoteError::ControlCharacter(byte)),
        None => Ok(()),
    }
}
