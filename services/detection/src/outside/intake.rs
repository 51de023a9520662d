//! Making signals of what outside sources say.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sealwarden_domain::incident::{self, Incident};
use sealwarden_domain::{Rejection, RejectionCode};
use sealwarden_engine::{ExecuteError, Executed, Meta, Node, Stream};
use sealwarden_runbook::{Detectors, OutsideRule};
use sealwarden_wire::event::v1::{
    CanaryRun, Measured, MeasuresTaken, OutsideCounted, ReleaseMarked, Reporter, SignalReported,
    SignalResolved,
};
use tokio::sync::Mutex;

use super::payload::{Alert, Told};
use super::{Known, Sources};
use crate::follow::Watch;
use crate::ids::signal_id;
use crate::perform::{mark_release, record_canary, record_measures, record_signal};
use crate::state::{MAX_SIGNALS_PER_INCIDENT, State};

/// How many alerts that were counted only are known again; one that comes again later than that counts again.
const MAX_KNOWN: usize = 131_072;
/// How many incidents of one source are open at once; further subjects are one.
const MAX_OPEN: usize = 32;
/// How often what was only counted is recorded at least.
const FLUSH: Duration = Duration::from_secs(5);

/// What came of a payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TakenIn {
    pub(crate) signals: u64,
    pub(crate) known: u64,
    pub(crate) counted: u64,
    pub(crate) resolved: u64,
}

impl fmt::Display for TakenIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} new signals, {} known already, {} counted, {} resolved",
            self.signals, self.known, self.counted, self.resolved
        )
    }
}

/// What is kept between payloads; all of it can be lost.
#[derive(Default)]
struct Memory {
    /// Alerts that were counted only, oldest first, and as a set.
    order: VecDeque<String>,
    counted: BTreeSet<String>,
    /// By incident and source: how many were counted and are not recorded yet.
    waiting: BTreeMap<(String, String), u64>,
}

impl Memory {
    /// Whether this is news.
    fn count(&mut self, id: &str) -> bool {
        if self.counted.contains(id) {
            return false;
        }
        if self.order.len() >= MAX_KNOWN
            && let Some(oldest) = self.order.pop_front()
        {
            self.counted.remove(&oldest);
        }
        self.order.push_back(id.to_owned());
        self.counted.insert(id.to_owned());
        true
    }

    /// It was not recorded after all, so that it is news when it is sent again.
    fn forget(&mut self, id: &str) {
        if self.counted.remove(id) {
            self.order.retain(|it| it != id);
        }
    }
}

/// The way in for outside sources.
pub(crate) struct Intake {
    node: Arc<Node>,
    watch: Arc<Watch>,
    pub(super) sources: Sources,
    wait: Duration,
    /// One payload after another: each has to see what the one before it did.
    memory: Mutex<Memory>,
}

impl Intake {
    pub(crate) fn new(
        node: Arc<Node>,
        watch: Arc<Watch>,
        sources: Sources,
        wait: Duration,
    ) -> Self {
        Self {
            node,
            watch,
            sources,
            wait,
            memory: Mutex::default(),
        }
    }

