//! Keys that sign playbooks: Ed25519 and ECDSA P-256.

use ring::rand::SecureRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};

use crate::signature::PublicKey;

/// What stands before an Ed25519 key in its `SubjectPublicKeyInfo` (RFC 8410).
const ED25519_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// What stands before an uncompressed P-256 point in its `SubjectPublicKeyInfo` (RFC 5480).
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A key that signs playbooks.
#[derive(Debug)]
pub struct SigningKey(Pair);

#[derive(Debug)]
enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

/// Bytes that are no key which can sign playbooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no private key of Ed25519 or P-256; `openssl genpkey -algorithm ed25519` makes one"
)]
pub struct NoKey;

impl SigningKey {
    /// Reads the DER of a PKCS#8 private key.
    pub fn from_pkcs8(der: &[u8], random: &dyn SecureRandom) -> Result<Self, NoKey> {
        // OpenSSL writes Ed25519 keys without their public half.
        let ed25519 = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map(Pair::Ed25519);
        ed25519
            .or_else(|_| {
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, random)
                    .map(Pair::P256)
            })
            .map(Self)
            .map_err(|_| NoKey)
    }

    /// The Ed25519 key of this seed, as OpenSSH keeps it.
    pub fn from_ed25519_seed(seed: &[u8]) -> Result<Self, NoKey> {
        Ed25519KeyPair::from_seed_unchecked(seed)
            .map(|pair| Self(Pair::Ed25519(pair)))
            .map_err(|_| NoKey)
    }

    /// The name of the algorithm in signatures.
    pub fn algorithm(&self) -> &'static str {
        match self.0 {
            Pair::Ed25519(_) => "Ed25519",
            Pair::P256(_) => "ES256",
        }
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        let der = match &self.0 {
            Pair::Ed25519(pair) => [&ED25519_PREFIX, pair.public_key().as_ref()].concat(),
            Pair::P256(pair) => [&P256_PREFIX, pair.public_key().as_ref()].concat(),
        };
        PublicKey { der }
    }

    /// Signs a message; `None` if the random numbers fail.
    pub(crate) fn sign(&self, message: &[u8], random: &dyn SecureRandom) -> Option<Vec<u8>> {
        match &self.0 {
            Pair::Ed25519(pair) => Some(pair.sign(message).as_ref().to_vec()),
            Pair::P256(pair) => pair
                .sign(random, message)
                .ok()
                .map(|signature| signature.as_ref().to_vec()),
        }
    }
}
