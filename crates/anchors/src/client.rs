//! Asks a time-stamping authority over HTTP (RFC 3161 3.4).
//!
//! The transport needs no secrecy and no authenticity: the answer proves itself, and the nonce ties it to the request.

use std::time::Duration;

use crate::outside::{self, OutsideError};
use crate::roots::Roots;
use crate::timestamp::{MAX_RESPONSE_BYTES, Policy, Request, Timestamp, TimestampError};

/// How long an authority may take to answer, connecting included.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// No timestamp could be had.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The system has no randomness for a nonce.
    #[error("the system gives no random numbers, so that no request can be made")]
    Randomness,
    /// No client can be made for the address.
    #[error(transparent)]
    Outside(#[from] OutsideError),
    /// The authority cannot be reached, or did not answer in time.
    #[error(
        "the time-stamping authority {url} does not answer: {reason}; try again, or name another with --tsa"
    )]
    Unreachable {
        /// Its address.
        url: String,
        /// Why.
        reason: String,
    },
    /// It answered, but not as a time-stamping authority does.
    #[error("{url} did not answer like a time-stamping authority: {reason}; check the address")]
    Answer {
        /// Its address.
        url: String,
        /// What it did instead.
        reason: String,
    },
    /// Its timestamp does not hold.
    #[error("the timestamp of {url} is not accepted: {source}")]
    Timestamp {
        /// Its address.
        url: String,
        /// Why.
        source: TimestampError,
    },
}

impl ClientError {
    /// Is another attempt, or another authority, worth trying?
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Randomness | Self::Outside(_) | Self::Answer { .. } | Self::Timestamp { .. } => {
                false
            }
        }
    }
}

/// A client of one time-stamping authority.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    policy: Option<Policy>,
}

impl Client {
    /// A client of the authority at `url` (`http` or `https`), which gets `deadline` for each answer. See [`outside::http_client`] for `tls_roots`.
    pub fn new(
        url: &str,
        deadline: Duration,
        tls_roots: Option<&[u8]>,
    ) -> Result<Self, ClientError> {
        Ok(Self {
            http: outside::http_client(url, deadline, tls_roots)?,
            url: url.to_owned(),
            policy: None,
        })
    }

    /// Asks for this policy, and accepts no other.
    #[must_use]
    pub fn with_policy(self, policy: Policy) -> Self {
        Self {
            policy: Some(policy),
            ..self
        }
    }

    /// Fetches a timestamp over `covered` and verifies it: the answer as it came (DER), and what it says.
    pub async fn stamp(
        &self,
        covered: &[u8],
        roots: &Roots,
    ) -> Result<(Vec<u8>, Timestamp), ClientError> {
        let refused = |source| ClientError::Timestamp {
            url: self.url.clone(),
            source,
        };
        let request = Request::new(covered, self.policy).ok_or(ClientError::Randomness)?;
        let answer = self.post(request.to_der().map_err(refused)?).await?;
        let timestamp = request.verify(&answer, roots).map_err(refused)?;
        Ok((answer, timestamp))
    }

    async fn post(&self, request: Vec<u8>) -> Result<Vec<u8>, ClientError> {
        let failed = |error: reqwest::Error| unreachable_authority(&self.url, &error);
        let mut answer = self
            .http
            .post(&self.url)
            .header("content-type", "application/timestamp-query")
            .header("accept", "application/timestamp-reply")
            .body(request)
            .send()
            .await
            .map_err(failed)?;
        let status = answer.status();
        if status.is_server_error() || status.as_u16() == 429 {
            return Err(ClientError::Unreachable {
                url: self.url.clone(),
                reason: format!("HTTP status {status}"),
            });
        }
        if !status.is_success() {
            return Err(self.odd(format!("HTTP status {status}")));
        }
        let kind = answer.headers().get("content-type");
        let kind = kind.and_then(|it| it.to_str().ok()).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/timestamp-reply") {
            return Err(self.odd(format!("content type {kind:?}")));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
                return Err(self.odd(format!("more than {MAX_RESPONSE_BYTES} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn odd(&self, reason: String) -> ClientError {
        ClientError::Answer {
            url: self.url.clone(),
            reason,
        }
    }
}

fn unreachable_authority(url: &str, error: &reqwest::Error) -> ClientError {
    ClientError::Unreachable {
        url: url.to_owned(),
        reason: outside::reasons(error),
    }
}
