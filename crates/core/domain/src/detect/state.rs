//! The detectors in force, and what each of them has seen.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use sealwarden_runbook::{Detector, Detectors, Measure, Rule, SubjectKind};
use sealwarden_wire::event::v1::{NearMissRecorded, Reading};

use super::judge::Judged;
use super::sensor::{Taken, Values};
use super::series::Data;
use super::words;

/// How many logs, nodes … one detector looks at; more are counted.
pub const MAX_SERIES: usize = 256;
/// How many positions of events a conclusion names: the last ones.
const MAX_EVENTS: usize = 8;

/// A detector says that something is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Conclusion {
    /// The detector.
    pub detector: String,
    /// The class of incidents.
    pub class: String,
    /// What it is about.
    pub subject: String,
    /// The log, if it is one.
    pub log: String,
    /// What was seen.
    pub seen: String,
    /// What was expected.
    pub expected: String,
    /// The numbers.
    pub reading: Reading,
    /// Positions of the last events that counted.
    pub events: Vec<u64>,
    /// When, Unix milliseconds of recorded time.
    pub at_ms: i64,
}

/// What came of an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A signal.
    Concluded(Box<Conclusion>),
    /// It came near and went away again. Its id is the recorder's to give.
    NearMiss(Box<NearMissRecorded>),
}

/// What a detector sees of one log, node … now.
#[derive(Clone, Debug, PartialEq)]
pub struct Watched {
    /// The detector.
    pub detector: String,
    /// Of which log, node ….
    pub name: String,
    /// What it sees; `None` where it has too little.
    pub reading: Option<Reading>,
    /// `quiet`, `near` or `signal`.
    pub phase: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Quiet,
    Near { peak: Judged, at_ms: i64 },
    Signal,
}

#[derive(Clone, Debug)]
struct Series {
    /// Of which log, node ….
    name: Arc<str>,
    data: Data,
    phase: Phase,
    /// When it last concluded, and when a near miss was last told.
    concluded_ms: Option<i64>,
    missed_ms: Option<i64>,
    /// Near misses that were counted only.
    further: u64,
    events: VecDeque<u64>,
    due_ms: Option<i64>,
    last: Option<Judged>,
}

impl Series {
    fn new(name: &str, rule: &Rule) -> Self {
        Self {
            name: Arc::from(name),
            data: Data::new(rule),
            phase: Phase::Quiet,
            concluded_ms: None,
            missed_ms: None,
            further: 0,
            events: VecDeque::new(),
            due_ms: None,
            last: None,
        }
    }
}

#[derive(Clone, Debug)]
struct InForce {
    detector: Detector,
    series: BTreeMap<Arc<str>, Series>,
    /// The newest release that its series are compared with.
    released: String,
    /// Values of names that found no room.
    unseen: u64,
}

/// The detectors in force.
#[derive(Clone, Debug, Default)]
pub struct Detecting {
    detectors: Vec<InForce>,
    /// Which detectors look at a measure, by its place.
    watching: Vec<Vec<usize>>,
    /// When which series has to be judged again.
    due: Due,
    now_ms: i64,
}

impl Detecting {
    /// These detectors are in force from here on. One that says the same as before goes on with what it has seen.
    pub fn install(&mut self, detectors: &Detectors) {
        let mut before: BTreeMap<String, InForce> = std::mem::take(&mut self.detectors)
            .into_iter()
            .map(|it| (it.detector.name.clone(), it))
            .collect();
        self.due.clear();
        self.watching = vec![Vec::new(); Measure::ALL.len()];
        for detector in detectors.detectors().values() {
            let kept = before
                .remove(&detector.name)
                .filter(|it| it.detector.same(detector));
            let place = self.detectors.len();
            for measure in detector.rule.measures() {
                if let Some(watching) = self.watching.get_mut(measure.index()) {
                    watching.push(place);
                }
            }
            let in_force = kept.unwrap_or_else(|| InForce {
                detector: detector.clone(),
                series: BTreeMap::new(),
                released: String::new(),
                unseen: 0,
            });
            for (name, series) in &in_force.series {
                let due = series
                    .due_ms
                    .map(|due_ms| (due_ms, place, Arc::clone(name)));
                self.due.extend(due);
            }
            self.detectors.push(in_force);
        }
    }

