//! A key provider that is slow or away, as the node that writes the log says it: it failed over, or lets what is not critical wait.
//!
//! It is the node's own word about itself, so it is proven; it names no origin, because it is no reason to stop signing with one.

use sealwarden_wire::event::v1::{
    ActivationReason, Envelope, KeyPressureChanged, Reporter, SignalReported, SignersActivated,
    event::Kind,
};

use crate::ids::signal_id;

/// The detector of failovers.
const FAILOVER: &str = "key-failover";
/// The detector of providers that nobody stands in for.
const PRESSURE: &str = "key-pressure";
/// The class of its signals.
const KMS_OUTAGE: &str = "kms-outage";

/// The detector.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only these events of a log line are about what its key providers do"
)]
pub(crate) fn key_outage(log: &str, envelope: &Envelope, kind: &Kind) -> Option<SignalReported> {
    match kind {
        Kind::SignersActivated(e) if e.reason() == ActivationReason::Failover => {
            Some(failed_over(log, envelope, e))
        }
        Kind::KeyPressureChanged(e) if e.diverting => Some(under_pressure(log, envelope, e)),
        _ => None,
    }
}

/// The detector whose trouble an event says to be over. A finding that was not recorded by then is none: whoever reads an old log must not be called for
/// what was mended long ago.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only these events of a log line say that its key providers are well"
)]
pub(crate) fn ended(kind: &Kind) -> Option<&'static str> {
    match kind {
        Kind::SignersActivated(e) => match e.reason() {
            ActivationReason::Failback | ActivationReason::Rotation => Some(FAILOVER),
            ActivationReason::Unspecified
            | ActivationReason::Opened
            | ActivationReason::Failover
            | ActivationReason::Quantum
            | ActivationReason::Ordered => None,
        },
        // A new origin begins with the preferred provider.
        Kind::OriginOpened(_) => Some(FAILOVER),
        Kind::KeyPressureChanged(e) if !e.diverting => Some(PRESSURE),
        _ => None,
    }
}

/// What its signals about a log are about.
pub(crate) fn subject(log: &str) -> String {
    format!("key providers of log {log}")
}

fn failed_over(log: &str, envelope: &Envelope, e: &SignersActivated) -> SignalReported {
    let seen = format!(
        "{} failed over, since {}: {} signs {} now.",
        e.by,
        e.why,
        e.active.join(", "),
        e.origin
    );
    let expected = "The key of the preferred provider signs each checkpoint in good time. Another one signs until a person fails back.";
    signal(log, envelope, FAILOVER, (seen, expected), &e.why)
}

fn under_pressure(log: &str, envelope: &Envelope, e: &KeyPressureChanged) -> SignalReported {
    let seen = format!(
        "{} seals only what is critical at once, since no other provider stands in: {}.",
        e.node, e.reason
    );
    let expected = "A signature takes less than `slow_key_ms`, or another provider stands in; nothing has to wait in the queue.";
    signal(log, envelope, PRESSURE, (seen, expected), &e.reason)
}

fn signal(
    log: &str,
    envelope: &Envelope,
    detector: &str,
    (seen, expected): (String, &str),
    evidence: &str,
) -> SignalReported {
    let position = envelope.position.to_be_bytes();
    SignalReported {
        reading: None,
        key: String::new(),
        signal: signal_id(detector, &[log.as_bytes(), &position]),
        detector: detector.to_owned(),
        class: KMS_OUTAGE.to_owned(),
        subject: subject(log),
        log: log.to_owned(),
        origin: String::new(),
        proven: true,
        seen,
        expected: expected.to_owned(),
        events: vec![envelope.position],
        evidence: evidence.as_bytes().to_vec().into(),
        // Nothing is compromised.
        earliest_at_ms: 0,
        reporter: Some(Reporter {
            person: false,
            name: detector.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(kind: &Kind) -> Option<SignalReported> {
        let envelope = Envelope {
            position: 9,
            ..Envelope::default()
        };
        key_outage("main", &envelope, kind)
    }

    fn activated(reason: ActivationReason) -> Kind {
        Kind::SignersActivated(SignersActivated {
            origin: "seal.example.com/main/1".to_owned(),
            active: vec!["main-1-b".to_owned()],
            overlapping: Vec::new(),
            reason: reason.into(),
            by: "sealing-1".to_owned(),
            why: "key main-1 of the hsm provider did not sign: it is out".to_owned(),
        })
    }

    fn pressure(diverting: bool) -> Kind {
        Kind::KeyPressureChanged(KeyPressureChanged {
            origin: "seal.example.com/main/1".to_owned(),
            node: "sealing-1".to_owned(),
            diverting,
            provider: "hsm".to_owned(),
            reason: "key provider slow: hsm".to_owned(),
        })
    }

    #[test]
    fn a_failover_and_a_slow_provider_are_signals_about_the_log_and_stop_no_origin() {
        let failover = run(&activated(ActivationReason::Failover)).unwrap();
        assert!(failover.seen.contains("hsm provider did not sign"));
        assert!(failover.seen.contains("main-1-b signs"));
        let slow = run(&pressure(true)).unwrap();
        assert!(slow.seen.contains("provider slow: hsm"), "{}", slow.seen);
        for signal in [&failover, &slow] {
            assert_eq!(signal.class, KMS_OUTAGE);
            assert_eq!(signal.subject, "key providers of log main");
            assert!(signal.proven && signal.origin.is_empty());
            assert_eq!((&*signal.log, signal.earliest_at_ms), ("main", 0));
        }
        assert_ne!(failover.signal, slow.signal);
    }

    #[test]
    fn what_people_decide_is_no_signal_and_ends_what_it_mends() {
        for reason in [
            ActivationReason::Failback,
            ActivationReason::Rotation,
            ActivationReason::Quantum,
            ActivationReason::Ordered,
        ] {
            assert!(run(&activated(reason)).is_none());
        }
        assert!(run(&pressure(false)).is_none());
        assert_eq!(
            ended(&activated(ActivationReason::Failback)),
            Some(FAILOVER)
        );
        assert_eq!(ended(&activated(ActivationReason::Failover)), None);
        assert_eq!(ended(&activated(ActivationReason::Ordered)), None);
        assert_eq!(ended(&pressure(false)), Some(PRESSURE));
        assert_eq!(ended(&pressure(true)), None);
    }
}
