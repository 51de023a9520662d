//! Signature algorithms, and the public keys and signatures that go with each.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes of an Ed25519 public key (RFC 8032).
pub const ED25519_PUBLIC_KEY: usize = 32;
/// Bytes of an Ed25519 signature (RFC 8032).
pub const ED25519_SIGNATURE: usize = 64;
/// Bytes of an ML-DSA-44 public key (FIPS 204, table 2).
pub const ML_DSA_44_PUBLIC_KEY: usize = 1312;
/// Bytes of an ML-DSA-44 signature (FIPS 204, table 2).
pub const ML_DSA_44_SIGNATURE: usize = 2420;

/// The signature algorithm of a key. A key keeps it for life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// ML-DSA-44 (FIPS 204) with an empty context: signatures that outlive quantum computers.
    #[serde(rename = "ml-dsa-44")]
    MlDsa44,
}

impl Algorithm {
    /// The word used in files and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::MlDsa44 => "ml-dsa-44",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A raw public key, of the length that its algorithm has.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum PublicKey {
    /// 32 bytes (RFC 8032).
    Ed25519([u8; ED25519_PUBLIC_KEY]),
    /// 1312 bytes (FIPS 204, `pkEncode`).
    MlDsa44(Box<[u8; ML_DSA_44_PUBLIC_KEY]>),
}

impl PublicKey {
    /// Takes `bytes` as a key of `algorithm`; `None` if they have another length.
    pub fn new(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        match algorithm {
            Algorithm::Ed25519 => bytes.try_into().ok().map(Self::Ed25519),
            Algorithm::MlDsa44 => boxed(bytes).map(Self::MlDsa44),
        }
    }

    /// Its algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Ed25519(_) => Algorithm::Ed25519,
            Self::MlDsa44(_) => Algorithm::MlDsa44,
        }
    }

    /// The raw key.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Ed25519(bytes) => bytes,
            Self::MlDsa44(bytes) => bytes.as_slice(),
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), hex::encode(self.as_bytes()))
    }
}

/// A raw signature, of the length that its algorithm has.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Signature {
    /// 64 bytes (RFC 8032).
    Ed25519([u8; ED25519_SIGNATURE]),
    /// 2420 bytes (FIPS 204, `sigEncode`).
    MlDsa44(Box<[u8; ML_DSA_44_SIGNATURE]>),
}

impl Signature {
    /// Takes `bytes` as a signature of `algorithm`; `None` if they have another length.
    pub fn new(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        match algorithm {
            Algorithm::Ed25519 => bytes.try_into().ok().map(Self::Ed25519),
            Algorithm::MlDsa44 => boxed(bytes).map(Self::MlDsa44),
        }
    }

    /// Its algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Ed25519(_) => Algorithm::Ed25519,
            Self::MlDsa44(_) => Algorithm::MlDsa44,
        }
    }

    /// The raw signature.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Ed25519(bytes) => bytes,
            Self::MlDsa44(bytes) => bytes.as_slice(),
        }
    }

    /// The 64 bytes of an Ed25519 signature; `None` for any other algorithm.
    pub fn ed25519(&self) -> Option<[u8; ED25519_SIGNATURE]> {
        match self {
            Self::Ed25519(bytes) => Some(*bytes),
            Self::MlDsa44(_) => None,
        }
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), hex::encode(self.as_bytes()))
    }
}

impl AsRef<[u8]> for PublicKey {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl AsRef<[u8]> for Signature {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

fn boxed<const N: usize>(bytes: &[u8]) -> Option<Box<[u8; N]>> {
    Box::<[u8]>::from(bytes).try_into().ok()
}

/// A public key as hexadecimal text in a file; its length says its algorithm.
pub(crate) mod hex_key {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::{Algorithm, PublicKey};

    pub(crate) fn serialize<S: Serializer>(key: &PublicKey, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&hex::encode(key.as_bytes()))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<PublicKey, D::Error> {
        let text = String::deserialize(d)?;
        let bytes = hex::decode(&text).map_err(D::Error::custom)?;
        [Algorithm::Ed25519, Algorithm::MlDsa44]
            .into_iter()
            .find_map(|algorithm| PublicKey::new(algorithm, &bytes))
            .ok_or_else(|| D::Error::custom(format!("no public key has {} bytes", bytes.len())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_length_is_a_key_or_a_signature() {
        for (algorithm, key, signature) in [
            (Algorithm::Ed25519, ED25519_PUBLIC_KEY, ED25519_SIGNATURE),
            (
                Algorithm::MlDsa44,
                ML_DSA_44_PUBLIC_KEY,
                ML_DSA_44_SIGNATURE,
            ),
        ] {
            for (wanted, length) in [(false, key - 1), (true, key), (false, key + 1)] {
                let made = PublicKey::new(algorithm, &vec![7; length]);
                assert_eq!(made.is_some(), wanted, "{algorithm} key of {length}");
            }
            for (wanted, length) in [(false, signature - 1), (true, signature), (false, 0)] {
                let made = Signature::new(algorithm, &vec![7; length]);
                assert_eq!(made.is_some(), wanted, "{algorithm} signature of {length}");
            }
        }
    }

    #[test]
    fn an_algorithm_has_one_word_everywhere() {
        for algorithm in [Algorithm::Ed25519, Algorithm::MlDsa44] {
            let json = serde_json::to_string(&algorithm).unwrap();
            assert_eq!(json, format!("\"{algorithm}\""));
        }
    }
}
