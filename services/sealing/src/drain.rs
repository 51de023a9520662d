//! How fast the durable queue empties when signing returns: so many tickets a second, in small steps, beside what callers
//! bring. New requests do not wait behind old tickets, nor tickets behind a stream of new requests.

use crate::config::Config;
use crate::queue::{Drawn, Priority};
use crate::service::Service;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// What is allowed is handed out in steps of this length.
const STEP: Duration = Duration::from_millis(20);
/// Thousandths of a ticket: what one ticket a second gives in a millisecond.
const TICKET: u64 = 1_000;

/// The allowance of tickets, refilled by time.
#[derive(Debug)]
pub(crate) struct Drain {
    per_second: u64,
    max_batch: usize,
    /// In thousandths of a ticket.
    allowed: u64,
    filled: Instant,
    paused_until: Instant,
}

impl Drain {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            per_second: config.drain_per_second.into(),
            max_batch: config.max_batch,
            allowed: 0,
            filled: Instant::now(),
            paused_until: Instant::now(),
        }
    }

    /// No ticket for a while: the last batch could not be sealed.
    pub(crate) fn pause(&mut self, pause: Duration) {
        self.paused_until = Instant::now() + pause;
    }

    /// Tickets left the queue.
    pub(crate) fn sealed(&mut self, tickets: usize) {
        let tickets = u64::try_from(tickets).unwrap_or(u64::MAX);
        self.allowed = self.allowed.saturating_sub(tickets.saturating_mul(TICKET));
    }

    /// Comes when tickets wait that may be sealed now. Watches the queue and whatever may allow signing again.
    pub(crate) async fn due(&mut self, service: &Service) {
        let mut board = service.node.board.changes();
        let mut permit = service.permit_changed.subscribe();
        let mut tickets = service.tickets.changes();
        loop {
            let least = service.drains();
            if least.is_some_and(|least| service.tickets.waits(least)) {
                let now = Instant::now();
                self.refill(now);
                if self.allowed >= TICKET && now >= self.paused_until {
                    return;
                }
                sleep_until(self.paused_until.max(now + STEP)).await;
                continue;
            }
            tokio::select! {
                _ = board.changed() => {}
                _ = permit.changed() => {}
                _ = tickets.changed() => {}
            }
        }
    }

    /// The tickets that join a batch with this many other requests.
    pub(crate) fn draw(&mut self, service: &Service, others: usize) -> Vec<Drawn> {
        let now = Instant::now();
        self.refill(now);
        let Some(least) = service.drains().filter(|_| now >= self.paused_until) else {
            return Vec::new();
        };
        let allowed = usize::try_from(self.allowed / TICKET).unwrap_or(usize::MAX);
        let room = room_beside(others, self.max_batch);
        draw(service, room.min(allowed), least)
    }

    /// A tenth of a second's worth at most is saved up, so that a stop is not followed by a rush.
    fn refill(&mut self, now: Instant) {
        let passed_ms = now.duration_since(self.filled).as_millis();
        let passed_ms = u64::try_from(passed_ms).unwrap_or(u64::MAX);
        if passed_ms == 0 {
            return;
        }
        self.filled = now;
        let most = self.per_second.saturating_mul(TICKET) / 10;
        let more = passed_ms.saturating_mul(self.per_second);
        self.allowed = self.allowed.saturating_add(more).min(most.max(TICKET));
    }
}

fn draw(service: &Service, limit: usize, least: Priority) -> Vec<Drawn> {
    if limit == 0 {
        return Vec::new();
    }
    service.tickets.draw(limit, least)
}

/// A full batch of others still takes a few tickets along: the seal log's own limit is above the configured one or the same,
/// and what is too much waits for the next batch.
fn room_beside(others: usize, max_batch: usize) -> usize {
    let largest = sealwarden_seallog::MAX_BATCH_LEAVES;
    max_batch
        .saturating_sub(others)
        .max(max_batch / 4)
        .min(largest.saturating_sub(others))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_more_is_allowed_than_the_rate_says() {
        let config = Config {
            drain_per_second: 100,
            ..Config::default()
        };
        let mut drain = Drain::new(&config);
        let start = drain.filled;
        drain.refill(start + Duration::from_millis(50));
        assert_eq!(drain.allowed, 5 * TICKET);
        drain.sealed(4);
        assert_eq!(drain.allowed, TICKET);
        drain.refill(start + Duration::from_hours(1));
        assert_eq!(
            drain.allowed,
            10 * TICKET,
            "a tenth of a second's worth is saved"
        );
    }

    #[test]
    fn a_full_batch_takes_some_tickets_along() {
        assert_eq!(room_beside(0, 8_192), 8_192);
        assert_eq!(room_beside(8_000, 8_192), 2_048);
        let largest = sealwarden_seallog::MAX_BATCH_LEAVES;
        assert_eq!(room_beside(largest, largest), 0);
    }
}
