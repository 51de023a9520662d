//! What the trust bundle says of seal certificates. Pure.

use jiff::Timestamp;
use sealwarden_domain::certificates::{Held, stale};
use sealwarden_domain::installation::Installation;
use sealwarden_domain::log_control::Origin;
use sealwarden_seal::trust::{Payload, Revocation, SealCertificate, pem_block};
use sealwarden_wire::event::v1::SealCertificateBound;

/// The seal certificates of an origin in the order of their import: all that were ever bound to it, so that a revocation is seen.
pub(super) fn of_origin(installation: &Installation, origin: &str) -> Vec<SealCertificate> {
    let held = installation.trust.certificates.of_origin(origin);
    held.map(|(held, bound)| in_bundle(held, bound)).collect()
}

fn in_bundle(held: &Held, bound: &SealCertificateBound) -> SealCertificate {
    let revoked = held.revoked.as_ref().and_then(|it| {
        Some(Revocation {
            at: Timestamp::from_millisecond(it.at_ms).ok()?,
            reason: it.reason.parse().ok()?,
        })
    });
    SealCertificate {
        pem: first(&held.imported.chain).to_owned(),
        binding: Some(pem_block("CMS", &bound.binding)),
        revoked,
    }
}

/// The first certificate of a chain; those above it travel in the binding.
fn first(chain: &str) -> &str {
    const END: &str = "-----END CERTIFICATE-----\n";
    let end = chain.find(END).map_or(chain.len(), |at| at + END.len());
    chain.get(..end).unwrap_or(chain)
}

/// Why a bundle with other words about certificates is due, if one is. The same situation gives the same words.
pub(crate) fn due(installation: &Installation, payload: &Payload) -> Option<String> {
    let changed = payload
        .logs
        .iter()
        .find(|log| log.certificates != of_origin(installation, &log.origin))?;
    Some(format!(
        "says of the seal certificates of {} what was recorded since version {}",
        changed.origin, payload.version
    ))
}

/// Why nobody stands for an origin's keys now, or not for all of them; empty while all is well, and where there was never a certificate.
pub(crate) fn problem(installation: &Installation, origin: &Origin, now_ms: i64) -> String {
    let certificates = &installation.trust.certificates;
    if certificates.all().is_empty() {
        return String::new();
    }
    let remedy = "run `sealwarden keys certificate bind`";
    let Some((held, bound)) = certificates.current(&origin.origin) else {
        return format!("no seal certificate that is not revoked is bound to it; {remedy}");
    };
    if now_ms > held.imported.not_after_ms {
        return format!(
            "the seal certificate of {} has expired; have a new one certified, then {remedy}",
            held.imported.subject
        );
    }
    stale(bound, &vkeys(origin), now_ms).map_or_else(String::new, |it| format!("{it}; {remedy}"))
}

/// The verifier keys that a binding must name: those that the bundle lists.
pub(crate) fn vkeys(origin: &Origin) -> Vec<String> {
    origin.vkeys().iter().map(ToString::to_string).collect()
}
