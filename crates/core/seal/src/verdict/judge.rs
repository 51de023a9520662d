//! The verdict over one seal, from its parts and its checked checkpoint.

use super::anchored::Dated;
use super::checked::{CheckedNote, Cosigned, Good};
use super::doubt::{self, date, skew_ms};
use super::{Verdict, Verification, original};
use crate::checkpoint::Checkpoint;
use crate::merkle::{Hash, ProofError};
use crate::record::{Original, Record};
use crate::seal::Parts;
use crate::trust::Quorum;
use jiff::Timestamp;

/// A verdict and its reason.
type Finding = (Verdict, String);

/// `proven` says whether the record is in the tree of a good checkpoint.
pub(super) fn judge(
    mut answer: Verification,
    parts: &Parts<'_>,
    (checked, proven): (&CheckedNote<'_>, Result<(), ProofError>),
    dated: &Dated<'_>,
    document_digest: Option<[u8; 32]>,
    now_ms: i64,
) -> Verification {
    answer.index = Some(parts.index);
    let record = Record::decode(&parts.record);
    // What cannot be read comes first, then what the checkpoint's signatures say.
    let (verdict, reason) = match (record, checked) {
        (Err(error), _) => (
            Verdict::Malformed,
            format!("The seal's record is unreadable: {error}."),
        ),
        (_, CheckedNote::Malformed(reason)) => (
            Verdict::Malformed,
            format!("The seal's checkpoint is unreadable: {reason}."),
        ),
        (Ok(_), CheckedNote::UnknownLog(checkpoint)) => {
            describe(&mut answer, checkpoint);
            let reason = format!(
                "The seal is of the log {}, which version {} of the trust bundle does not know; get a newer bundle, or one of \
                 the installation that sealed the document.",
                checkpoint.origin, answer.bundle_version
            );
            (Verdict::UnknownLog, reason)
        }
        (Ok(_), CheckedNote::BadSignature(checkpoint, reason)) => {
            describe(&mut answer, checkpoint);
            (
                Verdict::BadSignature,
                format!("The seal's checkpoint is not good: {reason}."),
            )
        }
        (Ok(record), CheckedNote::Good(good)) => {
            describe(&mut answer, &good.checkpoint);
            answer.signed.clone_from(&good.signed);
            judge_good(
                &mut answer,
                proven,
                record,
                (good, dated),
                document_digest,
                now_ms,
            )
        }
    };
    answer.verdict = verdict;
    answer.reason = reason;
    answer
}

fn describe(answer: &mut Verification, checkpoint: &Checkpoint) {
    answer.origin = Some(checkpoint.origin.clone());
    answer.tree_size = Some(checkpoint.size);
}

/// The log signed the checkpoint; does the seal hold under it?
fn judge_good(
    answer: &mut Verification,
    proven: Result<(), ProofError>,
    record: Record,
    (good, dated): (&Good<'_>, &Dated<'_>),
    document_digest: Option<[u8; 32]>,
    now_ms: i64,
) -> Finding {
    if let Err(error) = proven {
        return (
            Verdict::BadProof,
            format!("The record is not proven to be in the log: {error}."),
        );
    }
    answer.claimed_at = Timestamp::from_millisecond(record.claimed_at_ms)
        .ok()
        .map(|time| time.to_string());
    let sealed_digest = record.digest;
    let original = record.original.clone();
    answer.record = Some(record);
    if let Some(digest) = document_digest.filter(|digest| *digest != sealed_digest) {
        let reason = format!(
            "The document's SHA-256 is {}, the sealed one is {}; the document was changed, or this is another document's seal.",
            Hash(digest),
            Hash(sealed_digest)
        );
        return (Verdict::DocumentMismatch, reason);
    }
    let counted = counted(good, now_ms);
    answer.sealed_at = counted
        .iter()
        .find_map(|it| doubt::dating(good, it.time_ms))
        .map(date);
    answer.witnesses = counted.iter().map(|it| it.witness.clone()).collect();
    // The compromise is judged first, so that a suspect log is never reported as merely unwitnessed.
    let before = match doubt::settle(good, counted, dated, now_ms) {
        Ok(before) => before,
        Err(reason) => return (Verdict::Suspect, reason),
    };
    if let Some(original) = &original
        && let Err(reason) = original::check(good, original)
    {
        return (Verdict::Suspect, reason);
    }
    if let Err(reason) = quorum_met(good, counted, now_ms) {
        return (Verdict::Unwitnessed, reason);
    }
    if let Err(reason) = bundle_current(good, now_ms) {
        return (Verdict::Suspect, reason);
    }
    valid(answer, document_digest.is_some(), original.as_ref(), before)
}

fn valid(
    answer: &Verification,
    compared: bool,
    original: Option<&Original>,
    before: Option<String>,
) -> Finding {
    let resealed = original.map_or_else(String::new, |it| {
        format!(
            " (sealed again; the original is leaf {} of {})",
            it.index, it.origin
        )
    });
    let subject = if compared {
        "The document is the one sealed as"
    } else {
        "No document was compared; the seal itself holds for"
    };
    let place = format!(
        "{subject} leaf {} of {}{resealed}, cosigned by {}",
        answer.index.unwrap_or_default(),
        answer.origin.as_deref().unwrap_or_default(),
        match answer.witnesses.len() {
            0 => "no witness".to_owned(),
            1 => "1 witness".to_owned(),
            count => format!("{count} witnesses"),
        }
    );
    match before {
        None => (Verdict::Valid, format!("{place}.")),
        Some(why) => (Verdict::ValidBeforeCompromise, format!("{place}; {why}.")),
    }
}

/// A cosignature from the future proves nothing. They are sorted, so those that count come first; one without a time counts.
fn counted<'a>(good: &'a Good<'_>, now_ms: i64) -> &'a [Cosigned] {
    let latest = now_ms.saturating_add(skew_ms(good));
    let count = good
        .cosigned
        .partition_point(|it| it.time_ms <= Some(latest));
    good.cosigned.get(..count).unwrap_or_default()
}

fn quorum_met(good: &Good<'_>, counted: &[Cosigned], now_ms: i64) -> Result<(), String> {
    let quorum = &good.payload.quorum;
    let met = match quorum {
        // Without a set of names: this is on the way of each seal.
        Quorum::Count(count) => usize::try_from(*count).is_ok_and(|count| counted.len() >= count),
        Quorum::Tree(_) => {
            quorum.is_met(&counted.iter().map(|it| it.witness.name.as_str()).collect())
        }
    };
    if met {
        return Ok(());
    }
    let early = good.cosigned.len() - counted.len();
    let future = if early == 0 {
        String::new()
    } else {
        format!(
            " ({early} more are dated after the present, {}: check the clock)",
            date(now_ms)
        )
    };
    Err(format!(
        "{} of the bundle's witnesses cosigned the checkpoint{future}, {quorum} must; fetch the seal again once it is \
         witnessed.",
        counted.len()
    ))
}

fn bundle_current(good: &Good<'_>, now_ms: i64) -> Result<(), String> {
    let payload = good.payload;
    if payload.expires.as_millisecond() <= now_ms {
        return Err(format!(
            "The seal holds under version {} of the trust bundle, but that expired at {}, so that a later compromise would \
             not be known; get a newer bundle.",
            payload.version, payload.expires
        ));
    }
    let issued_ms = payload.issued.as_millisecond();
    let limit_ms = good.bundle.max_age_s().map(|seconds| {
        let limit = i64::try_from(seconds).unwrap_or(i64::MAX);
        limit.saturating_mul(1000)
    });
    if let Some(limit_ms) = limit_ms
        && now_ms.saturating_sub(issued_ms) > limit_ms
    {
        return Err(format!(
            "The seal holds under version {} of the trust bundle, but that was issued at {}, longer ago than the {} s that this \
             verifier allows, so that a later compromise may not be known; get a newer bundle.",
            payload.version,
            payload.issued,
            limit_ms / 1000
        ));
    }
    if issued_ms > now_ms.saturating_add(skew_ms(good)) {
        return Err(format!(
            "The trust bundle was issued at {}, which is after the present, {}; set this machine's clock.",
            payload.issued,
            date(now_ms)
        ));
    }
    Ok(())
}
