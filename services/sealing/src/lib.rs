//! The sealing service: digests in, seals out; one log line, one writer.
//!
//! - `batch`: one batch's way, in the order that makes a crash at any point harmless; recovery takes the same way.
//! - `signing`: the signatures of all keys that sign now, and failing over to a standby key.
//! - `quantum`: the key that outlives quantum computers.
//! - `pace`: what is done while the keys are slow.
//! - `signers`, `rotation`: a key in each provider of the failover set; planned rotation; failing back by a person's command.
//! - `writer`: group commit without a fixed wait.
//! - `bulk`: streams of digests; a chunk stays one thing from its message to its answer.
//! - `queue`, `tickets`: requests that wait while they cannot be signed, durably, each under a ticket.
//! - `tenants`: what each tenant may ask for.
//! - `requests`: the same request gives the same seal.
//! - `retention`: how long records are kept: holds, erasing by request and by schedule.
//! - `permits`: the right to use the key, asked for again and again, counted on `CLOCK_BOOTTIME`.
//! - `directives`, `enforce`, `reseal`: containment orders, judged by this node's own plan.
//! - `audit`: every use of the key that its provider saw, copied into the event log.
//! - `anchoring`: time-stamping authorities date the log's checkpoints.
//! - `witnessing`, `tiles`, `grpc`: how the log is seen from outside.
//!
//! **Invariants.** No signature leaves without an intent that was durable before the key was used, nor after a stop was
//! acknowledged. Whether the key may be used is read from the log line's stream itself, never from a copy that may lag. If the
//! event log cannot be reached, nothing is released.

mod accept;
mod affected;
mod anchoring;
mod audit;
mod batch;
mod bulk;
mod config;
mod directives;
mod drain;
mod enforce;
mod grpc;
mod key_orders;
mod listed;
mod own_thread;
mod pace;
mod permits;
mod quantum;
mod queue;
mod request;
mod requests;
mod reseal;
mod retention;
mod rotation;
mod seals;
mod service;
mod signers;
mod signing;
mod stages;
mod status;
mod stop;
mod successors;
mod tenants;
mod tickets;
mod tiles;
mod tree;
mod trust;
mod witnessing;
mod writer;

#[cfg(test)]
mod tests;

pub use anchoring::{Anchors, Tsa};
pub use config::Config;
pub use retention::{Jurisdiction, RetentionSettings};
pub use tenants::TenantLimits;

use crate::anchoring::Authorities;
use crate::service::Service;
use crate::tree::{Access, Tree};
use anyhow::{Context as _, bail};
use sealwarden_domain::log_control::{Command, LogControl};
use sealwarden_engine::{Measuring, Node, Stream, StreamName};
use sealwarden_runbook::Measure;
use sealwarden_wire::seal::v1::erasure_server::ErasureServer;
use sealwarden_wire::seal::v1::sealing_server::SealingServer;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::service::Routes;

/// Chunks that wait for their batch, however small they are.
const CHUNKS: usize = 1_024;

/// What the service adds to its process.
#[derive(Debug)]
pub struct Mounts {
    /// gRPC services; the listener authenticates callers.
    pub grpc: Routes,
    /// Tiles and checkpoints, public.
    pub http: axum::Router,
    /// Run until shutdown; the error of one ends the process.
    pub tasks: JoinSet<anyhow::Result<()>>,
}

/// Opens the log line's trees, making the first one if there is none, and starts the service's tasks.
pub async fn start(config: Config, node: Arc<Node>) -> anyhow::Result<Mounts> {
    let (service, tasks) = assemble(config, node).await?;
    let grpc = Routes::new(SealingServer::new(grpc::Grpc(Arc::clone(&service))));
    let grpc = grpc.add_service(ErasureServer::new(retention::grpc::Grpc(Arc::clone(
        &service,
    ))));
    Ok(Mounts {
        grpc,
        http: tiles::router(&service),
        tasks,
    })
}

async fn assemble(
    config: Config,
    node: Arc<Node>,
) -> anyhow::Result<(Arc<Service>, JoinSet<anyhow::Result<()>>)> {
    config.validate()?;
    // Whoever can write to the event log cannot answer directives in this node's name.
    let state = LogControl::of_node(&node.name, node.vkey.clone());
    let name = StreamName::new("log", config.log.as_str())?;
    let mut control = Stream::load(Arc::clone(&node.log), name, state)
        .await
        .with_context(|| format!("reading the events of log {}", config.log))?;
    let trees = open_trees(&config, &node, &mut control).await?;
    let (queue, jobs) = mpsc::channel(config.queue);
    let (chunks, waiting) = mpsc::channel(CHUNKS);
    let waiting = writer::Waiting::new(jobs, waiting);
    let tickets = tickets::open(&node, &config).await?;
    let records = retention::Records::open(&node, &config).await?;
    let authorities = Authorities::open(&config.anchors).context("sealing.anchors")?;
    for tree in &trees {
        let held = tokio::task::block_in_place(|| authorities.load(tree));
        held.with_context(|| format!("reading the anchors of {}", tree.origin))?;
    }
    let service = Arc::new(Service::new(
        node,
        config,
        control,
        trees,
        (queue, chunks),
        (tickets, records),
        authorities,
    ));
    read_successors(&service).await?;
    tickets::settle_published(&service).await?;
    retention::resume(&service)
        .await
        .context("finishing what was ordered to be erased")?;
    let tasks = spawn(&service, waiting);
    Ok((service, tasks))
}

