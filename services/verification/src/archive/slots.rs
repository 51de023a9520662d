//! The archives of this node, each opened as soon as its stores and the event log can be reached.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sealwarden_engine::Node;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::Status;

use super::config::ArchiveConfig;
use super::open::Archive;
use crate::verify::Verifying;

/// How long to wait before opening is tried again: at first, and at most.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LAST: Duration = Duration::from_secs(30);

/// An archive that is open, or why it is not.
type Opened = Result<Arc<Archive>, String>;

pub(crate) struct Slots {
    all: BTreeMap<String, (ArchiveConfig, watch::Receiver<Opened>)>,
}

impl Slots {
    /// Begins to open every archive; each works in a task of its own from then on.
    pub(crate) fn start(
        configs: Vec<ArchiveConfig>,
        node: &Arc<Node>,
        verifying: &Arc<Verifying>,
        tasks: &mut JoinSet<anyhow::Result<()>>,
    ) -> Self {
        let mut all = BTreeMap::new();
        for config in configs {
            let (sender, receiver) = watch::channel(Err("it is being opened".to_owned()));
            tasks.spawn(work(
                config.clone(),
                Arc::clone(node),
                Arc::clone(verifying),
                sender,
            ));
            all.insert(config.name.clone(), (config, receiver));
        }
        Self { all }
    }

    /// All, by name.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&ArchiveConfig, Opened)> {
        self.all
            .values()
            .map(|(config, opened)| (config, opened.borrow().clone()))
    }

    /// The archive of a name, or the only one.
    pub(crate) fn get(&self, name: &str) -> Result<Arc<Archive>, Status> {
        let names = || self.all.keys().cloned().collect::<Vec<_>>().join(", ");
        let found = match (name, self.all.len()) {
            (_, 0) => {
                return Err(Status::failed_precondition(
                    "no archive is configured; name one in settings.yaml: verification: archives: [{name: main, url: /path, backup: /other/path}]",
                ));
            }
            ("", 1) => self.all.values().next(),
            ("", _) => {
                let text = format!("there are several archives; name one of: {}", names());
                return Err(Status::invalid_argument(text));
            }
            (name, _) => self.all.get(name),
        };
        let Some((config, opened)) = found else {
            let text = format!("there is no archive {name:?}; there is: {}", names());
            return Err(Status::not_found(text));
        };
        opened.borrow().clone().map_err(|problem| {
            Status::unavailable(format!(
                "archive {} cannot be worked with now: {problem}",
                config.name
            ))
        })
    }
}

async fn work(
    config: ArchiveConfig,
    node: Arc<Node>,
    verifying: Arc<Verifying>,
    slot: watch::Sender<Opened>,
) -> anyhow::Result<()> {
    let mut wait = RETRY_FIRST;
    let archive = loop {
        match Archive::open(config.clone(), Arc::clone(&node), Arc::clone(&verifying)).await {
            Ok(opened) => break opened,
            Err(error) => {
                tracing::error!(archive = %config.name, error = %format!("{error:#}"), "an archive cannot be opened");
                drop(slot.send_replace(Err(format!("{error:#}"))));
            }
        }
        tokio::select! {
            () = node.shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(RETRY_LAST),
        }
    };
    let (archive, additions) = archive;
    drop(slot.send_replace(Ok(Arc::clone(&archive))));
    let mut parts = JoinSet::new();
    parts.spawn(super::inventory::write(Arc::clone(&archive), additions));
    parts.spawn(super::task::run(archive));
    while let Some(end) = parts.join_next().await {
        end??;
    }
    Ok(())
}
