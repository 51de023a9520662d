//! Seal certificates that end soon. Nothing happens before a certificate ends but that time goes by, so the clock raises this signal and no event.
//!
//! Each certificate and end is told once: the signal's id follows from them, and a binding that ends later has another one.

use sealwarden_domain::incident::time_text;
use sealwarden_wire::event::v1::{Reporter, SignalReported};

use crate::ids::signal_id;
use crate::pending::Effect;
use crate::state::State;

/// The detector's name, and the class of its signals.
const NAME: &str = "certificate-expiring";

/// What stands for a log now, and when that ends.
struct Ending {
    signal: String,
    log: String,
    origin: String,
    certificate: String,
    subject: String,
    /// Position of the binding.
    position: u64,
    end_ms: i64,
    /// The binding ends before the certificate does.
    is_binding: bool,
}

/// The signals that are due and not recorded yet.
pub(crate) fn due(state: &State, warn_ms: Option<i64>, now_ms: i64) -> Vec<Effect> {
    let Some(warn_ms) = warn_ms else {
        return Vec::new();
    };
    endings(state)
        .filter(|it| it.end_ms.saturating_sub(warn_ms) <= now_ms)
        .map(|it| Effect::RecordSignal {
            signal: Box::new(signal(it)),
            cause: String::new(),
            traceparent: String::new(),
        })
        .collect()
}

/// When the next one will be due, Unix milliseconds.
pub(crate) fn next_ms(state: &State, warn_ms: Option<i64>, now_ms: i64) -> Option<i64> {
    let warn_ms = warn_ms?;
    let times = endings(state).map(|it| it.end_ms.saturating_sub(warn_ms));
    times.filter(|at| *at > now_ms).min()
}

/// Of the logs that are sealed into, those whose end was not told yet.
fn endings(state: &State) -> impl Iterator<Item = Ending> {
    let current = state.logs.iter().filter_map(|(log, control)| {
        let origin = control.current().filter(|it| it.isolation.is_none())?;
        let (held, bound) = state.certificates.current(&origin.origin)?;
        let (position, _) = held.bound.get(&origin.origin)?;
        let (certificate, binding) = (held.imported.not_after_ms, bound.until_ms);
        let end_ms = certificate.min(binding);
        let parts = [
            held.imported.certificate.as_bytes(),
            origin.origin.as_bytes(),
            &end_ms.to_be_bytes(),
        ];
        Some(Ending {
            signal: signal_id(NAME, &parts),
            log: log.clone(),
            origin: origin.origin.clone(),
            certificate: held.imported.certificate.clone(),
            subject: held.imported.subject.clone(),
            position: *position,
            end_ms,
            // A binding's end is written in whole seconds.
            is_binding: binding.saturating_add(1_000) < certificate,
        })
    });
    current.filter(|it| !state.signals.contains_key(&it.signal))
}

fn signal(it: Ending) -> SignalReported {
    let end = time_text(it.end_ms);
    let seen = if it.is_binding {
        format!(
            "What ties {} to its seal certificate ({}) ends at {end}, before the certificate does.",
            it.origin, it.subject
        )
    } else {
        format!(
            "The seal certificate of {} ({}) ends at {end}.",
            it.origin, it.subject
        )
    };
    let expected = "A seal certificate stands for each log that is sealed into. Seals verify without it; what they lack from then on is a legal person's name, and exports (CAdES, COSE) are refused.";
    SignalReported {
        reading: None,
        key: String::new(),
        signal: it.signal,
        detector: NAME.to_owned(),
        class: NAME.to_owned(),
        subject: format!("seal certificate of log {}", it.log),
        log: it.log,
        // Nothing is compromised, so no origin is held.
        origin: String::new(),
        proven: true,
        seen,
        expected: expected.to_owned(),
        events: vec![it.position],
        evidence: it.certificate.into_bytes().into(),
        earliest_at_ms: 0,
        reporter: Some(Reporter {
            person: false,
            name: NAME.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests;
