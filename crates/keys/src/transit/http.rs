//! One HTTPS request to the server, with a deadline.
//!
//! hyper directly: reqwest's TLS feature would change every client of the program (it panics without a process-wide
//! provider and wants the system's authorities), and trust here is one CA file and nothing else.

use std::{error::Error, io, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::error::{TransitError, quoted};
use crate::private_files;

/// Longer answers are not the server's.
const MAX_ANSWER: usize = 8 * 1024 * 1024;
/// CA files are shorter than this, in bytes.
const MAX_CA: u64 = 1024 * 1024;
/// Idle connections are closed after this time, before servers and firewalls do.
const IDLE: Duration = Duration::from_mins(1);

/// A token or other secret as a header: marked sensitive, its bytes zeroized with the last copy.
pub(super) fn secret_header(secret: Zeroizing<Vec<u8>>) -> Result<HeaderValue, TransitError> {
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(secret)).map_err(|_| {
        TransitError::Settings {
            reason: "the token has characters that no token has: write the token alone, without spaces or line ends within"
                .to_owned(),
        }
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// One request.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    /// Below `/v1/`, already fit for a URL.
    pub(super) path: String,
    pub(super) namespace: &'a str,
    pub(super) token: Option<&'a HeaderValue>,
    /// JSON; zeroized after use.
    pub(super) body: Option<Vec<u8>>,
}

impl Call<'_> {
    /// Method and path, for messages.
    pub(super) fn action(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// A success, or an answer the caller has to judge.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// The answer's `data` as `T`.
    pub(super) fn data<'a, T: Deserialize<'a>>(&'a self, action: &str) -> Result<T, TransitError> {
        #[derive(Deserialize)]
        struct Envelope<T> {
            data: T,
        }
        self.json::<Envelope<T>>(action)
            .map(|envelope| envelope.data)
    }

    /// The whole answer as `T`.
    pub(super) fn json<'a, T: Deserialize<'a>>(&'a self, action: &str) -> Result<T, TransitError> {
        serde_json::from_slice(&self.body).map_err(|error| TransitError::Malformed {
            action: action.to_owned(),
            reason: error.to_string(),
        })
    }

    /// What the server said was wrong.
    fn words(&self) -> String {
        #[derive(Deserialize)]
        struct Errors {
            errors: Vec<String>,
        }
        serde_json::from_slice(&self.body).map_or_else(
            |_| quoted(&String::from_utf8_lossy(&self.body)),
            |said: Errors| quoted(&said.errors.join("; ")),
        )
    }
}

/// The connection pool.
pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    pub(super) url: String,
    deadline: Duration,
}

impl Http {
    /// Reads the CA file; connects later.
    pub(super) fn new(url: &str, ca_file: &Path, deadline: Duration) -> Result<Self, TransitError> {
        let settings = |reason: String| TransitError::Settings { reason };
        let url = url.trim_end_matches('/').to_owned();
        let uri: Uri = url
            .parse()
            .map_err(|error| settings(format!("{url:?} is not a URL: {error}")))?;
        let plain_path = matches!(uri.path(), "" | "/") && uri.query().is_none();
        if uri.scheme_str() != Some("https") || !plain_path {
            return Err(settings(format!(
                "{url:?} is not the address of a server: give https://host:port and no path"
            )));
        }
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(deadline));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls(ca_file)?)
            .https_only()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Ok(Self {
            client,
            url,
            deadline,
        })
    }

    /// Sends, and answers within the deadline. Only a success and `403`, `404` come back as an answer.
    pub(super) async fn send(&self, call: Call<'_>) -> Result<Answer, TransitError> {
        let action = call.action();
        let answer = tokio::time::timeout(self.deadline, self.exchange(call))
            .await
            .unwrap_or_else(|_elapsed| {
                Err(TransitError::Timeout {
                    url: self.url.clone(),
                    deadline_ms: u64::try_from(self.deadline.as_millis()).unwrap_or(u64::MAX),
                })
            })?;
        let judged = matches!(answer.status, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND);
        if answer.status.is_success() || judged {
            return Ok(answer);
        }
        Err(self.refusal(action, &answer))
    }

    /// The error for an answer that is no success.
    pub(super) fn refusal(&self, action: String, answer: &Answer) -> TransitError {
        let url = self.url.clone();
        let reason = answer.words();
        let status = answer.status.as_u16();
        match status {
            501 => TransitError::NotInitialized { url },
            503 if reason.contains("sealed") => TransitError::Sealed { url },
            // 472 and 473 are sys/health's words for standbys; a standby redirects, or finds no active server.
            307 | 308 | 472 | 473 => TransitError::Standby { url },
            500 if reason.contains("node not active") => TransitError::Standby { url },
            403 => TransitError::PermissionDenied { action },
            _ => TransitError::Answer {
                action,
                status,
                reason,
            },
        }
    }

    async fn exchange(&self, call: Call<'_>) -> Result<Answer, TransitError> {
        let action = call.action();
        let malformed = |reason: String| TransitError::Malformed {
            action: action.clone(),
            reason,
        };
        let mut request = Request::builder()
            .method(call.method)
            .uri(format!("{}/v1/{}", self.url, call.path))
            .header(header::ACCEPT, "application/json")
            .header("x-vault-request", "true");
        if !call.namespace.is_empty() {
            request = request.header("x-vault-namespace", call.namespace);
        }
        if let Some(token) = call.token {
            request = request.header("x-vault-token", token);
        }
        let body = call.body.map(Zeroizing::new).map(Bytes::from_owner);
        let request = request
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|error| malformed(error.to_string()))?;
        let response = self
            .client
            .request(request)
            .await
            .map_err(|error| self.no_connection(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| self.no_connection(&*error))?;
        Ok(Answer {
            status,
            body: Zeroizing::new(body.to_bytes().to_vec()),
        })
    }

    fn no_connection(&self, error: &(dyn Error + 'static)) -> TransitError {
        let url = self.url.clone();
        match tls_fault(error) {
            Some(reason) => TransitError::Tls { url, reason },
            None => TransitError::Unreachable {
                url,
                reason: chain(error),
            },
        }
    }
}

