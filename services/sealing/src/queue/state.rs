//! What the queue's file says, in memory. No input, no output.

use super::{Entry, Priority, Ticket};
use crate::requests::RequestKey;
use sealwarden_seal::record::Nonce;
use sealwarden_seallog::Leaf;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// What a waiting ticket counts for beside its record: indexes, nonce, frame.
const TICKET_BYTES: u64 = 256;

/// A leaf's place: the epoch of its origin, and its index there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The origin's epoch.
    pub(crate) tree: u64,
    /// The leaf's index; as a lower bound, the tree's size.
    pub(crate) index: u64,
}

/// Room in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) tickets: usize,
    pub(crate) bytes: u64,
}

impl Room {
    pub(crate) fn of(entries: &[Entry]) -> Self {
        Self {
            tickets: entries.len(),
            bytes: entries.iter().map(bytes_of).sum(),
        }
    }
}

fn bytes_of(entry: &Entry) -> u64 {
    let record = u64::try_from(entry.leaf.record.len()).unwrap_or(u64::MAX);
    record.saturating_add(TICKET_BYTES)
}

/// A ticket that is to be sealed next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Drawn {
    pub(crate) ticket: Ticket,
    pub(crate) leaf: Leaf,
    pub(crate) key: Option<RequestKey>,
}

/// What is known of a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// It waits.
    Waiting {
        /// Which ones go first.
        priority: Priority,
        /// At most this many are before it.
        before: u64,
    },
    /// It is sealed.
    Settled(Place),
}

#[derive(Clone, Copy, Debug)]
enum Known {
    Waiting(Priority, u64),
    Settled(Place),
}

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    entry: Entry,
}

/// Tickets, waiting and settled.
#[derive(Debug)]
pub(crate) struct State {
    waiting: BTreeMap<(Priority, u64), Waiting>,
    tickets: HashMap<Ticket, Known>,
    nonces: HashMap<Nonce, (Priority, u64)>,
    requests: HashMap<RequestKey, (Priority, u64)>,
    /// Settled tickets, oldest first.
    settled: VecDeque<Ticket>,
    kept: usize,
    bytes: u64,
    reserved: Room,
    next: u64,
}

impl State {
    /// An empty queue that remembers this many settled tickets.
    pub(crate) fn new(kept: usize) -> Self {
        Self {
            waiting: BTreeMap::new(),
            tickets: HashMap::new(),
            nonces: HashMap::new(),
            requests: HashMap::new(),
            settled: VecDeque::new(),
            kept,
            bytes: 0,
            reserved: Room::default(),
            next: 0,
        }
    }

    /// What waits, and what is on its way there.
    pub(crate) fn taken(&self) -> Room {
        Room {
            tickets: self.waiting.len().saturating_add(self.reserved.tickets),
            bytes: self.bytes.saturating_add(self.reserved.bytes),
        }
    }

    pub(crate) fn reserve(&mut self, room: Room) {
        self.reserved.tickets = self.reserved.tickets.saturating_add(room.tickets);
        self.reserved.bytes = self.reserved.bytes.saturating_add(room.bytes);
    }

    pub(crate) fn release(&mut self, room: Room) {
        self.reserved.tickets = self.reserved.tickets.saturating_sub(room.tickets);
        self.reserved.bytes = self.reserved.bytes.saturating_sub(room.bytes);
    }

    /// Adds a ticket behind all others of its priority.
    pub(crate) fn add(&mut self, ticket: Ticket, entry: Entry) {
        let place = (entry.priority, self.next);
        self.next += 1;
        self.bytes = self.bytes.saturating_add(bytes_of(&entry));
        self.tickets
            .insert(ticket, Known::Waiting(place.0, place.1));
        self.nonces.insert(entry.leaf.nonce, place);
        if let Some(key) = entry.key {
            self.requests.entry(key).or_insert(place);
        }
        self.waiting.insert(place, Waiting { ticket, entry });
    }

    /// Takes a ticket out: it is sealed. Answers whether it waited.
    pub(crate) fn settle(&mut self, ticket: Ticket, place: Place) -> bool {
        let waited = self.take_out(ticket);
        if waited {
            self.remember(ticket, place);
        }
        waited
    }

    /// Takes a ticket out that is never to be sealed. Answers whether it waited.
    pub(crate) fn withdraw(&mut self, ticket: Ticket) -> bool {
        let waited = self.take_out(ticket);
        if waited {
            self.tickets.remove(&ticket);
        }
        waited
    }

