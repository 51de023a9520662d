//! Whether a store is the one that holds an archive: an empty mount point and another bucket answer, too, and say of every object that it is not there.

use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::inventory::{MAX_PAGE_BYTES, page_key};
use crate::store::Store;

/// Where a store says which archive it holds.
pub const IDENTITY_KEY: &str = "archive.json";
/// Name and version of its form.
const FORMAT: &str = "sealwarden-archive/v1";
/// It is never larger, bytes.
const MAX_BYTES: u64 = 4096;

/// Which of an archive's two stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The documents.
    Documents,
    /// Their versions.
    Backup,
}

impl Part {
    fn words(self, archive: &str) -> String {
        match self {
            Self::Documents => format!("archive {archive}"),
            Self::Backup => format!("the backup of archive {archive}"),
        }
    }
}

/// What stands in [`IDENTITY_KEY`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Name and version of this form.
    format: String,
    /// The archive's name.
    archive: String,
    /// Which of its stores.
    role: Part,
}

impl Identity {
    /// Of one store of an archive.
    pub fn new(archive: &str, role: Part) -> Self {
        Self {
            format: FORMAT.to_owned(),
            archive: archive.to_owned(),
            role,
        }
    }

    /// Makes sure of it in a store when the archive is opened. `pages`: whether the event log knows that something was stored here.
    /// A store without any trace of what was stored is refused, and so is one that holds another archive.
    pub async fn claim(&self, store: &Store, pages: bool) -> Result<(), StoreError> {
        if self.is_written(store).await? {
            return Ok(());
        }
        // Without pages nothing can be missing. With pages, the first one shows that it is the place; only its identity was lost, or was never written.
        if pages && !has_pages(store).await? {
            return Err(self.elsewhere(
                store,
                "it holds neither archive.json nor the first page of the inventory",
            ));
        }
        let bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        store.put(IDENTITY_KEY, bytes).await
    }

    /// Whether the store is there and is the right one; asked whenever an object seems to be missing.
    pub async fn check(&self, store: &Store) -> Result<(), StoreError> {
        if self.is_written(store).await? || has_pages(store).await? {
            return Ok(());
        }
        Err(self.elsewhere(
            store,
            "it holds neither archive.json nor the first page of the inventory",
        ))
    }

    async fn is_written(&self, store: &Store) -> Result<bool, StoreError> {
        let bytes = match store.get(IDENTITY_KEY, MAX_BYTES).await {
            Ok(bytes) => bytes,
            Err(e) if e.is_not_found() => return Ok(false),
            Err(e) => return Err(e),
        };
        // One that cannot be read proves nothing, and is written anew where the pages are.
        let Ok(found) = serde_json::from_slice::<Self>(&bytes) else {
            return Ok(false);
        };
        if found == *self {
            return Ok(true);
        }
        let whose = found.role.words(&found.archive);
        Err(self.elsewhere(store, &format!("its archive.json says that it is {whose}")))
    }

    fn elsewhere(&self, store: &Store, reason: &str) -> StoreError {
        StoreError::Elsewhere {
            place: store.place().to_owned(),
            whose: self.role.words(&self.archive),
            reason: reason.to_owned(),
        }
    }
}

async fn has_pages(store: &Store) -> Result<bool, StoreError> {
    match store.get(&page_key(1), MAX_PAGE_BYTES).await {
        Ok(_) | Err(StoreError::TooLarge { .. }) => Ok(true),
        Err(e) if e.is_not_found() => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::{Place, S3Settings};

    #[tokio::test]
    async fn an_empty_folder_and_another_archives_are_not_the_place() {
        let dir = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            let place = dir.path().join(name).display().to_string();
            Place::parse(&place)
                .unwrap()
                .open(&S3Settings::default())
                .unwrap()
        };
        let (main, store) = (Identity::new("main", Part::Documents), open("a"));
        assert!(
            main.claim(&store, true).await.is_err(),
            "a disk that is not mounted"
        );
        main.claim(&store, false).await.unwrap();
        main.check(&store).await.unwrap();
        main.claim(&store, true).await.unwrap();
        let other = Identity::new("other", Part::Documents)
            .claim(&store, false)
            .await;
        assert!(
            other
                .unwrap_err()
                .to_string()
                .contains("it is archive main")
        );
        let backup = Identity::new("main", Part::Backup).check(&store).await;
        assert!(
            backup
                .unwrap_err()
                .to_string()
                .contains("the backup of archive main")
        );

        // One of the two is enough; without both nothing is said of any object.
        store.put(&page_key(1), b"{}".to_vec()).await.unwrap();
        store.put(IDENTITY_KEY, b"garbage".to_vec()).await.unwrap();
        main.check(&store).await.unwrap();
        main.claim(&store, true).await.unwrap();
        store.delete(&page_key(1)).await.unwrap();
        main.check(&store).await.unwrap();
        store.delete(IDENTITY_KEY).await.unwrap();
        let gone = main.check(&store).await.unwrap_err();
        assert!(gone.to_string().contains("mounted"), "{gone}");
    }
}
