//! What all tasks of the service share, and whether sealing is possible now.

use crate::anchoring::Authorities;
use crate::config::Config;
use crate::listed::Listed;
use crate::pace::Pace;
use crate::permits::{Permit, Permits, decider};
use crate::queue::{Priority, Queue};
use crate::requests::Requests;
use crate::retention::Records;
use crate::stop::Failure;
use crate::successors::Successors;
use crate::tenants::Tenants;
use crate::tree::Tree;
use crate::trust::Witnesses;
use crate::witnessing::Answers;
use crate::writer::{Chunk, Job};
use sealwarden_domain::log_control::{Command, LogControl, Mode, Signer};
use sealwarden_engine::{ExecuteError, Executed, Measuring, Node, Stream};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{Mutex, Notify, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Why the writer stopped for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// For an operator.
    pub(crate) reason: String,
    /// Whether only a fresh process can know what is on the disk.
    pub(crate) end: bool,
}

/// The sealing service of one log line.
pub(crate) struct Service {
    pub(crate) node: Arc<Node>,
    pub(crate) config: Config,
    /// The log line's stream: what decisions are made on.
    pub(crate) control: Mutex<Stream<LogControl>>,
    pub(crate) permits: Permits,
    /// Counts permits that were granted.
    pub(crate) permit_changed: watch::Sender<u64>,
    /// Woken when a permit of another origin is wanted at once.
    pub(crate) permit_wanted: Notify,
    trees: RwLock<BTreeMap<String, Arc<Tree>>>,
    pub(crate) successors: Successors,
    pub(crate) witnesses: Witnesses,
    /// How fast sealing keys answer.
    pub(crate) pace: Pace,
    /// Calls of key providers and the queue's depth, for the plan's detectors.
    pub(crate) measuring: Measuring,
    /// The keys that verifiers know.
    pub(crate) listed: Listed,
    pub(crate) authorities: Authorities,
    /// What each witness said last.
    pub(crate) answers: Answers,
    /// Held while a batch is made, from staging to publication.
    pub(crate) batching: Mutex<()>,
    /// Held from the last check of a finished signature until its batch is published, and while a stop is acknowledged: so
    /// no signature is released after the acknowledgement.
    pub(crate) release: Mutex<()>,
    /// Why the writer stopped for good.
    pub(crate) broken: watch::Sender<Option<Broken>>,
    /// Counts published batches.
    pub(crate) published: watch::Sender<u64>,
    pub(crate) queue: mpsc::Sender<Job>,
    /// Chunks of bulk streams.
    pub(crate) chunks: mpsc::Sender<Chunk>,
    /// Room for digests of bulk streams.
    pub(crate) bulk_room: Arc<Semaphore>,
    /// The durable queue.
    pub(crate) tickets: Queue,
    /// What is erased of the private records.
    pub(crate) records: Records,
    /// Requests that are sealed already.
    pub(crate) requests: Requests,
    /// What tenants use of what they may.
    pub(crate) tenants: Tenants,
    /// Why the batch in hand cannot be finished; while it cannot, no other is made.
    pub(crate) stuck: watch::Sender<Option<Failure>>,
    /// Bytes of requests that were accepted and are not published yet.
    pub(crate) pending_bytes: AtomicU64,
    /// Cancelled when the writer has made its last batch.
    pub(crate) writer_ended: CancellationToken,
}

impl Service {
    pub(crate) fn new(
        node: Arc<Node>,
        config: Config,
        control: Stream<LogControl>,
        trees: Vec<Tree>,
        queue: (mpsc::Sender<Job>, mpsc::Sender<Chunk>),
        (tickets, records): (Queue, Records),
        authorities: Authorities,
    ) -> Self {
        let (queue, chunks) = queue;
        let requests = Requests::new(config.request_window);
        let successors = Successors::kept_in(node.data.join("resealed").join(&config.log));
        let bulk_room = Arc::new(Semaphore::new(config.bulk_queue));
        let trees = trees
            .into_iter()
            .map(|tree| (tree.origin.clone(), Arc::new(tree)));
        Self {
            node,
            config,
            control: Mutex::new(control),
            permits: Permits::default(),
            permit_changed: watch::Sender::new(0),
            permit_wanted: Notify::new(),
            trees: RwLock::new(trees.collect()),
            successors,
            witnesses: Witnesses::default(),
            pace: Pace::default(),
            measuring: Measuring::default(),
            listed: Listed::default(),
            authorities,
            answers: Answers::default(),
            batching: Mutex::new(()),
            release: Mutex::new(()),
            broken: watch::Sender::new(None),
            published: watch::Sender::new(0),
            queue,
            chunks,
            bulk_room,
            tickets,
            records,
            requests,
            tenants: Tenants::default(),
            stuck: watch::Sender::new(None),
            pending_bytes: AtomicU64::new(0),
            writer_ended: CancellationToken::new(),
        }
    }

