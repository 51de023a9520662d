//! Ids that follow from what they name, so that a second look at the same thing gives the same id.

use ring::digest::{SHA256, digest};

/// The id of a signal: `S-` and 12 hex digits of SHA-256 over the detector's name and what identifies the thing seen.
pub(crate) fn signal_id(detector: &str, identity: &[&[u8]]) -> String {
    let mut bytes = Vec::new();
    for part in std::iter::once(&detector.as_bytes()).chain(identity) {
        // Lengths keep the parts apart: ("a", "bc") and ("ab", "c") are two things.
        bytes.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    format!("S-{}", &hex::encode(digest(&SHA256, &bytes))[..12])
}

/// What the ids of all incidents of a subject begin with: `I-` and 8 hex digits of SHA-256 of the subject.
fn subject_part(subject: &str) -> String {
    format!(
        "I-{}",
        &hex::encode(digest(&SHA256, subject.as_bytes()))[..8]
    )
}

/// The id of a subject's n-th incident, counted from 1.
pub(crate) fn incident_id(subject: &str, n: u32) -> String {
    format!("{}-{n}", subject_part(subject))
}

/// Which of its subject's incidents an id names; `None` for an id of another form.
pub(crate) fn incident_number(id: &str) -> Option<u32> {
    id.rsplit_once('-')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_thing_has_one_id_and_another_thing_another() {
        let first = signal_id("d", &[b"a", b"bc"]);
        assert_eq!(first, signal_id("d", &[b"a", b"bc"]));
        assert_ne!(first, signal_id("d", &[b"ab", b"c"]));
        assert_ne!(first, signal_id("e", &[b"a", b"bc"]));
        assert_eq!(first.len(), 14);
    }

    #[test]
    fn incidents_of_a_subject_are_counted() {
        let second = incident_id("origin x", 2);
        assert_eq!(incident_number(&second), Some(2));
        assert!(second.starts_with(&subject_part("origin x")));
        assert_eq!(incident_number("nonsense"), None);
    }
}
