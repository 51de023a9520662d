//! A seal's checkpoint with its signatures checked: what does not depend on the document or the time.

use super::CountedWitness;
use crate::checkpoint::Checkpoint;
use crate::note::{Note, VerifiedSignature};
use crate::trust::{
    Payload, SignatureTimes, SignatureType, SuspendedKey, TrustedLog, VerifiedBundle, note_time,
};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// A witness's cosignature that verified; whether it counts depends on the present time.
#[derive(Debug)]
pub(super) struct Cosigned {
    /// When, in Unix milliseconds; none where it states no time, which counts for the quorum and dates nothing.
    pub(super) time_ms: Option<i64>,
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
    pub(super) bundle: &'a VerifiedBundle,
    pub(super) payload: &'a Payload,
    pub(super) log: &'a TrustedLog,
    /// The suspended key that the checkpoint relies on: no other key of the log signed it.
    pub(super) suspended: Option<&'a SuspendedKey>,
    /// The types of the log's good signatures.
    pub(super) signed: Vec<SignatureType>,
    /// One for each witness, with its time: those without a time first, then the earliest.
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
        let by_log: Vec<usize> = verified
            .iter()
            .map(|signature| signature.key_index)
            .filter(|place| *place < log_keys)
            .collect();
        if by_log.is_empty() {
            let reason = "witnesses cosigned the checkpoint, but no key of its log signed it";
            return Self::BadSignature(checkpoint, reason.to_owned());
        }
        if let Some(missing) = log.missing_type(&by_log) {
            let reason = format!(
                "the {} signature of its log, which version {} of the trust bundle requires, is missing; it was stripped, so \
                 fetch the seal again",
                missing.as_str(),
                bundle.payload().version
            );
            return Self::BadSignature(checkpoint, reason);
        }
        let types: BTreeSet<_> = by_log
            .iter()
            .filter_map(|place| SignatureType::of(log.entry.vkeys.get(*place)?))
            .collect();
        let cosigned = cosigned(&verified, log, bundle);
        Self::Good(Good {
            checkpoint,
            bundle,
            payload: bundle.payload(),
            suspended: log.relies_on(&by_log),
            log,
            signed: types.into_iter().collect(),
            cosigned,
        })
    }
}

/// Each witness counts once, if it has signed with all that is required of it.
fn cosigned(
    verified: &[VerifiedSignature],
    log: &TrustedLog,
    bundle: &VerifiedBundle,
) -> Vec<Cosigned> {
    let log_keys = log.entry.vkeys.len();
    let mut signed: BTreeMap<usize, SignatureTimes<(i64, Timestamp)>> = BTreeMap::new();
    for signature in verified {
        let place = signature
            .key_index
            .checked_sub(log_keys)
            .and_then(|key| bundle.witness_of_key(key));
        let key = log.note_keys.get(signature.key_index);
        let (Some(place), Some(of)) = (place, key.and_then(SignatureType::of_witness)) else {
            continue;
        };
        let found = match signature.time_s {
            None => None,
            // A time that no calendar holds is as good as no cosignature: it lies beyond every present.
            Some(seconds) => match i64::try_from(seconds).map(Timestamp::from_second) {
                Ok(Ok(time)) => Some((time.as_millisecond(), time)),
                Ok(Err(_)) | Err(_) => continue,
            },
        };
        note_time(signed.entry(place).or_default(), of, found);
    }
    let mut cosigned: Vec<_> = signed
        .into_iter()
        .filter_map(|(place, signed)| {
            let witness = bundle.witnesses().get(place)?;
            let time = witness.time_of(&signed)?;
            let witness = CountedWitness {
                name: witness.name.clone(),
                operator: witness.operator.clone(),
                time: time.map(|(_, time)| time.to_string()),
                local: witness.local,
            };
            let time_ms = time.map(|(time_ms, _)| time_ms);
            Some(Cosigned { time_ms, witness })
        })
        .collect();
    cosigned.sort_by_key(|it| it.time_ms);
    cosigned
}
