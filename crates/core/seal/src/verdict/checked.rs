//! A seal's checkpoint with its signatures checked: what does not depend on the document or the time.

use super::CountedWitness;
use crate::checkpoint::Checkpoint;
use crate::note::{Note, VerifiedSignature};
use crate::trust::{Payload, TrustedLog, VerifiedBundle};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// A witness's cosignature that verified; whether it counts depends on the present time.
#[derive(Debug)]
pub(super) struct Cosigned {
    pub(super) time_ms: i64,
    pub(super) witness: CountedWitness,
}

/// The outcome of checking a checkpoint note.
#[derive(Debug)]
pub(super) enum CheckedNote<'a> {
    /// Not a checkpoint.
    Malformed(String),
    /// The bundle does not know its log.
    UnknownLog(Checkpoint),
    /// A signature fails, or the log's is missing.
    BadSignature(Checkpoint, String),
    /// The log signed it.
    Good(Good<'a>),
}

/// A checkpoint that its log signed.
#[derive(Debug)]
pub(super) struct Good<'a> {
    pub(super) checkpoint: Checkpoint,
    pub(super) payload: &'a Payload,
    pub(super) log: &'a TrustedLog,
    /// One for each witness, with its earliest time, earliest first.
    pub(super) cosigned: Vec<Cosigned>,
}

impl<'a> CheckedNote<'a> {
    pub(super) fn check(text: &str, bundle: &'a VerifiedBundle) -> Self {
        let note = match Note::parse(text.as_bytes()) {
            Ok(note) => note,
            Err(error) => return Self::Malformed(error.to_string()),
        };
        let checkpoint = match Checkpoint::parse(note.text()) {
            Ok(checkpoint) => checkpoint,
            Err(error) => return Self::Malformed(error.to_string()),
        };
        let Some(log) = bundle.log(&checkpoint.origin) else {
            return Self::UnknownLog(checkpoint);
        };
        let log_keys = log.entry.vkeys.len();
        let verified = match note.verify(&log.note_keys) {
            Ok(verified) => verified,
            Err(error) => return Self::BadSignature(checkpoint, error.to_string()),
        };
        if !verified
            .iter()
            .any(|signature| signature.key_index < log_keys)
        {
            let reason = "witnesses cosigned the checkpoint, but no key of its log signed it";
            return Self::BadSignature(checkpoint, reason.to_owned());
        }
        let cosigned = cosigned(&verified, log_keys, bundle);
        Self::Good(Good {
            checkpoint,
            payload: bundle.payload(),
            log,
            cosigned,
        })
    }

    pub(super) fn is_good(&self) -> bool {
        match self {
            Self::Good(_) => true,
            Self::Malformed(_) | Self::UnknownLog(_) | Self::BadSignature(..) => false,
        }
    }
}

/// Each witness counts once, with its earliest time.
fn cosigned(
    verified: &[VerifiedSignature],
    log_keys: usize,
    bundle: &VerifiedBundle,
) -> Vec<Cosigned> {
    let mut earliest: BTreeMap<usize, (i64, Timestamp)> = BTreeMap::new();
    for signature in verified {
        let place = signature.key_index.checked_sub(log_keys);
        // A time that no calendar holds is as good as none: it lies beyond every present.
        let time = signature
            .time_s
            .and_then(|seconds| Timestamp::from_second(i64::try_from(seconds).ok()?).ok());
        let (Some(place), Some(time)) = (place, time) else {
            continue;
        };
        let found = (time.as_millisecond(), time);
        let kept = earliest.entry(place).or_insert(found);
        *kept = (*kept).min(found);
    }
    let mut cosigned: Vec<_> = earliest
        .into_iter()
        .filter_map(|(place, (time_ms, time))| {
            let witness = bundle.witnesses().get(place)?;
            let witness = CountedWitness {
                name: witness.name.clone(),
                operator: witness.operator.clone(),
                time: time.to_string(),
                local: witness.local,
            };
            Some(Cosigned { time_ms, witness })
        })
        .collect();
    cosigned.sort_by_key(|it| it.time_ms);
    cosigned
}
