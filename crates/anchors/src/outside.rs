//! HTTP clients for parties outside the installation: time-stamping authorities and other operators' witnesses.
//!
//! What they answer proves itself, so `http` is as good as `https`, which only hides what is asked. For `https`, the authorities above the
//! server's certificate are the system's, or those that the settings name.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
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
