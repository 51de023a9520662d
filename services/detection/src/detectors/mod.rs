//! The detectors: pure functions from what the logs intended and one event to a signal, or to nothing.
//!
//! **Invariant:** a detector sees only what was recorded before the event that it judges, so a replay of the log decides the same.

mod archive_damage;
mod audit_gap;
mod foreign_checkpoint;
mod key_outage;
mod unexplained_key_use;
mod vendor_outage;
mod verdict_regression;

pub(crate) use archive_damage::archive_damage;
pub(crate) use audit_gap::{audit_gap, words as audit_gap_words};
pub(crate) use foreign_checkpoint::{
    CheckpointFinding, Foreign, NAME as FOREIGN_CHECKPOINT, foreign_checkpoint,
    judge as judge_checkpoint,
};
pub(crate) use key_outage::{ended as outage_ended, key_outage, subject as outage_subject};
pub(crate) use unexplained_key_use::unexplained_key_use;
pub(crate) use vendor_outage::{sentence as vendor_words, vendor_outage};
pub(crate) use verdict_regression::{sentence as verdicts_words, verdict_regression};

use std::collections::BTreeMap;

use sealwarden_domain::incident::time_text;
use sealwarden_domain::log_control::{LogControl, Origin};

/// The class of signals about keys.
pub(crate) const KEY_COMPROMISE: &str = "key-compromise";

/// What detectors know of the logs.
#[derive(Clone, Copy)]
pub(crate) struct Logs<'a> {
    /// Folded logs by name.
    pub(crate) logs: &'a BTreeMap<String, LogControl>,
    /// Streams that do not fold, with the reason: intents may be missing from their logs.
    pub(crate) poisoned: &'a BTreeMap<String, String>,
}

/// An origin and the log that it belongs to.
#[derive(Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) log: &'a str,
    pub(crate) origin: &'a Origin,
    /// Why intents may be missing: then nothing is proven.
    pub(crate) gap: Option<&'a str>,
}

impl<'a> Logs<'a> {
    /// The origin of this name.
    pub(crate) fn origin(self, origin: &str) -> Option<Found<'a>> {
        self.find(|o| o.origin == origin)
    }

    /// The origin whose checkpoints this key signs, or may: a standby key or a retired one is its origin's, too.
    pub(crate) fn key(self, log: &str, key_id: &str) -> Option<Found<'a>> {
        let named = self.logs.get_key_value(log);
        let of_log = named
            .and_then(|(name, control)| self.in_log(name, control, |o| o.signer(key_id).is_some()));
        of_log.or_else(|| self.find(|o| o.signer(key_id).is_some()))
    }

    fn find(self, matches: impl Fn(&Origin) -> bool + Copy) -> Option<Found<'a>> {
        self.logs
            .iter()
            .find_map(|(name, control)| self.in_log(name, control, matches))
    }

    fn in_log(
        self,
        name: &'a str,
        control: &'a LogControl,
        matches: impl Fn(&Origin) -> bool,
    ) -> Option<Found<'a>> {
        let origin = control.origins.iter().rev().find(|o| matches(o))?;
        let gap = self
            .poisoned
            .get(&format!("log/{name}"))
            .map(String::as_str);
        Some(Found {
            log: name,
            origin,
            gap,
        })
    }
}

/// The earliest of the times, none of them before the origin's key existed. Times of 0 or less are not known.
pub(crate) fn earliest(origin: &Origin, times_ms: &[i64]) -> i64 {
    let known = times_ms.iter().copied().filter(|at| *at > 0).min();
    known
        .unwrap_or(origin.opened_at_ms)
        .max(origin.opened_at_ms)
}

/// A time for a sentence.
pub(crate) fn when(at_ms: i64) -> String {
    let text = time_text(at_ms);
    if text.is_empty() {
        "an unknown time".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
pub(crate) mod tests;
