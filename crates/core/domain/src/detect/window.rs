//! Values of a window of time, in slots.

use super::sensor::Values;

/// How many slots a window has: it is right to a 32nd of its length.
const SLOTS: usize = 32;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot {
    count: u64,
    sum: i64,
    most: i64,
}

/// A window that moves with time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    slot_ms: i64,
    slots: Box<[Slot; SLOTS]>,
    /// Number of the newest slot since the epoch.
    newest: i64,
    count: u64,
    sum: i64,
    /// The last value and when it came.
    last: Option<(i64, i64)>,
}

impl Window {
    pub(super) fn new(window_ms: i64) -> Self {
        let slots = i64::try_from(SLOTS).unwrap_or(1);
        Self {
            slot_ms: (window_ms / slots).max(1),
            slots: Box::default(),
            newest: 0,
            count: 0,
            sum: 0,
            last: None,
        }
    }

    /// How long until a slot leaves the window, milliseconds.
    pub(super) fn slot_ms(&self) -> i64 {
        self.slot_ms
    }

    /// Lets go what is too old at this time. Time never goes back here.
    pub(super) fn advance(&mut self, at_ms: i64) {
        let now = at_ms.div_euclid(self.slot_ms);
        let slots = i64::try_from(SLOTS).unwrap_or(1);
        let first = (self.newest + 1).max(now.saturating_sub(slots - 1));
        for number in first..=now {
            let slot = &mut self.slots[place(number)];
            self.count = self.count.saturating_sub(slot.count);
            self.sum = self.sum.saturating_sub(slot.sum);
            *slot = Slot::default();
        }
        self.newest = self.newest.max(now);
        let oldest_ms = (self.newest - slots + 1).saturating_mul(self.slot_ms);
        self.last = self.last.filter(|(_, at_ms)| *at_ms >= oldest_ms);
    }

    pub(super) fn add(&mut self, at_ms: i64, values: &Values) {
        self.advance(at_ms);
        let slot = &mut self.slots[place(self.newest)];
        slot.most = if slot.count == 0 {
            values.most
        } else {
            slot.most.max(values.most)
        };
        slot.count = slot.count.saturating_add(values.count);
        slot.sum = slot.sum.saturating_add(values.sum);
        self.count = self.count.saturating_add(values.count);
        self.sum = self.sum.saturating_add(values.sum);
        self.last = Some((values.last, at_ms));
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn sum(&self) -> i64 {
        self.sum
    }

    pub(super) fn most(&self) -> Option<i64> {
        let filled = self.slots.iter().filter(|slot| slot.count > 0);
        filled.map(|slot| slot.most).max()
    }

    pub(super) fn last(&self) -> Option<i64> {
        self.last.map(|(value, _)| value)
    }
}

fn place(number: i64) -> usize {
    let slots = i64::try_from(SLOTS).unwrap_or(1);
    usize::try_from(number.rem_euclid(slots)).unwrap_or_default()
}
