//! SHA-256.

/// SHA-256 of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    digest
}

/// Small hexadecimal digits.
pub(crate) fn hex(digest: &[u8; 32]) -> String {
    ::hex::encode(digest)
}
