//! Verifier keys: `name+hex8(key id)+base64(type ‖ key)`.

use super::ml_dsa::ML_DSA_44_KEY_BYTES;
use crate::encoding::{self, excerpt};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

const TYPE_ED25519: u8 = 0x01;
const TYPE_COSIGNATURE_V1: u8 = 0x04;
const TYPE_ML_DSA_44: u8 = 0x06;

/// No signer's name may be longer, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// A text is not a verifier key, or a name is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VkeyError {
    /// Not `name+id+key`.
    #[error("{0:?} is not a verifier key; write <name>+<8 hexadecimal digits>+<base64>")]
    Format(String),
    /// A name that is empty, too long, or holds white space, control characters or a plus sign.
    #[error(
        "{0:?} cannot be a signer's name: use 1 to {MAX_NAME_BYTES} bytes without white space, control characters or +"
    )]
    Name(String),
    /// The id is not the one that name and key give.
    #[error(
        "the verifier key of {name} says id {found}, name and key give {expected}; copy the key again"
    )]
    KeyId {
        /// The key's name.
        name: String,
        /// The id in the text.
        found: KeyId,
        /// The id computed.
        expected: KeyId,
    },
    /// A signature type that verifier keys here cannot have.
    #[error(
        "the verifier key of {name} has type 0x{algorithm:02x}; Ed25519 (01), cosignature/v1 (04) and ML-DSA-44 (06) are known"
    )]
    Algorithm {
        /// The key's name.
        name: String,
        /// The type byte.
        algorithm: u8,
    },
    /// A key of the wrong length for its type.
    #[error(
        "the verifier key of {name} has {found} bytes, its type wants {expected}; copy the key again"
    )]
    KeyLength {
        /// The key's name.
        name: String,
        /// The bytes found.
        found: usize,
        /// The bytes wanted.
        expected: usize,
    },
}

/// The four bytes that, with the name, say which key signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyId(
    /// Big-endian, as in a signature blob.
    pub [u8; 4],
);

impl fmt::Display for KeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&hex::encode(self.0))
    }
}

/// `SHA-256(name ‖ 0x0A ‖ type ‖ key)[..4]`.
pub fn key_id(name: &str, algorithm: u8, key: &[u8]) -> KeyId {
    let mut bytes = Vec::with_capacity(name.len() + 2 + key.len());
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(&[b'\n', algorithm]);
    bytes.extend_from_slice(key);
    let [a, b, c, d, ..] = encoding::sha256(&bytes);
    KeyId([a, b, c, d])
}

/// Checks a signer's name: not empty, no white space, no control characters, no plus sign.
pub fn validate_name(name: &str) -> Result<(), VkeyError> {
    let allowed = |letter: char| !letter.is_whitespace() && !letter.is_control() && letter != '+';
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(allowed) {
        return Err(VkeyError::Name(excerpt(name)));
    }
    Ok(())
}

/// What a verifier key checks signatures with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum VerifierKey {
    /// Type 0x01: Ed25519 over the note's text.
    Ed25519([u8; 32]),
    /// Type 0x04: an Ed25519 witness cosignature with its time.
    CosignatureV1([u8; 32]),
    /// Type 0x06: ML-DSA-44 over C2SP's `subtree/v1` message, for logs and witnesses.
    MlDsa44(Box<[u8; ML_DSA_44_KEY_BYTES]>),
}

/// A named verifier key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Vkey {
    name: String,
    key_id: KeyId,
    key: VerifierKey,
}

impl Vkey {
    /// The key of a log or of another signer of note texts.
    pub fn ed25519(name: &str, public_key: [u8; 32]) -> Result<Self, VkeyError> {
        Self::new(name, VerifierKey::Ed25519(public_key))
    }

    /// The key of a witness.
    pub fn cosignature_v1(name: &str, public_key: [u8; 32]) -> Result<Self, VkeyError> {
        Self::new(name, VerifierKey::CosignatureV1(public_key))
    }