    /// Takes in what a source says. An error says that it has to be sent again: what was taken in of it is known then.
    pub(super) async fn take(&self, source: &Known, told: Told) -> Result<TakenIn, String> {
        let mut memory = self.memory.lock().await;
        self.within(self.watch.live()).await?;
        match told {
            Told::Alerts(alerts) => {
                let mut taken = TakenIn::default();
                for alert in alerts {
                    self.alert(source, &mut memory, &alert, &mut taken).await?;
                }
                Ok(taken)
            }
            Told::Release {
                id,
                component,
                version,
                note,
            } => {
                let marked = ReleaseMarked {
                    component,
                    version,
                    by: source.name.clone(),
                    note,
                    release: format!("{} {id}", source.name),
                };
                let meta = Meta::detector(&source.name);
                let executed = mark_release(&self.node, meta, marked).await;
                let marked = executed.map_err(|e| e.to_string())?.events.len();
                Ok(once(marked > 0))
            }
            Told::Canary {
                id,
                log,
                good,
                took_ms,
                reason,
            } => {
                // An event that comes twice is one canary.
                let id = signal_id(&source.name, &[id.as_bytes(), b"canary"]);
                if !memory.count(&id) {
                    return Ok(once(false));
                }
                let run = CanaryRun {
                    log,
                    took_ms,
                    good,
                    reason,
                    node: source.name.clone(),
                };
                let recorded = record_canary(&self.node, Meta::detector(&source.name), run).await;
                counted(recorded, &mut memory, &id)
            }
            Told::Measure { id, name, value } => {
                // An event that comes twice is measured once.
                let id = signal_id(&source.name, &[id.as_bytes(), b"measure"]);
                if !memory.count(&id) {
                    return Ok(once(false));
                }
                let now_ms = self.node.clock.now().wall_ms;
                let taken = MeasuresTaken {
                    node: self.node.name.clone(),
                    from_ms: now_ms,
                    to_ms: now_ms,
                    measures: vec![Measured {
                        measure: "outside".to_owned(),
                        name: format!("{}/{name}", source.name),
                        count: 1,
                        sum: value,
                        most: value,
                        last: value,
                    }],
                };
                let meta = Meta::detector(&source.name);
                let recorded = record_measures(&self.node, meta, taken).await;
                counted(recorded, &mut memory, &id)
            }
        }
    }

    async fn alert(
        &self,
        source: &Known,
        memory: &mut Memory,
        alert: &Alert,
        taken: &mut TakenIn,
    ) -> Result<(), String> {
        let detector = format!("outside-{}", source.name);
        let id = signal_id(&detector, &[alert.key.as_bytes()]);
        let known = self.watch.read(|state| {
            let known = state.signals.get(&id);
            known.map(|it| it.incident.clone())
        });
        if alert.resolved {
            // What was only counted, or never reported, has nothing to be resolved of.
            if let Some(incident) = known.flatten() {
                taken.resolved += u64::from(self.resolve(source, &incident, id).await?);
            }
            return Ok(());
        }
        if known.is_some() {
            taken.known += 1;
            return Ok(());
        }
        let signal = self.signal(source, detector, id, alert);
        let full = self.watch.read(|state| full(state, &signal));
        if let Some(incident) = full {
            if memory.count(&signal.signal) {
                taken.counted += 1;
                let key = (incident, source.name.clone());
                *memory.waiting.entry(key).or_default() += 1;
            } else {
                taken.known += 1;
            }
            return Ok(());
        }
        let id = signal.signal.clone();
        let meta = Meta::detector(&signal.detector).correlated(id.clone());
        let recorded = record_signal(&self.node, meta, signal).await;
        recorded.map_err(|e| e.to_string())?;
        let joined = self
            .watch
            .wait_until(|state| state.signals.get(&id)?.incident.clone());
        self.within(joined).await?;
        taken.signals += 1;
        Ok(())
    }

    fn signal(
        &self,
        source: &Known,
        detector: String,
        id: String,
        alert: &Alert,
    ) -> SignalReported {
        let plan = self.node.plan.detectors();
        let rules = plan.map(Detectors::outside).unwrap_or_default();
        let rule = rules.iter().find(|rule| rule.matches(&alert.labels));
        let known = |class: &str| self.node.plan.plan().class(class).is_some();
        let class = rule.map(|it| it.class.as_str()).filter(|it| known(it));
        let labels: Vec<String> = alert
            .labels
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let subject = subject(rule, source, alert);
        let subject = self
            .watch
            .read(|state| bounded(state, subject, &detector, source));
        let now_ms = self.node.clock.now().wall_ms;
        SignalReported {
            signal: id,
            class: class.unwrap_or(&source.class).to_owned(),
            subject,
            log: String::new(),
            origin: String::new(),
            proven: false,
            seen: format!("{} says: {}", source.name, alert.seen),
            expected: "No alert.".to_owned(),
            events: Vec::new(),
            evidence: labels.join("\n").into_bytes().into(),
            earliest_at_ms: match alert.started_ms {
                started_ms if started_ms > 0 => started_ms.min(now_ms),
                _ => now_ms,
            },
            reporter: Some(Reporter {
                person: false,
                name: detector.clone(),
            }),
            key: String::new(),
            reading: None,
            detector,
        }
    }

