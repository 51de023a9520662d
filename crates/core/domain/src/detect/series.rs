//! What a rule keeps of one log, node …, and how it judges that.

use std::collections::VecDeque;

use sealwarden_runbook::{Bound, Measure, Rule};

use super::baseline::Anomaly;
use super::burn::Burn;
use super::judge::{Judged, judge_window, judged, meet, ratio, silence, wait};
use super::sensor::Values;
use super::window::Window;

/// The shortest pause before something is judged again without an event, milliseconds.
const LEAST_PAUSE_MS: i64 = 1_000;
/// After how many times what it was given something that nobody answered is forgotten.
const FORGET: i64 = 10;

/// What a rule keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    Proven,
    Window {
        window: Window,
        /// When the first value came: less than enough is no news before a whole window went by.
        first_ms: Option<i64>,
    },
    Anomaly(Anomaly),
    BurnRate(Vec<Burn>),
    Absence {
        last_ms: Option<i64>,
    },
    CrossCheck {
        /// What has no other yet: from when, and how many.
        waiting: VecDeque<(i64, i64)>,
        overdue: i64,
        overdue_since_ms: i64,
    },
    Probe {
        failures: i64,
        failed: bool,
        last_ms: Option<i64>,
    },
    Release {
        all: Window,
        bad: Window,
        marked: Option<Marked>,
    },
}

/// What was before a release, and what came since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marked {
    at_ms: i64,
    before: (i64, i64),
    since: (i64, i64),
}

impl Data {
    pub(super) fn new(rule: &Rule) -> Self {
        match rule {
            Rule::Proven => Self::Proven,
            Rule::Window { window_ms, .. } => Self::Window {
                window: Window::new(*window_ms),
                first_ms: None,
            },
            Rule::Anomaly { .. } => Self::Anomaly(Anomaly::default()),
            Rule::BurnRate { windows, .. } => {
                Self::BurnRate(windows.iter().map(Burn::new).collect())
            }
            Rule::Absence { .. } => Self::Absence { last_ms: None },
            Rule::CrossCheck { .. } => Self::CrossCheck {
                waiting: VecDeque::new(),
                overdue: 0,
                overdue_since_ms: 0,
            },
            Rule::Probe { .. } => Self::Probe {
                failures: 0,
                failed: false,
                last_ms: None,
            },
            Rule::Release { window_ms, .. } => Self::Release {
                all: Window::new(*window_ms),
                bad: Window::new(*window_ms),
                marked: None,
            },
        }
    }

    /// Takes in values of a measure that the rule looks at. Gives what a silence that they end was.
    pub(super) fn add(
        &mut self,
        rule: &Rule,
        measure: Measure,
        values: &Values,
        at_ms: i64,
    ) -> Option<Judged> {
        match (self, rule) {
            (Self::Window { window, first_ms }, _) => {
                first_ms.get_or_insert(at_ms);
                window.add(at_ms, values);
            }
            (
                Self::Anomaly(anomaly),
                Rule::Anomaly {
                    of,
                    method,
                    bucket_ms,
                    buckets,
                    ..
                },
            ) => {
                anomaly.roll(at_ms.div_euclid(*bucket_ms), *of, *method, *buckets);
                anomaly.add(values);
            }
            (Self::BurnRate(burns), Rule::BurnRate { bad, .. }) => {
                for burn in burns {
                    burn.add(at_ms, values, measure == *bad);
                }
            }
            (Self::Absence { last_ms }, Rule::Absence { within_ms, .. }) => {
                let ended = last_ms.map(|last_ms| silence(last_ms, *within_ms, at_ms));
                *last_ms = Some(at_ms);
                return ended;
            }
            (
                Self::CrossCheck {
                    waiting, overdue, ..
                },
                Rule::CrossCheck {
                    needs, within_ms, ..
                },
            ) => {
                let count = i64::try_from(values.count).unwrap_or(i64::MAX);
                if measure == *needs {
                    meet(waiting, overdue, count);
                } else {
                    wait(waiting, at_ms, count, *within_ms);
                }
            }
            (
                Self::Probe {
                    failures,
                    failed,
                    last_ms,
                },
                Rule::Probe { slower_ms, .. },
            ) => {
                *failed |= measure == Measure::CanaryFailures
                    || measure == Measure::CanaryMs && values.most > slower_ms.saturating_mul(1000);
                // The canary itself comes last.
                if measure == Measure::Canaries {
                    *failures = if *failed {
                        failures.saturating_add(1)
                    } else {
                        0
                    };
                    *failed = false;
                    *last_ms = Some(at_ms);
                }
            }
            (Self::Release { all, bad, marked }, Rule::Release { bad: wrong, .. }) => {
                let is_bad = measure == *wrong;
                if is_bad {
                    bad.add(at_ms, values);
                } else {
                    all.add(at_ms, values);
                }
                if let Some(marked) = marked {
                    let count = i64::try_from(values.count).unwrap_or(i64::MAX);
                    let since = &mut marked.since;
                    let side = if is_bad { &mut since.1 } else { &mut since.0 };
                    *side = side.saturating_add(count);
                }
            }
            (
                Self::Proven
                | Self::Anomaly(_)
                | Self::BurnRate(_)
                | Self::Absence { .. }
                | Self::CrossCheck { .. }
                | Self::Probe { .. }
                | Self::Release { .. },
                _,
            ) => {}
        }
        None
    }

