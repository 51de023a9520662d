//! Strict base64, decimal and digest helpers shared by the formats.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};

/// SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// RFC 4648 section 4, padded.
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Only the canonical spelling: padded, no stray bits, no white space.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// A canonical base64 value of exactly 32 bytes, decoded without an allocation.
pub(crate) fn hash_from_base64(text: &str) -> Option<[u8; 32]> {
    if text.len() != 44 {
        return None;
    }
    let mut buffer = [0; 33];
    let length = STANDARD.decode_slice(text, &mut buffer).ok()?;
    if length != 32 {
        return None;
    }
    buffer[..32].try_into().ok()
}

/// A decimal number below 2^63 without sign, leading zero or white space (so that every implementation can hold it).
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let canonical = !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    let number: u64 = if canonical {
        text.parse().ok()?
    } else {
        return None;
    };
    i64::try_from(number).is_ok().then_some(number)
}

/// Shortens outside text for an error message.
pub(crate) fn excerpt(text: &str) -> String {
    const LIMIT: usize = 80;
    if text.chars().count() <= LIMIT {
        return text.escape_debug().to_string();
    }
    let start: String = text.chars().take(LIMIT).collect();
    format!("{}…", start.escape_debug())
}
