//! When a verifier is asked: on its schedule, and when somebody wants to know.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sealwarden_domain::verifier::{SCHEDULE, Verifier as State, beside_history, decide};
use sealwarden_engine::{ExecuteError, Node};
use sealwarden_wire::event::v1::VerdictsCompared;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::compare::compare;
use super::config::VerifierConfig;
use crate::archive::Slots;
use crate::schedule::repeat;

/// A verifier at work.
pub(crate) struct Watched {
    pub(crate) config: VerifierConfig,
    pub(crate) node: Arc<Node>,
    slots: Arc<Slots>,
    /// One comparison at a time.
    comparing: Mutex<()>,
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotCompared {
    #[error("{0}")]
    Baseline(String),
    #[error("what it came to cannot be recorded: {0}")]
    Log(#[from] ExecuteError),
}

/// Begins to watch all of them, by name.
pub(crate) fn start(
    configs: &[VerifierConfig],
    node: &Arc<Node>,
    slots: &Arc<Slots>,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> BTreeMap<String, Arc<Watched>> {
    let watched = configs.iter().map(|config| {
        let watched = Arc::new(Watched {
            config: config.clone(),
            node: Arc::clone(node),
            slots: Arc::clone(slots),
            comparing: Mutex::new(()),
        });
        if config.every_s > 0 {
            tasks.spawn(Arc::clone(&watched).keep_asking());
        }
        (config.name.clone(), watched)
    });
    watched.collect()
}

impl Watched {
    /// Asks on schedule until shutdown.
    async fn keep_asking(self: Arc<Self>) -> anyhow::Result<()> {
        let pause = Duration::from_secs(self.config.every_s);
        repeat(&self.node, pause, || self.compare_on_schedule()).await
    }

    async fn compare_on_schedule(&self) {
        if let Err(error) = self.compare(SCHEDULE).await {
            tracing::warn!(verifier = %self.config.name, %error, "a verifier's verdicts are not compared");
        }
    }

    /// Compares now and records what is new.
    pub(crate) async fn compare(&self, by: &str) -> Result<VerdictsCompared, NotCompared> {
        let _one = self.comparing.lock().await;
        let archive = self.slots.get(&self.config.archive);
        let archive = archive.map_err(|e| NotCompared::Baseline(e.message().to_owned()))?;
        let mut compared = compare(&self.config, &archive)
            .await
            .map_err(NotCompared::Baseline)?;
        by.clone_into(&mut compared.by);
        let name = &self.config.name;
        let mut stream = self.node.stream::<State>("verifier", name).await?;
        let compared = beside_history(stream.state(), compared);
        let meta = self.node.meta();
        stream
            .execute(meta, |state| Ok(decide(state, compared.clone())))
            .await?;
        Ok(compared)
    }
}
