//! Mutual TLS for both sides of a gRPC connection.

use std::{error::Error, time::Duration};

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, ServerTlsConfig, Uri};

use crate::{error::PkiError, identity::Identity};

/// How long connecting may take, TLS included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often an idle connection is probed.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// How long a probe may go unanswered.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes ring the process's TLS provider. Harmless when repeated; call it first in `main`, before any connection.
pub fn install_ring() {
    // The error says that a provider is installed already, and only ring is built in.
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// The server's side: serves with `identity`, and demands a certificate of its authority from every client.
pub fn server_tls(identity: &Identity) -> ServerTlsConfig {
    ServerTlsConfig::new()
        .identity(pem_identity(identity))
        .client_ca_root(Certificate::from_pem(identity.authority_pem()))
        .client_auth_optional(false)
        .timeout(CONNECT_TIMEOUT)
}

/// The client's side: shows `identity`, and trusts only servers whose certificate comes from its authority and covers
/// `domain` (by default the address's host).
pub fn client_tls(identity: &Identity, domain: Option<&str>) -> ClientTlsConfig {
    let config = ClientTlsConfig::new()
        .identity(pem_identity(identity))
        .ca_certificate(Certificate::from_pem(identity.authority_pem()));
    match domain {
        Some(domain) => config.domain_name(domain),
        None => config,
    }
}

/// An endpoint at `url` (`https://host:port`) with mutual TLS, keepalive and a time-out for connecting. Calls have no
/// time-out of their own: set one per request.
pub fn endpoint(url: &str, identity: &Identity) -> Result<Endpoint, PkiError> {
    install_ring();
    let invalid = |reason: String| PkiError::InvalidUrl {
        url: url.to_owned(),
        reason,
    };
    let uri: Uri = url.parse().map_err(|error| invalid(format!("{error}")))?;
    if uri.scheme_str() != Some("https") {
        return Err(invalid("connections are always encrypted".to_owned()));
    }
    Endpoint::from(uri)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(KEEPALIVE_INTERVAL))
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .tls_config(client_tls(identity, None))
        .map_err(|error| connect_error(url, &error))
}

/// Connects to `url` as `identity` and answers once the connection stands.
///
/// A server refuses a certificate only after the client's side of TLS 1.3 is done, so a refusal of ours shows at the first
/// call.
pub async fn connect(url: &str, identity: &Identity) -> Result<Channel, PkiError> {
    endpoint(url, identity)?
        .connect()
        .await
        .map_err(|error| connect_error(url, &error))
}

/// As [`connect`], but connects at the first call, and again whenever the connection was lost. Needs a Tokio runtime.
pub fn connect_lazy(url: &str, identity: &Identity) -> Result<Channel, PkiError> {
    Ok(endpoint(url, identity)?.connect_lazy())
}

fn pem_identity(identity: &Identity) -> tonic::transport::Identity {
    tonic::transport::Identity::from_pem(identity.certificate_pem(), identity.key_pem())
}

fn connect_error(url: &str, error: &dyn Error) -> PkiError {
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        reason = format!("{reason}: {error}");
        cause = error.source();
    }
    PkiError::Connect {
        url: url.to_owned(),
        reason,
    }
}
