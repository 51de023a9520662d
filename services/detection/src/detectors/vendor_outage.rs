//! Vendors that do not answer any more. The probe says so after as many failures as its settings name; what it says is one signal an outage.

use sealwarden_wire::event::v1::{Envelope, Reporter, SignalReported, VendorProbed, event::Kind};

use super::when;
use crate::ids::signal_id;

/// The detector's name.
const NAME: &str = "vendor-outage";
/// The class of its signals.
const VENDOR_FAILURE: &str = "vendor-failure";

/// The detector.
pub(crate) fn vendor_outage(envelope: &Envelope, e: &VendorProbed) -> Option<SignalReported> {
    if e.well {
        return None;
    }
    Some(SignalReported {
        reading: None,
        key: String::new(),
        signal: signal_id(NAME, &[e.vendor.as_bytes(), &e.since_ms.to_be_bytes()]),
        detector: NAME.to_owned(),
        class: VENDOR_FAILURE.to_owned(),
        subject: format!("vendor {}", e.vendor),
        log: String::new(),
        origin: String::new(),
        // Whoever has the address can ask the same.
        proven: true,
        seen: format!(
            "Vendor {} failed {} probes one after another since {}: {}.",
            e.vendor,
            e.probes,
            when(e.since_ms),
            e.reason.trim_end_matches('.')
        ),
        expected: "It answers, and what it answers holds.".to_owned(),
        events: vec![envelope.position],
        evidence: e.reason.clone().into_bytes().into(),
        earliest_at_ms: if e.since_ms > 0 {
            e.since_ms
        } else {
            envelope.recorded_at_ms
        },
        reporter: Some(Reporter {
            person: false,
            name: NAME.to_owned(),
        }),
    })
}

/// An event of a vendor in a sentence.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "events of other streams have their sentences elsewhere"
)]
pub(crate) fn sentence(kind: &Kind) -> Option<String> {
    Some(match kind {
        Kind::VendorProbed(e) if e.well => {
            format!("vendor {} is well ({}): {}", e.vendor, e.by, e.reason)
        }
        Kind::VendorProbed(e) => format!(
            "vendor {} is not well ({}, {} probes since {}): {}",
            e.vendor,
            e.by,
            e.probes,
            when(e.since_ms),
            e.reason
        ),
        Kind::VendorSetAside(e) => format!("{} stands in for vendor {}", e.fallback, e.vendor),
        Kind::VendorTakenBack(e) => format!("vendor {} serves again", e.vendor),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_one_signal_and_a_vendor_that_is_well_is_none() {
        let probed = |well, since_ms, probes| VendorProbed {
            vendor: "stamps".to_owned(),
            well,
            since_ms,
            probes,
            reason: "connection refused.".to_owned(),
            ..VendorProbed::default()
        };
        let found = |e: &VendorProbed| vendor_outage(&Envelope::default(), e);
        assert!(found(&probed(true, 5, 1)).is_none());
        let first = found(&probed(false, 5, 3)).unwrap();
        assert_eq!(first.subject, "vendor stamps");
        assert!(first.proven && first.log.is_empty() && first.origin.is_empty());
        assert!(
            first.seen.ends_with("connection refused."),
            "{}",
            first.seen
        );
        assert_eq!(found(&probed(false, 5, 9)).unwrap().signal, first.signal);
        assert_ne!(found(&probed(false, 8, 3)).unwrap().signal, first.signal);
    }
}
