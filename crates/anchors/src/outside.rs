//! HTTP clients for parties outside the installation: time-stamping authorities and other operators' witnesses.
//!
//! What they answer proves itself, so `http` is as good as `https`, which only hides what is asked. For `https`, the authorities above the
//! server's certificate are the system's, or those that the settings name.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// No client can be made for an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutsideError {
    /// Another scheme, or no address at all.
    #[error("{0:?} is not an address; write http://host:port/path or https://host/path")]
    Url(String),
    /// The authorities for `https` cannot be read.
    #[error("the authorities that vouch for HTTPS servers are not usable: {0}")]
    TlsRoots(String),
    /// The client cannot be set up.
    #[error("the HTTP client cannot be set up: {0}")]
    Setup(String),
}

/// A client for `url` that gives up after `deadline`, connecting included, and follows no redirects. `tls_roots` are PEM certificates of authorities; without
/// them an `https` address is checked against the system's.
pub fn http_client(
    url: &str,
    deadline: Duration,
    tls_roots: Option<&[u8]>,
) -> Result<reqwest::Client, OutsideError> {
    let parsed = reqwest::Url::parse(url).map_err(|_| OutsideError::Url(url.to_owned()))?;
    let roots = match (parsed.scheme(), tls_roots) {
        ("http" | "https", Some(pem)) => named_roots(pem)?,
        ("http", None) => RootCertStore::empty(),
        ("https", None) => system_roots()?,
        _ => return Err(OutsideError::Url(url.to_owned())),
    };
    reqwest::Client::builder()
        .timeout(deadline)
        .redirect(reqwest::redirect::Policy::none())
        .tls_backend_preconfigured(tls(roots)?)
        .build()
        .map_err(|error| OutsideError::Setup(reasons(&error)))
}

/// A client for plain `http` addresses inside the installation: no proxy, no redirects, and no authority for `https` at all. Callers bound each request's time.
pub fn plain_client() -> Result<reqwest::Client, OutsideError> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tls_backend_preconfigured(tls(RootCertStore::empty())?)
        .build()
        .map_err(|error| OutsideError::Setup(reasons(&error)))
}

/// Set up by hand: reqwest's own way wants a process-wide provider and the system's authorities, and fails where there are none.
fn tls(roots: RootCertStore) -> Result<ClientConfig, OutsideError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| OutsideError::Setup(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn named_roots(pem: &[u8]) -> Result<RootCertStore, OutsideError> {
    let wrong = |reason: String| OutsideError::TlsRoots(reason);
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        store
            .add(certificate)
            .map_err(|error| wrong(error.to_string()))?;
    }
    if store.is_empty() {
        return Err(wrong("the file holds no certificate".to_owned()));
    }
    Ok(store)
}

fn system_roots() -> Result<RootCertStore, OutsideError> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let reason = "the system has none; name a PEM file with tls_roots".to_owned();
        return Err(OutsideError::TlsRoots(reason));
    }
    Ok(store)
}

/// Whether a text is an address that secrets may be sent to: `https`, or `http` on this machine; no user, password or fragment in it.
pub fn is_callable(text: &str) -> bool {
    reqwest::Url::parse(text).is_ok_and(|url| {
        let plain =
            url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        let safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url));
        plain && safe && url.host_str().is_some()
    })
}

/// Whether an address is on this machine.
pub fn is_local(text: &str) -> bool {
    reqwest::Url::parse(text).is_ok_and(|url| is_loopback(&url))
}

fn is_loopback(url: &reqwest::Url) -> bool {
    url.host_str().is_some_and(is_loopback_host)
}

/// Whether a host's name or address is this machine.
pub fn is_loopback_host(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The first `kept` bytes of an answer of `max_bytes` at most; the error says why it is not whole.
pub async fn read_answer(
    mut answer: reqwest::Response,
    max_bytes: u64,
    kept: usize,
) -> Result<Vec<u8>, String> {
    let max = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    let mut beginning = Vec::new();
    let mut length: usize = 0;
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => {
                length = length.saturating_add(chunk.len());
                if length > max {
                    return Err(format!(
                        "its answer is longer than {max_bytes} bytes; answer less, or raise max_answer_bytes"
                    ));
                }
                let room = kept.saturating_sub(beginning.len());
                beginning.extend(chunk.into_iter().take(room));
            }
            Ok(None) => return Ok(beginning),
            Err(error) => {
                let reason = reasons(&error.without_url());
                return Err(format!("its answer broke off: {reason}"));
            }
        }
    }
}

/// An error with all its causes.
pub fn reasons(error: &dyn std::error::Error) -> String {
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(it) = cause {
        reason = format!("{reason}: {it}");
        cause = it.source();
    }
    reason
}
