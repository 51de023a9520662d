//! One question to a verifier: `POST url/verify` with the seal (base64) and the document's SHA-256 (hex). What it answers is checked before it is believed to be an answer.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sealwarden_anchors::outside::{http_client, read_answer, reasons};
use serde::Deserialize;

use super::config::VerifierConfig;

/// The longest answer, bytes.
const MAX_ANSWER: u64 = 64 * 1024;
/// The same, to keep.
const KEPT: usize = 64 * 1024;
/// Largest file of authorities, bytes.
const MAX_ROOTS: u64 = 1024 * 1024;
/// The longest reason that is kept, characters.
const MAX_REASON: usize = 300;
/// How often a question is asked that nobody answers, and the pause between.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);

/// What it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) verdict: String,
    pub(crate) reason: String,
    pub(crate) release: String,
    pub(crate) trust_version: u64,
}

/// The answer as it comes; what is not named here is passed over, so that verifiers may say more.
#[derive(Deserialize)]
struct Answer {
    verdict: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    release: String,
    #[serde(default)]
    trust_version: u64,
}

/// A way to ask one verifier.
pub(crate) struct Asking {
    client: reqwest::Client,
    url: String,
}

impl Asking {
    /// Reads the authorities for `https` anew, so that they can be changed.
    pub(crate) fn new(config: &VerifierConfig) -> Result<Self, String> {
        let roots = config
            .tls_roots
            .as_deref()
            .map(|path| sealwarden_keys::private_files::read_public(path, MAX_ROOTS))
            .transpose()
            .map_err(|e| e.to_string())?;
        let deadline = Duration::from_millis(config.timeout_ms);
        let client =
            http_client(&config.url, deadline, roots.as_deref()).map_err(|e| e.to_string())?;
        Ok(Self {
            client,
            url: format!("{}/verify", config.url.trim_end_matches('/')),
        })
    }

    /// Asks; what may pass is asked again.
    pub(crate) async fn ask(&self, seal: &[u8], digest: &[u8; 32]) -> Result<Said, String> {
        let question =
            serde_json::json!({ "seal": STANDARD.encode(seal), "sha256": hex::encode(digest) });
        let question = question.to_string();
        let mut tried = 1;
        loop {
            match self.once(question.clone()).await {
                Ok(said) => return Ok(said),
                Err(reason) if tried >= TRIES => return Err(reason),
                Err(_) => tried += 1,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn once(&self, question: String) -> Result<Said, String> {
        let request = self.client.post(&self.url).body(question);
        let request = request.header("content-type", "application/json");
        let answer = request
            .send()
            .await
            .map_err(|e| reasons(&e.without_url()))?;
        let status = answer.status();
        let body = read_answer(answer, MAX_ANSWER, KEPT).await?;
        if !status.is_success() {
            return Err(format!(
                "it answered {status}: {}",
                one_line(&String::from_utf8_lossy(&body))
            ));
        }
        said(&body)
    }
}

/// What an answer says. A verdict or a release that no verifier would give is none: both go into events, and from there into the inputs of steps.
fn said(body: &[u8]) -> Result<Said, String> {
    let answer: Answer =
        serde_json::from_slice(body).map_err(|e| format!("its answer is not a verdict: {e}"))?;
    let plain = |text: &str, more: &[u8]| {
        text.len() <= 64
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
    };
    if answer.verdict.is_empty() || !plain(&answer.verdict, b"-") {
        return Err("its answer has no verdict in letters and '-'".to_owned());
    }
    if !plain(&answer.release, b"-._+") {
        return Err("its answer names a release with other characters than letters, digits and -._+, or a longer one than 64".to_owned());
    }
    let release = if answer.release.is_empty() {
        "unnamed".to_owned()
    } else {
        answer.release
    };
    Ok(Said {
        verdict: answer.verdict,
        reason: one_line(&answer.reason),
        release,
        trust_version: answer.trust_version,
    })
}

fn one_line(text: &str) -> String {
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    line.take(MAX_REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_checked_before_it_is_believed() {
        let good =
            said(br#"{"verdict": "bad-proof", "release": "2.1.0", "reason": "a\nb", "more": 1}"#)
                .unwrap();
        assert_eq!(
            (good.release.as_str(), good.reason.as_str()),
            ("2.1.0", "a b")
        );
        assert_eq!(said(br#"{"verdict": "valid"}"#).unwrap().release, "unnamed");
        for bad in [
            &b"valid"[..],
            br#"{"verdict": ""}"#,
            br#"{"verdict": "valid\"}, {"}"#,
            br#"{"verdict": "valid", "release": "1\", \"do\": \"more"}"#,
            br#"{"verdict": 1}"#,
            b"",
        ] {
            assert!(said(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
