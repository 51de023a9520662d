//! Reading certificates back.

use jiff::Timestamp;
use ring::digest;
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    prelude::{FromDer, ParsedExtension},
    x509::X509Name,
};

use crate::{
    caller::{Caller, CallerName, CallerRole},
    error::PkiError,
};

/// A role is written among the alternative names as this and the role's word.
pub(crate) const ROLE_URI: &str = "sealwarden:role:";

/// What a certificate of this product says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// Whose it is.
    pub name: CallerName,
    /// What for.
    pub role: CallerRole,
    /// Where it may serve: IP addresses and DNS names, sorted.
    pub hosts: Vec<String>,
    /// When it ends, in Unix milliseconds.
    pub expires_at_ms: i64,
    /// SHA-256 of it (DER).
    pub fingerprint: [u8; 32],
}

impl CertificateInfo {
    /// Reads a certificate in DER. Does not verify its signature.
    pub fn from_der(der: &[u8]) -> Result<Self, PkiError> {
        let certificate = parse(der)?;
        let name = common_name(certificate.subject())
            .ok_or_else(|| PkiError::NotOurs("its subject has no single common name".into()))
            .and_then(CallerName::new)?;
        let mut roles = Vec::new();
        let mut hosts = Vec::new();
        for alternative in alternative_names(&certificate) {
            match alternative {
                GeneralName::URI(uri) => roles.extend(uri.strip_prefix(ROLE_URI)),
                GeneralName::DNSName(host) => hosts.push((*host).to_owned()),
                GeneralName::IPAddress(bytes) => hosts.extend(address(bytes)),
                GeneralName::OtherName(..)
                | GeneralName::RFC822Name(_)
                | GeneralName::X400Address(_)
                | GeneralName::DirectoryName(_)
                | GeneralName::EDIPartyName(_)
                | GeneralName::RegisteredID(_)
                | GeneralName::Invalid(..) => {}
            }
        }
        hosts.sort();
        let [role] = roles.as_slice() else {
            let count = roles.len();
            return Err(PkiError::NotOurs(format!(
                "the certificate of {name} has {count} roles and not one"
            )));
        };
        Ok(Self {
            role: role.parse()?,
            name,
            hosts,
            expires_at_ms: expires_at_ms(&certificate),
            fingerprint: fingerprint(der),
        })
    }

    pub(crate) fn into_caller(self) -> Caller {
        Caller {
            name: self.name,
            role: self.role,
            fingerprint: self.fingerprint,
        }
    }

    /// When it ends, RFC 3339.
    pub fn expires_at(&self) -> String {
        time_text(self.expires_at_ms)
    }
}

/// The parts of an authority's certificate that matter here.
pub(crate) struct AuthorityInfo {
    pub(crate) common_name: String,
    pub(crate) public_key: Vec<u8>,
    pub(crate) is_ca: bool,
    pub(crate) expires_at_ms: i64,
}

impl AuthorityInfo {
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, PkiError> {
        let certificate = parse(der)?;
        Ok(Self {
            common_name: common_name(certificate.subject())
                .unwrap_or_default()
                .to_owned(),
            public_key: public_key(&certificate),
            is_ca: certificate.is_ca(),
            expires_at_ms: expires_at_ms(&certificate),
        })
    }
}

/// The raw public key in a certificate.
pub(crate) fn public_key_of(der: &[u8]) -> Result<Vec<u8>, PkiError> {
    parse(der).map(|certificate| public_key(&certificate))
}

/// A time in Unix milliseconds as RFC 3339.
pub(crate) fn time_text(at_ms: i64) -> String {
    Timestamp::from_millisecond(at_ms).map_or_else(|_| format!("{at_ms} ms"), |at| at.to_string())
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, PkiError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(PkiError::NotOurs("bytes follow the certificate".into())),
        Err(error) => Err(PkiError::NotOurs(format!("unreadable X.509: {error}"))),
    }
}

fn common_name<'a>(name: &'a X509Name<'_>) -> Option<&'a str> {
    let mut names = name.iter_common_name();
    match (names.next(), names.next()) {
        (Some(only), None) => only.as_str().ok(),
        (Some(_) | None, _) => None,
    }
}

fn alternative_names<'a>(
    certificate: &'a X509Certificate<'_>,
) -> impl Iterator<Item = &'a GeneralName<'a>> {
    certificate
        .extensions()
        .iter()
        .filter_map(|extension| {
            if let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() {
                Some(names.general_names.iter())
            } else {
                None
            }
        })
        .flatten()
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(four).to_string());
    }
    let sixteen = <[u8; 16]>::try_from(bytes).ok()?;
    Some(std::net::Ipv6Addr::from(sixteen).to_string())
}

fn public_key(certificate: &X509Certificate<'_>) -> Vec<u8> {
    certificate.public_key().subject_public_key.data.to_vec()
}

fn expires_at_ms(certificate: &X509Certificate<'_>) -> i64 {
    certificate
        .validity()
        .not_after
        .timestamp()
        .saturating_mul(1000)
}

fn fingerprint(der: &[u8]) -> [u8; 32] {
    let mut fingerprint = [0_u8; 32];
    fingerprint.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
    fingerprint
}
