//! The trees that this node writes or wrote: one folder and one key each.

use crate::anchoring::AnchorStore;
use crate::config::Config;
use crate::own_thread;
use crate::signers;
use anyhow::{Context as _, anyhow, bail};
use sealwarden_engine::Node;
use sealwarden_keys::{KeyId, KeyInfo};
use sealwarden_seal::note::Vkey;
use sealwarden_seallog::{LogError, LogReader, SealLog};
use sealwarden_wire::event::v1::OriginOpened;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// One origin's tree.
#[derive(Debug)]
pub(crate) struct Tree {
    /// C2SP origin.
    pub(crate) origin: String,
    /// The origin's epoch: its last path segment.
    pub(crate) number: u64,
    /// The sealing key.
    pub(crate) key: KeyId,
    /// The log's verifier key.
    pub(crate) vkey: Vkey,
    /// For everybody who reads.
    pub(crate) reader: LogReader,
    /// Size of the latest checkpoint that meets the trust bundle's quorum of witnesses.
    pub(crate) witnessed: watch::Sender<u64>,
    /// Checkpoints of it that time-stamping authorities dated.
    pub(crate) anchors: AnchorStore,
    writer: Option<Mutex<SealLog>>,
}

impl Tree {
    /// The writer's lock; only to be taken on threads that may block. A tree that is only read has none.
    pub(crate) fn writer(&self) -> Option<MutexGuard<'_, SealLog>> {
        self.writer
            .as_ref()
            .map(|log| log.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs `work` on the tree's writer, on a thread that may block: this one, if it serves one task only ([`crate::own_thread`]), for each change of threads costs a
/// turn of both.
pub(crate) async fn with_writer<T: Send + 'static>(
    tree: &Arc<Tree>,
    work: impl FnOnce(&mut SealLog) -> Result<T, LogError> + Send + 'static,
) -> anyhow::Result<Result<T, LogError>> {
    let tree = Arc::clone(tree);
    let work = move || {
        let mut log = tree
            .writer()
            .ok_or_else(|| anyhow!("{} is read only", tree.origin))?;
        anyhow::Ok(work(&mut log))
    };
    if own_thread::is_here() {
        return work();
    }
    let task = tokio::task::spawn_blocking(work);
    task.await.context("the log's thread ended")?
}

/// How a tree is to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// The current one: it grows.
    Write,
    /// An earlier one.
    Read,
}

/// Where a tree's files are.
pub(crate) fn folder(node: &Node, config: &Config, number: u64) -> PathBuf {
    node.data
        .join("log")
        .join(&config.log)
        .join(number.to_string())
}

/// Where what is held about its time is.
fn anchors_folder(node: &Node, config: &Config, number: u64) -> PathBuf {
    node.data
        .join("anchors")
        .join(&config.log)
        .join(number.to_string())
}

/// The origin with this epoch.
pub(crate) fn origin_name(node: &Node, config: &Config, number: u64) -> String {
    format!("{}/{}/{number}", node.base, config.log)
}

/// The epoch of an origin.
pub(crate) fn number_of(origin: &str) -> anyhow::Result<u64> {
    let last = origin.rsplit('/').next().unwrap_or_default();
    last.parse()
        .with_context(|| format!("origin {origin} does not end in its epoch"))
}

/// Opens a tree that the event stream knows.
pub(crate) fn open(
    node: &Node,
    config: &Config,
    origin: &str,
    key: &str,
    access: Access,
) -> anyhow::Result<Tree> {
    let number = number_of(origin)?;
    let dir = folder(node, config, number);
    let opened = match access {
        Access::Write => SealLog::open(&dir).map(|log| (log.reader(), Some(log))),
        Access::Read => LogReader::open(&dir).map(|reader| (reader, None)),
    };
    let (reader, log) = opened.with_context(|| format!("opening the seal log {origin}"))?;
    if reader.identity().origin != origin {
        bail!(
            "{} holds {}, not {origin}",
            dir.display(),
            reader.identity().origin
        );
    }
    Ok(Tree {
        origin: origin.to_owned(),
        number,
        key: KeyId::new(key)?,
        vkey: reader.identity().vkey.clone(),
        reader,
        witnessed: watch::Sender::new(0),
        anchors: AnchorStore::new(anchors_folder(node, config, number)),
        writer: log.map(Mutex::new),
    })
}

/// The event that makes a tree known.
pub(crate) async fn opened(
    node: &Node,
    tree: &Tree,
    predecessor: &str,
    epoch: u64,
) -> anyhow::Result<OriginOpened> {
    let info = node.keys.info(&tree.key).await?;
    let can = node.keys.capabilities_of(&info.provider);
    Ok(OriginOpened {
        origin: tree.origin.clone(),
        vkey: tree.vkey.to_string(),
        key_id: tree.key.to_string(),
        provider: info.provider,
        provider_can_disable: can.is_ok_and(|can| can.can_disable),
        node: node.name.clone(),
        predecessor: predecessor.to_owned(),
        epoch,
    })
}

/// Makes key and folder of a new tree, or finds what an interrupted try has made of them: in the first provider of the failover set that makes a key. Others know
/// nothing of it until [`opened`] is recorded.
pub(crate) async fn begin(node: &Arc<Node>, config: &Config, number: u64) -> anyhow::Result<Tree> {
    let origin = origin_name(node, config, number);
    let info = first_key(node, &format!("{}-{number}", config.log))
        .await
        .with_context(|| format!("making the first key of {origin}"))?;
    let vkey = Vkey::ed25519(&origin, info.ed25519()?)?;
    let (node, config) = (Arc::clone(node), config.clone());
    let tree = tokio::task::spawn_blocking(move || {
        let dir = folder(&node, &config, number);
        drop(SealLog::create(&dir, &vkey).with_context(|| format!("creating {origin}"))?);
        open(&node, &config, &origin, info.id.as_str(), Access::Write)
    });
    tree.await.context("the log's thread ended")?
}

async fn first_key(node: &Node, stem: &str) -> anyhow::Result<KeyInfo> {
    let mut failed = None;
    for provider in node.keys.sealing_providers() {
        match signers::make(node.keys.as_ref(), stem, &provider, |_| false).await {
            Ok(info) => return Ok(info),
            Err(error) => {
                tracing::warn!(
                    provider,
                    error = format!("{error:#}"),
                    "a provider makes no key for a new origin"
                );
                failed.get_or_insert(error);
            }
        }
    }
    Err(failed.unwrap_or_else(|| anyhow!("no provider makes sealing keys")))
}
