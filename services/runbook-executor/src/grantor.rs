//! Grants permits: the exclusive, short right of one node to use one origin's sealing key.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sealwarden_domain::log_control::{Command, GrantClock, LogControl, decide};
use sealwarden_engine::ExecuteError;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

use crate::executor::Executor;

/// How long to wait before asking an event log again that did not answer.
const RETRY: Duration = Duration::from_millis(500);

/// This process's memory of its grants.
///
/// It is locked from before a grant is appended until it is remembered, so that nobody who then looks can take a fresh grant for one of an earlier life.
pub(crate) struct Grants(Mutex<GrantClock>);

impl Grants {
    /// Remembers nothing yet: every earlier grant counts from `boot_ms`.
    pub(crate) fn starting_at(boot_ms: u64) -> Self {
        Self(Mutex::new(GrantClock::starting_at(boot_ms)))
    }

    /// The memory as it is now. Grants that were stored before the call are in it.
    pub(crate) async fn clock(&self) -> GrantClock {
        self.0.lock().await.clone()
    }
}

/// Serves every log of the installation, each in a task of its own, until shutdown.
pub(crate) async fn run(executor: Arc<Executor>) -> anyhow::Result<()> {
    let mut changes = executor.node.board.changes();
    let mut tasks: JoinSet<()> = JoinSet::new();
    let mut served = BTreeSet::new();
    loop {
        changes.mark_unchanged();
        let logs: Vec<String> = executor.node.board.read(|i| i.logs.keys().cloned().collect());
        for log in logs {
            if served.insert(log.clone()) {
                tasks.spawn(serve(Arc::clone(&executor), log));
            }
        }
        tokio::select! {
            () = executor.node.shutdown.cancelled() => return Ok(()),
            _ = changes.changed() => {}
        }
    }
}

async fn serve(executor: Arc<Executor>, log: String) {
    let mut changes = executor.node.board.changes();
    loop {
        changes.mark_unchanged();
        let again = match answer(&executor, &log).await {
            Ok(again) => again,
            Err(ExecuteError::Unavailable(reason) | ExecuteError::Unknown(reason)) => {
                tracing::warn!(log, reason, "permits cannot be granted now");
                Some(RETRY)
            }
            Err(error @ (ExecuteError::Illegal(_) | ExecuteError::Decode(_) | ExecuteError::Broken(_))) => {
                tracing::error!(log, %error, "the log's control stream is set aside: no permits are granted for it");
                return;
            }
            Err(ExecuteError::Rejected(rejection)) => {
                tracing::debug!(log, %rejection, "a permit is not granted");
                None
            }
        };
        if !wait(&executor, &mut changes, again).await {
            return;
        }
    }
}

/// Waits for a change or the time; `false` on shutdown.
async fn wait(executor: &Executor, changes: &mut watch::Receiver<u64>, again: Option<Duration>) -> bool {
    let timer = async {
        match again {
            Some(pause) => tokio::time::sleep(pause).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = executor.node.shutdown.cancelled() => false,
        _ = changes.changed() => true,
        () = timer => true,
    }
}

/// Answers the log's open requests; says when a refused one should be looked at again without a new event.
async fn answer(executor: &Executor, log: &str) -> Result<Option<Duration>, ExecuteError> {
    let open = executor.node.board.read(|i| i.logs.get(log).is_some_and(|l| !l.requests.is_empty()));
    if !open {
        return Ok(None);
    }
    let stream = executor.log(log).await?;
    let mut stream = stream.lock().await;
    stream.refresh().await?;
    let nodes: Vec<String> = stream.state().requests.keys().cloned().collect();
    let mut again: Option<Duration> = None;
    for node in nodes {
        let mut clock = executor.grants.0.lock().await;
        let request = stream.state().requests.get(&node).map(|(request, _)| request.clone()).unwrap_or_default();
        let command = Command::GrantPermit {
            node: node.clone(),
            lifetime_ms: executor.config.permit_lifetime_ms,
            key_deadline_ms: executor.config.key_deadline_ms,
            drift_ms: executor.config.drift_ms,
            clock: clock.clone(),
        };
        let outcome = stream
            .execute(executor.node.meta(), |state| decide(state, command.clone(), executor.node.clock.now()))
            .await;
        let now = executor.node.clock.now().boot_ms;
        match outcome {
            Ok(_) => remember(&mut clock, request, now, executor.config.permit_span()),
            Err(ExecuteError::Rejected(rejection)) => {
                tracing::debug!(log, node, %rejection, "a permit is not granted");
                let pause = until_free(stream.state(), &node, &clock, now);
                again = [again, pause].into_iter().flatten().min();
            }
            Err(error) => {
                // It may be stored all the same: count it from now, which is late enough.
                remember(&mut clock, request, now, executor.config.permit_span());
                return Err(error);
            }
        }
    }
    Ok(again)
}

/// Remembers a grant, and forgets those that ran out long ago: they count as run out either way.
fn remember(clock: &mut GrantClock, request: String, now: u64, span: Duration) {
    let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let started = clock.started_boot_ms;
    clock.granted_boot_ms.retain(|_, granted| granted.saturating_add(span.saturating_mul(10)) > now || started.saturating_add(span.saturating_mul(10)) > now);
    clock.granted_boot_ms.insert(request, now);
}

/// Until the permits that other nodes may hold of the requested origin have run out.
fn until_free(log: &LogControl, node: &str, clock: &GrantClock, now: u64) -> Option<Duration> {
    let (_, origin) = log.requests.get(node)?;
    log.grants
        .iter()
        .filter(|(holder, grant)| holder.as_str() != node && grant.origin == *origin && !grant.released)
        .map(|(_, grant)| {
            let granted = clock.granted_boot_ms.get(&grant.request_id).copied().unwrap_or(clock.started_boot_ms);
            granted + grant.lifetime_ms + grant.key_deadline_ms + grant.drift_ms
        })
        .filter(|end| *end > now)
        .max()
        .map(|end| Duration::from_millis(end - now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_forgotten_only_when_they_ran_out_long_ago() {
        let mut clock = GrantClock::starting_at(0);
        let span = Duration::from_millis(100);
        remember(&mut clock, "a".into(), 10, span);
        remember(&mut clock, "b".into(), 900, span);
        assert_eq!(clock.granted_boot_ms.len(), 2);
        remember(&mut clock, "c".into(), 1_500, span);
        assert_eq!(clock.granted_boot_ms.keys().collect::<Vec<_>>(), ["b", "c"]);
    }
}
