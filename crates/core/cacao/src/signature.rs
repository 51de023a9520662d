//! Signatures of playbooks (`jss`), verified and made.
//!
//! Source: CACAO Security Playbooks v2.0, section "Digital signatures" and its example. A signature covers the whole
//! playbook with the one signature object in it, without that object's `value` and without other signatures: the
//! canonical JSON of that (JCS, RFC 8785) is hashed, the hash is written as small hexadecimal digits, and these ASCII
//! characters are what is signed. `value` is base64url without padding, `public_key` base64 of the DER of a
//! `SubjectPublicKeyInfo`.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jiff::Timestamp;
use ring::digest;
use ring::signature::{self as verify, UnparsedPublicKey, VerificationAlgorithm};
use serde::Deserialize;
use serde_json::{Value, json};
use spki::der::Decode as _;

use crate::finding::shown;
use crate::key::SigningKey;
use crate::playbook::Playbook;

/// The most signatures of a playbook: each costs a canonical form and a verification.
pub const MAX_SIGNATURES: usize = 32;

/// Padding or none, as writers please.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// What a signature object says, and whether it holds.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Its identifier.
    pub id: String,
    /// Who signed, as the signature says itself.
    pub signee: String,
    /// How.
    pub algorithm: String,
    /// When, as it says itself.
    pub created: String,
    /// Whether others signed this signature. Countersignatures are not checked.
    pub countersigned: bool,
    /// The key that verified it, or why it does not hold.
    pub outcome: Result<PublicKey, BadSignature>,
}

impl Checked {
    fn unread(bad: BadSignature) -> Self {
        Self {
            id: String::new(),
            signee: String::new(),
            algorithm: String::new(),
            created: String::new(),
            countersigned: false,
            outcome: Err(bad),
        }
    }
}

/// A key that verified a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// DER of its `SubjectPublicKeyInfo`.
    pub der: Vec<u8>,
}

impl PublicKey {
    /// SHA-256 of the DER, in hexadecimal: compare it with what the signer published.
    pub fn fingerprint(&self) -> String {
        hex::encode(digest::digest(&digest::SHA256, &self.der))
    }
}

/// Why a signature does not hold, or cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// The signature is not over this playbook.
    #[error("it does not match: the playbook or the signature was changed, or another key signed")]
    Wrong,
    /// It names another playbook, or another version.
    #[error("it is for `{property}` {signed}, and this playbook has {here}")]
    Other {
        /// Which property differs.
        property: &'static str,
        /// What the signature says.
        signed: String,
        /// What the playbook says.
        here: String,
    },
    /// Its maker took it back.
    #[error("whoever made it has revoked it")]
    Revoked,
    /// It is not valid at the time of the check.
    #[error("it is not valid at {at}: from {from}, until {until}")]
    NotValid {
        /// The time of the check.
        at: String,
        /// From when it is valid.
        from: String,
        /// Until when.
        until: String,
    },
    /// An algorithm that is not known here.
    #[error(
        "{what} `{name}` is not supported; supported are RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, Ed25519, and sha-256, sha-384, sha-512"
    )]
    Unsupported {
        /// Which of the two.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The key is not in the signature.
    #[error(
        "it has no `public_key`; certificates, their addresses and thumbprints are not followed"
    )]
    NoKey,
    /// More signatures than are checked.
    #[error("here are {0} signatures; at most {MAX_SIGNATURES} are checked")]
    TooMany(usize),
    /// What should be a key or a signature is none.
    #[error("its `{0}` cannot be read")]
    Unreadable(&'static str),
}

impl BadSignature {
    /// Whether the signature speaks against the playbook; else it only says nothing for it.
    pub fn is_against(&self) -> bool {
        match self {
            Self::Wrong
            | Self::Other { .. }
            | Self::Revoked
            | Self::TooMany(_)
            | Self::Unreadable(_) => true,
            Self::NotValid { .. } | Self::Unsupported { .. } | Self::NoKey => false,
        }
    }
}

/// The properties of a signature object that are checked.
#[derive(Deserialize)]
struct Stated {
    id: String,
    signee: String,
    created: String,
    #[serde(default)]
    revoked: bool,
    valid_from: Option<Timestamp>,
    valid_until: Option<Timestamp>,
    related_to: String,
    related_version: String,
    hash_algorithm: String,
    algorithm: String,
    public_key: Option<String>,
    value: String,
    signature: Option<Value>,
}

/// Checks each signature of a playbook. `now` decides about those with a limited life.
///
/// A signature that holds says that the owner of the key in it signed this playbook; whose key that is, the
/// playbook cannot prove. The value need not be a whole playbook: only `id`, `modified` and `signatures` are looked at.
pub fn signatures(playbook: &Value, now: Timestamp) -> Vec<Checked> {
    let list = playbook.get("signatures").and_then(Value::as_array);
    let count = list.map_or(0, Vec::len);
    if count > MAX_SIGNATURES {
        return vec![Checked::unread(BadSignature::TooMany(count))];
    }
    let read = list.into_iter().flatten().map(|object| {
        let stated = Stated::deserialize(object).ok();
        (object, stated)
    });
    read.map(|(object, stated)| match stated {
        Some(stated) => Checked {
            outcome: check(playbook, object, &stated, now),
            id: stated.id,
            signee: stated.signee,
            algorithm: stated.algorithm,
            created: stated.created,
            countersigned: stated.signature.is_some(),
        },
        None => Checked::unread(BadSignature::Unreadable("properties")),
    })
    .collect()
}

