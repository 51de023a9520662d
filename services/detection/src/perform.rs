//! Carrying effects out. Each is decided anew on the newest state of its stream, so doing one twice changes nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use sealwarden_domain::fold::event;
use sealwarden_domain::incident::{self, Incident};
use sealwarden_domain::log_control::{self, Intents, LogControl, Origin};
use sealwarden_domain::{Fold, IllegalEvent, Rejection, RejectionCode};
use sealwarden_engine::{ExecuteError, Executed, Meta, Node, Stream, StreamName, Unread};
use sealwarden_eventlog::Head;
use sealwarden_wire::event::v1::{
    CanaryRun, DetectorsInstalled, Envelope, Event, HoldPlaced, IncidentClassified, MeasuresTaken,
    ReleaseMarked, SignalReported, TimeTicked, event::Kind,
};
use tracing::Instrument as _;

use crate::follow::Watch;
use crate::pending::Effect;

/// A stream of one record at most: `signal/<id>`, `near/<id>`.
#[derive(Debug, Default)]
pub(crate) struct OneRecord {
    recorded: bool,
}

impl OneRecord {
    fn once(&self, record: &Event) -> Vec<Event> {
        if self.recorded {
            Vec::new()
        } else {
            vec![record.clone()]
        }
    }
}

impl Fold for OneRecord {
    fn apply(&mut self, _: &Envelope, event: &Event) -> Result<(), IllegalEvent> {
        self.recorded |= matches!(
            event.kind,
            Some(Kind::SignalReported(_) | Kind::NearMissRecorded(_))
        );
        Ok(())
    }
}

/// `detect/detectors`: which file is in force.
#[derive(Debug, Default)]
struct Installed {
    sha256: String,
}

impl Fold for Installed {
    fn apply(&mut self, _: &Envelope, event: &Event) -> Result<(), IllegalEvent> {
        if let Some(Kind::DetectorsInstalled(installed)) = &event.kind {
            self.sha256.clone_from(&installed.sha256);
        }
        Ok(())
    }
}

/// `detect/releases`: the ids of the newest releases.
#[derive(Debug, Default)]
struct Releases {
    known: VecDeque<String>,
}

/// How many releases are remembered: one that comes again later than that counts again.
const MAX_RELEASES: usize = 4096;

impl Fold for Releases {
    fn apply(&mut self, _: &Envelope, event: &Event) -> Result<(), IllegalEvent> {
        if let Some(Kind::ReleaseMarked(marked)) = &event.kind {
            if self.known.len() >= MAX_RELEASES {
                self.known.pop_front();
            }
            self.known.push_back(marked.release.clone());
        }
        Ok(())
    }
}

/// Records that something was released, once.
pub(crate) async fn mark_release(
    node: &Node,
    meta: Meta,
    marked: ReleaseMarked,
) -> Result<Executed, ExecuteError> {
    let mut stream: Stream<Releases> = node.stream("detect", "releases").await?;
    let release = marked.release.clone();
    let marked = event(Kind::ReleaseMarked(marked));
    let executed = stream.execute(meta, |state| {
        let known = state.known.contains(&release);
        Ok(if known {
            Vec::new()
        } else {
            vec![marked.clone()]
        })
    });
    executed.await
}

/// A stream that is only added to, without reading it.
async fn at_its_end(node: &Node, category: &str, id: &str) -> Result<Stream<Unread>, ExecuteError> {
    let name = StreamName::new(category, id).map_err(|e| ExecuteError::Broken(e.to_string()))?;
    Stream::at_its_end(Arc::clone(&node.log), name).await
}

/// Records what was measured, in the node's own stream.
pub(crate) async fn record_measures(
    node: &Node,
    meta: Meta,
    taken: MeasuresTaken,
) -> Result<Executed, ExecuteError> {
    let mut stream = at_its_end(node, "measure", &node.name).await?;
    let taken = event(Kind::MeasuresTaken(taken));
    stream.execute(meta, |_| Ok(vec![taken.clone()])).await
}

