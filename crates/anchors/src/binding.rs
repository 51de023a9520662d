//! What the key of a seal certificate signs about a log: origin, verifier keys, dates.
//!
//! A CMS `SignedData` that carries its content, and the certificates up to the holder's authority, so that anybody reads it with
//! `openssl cms -verify -inform DER -in FILE -CAfile ROOT`. The content is UTF-8 text of exactly these lines, each ended by a newline:
//!
//! ```text
//! sealwarden.binding@v1
//! origin seal.example.com/main/1
//! vkey <a verifier key of the log, C2SP vkey; one line a key, in the byte order of the lines, each once>
//! from 2026-11-23T04:05:06Z
//! until 2027-11-23T04:05:06Z
//! ```
//! Times are RFC 3339 in UTC with whole seconds. There is one spelling of each text. From `from` to `until`, both included, the holder of the certificate
//! declares these keys of the log to be theirs.

use jiff::Timestamp;
use sealwarden_seal::note::Vkey;
use std::fmt::Write as _;

use crate::profile::ID_DATA;
use crate::seal_certificate::{
    MAX_VKEYS, SealCertificate, SealCertificateError, date, is_key_of_a_log,
};
use crate::signed::{self, SignedError};
use crate::signer::{CmsRequest, Signer, SignerError};

/// The first line, without its newline.
pub const HEADER: &str = "sealwarden.binding@v1";
/// No text is longer, in bytes: 32 ML-DSA-44 keys fit.
const MAX_TEXT_BYTES: usize = 128 * 1024;

/// A binding cannot be made, or does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// Not the text.
    #[error("the text that a seal certificate signed about a log is malformed: {0}")]
    Malformed(String),
    /// The dates are not those of the certificate.
    #[error(
        "the binding says {from} to {until}, but the certificate of {subject} is valid from {not_before} to {not_after}; choose dates within"
    )]
    Dates {
        /// The binding's.
        from: String,
        /// The binding's.
        until: String,
        /// The certificate's subject.
        subject: String,
        /// The certificate's.
        not_before: String,
        /// The certificate's.
        not_after: String,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] SealCertificateError),
    /// The signature cannot be made.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The signature does not hold.
    #[error("the binding's signature is not good: {0}")]
    Signed(#[from] SignedError),
}

/// Which keys of a log belong to the holder of a certificate, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The log.
    pub origin: String,
    /// Its verifier keys, sorted as their texts are.
    pub vkeys: Vec<Vkey>,
    /// From when on, whole seconds of Unix time.
    pub from_s: i64,
    /// Until when, whole seconds of Unix time.
    pub until_s: i64,
}

/// A binding whose signature holds; who certified the signer is not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// What was signed.
    pub binding: Binding,
    /// What the signer's certificate says.
    pub certificate: SealCertificate,
    /// The signer's certificate, DER.
    pub certificate_der: Vec<u8>,
}

impl Binding {
    /// A binding of these keys in their order, each once. All of them must be keys of the log.
    pub fn new(
        origin: &str,
        mut vkeys: Vec<Vkey>,
        from_s: i64,
        until_s: i64,
    ) -> Result<Self, BindingError> {
        vkeys.sort_by_key(ToString::to_string);
        vkeys.dedup();
        let binding = Self {
            origin: origin.to_owned(),
            vkeys,
            from_s,
            until_s,
        };
        binding.check().map_err(BindingError::Malformed)?;
        Ok(binding)
    }

    fn check(&self) -> Result<(), String> {
        let count = self.vkeys.len();
        if count == 0 || count > MAX_VKEYS {
            return Err(format!(
                "it names {count} keys; 1 to {MAX_VKEYS} are allowed"
            ));
        }
        let foreign = |it: &&Vkey| it.name() != self.origin || !is_key_of_a_log(it);
        if let Some(vkey) = self.vkeys.iter().find(foreign) {
            return Err(format!("{vkey} is not a key of the log {}", self.origin));
        }
        let texts: Vec<String> = self.vkeys.iter().map(ToString::to_string).collect();
        if !texts.is_sorted_by(|a, b| a < b) {
            return Err("its keys are not in their order, each once".to_owned());
        }
        if self.from_s >= self.until_s {
            return Err(format!(
                "it ends at {}, not after it begins at {}",
                time(self.until_s),
                time(self.from_s)
            ));
        }
        Ok(())
    }

