//! The seal certificate (X.509, P-256): ties a log's keys to a legal person (eIDAS Art. 36).
//!
//! The subject names the person (organisation, organisation identifier as ETSI EN 319 412-1, country). It says which keys of which logs are that
//! person's in one of two ways, or both:
//! - its key signs a [binding](crate::binding) of origin, verifier keys and dates; any certificate that may sign documents can do that;
//! - each verifier key stands in the subject's alternative names as a URI `sealwarden-log:<vkey>`, everything but letters, digits and
//!   `-._~` percent-encoded; the vkey's name is the log's origin. An authority that signs such a certificate thereby signs {origin, verifier keys,
//!   dates} itself; few do.
//!
//! One made by [`issue`] has a root of its own and shows only how it works; [`request`] makes what a real authority wants, and
//! [`crate::chain`] checks what it gives back.

use rcgen::{CertificateParams, DnType, KeyPair, KeyUsagePurpose, SanType};
use sealwarden_seal::checkpoint::{Checkpoint, CheckpointError};
use sealwarden_seal::note::{Note, NoteError, VerifierKey, Vkey};
use x509_cert::Certificate;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{KeyUsage, SubjectAltName};

use crate::authority::{Issued, issue_under_new_root};
use crate::profile;
use crate::signer::SignerError;

/// What the URIs of verifier keys begin with.
pub const SCHEME: &str = "sealwarden-log:";
/// No certificate names more verifier keys.
pub const MAX_VKEYS: usize = 32;

/// A certificate does not stand for a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealCertificateError {
    /// The names are unreadable.
    #[error("the certificate of {subject} is unreadable: {reason}")]
    Unreadable {
        /// Its subject.
        subject: String,
        /// What is wrong.
        reason: String,
    },
    /// It names no log key, and no binding does.
    #[error(
        "the certificate of {0} is bound to no log; sign which keys are its holder's with `sealwarden keys certificate bind`"
    )]
    NoKeys(String),
    /// It names too many.
    #[error("the certificate of {0} names more than {MAX_VKEYS} verifier keys")]
    TooManyKeys(String),
    /// A URI that is not a vkey.
    #[error("the certificate's name {0:?} is not the verifier key of a log")]
    Vkey(String),
    /// The key may not be used for signatures.
    #[error("the certificate of {0} does not allow signatures (keyUsage)")]
    Usage(String),
    /// Too early or too late.
    #[error(
        "the certificate of {subject} is valid from {not_before} to {not_after}, and now it is {now}; use one that is valid"
    )]
    Expired {
        /// Its subject.
        subject: String,
        /// RFC 3339.
        not_before: String,
        /// RFC 3339.
        not_after: String,
        /// RFC 3339.
        now: String,
    },
    /// A checkpoint that is not one.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint is not of a log that the certificate names.
    #[error("the certificate of {subject} is for {certified}, not for the log {origin}")]
    Origin {
        /// Its subject.
        subject: String,
        /// The checkpoint's origin.
        origin: String,
        /// The origins that the certificate names.
        certified: String,
    },
    /// No key that the certificate names signed the checkpoint.
    #[error("no key that the certificate names signed the checkpoint: {0}")]
    Signature(#[from] NoteError),
}

/// Who holds a seal certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegalPerson {
    /// Its official name.
    pub organization: String,
    /// Its registration as ETSI EN 319 412-1 writes it (`NTRDE-HRB123456`, `VATFR-…`).
    pub identifier: Option<String>,
    /// ISO 3166 country code.
    pub country: Option<String>,
}

impl LegalPerson {
    /// Checks what an authority would refuse: empty or long names (X.520 allows 64 characters), a country that is not two letters, an identifier that is
    /// not written as ETSI EN 319 412-1, 5.1.4 has it (three letters of a scheme, a country, a hyphen, the reference).
    pub fn check(&self) -> Result<(), String> {
        let organization = &self.organization;
        let length = organization.chars().count();
        if organization.trim() != organization
            || !(1..=64).contains(&length)
            || organization.contains(char::is_control)
        {
            return Err(format!(
                "the organisation {organization:?} is not 1 to 64 characters without blanks around them"
            ));
        }
        let letters = |text: &str, count: usize| {
            text.len() == count && text.bytes().all(|it| it.is_ascii_uppercase())
        };
        if let Some(country) = self.country.as_ref().filter(|it| !letters(it, 2)) {
            return Err(format!(
                "the country {country:?} is not two capital letters, such as DE"
            ));
        }
        let Some(identifier) = &self.identifier else {
            return Ok(());
        };
        let parts = identifier.split_once('-');
        let good = parts.is_some_and(|(scheme, reference)| {
            letters(scheme, 5)
                && !reference.is_empty()
                && reference.bytes().all(|it| it.is_ascii_graphic())
        });
        if good && identifier.len() <= 64 {
            return Ok(());
        }
        Err(format!(
            "the identifier {identifier:?} is not a scheme, a country, a hyphen and the reference, such as NTRDE-HRB123456"
        ))
    }
}

/// What a seal certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealCertificate {
    /// The certificate's subject.
    pub subject: String,
    /// The verifier keys among its names; the name of each is an origin. Empty for a certificate that says so by bindings only.
    pub vkeys: Vec<Vkey>,
    /// Valid from, Unix milliseconds.
    pub not_before_ms: i64,
    /// Valid to, Unix milliseconds.
    pub not_after_ms: i64,
}

