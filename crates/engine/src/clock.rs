//! The clocks of the shell.

use std::sync::Mutex;

use sealwarden_domain::At;

/// Where time comes from.
pub trait Clock: Send + Sync + 'static {
    /// Now, on both clocks.
    fn now(&self) -> At;
}

/// The machine's clocks: real time for people, `CLOCK_BOOTTIME` for permits.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> At {
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let boot_ms = u64::try_from(boot.tv_sec).unwrap_or(0).saturating_mul(1000)
            + u64::try_from(boot.tv_nsec).unwrap_or(0) / 1_000_000;
        At {
            wall_ms: jiff::Timestamp::now().as_millisecond(),
            boot_ms,
        }
    }
}

/// A clock that a test moves.
#[derive(Debug)]
pub struct ManualClock(Mutex<At>);

impl ManualClock {
    /// A clock that stands at `at`.
    pub fn new(at: At) -> Self {
        Self(Mutex::new(at))
    }

    /// Moves both clocks on.
    pub fn advance_ms(&self, ms: u32) {
        let mut at = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        at.wall_ms += i64::from(ms);
        at.boot_ms += u64::from(ms);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> At {
        *self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
