//! SSHSIG signatures: what `ssh-keygen -Y sign` makes and `ssh-keygen -Y verify` checks.
//!
//! Format: OpenSSH `PROTOCOL.sshsig` version 1. Accepted keys: Ed25519, ECDSA P-256, and both as FIDO keys (`sk-ssh-ed25519@openssh.com`,
//! `sk-ecdsa-sha2-nistp256@openssh.com`; format: OpenSSH `PROTOCOL.u2f`). For FIDO keys the user-presence flag is enforced here, because neither the
//! `ssh-key` crate nor `ssh-keygen -Y verify` does so by itself.

use sealwarden_runbook::is_approver_algorithm;
use ssh_key::public::KeyData;
use ssh_key::{HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};

use super::statement::Namespace;

/// The longest armored signature that is read, in bytes.
pub const MAX_SIGNATURE_BYTES: usize = 8192;

/// Set in a FIDO signature's flags when somebody touched the key.
const USER_PRESENT: u8 = 0x01;

/// Set when the authenticator knew who touched it, by a PIN or a finger.
const USER_VERIFIED: u8 = 0x04;

/// Flags (1 byte) and counter (4 bytes) at the end of a FIDO signature.
const FIDO_TRAILER_BYTES: usize = 5;

/// What a FIDO key signed beside the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authenticator {
    /// Flags as in `WebAuthn`: bit 0 user present, bit 2 user verified.
    pub flags: u8,
    /// How often the key has signed, as far as it counts; 0 if it does not.
    pub counter: u32,
}

impl Authenticator {
    /// Whether somebody touched the key.
    pub fn is_touched(self) -> bool {
        self.flags & USER_PRESENT != 0
    }

    /// Whether the key knew who touched it.
    pub fn is_verified(self) -> bool {
        self.flags & USER_VERIFIED != 0
    }
}

/// Why a signature was not read, did not verify or could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not an armored SSHSIG.
    #[error(
        "the signature is not an armored SSH signature: {0}; make it with `sealwarden approve` or `ssh-keygen -Y sign`"
    )]
    Malformed(String),
    /// A key type that is not accepted.
    #[error("keys of type {0} are not accepted; use Ed25519 or ECDSA P-256, also as FIDO keys")]
    KeyType(String),
    /// The signature is not over this text.
    #[error("the signature does not verify over this text")]
    NotOverText,
    /// A FIDO key signed without a touch.
    #[error(
        "the FIDO key signed without a touch; sign again with a key that requires user presence"
    )]
    NoTouch,
    /// Signing failed.
    #[error("signing failed: {0}")]
    Signing(String),
}

/// A signature that was read and not yet verified.
#[derive(Clone, Debug)]
pub struct Signature(SshSig);

impl Signature {
    /// Reads an armored signature. Only the accepted key types are read.
    pub fn parse(armored: &str) -> Result<Self, SignatureError> {
        if armored.len() > MAX_SIGNATURE_BYTES {
            let problem = format!(
                "it has {} bytes; at most {MAX_SIGNATURE_BYTES} are read",
                armored.len()
            );
            return Err(SignatureError::Malformed(problem));
        }
        let signature = SshSig::from_pem(armored.trim_end())
            .map_err(|error| SignatureError::Malformed(error.to_string()))?;
        if signature.version() != SshSig::VERSION || !signature.reserved().is_empty() {
            return Err(SignatureError::Malformed(
                "unknown version or reserved data".to_owned(),
            ));
        }
        let algorithm = signature.public_key().algorithm();
        if !is_approver_algorithm(&algorithm) {
            return Err(SignatureError::KeyType(algorithm.as_str().to_owned()));
        }
        Ok(Self(signature))
    }

    /// The namespace that was signed.
    pub fn namespace(&self) -> &str {
        self.0.namespace()
    }

    /// The key's fingerprint as `ssh-keygen -l` prints it: `SHA256:…`.
    pub fn fingerprint(&self) -> String {
        self.0.public_key().fingerprint(HashAlg::Sha256).to_string()
    }

    /// Verifies the signature over `text`, in the namespace that it names, with the key that it carries. The caller must still ask whose key it is and
    /// whether the namespace is the right one.
    pub fn verify(&self, text: &str) -> Result<(), SignatureError> {
        let key = PublicKey::from(self.0.public_key().clone());
        key.verify(self.0.namespace(), text.as_bytes(), &self.0)
            .map_err(|_| SignatureError::NotOverText)?;
        let untouched =
            self.is_fido() && !self.authenticator().is_some_and(Authenticator::is_touched);
        if untouched {
            return Err(SignatureError::NoTouch);
        }
        Ok(())
    }

    /// What the FIDO key signed beside the text; `None` for a key of software. True only if [`Self::verify`] agrees.
    pub fn authenticator(&self) -> Option<Authenticator> {
        let (_, trailer) = self
            .0
            .signature_bytes()
            .split_last_chunk::<FIDO_TRAILER_BYTES>()?;
        let [flags, counter @ ..] = *trailer;
        self.is_fido().then_some(Authenticator {
            flags,
            counter: u32::from_be_bytes(counter),
        })
    }

    fn is_fido(&self) -> bool {
        let key: &KeyData = self.0.public_key();
        key.is_sk_ed25519() || key.is_sk_ecdsa_p256()
    }
}

/// Signs `text` with a private key that lies in memory and gives the armored signature. (FIDO keys and agents sign outside.)
pub fn sign(text: &str, key: &PrivateKey, namespace: Namespace) -> Result<String, SignatureError> {
    if !is_approver_algorithm(&key.algorithm()) {
        return Err(SignatureError::KeyType(key.algorithm().as_str().to_owned()));
    }
    SshSig::sign(key, namespace.as_str(), HashAlg::Sha512, text.as_bytes())
        .and_then(|signature| signature.to_pem(LineEnding::LF))
        .map_err(|error| SignatureError::Signing(error.to_string()))
}