    /// Says that a signal is over; whether that is news.
    async fn resolve(&self, source: &Known, id: &str, signal: String) -> Result<bool, String> {
        let resolved = SignalResolved {
            signal,
            by: source.name.clone(),
        };
        let command = incident::Command::Resolve(resolved);
        self.execute(source, id, command).await
    }

    async fn execute(
        &self,
        source: &Known,
        id: &str,
        command: incident::Command,
    ) -> Result<bool, String> {
        let stream = self.node.stream("incident", id).await;
        let mut stream: Stream<Incident> = stream.map_err(|e| e.to_string())?;
        let meta = Meta::detector(&source.name).correlated(id.to_owned());
        let executed = stream
            .execute(meta, |state| incident::decide(state, command.clone()))
            .await;
        match executed {
            Ok(executed) => Ok(!executed.events.is_empty()),
            // It was closed meanwhile: there is nothing to add to.
            Err(ExecuteError::Rejected(Rejection {
                code: RejectionCode::NotNow,
                ..
            })) => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Records what was only counted.
    async fn record_counts(&self) -> Result<(), String> {
        let mut memory = self.memory.lock().await;
        while let Some(((incident, name), further)) = memory.waiting.pop_first() {
            let Some(source) = self.sources.named(&name) else {
                continue;
            };
            let counted = OutsideCounted {
                source: name.clone(),
                further,
            };
            let command = incident::Command::Count(counted);
            if let Err(reason) = self.execute(source, &incident, command).await {
                *memory.waiting.entry((incident, name)).or_default() += further;
                return Err(reason);
            }
        }
        Ok(())
    }

    async fn within<T>(&self, work: impl Future<Output = T>) -> Result<T, String> {
        let done = tokio::time::timeout(self.wait, work).await;
        done.map_err(|_elapsed| "the event log is not caught up with; send it again".to_owned())
    }
}

/// What came of recording something that is counted once.
fn counted(
    recorded: Result<Executed, ExecuteError>,
    memory: &mut Memory,
    id: &str,
) -> Result<TakenIn, String> {
    match recorded {
        Ok(_) => Ok(once(true)),
        // It may stand there, and a failure that counts twice would be worse than one that does not count.
        Err(error @ ExecuteError::Unknown(_)) => Err(error.to_string()),
        Err(error) => {
            memory.forget(id);
            Err(error.to_string())
        }
    }
}

fn once(is_news: bool) -> TakenIn {
    TakenIn {
        signals: u64::from(is_news),
        known: u64::from(!is_news),
        ..TakenIn::default()
    }
}

/// Records what was only counted every few seconds, until shutdown.
pub(crate) async fn flush(intake: Arc<Intake>) -> anyhow::Result<()> {
    let shutdown = intake.node.shutdown.clone();
    loop {
        let ended = tokio::select! {
            () = shutdown.cancelled() => true,
            () = tokio::time::sleep(FLUSH) => false,
        };
        if let Err(reason) = intake.record_counts().await {
            tracing::warn!(%reason, "what outside sources sent beyond an incident's signals is not recorded yet");
        }
        if ended {
            return Ok(());
        }
    }
}

/// The incident that would take the signal in and takes in no more.
fn full(state: &State, signal: &SignalReported) -> Option<String> {
    let id = state.open_incident(&signal.subject)?;
    let joined = state.incidents.get(id)?.signals.len();
    let room = u32::try_from(joined).is_ok_and(|joined| joined < MAX_SIGNALS_PER_INCIDENT);
    (!room).then(|| id.to_owned())
}

fn subject(rule: Option<&OutsideRule>, source: &Known, alert: &Alert) -> String {
    let about = rule
        .map(|rule| rule.about(&alert.labels))
        .unwrap_or_default();
    if about.is_empty() {
        format!("outside {}", source.name)
    } else {
        about
    }
}

/// A subject of its own, unless the source has very many open incidents already.
fn bounded(state: &State, subject: String, detector: &str, source: &Known) -> String {
    if state.open_incident(&subject).is_some() {
        return subject;
    }
    let open = state.open_incidents().filter(|(_, incident)| {
        let mut signals = incident.signals.values();
        signals.any(|it| it.joined.detector == detector)
    });
    if open.count() < MAX_OPEN {
        subject
    } else {
        format!("outside {} (more)", source.name)
    }
}
