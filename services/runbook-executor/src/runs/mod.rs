//! Runs: one starts for each classified incident, and each open one is driven by a task of its own.

mod driver;
mod pinned_plan;
mod starter;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use sealwarden_engine::{ExecuteError, Node, decode};
use sealwarden_eventlog::StreamName;
use tokio::task::JoinSet;

use crate::executor::Executor;

/// How long to wait before something that could not be done now is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Starts and drives runs until shutdown.
pub(crate) async fn run(executor: Arc<Executor>) -> anyhow::Result<()> {
    let mut changes = executor.node.board.changes();
    let mut starter = starter::Starter::default();
    let mut failed: Vec<String> = Vec::new();
    let mut drivers: JoinSet<(String, Result<(), ExecuteError>)> = JoinSet::new();
    let mut known = BTreeSet::new();
    let mut tasks: BTreeMap<tokio::task::Id, String> = BTreeMap::new();
    loop {
        changes.mark_unchanged();
        let retry = starter.start_due(&executor).await || !failed.is_empty();
        for run in open_runs(&executor.node) {
            if known.insert(run.clone()) {
                let drive = driver::drive(Arc::clone(&executor), run.clone());
                tasks.insert(drivers.spawn(drive).id(), run);
            }
        }
        tokio::select! {
            () = executor.node.shutdown.cancelled() => break,
            _ = changes.changed() => {}
            Some(ended) = drivers.join_next_with_id() => {
                let task = ended.as_ref().map_or_else(tokio::task::JoinError::id, |(id, _)| *id);
                let run = tasks.remove(&task);
                // Others leave its runs alone while this process holds its lease, so it must not drop one.
                if ended.is_err() {
                    failed.extend(run);
                }
                report(&executor, ended.map(|(_, ended)| ended));
            }
            () = tokio::time::sleep(RETRY), if retry => {
                for run in failed.drain(..) {
                    known.remove(&run);
                }
            }
        }
    }
    // They end by themselves: what is under way is observed by the next life.
    while let Some(ended) = drivers.join_next().await {
        report(&executor, ended);
    }
    Ok(())
}

fn open_runs(node: &Node) -> Vec<String> {
    node.board.read(|installation| {
        let open = installation
            .runs
            .iter()
            .filter(|(_, run)| run.ended.is_none());
        open.map(|(id, _)| id.clone()).collect()
    })
}

/// A run that cannot be driven is set aside; the others go on.
fn report(
    executor: &Executor,
    ended: Result<(String, Result<(), ExecuteError>), tokio::task::JoinError>,
) {
    match ended {
        Ok((run, Ok(()))) => tracing::info!(run, "the run is not driven any more"),
        Ok((run, Err(error))) => {
            tracing::error!(run, %error, "the run is set aside: its stream cannot be used");
            let mut aside = executor
                .aside
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            aside.insert(run, error.to_string());
        }
        Err(error) => {
            tracing::error!(%error, "a run's driver failed; it begins again");
        }
    }
}

/// The trace context of a stream's first commit: a story's trace goes on where it began.
async fn trace_of(node: &Node, category: &str, id: &str) -> Option<String> {
    let name = StreamName::new(category, id).ok()?;
    let page = node.log.read(&name, 0, 1).await.ok()?;
    let commit = decode(page.first()?).ok()?;
    commit
        .envelope
        .map(|envelope| envelope.traceparent)
        .filter(|text| !text.is_empty())
}