    /// Looks at the log line as the live fold has it: good for answers, never for decisions.
    pub(crate) fn on_board<T>(&self, look: impl FnOnce(&LogControl) -> T) -> Option<T> {
        self.node
            .board
            .read(|installation| installation.logs.get(&self.config.log).map(look))
    }

    /// Decides a command against the log line and records it.
    pub(crate) async fn execute(&self, command: &Command) -> Result<Executed, ExecuteError> {
        let at = self.node.clock.now();
        self.control
            .lock()
            .await
            .execute(self.node.meta(), decider(command, at))
            .await
    }

    /// A tree of this node.
    pub(crate) fn tree(&self, origin: &str) -> Option<Arc<Tree>> {
        self.trees
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(origin)
            .cloned()
    }

    /// All trees of this node, by origin.
    pub(crate) fn trees(&self) -> Vec<Arc<Tree>> {
        self.trees
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// Adds a tree that a rotation opened.
    pub(crate) fn add_tree(&self, tree: Tree) {
        let mut trees = self.trees.write().unwrap_or_else(PoisonError::into_inner);
        trees.insert(tree.origin.clone(), Arc::new(tree));
    }

    /// The tree that is written now, as the live fold has it.
    pub(crate) fn current(&self) -> Option<Arc<Tree>> {
        let origin = self.on_board(|log| log.current().map(|origin| origin.origin.clone()))??;
        self.tree(&origin)
    }

    /// Whether the key of `origin` may be used now, by this state of the log line.
    pub(crate) fn may_sign(
        &self,
        log: &LogControl,
        origin: &str,
        reseal: Option<u64>,
    ) -> Result<Permit, Failure> {
        if let Some(broken) = &*self.broken.borrow() {
            return Err(Failure::Broken(broken.reason.clone()));
        }
        let at = self.node.clock.now();
        log.may_sign_for(&self.node.name, origin, at.wall_ms, reseal)
            .map_err(Failure::Stopped)?;
        self.permits
            .valid(log, &self.node.name, origin, at.boot_ms)
            .ok_or(Failure::NoPermit)
    }

    /// The lower, the sooner a standby key is taken: its provider's place in the order of preference.
    pub(crate) fn preference(&self, signer: &Signer) -> usize {
        let providers = self.node.keys.sealing_providers();
        let place = providers.iter().position(|it| *it == signer.provider);
        place.unwrap_or(usize::MAX)
    }

    /// Whether calls go to the provider, by its breaker.
    pub(crate) fn is_asked(&self, provider: &str) -> bool {
        let health = self.node.keys.health(provider);
        health.is_ok_and(|it| it.state.is_closed())
    }

    /// Whether a caller's request has a chance now: asked before it is accepted.
    pub(crate) fn ready(&self) -> Result<Arc<Tree>, Failure> {
        let starting = || Failure::Away("the log is starting".to_owned());
        if self.node.shutdown.is_cancelled() {
            return Err(Failure::ShuttingDown);
        }
        let tree = self.current().ok_or_else(starting)?;
        self.on_board(|log| self.may_sign(log, &tree.origin, None))
            .ok_or_else(starting)??;
        Ok(tree)
    }

    /// Whether a request of this priority can be sealed now.
    pub(crate) fn admits(&self, priority: Priority) -> Result<Arc<Tree>, Failure> {
        let tree = self.ready()?;
        if priority == Priority::Normal
            && let Some(diverted) = self.diverted()
        {
            return Err(diverted);
        }
        Ok(tree)
    }

    /// What keeps requests that are not critical from being sealed, where others are.
    pub(crate) fn diverted(&self) -> Option<Failure> {
        let ordered = self.on_board(|log| {
            let ordered = log.ordered_mode(&self.node.name)?;
            (ordered.mode == Mode::QueueNoncritical).then(|| Failure::Diverted {
                mode: ordered.mode.as_str(),
                incident: ordered.incident.to_owned(),
            })
        });
        let slow = || {
            let slow = self.pace.slow()?;
            Some(Failure::KeySlow(slow.reason))
        };
        ordered.flatten().or_else(slow)
    }

    /// The lowest priority of tickets that can be sealed now; none where nothing can.
    pub(crate) fn drains(&self) -> Option<Priority> {
        if self.ready().is_err() || self.stuck.borrow().is_some() {
            return None;
        }
        Some(match self.diverted() {
            Some(_) => Priority::Critical,
            None => Priority::Normal,
        })
    }

    /// Stops the writer for good and says so loudly. Reading goes on, unless the process must `end`.
    pub(crate) fn stop_for_good(&self, reason: &str, end: bool) -> Failure {
        tracing::error!(reason, end, "the log's writer stops and needs an operator");
        self.broken.send_replace(Some(Broken {
            reason: reason.to_owned(),
            end,
        }));
        Failure::Broken(reason.to_owned())
    }
}
