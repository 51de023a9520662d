//! What a node measures of itself, recorded in its own stream `measure/<node>` every few seconds, if there was anything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sealwarden_domain::fold::event;
use sealwarden_eventlog::{EventLog, StreamName};
use sealwarden_runbook::Measure;
use sealwarden_wire::event::v1::{Measured, MeasuresTaken, event::Kind};

use crate::codec::Meta;
use crate::node::Node;
use crate::stream::{ExecuteError, Stream};

/// How often what was measured is recorded: sums over this time, however much there was.
const RECORD: Duration = Duration::from_secs(5);
/// How long a node that ends waits until what it measured last is recorded.
const LAST: Duration = Duration::from_secs(2);
/// How many names one measure has at most between two records; further ones are left out.
const MAX_NAMES: usize = 32;

/// Values that came together, in the measure's unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Values {
    count: u64,
    sum: i64,
    most: i64,
    last: i64,
}

impl Values {
    fn one(value: i64) -> Self {
        Self {
            count: 1,
            sum: value,
            most: value,
            last: value,
        }
    }

    /// Adds what came later.
    fn add(&mut self, later: Self) {
        self.count = self.count.saturating_add(later.count);
        self.sum = self.sum.saturating_add(later.sum);
        self.most = self.most.max(later.most);
        self.last = later.last;
    }
}

type ByMeasure = BTreeMap<Measure, BTreeMap<String, Values>>;

/// Values that wait to be recorded, as many as there are measures and names and no more. A process that is killed loses those of its last seconds.
#[derive(Debug, Default)]
pub struct Measuring {
    values: Mutex<ByMeasure>,
}

impl Measuring {
    /// Takes a value in, in the measure's unit; `name` says of which log, node or key provider.
    pub fn add(&self, measure: Measure, name: &str, value: i64) {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        add(&mut values, measure, name, Values::one(value));
    }

    /// Records what was measured every few seconds, and once more at shutdown; `look` adds what has to be looked at. While the event log cannot be reached, values add up.
    pub async fn keep(&self, node: &Node, look: impl Fn(&Self) + Send) {
        let mut from_ms = node.clock.now().wall_ms;
        loop {
            let ended = tokio::select! {
                () = node.shutdown.cancelled() => true,
                () = tokio::time::sleep(RECORD) => false,
            };
            look(self);
            let to_ms = node.clock.now().wall_ms;
            let recording = self.record(&node.log, &node.name, (from_ms, to_ms));
            let recorded = if ended {
                tokio::time::timeout(LAST, recording).await
            } else {
                Ok(recording.await)
            };
            match recorded {
                Ok(Ok(())) => from_ms = to_ms,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "what was measured is not recorded yet");
                }
                Err(_elapsed) => {
                    tracing::warn!("what was measured last is not recorded: the event log is slow");
                }
            }
            if ended {
                return;
            }
        }
    }

    /// Records what waits, if anything does. What was not stored waits on.
    async fn record(
        &self,
        log: &Arc<dyn EventLog>,
        node: &str,
        (from_ms, to_ms): (i64, i64),
    ) -> Result<(), ExecuteError> {
        let taken =
            std::mem::take(&mut *self.values.lock().unwrap_or_else(PoisonError::into_inner));
        if taken.is_empty() {
            return Ok(());
        }
        let measures = MeasuresTaken {
            node: node.to_owned(),
            from_ms,
            to_ms,
            measures: measured(&taken),
        };
        match append(log, node, measures).await {
            Ok(()) => Ok(()),
            // It may stand there already, and nothing is counted twice.
            Err(error @ ExecuteError::Unknown(_)) => Err(error),
            Err(error) => {
                self.put_back(taken);
                Err(error)
            }
        }
    }

    fn put_back(&self, earlier: ByMeasure) {
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        let later = std::mem::replace(&mut *values, earlier);
        for (measure, names) in later {
            for (name, later) in names {
                add(&mut values, measure, &name, later);
            }
        }
    }
}

fn add(values: &mut ByMeasure, measure: Measure, name: &str, later: Values) {
    let names = values.entry(measure).or_default();
    if let Some(known) = names.get_mut(name) {
        known.add(later);
    } else if names.len() < MAX_NAMES {
        names.insert(name.to_owned(), later);
    }
}

