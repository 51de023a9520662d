//! Waiting for what another process does, where nothing can announce it to us.

use std::ops::Range;
use std::time::{Duration, Instant};

/// How long a step of a scenario may take on a busy machine with two cores.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Looks until `look` finds something, and panics with `what` when [`PATIENCE`] runs out.
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look)
}

/// As [`eventually`], with a deadline of its own.
pub fn within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "waited {patience:?} in vain: {what}"
        );
        // bounded poll: another process's state can only be asked for.
        std::thread::sleep(PAUSE);
    }
}

/// Lets so many milliseconds go by, different each time. Nothing is awaited: a crash falls where it falls, and work outside takes the time that it takes.
pub fn a_while(milliseconds: Range<u64>) {
    let mut bytes = [0; 8];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
        .expect("random bytes");
    let below = milliseconds.end - milliseconds.start;
    let pause = milliseconds.start + u64::from_be_bytes(bytes) % below;
    // bounded poll: none; the random moment is what a test asks for.
    std::thread::sleep(Duration::from_millis(pause));
}
