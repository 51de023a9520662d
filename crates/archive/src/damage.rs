//! What was found of an object, and what is wrong with it.

use serde::{Deserialize, Serialize};

use crate::name::ObjectName;

/// Bytes that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// How many.
    pub size: u64,
    /// Their SHA-256.
    pub sha256: [u8; 32],
}

/// What stands where a document should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// A document.
    Present(Measured),
    /// One that is far too large to be it; its bytes.
    Oversized(u64),
    /// Nothing.
    Missing,
    /// Something that cannot be read; why.
    Unreadable(String),
    /// The store did not give it this time; why. Nothing is known: it may be whole.
    Unanswered(String),
}

/// What stands where a seal should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SealFile {
    /// Bytes: at most one more than a seal may have.
    Present(Vec<u8>),
    /// Nothing.
    Missing,
    /// Something that cannot be read; why.
    Unreadable(String),
    /// The store did not give it this time; why. Nothing is known: it may be whole.
    Unanswered(String),
}

/// A document and its seal as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The document.
    pub document: Document,
    /// The seal.
    pub seal: SealFile,
}

impl Found {
    /// Whether the store gave neither yes nor no for one of the two.
    pub fn is_unanswered(&self) -> bool {
        matches!(self.document, Document::Unanswered(_))
            || matches!(self.seal, SealFile::Unanswered(_))
    }

    /// Whether one of the two is not there or was not read: that can be the store's fault as well.
    pub fn is_doubtful(&self) -> bool {
        self.is_unanswered()
            || matches!(self.document, Document::Missing | Document::Unreadable(_))
            || matches!(self.seal, SealFile::Missing | SealFile::Unreadable(_))
    }

    /// Takes the store's silence for an answer: it is whole, and this cannot be read.
    #[must_use]
    pub fn settled(self) -> Self {
        let settle =
            |reason| format!("the store gives other objects, and does not give this one: {reason}");
        Self {
            document: match self.document {
                Document::Unanswered(reason) => Document::Unreadable(settle(reason)),
                known @ (Document::Present(_)
                | Document::Oversized(_)
                | Document::Missing
                | Document::Unreadable(_)) => known,
            },
            seal: match self.seal {
                SealFile::Unanswered(reason) => SealFile::Unreadable(settle(reason)),
                known @ (SealFile::Present(_) | SealFile::Missing | SealFile::Unreadable(_)) => {
                    known
                }
            },
        }
    }
}

/// The kinds of damage. Their names stand in reports and events, and do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DamageClass {
    /// The document has other bytes.
    BytesChanged,
    /// The document is shorter, and as far as can be said nothing else.
    Truncated,
    /// The document is not there.
    Missing,
    /// The document of another name stands there.
    DocumentSwapped,
    /// The seal is not there.
    SealMissing,
    /// The seal cannot be read, or its proof or signature does not hold.
    SealDamaged,
    /// The seal holds, for another document or another leaf.
    SealOfAnotherDocument,
    /// The seal is whole and its verdict is negative: suspect, unwitnessed, of an unknown log.
    SealNotValid,
    /// It is there and cannot be read: permissions, a damaged disk, no regular file.
    Unreadable,
    /// Something stands in the archive that the inventory does not list.
    Unexpected,
    /// A page of the inventory is missing or is not the one that was recorded.
    InventoryDamaged,
}

impl DamageClass {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::BytesChanged,
        Self::Truncated,
        Self::Missing,
        Self::DocumentSwapped,
        Self::SealMissing,
        Self::SealDamaged,
        Self::SealOfAnotherDocument,
        Self::SealNotValid,
        Self::Unreadable,
        Self::Unexpected,
        Self::InventoryDamaged,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BytesChanged => "bytes-changed",
            Self::Truncated => "truncated",
            Self::Missing => "missing",
            Self::DocumentSwapped => "document-swapped",
            Self::SealMissing => "seal-missing",
            Self::SealDamaged => "seal-damaged",
            Self::SealOfAnotherDocument => "seal-of-another-document",
            Self::SealNotValid => "seal-not-valid",
            Self::Unreadable => "unreadable",
            Self::Unexpected => "unexpected",
            Self::InventoryDamaged => "inventory-damaged",
        }
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == name)
    }

    /// Whether the object should not be used: its own bytes or those of its seal are not what was stored. A whole seal with a negative verdict says that the log is in
    /// trouble, not the archive; what the inventory does not list and the inventory's own pages are no documents.
    pub fn quarantines(self) -> bool {
        match self {
            Self::BytesChanged
            | Self::Truncated
            | Self::Missing
            | Self::DocumentSwapped
            | Self::SealMissing
            | Self::SealDamaged
            | Self::SealOfAnotherDocument
            | Self::Unreadable => true,
            Self::SealNotValid | Self::Unexpected | Self::InventoryDamaged => false,
        }
    }
}

/// One thing that is wrong with one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Damage {
    /// The object's name; of a page of the inventory, its key.
    pub object: String,
    /// What.
    pub class: DamageClass,
    /// In words, with values.
    pub detail: String,
    /// SHA-256 as sealed, hex; empty where there is none.
    pub expected_sha256: String,
    /// SHA-256 as found, hex; empty where nothing was read.
    pub found_sha256: String,
    /// Bytes as sealed.
    pub expected_size: u64,
    /// Bytes as found.
    pub found_size: Option<u64>,
    /// Offset of the first byte that differs from an intact backup.
    pub first_difference: Option<u64>,
}

impl Damage {
    /// Damage of an object of which nothing more is known.
    pub fn plain(object: &str, class: DamageClass, detail: impl Into<String>) -> Self {
        Self {
            object: object.to_owned(),
            class,
            detail: detail.into(),
            expected_sha256: String::new(),
            found_sha256: String::new(),
            expected_size: 0,
            found_size: None,
            first_difference: None,
        }
    }

    /// The object as a name; a page of the inventory and a stray object may have none.
    pub fn name(&self) -> Option<ObjectName> {
        ObjectName::new(self.object.as_str()).ok()
    }
}

/// Bytes of a digest that stands in damage as hex; none for what is no hex.
pub fn from_hex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap_or_default()
}
