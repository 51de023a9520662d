//! One key as a file: the public part in the clear, the seed sealed with AES-256-GCM.
//!
//! The associated data of the seal is every other field of the file, so no byte of the file can be changed unseen. A
//! destroyed key seals an empty seed: its public part and its state stay authentic.

use std::path::Path;

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    guard::WrappingKey,
    no_randomness,
    seed::{SEED, Seed},
};
use crate::{
    algorithm::{Algorithm, PublicKey, Signature, hex_key},
    attestation::Attestation,
    error::KeyError,
    id::KeyId,
    provider::{KeyInfo, KeyState, Purpose},
};

/// Key files are shorter than this.
pub(super) const MAX_BYTES: u64 = 16 * 1024;

/// The content of a key file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyFile {
    key: Header,
    sealed_seed: SealedSeed,
}

/// Everything but the seed.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: u8,
    id: KeyId,
    purpose: Purpose,
    algorithm: Algorithm,
    #[serde(with = "hex_key")]
    public_key: PublicKey,
    state: KeyState,
    created_at_ms: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealedSeed {
    #[serde(with = "hex::serde")]
    nonce: [u8; NONCE_LEN],
    #[serde(with = "hex::serde")]
    ciphertext: Vec<u8>,
}

impl KeyFile {
    /// Seals a fresh `seed` as an active key.
    pub(super) fn new(
        id: &KeyId,
        purpose: Purpose,
        created_at_ms: i64,
        algorithm: Algorithm,
        seed: &[u8; SEED],
        wrapping: &WrappingKey,
    ) -> Result<Self, KeyError> {
        let unusable = |reason: String| KeyError::Unavailable {
            reason: format!("the new key was not usable: {reason}"),
        };
        let public_key = Seed::new(algorithm, seed)
            .ok_or_else(|| unusable("its seed has another length".to_owned()))?
            .public_key()
            .map_err(unusable)?;
        let header = Header {
            version: 1,
            id: id.clone(),
            purpose,
            algorithm,
            public_key,
            state: KeyState::Active,
            created_at_ms,
        };
        Self::seal(header, seed, wrapping)
    }

    /// Reads the file of key `id` at `path` and checks every byte of it.
    pub(super) fn parse(
        path: &Path,
        bytes: &[u8],
        id: &KeyId,
        wrapping: &WrappingKey,
    ) -> Result<Self, KeyError> {
        let file: Self =
            serde_json::from_slice(bytes).map_err(|error| corrupt(path, &error.to_string()))?;
        // Writing it again must give the same bytes, or there would be several files for one key: `A` for `a`.
        if file.to_json()? != bytes {
            return Err(corrupt(path, "it is not in the form this program writes"));
        }
        if file.key.version != 1 {
            return Err(corrupt(path, "its version is not 1"));
        }
        if file.key.algorithm != file.key.public_key.algorithm() {
            return Err(corrupt(path, "its public key has another algorithm"));
        }
        if file.key.id != *id {
            return Err(corrupt(path, &format!("it holds key {}", file.key.id)));
        }
        let seed = file.open_seed(path, wrapping)?;
        let expected = match file.key.state {
            KeyState::Active | KeyState::Disabled => SEED,
            KeyState::Destroyed => 0,
        };
        if seed.len() == expected {
            Ok(file)
        } else {
            Err(corrupt(
                path,
                "the sealed seed does not fit the key's state",
            ))
        }
    }

    /// The bytes of the file.
    pub(super) fn to_json(&self) -> Result<Vec<u8>, KeyError> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(unwritable)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The public description.
    pub(super) fn info(&self, id: &KeyId, provider: &str) -> KeyInfo {
        KeyInfo {
            id: id.clone(),
            purpose: self.key.purpose,
            public_key: self.key.public_key.clone(),
            state: self.key.state,
            created_at_ms: self.key.created_at_ms,
            provider: provider.to_owned(),
            attestation: Attestation::None,
        }
    }

