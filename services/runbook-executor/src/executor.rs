//! What all parts of the role share.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use sealwarden_domain::incident::{self, Incident};
use sealwarden_domain::log_control::{self, LogControl};
use sealwarden_engine::{ExecuteError, Executed, Meta, Node, Stream};
use sealwarden_keys::private_files::FileLock;
use tokio::sync::{Mutex, Semaphore};

use crate::config::Config;
use crate::evidence::EvidenceStore;
use crate::grantor::Grants;
use crate::lease::Lease;
use crate::signer::Signer;
use crate::trust::Authority;

/// The role's surroundings, settings and parts.
pub(crate) struct Executor {
    /// Surroundings.
    pub(crate) node: Arc<Node>,
    /// Settings.
    pub(crate) config: Config,
    /// What this process granted.
    pub(crate) grants: Grants,
    /// What this process may do beside other executors.
    pub(crate) lease: Arc<Lease>,
    /// The signing key.
    pub(crate) signer: Arc<Signer>,
    /// Trust bundles and suspensions.
    pub(crate) trust: Authority,
    /// Evidence bundles.
    pub(crate) evidence: EvidenceStore,
    /// One place for each step that may execute at once.
    pub(crate) places: Arc<Semaphore>,
    /// Streams of logs, each folded once.
    pub(crate) logs: Mutex<BTreeMap<String, Arc<Mutex<Stream<LogControl>>>>>,
    /// Runs whose streams cannot be used, with the reason.
    pub(crate) aside: std::sync::Mutex<BTreeMap<String, String>>,
    /// While it is held, every earlier life of this node is known to be dead: its attempts may be observed at once.
    pub(crate) _life: Arc<FileLock>,
}

impl Executor {
    /// The control stream of a log. It is as new as its last user left it; commands bring it up to date.
    pub(crate) async fn log(
        &self,
        name: &str,
    ) -> Result<Arc<Mutex<Stream<LogControl>>>, ExecuteError> {
        let mut logs = self.logs.lock().await;
        if let Some(stream) = logs.get(name) {
            return Ok(Arc::clone(stream));
        }
        let stream = Arc::new(Mutex::new(
            self.node.stream::<LogControl>("log", name).await?,
        ));
        logs.insert(name.to_owned(), Arc::clone(&stream));
        Ok(stream)
    }

    /// Decides a command to a log on its newest state.
    pub(crate) async fn control(
        &self,
        log: &str,
        meta: Meta,
        command: log_control::Command,
    ) -> Result<Executed, ExecuteError> {
        let stream = self.log(log).await?;
        let mut stream = stream.lock().await;
        stream.refresh().await?;
        stream
            .execute(meta, |state| {
                log_control::decide(state, command.clone(), self.node.clock.now())
            })
            .await
    }

    /// Runs whose streams cannot be used, with the reason.
    pub(crate) fn set_aside(&self) -> BTreeMap<String, String> {
        let aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        aside.clone()
    }

    /// Decides a command to an incident.
    pub(crate) async fn incident(
        &self,
        id: &str,
        command: incident::Command,
    ) -> Result<Executed, ExecuteError> {
        let mut stream = self.node.stream::<Incident>("incident", id).await?;
        let meta = self.node.meta().correlated(id);
        stream
            .execute(meta, |state| incident::decide(state, command.clone()))
            .await
    }
}