    /// Whether values of this measure are half of something, so that nothing is judged yet.
    pub(super) fn is_half(rule: &Rule, measure: Measure) -> bool {
        match rule {
            Rule::BurnRate { bad, .. } | Rule::Release { bad, .. } => measure == *bad,
            Rule::Probe { .. } => measure != Measure::Canaries,
            Rule::Proven
            | Rule::Window { .. }
            | Rule::Anomaly { .. }
            | Rule::Absence { .. }
            | Rule::CrossCheck { .. } => false,
        }
    }

    /// What came is all that comes, and that is right.
    pub(super) fn end(&mut self) {
        if let Self::Absence { last_ms } = self {
            *last_ms = None;
        }
    }

    /// Something was released.
    pub(super) fn release(&mut self, at_ms: i64) {
        if let Self::Release { all, bad, marked } = self {
            all.advance(at_ms);
            bad.advance(at_ms);
            let count = |window: &Window| i64::try_from(window.count()).unwrap_or(i64::MAX);
            *marked = Some(Marked {
                at_ms,
                before: (count(all), count(bad)),
                since: (0, 0),
            });
        }
    }

    /// Judges at this time; `None` where there is nothing to judge.
    pub(super) fn judge(&mut self, rule: &Rule, at_ms: i64) -> Option<Judged> {
        match (self, rule) {
            (
                Self::Window { window, first_ms },
                Rule::Window {
                    of,
                    window_ms,
                    limit,
                    samples,
                    ..
                },
            ) => {
                window.advance(at_ms);
                let whole = first_ms.is_some_and(|first| first + window_ms <= at_ms);
                judge_window(window, *of, *limit, *samples, whole, *window_ms)
            }
            (
                Self::Anomaly(anomaly),
                Rule::Anomaly {
                    of,
                    method,
                    bucket_ms,
                    buckets,
                    score,
                    least,
                    ..
                },
            ) => {
                let now = at_ms.div_euclid(*bucket_ms);
                let judged = anomaly.judge(now, *of, (*score, *least), *buckets, *bucket_ms);
                anomaly.roll(now, *of, *method, *buckets);
                judged
            }
            (
                Self::BurnRate(burns),
                Rule::BurnRate {
                    budget_ppm,
                    windows,
                    samples,
                    ..
                },
            ) => {
                let pairs = burns.iter_mut().zip(windows);
                let judged = pairs.filter_map(|(burn, pair)| {
                    burn.advance(at_ms);
                    burn.judge(pair, *budget_ppm, *samples)
                });
                judged.max_by_key(|judged| judged.share)
            }
            (Self::Absence { last_ms }, Rule::Absence { within_ms, .. }) => {
                last_ms.map(|last_ms| silence(last_ms, *within_ms, at_ms))
            }
            (data @ Self::CrossCheck { .. }, Rule::CrossCheck { .. }) => data.overdue(rule, at_ms),
            (data @ Self::Probe { .. }, Rule::Probe { .. }) => data.probe(rule, at_ms),
            (data @ Self::Release { .. }, Rule::Release { .. }) => data.released(rule, at_ms),
            (
                Self::Proven
                | Self::Window { .. }
                | Self::Anomaly(_)
                | Self::BurnRate(_)
                | Self::Absence { .. }
                | Self::CrossCheck { .. }
                | Self::Probe { .. }
                | Self::Release { .. },
                _,
            ) => None,
        }
    }

    fn overdue(&mut self, rule: &Rule, at_ms: i64) -> Option<Judged> {
        let Self::CrossCheck {
            waiting,
            overdue,
            overdue_since_ms,
        } = self
        else {
            return None;
        };
        let Rule::CrossCheck {
            within_ms, allowed, ..
        } = rule
        else {
            return None;
        };
        // What nobody ever answers is told once and then forgotten.
        if *overdue > 0 && *overdue_since_ms + FORGET * within_ms <= at_ms {
            *overdue = 0;
        }
        while let Some((since_ms, count)) = waiting.front().copied() {
            if since_ms + within_ms > at_ms {
                break;
            }
            waiting.pop_front();
            *overdue = overdue.saturating_add(count);
            *overdue_since_ms = at_ms;
        }
        let milli = |count: i64| count.saturating_mul(1000);
        Some(Judged {
            crossed: *overdue > *allowed,
            samples: u64::try_from(*overdue).unwrap_or_default(),
            ..judged(milli(*overdue), milli(*allowed), *within_ms)
        })
    }

