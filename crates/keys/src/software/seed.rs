//! What a 32-byte seed gives: a key pair of either algorithm (RFC 8032, section 5.1.5; FIPS 204, algorithm 6).
//!
//! Both sign deterministically: the same message under the same key is the same signature, so a checkpoint that is signed
//! again after a crash has the same bytes. FIPS 204 prefers hedged signing against faults induced while a deterministic
//! signature is made; here each ML-DSA signature is verified before it leaves, which keeps a faulty one in.

use ml_dsa::{B32, MlDsa44, SigningKey, Verifier as _};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use zeroize::{Zeroize as _, Zeroizing};

use crate::algorithm::{Algorithm, PublicKey, Signature};

/// Bytes of a seed, of either algorithm.
pub(super) const SEED: usize = 32;

/// An unexpanded private key. It is zeroized when dropped, and so is what it expands to.
pub(super) struct Seed {
    bytes: Zeroizing<[u8; SEED]>,
    algorithm: Algorithm,
}

impl Seed {
    /// Takes `bytes` as a private key; `None` if they are not [`SEED`] many.
    pub(super) fn new(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        let mut seed = Zeroizing::new([0; SEED]);
        if bytes.len() != SEED {
            return None;
        }
        seed.copy_from_slice(bytes);
        Some(Self {
            bytes: seed,
            algorithm,
        })
    }

    /// Its public key, or why there is none.
    pub(super) fn public_key(&self) -> Result<PublicKey, String> {
        let key = match self.algorithm {
            Algorithm::Ed25519 => {
                let pair = self.ed25519()?;
                PublicKey::new(self.algorithm, pair.public_key().as_ref())
            }
            Algorithm::MlDsa44 => PublicKey::new(self.algorithm, &self.ml_dsa().as_ref().encode()),
        };
        key.ok_or_else(|| format!("its {} public key has another length", self.algorithm))
    }

    /// Signs `message`, provided that `expected` is the seed's public key.
    pub(super) fn sign(&self, expected: &PublicKey, message: &[u8]) -> Result<Signature, String> {
        let foreign = || "the seed does not belong to the public key".to_owned();
        let signature = match self.algorithm {
            Algorithm::Ed25519 => {
                let pair = self.ed25519()?;
                if pair.public_key().as_ref() != expected.as_bytes() {
                    return Err(foreign());
                }
                Signature::new(self.algorithm, pair.sign(message).as_ref())
            }
            Algorithm::MlDsa44 => {
                let key = self.ml_dsa();
                let public = key.as_ref();
                if public.encode().as_slice() != expected.as_bytes() {
                    return Err(foreign());
                }
                let made = key
                    .expanded_key()
                    .sign_deterministic(message, &[])
                    .map_err(|_| "no ML-DSA-44 signature could be made".to_owned())?;
                public
                    .verify(message, &made)
                    .map_err(|_| "a signature that it made does not verify".to_owned())?;
                Signature::new(self.algorithm, &made.encode())
            }
        };
        signature.ok_or_else(|| format!("its {} signature has another length", self.algorithm))
    }

    fn ed25519(&self) -> Result<Ed25519KeyPair, String> {
        Ed25519KeyPair::from_seed_unchecked(self.bytes.as_slice())
            .map_err(|error| format!("the seed is not usable: {error}"))
    }

    fn ml_dsa(&self) -> SigningKey<MlDsa44> {
        let mut seed = B32::from(*self.bytes);
        let key = SigningKey::from_seed(&seed);
        seed.zeroize();
        key
    }
}

#[cfg(test)]
mod tests {
    use ring::digest;

    use super::*;

    fn sha256(bytes: &[u8]) -> String {
        hex::encode(digest::digest(&digest::SHA256, bytes))
    }

    fn bytes(text: &str) -> Vec<u8> {
        hex::decode(text).unwrap()
    }

    /// C2SP/wycheproof, `testvectors_v1/mldsa_44_sign_seed_test.json`, cases 1, 6 and 17: SHA-256 of public key and signatures.
    #[test]
    fn ml_dsa_44_gives_the_known_key_and_signatures() {
        let seed = Seed::new(Algorithm::MlDsa44, &[0x2a; 32]).unwrap();
        let public = seed.public_key().unwrap();
        assert_eq!(
            sha256(public.as_bytes()),
            "d87f8ca136ac1aa55e2d6c4521680efb3a378cbb9bc0bfb446e9c60893931ea3"
        );
        for (message, signature) in [
            (
                "48656c6c6f20776f726c64",
                "8cd6fc03daa72e87210a4e721523e84c14f27733789075e65736744d4787fdd5",
            ),
            (
                "0500000000000000000000000000000000000000000000000000000000000000",
                "abbc313b9c81e6a372a5a3502fc329ef278a2b34df1308194e005048581957d7",
            ),
            (
                "1d00000000000000000000000000000000000000000000000000000000000000",
                "08e4abdb2f4a66d821368bd1a5fbb0ae0aa19ab4ff7a59a053aabfe5f2a460fb",
            ),
        ] {
            let made = seed.sign(&public, &bytes(message)).unwrap();
            assert_eq!(sha256(made.as_bytes()), signature, "message {message}");
        }
    }

    /// RFC 8032, section 7.1, test 2.
    #[test]
    fn ed25519_gives_the_known_key_and_signature() {
        let seed = bytes("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let seed = Seed::new(Algorithm::Ed25519, &seed).unwrap();
        let public = seed.public_key().unwrap();
        let known = bytes("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        assert_eq!(public.as_bytes(), known);
        let signature = seed.sign(&public, &[0x72]).unwrap();
        let known = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
        assert_eq!(hex::encode(signature.as_bytes()), known);
    }

    #[test]
    fn a_seed_never_signs_for_another_public_key() {
        for algorithm in [Algorithm::Ed25519, Algorithm::MlDsa44] {
            let seed = Seed::new(algorithm, &[1; 32]).unwrap();
            let other = Seed::new(algorithm, &[2; 32]).unwrap();
            let public = other.public_key().unwrap();
            seed.sign(&public, b"m").unwrap_err();
        }
        assert!(Seed::new(Algorithm::MlDsa44, &[1; 31]).is_none());
    }
}
