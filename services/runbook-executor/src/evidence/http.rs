//! Bounded reading of answers over HTTP.

use std::time::Duration;

/// The longest that one fetch may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The body of an answer, if it has at most `max` bytes.
pub(crate) async fn bounded_body(
    mut answer: reqwest::Response,
    max: usize,
) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| error.to_string())? {
        if body.len() + chunk.len() > max {
            return Err(format!("the answer has more than {max} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Fetches what is public.
pub(super) async fn fetch(
    http: &reqwest::Client,
    url: &str,
    max: usize,
) -> Result<Vec<u8>, String> {
    let answer = http
        .get(url)
        .timeout(TIMEOUT)
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(|error| format!("{url}: {error}"))?;
    bounded_body(answer, max).await
}
