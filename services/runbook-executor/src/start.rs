//! Starting the role.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sealwarden_engine::Node;
use sealwarden_keys::private_files::FileLock;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tonic::service::Routes;

use crate::config::Config;
use crate::evidence::EvidenceStore;
use crate::executor::Executor;
use crate::grantor::{self, Grants};
use crate::seal_certificate::keep_bound;
use crate::signer::Signer;
use crate::trust::{Authority, RootKey};
use crate::{grpc, lease, runs, trust};

/// How long a predecessor of the same name may take to end.
const LOCK_PATIENCE: Duration = Duration::from_secs(20);

/// What the host mounts.
pub struct Mounts {
    /// gRPC services `Runs` and `Control`.
    pub grpc: Routes,
    /// Nothing: this role serves no public HTTP.
    pub http: axum::Router,
    /// The role's tasks. One that fails ends the process.
    pub tasks: JoinSet<anyhow::Result<()>>,
}

/// Starts the role. Its tasks end when `node.shutdown` is cancelled.
pub async fn start(config: Config, node: Arc<Node>) -> anyhow::Result<Mounts> {
    config.validate()?;
    // First: grants of an earlier life count from here.
    let grants = Grants::starting_at(node.clock.now().boot_ms);
    let executor = Arc::new(open(config, Arc::clone(&node), grants).await?);
    node.board.caught_up().await;
    if lease::has_peers(&node) {
        executor.lease.is_needed();
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(lease::run(Arc::clone(&executor)));
    tasks.spawn(grantor::run(Arc::clone(&executor)));
    tasks.spawn(trust::run(Arc::clone(&executor)));
    tasks.spawn(runs::run(Arc::clone(&executor)));
    tasks.spawn(keep_heads(Arc::clone(&executor)));
    tasks.spawn(keep_bound(Arc::clone(&executor)));
    Ok(Mounts {
        grpc: grpc::routes(&executor),
        http: axum::Router::new(),
        tasks,
    })
}

async fn keep_heads(executor: Arc<Executor>) -> anyhow::Result<()> {
    let every = Duration::from_millis(executor.config.heads_interval_ms);
    executor.evidence.heads().run(every).await;
    Ok(())
}

async fn open(config: Config, node: Arc<Node>, grants: Grants) -> anyhow::Result<Executor> {
    let path = node.data.join("executor.lock");
    let life = tokio::task::spawn_blocking(move || FileLock::take(&path, LOCK_PATIENCE))
        .await?
        .context(
            "another process runs this executor; stop it, or give this one another data folder",
        )?;
    let life = Arc::new(life);
    let signer = Arc::new(Signer::open(Arc::clone(&node.keys), &node.installation).await?);
    let root = match config.root_key.clone() {
        Some(path) => Some(tokio::task::spawn_blocking(move || RootKey::read(&path)).await??),
        None => None,
    };
    let trust = Authority::new(Arc::clone(&node), &config, Arc::clone(&signer), root)?;
    let evidence = EvidenceStore::new(&node, &config, Arc::clone(&signer), Arc::clone(&life))?;
    Ok(Executor {
        grants,
        lease: Arc::new(lease::Lease::new(Arc::clone(&node.clock))),
        signer,
        trust,
        evidence,
        places: Arc::new(Semaphore::new(config.max_running_steps)),
        logs: Mutex::new(BTreeMap::new()),
        aside: std::sync::Mutex::default(),
        _life: life,
        node,
        config,
    })
}
