//! Certificates in a bundle: seal certificates of logs with their revocation, and the roots of time-stamping authorities.
//!
//! Only the armor is read here; what stands in a certificate is for those who check paths and names.

use super::TrustError;
use super::payload::{check_name, rule};
use crate::encoding::from_base64;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

const BEGIN: &str = "-----BEGIN CERTIFICATE-----\n";
const END: &str = "-----END CERTIFICATE-----\n";
/// RFC 7468: all lines but the last have this many characters.
const LINE_CHARACTERS: usize = 64;
/// No certificate is larger, in bytes of DER.
pub const MAX_CERTIFICATE_BYTES: usize = 16 * 1024;
/// A log has at most this many seal certificates, and a time-stamping authority this many roots.
pub const MAX_CERTIFICATES: usize = 16;

/// A seal certificate: it says which legal person the log's keys belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealCertificate {
    /// One certificate, PEM as RFC 7468 writes it.
    pub pem: String,
    /// That and since when it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revocation>,
}

/// When and why a certificate was revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// From when on it counts as revoked.
    pub at: Timestamp,
    /// Why.
    pub reason: RevocationReason,
}

/// Why a certificate was revoked, by RFC 5280, 5.3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevocationReason {
    /// No reason is given.
    Unspecified,
    /// The certificate's key may be in other hands.
    KeyCompromise,
    /// The issuer's key may be in other hands.
    CaCompromise,
    /// The legal person's name or affiliation changed.
    AffiliationChanged,
    /// Another certificate replaced it; says nothing against it.
    Superseded,
    /// The legal person does not use it any more.
    CessationOfOperation,
    /// A right stated in it was withdrawn.
    PrivilegeWithdrawn,
}

impl RevocationReason {
    /// The reason's name, as it is written in bundles.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "key-compromise",
            Self::CaCompromise => "ca-compromise",
            Self::AffiliationChanged => "affiliation-changed",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessation-of-operation",
            Self::PrivilegeWithdrawn => "privilege-withdrawn",
        }
    }
}

/// A time-stamping authority whose timestamps count as independent time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tsa {
    /// What people call it.
    pub name: String,
    /// Its root certificates, PEM as RFC 7468 writes it, one after the other.
    pub roots: String,
}

impl SealCertificate {
    pub(super) fn validate(&self, origin: &str) -> Result<(), TrustError> {
        let count = certificates(&self.pem).map(|found| found.len());
        rule(count == Some(1), || {
            format!(
                "a certificate of {origin} is not one PEM certificate (RFC 7468) of at most {MAX_CERTIFICATE_BYTES} bytes"
            )
        })
    }
}

impl Tsa {
    pub(super) fn validate(&self) -> Result<(), TrustError> {
        check_name("time-stamping authority", &self.name)?;
        let count = certificates(&self.roots).map_or(0, |found| found.len());
        rule((1..=MAX_CERTIFICATES).contains(&count), || {
            format!(
                "the roots of the time-stamping authority {} are not 1 to {MAX_CERTIFICATES} PEM certificates (RFC 7468)",
                self.name
            )
        })
    }

    /// The root certificates' DER; empty where they are not in their one spelling, which no verified bundle holds.
    pub fn root_certificates(&self) -> Vec<Vec<u8>> {
        certificates(&self.roots).unwrap_or_default()
    }
}

/// The DER of PEM certificates in RFC 7468's strict spelling, with nothing between or around them.
fn certificates(pem: &str) -> Option<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    let mut rest = pem;
    while !rest.is_empty() {
        let (body, tail) = rest.strip_prefix(BEGIN)?.split_once(END)?;
        let packed: String = body.split('\n').collect();
        let der = from_base64(&packed)?;
        if der.is_empty() || der.len() > MAX_CERTIFICATE_BYTES || found.len() > MAX_CERTIFICATES {
            return None;
        }
        let mut wrapped = String::with_capacity(body.len());
        for (place, letter) in packed.chars().enumerate() {
            if place != 0 && place % LINE_CHARACTERS == 0 {
                wrapped.push('\n');
            }
            wrapped.push(letter);
        }
        wrapped.push('\n');
        if wrapped != body {
            return None;
        }
        found.push(der);
        rest = tail;
    }
    Some(found)
}
