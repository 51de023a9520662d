//! What the providers' audits should show and do not, told to the event log once: a silent audit proves nothing, and whoever wants to use a key unseen
//! begins with it.

use super::Damage;
use crate::service::Service;
use sealwarden_domain::fold::{Fold, IllegalEvent, event};
use sealwarden_engine::{ExecuteError, Stream};
use sealwarden_keys::{AuditGap, AuditGapKind as Told, AuditUse};
use sealwarden_seal::merkle::Hash;
use sealwarden_wire::event::v1 as wire;
use sealwarden_wire::event::v1::{AuditGapKind, AuditGapObserved, Envelope, Event, event::Kind};
use std::collections::{BTreeSet, VecDeque};
use tokio::sync::watch;

/// Gaps of one commit.
const GAPS: usize = 64;
/// How many gaps are remembered as told: more than all providers tell of at a time.
const REMEMBERED: usize = 16_384;

/// The gaps that were told: a fold of `keyuse/<node>`.
#[derive(Debug, Default)]
struct Known {
    gaps: BTreeSet<String>,
    order: VecDeque<String>,
}

impl Fold for Known {
    fn apply(&mut self, _envelope: &Envelope, event: &Event) -> Result<(), IllegalEvent> {
        if let Some(Kind::AuditGapObserved(observed)) = &event.kind
            && self.gaps.insert(observed.gap.clone())
        {
            self.order.push_back(observed.gap.clone());
            if self.order.len() > REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.gaps.remove(&oldest);
            }
        }
        Ok(())
    }
}

/// Asks until the writer has ended, and once more then.
pub(super) async fn watch(
    service: &Service,
    damage: watch::Receiver<Damage>,
) -> anyhow::Result<()> {
    let mut stream: Stream<Known> = service.node.stream("keyuse", &service.node.name).await?;
    loop {
        let ending = service.writer_ended.is_cancelled();
        let reason = damage.borrow().clone();
        if let Err(reason) = tell(service, &mut stream, reason).await {
            tracing::warn!(reason, "gaps of the key provider's audit are not told yet");
        }
        if ending {
            return Ok(());
        }
        tokio::select! {
            () = service.writer_ended.cancelled() => {}
            () = tokio::time::sleep(service.config.audit_gap_poll()) => {}
        }
    }
}

async fn tell(service: &Service, stream: &mut Stream<Known>, damage: Damage) -> Result<(), String> {
    let keys = &service.node.keys;
    let found = keys.audit_gaps(service.config.audit_grace()).await;
    let found = found.map_err(|error| error.to_string())?;
    let origin = {
        let control = service.control.lock().await;
        let current = control.state().current();
        current.map(|it| it.origin.clone()).unwrap_or_default()
    };
    let of_reason = damage.map(|reason| unreadable(service, reason));
    let observed: Vec<AuditGapObserved> = found
        .iter()
        .map(observed)
        .chain(of_reason)
        .map(|gap| AuditGapObserved {
            node: service.node.name.clone(),
            log: service.config.log.clone(),
            origin: origin.clone(),
            ..gap
        })
        .collect();
    let stored = stream.execute(service.node.meta(), |known| {
        let new = observed.iter().filter(|gap| !known.gaps.contains(&gap.gap));
        Ok(new
            .take(GAPS)
            .map(|gap| event(Kind::AuditGapObserved(gap.clone())))
            .collect())
    });
    let stored = stored
        .await
        .map_err(|error: ExecuteError| error.to_string())?;
    for stored in &stored.events {
        if let Some(Kind::AuditGapObserved(gap)) = &stored.kind {
            tracing::warn!(provider = gap.provider, kind = ?gap.kind(), uses = gap.use_count, "the key provider's audit does not show what it should");
        }
    }
    Ok(())
}

fn observed(gap: &AuditGap) -> AuditGapObserved {
    let kind = match gap.kind {
        Told::UseNotShown => AuditGapKind::UseNotShown,
        Told::Silent => AuditGapKind::Silent,
        Told::Off => AuditGapKind::Off,
        Told::Truncated => AuditGapKind::Truncated,
        Told::Rewritten => AuditGapKind::Rewritten,
        Told::Replaced => AuditGapKind::Replaced,
        Told::Lost => AuditGapKind::Lost,
    };
    let first = gap.uses.first().map(|used| used.message_sha256);
    let since = gap.since_ms.to_string();
    let identity = [
        gap.provider.as_str(),
        kind.as_str_name(),
        &since,
        &first.map(hex::encode).unwrap_or_default(),
    ];
    AuditGapObserved {
        gap: name(&identity),
        provider: gap.provider.clone(),
        kind: kind.into(),
        since_ms: gap.since_ms,
        uses: gap.uses.iter().map(used).collect(),
        use_count: u64::try_from(gap.count).unwrap_or(u64::MAX),
        evidence: gap.evidence.clone(),
        ..AuditGapObserved::default()
    }
}

/// An audit that cannot be copied any further: its reason names the file and what was done to it, so the same reason is the same gap.
fn unreadable(service: &Service, reason: String) -> AuditGapObserved {
    let provider = service.node.keys.name().to_owned();
    let kind = AuditGapKind::Unreadable;
    AuditGapObserved {
        gap: name(&[&provider, kind.as_str_name(), &reason]),
        provider,
        kind: kind.into(),
        since_ms: service.node.clock.now().wall_ms,
        evidence: reason,
        ..AuditGapObserved::default()
    }
}

fn used(used: &AuditUse) -> wire::AuditUse {
    wire::AuditUse {
        key_id: used.key.to_string(),
        message_sha256: used.message_sha256.to_vec().into(),
        at_ms: used.at_ms,
    }
}

/// 16 hexadecimal digits of the SHA-256 of the words.
fn name(words: &[&str]) -> String {
    let hash = Hash::of(words.join("\0").as_bytes());
    hex::encode(hash.0.get(..8).unwrap_or_default())
}