/// Records that somebody sealed and verified a digest of their own.
pub(crate) async fn record_canary(
    node: &Node,
    meta: Meta,
    run: CanaryRun,
) -> Result<Executed, ExecuteError> {
    let mut stream = at_its_end(node, "detect", "canary").await?;
    let run = event(Kind::CanaryRun(run));
    stream.execute(meta, |_| Ok(vec![run.clone()])).await
}

/// Lets detectors be in force from here on.
async fn install(node: &Node, mut installed: DetectorsInstalled) -> Result<(), ExecuteError> {
    installed.node.clone_from(&node.name);
    let sha256 = installed.sha256.clone();
    let installed = event(Kind::DetectorsInstalled(installed));
    let mut stream: Stream<Installed> = node.stream("detect", "detectors").await?;
    let executed = stream.execute(node.meta(), |state| {
        let known = state.sha256 == sha256;
        Ok(if known {
            Vec::new()
        } else {
            vec![installed.clone()]
        })
    });
    if !executed.await?.events.is_empty() {
        tracing::info!(%sha256, "the plan's detectors are in force");
    }
    Ok(())
}

/// Carries one effect out, in the trace of what led to it.
pub(crate) async fn perform(
    node: &Node,
    watch: &Watch,
    effect: Effect,
) -> Result<(), ExecuteError> {
    let span = tracing::info_span!("detection", effect = %effect.key());
    let span = sealwarden_telemetry::with_parent(Some(effect.traceparent()), span);
    carry_out(node, watch, effect).instrument(span).await
}

async fn carry_out(node: &Node, watch: &Watch, effect: Effect) -> Result<(), ExecuteError> {
    match effect {
        Effect::PlaceHold { log, hold, .. } => place_hold(node, watch, &log, hold).await,
        Effect::RecordSignal { signal, cause, .. } => {
            let meta = Meta::detector(&signal.detector);
            let meta = meta.caused_by(cause).correlated(signal.signal.clone());
            record_signal(node, meta, *signal).await.map(drop)
        }
        Effect::JoinIncident { signal, .. } => join_incident(node, watch, *signal).await,
        Effect::Classify {
            incident,
            classified,
            ..
        } => {
            let meta = node.meta().correlated(incident.clone());
            let executed = classify(node, meta, &incident, *classified).await?;
            if !executed.events.is_empty() {
                tracing::warn!(%incident, "incident classified");
            }
            Ok(())
        }
        Effect::SayOfDuties { incident, .. } => crate::duties::say(node, &incident).await,
        Effect::InstallDetectors(installed) => install(node, *installed).await,
        Effect::RecordNearMiss(miss) => {
            let meta = Meta::detector(&miss.detector);
            let mut stream: Stream<OneRecord> = node.stream("near", &miss.near_miss).await?;
            let recorded = event(Kind::NearMissRecorded(*miss));
            let executed = stream
                .execute(meta, |state| Ok(state.once(&recorded)))
                .await;
            executed.map(drop)
        }
        Effect::Tick(_) => {
            let ticked = TimeTicked {
                at_ms: node.clock.now().wall_ms,
                node: node.name.clone(),
            };
            let ticked = event(Kind::TimeTicked(ticked));
            let mut stream: Stream<Unread> = node.stream("detect", "time").await?;
            let executed = stream
                .execute(node.meta(), |_| Ok(vec![ticked.clone()]))
                .await;
            executed.map(drop)
        }
    }
}

/// Records a signal, once.
pub(crate) async fn record_signal(
    node: &Node,
    meta: Meta,
    signal: SignalReported,
) -> Result<Executed, ExecuteError> {
    let mut stream: Stream<OneRecord> = node.stream("signal", &signal.signal).await?;
    let recorded = event(Kind::SignalReported(signal.clone()));
    let executed = stream
        .execute(meta, |state| Ok(state.once(&recorded)))
        .await?;
    if !executed.events.is_empty() {
        tracing::warn!(signal = %signal.signal, detector = %signal.detector, subject = %signal.subject, proven = signal.proven, seen = %signal.seen, "signal");
    }
    Ok(executed)
}

