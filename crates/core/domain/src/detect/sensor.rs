//! Which measures an event holds.

use std::collections::{BTreeMap, VecDeque};

use sealwarden_runbook::Measure;
use sealwarden_wire::event::v1::{
    ActivationReason, Envelope, Measured, MeasuresTaken, event::Kind,
};

/// How many intents of a log may be open; older ones are let go. A writer has one, two at a restart.
const MAX_OPEN: usize = 64;
/// How many measures of one event are read.
const MAX_MEASURED: usize = 256;

/// Values that came together, in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// How many.
    pub count: u64,
    /// All together.
    pub sum: i64,
    /// The largest.
    pub most: i64,
    /// The last.
    pub last: i64,
}

impl Values {
    /// One value, in whole units.
    pub fn one(value: i64) -> Self {
        let milli = value.saturating_mul(1000);
        Self {
            count: 1,
            sum: milli,
            most: milli,
            last: milli,
        }
    }
}

/// What is taken of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken<'a> {
    /// A measure, of which log, node …, and its values; a count of 0: it was looked for, and there was none.
    Values(Measure, &'a str, Values),
    /// Nothing more of this comes, and that is right: the node ended cleanly.
    Ended(Measure, &'a str),
    /// Something was released: component and version.
    Released(&'a str, &'a str),
}

/// An intent that nothing came of yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OpenIntent {
    size: u64,
    at_ms: i64,
}

/// What has to be known of earlier events.
#[derive(Clone, Debug, Default)]
pub struct Sensor {
    /// The log of an origin.
    origins: BTreeMap<String, String>,
    /// Open intents, by log.
    open: BTreeMap<String, VecDeque<OpenIntent>>,
}

