//! The installation's own witnesses: its verification nodes, asked for their keys.

use std::time::Duration;

use sealwarden_engine::{Node, Role};
use sealwarden_seal::note::{VerifierKey, Vkey};
use sealwarden_seal::trust::{TrustBundle, WitnessEntry};

/// The longest that a witness may take to tell its key.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer that is read, in bytes.
const MAX_BYTES: usize = 4096;

/// The witnesses of the next bundle: outside ones of the bundle before, and local ones: those that answer now, and for those that do not, what the bundle before says.
pub(super) async fn current(
    node: &Node,
    http: &reqwest::Client,
    before: Option<&TrustBundle>,
) -> Vec<WitnessEntry> {
    let mut witnesses = before
        .and_then(|bundle| sealwarden_seal::trust::Payload::parse(bundle.payload_text()).ok())
        .map(|payload| payload.witnesses)
        .unwrap_or_default();
    for (name, _, url) in node.peers(Role::Verification) {
        match ask(http, &url).await {
            Ok(vkey) => {
                let name = vkey.name().to_owned();
                let entry = WitnessEntry::new(&name, vkey, &node.installation, true);
                witnesses.retain(|known| known.name != entry.name);
                witnesses.push(entry);
            }
            Err(reason) => {
                tracing::warn!(node = name, url, reason, "a witness did not tell its key");
            }
        }
    }
    witnesses.sort_by(|a, b| a.name.cmp(&b.name));
    witnesses
}

async fn ask(http: &reqwest::Client, url: &str) -> Result<Vkey, String> {
    let answer = http
        .get(format!("{}/witness/key", url.trim_end_matches('/')))
        .timeout(TIMEOUT)
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(|error| error.to_string())?;
    let bytes = crate::evidence::bounded_body(answer, MAX_BYTES).await?;
    let text = std::str::from_utf8(&bytes).map_err(|error| error.to_string())?;
    let vkey: Vkey = text
        .trim_end()
        .parse()
        .map_err(|error: sealwarden_seal::note::VkeyError| error.to_string())?;
    match vkey.key() {
        VerifierKey::CosignatureV1(_) | VerifierKey::MlDsa44(_) => Ok(vkey),
        VerifierKey::Ed25519(_) => Err(format!("{vkey} is not a cosignature key (type 04 or 06)")),
    }
}
