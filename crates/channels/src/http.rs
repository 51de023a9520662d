//! One POST, and what its answer means.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, StatusCode};
use sealwarden_anchors::outside::{OutsideError, http_client, plain_client, read_answer, reasons};
use sealwarden_keys::private_files::{read_private, read_public};
use zeroize::Zeroizing;

use crate::message::{Outcome, one_line};

/// The largest file of a secret, and of authorities, bytes.
const MAX_SECRET_BYTES: u64 = 4 * 1024;
const MAX_ROOTS_BYTES: u64 = 1024 * 1024;
/// The longest answer that is read, bytes, and how much of it is kept.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;
const KEPT_BYTES: usize = 1024;

/// A secret from its own file: one line of visible ASCII characters.
pub(crate) async fn secret(path: &Path) -> Result<Zeroizing<String>, String> {
    let file = path.to_path_buf();
    let read = tokio::task::spawn_blocking(move || read_private(&file, MAX_SECRET_BYTES));
    let bytes = read
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| format!("its secret cannot be read: {error}"))?;
    let bytes = Zeroizing::new(bytes);
    let text = bytes.trim_ascii();
    if text.is_empty() || !text.iter().all(u8::is_ascii_graphic) {
        return Err(format!(
            "{} holds no secret: write it on one line, in visible ASCII characters",
            path.display()
        ));
    }
    Ok(Zeroizing::new(String::from_utf8_lossy(text).into_owned()))
}

/// PEM certificates of authorities from a file.
pub(crate) async fn roots(path: Option<&PathBuf>) -> Result<Option<Vec<u8>>, String> {
    let Some(file) = path.cloned() else {
        return Ok(None);
    };
    let read = tokio::task::spawn_blocking(move || read_public(&file, MAX_ROOTS_BYTES));
    let bytes = read.await.map_err(|error| error.to_string())?;
    bytes
        .map(Some)
        .map_err(|error| format!("its authorities cannot be read: {error}"))
}

/// A client for one request: what is true of its connection is true of the request.
async fn client(
    url: &str,
    deadline: Duration,
    tls_roots: Option<&PathBuf>,
) -> Result<Client, String> {
    if url.starts_with("http:") {
        return plain_client().map_err(|error| error.to_string());
    }
    let roots = roots(tls_roots).await?;
    let url = url.to_owned();
    // Reading the system's authorities takes a while.
    tokio::task::spawn_blocking(move || http_client(&url, deadline, roots.as_deref()))
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| match &error {
            // The address itself may be the secret.
            OutsideError::Url(_) => "its address cannot be used".to_owned(),
            OutsideError::TlsRoots(_) | OutsideError::Setup(_) => error.to_string(),
        })
}

/// Posts a JSON text under a key.
pub(crate) async fn post(
    url: &str,
    key: &str,
    body: String,
    timeout_ms: u64,
    tls_roots: Option<&PathBuf>,
) -> Outcome {
    let deadline = Duration::from_millis(timeout_ms);
    let client = match client(url, deadline, tls_roots).await {
        Ok(client) => client,
        Err(reason) => return Outcome::NotSent(reason),
    };
    let sent = client
        .post(url)
        .timeout(deadline)
        .header(CONTENT_TYPE, "application/json")
        // Slack does not look at it; others who take the same messages may.
        .header("idempotency-key", key)
        .body(body)
        .send()
        .await;
    let answer = match sent {
        Ok(answer) => answer,
        Err(error) => {
            // The client is new: it has no older connection on which something could have been sent.
            let unconnected = error.is_connect();
            let reason = reasons(&error.without_url());
            return if unconnected {
                Outcome::NotSent(reason)
            } else {
                Outcome::Unknown(reason)
            };
        }
    };
    let status = answer.status();
    let text = read_answer(answer, MAX_ANSWER_BYTES, KEPT_BYTES).await;
    meaning(status, &text.map(|kept| one_line(&kept)))
}

/// What an answer means. A gateway may say 200 before the system behind it has answered, so only a whole answer counts.
fn meaning(status: StatusCode, text: &Result<String, String>) -> Outcome {
    let words = match text {
        Ok(text) => format!("it answered {status}: {text}"),
        Err(reason) => format!("it answered {status}, and {reason}"),
    };
    let words = words.trim_end_matches(": ").to_owned();
    let later = matches!(
        status,
        StatusCode::REQUEST_TIMEOUT
            | StatusCode::CONFLICT
            | StatusCode::TOO_EARLY
            | StatusCode::TOO_MANY_REQUESTS
    );
    if status.is_success() && text.is_ok() {
        Outcome::Delivered(words)
    } else if status.is_client_error() && !later {
        Outcome::Refused(words)
    } else {
        Outcome::Unknown(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_means_one_thing() {
        let of = |status: u16, whole: bool| {
            let text = if whole {
                Ok("ok".to_owned())
            } else {
                Err("it broke off".to_owned())
            };
            meaning(StatusCode::from_u16(status).unwrap(), &text)
        };
        for status in [200, 202, 204] {
            assert!(
                matches!(of(status, true), Outcome::Delivered(_)),
                "{status}"
            );
            assert!(matches!(of(status, false), Outcome::Unknown(_)), "{status}");
        }
        for status in [400, 401, 403, 404, 410, 422] {
            assert!(matches!(of(status, true), Outcome::Refused(_)), "{status}");
        }
        for status in [301, 408, 409, 425, 429, 500, 503] {
            assert!(matches!(of(status, true), Outcome::Unknown(_)), "{status}");
        }
    }
}
