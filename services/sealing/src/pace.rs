//! How fast sealing keys answer, and what the node does when they are slow and there is no other provider to go to: it seals what is critical at the pace that there is, and lets
//! everything else wait in the durable queue. It says so in the log line, and goes back by itself when the provider is well again.

use crate::service::Service;
use sealwarden_domain::log_control::{Command, Origin, Signer};
use sealwarden_keys::{Algorithm, HealthState};
use sealwarden_runbook::Measure;
use sealwarden_wire::event::v1::KeyPressureChanged;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// So many calls in a row decide whether a provider is slow, or well again.
const CALLS: usize = 3;
/// How often a slow provider is probed, and health looked at.
const LOOK: Duration = Duration::from_millis(500);

/// A provider that is slow or out, with nobody to take its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slow {
    /// The provider.
    pub(crate) provider: String,
    /// In words.
    pub(crate) reason: String,
}

/// The last calls of each provider.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Milliseconds, newest last; none for a call that failed.
    calls: Mutex<BTreeMap<String, VecDeque<Option<u64>>>>,
    slow: watch::Sender<Option<Slow>>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            calls: Mutex::default(),
            slow: watch::Sender::new(None),
        }
    }
}

impl Pace {
    /// Notes how long a call took; none if it failed.
    fn note(&self, provider: &str, took_ms: Option<u64>) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let of_provider = calls.entry(provider.to_owned()).or_default();
        if of_provider.len() == CALLS {
            of_provider.pop_front();
        }
        of_provider.push_back(took_ms);
    }

    /// What keeps normal requests from being sealed at once.
    pub(crate) fn slow(&self) -> Option<Slow> {
        self.slow.borrow().clone()
    }

    /// How long the provider's last call took, milliseconds; none before the first, and if it failed.
    pub(crate) fn last_ms(&self, provider: &str) -> Option<u64> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.get(provider)?.back().copied().flatten()
    }

    /// Whether the last calls were all slow or all fast; none while they differ, or are too few.
    fn trend(&self, provider: &str, slow_ms: u64) -> Option<Trend> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = calls.get(provider).filter(|it| it.len() == CALLS)?;
        let is_slow = |took: &Option<u64>| took.is_none_or(|ms| ms >= slow_ms);
        if calls.iter().all(is_slow) {
            let worst = calls.iter().flatten().max().copied();
            return Some(Trend::Slow(worst));
        }
        (!calls.iter().any(is_slow)).then_some(Trend::Fast)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Trend {
    /// The slowest call that was answered, milliseconds.
    Slow(Option<u64>),
    Fast,
}

