//! Certificates in a bundle: seal certificates of logs with their revocation, and the roots of time-stamping authorities.
//!
//! Only the armor is read here; what stands in a certificate is for those who check paths and names.

use super::TrustError;
use super::payload::{check_name, rule};
use crate::encoding::{base64, from_base64};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// RFC 7468's labels of what a bundle holds.
const CERTIFICATE: &str = "CERTIFICATE";
const CMS: &str = "CMS";
/// RFC 7468: all lines but the last have this many characters.
const LINE_CHARACTERS: usize = 64;
/// No certificate is larger, in bytes of DER.
pub const MAX_CERTIFICATE_BYTES: usize = 16 * 1024;
/// No signature of a certificate's key about its log is larger, in bytes of DER.
pub const MAX_BINDING_BYTES: usize = 32 * 1024;
/// A log has at most this many seal certificates, and a time-stamping authority this many roots.
pub const MAX_CERTIFICATES: usize = 16;

/// A seal certificate: it says which legal person the log's keys belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealCertificate {
    /// One certificate, PEM as RFC 7468 writes it.
    pub pem: String,
    /// What its key signed about the log: origin, verifier keys, dates. One CMS `SignedData` that carries its content and certificates, PEM
    /// as RFC 7468 writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<String>,
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

impl FromStr for RevocationReason {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|it| it.as_str() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            format!("{text:?} is not a reason for revoking a certificate; these are: {names}")
        })
    }
}

impl RevocationReason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::CaCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::PrivilegeWithdrawn,
    ];

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
        let count = blocks(&self.pem, CERTIFICATE, MAX_CERTIFICATE_BYTES).map(|found| found.len());
        rule(count == Some(1), || {
            format!(
                "a certificate of {origin} is not one PEM certificate (RFC 7468) of at most {MAX_CERTIFICATE_BYTES} bytes"
            )
        })?;
        let binding = self.binding.as_deref();
        let count = binding.map(|pem| blocks(pem, CMS, MAX_BINDING_BYTES).map(|found| found.len()));
        rule(count.is_none_or(|count| count == Some(1)), || {
            format!(
                "what a certificate signed about {origin} is not one PEM block CMS (RFC 7468) of at most {MAX_BINDING_BYTES} bytes"
            )
        })
    }

    /// The certificate's DER; empty where it is not in its one spelling, which no verified bundle holds.
    pub fn certificate(&self) -> Vec<u8> {
        let found = blocks(&self.pem, CERTIFICATE, MAX_CERTIFICATE_BYTES).unwrap_or_default();
        found.into_iter().next().unwrap_or_default()
    }

    /// The DER of what its key signed about the log, if the bundle has that.
    pub fn binding(&self) -> Option<Vec<u8>> {
        blocks(self.binding.as_deref()?, CMS, MAX_BINDING_BYTES)?
            .into_iter()
            .next()
    }
}

impl Tsa {
    pub(super) fn validate(&self) -> Result<(), TrustError> {
        check_name("time-stamping authority", &self.name)?;
        let count =
            blocks(&self.roots, CERTIFICATE, MAX_CERTIFICATE_BYTES).map_or(0, |found| found.len());
        rule((1..=MAX_CERTIFICATES).contains(&count), || {
            format!(
                "the roots of the time-stamping authority {} are not 1 to {MAX_CERTIFICATES} PEM certificates (RFC 7468)",
                self.name
            )
        })
    }

    /// The root certificates' DER; empty where they are not in their one spelling, which no verified bundle holds.
    pub fn root_certificates(&self) -> Vec<Vec<u8>> {
        blocks(&self.roots, CERTIFICATE, MAX_CERTIFICATE_BYTES).unwrap_or_default()
    }
}

/// RFC 7468's one spelling of a block, as bundles hold it.
pub fn pem_block(label: &str, der: &[u8]) -> String {
    let body = wrapped(&base64(der));
    format!("-----BEGIN {label}-----\n{body}-----END {label}-----\n")
}

fn wrapped(packed: &str) -> String {
    let mut wrapped = String::with_capacity(packed.len() + packed.len() / LINE_CHARACTERS + 1);
    for (place, letter) in packed.chars().enumerate() {
        if place != 0 && place % LINE_CHARACTERS == 0 {
            wrapped.push('\n');
        }
        wrapped.push(letter);
    }
    wrapped.push('\n');
    wrapped
}

/// The DER of PEM blocks in RFC 7468's strict spelling, with nothing between or around them.
fn blocks(pem: &str, label: &str, max_bytes: usize) -> Option<Vec<Vec<u8>>> {
    let (begin, end) = (
        format!("-----BEGIN {label}-----\n"),
        format!("-----END {label}-----\n"),
    );
    let mut found = Vec::new();
    let mut rest = pem;
    while !rest.is_empty() {
        let (body, tail) = rest.strip_prefix(&begin)?.split_once(&end)?;
        let packed: String = body.split('\n').collect();
        let der = from_base64(&packed)?;
        if der.is_empty() || der.len() > max_bytes || found.len() > MAX_CERTIFICATES {
            return None;
        }
        if wrapped(&packed) != body {
            return None;
        }
        found.push(der);
        rest = tail;
    }
    Some(found)
}
