//! ML-DSA-44 (FIPS 204, pure, empty context), verification only.

use ml_dsa::{EncodedVerifyingKey, MlDsa44, Signature, VerifyingKey};

/// A public key, in bytes.
pub const ML_DSA_44_KEY_BYTES: usize = 1312;
/// A signature, in bytes.
pub const ML_DSA_44_SIGNATURE_BYTES: usize = 2420;

/// Does the signature hold? One of another length does not.
pub(crate) fn verifies(key: &[u8; ML_DSA_44_KEY_BYTES], message: &[u8], signature: &[u8]) -> bool {
    let Ok(encoded) = EncodedVerifyingKey::<MlDsa44>::try_from(key.as_slice()) else {
        return false;
    };
    let Ok(signature) = Signature::<MlDsa44>::try_from(signature) else {
        return false;
    };
    VerifyingKey::<MlDsa44>::decode(&encoded).verify_with_context(message, &[], &signature)
}