    /// Refuses a key that is not active, or is for another purpose.
    pub(super) fn usable_for(&self, id: &KeyId, expected: Purpose) -> Result<(), KeyError> {
        let refused = |reason: &str| {
            Err(KeyError::Refused {
                id: id.clone(),
                reason: reason.to_owned(),
            })
        };
        if self.key.purpose != expected {
            return Err(KeyError::WrongPurpose {
                id: id.clone(),
                expected,
                actual: self.key.purpose,
            });
        }
        match self.key.state {
            KeyState::Active => Ok(()),
            KeyState::Disabled => refused("it is disabled; create a new key and use that"),
            KeyState::Destroyed => refused("it is destroyed; create a new key and use that"),
        }
    }

    /// Whether the key's life has reached `state`.
    pub(super) fn is_at_or_below(&self, state: KeyState) -> bool {
        rank(self.key.state) >= rank(state)
    }

    /// The same key in another state of its life. A destroyed one has no seed to go back with.
    pub(super) fn in_state(
        &self,
        path: &Path,
        id: &KeyId,
        state: KeyState,
        wrapping: &WrappingKey,
    ) -> Result<Self, KeyError> {
        let seed = self.open_seed(path, wrapping)?;
        let kept: &[u8] = match state {
            KeyState::Active | KeyState::Disabled => &seed,
            KeyState::Destroyed => &[],
        };
        let header = Header {
            id: id.clone(),
            state,
            ..self.key.clone()
        };
        Self::seal(header, kept, wrapping)
    }

    /// Signs `message`. The caller has checked [`Self::usable_for`] and recorded the use.
    pub(super) fn sign(
        &self,
        path: &Path,
        message: &[u8],
        wrapping: &WrappingKey,
    ) -> Result<Signature, KeyError> {
        let seed = self.open_seed(path, wrapping)?;
        Seed::new(self.key.algorithm, &seed)
            .ok_or_else(|| corrupt(path, "its seed has another length"))?
            .sign(&self.key.public_key, message)
            .map_err(|reason| corrupt(path, &reason))
    }

    fn seal(header: Header, seed: &[u8], wrapping: &WrappingKey) -> Result<Self, KeyError> {
        let mut nonce = [0_u8; NONCE_LEN];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_| no_randomness())?;
        let mut ciphertext = Vec::with_capacity(seed.len() + AES_256_GCM.tag_len());
        ciphertext.extend_from_slice(seed);
        let aad = Aad::from(header.associated_data()?);
        cipher(wrapping)?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut ciphertext)
            .map_err(|_| unwritable("the seed could not be sealed"))?;
        Ok(Self {
            key: header,
            sealed_seed: SealedSeed { nonce, ciphertext },
        })
    }

    fn open_seed(
        &self,
        path: &Path,
        wrapping: &WrappingKey,
    ) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let nonce = Nonce::assume_unique_for_key(self.sealed_seed.nonce);
        let aad = Aad::from(self.key.associated_data()?);
        let mut buffer = Zeroizing::new(self.sealed_seed.ciphertext.clone());
        let length = cipher(wrapping)?
            .open_in_place(nonce, aad, &mut buffer)
            .map_err(|_| corrupt(path, "its seal does not open: a byte of it was changed"))?
            .len();
        buffer.truncate(length);
        Ok(buffer)
    }
}

impl Header {
    fn associated_data(&self) -> Result<Vec<u8>, KeyError> {
        let mut data = b"sealwarden/key-file/v1\n".to_vec();
        serde_json::to_writer(&mut data, self).map_err(unwritable)?;
        Ok(data)
    }
}

fn rank(state: KeyState) -> u8 {
    match state {
        KeyState::Active => 0,
        KeyState::Disabled => 1,
        KeyState::Destroyed => 2,
    }
}

fn cipher(wrapping: &WrappingKey) -> Result<LessSafeKey, KeyError> {
    UnboundKey::new(&AES_256_GCM, wrapping.bytes())
        .map(LessSafeKey::new)
        .map_err(|_| unwritable("the wrapping key is not usable"))
}

fn corrupt(path: &Path, reason: &str) -> KeyError {
    KeyError::Corrupt {
        what: path.display().to_string(),
        reason: reason.to_owned(),
    }
}

fn unwritable(error: impl std::fmt::Display) -> KeyError {
    KeyError::Unavailable {
        reason: format!("a key file could not be made: {error}"),
    }
}
