//! When calls go to a provider and when they do not: a state machine without a clock and without chance.
//!
//! ```text
//!            failures in a row, or slow for a whole window
//!   closed ------------------------------------------------> open
//!     ^                                                     |   ^
//!     | enough good probes in a row          pause is over  |   | a probe fails, or is slow
//!     +--------------------- half-open <--------------------+   |
//!                                +-------------------------------+
//! ```
//!
//! Half-open lets probes through and no call: a call is never the one that finds out. The pause doubles with each failed
//! probe, and goes on from where it was if the provider goes out again soon after it came back, so that a provider that
//! comes and goes is used less and less often.
//!
//! What a call or a probe came to counts only if the breaker's state is still the one that it was begun under ([`Begun`]): a
//! call that hung through an outage says nothing of the provider as it is now.

use serde::{Deserialize, Serialize};

use crate::health::HealthState;

/// When to stop and when to try again. All times are milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerConfig {
    /// So many failures or time-outs in a row open it.
    pub failures: u32,
    /// A call that takes longer is slow.
    pub slow_ms: u64,
    /// Calls that were all slow for so long open it.
    pub slow_window_ms: u64,
    /// And at least so many of them.
    pub slow_calls: u32,
    /// The first pause before a probe.
    pub pause_ms: u64,
    /// The longest pause; up to half of it is added by chance.
    pub longest_pause_ms: u64,
    /// So many good probes in a row close it.
    pub good_probes: u32,
    /// Having stayed closed for so long, it is trusted again: the pauses begin anew.
    pub settled_ms: u64,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failures: 3,
            slow_ms: 1_000,
            slow_window_ms: 10_000,
            slow_calls: 3,
            pause_ms: 1_000,
            longest_pause_ms: 60_000,
            good_probes: 3,
            settled_ms: 300_000,
        }
    }
}

impl BreakerConfig {
    /// Refuses values that make no breaker; the text names the field and its bounds.
    pub fn validate(&self) -> Result<(), String> {
        let within = |name: &str, value: u64, low: u64, high: u64| {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(format!("{name} {value} is not within {low} to {high}"))
        };
        within("failures", self.failures.into(), 1, 1_000)?;
        within("slow_ms", self.slow_ms, 1, 600_000)?;
        within("slow_window_ms", self.slow_window_ms, 1, 3_600_000)?;
        within("slow_calls", self.slow_calls.into(), 1, 100_000)?;
        within("pause_ms", self.pause_ms, 10, 600_000)?;
        within(
            "longest_pause_ms",
            self.longest_pause_ms,
            self.pause_ms,
            3_600_000,
        )?;
        within("good_probes", self.good_probes.into(), 1, 100)?;
        within("settled_ms", self.settled_ms, 0, 86_400_000)
    }
}

/// A moment, on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// On a clock that only goes on, in milliseconds since anything: for durations.
    pub steady_ms: u64,
    /// In Unix milliseconds: for people.
    pub wall_ms: i64,
}

/// What a call or a probe came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The provider answered after so many milliseconds, if only that the caller is wrong.
    Answered {
        /// How long it took.
        latency_ms: u64,
    },
    /// It failed, or did not answer in time.
    Failed {
        /// Why, for a person.
        reason: String,
    },
}

/// Under which state of the breaker a call or a probe was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun(u64);

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Closed {
        failures: u32,
        /// Since when every call was slow, and how many they are.
        slow: Option<(u64, u32)>,
        /// Since when it is closed; `None` since ever.
        since_steady_ms: Option<u64>,
    },
    Open {
        outage: Outage,
        probe_at_ms: u64,
    },
    HalfOpen {
        outage: Outage,
        good: u32,
    },
}

/// Being out, from opening to closing.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outage {
    since_ms: i64,
    reason: String,
}

/// The state machine; see the module's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    config: BreakerConfig,
    state: State,
    /// Pauses since it was last trusted: each is twice as long.
    pauses: u32,
    /// How often its state has changed.
    changes: u64,
}

