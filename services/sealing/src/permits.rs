//! Permits: the node's time-limited right to use the sealing key.
//!
//! A permit's lifetime is counted from before its request was sent, on `CLOCK_BOOTTIME`, so that this node stops before the
//! grantor counts it as run out. Requests of an earlier life of this process are not known here, and so never valid.

use crate::service::Service;
use sealwarden_domain::log_control::{Command, LogControl, decide};
use sealwarden_engine::ExecuteError;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// Requests whose sending time is remembered: the latest few.
const REMEMBERED: usize = 8;
/// How long an answer to a request is waited for before it is asked again.
const ANSWER: Duration = Duration::from_secs(2);
/// Pause after a request that could not be made.
const PAUSE: Duration = Duration::from_millis(250);

/// A permit that is valid now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Permit {
    /// The request that it answers.
    pub(crate) request_id: String,
    /// Until when on `CLOCK_BOOTTIME`, milliseconds.
    pub(crate) until_boot_ms: u64,
    /// The longest key call, milliseconds.
    pub(crate) key_deadline_ms: u64,
}

/// When this process sent its requests.
#[derive(Debug, Default)]
pub(crate) struct Permits {
    sent: Mutex<VecDeque<(String, u64)>>,
}

impl Permits {
    fn sending(&self, request_id: &str, boot_ms: u64) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.len() >= REMEMBERED {
            sent.pop_front();
        }
        sent.push_back((request_id.to_owned(), boot_ms));
    }

    /// Forgets all requests: no permit of them is valid any more.
    pub(crate) fn drop_all(&self) {
        self.sent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// The node's permit for `origin`, if it is valid at `boot_ms`.
    pub(crate) fn valid(
        &self,
        log: &LogControl,
        node: &str,
        origin: &str,
        boot_ms: u64,
    ) -> Option<Permit> {
        let grant = log
            .grants
            .get(node)
            .filter(|grant| grant.origin == origin && !grant.released)?;
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, sent_boot_ms) = sent.iter().find(|(id, _)| *id == grant.request_id)?;
        let until_boot_ms = sent_boot_ms.saturating_add(grant.lifetime_ms);
        (boot_ms < until_boot_ms).then(|| Permit {
            request_id: grant.request_id.clone(),
            until_boot_ms,
            key_deadline_ms: grant.key_deadline_ms,
        })
    }
}

/// Keeps a permit alive until shutdown, and gives it back when the writer has ended.
pub(crate) async fn keep(service: &Service) -> anyhow::Result<()> {
    let shutdown = service.node.shutdown.clone();
    loop {
        let pause = tokio::select! {
            () = shutdown.cancelled() => break,
            pause = renew(service) => pause,
        };
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = service.permit_wanted.notified() => {}
            () = sleep(pause) => {}
        }
    }
    service.writer_ended.cancelled().await;
    release(service).await;
    Ok(())
}

/// Asks once; answers how long to wait before the next time.
async fn renew(service: &Service) -> Duration {
    let node = &service.node;
    let is_isolated = service.on_board(|log| {
        log.current()
            .is_some_and(|origin| origin.isolation.is_some())
    });
    if is_isolated.unwrap_or(true) {
        return PAUSE; // it would not be granted; the next origin's will be
    }
    let request_id = Uuid::new_v4().to_string();
    service
        .permits
        .sending(&request_id, node.clock.now().boot_ms);
    let command = Command::RequestPermit {
        node: node.name.clone(),
        request_id: request_id.clone(),
    };
    if let Err(error) = service.execute(&command).await {
        match error {
            ExecuteError::Rejected(rejection) => tracing::debug!(%rejection, "no permit asked for"),
            error @ (ExecuteError::Unavailable(_)
            | ExecuteError::Unknown(_)
            | ExecuteError::Illegal(_)
            | ExecuteError::Decode(_)
            | ExecuteError::Broken(_)) => tracing::warn!(%error, "a permit cannot be asked for"),
        }
        return PAUSE;
    }
    let granted = node.board.wait_until(|installation| {
        let log = installation.logs.get(&service.config.log)?;
        let grant = log.grants.get(&node.name)?;
        (grant.request_id == request_id).then_some(grant.lifetime_ms)
    });
    match timeout(ANSWER, granted).await {
        Ok(lifetime_ms) => {
            if let Err(error) = service.control.lock().await.refresh().await {
                tracing::warn!(%error, "a granted permit cannot be read");
                return PAUSE;
            }
            service.permit_changed.send_modify(|count| *count += 1);
            Duration::from_millis(lifetime_ms / 3)
        }
        Err(_elapsed) => Duration::ZERO,
    }
}

async fn release(service: &Service) {
    let grant = {
        let control = service.control.lock().await;
        control
            .state()
            .grants
            .get(&service.node.name)
            .map(|grant| grant.request_id.clone())
    };
    service.permits.drop_all();
    let Some(request_id) = grant else { return };
    let command = Command::ReleasePermit {
        node: service.node.name.clone(),
        request_id,
    };
    let deadline = Duration::from_secs(2);
    if let Ok(Err(error)) = timeout(deadline, service.execute(&command)).await {
        tracing::warn!(%error, "the permit was not given back; it runs out by itself");
    }
}

/// Decides a command against the newest state, as [`Service::execute`] does.
pub(crate) fn decider(
    command: &Command,
    at: sealwarden_domain::At,
) -> impl FnMut(
    &LogControl,
) -> Result<Vec<sealwarden_wire::event::v1::Event>, sealwarden_domain::Rejection> {
    let command = command.clone();
    move |log| decide(log, command.clone(), at)
}
