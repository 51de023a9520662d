//! The key provider's audit, copied into the event log line by line: detectors compare it with the intents. What the audit should show and does
//! not is told by [`gaps`].

mod gaps;

use crate::service::Service;
use sealwarden_domain::fold::{Fold, IllegalEvent, event};
use sealwarden_engine::{ExecuteError, Stream};
use sealwarden_keys::{AuditLine, KeyError, Purpose};
use sealwarden_wire::event::v1::{Envelope, Event, KeyUseObserved, event::Kind};
use std::time::Duration;
use tokio::sync::watch;

/// Lines of one commit.
const LINES: usize = 128;
/// Pause after the audit or the event log could not be used.
const PAUSE: Duration = Duration::from_secs(1);

/// How far the audit was copied: a fold of `keyuse/<node>`.
#[derive(Debug, Default)]
struct Copied {
    cursor: u64,
}

impl Fold for Copied {
    fn apply(&mut self, _envelope: &Envelope, event: &Event) -> Result<(), IllegalEvent> {
        if let Some(Kind::KeyUseObserved(observed)) = &event.kind {
            self.cursor = self.cursor.max(observed.cursor);
        }
        Ok(())
    }
}

/// Copies and watches until the writer has ended and its last uses are copied.
pub(crate) async fn run(service: &Service) -> anyhow::Result<()> {
    let (damage, seen) = watch::channel(None);
    tokio::try_join!(copy_all(service, damage), gaps::watch(service, seen))?;
    Ok(())
}

/// Why an audit cannot be copied any further, if it was damaged.
type Damage = Option<String>;

async fn copy_all(service: &Service, damage: watch::Sender<Damage>) -> anyhow::Result<()> {
    let mut stream: Stream<Copied> = service.node.stream("keyuse", &service.node.name).await?;
    let mut cursor = stream.state().cursor;
    loop {
        let ending = service.writer_ended.is_cancelled();
        let pause = match copy(service, &mut stream, &mut cursor).await {
            Ok(0) | Err(_) if ending => return Ok(()),
            Ok(0) => service.config.audit_poll(),
            Ok(_) => continue,
            Err(failed) => {
                let reason = failed.to_string();
                tracing::warn!(reason, cursor, "the key provider's audit is not copied");
                if let Failed::Read(KeyError::Corrupt { .. }) = failed {
                    damage.send_replace(Some(reason));
                }
                PAUSE
            }
        };
        tokio::select! {
            () = service.writer_ended.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Why lines were not copied.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Read(#[from] KeyError),
    #[error(transparent)]
    Store(#[from] ExecuteError),
}

/// Copies a few lines; answers how many were read.
async fn copy(
    service: &Service,
    stream: &mut Stream<Copied>,
    cursor: &mut u64,
) -> Result<usize, Failed> {
    let lines = service.node.keys.audit_after(*cursor, LINES).await?;
    let Some(last) = lines.last().map(|line| line.cursor) else {
        return Ok(0);
    };
    let events: Vec<_> = lines
        .iter()
        .filter_map(|line| observed(service, line))
        .collect();
    let start = *cursor;
    stream
        .execute(service.node.meta(), |copied| {
            // A copy that was stored without an answer is not stored twice.
            Ok(if copied.cursor > start {
                Vec::new()
            } else {
                events.clone()
            })
        })
        .await?;
    *cursor = last;
    Ok(lines.len())
}

/// Uses of sealing keys, and every line that cannot be understood.
fn observed(service: &Service, line: &AuditLine) -> Option<Event> {
    let (key_id, message_sha256, at_ms) = match &line.entry {
        Ok(entry) if entry.purpose == Purpose::Sealing => (
            entry.key.to_string(),
            entry.message_sha256.to_vec(),
            entry.at_ms,
        ),
        Ok(_) => return None,
        Err(_) => (String::new(), Vec::new(), service.node.clock.now().wall_ms),
    };
    Some(event(Kind::KeyUseObserved(KeyUseObserved {
        provider: service.node.keys.name().to_owned(),
        node: service.node.name.clone(),
        key_id,
        message_sha256: message_sha256.into(),
        at_ms,
        line: line.line.clone(),
        cursor: line.cursor,
        log: service.config.log.clone(),
    })))
}
