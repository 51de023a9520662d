//! Doubt about a log's signatures, and the independent time that can lift it.
//!
//! Whoever holds a log's key can sign any tree at any claimed time. So a checkpoint of a compromised log, or of one whose seal
//! certificate was revoked, counts only where somebody else dates it before that: an outside witness, or a time-stamping
//! authority. The time that the record claims and the local witness's time say nothing.

use super::anchored::Dated;
use super::checked::{Cosigned, Good};
use crate::checkpoint::Checkpoint;
use crate::note::Vkey;
use crate::trust::{FrozenAt, SuspendedKey};
use jiff::Timestamp;

/// Since when a signature of the log proves nothing by itself, and why.
struct Doubt {
    since: Timestamp,
    /// A clause about the log: "a key of … may have been compromised since …".
    what: String,
}

/// `Ok(None)`: there is no doubt. `Ok(Some(_))`: there is, but the seal is proven older; says how. `Err`: suspect; says why.
pub(super) fn settle(
    good: &Good<'_>,
    counted: &[Cosigned],
    dated: &Dated<'_>,
    now_ms: i64,
) -> Result<Option<String>, String> {
    within_frozen(good)?;
    let Some(doubt) = doubt(good, now_ms) else {
        return Ok(None);
    };
    let Doubt { since, what } = doubt;
    let skew_ms = skew_ms(good);
    // Compared in milliseconds rounded down, which moves the compromise earlier: the safe side.
    let before = |time_ms: i64| time_ms.saturating_add(skew_ms) < since.as_millisecond();
    let outside = counted
        .iter()
        .filter(|it| !it.witness.local)
        .find_map(|it| Some((it, dating(good, it.time_ms)?)));
    if let Some((it, time_ms)) = outside
        && before(time_ms)
    {
        return Ok(Some(format!(
            "{what}, but the outside witness {} saw this checkpoint at {}",
            it.witness.name,
            date(time_ms)
        )));
    }
    let anchor = dated
        .between(earliest_ms(good), now_ms.saturating_add(skew_ms))
        .filter(|it| before(it.anchor.time_ms));
    if let Some(it) = anchor {
        let which = it.later.map_or_else(
            || "this checkpoint".to_owned(),
            |size| format!("a later checkpoint of {size} leaves, which contains this one,"),
        );
        return Ok(Some(format!(
            "{what}, but the time-stamping authority {} anchored {which} at {}",
            it.anchor.tsa,
            date(it.anchor.time_ms)
        )));
    }
    let mut words = what;
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let dates = match outside {
        Some((it, time_ms)) => format!(
            "the earliest outside witness, {}, saw this checkpoint only at {} (clock skew {} s)",
            it.witness.name,
            date(time_ms),
            good.payload.clock_skew_s
        ),
        None => "no outside witness dates this seal before that".to_owned(),
    };
    Err(format!("{words}, and {dates}; {}.", advice(good)))
}

/// What lies beyond the end of a frozen log is not part of its good history.
pub(super) fn within_frozen(good: &Good<'_>) -> Result<(), String> {
    let checkpoint = &good.checkpoint;
    if let Some((key, vkey)) = suspended(good)
        && is_beyond(checkpoint, key.end)
    {
        return Err(format!(
            "The seal's checkpoint has size {} and root {}, and only the revoked key {} of {} signed it, whose last good checkpoint has size {} with \
             root {}; {}.",
            checkpoint.size,
            checkpoint.root,
            vkey.key_id(),
            checkpoint.origin,
            key.end.size,
            key.end.root,
            advice(good)
        ));
    }
    let Some(end) = good.log.entry.frozen_at else {
        return Ok(());
    };
    if !is_beyond(checkpoint, end) {
        return Ok(());
    }
    Err(format!(
        "The seal's checkpoint has size {} and root {}, but {} was frozen at size {} with root {}, so that it is not part of \
         the log's good history; {}.",
        checkpoint.size,
        checkpoint.root,
        checkpoint.origin,
        end.size,
        end.root,
        advice(good)
    ))
}

fn is_beyond(checkpoint: &Checkpoint, end: FrozenAt) -> bool {
    let forked = checkpoint.size == end.size && checkpoint.root != end.root;
    checkpoint.size > end.size || forked
}

fn suspended<'a>(good: &Good<'a>) -> Option<(&'a SuspendedKey, &'a Vkey)> {
    let key = good.suspended?;
    Some((key, good.log.entry.vkeys.get(key.place)?))
}

/// The earliest doubt. A revocation that is still to come does not count yet.
fn doubt(good: &Good<'_>, now_ms: i64) -> Option<Doubt> {
    let log = good.log;
    let origin = &log.entry.origin;
    let compromised = log.compromised_since.map(|since| {
        let incident = log
            .incident
            .as_ref()
            .map(|id| format!(" (incident {id})"))
            .unwrap_or_default();
        Doubt {
            since,
            what: format!("a key of {origin} may have been compromised since {since}{incident}"),
        }
    });
    let latest = now_ms.saturating_add(skew_ms(good));
    let revoked = log
        .certificate_revoked
        .filter(|(at, _)| at.as_millisecond() <= latest)
        .map(|(since, reason)| Doubt {
            since,
            what: format!(
                "the seal certificate of {origin} was revoked at {since} ({})",
                reason.as_str()
            ),
        });
    let key = suspended(good).map(|(key, vkey)| Doubt {
        since: key.since,
        what: format!(
            "only the key {} of {origin} signed this, which was revoked and may have been in other hands since {} (incident {})",
            vkey.key_id(),
            key.since,
            key.incident
        ),
    });
    // Of equal times the first counts.
    let all = [compromised, revoked, key].into_iter().flatten();
    all.min_by_key(|it| it.since)
}

/// A time that can date the log's checkpoint: one from before the log was opened cannot.
pub(super) fn dating(good: &Good<'_>, time_ms: Option<i64>) -> Option<i64> {
    time_ms.filter(|time_ms| *time_ms >= earliest_ms(good))
}

fn earliest_ms(good: &Good<'_>) -> i64 {
    good.log.entry.opened.map_or(i64::MIN, |opened| {
        opened.as_millisecond().saturating_sub(skew_ms(good))
    })
}

pub(super) fn skew_ms(good: &Good<'_>) -> i64 {
    i64::try_from(good.payload.clock_skew_s)
        .unwrap_or(i64::MAX)
        .saturating_mul(1000)
}

fn advice(good: &Good<'_>) -> String {
    let is_whole = good.log.entry.frozen_at.is_none() && good.log.compromised_since.is_none();
    if good.suspended.is_some() && is_whole {
        return "fetch the seal again: a later checkpoint, signed by another key of the log, covers it".to_owned();
    }
    match &good.log.entry.successor {
        Some(successor) => format!(
            "the document may have been re-sealed in {successor}: ask the sealing service for its new seal"
        ),
        None => "ask the sealing service whether the document was sealed and will be sealed again"
            .into(),
    }
}

pub(super) fn date(time_ms: i64) -> String {
    Timestamp::from_millisecond(time_ms)
        .map_or_else(|_| format!("{time_ms} ms"), |time| time.to_string())
}
