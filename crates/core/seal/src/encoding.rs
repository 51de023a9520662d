//! Strict base64, decimal and digest helpers shared by the formats.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{Context, SHA256, digest};

/// SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// SHA-256 of parts one after another, without a copy of them.
pub(crate) fn sha256_of_parts(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// RFC 4648 section 4, padded.
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// [`base64`] at the end of a text.
pub(crate) fn base64_into(bytes: &[u8], text: &mut String) {
    STANDARD.encode_string(bytes, text);
}

/// Only the canonical spelling: padded, no stray bits, no white space.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// What each character of base64 stands for; [`NOT_BASE64`] for all others.
const SEXTETS: [u8; 256] = sextets();
const NOT_BASE64: u8 = 0x80;

const fn sextets() -> [u8; 256] {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut table = [NOT_BASE64; 256];
    let (mut place, mut value) = (0, 0);
    while place < alphabet.len() {
        // A constant cannot convert without a cast, so the character is looked for.
        let mut character = 0;
        let mut byte: u8 = 0;
        while byte != alphabet[place] {
            character += 1;
            byte += 1;
        }
        table[character] = value;
        place += 1;
        value += 1;
    }
    table
}

/// A canonical base64 value of exactly 32 bytes. Verifying a seal reads one for each level of the tree, so it has a decoder of
/// its own: ten groups of four characters, and three with a `=` whose last two bits are zero.
pub(crate) fn hash_from_base64(text: &str) -> Option<[u8; 32]> {
    let text: &[u8; 44] = text.as_bytes().try_into().ok()?;
    let (groups, _) = text.as_chunks::<4>();
    let mut hash = [0; 32];
    let mut seen = 0;
    let mut value = |group: [u8; 4]| {
        let [a, b, c, d] = group.map(|character| SEXTETS[usize::from(character)]);
        seen |= a | b | c | d;
        let high = u32::from(a) << 18 | u32::from(b) << 12;
        (high | u32::from(c) << 6 | u32::from(d)).to_be_bytes()
    };
    for (out, group) in hash.chunks_exact_mut(3).zip(groups) {
        out.copy_from_slice(&value(*group)[1..]);
    }
    let [.., a, b, c, b'='] = *text else {
        return None;
    };
    let [_, first, second, spare] = value([a, b, c, b'A']);
    hash[30..].copy_from_slice(&[first, second]);
    (seen & NOT_BASE64 == 0 && spare == 0).then_some(hash)
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