fn spawn(service: &Arc<Service>, waiting: writer::Waiting) -> JoinSet<anyhow::Result<()>> {
    let mut tasks = JoinSet::new();
    let own = Arc::clone(service);
    tasks.spawn(own_thread::run("seal-writer", async move {
        writer::run(&own, waiting).await
    }));
    let own = Arc::clone(service);
    tasks.spawn(async move { permits::keep(&own).await });
    let own = Arc::clone(service);
    tasks.spawn(async move { directives::follow(&own).await });
    let own = Arc::clone(service);
    tasks.spawn(async move { writer::record_published(&own).await });
    let own = Arc::clone(service);
    tasks.spawn(async move { witnessing::run(&own).await });
    let own = Arc::clone(service);
    tasks.spawn(async move { signers::keep(&own).await });
    let own = Arc::clone(service);
    tasks.spawn(async move { rotation::follow(&own).await });
    let own = Arc::clone(service);
    tasks.spawn(async move { pace::watch(&own).await });
    let own = Arc::clone(service);
    tasks.spawn(async move { audit::run(&own).await });
    let own = Arc::clone(service);
    tasks.spawn(async move { anchoring::run(&own).await });
    let own = Arc::clone(service);
    tasks.spawn(async move { retention::schedule::keep(&own).await });
    let own = Arc::clone(service);
    tasks.spawn(async move {
        let look = |measuring: &Measuring| measure_queue(&own, measuring);
        own.measuring.keep(&own.node, look).await;
        Ok(())
    });
    tasks
}

/// How many tickets wait; nothing is said of an empty queue.
fn measure_queue(service: &Service, measuring: &Measuring) {
    let (tickets, _) = service.tickets.waiting();
    if tickets > 0 {
        let depth = i64::try_from(tickets).unwrap_or(i64::MAX);
        measuring.add(Measure::QueueDepth, service.config.log.as_str(), depth);
    }
}

async fn open_trees(
    config: &Config,
    node: &Arc<Node>,
    control: &mut Stream<LogControl>,
) -> anyhow::Result<Vec<Tree>> {
    let Some(current) = control.state().current().cloned() else {
        return Ok(vec![open_first(config, node, control).await?]);
    };
    if current.node != node.name {
        bail!(
            "log {} is written by node {}, not by {}: name another log for this node",
            config.log,
            current.node,
            node.name
        );
    }
    let mut trees = Vec::new();
    for origin in control
        .state()
        .origins
        .clone()
        .into_iter()
        .filter(|it| it.node == node.name)
    {
        let access = if origin.origin == current.origin {
            Access::Write
        } else {
            Access::Read
        };
        let (node, config, name) = (Arc::clone(node), config.clone(), origin.origin.clone());
        let opened = tokio::task::spawn_blocking(move || {
            tree::open(&node, &config, &origin.origin, &origin.key_id, access)
        });
        match (opened.await.context("the log's thread ended")?, access) {
            (Ok(tree), _) => trees.push(tree),
            (Err(error), Access::Write) => return Err(error),
            (Err(error), Access::Read) => {
                tracing::error!(
                    origin = name,
                    error = format!("{error:#}"),
                    "an earlier tree is not served"
                );
            }
        }
    }
    Ok(trees)
}

async fn open_first(
    config: &Config,
    node: &Arc<Node>,
    control: &mut Stream<LogControl>,
) -> anyhow::Result<Tree> {
    let tree = tree::begin(node, config, 1)
        .await
        .context("beginning the log's first tree")?;
    let command = Command::OpenOrigin(tree::opened(node, &tree, "", 0).await?);
    let at = node.clock.now();
    let executed = control
        .execute(node.meta(), permits::decider(&command, at))
        .await
        .context("recording the log's first origin")?;
    node.board.reached(executed.position).await;
    tracing::info!(origin = tree.origin, vkey = %tree.vkey, "a log begins");
    Ok(tree)
}

async fn read_successors(service: &Arc<Service>) -> anyhow::Result<()> {
    let own = Arc::clone(service);
    let read = tokio::task::spawn_blocking(move || {
        let mut trees = own.trees();
        // Later trees override earlier ones: the latest place of a record counts.
        trees.sort_by_key(|tree| tree.number);
        for tree in trees.into_iter().filter(|tree| tree.number > 1) {
            let read = own.successors.read(&own.records, &tree);
            read.with_context(|| format!("reading the records of {}", tree.origin))?;
        }
        let mut trees = own.trees();
        trees.sort_by_key(|tree| tree.number);
        let read = own.requests.read(&own.records, &trees);
        read.context("reading the requests of the log's last records")
    });
    read.await.context("the log's thread ended")?
}