    /// The text that is signed.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\norigin {}\n", self.origin);
        for vkey in &self.vkeys {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "vkey {vkey}");
        }
        let _ = write!(
            text,
            "from {}\nuntil {}\n",
            time(self.from_s),
            time(self.until_s)
        );
        text
    }

    /// Reads the text strictly.
    pub fn parse(text: &[u8]) -> Result<Self, BindingError> {
        Self::read(text).map_err(BindingError::Malformed)
    }

    fn read(text: &[u8]) -> Result<Self, String> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(format!(
                "{} bytes; at most {MAX_TEXT_BYTES} are read",
                text.len()
            ));
        }
        let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            return Err(format!("it does not begin with {HEADER:?}"));
        }
        let (mut origin, mut vkeys, mut from, mut until) = (None, Vec::new(), None, None);
        for line in lines {
            let (word, value) = line.split_once(' ').unwrap_or((line, ""));
            let seconds = || {
                let read: Result<Timestamp, _> = value.parse();
                read.map(Timestamp::as_second)
                    .map_err(|error| error.to_string())
            };
            match word {
                "origin" => origin = Some(value.to_owned()),
                "vkey" => vkeys.push(
                    value
                        .parse()
                        .map_err(|error: sealwarden_seal::note::VkeyError| error.to_string())?,
                ),
                "from" => from = Some(seconds()?),
                "until" => until = Some(seconds()?),
                other => return Err(format!("it has a line {other:?}")),
            }
        }
        let missing = |what: &str| format!("it has no line {what:?}");
        let binding = Self {
            origin: origin.ok_or_else(|| missing("origin"))?,
            vkeys,
            from_s: from.ok_or_else(|| missing("from"))?,
            until_s: until.ok_or_else(|| missing("until"))?,
        };
        binding.check()?;
        // Doubled and disordered lines, other spellings of times and line ends: what was read is what would be written.
        if binding.to_text() != text {
            return Err("it is not in its one spelling".to_owned());
        }
        Ok(binding)
    }

    /// Whether it is in force at a time, Unix milliseconds.
    pub fn holds_at(&self, now_ms: i64) -> bool {
        (self.from_s..=self.until_s).contains(&now_ms.div_euclid(1000))
    }

    fn check_within(&self, certificate: &SealCertificate) -> Result<(), BindingError> {
        let ms = |seconds: i64| seconds.saturating_mul(1000);
        if certificate.not_before_ms <= ms(self.from_s)
            && ms(self.until_s) <= certificate.not_after_ms
        {
            return Ok(());
        }
        Err(BindingError::Dates {
            from: time(self.from_s),
            until: time(self.until_s),
            subject: certificate.subject.clone(),
            not_before: date(certificate.not_before_ms),
            not_after: date(certificate.not_after_ms),
        })
    }
}

/// Signs a binding at `now_ms`, Unix milliseconds; DER.
pub fn sign(binding: &Binding, signer: &Signer, now_ms: i64) -> Result<Vec<u8>, BindingError> {
    let certificate = SealCertificate::read(signer.leaf()?)?;
    certificate.check_valid_at(now_ms)?;
    let signature = signer.sign_cms(&CmsRequest {
        content_type: ID_DATA,
        content: binding.to_text().as_bytes(),
        detached: false,
        with_certificates: true,
        signing_time_ms: Some(now_ms),
    })?;
    // Nothing leaves that does not verify.
    verify(&signature)?;
    Ok(signature)
}

/// Checks the signature, the text, and that its dates lie within the certificate's. Who certified the signer is not checked: that is for those who know
/// which authorities they trust.
pub fn verify(signature: &[u8]) -> Result<Bound, BindingError> {
    let checked = signed::check(signature, ID_DATA, None)?;
    let certificate = SealCertificate::read(&checked.leaf)?;
    let binding = Binding::parse(&checked.content)?;
    binding.check_within(&certificate)?;
    Ok(Bound {
        binding,
        certificate,
        certificate_der: checked.leaf_der,
    })
}

fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| format!("{seconds} s"), |it| it.to_string())
}
