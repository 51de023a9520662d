//! What a key's provider says of where the key was made.

use serde::{Deserialize, Serialize};

/// The provider's document about a key's origin, kept as it was given.
///
/// Nothing here vouches for what a document says: an auditor weighs who wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Attestation {
    /// The provider has none.
    #[default]
    None,
    /// A document.
    Document {
        /// What it is, such as `pkcs11-attributes-v1`.
        format: String,
        /// The document, byte for byte.
        bytes: Vec<u8>,
    },
}

impl Attestation {
    /// The document's format, or `none`.
    pub fn format(&self) -> &str {
        match self {
            Self::None => "none",
            Self::Document { format, .. } => format,
        }
    }
}

/// An attestation as the key's record keeps it: the word `none`, or format and hexadecimal bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StoredAttestation {
    None,
    Document {
        format: String,
        #[serde(with = "hex::serde")]
        bytes: Vec<u8>,
    },
}

impl From<Attestation> for StoredAttestation {
    fn from(attestation: Attestation) -> Self {
        match attestation {
            Attestation::None => Self::None,
            Attestation::Document { format, bytes } => Self::Document { format, bytes },
        }
    }
}

impl From<StoredAttestation> for Attestation {
    fn from(stored: StoredAttestation) -> Self {
        match stored {
            StoredAttestation::None => Self::None,
            StoredAttestation::Document { format, bytes } => Self::Document { format, bytes },
        }
    }
}
