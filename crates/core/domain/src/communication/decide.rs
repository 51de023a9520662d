//! What may be recorded.

use sealwarden_wire::event::v1::{
    DeliveryEnded, DeliveryOutcome, DeliveryStarted, Event, IncidentAcknowledged, NoticePrepared,
    event::Kind,
};

use super::state::{Communication, DeliveryPhase, Retry, Sending};
use crate::fold::{Rejection, RejectionCode, event};

/// The most notices of one incident. Beyond it only its end is told.
pub const MAX_NOTICES: usize = 512;

/// A command to what is told about an incident.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// A text that is due. Its number is given here; if all that it covers is told already, nothing happens.
    Prepare(Box<NoticePrepared>),
    /// An attempt begins.
    Start {
        /// Which.
        sending: Sending,
        /// Its key.
        key: String,
        /// How many notices its message tells.
        together: u32,
        /// Now, Unix milliseconds.
        now_ms: i64,
    },
    /// An attempt ended.
    End {
        /// Which.
        sending: Sending,
        /// How.
        outcome: DeliveryOutcome,
        /// In words.
        reason: String,
        /// Now, Unix milliseconds.
        now_ms: i64,
        /// When it is tried again, if it is.
        retry: Retry,
        /// For the length of the pause, 0 to 1000.
        chance: u16,
    },
    /// Somebody takes care.
    Acknowledge(IncidentAcknowledged),
}

/// Decides a command. No events means that it is already so.
pub fn decide(state: &Communication, command: Command) -> Result<Vec<Event>, Rejection> {
    match command {
        Command::Prepare(notice) => prepare(state, *notice),
        Command::Start {
            sending,
            key,
            together,
            now_ms,
        } => start(state, sending, key, together, now_ms),
        Command::End {
            sending,
            outcome,
            reason,
            now_ms,
            retry,
            chance,
        } => {
            let last = sending.attempt >= retry.attempts;
            let again = match outcome {
                DeliveryOutcome::Delivered | DeliveryOutcome::Refused => false,
                DeliveryOutcome::NotSent
                | DeliveryOutcome::Unknown
                | DeliveryOutcome::Unspecified => !last,
            };
            let again_at_ms = if again {
                now_ms.saturating_add(retry.pause_ms(sending.attempt, chance))
            } else {
                0
            };
            let ended = DeliveryEnded {
                number: sending.number,
                channel: sending.channel,
                attempt: sending.attempt,
                outcome: outcome.into(),
                reason,
                again_at_ms,
            };
            end(state, ended)
        }
        Command::Acknowledge(e) => {
            let same = state
                .acknowledged
                .last()
                .is_some_and(|word| word.by == e.by && word.note == e.note);
            Ok(if same {
                Vec::new()
            } else {
                vec![event(Kind::IncidentAcknowledged(e))]
            })
        }
    }
}

fn prepare(state: &Communication, mut notice: NoticePrepared) -> Result<Vec<Event>, Rejection> {
    notice.covers.retain(|key| !state.covered.contains(key));
    if notice.covers.is_empty() {
        return Ok(Vec::new());
    }
    let the_end = notice.covers.iter().any(|key| key.contains("stage closed"));
    if state.notices.len() >= MAX_NOTICES && !the_end {
        let reason = format!(
            "the incident has {} notices already; at most {MAX_NOTICES} are made, and its end is told",
            state.notices.len()
        );
        return Err(Rejection::new(RejectionCode::NotNow, reason));
    }
    notice.number = state.next_number();
    Ok(vec![event(Kind::NoticePrepared(notice))])
}

fn start(
    state: &Communication,
    sending: Sending,
    key: String,
    together: u32,
    now_ms: i64,
) -> Result<Vec<Event>, Rejection> {
    let no = |reason: &str| {
        let reason = format!(
            "notice {} is not sent on {} now: {reason}",
            sending.number, sending.channel
        );
        Err(Rejection::new(RejectionCode::NotNow, reason))
    };
    let Some(notice) = state.notice(sending.number) else {
        return no("there is no such notice");
    };
    let Some(delivery) = notice.deliveries.get(&sending.channel) else {
        return no("it does not go there");
    };
    if !notice.is_free() {
        return no("people have not approved it");
    }
    match delivery.phase {
        DeliveryPhase::Delivered => return no("it is delivered"),
        DeliveryPhase::Refused | DeliveryPhase::GivenUp => return no("it is not tried again"),
        DeliveryPhase::Waiting(at_ms) if at_ms > now_ms => return no("its pause is not over"),
        DeliveryPhase::Waiting(_) | DeliveryPhase::Sending => {}
    }
    if sending.attempt != delivery.attempts.saturating_add(1) {
        return no("another attempt was begun meanwhile");
    }
    Ok(vec![event(Kind::DeliveryStarted(DeliveryStarted {
        number: sending.number,
        channel: sending.channel,
        attempt: sending.attempt,
        key,
        together,
    }))])
}

fn end(state: &Communication, ended: DeliveryEnded) -> Result<Vec<Event>, Rejection> {
    let delivery = state
        .notice(ended.number)
        .and_then(|notice| notice.deliveries.get(&ended.channel));
    let Some(delivery) = delivery else {
        let reason = format!("notice {} does not go to {}", ended.number, ended.channel);
        return Err(Rejection::new(RejectionCode::NotFound, reason));
    };
    if delivery.phase != DeliveryPhase::Sending || delivery.attempts != ended.attempt {
        return Ok(Vec::new()); // a later attempt says more
    }
    Ok(vec![event(Kind::DeliveryEnded(ended))])
}
