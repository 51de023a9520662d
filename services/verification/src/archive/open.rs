//! An archive at work.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex as StdMutex, PoisonError, RwLock};

use anyhow::Context as _;
use sealwarden_archive::{
    Identity, Inventory, MAX_PAGE_BYTES, NO_PAGE, ObjectName, Page, Part, Place, Store, Versions,
    page_key,
};
use sealwarden_domain::Rejection;
use sealwarden_domain::archive::{Archive as State, Command, decide};
use sealwarden_engine::{ExecuteError, Executed, Node, Stream};
use sealwarden_wire::archive::v1::Progress;
use tokio::sync::{Mutex, Notify, mpsc, watch};

use super::config::ArchiveConfig;
use super::inventory::Addition;
use crate::verify::Verifying;

/// Entries that wait for the inventory's next page.
const ADDITIONS: usize = 1024;

/// What a person asked of the revalidation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) paused: bool,
    pub(crate) cancelled: bool,
}

/// An archive. All of its tasks share it.
pub(crate) struct Archive {
    pub(crate) config: ArchiveConfig,
    pub(crate) node: Arc<Node>,
    pub(crate) verifying: Arc<Verifying>,
    pub(crate) store: Store,
    pub(crate) versions: Versions,
    /// What must be found in `store`, and in that of `versions`, before anything is said to be missing there.
    pub(crate) documents: Identity,
    pub(crate) backup: Identity,
    /// This node's own folder for it.
    pub(crate) dir: PathBuf,
    stream: Mutex<Stream<State>>,
    /// The same state for readers that need not be exact.
    state: RwLock<State>,
    inventory: RwLock<Arc<Inventory>>,
    pub(crate) additions: mpsc::Sender<Addition>,
    /// Names that are being stored or restored now.
    busy: StdMutex<BTreeSet<ObjectName>>,
    /// Held while damage is recorded and while an object is mended: what is being mended is not found damaged.
    pub(crate) mending: Mutex<()>,
    pub(crate) progress: watch::Sender<Progress>,
    pub(crate) wish: watch::Sender<Wish>,
    pub(crate) wake: Notify,
}

/// A name that nobody else stores or restores meanwhile.
pub(crate) struct Busy<'a> {
    archive: &'a Archive,
    name: ObjectName,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut busy = self
            .archive
            .busy
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        busy.remove(&self.name);
    }
}

impl Archive {
    /// Opens the stores and reads the inventory, as the event log knows it.
    pub(crate) async fn open(
        config: ArchiveConfig,
        node: Arc<Node>,
        verifying: Arc<Verifying>,
    ) -> anyhow::Result<(Arc<Self>, mpsc::Receiver<Addition>)> {
        let opening = config.clone();
        let (store, backup) =
            tokio::task::spawn_blocking(move || -> anyhow::Result<(Store, Store)> {
                let backup_s3 = opening.backup_s3.as_ref().unwrap_or(&opening.s3);
                let store = Place::parse(&opening.url)?.open(&opening.s3)?;
                Ok((store, Place::parse(&opening.backup)?.open(backup_s3)?))
            })
            .await??;
        let stream: Stream<State> = node.stream("archive", &config.name).await?;
        let documents = Identity::new(&config.name, Part::Documents);
        let versions = Identity::new(&config.name, Part::Backup);
        let pages = !stream.state().pages.is_empty();
        documents.claim(&store, pages).await?;
        versions.claim(&backup, pages).await?;
        let dir = node.data.join("archive").join(&config.name);
        tokio::fs::create_dir_all(dir.join("reports"))
            .await
            .with_context(|| format!("making {}", dir.display()))?;
        let (additions, receiver) = mpsc::channel(ADDITIONS);
        let state = stream.state().clone();
        let archive = Self {
            config,
            node,
            verifying,
            store,
            versions: Versions::new(backup),
            documents,
            backup: versions,
            dir,
            stream: Mutex::new(stream),
            state: RwLock::new(state),
            inventory: RwLock::default(),
            additions,
            busy: StdMutex::default(),
            mending: Mutex::new(()),
            progress: watch::Sender::default(),
            wish: watch::Sender::default(),
            wake: Notify::new(),
        };
        archive.read_inventory().await?;
        Ok((Arc::new(archive), receiver))
    }

    /// Reads all pages; one that is damaged is read from the backup, and looked at by the next revalidation. One that is damaged in both is passed over.
    async fn read_inventory(&self) -> anyhow::Result<()> {
        let mut inventory = Inventory::default();
        let pages = self.state(|state| state.pages.clone());
        let mut previous = NO_PAGE;
        for (number, digest) in (1_u64..).zip(pages) {
            match self.page(number, digest, previous).await {
                Ok(page) => inventory.extend(page.entries),
                Err(problems) => {
                    // A store that cannot be reached is no damage: opening is tried again.
                    let there = self.store.size(&page_key(number)).await;
                    there.context("reading the inventory")?;
                    tracing::error!(archive = %self.config.name, page = number, %problems, "a page of the inventory is lost");
                }
            }
            previous = digest;
        }
        let mut held = self
            .inventory
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *held = Arc::new(inventory);
        Ok(())
    }

    /// One page from the archive, else from the backup; why not from either.
    async fn page(
        &self,
        number: u64,
        digest: [u8; 32],
        previous: [u8; 32],
    ) -> Result<Page, String> {
        let mut problems = Vec::new();
        for store in [&self.store, self.versions.store()] {
            match store.get(&page_key(number), MAX_PAGE_BYTES).await {
                Ok(bytes) => match Page::parse(&bytes, &self.config.name, number, digest, previous)
                {
                    Ok(page) => return Ok(page),
                    Err(error) => problems.push(error.to_string()),
                },
                Err(error) => problems.push(error.to_string()),
            }
        }
        Err(problems.join("; "))
    }

    /// Looks at the state.
    pub(crate) fn state<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The inventory as of now.
    pub(crate) fn inventory(&self) -> Arc<Inventory> {
        Arc::clone(
            &self
                .inventory
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Takes a page into the inventory that the event log knows.
    pub(crate) fn take_in(&self, page: Page) {
        let mut held = self
            .inventory
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut held).extend(page.entries);
    }

    /// Decides a command on the newest state and records what follows.
    pub(crate) async fn execute(
        &self,
        correlation: &str,
        command: Command,
    ) -> Result<Executed, ExecuteError> {
        let mut stream = self.stream.lock().await;
        let meta = self.node.meta().correlated(correlation);
        let executed = stream
            .execute(meta, |state| -> Result<_, Rejection> {
                decide(state, command.clone())
            })
            .await;
        let state = stream.state().clone();
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        executed
    }

    /// Reserves a name; `None` if somebody works on it.
    pub(crate) fn reserve(&self, name: &ObjectName) -> Option<Busy<'_>> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.insert(name.clone()).then(|| Busy {
            archive: self,
            name: name.clone(),
        })
    }

    /// Whether somebody stores or restores an object now.
    pub(crate) fn is_busy(&self, name: &ObjectName) -> bool {
        self.busy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(name)
    }

    /// The present, Unix milliseconds.
    pub(crate) fn now_ms(&self) -> i64 {
        self.node.clock.now().wall_ms
    }
}