fn measured(taken: &ByMeasure) -> Vec<Measured> {
    let all = taken.iter().flat_map(|(measure, names)| {
        names.iter().map(|(name, values)| Measured {
            measure: measure.as_str().to_owned(),
            name: name.clone(),
            count: values.count,
            sum: values.sum,
            most: values.most,
            last: values.last,
        })
    });
    all.collect()
}

async fn append(
    log: &Arc<dyn EventLog>,
    node: &str,
    measures: MeasuresTaken,
) -> Result<(), ExecuteError> {
    let name = StreamName::new("measure", node).map_err(|e| ExecuteError::Broken(e.to_string()))?;
    let mut stream = Stream::at_its_end(Arc::clone(log), name).await?;
    let taken = event(Kind::MeasuresTaken(measures));
    let executed = stream.execute(Meta::node(node), |_| Ok(vec![taken.clone()]));
    executed.await.map(drop)
}

#[cfg(test)]
mod tests {
    use sealwarden_eventlog::{Filter, Memory};
    use sealwarden_wire::event::v1::Commit;

    use super::*;
    use crate::codec::decode;

    fn memory() -> Arc<dyn EventLog> {
        Arc::new(Memory::new())
    }

    async fn recorded(log: &Arc<dyn EventLog>) -> Vec<MeasuresTaken> {
        let last = log.last_position().await.unwrap();
        let mut subscription = log.subscribe(Filter::All, 0).await.unwrap();
        let mut all = Vec::new();
        let mut at = 0;
        while at < last {
            let recorded = subscription.next_commit().await.unwrap().unwrap();
            at = recorded.position;
            let commit: Commit = decode(&recorded).unwrap();
            for event in commit.events {
                if let Some(Kind::MeasuresTaken(taken)) = event.kind {
                    all.push(taken);
                }
            }
        }
        all
    }

    #[tokio::test]
    async fn many_values_are_one_event_and_nothing_is_none() {
        let (log, measuring) = (memory(), Measuring::default());
        measuring.record(&log, "sealing-1", (0, 5)).await.unwrap();
        assert!(recorded(&log).await.is_empty());
        for ms in [3, 9, 4] {
            measuring.add(Measure::KeyCallMs, "software", ms);
        }
        measuring.add(Measure::KeyCalls, "hsm", 1);
        measuring.record(&log, "sealing-1", (5, 10)).await.unwrap();
        measuring.record(&log, "sealing-1", (10, 15)).await.unwrap();
        let all = recorded(&log).await;
        assert_eq!(all.len(), 1, "{all:?}");
        assert_eq!((all[0].from_ms, all[0].to_ms), (5, 10));
        let values = all[0].measures.iter().map(|it| {
            let values = (it.count, it.sum, it.most, it.last);
            (it.measure.as_str(), it.name.as_str(), values)
        });
        assert_eq!(
            values.collect::<Vec<_>>(),
            [
                ("key-calls", "hsm", (1, 1, 1, 1)),
                ("key-call-ms", "software", (3, 16, 9, 4)),
            ]
        );
    }

    #[tokio::test]
    async fn what_was_not_stored_comes_with_the_next_and_in_its_order() {
        let (log, measuring) = (memory(), Measuring::default());
        measuring.add(Measure::QueueDepth, "main", 70);
        // A node's name that no stream can have is refused before anything is stored.
        let refused = measuring.record(&log, "no name", (0, 5)).await;
        assert!(matches!(refused, Err(ExecuteError::Broken(_))));
        measuring.add(Measure::QueueDepth, "main", 50);
        let taken = std::mem::take(&mut *measuring.values.lock().unwrap());
        measuring.add(Measure::QueueDepth, "main", 60);
        measuring.put_back(taken);
        measuring.record(&log, "sealing-1", (0, 10)).await.unwrap();
        let all = recorded(&log).await;
        let it = &all[0].measures[0];
        assert_eq!((it.count, it.sum, it.most, it.last), (3, 180, 70, 60));
    }

    #[test]
    fn names_beyond_the_bound_are_left_out() {
        let measuring = Measuring::default();
        for n in 0..100 {
            measuring.add(Measure::KeyCalls, &format!("provider-{n}"), 1);
        }
        let values = measuring.values.lock().unwrap();
        assert_eq!(values[&Measure::KeyCalls].len(), MAX_NAMES);
    }
}