/// Watches the key that signs until shutdown.
pub(crate) async fn watch(service: &Service) -> anyhow::Result<()> {
    let shutdown = &service.node.shutdown;
    // What an earlier life recorded is not known to hold now.
    let mut recorded = None;
    loop {
        let slow = look(service).await;
        if recorded.as_ref() != Some(&slow) {
            service.pace.slow.send_replace(slow.clone());
            match record(service, slow.as_ref()).await {
                Ok(()) => recorded = Some(slow),
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(
                        error,
                        "it is not recorded that the key provider is slow, or well again"
                    );
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Whether the key that signs is slow or out now, and nobody takes its place.
async fn look(service: &Service) -> Option<Slow> {
    let origin = service.on_board(|log| log.current().cloned()).flatten();
    let origin = origin.filter(|it| it.node == service.node.name)?;
    let signer = origin
        .signing()
        .find(|it| it.algorithm == Algorithm::Ed25519.as_str())?;
    let before = service
        .pace
        .slow()
        .filter(|it| it.provider == signer.provider);
    if before.is_some() {
        probe(service, &signer.provider).await;
    }
    if has_stand_in(service, &origin, signer) {
        return None;
    }
    if let Some(reason) = out(service, &signer.provider) {
        let provider = signer.provider.clone();
        return Some(Slow { provider, reason });
    }
    let slow_ms = service.config.slow_key_ms;
    match service.pace.trend(&signer.provider, slow_ms) {
        Some(Trend::Fast) => None,
        // Neither: as before.
        None => before,
        Some(Trend::Slow(worst)) => before.or_else(|| {
            let took = match worst {
                Some(ms) => format!("its last {CALLS} calls took up to {ms} ms"),
                None => format!("its last {CALLS} calls failed"),
            };
            Some(Slow {
                provider: signer.provider.clone(),
                reason: format!(
                    "key provider slow: {} ({took}; slow is {slow_ms} ms)",
                    signer.provider
                ),
            })
        }),
    }
}

/// Why the provider's breaker keeps calls from it.
fn out(service: &Service, provider: &str) -> Option<String> {
    let health = service.node.keys.health(provider).ok()?;
    match health.state {
        HealthState::Closed => None,
        HealthState::Open { reason, .. } | HealthState::HalfOpen { reason, .. } => Some(format!(
            "key provider slow: {provider} is not asked ({reason})"
        )),
    }
}

/// Whether a batch could be signed with another key: then it is, and nothing has to wait.
fn has_stand_in(service: &Service, origin: &Origin, signer: &Signer) -> bool {
    let listed = service.listed.keys(&service.node.board);
    origin.signers.iter().any(|it| {
        it.key_id != signer.key_id
            && it.provider != signer.provider
            && it.algorithm == signer.algorithm
            && it.is_ready()
            && listed.contains(&it.vkey)
            && out(service, &it.provider).is_none()
    })
}

/// Without callers nobody would notice that a slow provider is well again.
async fn probe(service: &Service, provider: &str) {
    let began = Instant::now();
    let patience = Duration::from_millis(service.config.slow_key_ms);
    let probed = tokio::time::timeout(patience, service.node.keys.probe(provider)).await;
    let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let took_ms = matches!(probed, Ok(Ok(()))).then_some(took);
    note_call(service, provider, took_ms);
}

/// Notes how long a call took, for the node's own pace and for the plan's detectors; none if it failed.
pub(crate) fn note_call(service: &Service, provider: &str, took_ms: Option<u64>) {
    service.pace.note(provider, took_ms);
    let measuring = &service.measuring;
    measuring.add(Measure::KeyCalls, provider, 1);
    match took_ms {
        Some(ms) => {
            let ms = i64::try_from(ms).unwrap_or(i64::MAX);
            measuring.add(Measure::KeyCallMs, provider, ms);
        }
        None => measuring.add(Measure::KeyErrors, provider, 1),
    }
}

async fn record(service: &Service, slow: Option<&Slow>) -> anyhow::Result<()> {
    let origin = service.on_board(|log| log.current().map(|it| it.origin.clone()));
    let Some(origin) = origin.flatten() else {
        return Ok(());
    };
    if let Some(slow) = slow {
        tracing::warn!(
            provider = slow.provider,
            reason = slow.reason,
            "seals that are not critical wait in the durable queue"
        );
    }
    let slow = slow.cloned();
    let change = KeyPressureChanged {
        origin,
        node: service.node.name.clone(),
        diverting: slow.is_some(),
        provider: slow
            .as_ref()
            .map(|it| it.provider.clone())
            .unwrap_or_default(),
        reason: slow.map(|it| it.reason).unwrap_or_default(),
    };
    service.execute(&Command::ChangePressure(change)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_calls_in_a_row_decide() {
        let pace = Pace::default();
        let note = |calls: &[Option<u64>]| calls.iter().for_each(|it| pace.note("hsm", *it));
        note(&[Some(900), None]);
        assert_eq!(pace.trend("hsm", 750), None, "two are too few");
        note(&[Some(800)]);
        assert_eq!(pace.trend("hsm", 750), Some(Trend::Slow(Some(900))));
        note(&[Some(10), Some(10)]);
        assert_eq!(pace.trend("hsm", 750), None, "they differ");
        note(&[Some(749)]);
        assert_eq!(pace.trend("hsm", 750), Some(Trend::Fast));
        assert_eq!(pace.last_ms("hsm"), Some(749));
        assert_eq!(
            (pace.trend("other", 750), pace.last_ms("other")),
            (None, None)
        );
    }
}
