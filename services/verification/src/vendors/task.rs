//! When a vendor is probed: on its schedule, and when somebody wants to know.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use sealwarden_domain::vendor::{Command, Vendor as State, decide};
use sealwarden_engine::{ExecuteError, Node};
use sealwarden_wire::event::v1::VendorProbed;
use tokio::task::JoinSet;

use super::config::VendorConfig;
use super::probe::{Probed, probe};
use crate::schedule::repeat;

/// Who probes when it is time.
const SCHEDULE: &str = "schedule";

/// A vendor at work.
pub(crate) struct Watched {
    pub(crate) config: VendorConfig,
    pub(crate) node: Arc<Node>,
    /// The last probe of this life, with how often its outcome came one after another.
    last: StdMutex<Option<VendorProbed>>,
}

/// Begins to watch all of them, by name.
pub(crate) fn start(
    configs: &[VendorConfig],
    node: &Arc<Node>,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> BTreeMap<String, Arc<Watched>> {
    let watched = configs.iter().map(|config| {
        let watched = Arc::new(Watched {
            config: config.clone(),
            node: Arc::clone(node),
            last: StdMutex::default(),
        });
        if config.every_s > 0 {
            tasks.spawn(Arc::clone(&watched).keep_probing());
        }
        (config.name.clone(), watched)
    });
    watched.collect()
}

impl Watched {
    /// The last probe of this life.
    pub(crate) fn last(&self) -> Option<VendorProbed> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone()
    }

    /// Probes on schedule until shutdown.
    async fn keep_probing(self: Arc<Self>) -> anyhow::Result<()> {
        let pause = Duration::from_secs(self.config.every_s);
        repeat(&self.node, pause, || self.probe_on_schedule()).await
    }

    async fn probe_on_schedule(&self) {
        if let Err(error) = self.probe(SCHEDULE).await {
            tracing::warn!(vendor = %self.config.name, %error, "what a probe came to cannot be recorded");
        }
    }

    /// Probes now and records what is new. On schedule one failure is not news yet.
    pub(crate) async fn probe(&self, by: &str) -> Result<VendorProbed, ExecuteError> {
        let probed = self.count(probe(&self.config).await, by);
        let scheduled = by == SCHEDULE;
        if scheduled && !probed.well && probed.probes < self.config.away_after {
            return Ok(probed);
        }
        let mut stream = self
            .node
            .stream::<State>("vendor", &self.config.name)
            .await?;
        let command = Command::Probe {
            probed: probed.clone(),
            scheduled,
        };
        stream
            .execute(self.node.meta(), |state| decide(state, command.clone()))
            .await?;
        Ok(probed)
    }

    /// Adds what earlier probes came to.
    fn count(&self, probed: Probed, by: &str) -> VendorProbed {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let at_ms = self.node.clock.now().wall_ms;
        let before = last.as_ref().filter(|it| it.well == probed.well);
        let counted = VendorProbed {
            vendor: self.config.name.clone(),
            by: by.to_owned(),
            node: self.node.name.clone(),
            well: probed.well,
            reason: probed.reason,
            took_ms: probed.took_ms,
            probes: before.map_or(1, |it| it.probes.saturating_add(1)),
            since_ms: before.map_or(at_ms, |it| it.since_ms),
            at_ms,
        };
        *last = Some(counted.clone());
        counted
    }
}