    /// Time goes on: what silence or a window's end means is judged.
    pub fn pass(&mut self, at_ms: i64, outcomes: &mut Vec<Outcome>) {
        self.now_ms = self.now_ms.max(at_ms);
        while self
            .due
            .first()
            .is_some_and(|(due_ms, ..)| *due_ms <= self.now_ms)
        {
            let Some((due_ms, place, name)) = self.due.pop_first() else {
                return;
            };
            let Some(in_force) = self.detectors.get_mut(place) else {
                continue;
            };
            if let Some(series) = in_force.series.get_mut(&name) {
                series.due_ms = None;
                // Each at its own time, so that it matters nothing how often somebody looks.
                let step = Step::new(&in_force.detector, &name, &in_force.released, due_ms);
                outcomes.extend(step.judge(series, place, &mut self.due));
            }
        }
    }

    /// Takes in what an event at this position and time holds. Call [`Self::pass`] first.
    pub fn take_in(&mut self, taken: Taken<'_>, position: u64, outcomes: &mut Vec<Outcome>) {
        match taken {
            Taken::Values(measure, name, values) => {
                let Some(watching) = self.watching.get(measure.index()) else {
                    return;
                };
                for at in 0..watching.len() {
                    let place = self.watching.get(measure.index()).and_then(|it| it.get(at));
                    if let Some(place) = place.copied() {
                        self.add(place, measure, name, &values, position, outcomes);
                    }
                }
            }
            Taken::Ended(measure, name) => {
                let places = self.watching.get(measure.index()).cloned();
                for place in places.unwrap_or_default() {
                    let in_force = self.detectors.get_mut(place);
                    if let Some(series) = in_force.and_then(|it| it.series.get_mut(name)) {
                        series.data.end();
                        series.phase = Phase::Quiet;
                    }
                }
            }
            Taken::Released(component, version) => {
                let now_ms = self.now_ms;
                for in_force in &mut self.detectors {
                    if matches!(in_force.detector.rule, Rule::Release { .. }) {
                        in_force.released = format!("{component} {version}");
                        for series in in_force.series.values_mut() {
                            series.data.release(now_ms);
                        }
                    }
                }
            }
        }
    }

    fn add(
        &mut self,
        place: usize,
        measure: Measure,
        name: &str,
        values: &Values,
        position: u64,
        outcomes: &mut Vec<Outcome>,
    ) {
        let at_ms = self.now_ms;
        let Some(in_force) = self.detectors.get_mut(place) else {
            return;
        };
        let detector = &in_force.detector;
        if !detector.only.is_empty() && !detector.only.contains(name) {
            return;
        }
        if !in_force.series.contains_key(name) {
            if in_force.series.len() >= MAX_SERIES {
                in_force.unseen = in_force.unseen.saturating_add(1);
                return;
            }
            let new = Series::new(name, &detector.rule);
            in_force.series.insert(Arc::clone(&new.name), new);
        }
        let Some(series) = in_force.series.get_mut(name) else {
            return;
        };
        let none = values.count == 0;
        if !none && series.events.back() != Some(&position) {
            if series.events.len() >= MAX_EVENTS {
                series.events.pop_front();
            }
            series.events.push_back(position);
        }
        let ended = if none {
            None
        } else {
            series.data.add(&detector.rule, measure, values, at_ms)
        };
        let step = Step::new(detector, name, &in_force.released, at_ms);
        if let Some(ended) = ended {
            outcomes.extend(step.settle(series, Some(ended)));
        }
        if !Data::is_half(&detector.rule, measure) {
            outcomes.extend(step.judge(series, place, &mut self.due));
        }
    }

    /// When something has to be judged although nothing comes, Unix milliseconds.
    pub fn next_due_ms(&self) -> Option<i64> {
        self.due.first().map(|(due_ms, ..)| *due_ms)
    }

    /// What each detector sees now.
    pub fn watched(&self) -> Vec<Watched> {
        let all = self.detectors.iter().flat_map(|in_force| {
            in_force.series.iter().map(|(name, series)| Watched {
                detector: in_force.detector.name.clone(),
                name: name.to_string(),
                reading: series
                    .last
                    .map(|last| words::reading(&in_force.detector, name, &last, self.now_ms)),
                phase: match series.phase {
                    Phase::Quiet => "quiet",
                    Phase::Near { .. } => "near",
                    Phase::Signal => "signal",
                },
            })
        });
        all.collect()
    }

    /// The detectors in force, each with how many values found no room.
    pub fn in_force(&self) -> impl Iterator<Item = (&Detector, u64)> {
        self.detectors.iter().map(|it| (&it.detector, it.unseen))
    }
}

