//! Grants permits: the exclusive, short right of one node to use one origin's sealing key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sealwarden_domain::log_control::{Command, Grant, GrantClock, LogControl, decide};
use sealwarden_engine::ExecuteError;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::executor::Executor;
use crate::lease::has_peers;

/// How long to wait before asking an event log again that did not answer.
const RETRY: Duration = Duration::from_millis(500);

/// This process's memory of its grants, by log.
pub(crate) struct Grants {
    started_boot_ms: u64,
    by_log: Mutex<BTreeMap<String, GrantClock>>,
}

impl Grants {
    /// Remembers nothing yet: every earlier grant counts from `boot_ms`.
    pub(crate) fn starting_at(boot_ms: u64) -> Self {
        Self {
            started_boot_ms: boot_ms,
            by_log: Mutex::new(BTreeMap::new()),
        }
    }

    /// The memory of one log, after its newest permits were taken in: one that is not remembered yet counts from now. Call it while the log's stream is locked and
    /// refreshed, so that nobody can take a fresh grant for one of an earlier life. Where other executors grant permits too (`shared`), what stands there at the first look
    /// may be as fresh.
    fn observe(&self, name: &str, log: &LogControl, boot_ms: u64, shared: bool) -> GrantClock {
        let mut by_log = self.by_log.lock().unwrap_or_else(PoisonError::into_inner);
        let clock = by_log.entry(name.to_owned()).or_insert_with(|| {
            // Permits that stand in the log when it is first looked at were granted before, by an earlier life or by nobody: this life has granted none.
            let since = if shared {
                boot_ms
            } else {
                self.started_boot_ms
            };
            let mut first = GrantClock::starting_at(since);
            first.observe(log, since);
            first
        });
        clock.observe(log, boot_ms);
        let current: BTreeSet<&str> = permits(log)
            .map(|grant| grant.request_id.as_str())
            .collect();
        clock
            .granted_boot_ms
            .retain(|request, _| current.contains(request.as_str()));
        clock.clone()
    }
}

fn permits(log: &LogControl) -> impl Iterator<Item = &Grant> {
    log.grants
        .values()
        .flat_map(|latest| std::iter::once(latest).chain(&latest.earlier))
}

impl Executor {
    /// The memory of a log's grants, on its newest state.
    pub(crate) async fn grant_clock(&self, log: &str) -> Result<GrantClock, ExecuteError> {
        let stream = self.log(log).await?;
        let mut stream = stream.lock().await;
        stream.refresh().await?;
        let now = self.node.clock.now().boot_ms;
        let shared = has_peers(&self.node);
        Ok(self.grants.observe(log, stream.state(), now, shared))
    }
}

/// Serves every log of the installation, each in a task of its own, until shutdown.
pub(crate) async fn run(executor: Arc<Executor>) -> anyhow::Result<()> {
    let mut changes = executor.node.board.changes();
    let mut tasks: JoinSet<()> = JoinSet::new();
    let mut served = BTreeSet::new();
    loop {
        changes.mark_unchanged();
        let logs: Vec<String> = executor
            .node
            .board
            .read(|i| i.logs.keys().cloned().collect());
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
            Err(
                error @ (ExecuteError::Illegal(_)
                | ExecuteError::Decode(_)
                | ExecuteError::Broken(_)),
            ) => {
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
async fn wait(
    executor: &Executor,
    changes: &mut watch::Receiver<u64>,
    again: Option<Duration>,
) -> bool {
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
    let open = executor
        .node
        .board
        .read(|i| i.logs.get(log).is_some_and(|l| !l.requests.is_empty()));
    if !open {
        return Ok(None);
    }
    let stream = executor.log(log).await?;
    let mut stream = stream.lock().await;
    stream.refresh().await?;
    let nodes: Vec<String> = stream.state().requests.keys().cloned().collect();
    let shared = has_peers(&executor.node);
    let mut again: Option<Duration> = None;
    for node in nodes {
        // On the very state that is decided on: another executor may have granted a permit since.
        let remembered = |state: &LogControl| {
            let now = executor.node.clock.now().boot_ms;
            executor.grants.observe(log, state, now, shared)
        };
        let outcome = stream
            .execute(executor.node.meta(), |state| {
                let command = Command::GrantPermit {
                    node: node.clone(),
                    lifetime_ms: executor.config.permit_lifetime_ms,
                    key_deadline_ms: executor.config.key_deadline_ms,
                    drift_ms: executor.config.drift_ms,
                    clock: remembered(state),
                };
                decide(state, command, executor.node.clock.now())
            })
            .await;
        // After the append, and before anybody else can look: a grant whose append had no answer is taken in when it shows.
        let clock = remembered(stream.state());
        let now = executor.node.clock.now().boot_ms;
        match outcome {
            Ok(_) => {}
            Err(ExecuteError::Rejected(rejection)) => {
                tracing::debug!(log, node, %rejection, "a permit is not granted");
                let pause = until_free(stream.state(), &node, &clock, now);
                again = [again, pause].into_iter().flatten().min();
            }
            Err(error) => return Err(error),
        }
    }
    Ok(again)
}

/// Until the permits that other nodes may hold of the requested origin have run out.
fn until_free(log: &LogControl, node: &str, clock: &GrantClock, now: u64) -> Option<Duration> {
    let (_, origin) = log.requests.get(node)?;
    log.grants
        .iter()
        .filter(|(holder, _)| holder.as_str() != node)
        .filter_map(|(_, latest)| latest.for_origin(origin))
        .filter(|grant| !grant.released)
        .map(|grant| clock.end_of(grant))
        .filter(|end| *end > now)
        .max()
        .map(|end| Duration::from_millis(end - now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(request: &str) -> Grant {
        Grant {
            request_id: request.to_owned(),
            origin: "x.example/main/1".to_owned(),
            lifetime_ms: 100,
            key_deadline_ms: 10,
            drift_ms: 1,
            released: false,
            span_ms: 111,
            earlier: Vec::new(),
        }
    }

    #[test]
    fn a_permit_of_an_earlier_life_counts_from_this_ones_start_and_a_new_one_from_when_it_shows() {
        let grants = Grants::starting_at(1_000);
        let mut log = LogControl::default();
        log.grants.insert("a".to_owned(), grant("old"));
        let clock = grants.observe("main", &log, 5_000, false);
        assert_eq!(clock.end_of(&log.grants["a"]), 1_111);

        log.grants.insert("a".to_owned(), grant("new"));
        assert_eq!(
            grants
                .observe("main", &log, 6_000, false)
                .end_of(&log.grants["a"]),
            6_111
        );
        let later = grants.observe("main", &log, 7_000, false);
        assert_eq!(
            later.end_of(&log.grants["a"]),
            6_111,
            "looking again changes nothing"
        );
        assert_eq!(
            later.granted_boot_ms.len(),
            1,
            "replaced permits are forgotten"
        );
    }

    #[test]
    fn where_others_grant_too_a_permit_that_stands_at_the_first_look_counts_from_there() {
        let grants = Grants::starting_at(1_000);
        let mut log = LogControl::default();
        log.grants.insert("a".to_owned(), grant("another's"));
        let clock = grants.observe("main", &log, 5_000, true);
        assert_eq!(clock.end_of(&log.grants["a"]), 5_111);
    }
}
