//! `trust export | show`

use std::path::Path;

use sealwarden_anchors::binding;
use sealwarden_anchors::chain::fingerprint;
use sealwarden_seal::trust::{LogState, SealCertificate, VerifiedBundle};
use sealwarden_wire::verify::v1::GetTrustRequest;
use serde_json::json;

use super::{Answer, client};
use crate::cli::{Cli, Trust};
use crate::client::Client;
use crate::failure::{Ending, Failure};
use crate::host::installation::write_public;
use crate::{output, trust_seen};

/// Largest bundle file that is read, bytes.
pub(crate) const MAX_BUNDLE: u64 = 4 * 1024 * 1024;

pub(crate) async fn run(cli: &Cli, what: &Trust) -> Answer {
    match what {
        Trust::Export { out } => export(cli, out.as_deref()).await,
        Trust::Show { file } => {
            let bytes = match file {
                Some(file) => read_limited(file, MAX_BUNDLE)?,
                None => fetch(client(cli)?).await?,
            };
            let bundle = trust_seen::open(&bytes, &cli.data, None)?;
            show(cli, &bundle);
            Ok(Ending::Good)
        }
    }
}

/// The installation's trust bundle, from its services.
pub(crate) async fn fetch(client: Client) -> Result<Vec<u8>, Failure> {
    let answer = client
        .verification()
        .await?
        .get_trust(GetTrustRequest {})
        .await?
        .into_inner();
    Ok(answer.bundle.to_vec())
}

async fn export(cli: &Cli, out: Option<&Path>) -> Answer {
    let bytes = fetch(client(cli)?).await?;
    let bundle = trust_seen::open(&bytes, &cli.data, None)?;
    let Some(out) = out else {
        output::line(&String::from_utf8_lossy(&bytes));
        return Ok(Ending::Good);
    };
    write_public(out, &bytes)?;
    let payload = bundle.payload();
    if cli.json {
        output::json(
            &json!({ "file": out, "installation": payload.installation, "version": payload.version, "expires": payload.expires.to_string() }),
        );
    } else {
        output::line(&format!(
            "{}: trust bundle version {} of {}, good until {}",
            out.display(),
            payload.version,
            payload.installation,
            payload.expires
        ));
        output::line(&format!(
            "compare its roots by another way: {}",
            bundle.roots_digest()
        ));
    }
    Ok(Ending::Good)
}

fn show(cli: &Cli, bundle: &VerifiedBundle) {
    let payload = bundle.payload();
    if cli.json {
        output::json(&json!({
            "payload": payload, "roots_sha256": bundle.roots_digest().to_string(),
            "suspensions": bundle.suspensions().iter().map(|s| json!({ "origin": s.origin, "from": s.from.to_string(), "incident": s.incident })).collect::<Vec<_>>(),
        }));
        return;
    }
    output::line(&format!(
        "installation {} ({}), version {}",
        payload.installation,
        payload.environment.as_str(),
        payload.version
    ));
    output::line(&format!(
        "issued {}, expires {}",
        payload.issued, payload.expires
    ));
    output::line(&format!(
        "roots: {} of {} keys must sign; digest {}",
        payload.roots.threshold,
        payload.roots.keys.len(),
        bundle.roots_digest()
    ));
    for (origin, log) in bundle.logs() {
        let since = log.compromised_since.map_or_else(String::new, |t| {
            format!(", key possibly compromised since {t}")
        });
        let successor = log
            .entry
            .successor
            .as_ref()
            .map_or_else(String::new, |s| format!(", succeeded by {s}"));
        output::line(&format!(
            "log {origin}: {}{since}{successor}",
            state(log.entry.state)
        ));
        for certificate in &log.entry.certificates {
            output::line(&format!("  {}", certified(certificate)));
        }
    }
    for w in bundle.witnesses() {
        let kind = if w.local { "local" } else { "outside" };
        output::line(&format!("witness {} of {} ({kind})", w.name, w.operator));
    }
    output::line(&format!("cosigned by {} to count", payload.quorum));
}

/// What the bundle says of a seal certificate. What stands in the binding is shown only where its signature holds.
fn certified(certificate: &SealCertificate) -> String {
    let der = certificate.certificate();
    let name: String = fingerprint(&der).chars().take(16).collect();
    let bound = certificate.binding().map(|signed| binding::verify(&signed));
    let words = match bound {
        Some(Ok(it)) if it.certificate_der == der => format!(
            "of {}, keys bound: {}, until {}",
            it.certificate.subject,
            it.binding.vkeys.len(),
            output::time(it.binding.until_s.saturating_mul(1000))
        ),
        Some(Ok(_)) => "with a binding by ANOTHER certificate".to_owned(),
        Some(Err(error)) => format!("with a BAD binding: {error}"),
        None => "without a binding".to_owned(),
    };
    let revoked = certificate.revoked.as_ref().map_or_else(String::new, |it| {
        format!(", REVOKED as of {} ({})", it.at, it.reason.as_str())
    });
    format!("seal certificate {name} {words}{revoked}")
}

/// Reads a whole file, or says that it is too large.
pub(crate) fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    let usage = |e: std::io::Error| Failure::usage(format!("{}: {e}", path.display()));
    let size = path.metadata().map_err(usage)?.len();
    if size > limit {
        return Err(Failure::usage(format!(
            "{} has {size} bytes; at most {limit} are read",
            path.display()
        )));
    }
    std::fs::read(path).map_err(usage)
}

fn state(state: LogState) -> &'static str {
    match state {
        LogState::Active => "active",
        LogState::Retired => "retired",
        LogState::Frozen => "frozen",
    }
}