/// What is needed to say what a judgement means.
struct Step<'a> {
    detector: &'a Detector,
    name: &'a str,
    released: &'a str,
    at_ms: i64,
}

/// When which series of which detector has to be judged again.
type Due = BTreeSet<(i64, usize, Arc<str>)>;

impl<'a> Step<'a> {
    fn new(detector: &'a Detector, name: &'a str, released: &'a str, at_ms: i64) -> Self {
        Self {
            detector,
            name,
            released,
            at_ms,
        }
    }

    /// Judges a series, and says when that has to be done again although nothing comes.
    fn judge(&self, series: &mut Series, place: usize, due: &mut Due) -> Option<Outcome> {
        let (rule, at_ms) = (&self.detector.rule, self.at_ms);
        let judged = series.data.judge(rule, at_ms);
        let outcome = self.settle(series, judged);
        let quiet = series.phase == Phase::Quiet;
        let due_ms = series.data.due_ms(rule, quiet, at_ms);
        if due_ms != series.due_ms {
            if let Some(before) = series.due_ms {
                due.remove(&(before, place, Arc::clone(&series.name)));
            }
            if let Some(due_ms) = due_ms {
                due.insert((due_ms, place, Arc::clone(&series.name)));
            }
            series.due_ms = due_ms;
        }
        outcome
    }

    /// Moves a series on by a judgement. It stays a signal until it is no longer near.
    fn settle(&self, series: &mut Series, judged: Option<Judged>) -> Option<Outcome> {
        if judged.is_some() {
            series.last = judged;
        }
        let from = i64::from(self.detector.near) * 10;
        let crossed = judged.filter(|it| it.crossed);
        let near = judged.filter(|it| from > 0 && it.share >= from);
        match (series.phase, crossed, near) {
            (Phase::Signal, Some(_), _) | (Phase::Signal, None, Some(_)) => None,
            (Phase::Quiet | Phase::Near { .. }, Some(it), _) => {
                series.phase = Phase::Signal;
                let recent =
                    |before: i64| self.at_ms.saturating_sub(before) < self.detector.again_ms;
                if series.concluded_ms.is_some_and(recent) {
                    return None;
                }
                series.concluded_ms = Some(self.at_ms);
                Some(self.conclude(series, &it))
            }
            (Phase::Quiet, None, Some(peak)) => {
                let at_ms = self.at_ms;
                series.phase = Phase::Near { peak, at_ms };
                None
            }
            (Phase::Near { peak, .. }, None, Some(it)) => {
                if it.share > peak.share {
                    let at_ms = self.at_ms;
                    series.phase = Phase::Near { peak: it, at_ms };
                }
                None
            }
            (Phase::Near { peak, at_ms }, None, None) => {
                series.phase = Phase::Quiet;
                self.miss(series, &peak, at_ms)
            }
            (Phase::Signal | Phase::Quiet, None, None) => {
                series.phase = Phase::Quiet;
                None
            }
        }
    }

    fn conclude(&self, series: &Series, it: &Judged) -> Outcome {
        let of = words::measure(&self.detector.rule).map(Measure::of);
        let log = if of == Some(SubjectKind::Log) {
            self.name
        } else {
            ""
        };
        Outcome::Concluded(Box::new(Conclusion {
            detector: self.detector.name.clone(),
            class: self.detector.class.clone(),
            subject: words::subject(self.detector, self.name),
            log: log.to_owned(),
            seen: words::seen(self.detector, self.name, self.released, it),
            expected: words::expected(self.detector, it),
            reading: words::reading(self.detector, self.name, it, self.at_ms),
            events: series.events.iter().copied().collect(),
            at_ms: self.at_ms,
        }))
    }

    fn miss(&self, series: &mut Series, peak: &Judged, at_ms: i64) -> Option<Outcome> {
        let recent = |before: i64| self.at_ms.saturating_sub(before) < self.detector.again_ms;
        if series.missed_ms.is_some_and(recent) {
            series.further = series.further.saturating_add(1);
            return None;
        }
        series.missed_ms = Some(self.at_ms);
        Some(Outcome::NearMiss(Box::new(NearMissRecorded {
            near_miss: String::new(),
            detector: self.detector.name.clone(),
            subject: words::subject(self.detector, self.name),
            seen: words::seen(self.detector, self.name, self.released, peak),
            expected: words::expected(self.detector, peak),
            reading: Some(words::reading(self.detector, self.name, peak, at_ms)),
            events: series.events.iter().copied().collect(),
            further: std::mem::take(&mut series.further),
        })))
    }
}