/// Classifies an incident.
pub(crate) async fn classify(
    node: &Node,
    meta: Meta,
    id: &str,
    classified: IncidentClassified,
) -> Result<Executed, ExecuteError> {
    let mut stream: Stream<Incident> = node.stream("incident", id).await?;
    stream
        .execute(meta, |state| {
            if state.opened.is_none() {
                let reason = format!("there is no incident {id}");
                return Err(Rejection::new(RejectionCode::NotFound, reason));
            }
            incident::decide(state, incident::Command::Classify(classified.clone()))
        })
        .await
}

/// Stops signing. The log's stream is long, so it is gone on with from where it is folded already.
async fn place_hold(
    node: &Node,
    watch: &Watch,
    log: &str,
    hold: HoldPlaced,
) -> Result<(), ExecuteError> {
    let name = StreamName::new("log", log).map_err(|e| ExecuteError::Broken(e.to_string()))?;
    let (state, head) = watch.read(|known| {
        let head = known.heads.get(log).copied().unwrap_or(Head::EMPTY);
        (
            known.logs.get(log).map(without_intents).unwrap_or_default(),
            head,
        )
    });
    let mut stream = Stream::resume(Arc::clone(&node.log), name, state, head);
    let meta = node
        .meta()
        .correlated(hold.incident.clone())
        .caused_by(hold.signal.clone());
    let command = log_control::Command::PlaceHold(hold.clone());
    let executed = stream
        .execute(meta, |state| {
            log_control::decide(state, command.clone(), node.clock.now())
        })
        .await?;
    if !executed.events.is_empty() {
        tracing::warn!(origin = %hold.origin, incident = %hold.incident, signal = %hold.signal, "signing is held");
    }
    Ok(())
}

/// Holds need no intents, and a log has very many of them.
fn without_intents(log: &LogControl) -> LogControl {
    let bare = |o: &Origin| Origin {
        origin: o.origin.clone(),
        vkey: o.vkey.clone(),
        key_id: o.key_id.clone(),
        provider: o.provider.clone(),
        provider_can_disable: o.provider_can_disable,
        node: o.node.clone(),
        predecessor: o.predecessor.clone(),
        opened_at_ms: o.opened_at_ms,
        signers: o.signers.clone(),
        intents: Intents::default(),
        published_size: o.published_size,
        dated: std::collections::BTreeMap::new(),
        isolation: o.isolation,
        compromised_since_ms: o.compromised_since_ms,
    };
    let mut light = LogControl::default();
    light.origins = log.origins.iter().map(bare).collect();
    light.grants.clone_from(&log.grants);
    light.requests.clone_from(&log.requests);
    light.holds.clone_from(&log.holds);
    light.directives.clone_from(&log.directives);
    light
}

/// Joins the subject's open incident or opens the next. If the incident is closed meanwhile, the next one is tried when that has been folded.
async fn join_incident(
    node: &Node,
    watch: &Watch,
    signal: SignalReported,
) -> Result<(), ExecuteError> {
    let id = watch.read(|known| known.incident_for(&signal.subject));
    let mut stream: Stream<Incident> = node.stream("incident", &id).await?;
    let meta = node
        .meta()
        .correlated(id.clone())
        .caused_by(signal.signal.clone());
    let executed = stream
        .execute(meta, |state| {
            let command = if state.opened.is_some() {
                incident::Command::Join(signal.clone())
            } else {
                incident::Command::Open {
                    incident: id.clone(),
                    signal: signal.clone(),
                }
            };
            incident::decide(state, command)
        })
        .await;
    match executed {
        Ok(executed) => {
            if !executed.events.is_empty() {
                tracing::warn!(incident = %id, signal = %signal.signal, "signal joined the incident");
            }
            Ok(())
        }
        Err(ExecuteError::Rejected(rejection)) if rejection.code == RejectionCode::NotNow => Err(
            ExecuteError::Unavailable(format!("incident {id} was closed meanwhile")),
        ),
        Err(error) => Err(error),
    }
}