impl Sensor {
    /// Gives what the event holds to `sink`. What was bad of something comes before all of it, so that no share is judged half.
    ///
    /// Each category of streams has its own events: who may write one kind of stream writes nothing that counts in another.
    pub fn take_in(
        &mut self,
        (category, id): (&str, &str),
        envelope: &Envelope,
        kind: &Kind,
        sink: &mut impl FnMut(Taken<'_>),
    ) {
        match category {
            "log" => self.log(id, envelope, kind, sink),
            "keyuse" => key_use(kind, sink),
            "sighting" => self.sighting(kind, sink),
            "archive" => archive(id, kind, sink),
            "measure" => {
                if let Kind::MeasuresTaken(taken) = kind
                    && taken.node == id
                {
                    measured(taken, sink);
                }
            }
            "detect" => detect(kind, sink),
            _ => {}
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only these events of a log are measured"
    )]
    fn log(
        &mut self,
        log: &str,
        envelope: &Envelope,
        kind: &Kind,
        sink: &mut impl FnMut(Taken<'_>),
    ) {
        let one = |measure| Taken::Values(measure, log, Values::one(1));
        match kind {
            Kind::OriginOpened(e) => {
                self.origins.insert(e.origin.clone(), log.to_owned());
                // Sizes begin anew with each tree.
                self.open.remove(log);
            }
            Kind::IntentRecorded(e) => {
                let at_ms = envelope.recorded_at_ms;
                if self.intended(log, e.size, at_ms) {
                    let leaves = i64::try_from(e.size.saturating_sub(e.old_size));
                    let leaves = Values::one(leaves.unwrap_or(i64::MAX));
                    sink(Taken::Values(Measure::Seals, log, leaves));
                    sink(one(Measure::Intents));
                }
            }
            Kind::CheckpointPublished(e) => {
                let (settled, newest_ms) = self.settle(log, e.size);
                if let Some(began_ms) = newest_ms {
                    let took_ms = envelope.recorded_at_ms.saturating_sub(began_ms).max(0);
                    sink(Taken::Values(Measure::PublishMs, log, Values::one(took_ms)));
                }
                settled_intents(log, settled, sink);
                sink(one(Measure::Checkpoints));
            }
            Kind::SignatureWithheld(e) => {
                let (settled, _) = self.settle(log, e.size);
                sink(one(Measure::SignaturesWithheld));
                settled_intents(log, settled, sink);
            }
            Kind::SignersActivated(e) if e.reason() == ActivationReason::Failover => {
                sink(one(Measure::Failovers));
            }
            Kind::PermitRequested(e) => {
                let permit = Values::one(1);
                sink(Taken::Values(Measure::PermitRequests, &e.node, permit));
            }
            Kind::PermitReleased(e) => sink(Taken::Ended(Measure::PermitRequests, &e.node)),
            _ => {}
        }
    }

    /// Keeps an intent; one of a size that is open already is the same batch again.
    fn intended(&mut self, log: &str, size: u64, at_ms: i64) -> bool {
        let Some(open) = self.open.get_mut(log) else {
            let open = VecDeque::from([OpenIntent { size, at_ms }]);
            self.open.insert(log.to_owned(), open);
            return true;
        };
        if open.iter().any(|it| it.size == size) {
            return false;
        }
        if open.len() >= MAX_OPEN {
            open.pop_front();
        }
        open.push_back(OpenIntent { size, at_ms });
        true
    }

    /// Intents up to a size are settled: how many, and when the newest of them was recorded.
    fn settle(&mut self, log: &str, size: u64) -> (i64, Option<i64>) {
        let Some(open) = self.open.get_mut(log) else {
            return (0, None);
        };
        let (mut settled, mut newest_ms) = (0, None);
        open.retain(|it| {
            let done = it.size <= size;
            if done {
                settled += 1;
                newest_ms = newest_ms.max(Some(it.at_ms));
            }
            !done
        });
        (settled, newest_ms)
    }

    fn sighting(&self, kind: &Kind, sink: &mut impl FnMut(Taken<'_>)) {
        let Kind::CheckpointSighted(e) = kind else {
            return;
        };
        // Anybody can show a checkpoint of a name that nobody has.
        let Some(log) = self.origins.get(&e.origin) else {
            return;
        };
        if e.source == "witness" {
            sink(Taken::Values(Measure::WitnessRefusals, log, Values::one(1)));
        }
        sink(Taken::Values(
            Measure::ForeignCheckpoints,
            log,
            Values::one(1),
        ));
    }
}

fn settled_intents(log: &str, settled: i64, sink: &mut impl FnMut(Taken<'_>)) {
    if settled > 0 {
        let values = Values {
            count: u64::try_from(settled).unwrap_or_default(),
            sum: settled.saturating_mul(1000),
            most: 1000,
            last: 1000,
        };
        sink(Taken::Values(Measure::SettledIntents, log, values));
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only these events of an audit are measured"
)]
fn key_use(kind: &Kind, sink: &mut impl FnMut(Taken<'_>)) {
    match kind {
        Kind::KeyUseObserved(e) => {
            sink(Taken::Values(Measure::KeyUses, &e.log, Values::one(1)));
        }
        Kind::AuditGapObserved(e) => {
            sink(Taken::Values(Measure::AuditGaps, &e.node, Values::one(1)));
        }
        _ => {}
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only these events of an archive are measured"
)]
fn archive(id: &str, kind: &Kind, sink: &mut impl FnMut(Taken<'_>)) {
    match kind {
        Kind::RevalidationFinished(_) => {
            sink(Taken::Values(Measure::Revalidations, id, Values::one(1)));
        }
        Kind::ArchiveDamageFound(e) => {
            let found = i64::try_from(e.damage.len()).unwrap_or(i64::MAX);
            sink(Taken::Values(
                Measure::ArchiveDamage,
                id,
                Values::one(found),
            ));
        }
        _ => {}
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only these events of detection itself are measured"
)]
fn detect(kind: &Kind, sink: &mut impl FnMut(Taken<'_>)) {
    match kind {
        Kind::CanaryRun(e) => {
            let took = Values::one(i64::try_from(e.took_ms).unwrap_or(i64::MAX));
            sink(Taken::Values(Measure::CanaryMs, &e.log, took));
            if !e.good {
                sink(Taken::Values(
                    Measure::CanaryFailures,
                    &e.log,
                    Values::one(1),
                ));
            }
            sink(Taken::Values(Measure::Canaries, &e.log, Values::one(1)));
        }
        Kind::ReleaseMarked(e) => sink(Taken::Released(&e.component, &e.version)),
        _ => {}
    }
}

/// Whether a node may tell this measure; the others follow from events, and nobody's word counts for them.
fn is_told(measure: Measure) -> bool {
    match measure {
        Measure::Verdicts
        | Measure::NegativeVerdicts
        | Measure::KeyCalls
        | Measure::KeyErrors
        | Measure::KeyCallMs
        | Measure::QueueDepth
        | Measure::Outside => true,
        Measure::Seals
        | Measure::Intents
        | Measure::SettledIntents
        | Measure::Checkpoints
        | Measure::PublishMs
        | Measure::SignaturesWithheld
        | Measure::KeyUses
        | Measure::Failovers
        | Measure::ForeignCheckpoints
        | Measure::WitnessRefusals
        | Measure::AuditGaps
        | Measure::PermitRequests
        | Measure::Revalidations
        | Measure::ArchiveDamage
        | Measure::Canaries
        | Measure::CanaryFailures
        | Measure::CanaryMs => false,
    }
}

/// What counts the bad ones of a told measure.
fn bad_of(measure: Measure) -> Option<Measure> {
    [
        (Measure::Verdicts, Measure::NegativeVerdicts),
        (Measure::KeyCalls, Measure::KeyErrors),
    ]
    .into_iter()
    .find_map(|(all, bad)| (all == measure).then_some(bad))
}

fn measured(taken: &MeasuresTaken, sink: &mut impl FnMut(Taken<'_>)) {
    let known = taken.measures.iter().take(MAX_MEASURED);
    let mut known: Vec<(Measure, &Measured)> = known
        .filter_map(|it| Some((Measure::from_name(&it.measure)?, it)))
        .filter(|(measure, it)| is_told(*measure) && it.count > 0)
        .collect();
    // Errors stand behind what they are errors of in the order of measures.
    known.sort_by_key(|(measure, _)| std::cmp::Reverse(*measure));
    for &(measure, it) in &known {
        let values = Values {
            count: it.count,
            sum: it.sum.saturating_mul(1000),
            most: it.most.saturating_mul(1000),
            last: it.last.saturating_mul(1000),
        };
        let told = |bad: Measure| {
            let name = |other: &Measured| other.name == it.name;
            known.iter().any(|(other, it)| *other == bad && name(it))
        };
        // That none of them was bad is what a baseline is made of.
        if let Some(bad) = bad_of(measure).filter(|bad| !told(*bad)) {
            sink(Taken::Values(bad, &it.name, Values::default()));
        }
        sink(Taken::Values(measure, &it.name, values));
    }
}