fn params(person: &LegalPerson, vkeys: &[Vkey]) -> Result<CertificateParams, SignerError> {
    let failed = |error: rcgen::Error| SignerError::Encoding(error.to_string());
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::ContentCommitment,
    ];
    if let Some(country) = &person.country {
        params
            .distinguished_name
            .push(DnType::CountryName, country.as_str());
    }
    params
        .distinguished_name
        .push(DnType::OrganizationName, person.organization.as_str());
    if let Some(identifier) = &person.identifier {
        let kind = DnType::CustomDnType(vec![2, 5, 4, 97]);
        params.distinguished_name.push(kind, identifier.as_str());
    }
    for vkey in vkeys {
        let uri = format!("{SCHEME}{}", percent_encode(&vkey.to_string()));
        let uri = SanType::URI(uri.try_into().map_err(failed)?);
        params.subject_alt_names.push(uri);
    }
    Ok(params)
}

/// Makes a key and a seal certificate under a root of its own, valid between two times in Unix seconds.
pub fn issue(
    person: &LegalPerson,
    vkeys: &[Vkey],
    not_before_s: i64,
    not_after_s: i64,
) -> Result<Issued, SignerError> {
    let leaf = params(person, vkeys)?;
    issue_under_new_root(&person.organization, leaf, not_before_s, not_after_s)
}

/// Makes a key (PKCS#8 PEM, secret) and the request (PKCS#10 PEM) for a certificate authority to certify.
pub fn request(person: &LegalPerson, vkeys: &[Vkey]) -> Result<(String, String), SignerError> {
    let failed = |error: rcgen::Error| SignerError::Encoding(error.to_string());
    let mut params = params(person, vkeys)?;
    params
        .distinguished_name
        .push(DnType::CommonName, person.organization.as_str());
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let request = params.serialize_request(&key).map_err(failed)?;
    Ok((key.serialize_pem(), request.pem().map_err(failed)?))
}

impl SealCertificate {
    /// Reads what a certificate says; who signed it is not checked.
    pub fn read(certificate: &Certificate) -> Result<Self, SealCertificateError> {
        let tbs = &certificate.tbs_certificate;
        let subject = profile::name_text(&tbs.subject);
        let unreadable = |reason: der::Error| SealCertificateError::Unreadable {
            subject: subject.clone(),
            reason: reason.to_string(),
        };
        if let Some((_, usage)) = tbs.get::<KeyUsage>().map_err(unreadable)?
            && !usage.digital_signature()
            && !usage.non_repudiation()
        {
            return Err(SealCertificateError::Usage(subject));
        }
        let names = tbs.get::<SubjectAltName>().map_err(unreadable)?;
        let mut vkeys = Vec::new();
        for name in names.iter().flat_map(|(_, names)| names.0.iter()) {
            let GeneralName::UniformResourceIdentifier(uri) = name else {
                continue;
            };
            if let Some(encoded) = uri.as_str().strip_prefix(SCHEME) {
                let vkey = log_key(encoded)
                    .ok_or_else(|| SealCertificateError::Vkey(uri.as_str().to_owned()))?;
                vkeys.push(vkey);
            }
        }
        if vkeys.len() > MAX_VKEYS {
            return Err(SealCertificateError::TooManyKeys(subject));
        }
        let ms = |time: x509_cert::time::Time| {
            i64::try_from(time.to_unix_duration().as_millis()).unwrap_or(i64::MAX)
        };
        Ok(Self {
            subject,
            vkeys,
            not_before_ms: ms(tbs.validity.not_before),
            not_after_ms: ms(tbs.validity.not_after),
        })
    }

    /// Checks that the certificate is valid at `now_ms`, Unix milliseconds.
    pub fn check_valid_at(&self, now_ms: i64) -> Result<(), SealCertificateError> {
        if (self.not_before_ms..=self.not_after_ms).contains(&now_ms) {
            return Ok(());
        }
        Err(SealCertificateError::Expired {
            subject: self.subject.clone(),
            not_before: date(self.not_before_ms),
            not_after: date(self.not_after_ms),
            now: date(now_ms),
        })
    }

    /// Checks that a key which the certificate names, or which a binding of it names, signed this checkpoint.
    pub fn check_covers(
        &self,
        note: &Note,
        bound: &[Vkey],
    ) -> Result<Checkpoint, SealCertificateError> {
        let checkpoint = Checkpoint::parse(note.text())?;
        let all = || self.vkeys.iter().chain(bound);
        if all().next().is_none() {
            return Err(SealCertificateError::NoKeys(self.subject.clone()));
        }
        let keys: Vec<Vkey> = all()
            .filter(|vkey| vkey.name() == checkpoint.origin)
            .cloned()
            .collect();
        if keys.is_empty() {
            let mut names: Vec<_> = all().map(Vkey::name).collect();
            names.dedup();
            return Err(SealCertificateError::Origin {
                subject: self.subject.clone(),
                origin: checkpoint.origin,
                certified: names.join(", "),
            });
        }
        note.verify(&keys)?;
        Ok(checkpoint)
    }
}

pub(crate) fn date(time_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(time_ms)
        .map_or_else(|_| format!("{time_ms} ms"), |time| time.to_string())
}

/// A log's key from a URI's tail. A witness's key would let a cosignature pass for the log's word.
fn log_key(encoded: &str) -> Option<Vkey> {
    let vkey: Vkey = percent_decode(encoded)?.parse().ok()?;
    // One spelling of each: what was read is what would be written.
    let canonical = percent_encode(&vkey.to_string()) == encoded;
    (canonical && is_key_of_a_log(&vkey)).then_some(vkey)
}

pub(crate) fn is_key_of_a_log(vkey: &Vkey) -> bool {
    match vkey.key() {
        VerifierKey::CosignatureV1(_) => false,
        VerifierKey::Ed25519(_) | VerifierKey::MlDsa44(_) => true,
    }
}

fn percent_encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let value = digit(rest.next())? * 16 + digit(rest.next())?;
        bytes.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(bytes).ok()
}
