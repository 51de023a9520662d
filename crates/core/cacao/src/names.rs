//! Identifiers, variables' names and times: what counts as one.

/// The longest name of a variable without its four underscores, in bytes.
const MAX_VARIABLE: usize = 200;

/// The type of an identifier `type--UUID`, if it is one. UUIDs of versions 1 to 5 and the variant of RFC 4122.
pub(crate) fn id_type(id: &str) -> Option<&str> {
    let (kind, uuid) = id.rsplit_once("--")?;
    let good_kind = kind.len() >= 3
        && kind.starts_with(|c: char| c.is_ascii_lowercase())
        && kind.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && kind
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    (good_kind && is_uuid(uuid)).then_some(kind)
}

fn is_uuid(text: &str) -> bool {
    let bytes = text.as_bytes();
    let hex = bytes.iter().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    let version = bytes.get(14).is_some_and(|b| (b'1'..=b'5').contains(b));
    let variant = bytes.get(19).is_some_and(|b| b"89abAB".contains(b));
    bytes.len() == 36 && hex && version && variant
}

/// Whether this is the name of a variable: `__name__`.
pub(crate) fn is_variable(name: &str) -> bool {
    let inner = name
        .strip_prefix("__")
        .and_then(|rest| rest.strip_suffix("__"));
    inner.is_some_and(|inner| {
        inner.len() <= MAX_VARIABLE
            && inner.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && inner.bytes().all(is_variable_byte)
    })
}

/// Whether this byte may stand inside the name of a variable.
pub(crate) fn is_variable_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// Whether this is a time: RFC 3339 in UTC with `Z`, a real date.
pub(crate) fn is_time(text: &str) -> bool {
    text.ends_with('Z')
        && text.as_bytes().get(10) == Some(&b'T')
        && text.len() <= 40
        && text.parse::<jiff::Timestamp>().is_ok()
}

/// The id of a new object, always the same for the same seed: 128 bits of SHA-256, marked as a UUID of version 4.
pub(crate) fn derived_id(kind: &str, seed: &[&str]) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(b"sealwarden-cacao/v1");
    for part in [kind].iter().chain(seed) {
        // A separator that no name holds, so that different seeds never run together to the same bytes.
        context.update(&[0]);
        context.update(part.as_bytes());
    }
    let digest = context.finish();
    let mut bytes = [0; 16];
    for (byte, from) in bytes.iter_mut().zip(digest.as_ref()) {
        *byte = *from;
    }
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let text = hex::encode(bytes);
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    format!(
        "{kind}--{}-{}-{}-{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_variables_and_times_are_told_from_others() {
        let id = derived_id("action", &["a", "b"]);
        assert_eq!(id_type(&id), Some("action"), "{id}");
        assert_ne!(id, derived_id("action", &["ab"]));
        for bad in [
            "action",
            "action--1",
            "Action--00020001-1000-4000-a000-000100010001",
            "x--00020001-1000-9000-a000-000100010001",
        ] {
            assert_eq!(id_type(bad), None, "{bad}");
        }
        assert!(is_variable("__x__") && is_variable("__a-b_C9__"));
        for bad in ["x", "__", "____x", "__9__", "__a b__", "_x_"] {
            assert!(!is_variable(bad), "{bad}");
        }
        assert!(is_time("2023-11-20T15:56:00.123456Z") && is_time("2023-11-20T15:56:00Z"));
        for bad in [
            "2023-02-30T00:00:00Z",
            "2023-11-20 15:56:00Z",
            "2023-11-20T15:56:00+01:00",
            "now",
        ] {
            assert!(!is_time(bad), "{bad}");
        }
    }
}
