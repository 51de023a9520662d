//! A judgement, and what several rules need to come to one.

use std::collections::VecDeque;

use sealwarden_runbook::{Aggregate, Bound};

use super::sensor::Values;
use super::window::Window;

/// In how many parts a cross-check counts the time that it gives.
const PARTS: i64 = 32;

/// What a rule saw, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) value: i64,
    pub(super) limit: i64,
    /// It is a signal.
    pub(super) crossed: bool,
    /// How much of the limit was reached, per mille.
    pub(super) share: i64,
    pub(super) baseline: i64,
    pub(super) samples: u64,
    pub(super) window_ms: i64,
    /// A probe is silent, rather than failing.
    pub(super) silent: bool,
}

/// A judgement by `value > limit`.
pub(super) fn judged(value: i64, limit: i64, window_ms: i64) -> Judged {
    Judged {
        value,
        limit,
        crossed: value > limit,
        share: ratio(i128::from(value) * 1000, i128::from(limit)),
        baseline: 0,
        samples: 0,
        window_ms,
        silent: false,
    }
}

/// A quotient; as much as there is where the divisor is nothing.
pub(super) fn ratio(value: i128, of: i128) -> i64 {
    if of == 0 {
        return if value > 0 { i64::MAX } else { 0 };
    }
    i64::try_from(value / of).unwrap_or(i64::MAX)
}

pub(super) fn silence(last_ms: i64, within_ms: i64, at_ms: i64) -> Judged {
    judged(at_ms.saturating_sub(last_ms), within_ms, within_ms)
}

pub(super) fn aggregate(of: Aggregate, values: &Values) -> Option<i64> {
    if values.count == 0 {
        return None;
    }
    let count = i64::try_from(values.count).unwrap_or(i64::MAX);
    Some(match of {
        Aggregate::Last => values.last,
        Aggregate::Sum => values.sum,
        Aggregate::Count => count.saturating_mul(1000),
        Aggregate::Mean => values.sum / count,
        Aggregate::Most => values.most,
    })
}

pub(super) fn judge_window(
    window: &Window,
    of: Aggregate,
    limit: Bound,
    samples: u64,
    whole: bool,
    window_ms: i64,
) -> Option<Judged> {
    let count = window.count();
    let values = Values {
        count,
        sum: window.sum(),
        most: match of {
            Aggregate::Most => window.most().unwrap_or_default(),
            Aggregate::Last | Aggregate::Sum | Aggregate::Count | Aggregate::Mean => 0,
        },
        last: window.last().unwrap_or_default(),
    };
    let counted = match of {
        Aggregate::Sum | Aggregate::Count => true,
        Aggregate::Last | Aggregate::Mean | Aggregate::Most => false,
    };
    let value = match aggregate(of, &values) {
        Some(value) => value,
        None if counted => 0,
        None => return None,
    };
    match limit {
        Bound::Above(limit) => {
            let judged = Judged {
                samples: count,
                ..judged(value, limit, window_ms)
            };
            let enough = count >= samples;
            Some(Judged {
                crossed: judged.crossed && enough,
                share: if enough { judged.share } else { 0 },
                ..judged
            })
        }
        Bound::Below(limit) => {
            let enough = whole && (counted || count >= samples);
            let share = ratio(i128::from(limit) * 1000, i128::from(value));
            Some(Judged {
                value,
                limit,
                crossed: enough && value < limit,
                share: if enough { share } else { 0 },
                baseline: 0,
                samples: count,
                window_ms,
                silent: false,
            })
        }
    }
}

/// Adds to what waits, in parts of the time that it is given, so that there are never many.
pub(super) fn wait(waiting: &mut VecDeque<(i64, i64)>, at_ms: i64, count: i64, within_ms: i64) {
    let part = (within_ms / PARTS).max(1);
    match waiting.back_mut() {
        Some((since_ms, waits)) if at_ms.saturating_sub(*since_ms) < part => {
            *waits = waits.saturating_add(count);
        }
        Some(_) | None => waiting.push_back((at_ms, count)),
    }
}

/// Takes from what waits longest, then from what is overdue.
pub(super) fn meet(waiting: &mut VecDeque<(i64, i64)>, overdue: &mut i64, mut count: i64) {
    while count > 0 {
        let Some((_, waits)) = waiting.front_mut() else {
            *overdue = overdue.saturating_sub(count).max(0);
            return;
        };
        let met = count.min(*waits);
        count -= met;
        *waits -= met;
        if *waits == 0 {
            waiting.pop_front();
        }
    }
}
