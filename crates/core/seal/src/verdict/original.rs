//! Re-sealed leaves: a record that names the leaf it was first sealed in.
//!
//! After a compromise the leaves that the log intended before it are sealed again in a new log, under a good key. The new seal
//! is as good as that key; what it says about its original must not bring a forged leaf back. So the original's log must be one
//! that the bundle knows and that ended, and the original must lie in what the bundle lets be sealed again of it.

use super::checked::Good;
use crate::record::Original;
use crate::trust::LogState;

/// Why the claim to re-seal this original is not believed; what to do about it.
pub(super) fn check(good: &Good<'_>, original: &Original) -> Result<(), String> {
    let Original { origin, index } = original;
    let claim = format!("The seal says that it re-seals leaf {index} of {origin}, but");
    let advice =
        "it may be a forged leaf that was laundered: ask the sealing service how it came to be";
    if *origin == good.checkpoint.origin {
        return Err(format!(
            "{claim} that is the log of the seal itself, and no log seals its own leaves again; {advice}."
        ));
    }
    let Some(log) = good.bundle.log(origin) else {
        return Err(format!(
            "{claim} version {} of the trust bundle does not know that log; {advice}.",
            good.payload.version
        ));
    };
    let entry = &log.entry;
    match entry.state {
        LogState::Active => Err(format!(
            "{claim} that log was neither frozen nor retired under version {} of the trust bundle, so nothing of it was to be \
             sealed again; get a newer bundle, or {advice}.",
            good.payload.version
        )),
        LogState::Retired | LogState::Frozen => {
            let end = entry.resealable.or(entry.frozen_at.map(|end| end.size));
            match end {
                Some(end) if *index >= end => Err(format!(
                    "{claim} only its first {end} leaves are known to be from before the compromise; {advice}."
                )),
                // A suspension came in, and nobody has said yet where the good part ends.
                None if log.compromised_since.is_some() => Err(format!(
                    "{claim} a key of that log may have been compromised, and the bundle does not say where its good part ends; \
                     get a newer bundle."
                )),
                Some(_) | None => Ok(()),
            }
        }
    }
}
