//! Buckets of a measure, what they were like before, and how far from that the one that fills is.

use std::collections::VecDeque;

use sealwarden_runbook::{Aggregate, AnomalyMethod};

use super::judge::{Judged, aggregate, judged, ratio};
use super::sensor::Values;

/// Buckets and their baseline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Anomaly {
    /// Number of the bucket that fills, since the epoch.
    bucket: i64,
    values: Values,
    /// Values of earlier buckets, newest last (robust z-score).
    earlier: VecDeque<i64>,
    /// How many buckets were learned.
    learned: u32,
    /// Median and median absolute deviation, or weighted mean and mean absolute deviation.
    middle: i64,
    deviation: i64,
}

impl Anomaly {
    pub(super) fn add(&mut self, values: &Values) {
        let had = self.values;
        self.values = Values {
            count: had.count.saturating_add(values.count),
            sum: had.sum.saturating_add(values.sum),
            most: if had.count == 0 {
                values.most
            } else {
                had.most.max(values.most)
            },
            last: values.last,
        };
    }

    /// Ends the bucket that fills, if its time is over, and learns from it.
    pub(super) fn roll(&mut self, now: i64, of: Aggregate, method: AnomalyMethod, buckets: u32) {
        if now <= self.bucket {
            return;
        }
        // Where nothing came, there was none of what is counted, and nothing to average.
        let counted = match of {
            Aggregate::Sum | Aggregate::Count => true,
            Aggregate::Last | Aggregate::Mean | Aggregate::Most => false,
        };
        let counts = counted && self.bucket != 0;
        let value = aggregate(of, &self.values);
        if let Some(value) = value.or(counts.then_some(0)) {
            self.learn(value, method, buckets);
        }
        if counts {
            let empty = (now - self.bucket - 1).clamp(0, i64::from(buckets));
            for _ in 0..empty {
                self.learn(0, method, buckets);
            }
        }
        self.bucket = now;
        self.values = Values::default();
    }

    fn learn(&mut self, value: i64, method: AnomalyMethod, buckets: u32) {
        match method {
            AnomalyMethod::RobustZ => {
                let most = usize::try_from(buckets).unwrap_or(1);
                while self.earlier.len() >= most {
                    self.earlier.pop_front();
                }
                self.earlier.push_back(value);
                self.middle = median(self.earlier.iter().copied());
                let middle = self.middle;
                let away = |value: &i64| value.saturating_sub(middle).saturating_abs();
                self.deviation = median(self.earlier.iter().map(away));
            }
            AnomalyMethod::Ewma { weight } => {
                if self.learned == 0 {
                    self.middle = value;
                }
                let away = value.saturating_sub(self.middle);
                let step = |from: i64, to: i64| {
                    let step = i128::from(to.saturating_sub(from)) * i128::from(weight) / 1000;
                    from.saturating_add(i64::try_from(step).unwrap_or_default())
                };
                self.deviation = step(self.deviation, away.saturating_abs());
                self.middle = step(self.middle, value);
            }
        }
        self.learned = self.learned.saturating_add(1).min(buckets);
    }

    /// Whether values came that are not learned yet.
    pub(super) fn fills(&self) -> bool {
        self.values.count > 0
    }

    /// When the bucket that fills is over.
    pub(super) fn next_ms(&self, bucket_ms: i64) -> i64 {
        (self.bucket + 1).saturating_mul(bucket_ms)
    }

    /// Judges the bucket that fills, once it is over. Sums only grow, so what is too much already need not wait for the end.
    pub(super) fn judge(
        &self,
        now: i64,
        of: Aggregate,
        (score, least): (i64, i64),
        buckets: u32,
        bucket_ms: i64,
    ) -> Option<Judged> {
        let over = self.bucket < now;
        if self.learned < buckets.div_ceil(2) || !(over || grows(of)) {
            return None;
        }
        let value = aggregate(of, &self.values)?;
        let away = value.saturating_sub(self.middle);
        let deviations = ratio(i128::from(away.max(0)) * 1000, i128::from(self.deviation));
        let share = ratio(i128::from(deviations) * 1000, i128::from(score));
        let far = away >= least;
        // The limit in the measure's own unit, so that people can compare it.
        let limit = self
            .middle
            .saturating_add(ratio(i128::from(self.deviation) * i128::from(score), 1000))
            .max(self.middle.saturating_add(least));
        Some(Judged {
            crossed: far && deviations > score,
            share: if far { share } else { 0 },
            baseline: self.middle,
            samples: self.values.count,
            ..judged(value, limit, bucket_ms)
        })
    }
}

fn grows(of: Aggregate) -> bool {
    match of {
        Aggregate::Sum | Aggregate::Count | Aggregate::Most => true,
        Aggregate::Last | Aggregate::Mean => false,
    }
}

fn median(values: impl Iterator<Item = i64>) -> i64 {
    let mut values: Vec<i64> = values.collect();
    let middle = values.len() / 2;
    if values.is_empty() {
        return 0;
    }
    *values.select_nth_unstable(middle).1
}
