//! The backup store: every version of a document that was ever stored.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;

use crate::damage::{Document, Measured};
use crate::error::StoreError;
use crate::inventory::Entry;
use crate::limits::{MAX_SEAL, at_most};
use crate::meter::Meter;
use crate::name::ObjectName;
use crate::store::{Store, Upload};

/// Most versions of one document that are looked at.
const MAX_VERSIONS: usize = 1000;

/// A version of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its key; the seal's is this with `.seal`.
    pub key: String,
    /// When it was stored, Unix milliseconds.
    pub stored_at_ms: i64,
    /// The SHA-256 that it had then, hex.
    pub sha256: String,
    /// Bytes that it has now.
    pub size: u64,
}

/// The backup store's view of documents.
#[derive(Clone, Debug)]
pub struct Versions {
    store: Store,
}

impl Versions {
    /// Over a store that holds nothing else.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    fn key(name: &ObjectName, at_ms: i64, sha256: &[u8; 32]) -> String {
        format!(
            "versions/{name}/@{:013}-{}",
            at_ms.max(0),
            hex::encode(sha256)
        )
    }

    /// Begins a new version.
    pub fn begin(&self, name: &ObjectName, at_ms: i64, sha256: &[u8; 32]) -> (String, Upload) {
        let key = Self::key(name, at_ms, sha256);
        let upload = self.store.upload(&key);
        (key, upload)
    }

    /// Keeps a seal beside a version.
    pub async fn put_seal(&self, version: &str, seal: &[u8]) -> Result<(), StoreError> {
        self.store
            .put(&format!("{version}.seal"), seal.to_vec())
            .await
    }

    /// The seal that was kept beside a version.
    pub async fn seal(&self, version: &Version) -> Result<Vec<u8>, StoreError> {
        self.store
            .get(&format!("{}.seal", version.key), MAX_SEAL)
            .await
    }

    /// The versions of a document, newest first.
    pub async fn of(&self, name: &ObjectName) -> Result<Vec<Version>, StoreError> {
        let below = format!("versions/{name}");
        let mut listed = self.store.list(&below)?;
        let mut versions = Vec::new();
        while let Some(object) = listed.next().await {
            let object = object?;
            if let Some(reason) = object.closed {
                return Err(StoreError::Unlisted {
                    place: format!("{}/{}", self.store.place(), object.key),
                    reason,
                });
            }
            let Some(version) = parse(&below, object.key, object.size) else {
                continue;
            };
            if versions.len() < MAX_VERSIONS {
                versions.push(version);
            }
        }
        versions.sort_by(|a: &Version, b| b.key.cmp(&a.key));
        Ok(versions)
    }

    /// The newest version whose bytes are those that were sealed, and how many were tried.
    pub async fn intact(
        &self,
        entry: &Entry,
        meter: &Arc<Meter>,
    ) -> Result<(Option<Version>, u64), StoreError> {
        let mut tried = 0;
        for version in self.of(&entry.name).await? {
            tried += 1;
            if version.size != entry.size {
                continue;
            }
            let expected = Measured {
                size: entry.size,
                sha256: entry.sha256,
            };
            match self.store.measure(&version.key, meter).await? {
                Document::Present(found) if found == expected => {
                    return Ok((Some(version), tried));
                }
                // Nobody may conclude from this that there is no original.
                Document::Unanswered(reason) => {
                    return Err(StoreError::Away {
                        place: self.store.place().to_owned(),
                        reason,
                    });
                }
                Document::Present(_)
                | Document::Oversized(_)
                | Document::Missing
                | Document::Unreadable(_) => {}
            }
        }
        Ok((None, tried))
    }

    /// Keeps the bytes that a restore is about to replace, unless they are far more than the document ever had.
    pub async fn keep_damaged(
        &self,
        from: &Store,
        entry: &Entry,
        at_ms: i64,
        meter: &Meter,
    ) -> Result<(), StoreError> {
        let name = &entry.name;
        let key = format!("damaged/{name}/@{:013}", at_ms.max(0));
        let parts = [
            (name.document(), key.clone(), at_most(entry)),
            (name.seal(), format!("{key}.seal"), MAX_SEAL),
        ];
        for (source, target, limit) in parts {
            match from.size(&source).await? {
                None => continue,
                Some(found) if found > limit => {
                    return Err(StoreError::TooLarge {
                        place: from.place().to_owned(),
                        key: source,
                        found,
                        limit,
                    });
                }
                Some(_) => {}
            }
            match self.store.copy_from(from, &source, &target, meter).await {
                Ok(_) => {}
                Err(e) if e.is_not_found() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Writes a version from bytes at hand.
    pub async fn put(
        &self,
        name: &ObjectName,
        at_ms: i64,
        sha256: &[u8; 32],
        bytes: Bytes,
    ) -> Result<String, StoreError> {
        let (key, mut upload) = self.begin(name, at_ms, sha256);
        upload.write(bytes).await?;
        upload.finish().await?;
        Ok(key)
    }
}

fn parse(below: &str, key: String, size: u64) -> Option<Version> {
    let name = key.strip_prefix(below)?.strip_prefix("/@")?;
    let (at, sha256) = name.split_once('-')?;
    if sha256.len() != 64 || name.contains(['/', '.']) {
        return None;
    }
    let (stored_at_ms, sha256) = (at.parse().ok()?, sha256.to_owned());
    Some(Version {
        key,
        stored_at_ms,
        sha256,
        size,
    })
}
