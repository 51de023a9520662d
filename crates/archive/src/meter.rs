//! How fast is read, and whether at all.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest piece of a wait, so that a stop is noticed.
const LONGEST_NAP: Duration = Duration::from_millis(50);

/// Counts the bytes of one piece of work, holds its rate, and stops it. Shared by all of its readers.
#[derive(Debug)]
pub struct Meter {
    bytes_per_s: Option<u64>,
    /// When the bytes taken so far are paid for.
    paid: Mutex<Option<Instant>>,
    bytes: AtomicU64,
    stopped: AtomicBool,
}

impl Meter {
    /// A meter with a limit in bytes a second, or without one.
    pub fn new(bytes_per_s: Option<u64>) -> Self {
        Self {
            bytes_per_s: bytes_per_s.filter(|limit| *limit > 0),
            paid: Mutex::new(None),
            bytes: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    /// Readers end with [`crate::StoreError::Stopped`] at their next piece.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes a piece into account; answers how long its reader has to wait before the next one.
    fn pay(&self, bytes: usize) -> Duration {
        let count = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes.fetch_add(count, Ordering::Relaxed);
        let Some(limit) = self.bytes_per_s else {
            return Duration::ZERO;
        };
        let nanos = u128::from(count) * 1_000_000_000 / u128::from(limit);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let now = Instant::now();
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let until = paid.map_or(now, |until| until.max(now)) + cost;
        *paid = Some(until);
        until - now
    }

    /// On a thread of its own: counts, waits. False when stopped.
    pub(crate) fn pass(&self, bytes: usize) -> bool {
        let mut left = self.pay(bytes);
        while !left.is_zero() && !self.is_stopped() {
            let nap = left.min(LONGEST_NAP);
            std::thread::sleep(nap);
            left -= nap;
        }
        !self.is_stopped()
    }

    /// The same in a task.
    pub(crate) async fn passed(&self, bytes: usize) -> bool {
        let left = self.pay(bytes);
        self.nap(left).await
    }

    /// Waits, unless it is stopped. False when stopped.
    pub async fn nap(&self, mut left: Duration) -> bool {
        while !left.is_zero() && !self.is_stopped() {
            let nap = left.min(LONGEST_NAP);
            tokio::time::sleep(nap).await;
            left -= nap;
        }
        !self.is_stopped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_debt_that_all_readers_share() {
        let meter = Meter::new(Some(1000));
        assert!(meter.pay(100) <= Duration::from_millis(100));
        let second = meter.pay(100);
        assert!(
            second > Duration::from_millis(150) && second <= Duration::from_millis(200),
            "{second:?}"
        );
        assert_eq!(meter.bytes(), 200);
    }

    #[test]
    fn without_a_limit_nobody_waits_and_a_stop_ends_readers() {
        let meter = Meter::new(None);
        assert!(meter.pass(usize::MAX / 2));
        meter.stop();
        assert!(!meter.pass(1));
    }
}