    fn take_out(&mut self, ticket: Ticket) -> bool {
        let Some(Known::Waiting(priority, number)) = self.tickets.get(&ticket).copied() else {
            return false;
        };
        if let Some(Waiting { entry, .. }) = self.waiting.remove(&(priority, number)) {
            self.bytes = self.bytes.saturating_sub(bytes_of(&entry));
            self.nonces.remove(&entry.leaf.nonce);
            if let Some(key) = entry.key
                && self.requests.get(&key) == Some(&(priority, number))
            {
                self.requests.remove(&key);
            }
        }
        true
    }

    /// Keeps a settled ticket, and forgets the oldest ones that are too many.
    pub(crate) fn remember(&mut self, ticket: Ticket, place: Place) {
        self.tickets.insert(ticket, Known::Settled(place));
        self.settled.push_back(ticket);
        while self.settled.len() > self.kept {
            if let Some(oldest) = self.settled.pop_front() {
                self.tickets.remove(&oldest);
            }
        }
    }

    /// The waiting ticket with this leaf.
    pub(crate) fn by_nonce(&self, nonce: &Nonce) -> Option<Ticket> {
        let place = self.nonces.get(nonce)?;
        self.waiting.get(place).map(|waiting| waiting.ticket)
    }

    pub(crate) fn of_request(&self, key: &RequestKey) -> Option<(Ticket, Leaf)> {
        let waiting = self.waiting.get(self.requests.get(key)?)?;
        Some((waiting.ticket, waiting.entry.leaf.clone()))
    }

    /// The next tickets, critical ones first, no weaker than `least`.
    pub(crate) fn draw(&self, limit: usize, least: Priority) -> Vec<Drawn> {
        self.waiting
            .iter()
            .take_while(|((priority, _), _)| *priority <= least)
            .take(limit)
            .map(|(_, Waiting { ticket, entry })| Drawn {
                ticket: *ticket,
                leaf: entry.leaf.clone(),
                key: entry.key,
            })
            .collect()
    }

    pub(crate) fn waits(&self, least: Priority) -> bool {
        self.waiting
            .first_key_value()
            .is_some_and(|((priority, _), _)| *priority <= least)
    }

    pub(crate) fn look(&self, ticket: Ticket) -> Option<Look> {
        Some(match *self.tickets.get(&ticket)? {
            Known::Settled(place) => Look::Settled(place),
            Known::Waiting(priority, number) => {
                let first = |of| {
                    self.waiting
                        .range((of, 0)..)
                        .next()
                        .map(|(place, _)| *place)
                };
                let behind = match first(priority) {
                    Some((found, first)) if found == priority => number.saturating_sub(first),
                    Some(_) | None => 0,
                };
                // Numbers are shared by the priorities, so the distance to the first is a bound.
                let critical = match priority {
                    Priority::Critical => 0,
                    Priority::Normal => self.span_of_critical(),
                };
                let all = u64::try_from(self.waiting.len()).unwrap_or(u64::MAX);
                Look::Waiting {
                    priority,
                    before: behind.saturating_add(critical).min(all.saturating_sub(1)),
                }
            }
        })
    }

    fn span_of_critical(&self) -> u64 {
        let mut critical = self.waiting.range(..(Priority::Normal, 0));
        let Some(((_, first), _)) = critical.next() else {
            return 0;
        };
        let last = critical.next_back().map_or(*first, |((_, last), _)| *last);
        (last - first).saturating_add(1)
    }

    /// The waiting tickets whose leaf fits.
    pub(crate) fn that_fit(&self, mut fits: impl FnMut(&Leaf) -> bool) -> Vec<Ticket> {
        let waiting = self.waiting.values();
        let fitting = waiting.filter(|it| fits(&it.entry.leaf));
        fitting.map(|it| it.ticket).collect()
    }

    pub(crate) fn earliest(&self) -> Option<Place> {
        self.waiting.values().map(|it| it.entry.since).min()
    }

    /// Everything, in the order in which it is to be read again.
    pub(crate) fn everything(
        &self,
    ) -> (
        impl Iterator<Item = (Ticket, Place)> + '_,
        impl Iterator<Item = (Ticket, &Entry)> + '_,
    ) {
        let settled = self
            .settled
            .iter()
            .filter_map(|ticket| match self.tickets.get(ticket) {
                Some(Known::Settled(place)) => Some((*ticket, *place)),
                Some(Known::Waiting(..)) | None => None,
            });
        let waiting = self.waiting.values().map(|it| (it.ticket, &it.entry));
        (settled, waiting)
    }

    /// How many tickets the file would hold if it were written anew.
    pub(crate) fn live(&self) -> usize {
        self.waiting.len().saturating_add(self.settled.len())
    }
}