impl Breaker {
    /// A closed one.
    pub fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            state: State::Closed {
                failures: 0,
                slow: None,
                since_steady_ms: None,
            },
            pauses: 0,
            changes: 0,
        }
    }

    fn change(&mut self, state: State) {
        self.state = state;
        self.changes = self.changes.saturating_add(1);
    }

    /// A call is under way: to be given back with what it came to.
    pub fn calling(&self) -> Begun {
        Begun(self.changes)
    }

    /// Whether what was begun then still says something: the state has not changed since.
    pub fn counts(&self, begun: Begun) -> bool {
        begun.0 == self.changes
    }

    /// Whether calls go through, as others see it.
    pub fn state(&self) -> HealthState {
        match &self.state {
            State::Closed { .. } => HealthState::Closed,
            State::Open { outage, .. } => HealthState::Open {
                since_ms: outage.since_ms,
                reason: outage.reason.clone(),
            },
            State::HalfOpen { outage, .. } => HealthState::HalfOpen {
                since_ms: outage.since_ms,
                reason: outage.reason.clone(),
            },
        }
    }

    /// Why no call goes through; `None` if calls do.
    pub fn refusal(&self) -> Option<&str> {
        match &self.state {
            State::Closed { .. } => None,
            State::Open { outage, .. } | State::HalfOpen { outage, .. } => Some(&outage.reason),
        }
    }

    /// Whether an answer after so long is slow.
    pub fn is_slow(&self, latency_ms: u64) -> bool {
        latency_ms > self.config.slow_ms
    }

    /// Takes note of a call. `chance` lengthens a pause that follows, by up to half. Answers whether it has opened now.
    pub fn called(&mut self, begun: Begun, outcome: &Outcome, at: Moment, chance: u8) -> bool {
        if !self.counts(begun) {
            return false;
        }
        let (slow_before, failures_before) = match &self.state {
            State::Closed { slow, failures, .. } => (*slow, *failures),
            // No call is begun while it is out: what counts now is what probes show.
            State::Open { .. } | State::HalfOpen { .. } => return false,
        };
        let (failures, slow) = match outcome {
            Outcome::Failed { .. } => (failures_before.saturating_add(1), slow_before),
            Outcome::Answered { latency_ms } if self.is_slow(*latency_ms) => {
                let (since, calls) = slow_before.unwrap_or((at.steady_ms, 0));
                (0, Some((since, calls.saturating_add(1))))
            }
            Outcome::Answered { .. } => (0, None),
        };
        if let State::Closed {
            failures: kept,
            slow: kept_slow,
            ..
        } = &mut self.state
        {
            (*kept, *kept_slow) = (failures, slow);
        }
        let reason = match (outcome, slow) {
            (Outcome::Failed { reason }, _) if failures >= self.config.failures => {
                format!("{failures} calls in a row failed, the last one: {reason}")
            }
            (Outcome::Answered { .. }, Some((since, calls)))
                if calls >= self.config.slow_calls
                    && at.steady_ms.saturating_sub(since) >= self.config.slow_window_ms =>
            {
                format!(
                    "all {calls} calls of {} ms took more than {} ms each",
                    at.steady_ms.saturating_sub(since),
                    self.config.slow_ms
                )
            }
            (Outcome::Failed { .. } | Outcome::Answered { .. }, _) => return false,
        };
        self.open(reason, at, chance);
        true
    }

    /// Opens it at once, for a reason that further calls would only repeat.
    pub fn open(&mut self, reason: String, at: Moment, chance: u8) {
        if let State::Closed {
            since_steady_ms: Some(since),
            ..
        } = self.state
            && at.steady_ms.saturating_sub(since) >= self.config.settled_ms
        {
            self.pauses = 0;
        }
        let outage = match &self.state {
            State::Open { outage, .. } | State::HalfOpen { outage, .. } => Outage {
                since_ms: outage.since_ms,
                reason,
            },
            State::Closed { .. } => Outage {
                since_ms: at.wall_ms,
                reason,
            },
        };
        let probe_at_ms = at.steady_ms.saturating_add(self.pause(chance));
        self.change(State::Open {
            outage,
            probe_at_ms,
        });
        self.pauses = self.pauses.saturating_add(1);
    }

    /// When the next probe is due, on the steady clock; `None` while closed, where nothing needs one.
    pub fn probe_at_ms(&self) -> Option<u64> {
        match &self.state {
            State::Closed { .. } => None,
            State::Open { probe_at_ms, .. } => Some(*probe_at_ms),
            State::HalfOpen { .. } => Some(0),
        }
    }

    /// A probe is under way: to be given back with what it came to.
    pub fn probing(&mut self) -> Begun {
        if let State::Open { outage, .. } = &self.state {
            let outage = outage.clone();
            self.change(State::HalfOpen { outage, good: 0 });
        }
        Begun(self.changes)
    }

    /// Takes note of a probe.
    pub fn probed(&mut self, begun: Begun, outcome: &Outcome, at: Moment, chance: u8) {
        if !self.counts(begun) {
            return;
        }
        let failed = match outcome {
            Outcome::Failed { reason } => Some(format!("a health probe failed: {reason}")),
            Outcome::Answered { latency_ms } if self.is_slow(*latency_ms) => Some(format!(
                "a health probe took {latency_ms} ms, more than {} ms",
                self.config.slow_ms
            )),
            Outcome::Answered { .. } => None,
        };
        let good = match (&self.state, failed) {
            // A probe of an idle provider counts as a call, so that a standby that has died is known to have.
            (State::Closed { .. }, _) => {
                self.called(begun, outcome, at, chance);
                return;
            }
            (State::HalfOpen { .. }, Some(reason)) => {
                self.open(reason, at, chance);
                return;
            }
            // A probe that is under way has left it half-open.
            (State::Open { .. }, _) => return,
            (State::HalfOpen { good, .. }, None) => good.saturating_add(1),
        };
        if good >= self.config.good_probes {
            self.change(State::Closed {
                failures: 0,
                slow: None,
                since_steady_ms: Some(at.steady_ms),
            });
        } else if let State::HalfOpen { good: kept, .. } = &mut self.state {
            *kept = good;
        }
    }

    fn pause(&self, chance: u8) -> u64 {
        let doubled = self
            .config
            .pause_ms
            .saturating_mul(2_u64.saturating_pow(self.pauses))
            .min(self.config.longest_pause_ms);
        doubled.saturating_add(doubled.saturating_mul(chance.into()) / 510)
    }
}

#[cfg(test)]
mod tests;
