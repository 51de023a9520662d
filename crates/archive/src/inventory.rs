//! The inventory: what was stored, page by page, each page chained to the one before it.

use std::collections::BTreeMap;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::name::ObjectName;

/// Name and version of a page's form.
const FORMAT: &str = "sealwarden-archive-inventory/v1";
/// Most entries of a page.
pub const MAX_PAGE_ENTRIES: usize = 1024;
/// Largest page, bytes.
pub const MAX_PAGE_BYTES: u64 = 4 * 1024 * 1024;
/// What stands in the first page for the page before it.
pub const NO_PAGE: [u8; 32] = [0; 32];

/// One document as it was stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name.
    pub name: ObjectName,
    /// Bytes.
    pub size: u64,
    /// SHA-256, hex.
    #[serde(with = "hex32")]
    pub sha256: [u8; 32],
    /// The log that sealed it.
    pub origin: String,
    /// Its leaf there.
    pub index: u64,
    /// When it was stored, Unix milliseconds.
    pub stored_at_ms: i64,
}

/// A page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// Name and version of this form.
    pub format: String,
    /// The archive's name.
    pub archive: String,
    /// Counted from 1.
    pub page: u64,
    /// SHA-256 of the bytes of the page before it, hex; zeros in the first one.
    #[serde(with = "hex32")]
    pub previous: [u8; 32],
    /// What was stored, in the order of storing; a later entry of a name replaces an earlier one.
    pub entries: Vec<Entry>,
}

/// A page that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InventoryError {
    /// Its bytes are others.
    #[error("page {page} of the inventory has SHA-256 {found}; the event log recorded {expected}")]
    Changed {
        /// Page.
        page: u64,
        /// Hex.
        found: String,
        /// Hex.
        expected: String,
    },
    /// It cannot be read as a page.
    #[error("page {page} of the inventory is not a page: {reason}")]
    Malformed {
        /// Page.
        page: u64,
        /// Why.
        reason: String,
    },
    /// It does not follow the page before it.
    #[error(
        "page {page} of the inventory does not follow page {before}: another SHA-256 stands in it"
    )]
    Unchained {
        /// Page.
        page: u64,
        /// The one before.
        before: u64,
    },
}

/// Where a page lies.
pub fn page_key(page: u64) -> String {
    format!("inventory/{page:012}.json")
}

impl Page {
    /// A page that follows another one.
    pub fn new(archive: &str, page: u64, previous: [u8; 32], entries: Vec<Entry>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            archive: archive.to_owned(),
            page,
            previous,
            entries,
        }
    }

    /// Its bytes, and their SHA-256.
    pub fn to_bytes(&self) -> Result<(Vec<u8>, [u8; 32]), InventoryError> {
        let bytes = serde_json::to_vec(self).map_err(|e| InventoryError::Malformed {
            page: self.page,
            reason: e.to_string(),
        })?;
        let sha256 = sha256(&bytes);
        Ok((bytes, sha256))
    }

    /// Reads a page that must have this digest and follow that page.
    pub fn parse(
        bytes: &[u8],
        archive: &str,
        page: u64,
        expected: [u8; 32],
        previous: [u8; 32],
    ) -> Result<Self, InventoryError> {
        let found = sha256(bytes);
        if found != expected {
            return Err(InventoryError::Changed {
                page,
                found: hex::encode(found),
                expected: hex::encode(expected),
            });
        }
        let malformed = |reason: String| InventoryError::Malformed { page, reason };
        let read: Self = serde_json::from_slice(bytes).map_err(|e| malformed(e.to_string()))?;
        if read.format != FORMAT || read.archive != archive || read.page != page {
            return Err(malformed(format!(
                "it says {} of archive {:?}, page {}",
                read.format, read.archive, read.page
            )));
        }
        if read.previous != previous {
            let before = page.saturating_sub(1);
            return Err(InventoryError::Unchained { page, before });
        }
        Ok(read)
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// All pages together: the newest entry of each name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    entries: BTreeMap<ObjectName, Entry>,
    by_digest: BTreeMap<[u8; 32], ObjectName>,
    bytes: u64,
}

impl Inventory {
    /// Takes in the next page's entries.
    pub fn extend(&mut self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            self.bytes = self.bytes.saturating_add(entry.size);
            self.by_digest
                .entry(entry.sha256)
                .or_insert_with(|| entry.name.clone());
            if let Some(replaced) = self.entries.insert(entry.name.clone(), entry) {
                self.bytes = self.bytes.saturating_sub(replaced.size);
            }
        }
    }

    /// What stands under a name.
    pub fn get(&self, name: &ObjectName) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// An object that was stored with this digest.
    pub fn named(&self, sha256: &[u8; 32]) -> Option<&ObjectName> {
        self.by_digest.get(sha256)
    }

    /// All entries by name, those after a name first where one is given.
    pub fn after(&self, name: Option<&ObjectName>) -> impl Iterator<Item = &Entry> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = name.map_or(Unbounded, Excluded);
        self.entries
            .range::<ObjectName, _>((from, Unbounded))
            .map(|(_, entry)| entry)
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of all documents.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// 32 bytes as hex.
mod hex32 {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(
        bytes: &[u8; 32],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(&text, &mut bytes).map_err(D::Error::custom)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, size: u64) -> Entry {
        Entry {
            name: ObjectName::new(name).unwrap(),
            size,
            sha256: [u8::try_from(size).unwrap(); 32],
            origin: "a/1".to_owned(),
            index: size,
            stored_at_ms: 5,
        }
    }

    #[test]
    fn a_page_is_read_back_only_as_it_was_recorded() {
        let first = Page::new("main", 1, NO_PAGE, vec![entry("a", 1)]);
        let (bytes, digest) = first.to_bytes().unwrap();
        assert_eq!(Page::parse(&bytes, "main", 1, digest, NO_PAGE), Ok(first));
        let mut changed = bytes.clone();
        changed[20] ^= 1;
        assert!(matches!(
            Page::parse(&changed, "main", 1, digest, NO_PAGE),
            Err(InventoryError::Changed { .. })
        ));
        assert!(matches!(
            Page::parse(&bytes, "main", 1, digest, [1; 32]),
            Err(InventoryError::Unchained { .. })
        ));
        assert!(matches!(
            Page::parse(&bytes, "other", 1, digest, NO_PAGE),
            Err(InventoryError::Malformed { .. })
        ));
        assert!(matches!(
            Page::parse(b"{}", "main", 1, sha256(b"{}"), NO_PAGE),
            Err(InventoryError::Malformed { .. })
        ));
    }

    #[test]
    fn a_later_entry_replaces_an_earlier_one_of_its_name() {
        let mut inventory = Inventory::default();
        inventory.extend([entry("b", 2), entry("a", 1), entry("b", 3)]);
        assert_eq!((inventory.len(), inventory.bytes()), (2, 4));
        let names: Vec<_> = inventory.after(None).map(|e| e.name.to_string()).collect();
        assert_eq!(names, ["a", "b"]);
        let a = ObjectName::new("a").unwrap();
        assert_eq!(inventory.after(Some(&a)).count(), 1);
        assert_eq!(inventory.named(&[3; 32]).unwrap().as_str(), "b");
    }
}
