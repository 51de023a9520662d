//! One probe.

use std::path::Path;
use std::time::{Duration, Instant};

use sealwarden_anchors::client::Client;
use sealwarden_anchors::outside::{http_client, reasons};
use sealwarden_anchors::roots::Roots;
use sealwarden_keys::private_files::read_public;

use super::config::VendorConfig;

/// Largest file of certificates, bytes.
const MAX_PEM: u64 = 1024 * 1024;

/// What a probe came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Probed {
    pub(crate) well: bool,
    pub(crate) reason: String,
    pub(crate) took_ms: u64,
}

/// Uses the vendor once. What its settings name wrongly is its failure, too: it cannot be used so.
pub(crate) async fn probe(config: &VendorConfig) -> Probed {
    let begun = Instant::now();
    let deadline = Duration::from_millis(config.timeout_ms);
    let asked = tokio::time::timeout(deadline, ask(config, deadline)).await;
    let answer =
        asked.unwrap_or_else(|_| Err(format!("it did not answer within {} ms", config.timeout_ms)));
    let (well, reason) = match answer {
        Ok(reason) => (true, reason),
        Err(reason) => (false, reason),
    };
    Probed {
        well,
        reason,
        took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

async fn ask(config: &VendorConfig, deadline: Duration) -> Result<String, String> {
    let pem = |path: &Path| read_public(path, MAX_PEM).map_err(|e| e.to_string());
    let tls = config.tls_roots.as_deref().map(pem).transpose()?;
    if let (Some(url), Some(roots)) = (&config.tsa, &config.roots) {
        let roots = Roots::from_pem(&pem(roots)?).map_err(|e| e.to_string())?;
        let client = Client::new(url, deadline, tls.as_deref()).map_err(|e| e.to_string())?;
        // The request's own nonce makes each of them another one.
        let stamped = client.stamp(b"sealwarden probe\n", &roots).await;
        let (_, timestamp) = stamped.map_err(|e| e.to_string())?;
        return Ok(format!("a time stamp of {} holds", timestamp.tsa));
    }
    let url = config.url.as_deref().unwrap_or_default();
    let client = http_client(url, deadline, tls.as_deref()).map_err(|e| e.to_string())?;
    let answer = client.get(url).send().await;
    let status = answer.map_err(|e| reasons(&e.without_url()))?.status();
    if status.is_success() {
        Ok(format!("it answered {status}"))
    } else {
        Err(format!("it answered {status}"))
    }
}
