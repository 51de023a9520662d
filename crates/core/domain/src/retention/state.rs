//! The fold of `retention/<log>`.

use std::collections::BTreeMap;
use std::ops::Range;

use sealwarden_wire::event::v1::{
    Envelope, ErasureOrdered, Event, LegalHoldReleased, LegalHoldSet, TicketsWithdrawn, event::Kind,
};

use crate::fold::{Fold, IllegalEvent};

/// An order to erase, and whether it was carried out.
#[derive(Clone, Debug, PartialEq)]
pub struct Erasure {
    /// The order.
    pub ordered: ErasureOrdered,
    /// When all of it was gone, Unix milliseconds; none while it is carried out.
    pub finished_at_ms: Option<i64>,
}

/// A hold that somebody set.
#[derive(Clone, Debug, PartialEq)]
pub struct LegalHold {
    /// How it was set.
    pub set: LegalHoldSet,
    /// How it was released.
    pub released: Option<LegalHoldReleased>,
}

/// Folded state of `retention/<log>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Retention {
    /// Orders, the first one first.
    erasures: Vec<Erasure>,
    /// By origin and first leaf: where the range ends, and which order it is of.
    places: BTreeMap<(String, u64), (u64, usize)>,
    /// Holds by id.
    holds: BTreeMap<String, LegalHold>,
    /// How many holds were ever set.
    holds_set: u64,
    /// Withdrawals, the first one first, without their tickets.
    withdrawals: Vec<TicketsWithdrawn>,
    /// Which withdrawal each ticket is of.
    withdrawn: BTreeMap<[u8; 16], usize>,
}

impl Retention {
    /// All orders, the first one first.
    pub fn erasures(&self) -> &[Erasure] {
        &self.erasures
    }

    /// Orders that are being carried out.
    pub fn unfinished(&self) -> impl Iterator<Item = &Erasure> {
        self.erasures
            .iter()
            .filter(|it| it.finished_at_ms.is_none())
    }

    /// The order that erased a place, or is about to.
    pub fn of(&self, origin: &str, index: u64) -> Option<&Erasure> {
        self.overlapping(origin, &(index..index.saturating_add(1)))
    }

    /// An order that names one of these places.
    pub fn overlapping(&self, origin: &str, leaves: &Range<u64>) -> Option<&Erasure> {
        let until = (origin.to_owned(), leaves.end);
        let ((of, _), (end, order)) = self.places.range(..until).next_back()?;
        (of == origin && *end > leaves.start)
            .then(|| self.erasures.get(*order))
            .flatten()
    }

    /// All holds in force, by id.
    pub fn holds(&self) -> impl Iterator<Item = &LegalHold> {
        self.holds.values().filter(|it| it.released.is_none())
    }

    /// A hold, in force or not.
    pub fn hold(&self, id: &str) -> Option<&LegalHold> {
        self.holds.get(id)
    }

    /// How many withdrawals there are.
    pub(super) fn withdrawals(&self) -> usize {
        self.withdrawals.len()
    }

    /// The withdrawal of a ticket, without the list of its tickets.
    pub fn withdrawal_of(&self, ticket: &[u8; 16]) -> Option<&TicketsWithdrawn> {
        self.withdrawals.get(*self.withdrawn.get(ticket)?)
    }

    /// All tickets that were withdrawn.
    pub fn withdrawn(&self) -> impl Iterator<Item = &[u8; 16]> {
        self.withdrawn.keys()
    }

    fn withdrew(&mut self, envelope: &Envelope, e: &TicketsWithdrawn) -> Result<(), IllegalEvent> {
        let number = self.withdrawals.len();
        for ticket in &e.tickets {
            let id = <[u8; 16]>::try_from(&ticket[..]).map_err(|_| {
                let reason = format!("a ticket has {} bytes, not 16", ticket.len());
                IllegalEvent::new(envelope, reason)
            })?;
            self.withdrawn.entry(id).or_insert(number);
        }
        self.withdrawals.push(TicketsWithdrawn {
            tickets: Vec::new(),
            ..e.clone()
        });
        Ok(())
    }

    /// How many holds were ever set.
    pub(super) fn holds_set(&self) -> u64 {
        self.holds_set
    }

    fn ordered(&mut self, envelope: &Envelope, e: &ErasureOrdered) -> Result<(), IllegalEvent> {
        let illegal = |reason: String| Err(IllegalEvent::new(envelope, reason));
        if self
            .erasures
            .iter()
            .any(|it| it.ordered.erasure == e.erasure)
        {
            return illegal(format!("erasure {} is ordered twice", e.erasure));
        }
        let number = self.erasures.len();
        let mut leaves: u64 = 0;
        for place in &e.places {
            let Some(end) = place
                .first
                .checked_add(place.count)
                .filter(|_| place.count > 0)
            else {
                return illegal(format!(
                    "{} leaves from {} on are no place",
                    place.count, place.first
                ));
            };
            if let Some(known) = self.overlapping(&place.origin, &(place.first..end)) {
                let known = &known.ordered.erasure;
                return illegal(format!(
                    "leaf {} of {} is erased by {known} already",
                    place.first, place.origin
                ));
            }
            leaves = leaves.saturating_add(place.count);
            self.places
                .insert((place.origin.clone(), place.first), (end, number));
        }
        if leaves != e.leaves || leaves == 0 {
            return illegal(format!("{leaves} leaves are named, {} are said", e.leaves));
        }
        self.erasures.push(Erasure {
            ordered: e.clone(),
            finished_at_ms: None,
        });
        Ok(())
    }
}

impl Fold for Retention {
    fn apply(&mut self, envelope: &Envelope, event: &Event) -> Result<(), IllegalEvent> {
        let Some(kind) = &event.kind else {
            return Ok(()); // written by a newer version: not known to this one
        };
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "every other event is illegal in the stream of a log's records"
        )]
        match kind {
            Kind::ErasureOrdered(e) => self.ordered(envelope, e)?,
            Kind::ErasureFinished(e) => {
                let order = self.erasures.iter_mut();
                let order = order.rev().find(|it| it.ordered.erasure == e.erasure);
                let Some(order) = order.filter(|it| it.finished_at_ms.is_none()) else {
                    let reason = format!("erasure {} ends and is not under way", e.erasure);
                    return Err(IllegalEvent::new(envelope, reason));
                };
                order.finished_at_ms = Some(e.finished_at_ms);
            }
            Kind::TicketsWithdrawn(e) => self.withdrew(envelope, e)?,
            Kind::LegalHoldSet(e) => {
                let hold = LegalHold {
                    set: e.clone(),
                    released: None,
                };
                if self.holds.insert(e.hold.clone(), hold).is_some() {
                    let reason = format!("hold {} is set twice", e.hold);
                    return Err(IllegalEvent::new(envelope, reason));
                }
                self.holds_set += 1;
            }
            Kind::LegalHoldReleased(e) => {
                let hold = self.holds.get_mut(&e.hold);
                let Some(hold) = hold.filter(|it| it.released.is_none()) else {
                    let reason = format!("hold {} is released and is not in force", e.hold);
                    return Err(IllegalEvent::new(envelope, reason));
                };
                hold.released = Some(e.clone());
            }
            _ => {
                return Err(IllegalEvent::new(
                    envelope,
                    "an event of another stream in that of a log's records",
                ));
            }
        }
        Ok(())
    }
}
