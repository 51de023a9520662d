//! Commands about a log line's records.

use std::collections::BTreeSet;

use sealwarden_wire::event::v1::{
    ErasedRange, ErasureFinished, ErasureOrdered, Event, LegalHoldReleased, LegalHoldSet,
    TicketsWithdrawn, event::Kind,
};

use super::state::Retention;
use super::{MAX_RANGES, MAX_TICKETS};
use crate::fold::{Rejection, RejectionCode, event};

/// An order to erase places that were looked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// The log line.
    pub log: String,
    /// Whose records.
    pub tenant: String,
    /// What they have in common, without values.
    pub criterion: String,
    /// Why.
    pub reason: String,
    /// Who: `person <name>`, or `schedule`.
    pub by: String,
    /// Where, at most [`MAX_RANGES`].
    pub places: Vec<ErasedRange>,
    /// The holds in force that the places were compared with: all of them, and none covers one.
    pub seen: BTreeSet<String>,
    /// The node that carries it out.
    pub node: String,
    /// When, Unix milliseconds.
    pub at_ms: i64,
}

/// A command about a log line's records.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Places are to be erased.
    Erase(Order),
    /// All of an order is carried out.
    Finish(ErasureFinished),
    /// Requests that wait to be sealed are to be gone.
    Withdraw {
        /// The log line.
        log: String,
        /// Which ones; its id is given here, whatever it says.
        withdrawn: TicketsWithdrawn,
        /// The holds in force that the requests were compared with: all of them, and none covers one.
        seen: BTreeSet<String>,
    },
    /// A hold; its id is given here, whatever it says. The log's name makes it.
    Hold {
        /// The log line.
        log: String,
        /// The hold.
        hold: LegalHoldSet,
    },
    /// A hold ends.
    Release(LegalHoldReleased),
}

/// Decides a command. No events means that it is already so.
pub fn decide(state: &Retention, command: Command) -> Result<Vec<Event>, Rejection> {
    match command {
        Command::Erase(order) => erase(state, order),
        Command::Withdraw {
            log,
            withdrawn,
            seen,
        } => withdraw(state, &log, withdrawn, &seen),
        Command::Finish(e) => {
            let known = state.erasures().iter();
            let known = known.rev().find(|it| it.ordered.erasure == e.erasure);
            match known {
                Some(erasure) if erasure.finished_at_ms.is_some() => Ok(Vec::new()),
                Some(_) => Ok(vec![event(Kind::ErasureFinished(e))]),
                None => Err(Rejection::new(
                    RejectionCode::NotFound,
                    format!("erasure {} was never ordered", e.erasure),
                )),
            }
        }
        Command::Hold { log, mut hold } => {
            hold.hold = format!("H-{log}-{}", state.holds_set().saturating_add(1));
            Ok(vec![event(Kind::LegalHoldSet(hold))])
        }
        Command::Release(e) => match state.hold(&e.hold) {
            Some(hold) if hold.released.is_none() => Ok(vec![event(Kind::LegalHoldReleased(e))]),
            Some(_) => Err(Rejection::new(
                RejectionCode::NotNow,
                format!("hold {} was released before", e.hold),
            )),
            None => Err(Rejection::new(
                RejectionCode::NotFound,
                format!(
                    "there is no hold {:?}; `sealwarden erase holds` lists those in force",
                    e.hold
                ),
            )),
        },
    }
}

fn withdraw(
    state: &Retention,
    log: &str,
    mut e: TicketsWithdrawn,
    seen: &BTreeSet<String>,
) -> Result<Vec<Event>, Rejection> {
    compared(state, seen)?;
    let good = |ticket: &[u8]| ticket.len() == 16;
    if e.tickets.is_empty() || e.tickets.len() > MAX_TICKETS || !e.tickets.iter().all(|it| good(it))
    {
        let reason = format!(
            "{} tickets cannot be withdrawn at once; name 1 to {MAX_TICKETS} of 16 bytes",
            e.tickets.len()
        );
        return Err(Rejection::new(RejectionCode::Invalid, reason));
    }
    e.withdrawal = format!("W-{log}-{}", state.withdrawals().saturating_add(1));
    Ok(vec![event(Kind::TicketsWithdrawn(e))])
}

/// A hold that came meanwhile was not looked at.
fn compared(state: &Retention, seen: &BTreeSet<String>) -> Result<(), Rejection> {
    match state.holds().find(|it| !seen.contains(&it.set.hold)) {
        None => Ok(()),
        Some(hold) => Err(Rejection::new(
            RejectionCode::NotNow,
            format!(
                "hold {} was set meanwhile: the places must be compared with it first",
                hold.set.hold
            ),
        )),
    }
}

fn erase(state: &Retention, order: Order) -> Result<Vec<Event>, Rejection> {
    let invalid = |reason: String| Err(Rejection::new(RejectionCode::Invalid, reason));
    if order.places.is_empty() || order.places.len() > MAX_RANGES {
        return invalid(format!(
            "an order has 1 to {MAX_RANGES} ranges, not {}",
            order.places.len()
        ));
    }
    compared(state, &order.seen)?;
    let mut sorted: Vec<_> = order.places.iter().collect();
    sorted.sort_by_key(|it| (&it.origin, it.first));
    for (one, next) in sorted.iter().zip(sorted.iter().skip(1)) {
        if one.origin == next.origin && one.first.saturating_add(one.count) > next.first {
            return invalid(format!(
                "leaf {} of {} is named twice",
                next.first, next.origin
            ));
        }
    }
    let mut leaves: u64 = 0;
    for place in &order.places {
        let end = place.first.checked_add(place.count);
        let Some(end) = end.filter(|_| place.count > 0) else {
            return invalid(format!(
                "{} leaves from {} on are no place",
                place.count, place.first
            ));
        };
        if let Some(known) = state.overlapping(&place.origin, &(place.first..end)) {
            let reason = format!(
                "erasure {} names some of the {} leaves from {} on of {} already: look for the places again",
                known.ordered.erasure, place.count, place.first, place.origin
            );
            return Err(Rejection::new(RejectionCode::NotNow, reason));
        }
        leaves = leaves.saturating_add(place.count);
    }
    let number = state.erasures().len().saturating_add(1);
    Ok(vec![event(Kind::ErasureOrdered(ErasureOrdered {
        erasure: format!("E-{}-{number}", order.log),
        tenant: order.tenant,
        criterion: order.criterion,
        reason: order.reason,
        by: order.by,
        places: order.places,
        leaves,
        node: order.node,
        ordered_at_ms: order.at_ms,
    }))])
}
