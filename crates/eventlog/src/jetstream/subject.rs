//! Names: `<prefix>.<category>.<id>` for subjects, `SEALWARDEN_<prefix>` for the JetStream stream.
//!
//! A dot separates the tokens of a subject, so a dot in an id is written `=`, which no id has.

use crate::config::OpenError;
use crate::name::StreamName;
use crate::subscription::Filter;

/// First token of the subjects that tell what was stored; see [`Subjects::stored_source`].
const STORED: &str = "sealwarden-stored";
/// Longest prefix, in bytes.
const MAX_PREFIX_BYTES: usize = 32;

/// The subjects of one installation.
#[derive(Clone, Debug)]
pub(super) struct Subjects {
    prefix: String,
}

impl Subjects {
    /// The subjects below `prefix`: 1 to 32 of `a-z`, `0-9` and `-`.
    pub(super) fn new(prefix: &str) -> Result<Self, OpenError> {
        let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if prefix.is_empty()
            || prefix.len() > MAX_PREFIX_BYTES
            || !prefix.bytes().all(letters)
            || prefix == STORED
        {
            return Err(OpenError::Invalid {
                reason: format!(
                    "`{prefix}` is no prefix: use 1 to 32 of a-z, 0-9 and -, not `{STORED}`"
                ),
            });
        }
        Ok(Self {
            prefix: prefix.to_owned(),
        })
    }

    /// The name of the JetStream stream that holds the installation.
    pub(super) fn stream_name(&self) -> String {
        format!("SEALWARDEN_{}", self.prefix)
    }

    /// Every subject of the installation.
    pub(super) fn all(&self) -> String {
        format!("{}.*.*", self.prefix)
    }

    /// Source and destination of the stream's republishing: the server announces each message under
    /// the destination after it was stored, headers only.
    pub(super) fn stored(&self) -> (String, String) {
        (
            format!("{}.>", self.prefix),
            format!("{STORED}.{}.>", self.prefix),
        )
    }

    /// The subject of a stream.
    pub(super) fn of(&self, stream: &StreamName) -> String {
        format!(
            "{}.{}.{}",
            self.prefix,
            stream.category(),
            stream.id().replace('.', "=")
        )
    }

    /// The stream of a subject.
    pub(super) fn stream(&self, subject: &str) -> Option<StreamName> {
        let (category, id) = subject
            .strip_prefix(&self.prefix)?
            .strip_prefix('.')?
            .split_once('.')?;
        // An id with a dot of its own would be a fourth token, which `all` does not match.
        if id.contains('.') {
            return None;
        }
        StreamName::new(category, id.replace('=', ".")).ok()
    }

    /// The subjects that a filter wants; `None` when no subject can match.
    pub(super) fn matching(&self, filter: &Filter) -> Option<String> {
        match filter {
            Filter::All => Some(self.all()),
            Filter::Category(category) => {
                crate::name::check_category(category).ok()?;
                Some(format!("{}.{category}.*", self.prefix))
            }
            Filter::Stream(stream) => Some(self.of(stream)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_survives_as_a_subject_of_three_tokens() {
        let subjects = Subjects::new("inst-1").unwrap();
        for id in ["main", "a.b", "...", "seal.example.com", "-_-"] {
            let stream = StreamName::new("log", id).unwrap();
            let subject = subjects.of(&stream);
            assert_eq!(subject.split('.').count(), 3);
            assert_eq!(subjects.stream(&subject), Some(stream));
        }
        for subject in [
            "inst-1.log",
            "inst-1.log.a.b",
            "other.log.a",
            "inst-1.LOG.a",
        ] {
            assert_eq!(subjects.stream(subject), None);
        }
    }

    #[test]
    fn prefixes_are_narrow() {
        for prefix in [
            "",
            "a.b",
            "A",
            "*",
            "sealwarden-stored",
            "a".repeat(33).as_str(),
        ] {
            assert!(matches!(
                Subjects::new(prefix),
                Err(OpenError::Invalid { .. })
            ));
        }
    }
}