    fn probe(&mut self, rule: &Rule, at_ms: i64) -> Option<Judged> {
        let Self::Probe {
            failures, last_ms, ..
        } = self
        else {
            return None;
        };
        let Rule::Probe {
            failures: most,
            within_ms,
            ..
        } = rule
        else {
            return None;
        };
        let last_ms = (*last_ms)?;
        let quiet = silence(last_ms, *within_ms, at_ms);
        if quiet.crossed {
            return Some(Judged {
                silent: true,
                ..quiet
            });
        }
        let limit = i64::from(*most).saturating_mul(1000);
        let value = failures.saturating_mul(1000);
        Some(Judged {
            crossed: value >= limit,
            samples: u64::try_from(*failures).unwrap_or_default(),
            ..judged(value, limit, 0)
        })
    }

    fn released(&mut self, rule: &Rule, at_ms: i64) -> Option<Judged> {
        let Self::Release { marked, .. } = self else {
            return None;
        };
        let Rule::Release {
            window_ms,
            factor,
            least,
            ..
        } = rule
        else {
            return None;
        };
        if marked.is_some_and(|it| it.at_ms + window_ms < at_ms) {
            *marked = None; // what comes later is no longer the release's
        }
        let marked = (*marked)?;
        let ((all_before, bad_before), (all, bad)) = (marked.before, marked.since);
        if all == 0 || all_before == 0 {
            return None;
        }
        // One bad one more before than there was: nothing is no share to compare with.
        let before = (i128::from(bad_before) + 1, i128::from(all_before) + 1);
        let value = ratio(
            i128::from(bad) * before.1 * 1000,
            i128::from(all) * before.0,
        );
        let enough = bad >= *least;
        let share = ratio(i128::from(value) * 1000, i128::from(*factor));
        Some(Judged {
            crossed: enough && value > *factor,
            share: if enough { share } else { 0 },
            baseline: ratio(before.0 * 100_000, before.1),
            samples: u64::try_from(all).unwrap_or_default(),
            ..judged(value, *factor, *window_ms)
        })
    }

    /// When it has to be judged again although nothing comes; `None`: not before something does.
    pub(super) fn due_ms(&self, rule: &Rule, quiet: bool, at_ms: i64) -> Option<i64> {
        match (self, rule) {
            (
                Self::Window { window, first_ms },
                Rule::Window {
                    limit, window_ms, ..
                },
            ) => {
                let falls = matches!(limit, Bound::Below(_));
                let whole = first_ms.is_some_and(|first| first + window_ms <= at_ms);
                // Once it is empty for good, only an event changes it.
                let settled = whole && window.count() == 0;
                ((falls || !quiet) && !settled)
                    .then(|| at_ms + window.slot_ms().max(LEAST_PAUSE_MS))
            }
            (Self::Anomaly(anomaly), Rule::Anomaly { bucket_ms, .. }) => {
                let filling = anomaly.fills() || !quiet;
                filling.then(|| anomaly.next_ms(*bucket_ms).max(at_ms + 1))
            }
            (Self::BurnRate(burns), _) => {
                let slots = burns.iter().map(Burn::slot_ms);
                let pause = slots.min().unwrap_or(LEAST_PAUSE_MS);
                (!quiet).then(|| at_ms + pause.max(LEAST_PAUSE_MS))
            }
            (Self::Absence { last_ms }, Rule::Absence { within_ms, .. }) => {
                let due = last_ms.map(|last_ms| last_ms + within_ms + 1)?;
                (due > at_ms).then_some(due)
            }
            (
                Self::CrossCheck {
                    waiting,
                    overdue,
                    overdue_since_ms,
                },
                Rule::CrossCheck { within_ms, .. },
            ) => {
                let next = waiting.front().map(|(since_ms, _)| since_ms + within_ms);
                let forget = (*overdue > 0).then(|| overdue_since_ms + FORGET * within_ms);
                next.into_iter().chain(forget).min()
            }
            (Self::Probe { last_ms, .. }, Rule::Probe { within_ms, .. }) => {
                let due = last_ms.map(|last_ms| last_ms + within_ms + 1)?;
                (due > at_ms).then_some(due)
            }
            (Self::Release { marked, .. }, Rule::Release { window_ms, .. }) => {
                marked.map(|it| it.at_ms + window_ms + 1)
            }
            (
                Self::Proven
                | Self::Window { .. }
                | Self::Anomaly(_)
                | Self::Absence { .. }
                | Self::CrossCheck { .. }
                | Self::Probe { .. }
                | Self::Release { .. },
                _,
            ) => None,
        }
    }
}
