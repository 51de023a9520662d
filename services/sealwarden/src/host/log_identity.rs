//! An installation belongs to one event log. Started on another one (an empty NATS server, the embedded log instead of NATS), its own seals would look forged: no intent
//! would explain them. So each node remembers the first thing it ever wrote, and starts only where that stands.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use sealwarden_engine::{Node, StreamName};

use super::installation::write_durably;

/// Refuses an event log that does not begin with what this node wrote first.
pub(crate) async fn check(node: &Node) -> anyhow::Result<()> {
    let path = file(node);
    let known = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).with_context(|| format!("reading {}", path.display())),
    };
    let found = first(node).await?;
    if found.as_deref() == Some(known.trim_end()) {
        return Ok(());
    }
    bail!(
        "this is not the event log that {} was started on: its first commit there was {}, and here it is {}. Start with the same --nats (or without it) as the first time; if the event log was lost, restore it: without it nobody can tell this installation's seals from forged ones",
        node.name,
        known.trim_end(),
        found.as_deref().unwrap_or("missing"),
    )
}

/// Remembers the event log, once.
pub(crate) async fn remember(node: &Node) -> anyhow::Result<()> {
    let path = file(node);
    if path.exists() {
        return Ok(());
    }
    let first = first(node)
        .await?
        .context("the node's enrolment is not in the event log")?;
    write_durably(&path, format!("{first}\n").as_bytes())
}

fn file(node: &Node) -> PathBuf {
    node.data.join("event-log")
}

/// Hash of the first commit of the node's own stream.
async fn first(node: &Node) -> anyhow::Result<Option<String>> {
    let stream = StreamName::new("node", node.name.as_str())?;
    let page = node
        .log
        .read(&stream, 0, 1)
        .await
        .context("reading the event log")?;
    Ok(page
        .first()
        .map(|commit| format!("sha256:{}", hex::encode(commit.hash))))
}