/// Trusts the authorities in `ca_file` and nobody else, with ring.
fn tls(ca_file: &Path) -> Result<ClientConfig, TransitError> {
    let settings = |reason: &dyn std::fmt::Display| TransitError::Settings {
        reason: format!(
            "{} holds no certificate authority (PEM): {reason}",
            ca_file.display()
        ),
    };
    let pem = private_files::read_public(ca_file, MAX_CA)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| settings(&error))?;
        roots.add(certificate).map_err(|error| settings(&error))?;
    }
    if roots.is_empty() {
        return Err(settings(&"it has no certificate"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| settings(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

/// What TLS said, if it was TLS that failed.
fn tls_fault(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(fault) = error.downcast_ref::<rustls::Error>() {
            return Some(fault.to_string());
        }
        // An io::Error's source skips the error it carries.
        if let Some(carried) = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            let carried: &(dyn Error + 'static) = carried;
            if let Some(fault) = tls_fault(carried) {
                return Some(fault);
            }
        }
        next = error.source();
    }
    None
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    quoted(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, body: &str) -> TransitError {
        let http = Http {
            client: Client::builder(TokioExecutor::new()).build(
                hyper_rustls::HttpsConnectorBuilder::new()
                    .with_tls_config(
                        ClientConfig::builder_with_provider(Arc::new(
                            rustls::crypto::ring::default_provider(),
                        ))
                        .with_safe_default_protocol_versions()
                        .unwrap()
                        .with_root_certificates(RootCertStore::empty())
                        .with_no_client_auth(),
                    )
                    .https_only()
                    .enable_http1()
                    .build(),
            ),
            url: "https://bao:8200".to_owned(),
            deadline: Duration::from_secs(1),
        };
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            body: Zeroizing::new(body.as_bytes().to_vec()),
        };
        http.refusal("POST transit/sign/x".to_owned(), &answer)
    }

    #[test]
    fn each_state_of_a_server_has_its_own_error() {
        let sealed = refusal(503, r#"{"errors":["Vault is sealed"]}"#);
        assert!(matches!(sealed, TransitError::Sealed { .. }), "{sealed}");
        for (status, body) in [
            (307, ""),
            (472, "{}"),
            (473, "{}"),
            (
                500,
                r#"{"errors":["local node not active but active cluster node not found"]}"#,
            ),
        ] {
            let standby = refusal(status, body);
            assert!(matches!(standby, TransitError::Standby { .. }), "{standby}");
        }
        let new = refusal(501, "{}");
        assert!(matches!(new, TransitError::NotInitialized { .. }), "{new}");
        let denied = refusal(403, r#"{"errors":["permission denied"]}"#);
        assert!(
            matches!(denied, TransitError::PermissionDenied { .. }),
            "{denied}"
        );
        let limited = refusal(429, "{\"errors\":[\"rate limit\\n\\u001b[2J\"]}");
        assert_eq!(
            limited.to_string(),
            "the OpenBao server answered POST transit/sign/x with 429: rate limit [2J"
        );
    }

    #[test]
    fn a_secret_is_not_printed_with_its_header() {
        let header = secret_header(Zeroizing::new(b"s.secret".to_vec())).unwrap();
        assert!(!format!("{header:?}").contains("secret"));
        assert!(secret_header(Zeroizing::new(b"two\nlines".to_vec())).is_err());
    }
}
