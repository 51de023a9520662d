//! How fast an error budget is spent.

use sealwarden_runbook::BurnWindow;

use super::judge::{Judged, judged, ratio};
use super::sensor::Values;
use super::window::Window;

/// Two windows of everything and of what was bad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Burn {
    long: (Window, Window),
    short: (Window, Window),
}

impl Burn {
    pub(super) fn new(pair: &BurnWindow) -> Self {
        let both = |ms| (Window::new(ms), Window::new(ms));
        Self {
            long: both(pair.long_ms),
            short: both(pair.short_ms),
        }
    }

    pub(super) fn add(&mut self, at_ms: i64, values: &Values, is_bad: bool) {
        for (all, bad) in [&mut self.long, &mut self.short] {
            let window = if is_bad { bad } else { all };
            window.add(at_ms, values);
        }
    }

    /// How long until a slot leaves the short window, milliseconds.
    pub(super) fn slot_ms(&self) -> i64 {
        self.short.0.slot_ms()
    }

    pub(super) fn advance(&mut self, at_ms: i64) {
        for (all, bad) in [&mut self.long, &mut self.short] {
            all.advance(at_ms);
            bad.advance(at_ms);
        }
    }

    pub(super) fn judge(&self, pair: &BurnWindow, budget_ppm: i64, samples: u64) -> Option<Judged> {
        let count = |window: &Window| i128::from(window.count());
        let burn = |(all, bad): &(Window, Window)| {
            let spent = count(bad) * 1_000_000 * 1000;
            ratio(spent, count(all) * i128::from(budget_ppm))
        };
        let seen = self.long.0.count();
        if seen < samples {
            return None;
        }
        let value = burn(&self.long).min(burn(&self.short));
        Some(Judged {
            samples: seen,
            ..judged(value, pair.factor, pair.long_ms)
        })
    }
}