    /// The ML-DSA-44 key of a log or a witness.
    pub fn ml_dsa_44(name: &str, public_key: [u8; ML_DSA_44_KEY_BYTES]) -> Result<Self, VkeyError> {
        Self::new(name, VerifierKey::MlDsa44(Box::new(public_key)))
    }

    /// Names a key; the key id follows from both.
    pub fn new(name: &str, key: VerifierKey) -> Result<Self, VkeyError> {
        validate_name(name)?;
        let (algorithm, bytes) = parts(&key);
        let key_id = key_id(name, algorithm, bytes);
        Ok(Self {
            name: name.to_owned(),
            key_id,
            key,
        })
    }

    /// The signer's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key's id under this name.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// The key itself.
    pub fn key(&self) -> &VerifierKey {
        &self.key
    }

    /// The public key's bytes.
    pub fn public_key(&self) -> &[u8] {
        parts(&self.key).1
    }
}

fn parts(key: &VerifierKey) -> (u8, &[u8]) {
    match key {
        VerifierKey::Ed25519(key) => (TYPE_ED25519, key),
        VerifierKey::CosignatureV1(key) => (TYPE_COSIGNATURE_V1, key),
        VerifierKey::MlDsa44(key) => (TYPE_ML_DSA_44, key.as_slice()),
    }
}

impl fmt::Display for Vkey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (algorithm, key) = parts(&self.key);
        let mut bytes = vec![algorithm];
        bytes.extend_from_slice(key);
        write!(
            out,
            "{}+{}+{}",
            self.name,
            self.key_id,
            encoding::base64(&bytes)
        )
    }
}

impl FromStr for Vkey {
    type Err = VkeyError;

    fn from_str(text: &str) -> Result<Self, VkeyError> {
        let format = || VkeyError::Format(excerpt(text));
        // The base64 may hold a plus sign itself, so only the first two separate.
        let mut fields = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (fields.next(), fields.next(), fields.next())
        else {
            return Err(format());
        };
        let found = parse_key_id(id).ok_or_else(format)?;
        let bytes = encoding::from_base64(key).ok_or_else(format)?;
        let (algorithm, key) = bytes.split_first().ok_or_else(format)?;
        let vkey = Self::new(name, verifier_key(name, *algorithm, key)?)?;
        if vkey.key_id != found {
            let expected = vkey.key_id;
            return Err(VkeyError::KeyId {
                name: vkey.name,
                found,
                expected,
            });
        }
        Ok(vkey)
    }
}

fn parse_key_id(text: &str) -> Option<KeyId> {
    let mut bytes = [0; 4];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    (hex::encode(bytes) == text).then_some(KeyId(bytes))
}

fn verifier_key(name: &str, algorithm: u8, key: &[u8]) -> Result<VerifierKey, VkeyError> {
    let length = |expected| VkeyError::KeyLength {
        name: excerpt(name),
        found: key.len(),
        expected,
    };
    match algorithm {
        TYPE_ED25519 => Ok(VerifierKey::Ed25519(
            key.try_into().map_err(|_| length(32))?,
        )),
        TYPE_COSIGNATURE_V1 => Ok(VerifierKey::CosignatureV1(
            key.try_into().map_err(|_| length(32))?,
        )),
        TYPE_ML_DSA_44 => {
            let key = key.try_into().map_err(|_| length(ML_DSA_44_KEY_BYTES))?;
            Ok(VerifierKey::MlDsa44(Box::new(key)))
        }
        _ => Err(VkeyError::Algorithm {
            name: excerpt(name),
            algorithm,
        }),
    }
}

impl TryFrom<String> for Vkey {
    type Error = VkeyError;

    fn try_from(text: String) -> Result<Self, VkeyError> {
        text.parse()
    }
}

impl From<Vkey> for String {
    fn from(vkey: Vkey) -> Self {
        vkey.to_string()
    }
}