fn check(
    playbook: &Value,
    object: &Value,
    stated: &Stated,
    now: Timestamp,
) -> Result<PublicKey, BadSignature> {
    for (property, signed) in [
        ("id", &stated.related_to),
        ("modified", &stated.related_version),
    ] {
        let here = playbook
            .get(property)
            .and_then(Value::as_str)
            .unwrap_or_default();
        if signed != here {
            return Err(BadSignature::Other {
                property,
                signed: shown(signed),
                here: shown(here),
            });
        }
    }
    if stated.revoked {
        return Err(BadSignature::Revoked);
    }
    let key = stated.public_key.as_ref().ok_or(BadSignature::NoKey)?;
    let stripped: String = key.split_whitespace().collect();
    let der = STANDARD
        .decode(stripped)
        .map_err(|_| BadSignature::Unreadable("public_key"))?;
    let algorithm = verification(&stated.algorithm)
        .ok_or_else(|| unsupported("the algorithm", &stated.algorithm))?;
    let value = URL_SAFE
        .decode(&stated.value)
        .map_err(|_| BadSignature::Unreadable("value"))?;
    let message = message(playbook, object, &stated.hash_algorithm)?;
    let bits = spki::SubjectPublicKeyInfoRef::from_der(&der)
        .ok()
        .and_then(|info| info.subject_public_key.as_bytes())
        .ok_or(BadSignature::Unreadable("public_key"))?;
    UnparsedPublicKey::new(algorithm, bits)
        .verify(message.as_bytes(), &value)
        .map_err(|_| BadSignature::Wrong)?;
    let shown =
        |time: Option<Timestamp>| time.map_or_else(|| "-".to_owned(), |time| time.to_string());
    if stated.valid_from.is_some_and(|from| now < from)
        || stated.valid_until.is_some_and(|until| now >= until)
    {
        return Err(BadSignature::NotValid {
            at: now.to_string(),
            from: shown(stated.valid_from),
            until: shown(stated.valid_until),
        });
    }
    Ok(PublicKey { der })
}

fn unsupported(what: &'static str, name: &str) -> BadSignature {
    BadSignature::Unsupported {
        what,
        name: shown(name),
    }
}

fn verification(algorithm: &str) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match algorithm {
        "RS256" => &verify::RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &verify::RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &verify::RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &verify::RSA_PSS_2048_8192_SHA256,
        "PS384" => &verify::RSA_PSS_2048_8192_SHA384,
        "PS512" => &verify::RSA_PSS_2048_8192_SHA512,
        "ES256" => &verify::ECDSA_P256_SHA256_FIXED,
        "ES384" => &verify::ECDSA_P384_SHA384_FIXED,
        "Ed25519" => &verify::ED25519,
        _ => return None,
    })
}

/// What is signed: the hash, in hexadecimal, of the canonical playbook that holds this signature alone.
fn message(playbook: &Value, signature: &Value, hash: &str) -> Result<String, BadSignature> {
    let algorithm = match hash {
        "sha-256" => &digest::SHA256,
        "sha-384" => &digest::SHA384,
        "sha-512" => &digest::SHA512,
        other => return Err(unsupported("the hash", other)),
    };
    let mut signature = signature.clone();
    if let Some(object) = signature.as_object_mut() {
        object.shift_remove("value");
        // A countersignature is added afterwards.
        object.shift_remove("signature");
    }
    let mut whole = playbook.clone();
    if let Some(object) = whole.as_object_mut() {
        object.insert("signatures".to_owned(), Value::Array(vec![signature]));
    }
    // Only numbers that JSON cannot hold make it fail, and a playbook was read from JSON.
    let canonical = serde_json_canonicalizer::to_vec(&whole)
        .map_err(|_| BadSignature::Unreadable("signatures"))?;
    Ok(hex::encode(digest::digest(algorithm, &canonical)))
}

/// What a new signature says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Its identifier, `jss--UUID`, never used before.
    pub id: String,
    /// Who signs: a person's or an organisation's name.
    pub signee: String,
    /// When.
    pub at: Timestamp,
    /// Until when it is valid; for ever where it is not given.
    pub valid_until: Option<Timestamp>,
}

/// A signature that could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSigned {
    /// The key, or the random numbers it needs, failed.
    #[error("the key could not sign")]
    Key,
    /// The signed playbook is no playbook: the statement has a mistake.
    #[error("the signature would not be valid: {0}")]
    Statement(String),
}

/// Signs a playbook; signatures that it has stay.
pub fn sign(
    playbook: &Playbook,
    key: &SigningKey,
    statement: &Statement,
    random: &dyn ring::rand::SecureRandom,
) -> Result<Playbook, NotSigned> {
    let at = in_milliseconds(statement.at);
    let mut object = json!({
        "type": "jss",
        "id": statement.id,
        "created": at,
        "modified": at,
        "signee": statement.signee,
        "related_to": playbook.id(),
        "related_version": playbook.modified(),
        "hash_algorithm": "sha-256",
        "algorithm": key.algorithm(),
        "public_key": BASE64_STANDARD.encode(key.public_key().der),
    });
    if let (Some(until), Some(object)) = (statement.valid_until, object.as_object_mut()) {
        object.insert("valid_from".to_owned(), at.into());
        object.insert("valid_until".to_owned(), in_milliseconds(until).into());
    }
    let message = message(playbook.value(), &object, "sha-256")
        .map_err(|bad| NotSigned::Statement(bad.to_string()))?;
    let value = key.sign(message.as_bytes(), random).ok_or(NotSigned::Key)?;
    object["value"] = BASE64_URL_SAFE_NO_PAD.encode(value).into();
    let mut whole = playbook.value().clone();
    if let Some(whole) = whole.as_object_mut() {
        let list = whole.entry("signatures").or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut() {
            list.push(object);
        }
    }
    Playbook::from_value(whole).map_err(|findings| {
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        NotSigned::Statement(lines.join("; "))
    })
}

/// A time as CACAO wants it: UTC, three digits of milliseconds.
pub fn in_milliseconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}
