//! What other detectors would have said about what is recorded, against what was said.

use std::collections::BTreeMap;

use sealwarden_domain::detect::{Conclusion, Detecting, Outcome, Sensor};
use sealwarden_engine::{Node, decode};
use sealwarden_eventlog::{Delivery, Filter};
use sealwarden_runbook::Detectors;
use sealwarden_wire::event::v1::{Commit, SignalReported};
use sealwarden_wire::incident::v1 as api;
use tonic::Status;

use crate::state::State;
use crate::watching;

/// How many signals one answer holds; more are counted.
const MAX_SIGNALS: usize = 500;

/// Detectors over recorded events, apart from the service's own.
struct Rerun {
    sensor: Sensor,
    detecting: Detecting,
    since_ms: i64,
    events: u64,
    near_misses: u64,
    /// Those that found no room in the answer.
    further: u64,
    concluded: Vec<Conclusion>,
}

impl Rerun {
    fn take_in(&mut self, commit: &Commit) {
        let Some(envelope) = &commit.envelope else {
            return;
        };
        let stream = envelope.stream.split_once('/').unwrap_or_default();
        let mut outcomes = Vec::new();
        self.detecting.pass(envelope.recorded_at_ms, &mut outcomes);
        for kind in commit.events.iter().filter_map(|event| event.kind.as_ref()) {
            self.events = self.events.saturating_add(1);
            let (detecting, position) = (&mut self.detecting, envelope.position);
            self.sensor.take_in(stream, envelope, kind, &mut |taken| {
                detecting.take_in(taken, position, &mut outcomes);
            });
        }
        for outcome in outcomes {
            match outcome {
                Outcome::Concluded(it) if it.at_ms < self.since_ms => {}
                Outcome::Concluded(it) if self.concluded.len() < MAX_SIGNALS => {
                    self.concluded.push(*it);
                }
                Outcome::Concluded(_) => self.further = self.further.saturating_add(1),
                Outcome::NearMiss(_) => self.near_misses = self.near_misses.saturating_add(1),
            }
        }
    }
}

/// Runs detectors over everything that is recorded up to now. What came before `since_ms` is read, since a baseline needs it, and not told.
pub(crate) async fn backtest(
    node: &Node,
    detectors: &Detectors,
    since_ms: i64,
) -> Result<(Vec<SignalReported>, api::BacktestResponse), Status> {
    let unavailable = |error: String| Status::unavailable(error);
    let edge = node.log.last_position().await;
    let edge = edge.map_err(|e| unavailable(e.to_string()))?;
    let mut rerun = Rerun {
        sensor: Sensor::default(),
        detecting: Detecting::default(),
        since_ms,
        events: 0,
        near_misses: 0,
        further: 0,
        concluded: Vec::new(),
    };
    rerun.detecting.install(detectors);
    let subscription = node.log.subscribe(Filter::All, 0).await;
    let mut subscription = subscription.map_err(|e| unavailable(e.to_string()))?;
    let mut position = 0;
    while position < edge {
        match subscription.next().await {
            Some(Ok(Delivery::Commit(recorded))) => {
                position = recorded.position;
                if let Ok(commit) = decode(&recorded) {
                    rerun.take_in(&commit);
                }
            }
            Some(Ok(Delivery::Damaged(damage))) => position = damage.position,
            Some(Ok(Delivery::CaughtUp(at))) => position = position.max(at),
            Some(Err(error)) => return Err(unavailable(error.to_string())),
            None => return Err(unavailable("the event log was closed".to_owned())),
        }
    }
    let response = api::BacktestResponse {
        events: rerun.events,
        near_misses: rerun.near_misses,
        further: rerun.further,
        ..api::BacktestResponse::default()
    };
    let signals = rerun.concluded.into_iter().map(watching::signal);
    Ok((signals.collect(), response))
}

/// Puts what would have been said beside what was. Two are the same if detector and subject are and neither is later than the detector's `again` behind the other.
pub(crate) fn compare(
    state: &State,
    detectors: &Detectors,
    since_ms: i64,
    found: &[SignalReported],
) -> Vec<api::BacktestSignal> {
    let at = |signal: &SignalReported| signal.reading.as_ref().map_or(0, |it| it.to_ms);
    let known = state.signals.values().map(|it| &it.reported);
    let mut said: BTreeMap<&str, &SignalReported> = known
        .filter(|it| it.reading.is_some() && at(it) >= since_ms)
        .map(|it| (it.signal.as_str(), it))
        .collect();
    let mut listed = Vec::new();
    for signal in found {
        let again_ms = detectors
            .detector(&signal.detector)
            .map_or(0, |it| it.again_ms);
        let same = |it: &SignalReported| {
            it.detector == signal.detector
                && it.subject == signal.subject
                && at(it).abs_diff(at(signal)) <= again_ms.unsigned_abs()
        };
        let met = said.get(signal.signal.as_str()).copied();
        let met = met.or_else(|| said.values().copied().find(|it| same(it)));
        let (standing, id) = match met {
            Some(met) => ("both", met.signal.clone()),
            None => ("would", String::new()),
        };
        said.remove(id.as_str());
        listed.push(line(signal, standing, id, at(signal)));
    }
    listed.extend(
        said.values()
            .map(|it| line(it, "did", it.signal.clone(), at(it))),
    );
    listed.sort_by_key(|it| it.at_ms);
    listed
}

fn line(signal: &SignalReported, standing: &str, id: String, at_ms: i64) -> api::BacktestSignal {
    api::BacktestSignal {
        standing: standing.to_owned(),
        signal: id,
        detector: signal.detector.clone(),
        class: signal.class.clone(),
        subject: signal.subject.clone(),
        seen: signal.seen.clone(),
        expected: signal.expected.clone(),
        at_ms,
    }
}
