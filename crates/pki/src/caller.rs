//! Who calls, and what for.

use std::{
    collections::HashMap,
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::pki_types::CertificateDer;
use tonic::{Request, Status, service::Interceptor};

use crate::{certificate::CertificateInfo, error::PkiError};

/// The longest name, in bytes: what X.509 allows for a common name.
const MAX_NAME: usize = 64;
/// Certificates that are remembered; one more, and the memory begins anew.
const REMEMBERED: usize = 1024;

/// The name of a person or a node: 1 to 64 bytes of `A-Z`, `a-z`, `0-9`, `.`, `_`, `@` and `-`, beginning with a letter
/// or digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallerName(String);

impl CallerName {
    /// Checks `text` and makes a name of it.
    pub fn new(text: impl Into<String>) -> Result<Self, PkiError> {
        let text = text.into();
        let allowed =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'@' | b'-');
        let begins_well = text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric());
        if begins_well && text.len() <= MAX_NAME && text.bytes().all(allowed) {
            Ok(Self(text))
        } else {
            Err(PkiError::InvalidName(text))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CallerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for CallerName {
    type Err = PkiError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

/// What a caller's certificate entitles to. Services name the roles that each of their calls admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallerRole {
    /// A service of the installation; the only role whose certificate also serves.
    Node,
    /// A person: seals, verifies, signals, approves, reads.
    Operator,
    /// A client that seals and verifies.
    Sealer,
    /// A client that only verifies.
    Verifier,
    /// A detector that reports signals.
    Detector,
}

impl CallerRole {
    /// Every role.
    pub const ALL: [Self; 5] = [
        Self::Node,
        Self::Operator,
        Self::Sealer,
        Self::Verifier,
        Self::Detector,
    ];

    /// The word used in certificates and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Operator => "operator",
            Self::Sealer => "sealer",
            Self::Verifier => "verifier",
            Self::Detector => "detector",
        }
    }
}

impl fmt::Display for CallerRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for CallerRole {
    type Err = PkiError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| PkiError::InvalidRole(text.to_owned()))
    }
}

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name in its certificate.
    pub name: CallerName,
    /// The role in its certificate.
    pub role: CallerRole,
    /// SHA-256 of its certificate (DER).
    pub fingerprint: [u8; 32],
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.role)
    }
}

/// The caller of `request`: the one that [`Callers`] put there, else read from the client's certificate. TLS has
/// verified the certificate's chain and time. UNAUTHENTICATED if there is none, or it names no caller.
pub fn caller_of<T>(request: &Request<T>) -> Result<Caller, Status> {
    if let Some(caller) = request.extensions().get::<Caller>() {
        return Ok(caller.clone());
    }
    let certificates = request.peer_certs().ok_or_else(|| {
        Status::unauthenticated(
            "this call needs a client certificate: use the one that `sealwarden up` left in the data folder",
        )
    })?;
    let certificate = certificates
        .first()
        .ok_or_else(|| Status::unauthenticated("the client's certificate chain is empty"))?;
    read(certificate)
}

fn read(certificate: &CertificateDer<'_>) -> Result<Caller, Status> {
    CertificateInfo::from_der(certificate)
        .map(CertificateInfo::into_caller)
        .map_err(|error| {
            Status::unauthenticated(format!(
                "{error}; have one issued by this installation's authority, with a role"
            ))
        })
}

/// An interceptor that puts the caller into each request, for [`caller_of`], and takes each certificate apart once and not for every call.
///
/// It refuses nobody: a call without a readable certificate goes on without a caller, and whoever asks for one refuses it. What a certificate says never changes, so
/// what is remembered stays true; chain and time are verified by TLS, for each connection anew.
#[derive(Clone, Debug, Default)]
pub struct Callers(Arc<Mutex<HashMap<CertificateDer<'static>, Caller>>>);

impl Callers {
    fn of(&self, certificate: &CertificateDer<'static>) -> Option<Caller> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(caller) = known.get(certificate) {
            return Some(caller.clone());
        }
        let caller = read(certificate).ok()?;
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(certificate.clone(), caller.clone());
        Some(caller)
    }
}

impl Interceptor for Callers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let certificates = request.peer_certs();
        let certificate = certificates.as_ref().and_then(|chain| chain.first());
        if let Some(caller) = certificate.and_then(|it| self.of(it)) {
            request.extensions_mut().insert(caller);
        }
        Ok(request)
    }
}

/// Admits `caller` if its role is one of `roles`; `PERMISSION_DENIED`, naming both, if not.
pub fn require(caller: &Caller, roles: &[CallerRole]) -> Result<(), Status> {
    if roles.contains(&caller.role) {
        return Ok(());
    }
    let needed: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
    Err(Status::permission_denied(format!(
        "{} has the role {}, and this call needs {}: use a certificate with that role",
        caller.name,
        caller.role,
        needed.join(" or "),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_outside_the_alphabet_are_refused() {
        for bad in ["", ".", "@x", "a b", "a/b", "a\n", "ü", &"a".repeat(65)] {
            assert!(CallerName::new(bad).is_err(), "{bad:?} was accepted");
        }
        for good in ["a", "Alice@example.com", "sealing-1.eu", &"a".repeat(64)] {
            assert!(CallerName::new(good).is_ok(), "{good:?} was refused");
        }
    }

    #[test]
    fn every_role_is_read_back_from_its_word() {
        for role in CallerRole::ALL {
            assert_eq!(role.as_str().parse::<CallerRole>().unwrap(), role);
        }
        assert!("root".parse::<CallerRole>().is_err());
    }

    #[test]
    fn a_refusal_names_the_role_and_the_needed_ones() {
        let caller = Caller {
            name: CallerName::new("alice").unwrap(),
            role: CallerRole::Verifier,
            fingerprint: [0; 32],
        };
        assert!(require(&caller, &[CallerRole::Verifier]).is_ok());
        let status = require(&caller, &[CallerRole::Sealer, CallerRole::Operator]).unwrap_err();
        assert_eq!(status.code(), tonic::Code::PermissionDenied);
        assert!(status.message().contains("alice has the role verifier"));
        assert!(status.message().contains("sealer or operator"));
    }

    #[test]
    fn a_call_without_a_certificate_is_unauthenticated() {
        let status = caller_of(&Request::new(())).unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
    }
}
